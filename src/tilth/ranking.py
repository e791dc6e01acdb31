"""How candidates are ordered: by the release in force, or else by the fusion that the index folder names."""

from dataclasses import dataclass
from pathlib import Path

from tilth.releases import Release, current, current_name
from tilth.reranking.reranker import Reranker, open_reranker
from tilth.retrieval.fusion import Fusion
from tilth.retrieval.index import read_fusion


@dataclass(frozen=True, slots=True)
class Ranking:
    """A fusion, the reranker of its outcome, if any, and the release that both come from, if any."""

    fusion: Fusion
    reranker: Reranker | None = None
    release: str | None = None


def read_ranking(into: Path, default: Fusion) -> Ranking:
    """Read how an index orders its candidates.

    Args:
        into: the index folder.
        default: the fusion where none was tuned.

    Returns:
        The ranking of the release in force; without one, the fusion alone.

    Raises:
        IndexFormatError: the release in force is damaged, or was trained with other features.
    """
    release = current(into)
    return plain_ranking(into, default) if release is None else ranking_of(release)


def plain_ranking(into: Path, default: Fusion) -> Ranking:
    """Return the fusion alone that an index folder names, whatever is in force; see `read_fusion`."""
    return Ranking(read_fusion(into, default))


def ranking_of(release: Release) -> Ranking:
    """Open the ranking of a release, in force or not; IndexFormatError where it is damaged."""
    if release.reranker is None:
        return Ranking(release.fusion, release=release.name)
    return Ranking(release.fusion, open_reranker(release.reranker, release.calibration()), release.name)


def is_overtaken(ranking: Ranking, into: Path) -> bool:
    """Tell whether another release is in force by now; reads one small file."""
    return current_name(into) != ranking.release
