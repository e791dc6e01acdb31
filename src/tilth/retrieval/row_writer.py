"""One pass over the store: whatever of a generation is written row by row.

Chunks are prepared in worker processes, if asked; this one writes them in their order.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tilth.retrieval.build_settings import BuildEncoder, BuildSettings, Progress
from tilth.retrieval.columns import ColumnsWriter
from tilth.retrieval.lexical import LexicalWriter
from tilth.retrieval.passages import PassageSettings
from tilth.retrieval.preparation import CHUNK, Encoded, Preparation, Prepared, Workers
from tilth.retrieval.spelling import VocabularyCounter
from tilth.retrieval.stopwatch import Stopwatch
from tilth.retrieval.term_rows import TermRowsWriter
from tilth.retrieval.vectors import Hashes, VectorWriter, Wanted, encode_texts
from tilth.store import Snapshot

if TYPE_CHECKING:
    from concurrent.futures import Future

CODES = "codes.npy"  # of all passages, until the dense index is made of them
_WORKERS_FROM = 2 * CHUNK  # products; fewer are prepared sooner than processes start
_SAMPLE = 200  # titles that stand in for queries


def start_workers(snapshot: Snapshot, encoder: BuildEncoder, settings: BuildSettings) -> Workers:
    """Start as many processes as are asked for, or none where the work is done before they are ready."""
    preparation = Preparation(encoder.cutter(settings.passages), settings.lexical)
    processes = settings.resources.workers if snapshot.count >= _WORKERS_FROM else 1
    return Workers(preparation, encoder.portable(), processes)


def write_rows(
    folder: Path,
    snapshot: Snapshot,
    encoder: BuildEncoder,
    settings: BuildSettings,
    vectors: VectorWriter,
    progress: Progress,
    watch: Stopwatch,
) -> "Rows":
    """Write columns, terms, the lexical index and the codes of all passages, in row order.

    Args:
        folder: of the new generation.
        snapshot: of the store.
        encoder: makes the vectors that are not known.
        settings: passages, fields and resources.
        vectors: takes the codes of all passages.
        progress: is told how far it has come.
        watch: is told where the time goes.

    Returns:
        What was gathered on the way.
    """
    resources = settings.resources
    vocabulary, rows = VocabularyCounter(), Rows(encoder.cutter(settings.passages).settings, snapshot.count)
    with (
        start_workers(snapshot, encoder, settings) as workers,
        ColumnsWriter(folder / "columns") as columns,
        TermRowsWriter(folder / "terms") as terms,
        LexicalWriter(folder / "lexical", memory=resources.memory, threads=resources.threads) as lexical,
    ):
        encoding = _Encoding(encoder, workers, vectors)
        for chunk in workers.prepare(snapshot.records()):
            watch.lap("prepare")
            columns.add(chunk.columns)
            terms.add(chunk.terms)
            vocabulary.merge(chunk.words)
            for document in chunk.documents:
                lexical.add(document)
            watch.lap("write")

            def report(share: float, before: int = rows.count, chunk: Prepared = chunk) -> None:
                progress("indexing", before + int(share * len(chunk.cuts)), snapshot.count)

            encoding.add(chunk.passages(), report)
            watch.lap("encode")
            rows.add(chunk)
            progress("indexing", rows.count, snapshot.count)
        encoding.write_all(but=0)
        watch.lap("encode")
    vocabulary.write(folder / "vocabulary.txt")
    np.save(folder / "passage_hashes.npy", vectors.close())
    np.save(folder / "passage_rows.npy", rows.of_passages())
    np.save(folder / "steady_hashes.npy", np.concatenate(rows.steady))
    rows.encoded, rows.reused, rows.encoding = vectors.encoded, vectors.reused, encoding.seconds
    watch.lap("commit")
    return rows


class _Encoding:
    """Passages on their way to their codes: through worker processes, or encoded here and now."""

    def __init__(self, encoder: BuildEncoder, workers: Workers, vectors: VectorWriter) -> None:
        self._encoder, self._workers, self._vectors = encoder, workers, vectors
        self._waiting: deque[tuple[Wanted, Future[Encoded]]] = deque()
        self.seconds = 0.0  # what several processes do at once counts once

    def add(self, passages: Sequence[str], report: Callable[[float], None]) -> None:
        """Encode passages, or begin to; write the codes of those that are ready, in their order."""
        wanted = self._vectors.want(passages)
        if future := self._workers.encode(wanted.texts):
            self._waiting.append((wanted, future))
            self.write_all(but=self._workers.processes)
            return
        self.write_all(but=0)
        start = time.perf_counter()
        encode, dimension = self._encoder.encode_passages, self._encoder.dimension
        self._vectors.write(wanted, encode_texts(wanted.texts, encode, dimension, report))
        self.seconds += time.perf_counter() - start

    def write_all(self, *, but: int) -> None:
        """Wait for what workers encode, and write it, until no more than so many chunks are left."""
        while len(self._waiting) > but:
            wanted, future = self._waiting.popleft()
            encoded = future.result()
            self._vectors.write(wanted, encoded.codes)
            self.seconds += encoded.seconds / self._workers.processes


class Rows:
    """What is gathered about the rows while they are written: a few bytes a product."""

    def __init__(self, settings: PassageSettings, total: int) -> None:
        self.settings, self.count = settings, 0
        self.encoded = self.reused = 0
        self.encoding = 0.0  # seconds; what several processes do at once counts once
        self.titles: list[str] = []  # from all over the catalogue: they stand in for queries
        self.steady: list[Hashes] = []
        self._sampled = set(np.linspace(0, total - 1, min(_SAMPLE, total)).astype(int).tolist())
        self._passages: list[npt.NDArray[np.int32]] = []
        self._dropped: list[npt.NDArray[np.int32]] = []

    def add(self, chunk: Prepared) -> None:
        """Take note of the next rows."""
        self.titles += [
            title for row, title in enumerate(chunk.titles, start=self.count) if row in self._sampled
        ]
        self.steady.append(chunk.steady)
        self._passages.append(np.array([len(cut.passages) for cut in chunk.cuts], np.int32))
        self._dropped.append(np.array([cut.dropped_words for cut in chunk.cuts], np.int32))
        self.count += len(chunk.titles)

    def of_passages(self) -> npt.NDArray[np.int32]:
        """Return the row of each passage."""
        return np.repeat(np.arange(self.count, dtype=np.int32), np.concatenate(self._passages))

    def to_json(self) -> dict[str, Any]:
        """Return the facts about passages, for the manifest."""
        dropped = np.concatenate(self._dropped)
        return {
            **asdict(self.settings),
            "count": int(np.concatenate(self._passages).sum()),
            "encoded": self.encoded,
            "reused": self.reused,
            "dropped_words": int(dropped.sum()),
            "cut_products": int(np.count_nonzero(dropped)),
        }
