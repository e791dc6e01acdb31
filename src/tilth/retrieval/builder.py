"""From products to a sealed generation of an index.

Two passes. The first reads the catalogue once and writes columns and the lexical index. The second reads the
columns back, whose number is now known, cuts passages, encodes those that the generation before did not
hold, and builds the dense index.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from tilth.catalog import Product
from tilth.errors import InputError
from tilth.protocols import Encoder
from tilth.retrieval.columns import Columns, ColumnsWriter
from tilth.retrieval.dense import DenseSettings, build_dense
from tilth.retrieval.encoder import same_passage_vectors
from tilth.retrieval.generations import Generation, current_generation, new_generation, write_manifest
from tilth.retrieval.lexical import LexicalSettings, LexicalWriter
from tilth.retrieval.passages import PassageCutter, PassageSettings
from tilth.retrieval.spelling import VocabularyCounter
from tilth.retrieval.vectors import VectorStore, VectorWriter

_CHUNK = 2_048  # products whose passages are cut and encoded together
_SAMPLE = 200  # titles that stand in for queries


class BuildEncoder(Encoder, Protocol):
    """An encoder that can be stored with the index that it made."""

    @property
    def identity(self) -> dict[str, object]:
        """What the vectors depend on; equal identities give equal vectors for equal texts."""

    def cutter(self, settings: PassageSettings) -> PassageCutter:
        """Return a cutter that counts tokens as this encoder does."""

    def letters_per_token(self, texts: Sequence[str]) -> float:
        """Return how many letters a token of these texts has: below two, their words are not known."""

    def reserved(self) -> int:
        """Return the tokens of every passage that special tokens and the passage prefix take."""

    def save(self, folder: Path) -> None:
        """Write what `open_encoder` reads into a new folder."""


class Progress(Protocol):
    """Is told how far a stage has come."""

    def __call__(self, stage: str, done: int, total: int | None = None, /) -> None:
        """`done` of `total` items of a stage are done; None: the total is not known yet."""


@dataclass(frozen=True, slots=True)
class BuildSettings:
    """What an index is made with; all of it stands in the manifest."""

    passages: PassageSettings = field(default_factory=PassageSettings)
    lexical: LexicalSettings = field(default_factory=LexicalSettings)
    recall: float = 0.95  # of the exact nearest passages, where the search is approximate
    threads: int = 1
    memory: int = 256_000_000  # bytes for the lexical writer
    seed: int = 0


def build_index(
    products: Iterable[Product],
    into: Path,
    encoder: BuildEncoder,
    settings: BuildSettings,
    progress: Progress,
    source: dict[str, object],
) -> dict[str, Any]:
    """Build a generation aside and switch the index folder to it.

    Args:
        products: the catalogue, read once.
        into: the index folder; created if it is not there.
        encoder: makes the vectors and is stored with them.
        settings: passages, fields and resources.
        progress: is told how far each stage has come.
        source: facts about the catalogue for the manifest.

    Returns:
        The manifest.

    Raises:
        InputError: the catalogue has no usable product, or `into` holds something else.
        IndexLockedError: another process builds into the folder.
    """
    with new_generation(into) as folder:
        previous = current_generation(into)
        count = _write_products(products, folder, settings, progress)
        if not count:
            raise InputError(
                "the catalogue has no usable product", remedy="See rejected.jsonl for the reasons"
            )
        facts = _write_passages(folder, count, encoder, settings, previous, progress)
        progress("storing the encoder", 0, 1)
        encoder.save(folder / "encoder")
        progress("storing the encoder", 1, 1)
        return write_manifest(
            folder,
            {
                "tilth": version("tilth"),
                "catalogue": {**source, "products": count},
                "encoder": encoder.identity,
                "lexical": settings.lexical.to_json(),
                **facts,
            },
        )


def _write_products(
    products: Iterable[Product], folder: Path, settings: BuildSettings, progress: Progress
) -> int:
    """Write columns and the lexical index in one pass; return the number of products."""
    vocabulary = VocabularyCounter()
    count = 0
    with (
        ColumnsWriter(folder / "columns.arrow") as columns,
        LexicalWriter(folder / "lexical", memory=settings.memory, threads=settings.threads) as lexical,
    ):
        for count, product in enumerate(products, start=1):
            columns.add(product)
            lexical.add(count - 1, product)
            vocabulary.add(product)
            if count % _CHUNK == 0:
                progress("reading", count)
        progress("reading", count, count)
    vocabulary.write(folder / "vocabulary.txt")
    return count


def _write_passages(
    folder: Path,
    count: int,
    encoder: BuildEncoder,
    settings: BuildSettings,
    previous: Generation | None,
    progress: Progress,
) -> dict[str, Any]:
    """Cut, encode and index passages; return the facts for the manifest."""
    known = _known_vectors(previous, encoder)
    writer = VectorWriter(folder / "vectors.npy", encoder.dimension, encoder.encode_passages, known)
    cutter = encoder.cutter(settings.passages)
    numbers: list[int] = []  # passages of each product, in row order
    dropped: list[int] = []
    for chunk in _chunks(Columns(folder / "columns.arrow").products()):
        cuts = cutter.cut(chunk)

        def report(share: float, before: int = len(numbers), now: int = len(cuts)) -> None:
            progress("encoding", before + int(share * now), count)

        writer.add([passage for cut in cuts for passage in cut.passages], report)
        numbers += [len(cut.passages) for cut in cuts]
        progress("encoding", len(numbers), count)
        dropped += [cut.dropped_words for cut in cuts]
    np.save(folder / "passage_hashes.npy", writer.close())
    rows = np.repeat(np.arange(count, dtype=np.int64), numbers)
    np.save(folder / "passage_rows.npy", rows)
    sample = _sample_titles(folder, count)
    dense = _write_dense(folder, sample, encoder, settings, progress)
    passages = {
        "letters_per_token": round(encoder.letters_per_token(sample), 2),
        **asdict(cutter.settings),
        "reserved": encoder.reserved(),
        "count": len(rows),
        "encoded": writer.encoded,
        "reused": writer.reused,
        "dropped_words": sum(dropped),
        "cut_products": sum(words > 0 for words in dropped),
    }
    return {"passages": passages, "dense": dense.to_json()}


def _known_vectors(previous: Generation | None, encoder: BuildEncoder) -> VectorStore | None:
    """Return the vectors of the generation before, if its encoder would make the same ones."""
    if previous is None or not same_passage_vectors(previous.manifest.get("encoder", {}), encoder.identity):
        return None
    hashes = np.load(previous.folder / "passage_hashes.npy")
    return VectorStore(hashes, np.load(previous.folder / "vectors.npy", mmap_mode="r"))


def _sample_titles(folder: Path, count: int) -> list[str]:
    """Return titles from all over the catalogue, which stand in for queries."""
    columns = Columns(folder / "columns.arrow")
    rows = np.linspace(0, count - 1, min(_SAMPLE, count)).astype(np.int64)
    return [columns.product(row).title for row in rows.tolist()]


def _write_dense(
    folder: Path, sample: list[str], encoder: BuildEncoder, settings: BuildSettings, progress: Progress
) -> DenseSettings:
    progress("building the dense index", 0, 1)
    vectors = np.load(folder / "vectors.npy", mmap_mode="r")
    dense = build_dense(
        vectors,
        folder / "dense.faiss",
        encoder.encode_queries(sample),
        recall=settings.recall,
        seed=settings.seed,
        threads=settings.threads,
    )
    progress("building the dense index", 1, 1)
    return dense


def _chunks(products: Iterator[Product]) -> Iterator[list[Product]]:
    while chunk := list(islice(products, _CHUNK)):
        yield chunk
