"""One pass over the store: whatever of a generation is written row by row.

Chunks are prepared in worker processes, if asked; this one writes them in their order.
"""

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tilth.retrieval.build_settings import BuildEncoder, BuildSettings, Progress
from tilth.retrieval.columns import ColumnsWriter
from tilth.retrieval.legs import LEGS
from tilth.retrieval.lexical import LexicalWriter
from tilth.retrieval.passages import PassageCutter, PassageSettings
from tilth.retrieval.preparation import CHUNK, Encoded, Preparation, Prepared, Workers
from tilth.retrieval.spelling import VocabularyCounter
from tilth.retrieval.stopwatch import Stopwatch
from tilth.retrieval.term_rows import TermRowsWriter
from tilth.retrieval.vectors import Hashes, VectorWriter, Wanted, encode_texts
from tilth.store import Snapshot

if TYPE_CHECKING:
    from concurrent.futures import Future

CODES = "codes.npy"  # of all passages, in the folder of a leg, until its index is made of them
_WORKERS_FROM = 2 * CHUNK  # products; fewer are prepared sooner than processes start
_SAMPLE = 200  # titles that stand in for queries


def start_workers(
    snapshot: Snapshot, encoders: Mapping[str, BuildEncoder], settings: BuildSettings
) -> Workers:
    """Start as many processes as are asked for, or none where the work is done before they are ready."""
    preparation = Preparation(passage_cutter(encoders, settings), settings.lexical)
    processes = settings.resources.workers if snapshot.count >= _WORKERS_FROM else 1
    portable = {name: encoder.portable() for name, encoder in encoders.items()}
    movable = {name: encoder for name, encoder in portable.items() if encoder is not None}
    return Workers(preparation, movable, processes)


def passage_cutter(encoders: Mapping[str, BuildEncoder], settings: BuildSettings) -> PassageCutter:
    """Return what cuts passages for all legs: the cutter of the first one's encoder."""
    return encoders[LEGS[0]].cutter(settings.passages)


def write_rows(
    folder: Path,
    snapshot: Snapshot,
    encoders: Mapping[str, BuildEncoder],
    settings: BuildSettings,
    vectors: Mapping[str, VectorWriter],
    progress: Progress,
    watch: Stopwatch,
) -> "Rows":
    """Write columns, terms, the lexical index and, for each leg, the codes of all passages, in row order.

    Args:
        folder: of the new generation.
        snapshot: of the store.
        encoders: of each leg: makes the vectors that are not known. The first one cuts the passages.
        settings: passages, fields and resources.
        vectors: of each leg: takes the codes of all passages.
        progress: is told how far it has come.
        watch: is told where the time goes.

    Returns:
        What was gathered on the way.
    """
    resources = settings.resources
    vocabulary, rows = VocabularyCounter(), Rows(passage_cutter(encoders, settings).settings, snapshot.count)
    with (
        start_workers(snapshot, encoders, settings) as workers,
        ColumnsWriter(folder / "columns") as columns,
        TermRowsWriter(folder / "terms") as terms,
        LexicalWriter(folder / "lexical", memory=resources.memory, threads=resources.threads) as lexical,
    ):
        encodings = [_Encoding(name, encoder, workers, vectors[name]) for name, encoder in encoders.items()]
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

            passages = chunk.passages()
            for number, encoding in enumerate(encodings):
                encoding.add(passages, partial(_of_all, report, number, len(encodings)))
            watch.lap("encode")
            rows.add(chunk)
            progress("indexing", rows.count, snapshot.count)
        for encoding in encodings:
            encoding.write_all(but=0)
        watch.lap("encode")
    vocabulary.write(folder / "vocabulary.txt")
    hashes = [writer.close() for writer in vectors.values()]  # of the same passages
    np.save(folder / "passage_hashes.npy", hashes[0])
    np.save(folder / "passage_rows.npy", rows.of_passages())
    np.save(folder / "steady_hashes.npy", np.concatenate(rows.steady))
    rows.encoding = sum(encoding.seconds for encoding in encodings)
    watch.lap("commit")
    return rows


def _of_all(report: Callable[[float], None], number: int, legs: int, share: float) -> None:
    """Report the share of a chunk that is done, from the share of one leg's part of it."""
    report((number + share) / legs)


class _Encoding:
    """Passages on their way to the codes of a leg: through worker processes, or encoded here and now."""

    def __init__(self, leg: str, encoder: BuildEncoder, workers: Workers, vectors: VectorWriter) -> None:
        self._leg, self._encoder, self._workers, self._vectors = leg, encoder, workers, vectors
        self._waiting: deque[tuple[Wanted, Future[Encoded]]] = deque()
        self.seconds = 0.0  # what several processes do at once counts once

    def add(self, passages: Sequence[str], report: Callable[[float], None]) -> None:
        """Encode passages, or begin to; write the codes of those that are ready, in their order."""
        wanted = self._vectors.want(passages)
        if future := self._workers.encode(self._leg, wanted.texts):
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
            "dropped_words": int(dropped.sum()),
            "cut_products": int(np.count_nonzero(dropped)),
        }
