"""Nearest passages by cosine, in faiss; a product scores as its best passage.

Vectors are in 8 bits (`quantisation`), and the index file is the only place where they are kept. Below
`FLAT_BELOW` passages all are compared. Above it an inverted file is used: its lists come from `clustering`,
and the number of lists that are probed from the recall measured against exact search.
"""

from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple, Self

import faiss
import numpy as np
import numpy.typing as npt

from tilth.errors import SettingError
from tilth.protocols import Allowed, Rows, Vectors
from tilth.retrieval.clustering import BLOCK, Assignment, assign, single_threads, train_regions
from tilth.retrieval.quantisation import CodedQuery, Codes, to_codes, to_queries, to_query
from tilth.retrieval.rows import NO_HITS, RowHits, Scores, best_per_row, through_ties
from tilth.retrieval.stored_codes import StoredCodes

Passages = npt.NDArray[np.int64]  # numbers of passages

FLAT_BELOW = 50_000
RECALL_DEPTH = 100
_MOST_LISTS = 16_384
_SCAN_BELOW = 20_000  # allowed passages; fewer are scored exactly, one by one
_SCAN_NARROW = 100_000  # the same, where they are at most this share of all: probing is unsure there
_NARROW = 0.05
_SCAN_BLOCK = 1_024  # passages scored at a time, so that they stay in the processor's cache
_SAMPLED = 16  # passages of each list by which it is judged how many of it a filter allows
_NEAR = 16  # times the probes without a filter: so many lists are judged before all are
_BITMAPS_KEPT = 8
_SIGNED = faiss.ScalarQuantizer.QT_8bit_direct_signed
_INNER = faiss.METRIC_INNER_PRODUCT


@dataclass(frozen=True, slots=True)
class DenseSettings:
    """How the vectors are searched; `build_dense` derives it from their number and the recall it measures."""

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
    lists = 2 ** round(np.log2(4 * np.sqrt(passages)))
    return DenseSettings("ivf", min(lists, _MOST_LISTS), probes=1)


def build_dense(
    codes: Codes, path: Path, sample: Vectors, *, recall: float = 0.95, seed: int = 0, threads: int = 1
) -> DenseSettings:
    """Build the index file over the codes of all passages.

    Args:
        codes: (N, D) of unit vectors; may be memory-mapped.
        path: the file to write.
        sample: (S, D) query vectors on which probing is chosen.
        recall: least share of the exact top 100 that probing must find, 0 to 1.
        seed: of the sample on which the lists are trained.
        threads: how many to use; the index does not depend on it.

    Returns:
        What was chosen and the recall that it reaches.

    Raises:
        SettingError: recall is outside 0 to 1.
    """
    if not 0 < recall <= 1:
        raise SettingError(f"recall is {recall}; it must lie above 0 and at most at 1")
    settings = choose(len(codes))
    if settings.kind == "flat":
        faiss.write_index(_flat(codes), str(path))
        return settings
    with single_threads(threads) as pool:
        regions = train_regions(codes, settings.lists, seed, pool)
        index = _inverted(codes, to_codes(regions.list_centres), assign(codes, regions, pool))
        settings = _choose_probes(index, codes, sample, recall, pool)
    faiss.write_index(index, str(path))
    return settings


def _flat(codes: Codes) -> faiss.Index:
    index = faiss.IndexScalarQuantizer(codes.shape[1], _SIGNED, _INNER)
    for start in range(0, len(codes), BLOCK):
        index.add(codes[start : start + BLOCK].astype(np.float32))
    return index


def _inverted(codes: Codes, centres: Codes, lists: Assignment) -> faiss.Index:
    """Fill an inverted file list by list, each in one step, so that no list is ever copied to grow."""
    index = faiss.IndexIVFScalarQuantizer(
        _flat(centres), codes.shape[1], len(centres), _SIGNED, _INNER, False
    )
    order = np.argsort(lists, kind="stable")
    ends = np.searchsorted(lists[order], np.arange(len(centres) + 1))
    for number in range(len(centres)):
        passages = order[ends[number] : ends[number + 1]]
        stored = (codes[passages] ^ np.int8(-128)).view(np.uint8)  # as faiss has it: code + 128
        pointers = faiss.swig_ptr(passages), faiss.swig_ptr(stored)
        index.invlists.add_entries(number, len(passages), *pointers)
    index.ntotal, index.is_trained = len(codes), True
    return index


def _choose_probes(
    index: faiss.Index, codes: Codes, sample: Vectors, recall: float, pool: ThreadPoolExecutor
) -> DenseSettings:
    """Raise the probes by halves until the sample's recall is reached; ties with the last count as found."""
    queries = to_queries(sample)[0]
    least = exact_top(codes, sample, RECALL_DEPTH, pool).scores[:, -1:]
    probes, reached = 1, 0.0
    while reached < recall and probes < index.nlist:
        probes = min(probes + max(probes // 2, 1), index.nlist)
        parameters = faiss.SearchParametersIVF(nprobe=probes)
        found = pool.submit(index.search, queries, RECALL_DEPTH, params=parameters).result()[0]
        reached = float(np.mean(found[:, : min(RECALL_DEPTH, len(codes))] >= least))
    return DenseSettings("ivf", index.nlist, probes, round(reached, 4))


class ExactTop(NamedTuple):
    """The exact nearest passages of each query, best first: (Q, k) each."""

    passages: Passages
    scores: Scores  # dot products of codes, whole numbers


def exact_top(codes: Codes, queries: Vectors, k: int, pool: ThreadPoolExecutor) -> ExactTop:
    """Find the `k` nearest passages of each query by comparing all: the oracle of the inverted file.

    Args:
        codes: (N, D) of the passages; may be memory-mapped.
        queries: (Q, D).
        k: how many; at most N are found.
        pool: of `single_threads`.

    Returns:
        (Q, min(k, N)) passages and scores.
    """
    coded = to_queries(queries)[0]

    def nearest(start: int) -> tuple[Scores, Passages]:
        block = codes[start : start + BLOCK].astype(np.float32)
        scores, numbers = faiss.knn(coded, block, min(k, len(block)), _INNER)
        return scores, numbers + start

    best = faiss.ResultHeap(len(queries), min(k, len(codes)), keep_max=True)
    for scores, passages in pool.map(nearest, range(0, len(codes), BLOCK)):
        best.add_result(scores, passages)
    best.finalize()
    return ExactTop(np.asarray(best.I), np.asarray(best.D))


def _sampled(
    index: faiss.Index, rows: npt.NDArray[np.integer]
) -> tuple[npt.NDArray[np.integer], npt.NDArray[np.int64]]:
    """Return the rows of a few passages of each list, (L, 16), and the number of passages in each, (L,)."""
    lists = index.nlist if isinstance(index, faiss.IndexIVF) else 0
    sizes = np.array([index.invlists.list_size(number) for number in range(lists)], np.int64)
    samples = np.zeros((lists, _SAMPLED), rows.dtype)
    for number in np.flatnonzero(sizes).tolist():
        passages = faiss.rev_swig_ptr(index.invlists.get_ids(number), int(sizes[number]))
        samples[number] = rows[passages[np.linspace(0, len(passages) - 1, _SAMPLED).astype(np.int64)]]
    return samples, sizes


def _products(codes: Vectors, query: CodedQuery) -> Scores:
    """Return the dot products, (M,), on this thread alone: BLAS would wait for others."""
    products: Scores = np.einsum("ij,j->i", codes, query.codes)
    return products


class RowPassages(NamedTuple):
    """The passages of some rows, one row's after the other, each row's head first."""

    codes: Vectors  # (P, D) as float32; not of length 1, but all of about the same length
    places: npt.NDArray[np.intp]  # (P,), ascending: the place of the passage's row among those asked for


class _Bitmaps:
    """The latest masks as bits: packing takes longer than a search."""

    def __init__(self) -> None:
        self._kept: OrderedDict[int, tuple[Allowed, int, npt.NDArray[np.uint8]]] = OrderedDict()

    def of(self, allowed: Allowed, rows: int) -> tuple[int, npt.NDArray[np.uint8]]:
        """Return how many of the first rows a mask allows, and its bits; a mask does not change."""
        kept = self._kept.get(id(allowed))  # the mask is kept too, so that no other has its id
        if kept is None:
            count = int(np.count_nonzero(allowed[:rows]))
            kept = self._kept[id(allowed)] = allowed, count, np.packbits(allowed, bitorder="little")
            while len(self._kept) > _BITMAPS_KEPT:
                self._kept.popitem(last=False)
        return kept[1], kept[2]


class DenseIndex:
    """An opened dense index; safe to share between threads.

    The file is memory-mapped: opening reads only where its lists begin, and processes share its memory.
    """

    def __init__(self, path: Path, settings: DenseSettings, rows: npt.NDArray[np.integer]) -> None:
        """Open the index.

        Args:
            path: the file that `build_dense` wrote.
            settings: what it returned.
            rows: (N,) the row of each passage's product, ascending.
        """
        self._index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
        self.settings, self._rows = settings, rows
        self._counts = np.bincount(rows)  # passages of each row
        self._ends = np.cumsum(self._counts)
        self._most = int(self._counts.max(initial=0))
        self._stored = StoredCodes(self._index)
        self._samples, self._sizes = _sampled(self._index, rows)
        self._row_of: faiss.Int64Vector | None = None  # where a passage's number is not its row
        if not np.array_equal(rows, np.arange(len(rows))):
            self._row_of = faiss.Int64Vector()
            faiss.copy_array_to_vector(rows.astype(np.int64), self._row_of)
        self._bitmaps = _Bitmaps()

    @property
    def passages(self) -> int:
        """The number of passages."""
        return len(self._rows)

    def codes(self, passages: Passages) -> Codes:
        """Return the (M, D) codes of passages, exactly as the index was built from them."""
        return self._stored[passages]

    def passages_of(self, rows: Rows) -> "RowPassages":
        """Return the passages of rows, each row's head first; rows of later products have none here."""
        places = np.flatnonzero(rows < len(self._counts))
        counts = self._counts[rows[places]]
        first = self._ends[rows[places]] - counts
        passages = np.repeat(first - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum())
        return RowPassages(self.codes(passages).astype(np.float32), np.repeat(places, counts))

    def search_rows(self, vector: Vectors, k: int, allowed: Allowed | None = None) -> RowHits:
        """Return the rows of the nearest passages, `k` and those that tie with the last, best first.

        Args:
            vector: (D,) vector of the query.
            k: how many; 0 gives none.
            allowed: a mask of the rows that may be returned, those of later products may follow; None allows
                all.

        Returns:
            Rows and cosines (-1 to 1).
        """
        if k <= 0 or not len(self._rows):
            return NO_HITS
        query = to_query(vector)
        if allowed is None:
            return through_ties(lambda n: self._fetch(query, n, self.settings.probes, None), k)
        rows, bits = self._bitmaps.of(allowed, len(self._counts))
        share = rows / len(self._counts)
        if share * self.passages <= (_SCAN_NARROW if share <= _NARROW else _SCAN_BELOW):
            return self._scan(query, k, allowed)
        selector = faiss.IDSelectorBitmap(bits)
        if self._row_of is not None:
            selector = faiss.IDSelectorTranslated(self._row_of, selector)
        probes = self._widened(query, allowed, share)
        return through_ties(lambda n: self._fetch(query, n, probes, selector), k)

    def _widened(self, query: CodedQuery, allowed: Allowed, share: float) -> int:
        """Return the probes that find the nearest allowed passages as surely as the nearest of all.

        Of the passages that a filter allows, as many have to be read as without a filter, times the root of
        their share, and up to three times the lists (docs/log.md). How many lists hold so many is estimated
        from a few passages of each, since all of them may lie far from the query.
        """
        if self.settings.kind == "flat":
            return 0
        faiss.omp_set_num_threads(1)  # of the calling thread, as in `_search`
        least = self.settings.probes * (3 - 2 * share)
        wanted = self.settings.probes * self.passages / self.settings.lists * float(np.sqrt(share))
        for depth in (min(self.settings.probes * _NEAR, self.settings.lists), self.settings.lists):
            order = self._index.quantizer.search(query.codes[None, :], depth)[1][0]
            held = np.cumsum(allowed[self._samples[order]].mean(axis=1) * self._sizes[order])
            if held[-1] >= wanted:
                return min(max(int(np.searchsorted(held, wanted)) + 1, round(least)), self.settings.lists)
        return self.settings.lists

    def _scan(self, query: CodedQuery, k: int, allowed: Allowed) -> RowHits:
        """Score every allowed passage; return the best `k` rows and those that tie with the last."""
        reach = allowed[: len(self._counts)]
        rows = np.flatnonzero(reach & (self._counts[: len(reach)] > 0))
        if not len(rows):
            return NO_HITS
        counts = self._counts[rows]
        starts = np.cumsum(counts) - counts
        passages = self._ends[rows] - 1
        if self._most > 1:
            passages = np.repeat(passages - counts + 1 - starts, counts) + np.arange(counts.sum())
        scores = np.empty(len(passages), np.float32)
        for start in range(0, len(passages), _SCAN_BLOCK):
            block = slice(start, start + _SCAN_BLOCK)
            scores[block] = _products(self._stored[passages[block]].astype(np.float32), query)
        best = (scores if self._most == 1 else np.maximum.reduceat(scores, starts)) * query.unit
        if len(rows) > k:
            kept = best >= np.partition(best, len(best) - k)[len(best) - k]
            rows, best = rows[kept], best[kept]
        return best_per_row(rows, best)

    def _fetch(self, query: CodedQuery, n: int, probes: int, selector: faiss.IDSelector | None) -> RowHits:
        """Return the best `n` rows: enough passages are read that `n` products must be among them.

        More lists are probed if these do not hold so many that are allowed.
        """
        count = min(n * self._most, len(self._rows))
        while True:
            scores, passages = self._search(query, count, probes, selector)
            if len(passages) == count or probes >= self.settings.lists:
                break
            probes = min(probes * 4, self.settings.lists)
        hits = best_per_row(self._rows[passages].astype(np.int64), scores)
        return RowHits(hits.rows[:n], hits.scores[:n])

    def _search(
        self, query: CodedQuery, count: int, probes: int, selector: faiss.IDSelector | None
    ) -> tuple[Scores, Passages]:
        """Return the cosines and numbers of the best `count` passages in the lists nearest to the query."""
        faiss.omp_set_num_threads(1)  # of the calling thread; waiting for others takes longer than a search
        parameters = faiss.SearchParameters(sel=selector)
        if self.settings.kind == "ivf":
            parameters = faiss.SearchParametersIVF(sel=selector, nprobe=probes)
        scores, passages = self._index.search(query.codes[None, :], count, params=parameters)
        found = passages[0] >= 0
        return scores[0][found] * query.unit, passages[0][found]


@dataclass(frozen=True, slots=True)
class ExactVectors:
    """A few thousand passages in memory, all compared; scores are those that a `DenseIndex` would give."""

    codes: Vectors  # (M, D), as float32
    rows: Rows  # (M,), the row of each passage's product, ascending

    @classmethod
    def of(cls, vectors: Vectors, rows: Rows) -> Self:
        """Make codes of (M, D) unit vectors; `rows` has the row of each."""
        return cls(to_codes(vectors).astype(np.float32), rows)

    def joined(self, other: "ExactVectors") -> Self:
        """Return these passages and others."""
        codes, rows = np.concatenate([self.codes, other.codes]), np.concatenate([self.rows, other.rows])
        return replace(self, codes=codes, rows=rows)

    def passages_of(self, rows: Rows) -> RowPassages:
        """Return the passages of rows, each row's head first; other rows have none here."""
        first, end = (np.searchsorted(self.rows, rows, side) for side in ("left", "right"))
        counts = end - first
        passages = np.repeat(first - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum())
        return RowPassages(self.codes[passages], np.repeat(np.arange(len(rows)), counts))

    def search_rows(self, vector: Vectors, k: int, allowed: Allowed | None = None) -> RowHits:
        """Return the best `k` rows and those that tie with the last, best first.

        Args:
            vector: (D,) vector of the query.
            k: how many; 0 gives none.
            allowed: a mask of the rows that may be returned, one a product; None allows all.

        Returns:
            Rows and cosines (-1 to 1).
        """
        if k <= 0:
            return NO_HITS
        query = to_query(vector)
        hits = best_per_row(self.rows, _products(self.codes, query) * query.unit)
        if allowed is not None:
            kept = allowed[hits.rows]
            hits = RowHits(hits.rows[kept], hits.scores[kept])
        if len(hits.rows) <= k:
            return hits
        end = int(np.searchsorted(-hits.scores, -hits.scores[k - 1], side="right"))
        return RowHits(hits.rows[:end], hits.scores[:end])
