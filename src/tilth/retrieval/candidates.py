"""What both retrievers find for one query, over the products of both lists; and how fusion orders it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tilth.protocols import Allowed, Rows, Vectors
from tilth.retrieval.deadline import Deadline
from tilth.retrieval.fusion import NO_PLACES, Fusion, RankedPlaces, fuse_places
from tilth.retrieval.rows import NO_HITS, RowHits
from tilth.retrieval.stopwatch import Stopwatch
from tilth.retrieval.view import View
from tilth.run import Hit

_UNKNOWN_WORDS = "the encoder knows the letters of this query, not its words"
RETRIEVERS = ("lexical", "dense")  # in the order of the fusion's weights


@dataclass(frozen=True, slots=True)
class Candidates:
    """What the retrievers found for one query: a list each, over the products of all lists.

    `whole`: each retriever was asked for more than it has, so that no depth would find others. `identified`
    are the products whose identifier is the query itself; `skipped` says which retriever was not asked, and
    why.
    """

    ids: Sequence[str]  # of all products found, ascending: their numbers are the places in the lists
    rows: Rows  # of each
    lists: Mapping[str, RankedPlaces]
    vector: Vectors | None = None  # (D,) of the query, if it was encoded
    identified: frozenset[int] = frozenset()
    skipped: Mapping[str, str] = field(default_factory=dict)
    whole: bool = True

    def hits(self, name: str) -> tuple[Hit, ...]:
        """Return what one retriever found, by its name."""
        places, scores = self.lists[name]
        return tuple(Hit(self.ids[n], s) for n, s in zip(places.tolist(), scores.tolist(), strict=True))

    def fused(self, fusion: Fusion) -> RankedPlaces:
        """Return all products in one order, those whose identifier was typed first."""
        return self.identified_first(fuse_places(list(self.lists.values()), len(self.ids), fusion))

    def identified_first(self, ranked: RankedPlaces) -> RankedPlaces:
        """Lift the products whose identifier was typed above all others of a ranking."""
        places, scores = ranked
        known = np.isin(places, list(self.identified))
        if known.any():
            scores = np.where(known, scores + 1 + scores[0] - scores[-1], scores)
            order = np.lexsort((places, -scores))
            places, scores = places[order], scores[order]
        return RankedPlaces(places, scores)


NOTHING = Candidates((), np.empty(0, np.int64), dict.fromkeys(RETRIEVERS, NO_PLACES))


def retrieve(
    view: View,
    text: str,
    depth: int,
    allowed: Allowed | None = None,
    watch: Stopwatch | None = None,
    deadline: Deadline | None = None,
) -> Candidates:
    """Ask both retrievers for the candidates of one query.

    Args:
        view: what is searched.
        text: the query, its spelling corrected.
        depth: how many each retriever gives.
        allowed: a mask of the rows that may be returned; None allows all.
        watch: is told where the time goes.
        deadline: may leave the dense retriever out, never the lexical one.

    Returns:
        The candidates; none for a query of blanks.
    """
    watch, deadline = watch or Stopwatch(), deadline or Deadline()
    if not text.strip():
        return NOTHING
    lexical = view.lexical.search_rows(text, depth, allowed)
    watch.lap("lexical")
    skipped = {} if view.index.encodes(text) else {"dense": _UNKNOWN_WORDS}
    vector, dense = None, NO_HITS
    if not skipped and deadline.allows("dense"):
        with deadline.timed("dense"):
            vector = view.index.encoder.encode_queries([text])[0]
            watch.lap("encode")
            dense = view.dense.search_rows(vector, depth, allowed)
            watch.lap("dense")
    rows = np.union1d(lexical.rows, dense.rows)
    ids = view.ids(rows)
    by_id = np.array(sorted(range(len(ids)), key=ids.__getitem__), np.intp)
    places = np.empty(len(rows), np.intp)
    places[by_id] = np.arange(len(rows))  # of each row, in the order of ids
    known = np.searchsorted(rows, np.intersect1d(view.lexical.identified_rows(text), rows))
    return Candidates(
        [ids[number] for number in by_id.tolist()],
        rows[by_id],
        {
            name: _ranked(places[np.searchsorted(rows, hits.rows)], hits, depth)
            for name, hits in zip(RETRIEVERS, (lexical, dense), strict=True)
        },
        vector,
        frozenset(places[known].tolist()),
        skipped,
        len(lexical.rows) < depth and len(dense.rows) < depth,
    )


def _ranked(places: npt.NDArray[np.intp], hits: RowHits, depth: int) -> RankedPlaces:
    """Order hits by (-score, place) and cut them."""
    order = np.lexsort((places, -hits.scores))[:depth]
    return RankedPlaces(places[order], hits.scores[order])
