"""Nearest passages by cosine, in faiss; a product scores as its best passage.

Up to `FLAT_BELOW` passages the search is exact over half-precision vectors, which is faster than over
float32 (half the memory is read) and changes no score beyond the third decimal. Above it an inverted file
over 8-bit scalar-quantised vectors is used, its size chosen from the count and its number of probed lists
from the recall measured against exact search.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import faiss
import numpy as np
import numpy.typing as npt

from tilth.errors import SettingError
from tilth.protocols import Encoder, Rows, Vectors
from tilth.query import Query
from tilth.retrieval.rows import NO_HITS, ProductIds, RowHits, best_per_row, fetch_with_ties, named
from tilth.run import Hit, Run

Halves = npt.NDArray[np.float16]  # (N, D), the stored vectors

FLAT_BELOW = 50_000
RECALL_DEPTH = 100
_TRAINING_PER_LIST = 64
_BLOCK = 65_536  # vectors converted to float32 at a time
_SCAN_BELOW = 20_000  # allowed passages; fewer are scored exactly, one by one


@dataclass(frozen=True, slots=True)
class DenseSettings:
    """How the vectors are searched; `choose` derives it from their number."""

    kind: str  # "flat" or "ivf"
    lists: int = 0
    probes: int = 0
    recall: float = 1.0  # of the exact top 100, measured on sample queries when the index was built

    def to_json(self) -> dict[str, object]:
        """Return the settings as plain data, for the manifest."""
        return asdict(self)


def choose(passages: int) -> DenseSettings:
    """Choose flat or IVF, with about four times the square root of the count as lists (a power of two)."""
    if passages < FLAT_BELOW:
        return DenseSettings("flat")
    return DenseSettings("ivf", lists=2 ** round(np.log2(4 * np.sqrt(passages))), probes=8)


def build_dense(
    vectors: Halves, path: Path, sample: Vectors, *, recall: float = 0.95, seed: int = 0, threads: int = 1
) -> DenseSettings:
    """Build the index file over stored vectors.

    Args:
        vectors: (N, D) unit rows; may be memory-mapped.
        path: the file to write.
        sample: (S, D) query vectors on which probing is chosen.
        recall: least share of the exact top 100 that probing must find, 0 to 1.
        seed: of the sample on which the lists are trained.
        threads: how many to use.

    Returns:
        What was chosen and the recall that it reaches.

    Raises:
        SettingError: recall is outside 0 to 1.
    """
    if not 0 < recall <= 1:
        raise SettingError(f"recall is {recall}; it must lie above 0 and at most at 1")
    faiss.omp_set_num_threads(threads)
    settings = choose(len(vectors))
    index = _empty(settings, vectors.shape[1])
    if settings.kind == "ivf":
        index.train(_training_sample(vectors, settings.lists, seed))
    for start in range(0, len(vectors), _BLOCK):
        index.add(vectors[start : start + _BLOCK].astype(np.float32))
    if settings.kind == "ivf":
        settings = _choose_probes(index, settings, vectors, sample, recall)
    faiss.write_index(index, str(path))
    return settings


def _empty(settings: DenseSettings, dimension: int) -> faiss.Index:
    inner = faiss.METRIC_INNER_PRODUCT
    if settings.kind == "flat":
        return faiss.IndexScalarQuantizer(dimension, faiss.ScalarQuantizer.QT_fp16, inner)
    return faiss.index_factory(dimension, f"IVF{settings.lists},SQ8", inner)


def _training_sample(vectors: Halves, lists: int, seed: int) -> Vectors:
    count = min(len(vectors), lists * _TRAINING_PER_LIST)
    chosen = np.sort(np.random.default_rng(seed).choice(len(vectors), count, replace=False))
    return vectors[chosen].astype(np.float32)


def _choose_probes(
    index: faiss.Index, settings: DenseSettings, vectors: Halves, sample: Vectors, recall: float
) -> DenseSettings:
    """Double the probes until the sample's recall is reached."""
    exact = exact_top(vectors, sample, RECALL_DEPTH)
    probes, reached = 1, 0.0
    while reached < recall and probes < settings.lists:
        probes *= 2
        found = index.search(sample, RECALL_DEPTH, params=faiss.SearchParametersIVF(nprobe=probes))[1]
        hits = [len(np.intersect1d(a, b)) for a, b in zip(exact, found, strict=True)]
        reached = float(np.mean(hits)) / exact.shape[1]
    return DenseSettings("ivf", settings.lists, probes, round(reached, 4))


def exact_top(vectors: Halves, queries: Vectors, k: int) -> npt.NDArray[np.int64]:
    """Return the numbers of the exact `k` nearest vectors: (Q, min(k, N)), best first."""
    search = faiss.ResultHeap(len(queries), min(k, len(vectors)), keep_max=True)
    for start in range(0, len(vectors), _BLOCK):
        block = vectors[start : start + _BLOCK].astype(np.float32)
        found, numbers = faiss.knn(queries, block, min(k, len(block)), faiss.METRIC_INNER_PRODUCT)
        search.add_result(found, numbers + start)
    search.finalize()
    return np.asarray(search.I)


class DenseIndex:
    """An opened dense index; safe to share between threads."""

    def __init__(self, path: Path, settings: DenseSettings, vectors: Halves, rows: Rows) -> None:
        """Open the index.

        Args:
            path: the file that `build_dense` wrote.
            settings: what it returned.
            vectors: (N, D) the stored vectors.
            rows: (N,) the row of each passage's product, ascending.
        """
        self._index = faiss.read_index(str(path))
        self.settings, self._vectors, self._rows = settings, vectors, rows
        self._most = int(np.bincount(rows).max()) if len(rows) else 0  # passages of one product

    @property
    def passages(self) -> int:
        """The number of passages."""
        return len(self._rows)

    def search_rows(self, vector: Vectors, k: int, allowed: Rows | None = None) -> RowHits:
        """Return the rows of the nearest passages, `k` and those that tie with the last, best first.

        Args:
            vector: (D,) unit vector of the query.
            k: how many; 0 gives none.
            allowed: the only rows that may be returned, ascending; None allows all.

        Returns:
            Rows and cosines (-1 to 1).
        """
        if k <= 0 or not len(self._rows) or (allowed is not None and not len(allowed)):
            return NO_HITS
        if allowed is None:
            return fetch_with_ties(lambda n: self._fetch(vector, n, None), k)
        passages = np.flatnonzero(np.isin(self._rows, allowed))
        if len(passages) <= _SCAN_BELOW:
            return best_per_row(self._rows[passages], self._vectors[passages].astype(np.float32) @ vector)
        selector = faiss.IDSelectorBatch(passages)
        return fetch_with_ties(lambda n: self._fetch(vector, n, selector), k)

    def _fetch(self, vector: Vectors, n: int, selector: faiss.IDSelector | None) -> RowHits:
        """Return the best `n` rows: enough passages are read that `n` products must be among them."""
        count = min(n * self._most, len(self._rows))
        scores, passages = self._index.search(vector[None, :], count, params=self._parameters(selector))
        found = passages[0] >= 0
        hits = best_per_row(self._rows[passages[0][found]], scores[0][found])
        return RowHits(hits.rows[:n], hits.scores[:n])

    def _parameters(self, selector: faiss.IDSelector | None) -> faiss.SearchParameters:
        if self.settings.kind == "flat":
            return faiss.SearchParameters(sel=selector)
        return faiss.SearchParametersIVF(sel=selector, nprobe=self.settings.probes)


class DenseRetriever:
    """Encoder and dense index as a `Retriever`."""

    def __init__(self, index: DenseIndex, encoder: Encoder, ids: ProductIds) -> None:
        self._index, self._encoder, self._ids = index, encoder, ids

    def search(self, queries: Iterable[Query], k: int) -> Run:
        """Return at most `k` hits a query, scored by cosine; a query of blanks has none."""
        return Run("dense", {q.query_id: self._hits(q.text, k) for q in queries})

    def _hits(self, text: str, k: int) -> tuple[Hit, ...]:
        if not text.strip():
            return ()
        vector = self._encoder.encode_queries([text])[0]
        return named(self._index.search_rows(vector, k), self._ids, k)
