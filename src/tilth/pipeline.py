"""From a query to explained hits: retrieve lexically and densely, fuse; itself a `Retriever`."""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tilth.catalog import Product
from tilth.protocols import Rows
from tilth.query import Query, as_queries
from tilth.retrieval.filters import Filters
from tilth.retrieval.fusion import Fusion, fuse_hits
from tilth.retrieval.index import Index
from tilth.retrieval.lexical import matched_terms
from tilth.retrieval.rows import NO_HITS, RowHits, named
from tilth.run import Hit, Run, ranked

_UNKNOWN_WORDS = "the encoder knows the letters of this query, not its words"
RETRIEVERS = ("lexical", "dense")  # in the order of the fusion's weights
DEPTH = 200  # candidates of each retriever that are fused, at least


@dataclass(frozen=True, slots=True)
class Place:
    """Where a retriever put a product: its rank, from 1, and its score."""

    rank: int
    score: float


@dataclass(frozen=True, slots=True)
class Candidates:
    """What the retrievers found for one query: a list each, and the row of every product in them.

    `identified` are the products whose identifier is the query itself; `skipped` says which retriever was
    not asked, and why.
    """

    lists: Mapping[str, tuple[Hit, ...]]
    rows: Mapping[str, int]
    identified: frozenset[str] = frozenset()
    skipped: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Evidence:
    """Why a product was found: its place in each retriever that found it, and the matched terms by field.

    `identified`: the query is its id, mpn or gtin, which puts it before all others.
    """

    product: Product
    rank: int
    score: float
    places: Mapping[str, Place]
    matched: Mapping[str, Sequence[str]]
    identified: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """The hits of one query with their evidence, and the milliseconds of each stage.

    `read_as` differs from the query where words that no product has were read as near ones; `skipped` says
    which retriever was not asked, and why.
    """

    query: str
    read_as: str
    hits: tuple[Evidence, ...]
    skipped: Mapping[str, str]
    milliseconds: Mapping[str, float]


class Stopwatch:
    """Milliseconds by stage."""

    def __init__(self) -> None:
        self.milliseconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        """Book the time since the last lap on a stage."""
        now = time.perf_counter()
        self.milliseconds[stage] = round((now - self._last) * 1000, 3)
        self._last = now


class Pipeline:
    """An opened index with its retrievers and their fusion; safe to share between threads."""

    name = "hybrid"

    def __init__(self, index: Index, fusion: Fusion | None = None) -> None:
        self.index = index
        self.fusion = fusion or index.fusion

    def search(self, queries: Sequence[str | Query], k: int = 10, filters: Filters | None = None) -> Run:
        """Return at most `k` fused hits a query.

        Args:
            queries: texts, which get the ids `1`, `2`..., or queries with ids of their own.
            k: how many hits a query, from 0.
            filters: conditions on fields that every hit must satisfy.

        Returns:
            The run; scores are those of the fusion.

        Raises:
            InputError: a filter names an unknown field or a value of the wrong type.
        """
        allowed = self.index.allowed_rows(filters)
        return Run(self.name, {q.query_id: self._hits(q.text, k, allowed) for q in as_queries(queries)})

    def candidates(self, queries: Sequence[Query]) -> dict[str, Run]:
        """Return what `search` fuses, a run for each retriever: the input for choosing a fusion."""
        found = {query.query_id: self._retrieve_as_read(query.text) for query in queries}
        return {
            name: Run(name, {query_id: candidates.lists[name] for query_id, candidates in found.items()})
            for name in RETRIEVERS
        }

    def _retrieve_as_read(self, text: str) -> Candidates:
        return self._retrieve(self.index.speller.correct(text), DEPTH, None, Stopwatch())

    def _hits(self, text: str, k: int, allowed: Rows | None) -> tuple[Hit, ...]:
        return self._fuse(self._retrieve(self.index.speller.correct(text), k, allowed, Stopwatch()), k)

    def _fuse(self, found: Candidates, k: int) -> tuple[Hit, ...]:
        """Fuse the lists; products whose identifier was typed come first, in a tier of their own."""
        hits = fuse_hits(list(found.lists.values()), self.fusion)
        if found.identified and hits:
            lift = 1 + hits[0].score - hits[-1].score
            hits = ranked({p: s + lift if p in found.identified else s for p, s in hits})
        return hits[: max(k, 0)]

    def _retrieve(self, text: str, k: int, allowed: Rows | None, watch: Stopwatch) -> Candidates:
        """Return each retriever's candidates, booking its time."""
        index, depth = self.index, max(k, DEPTH)
        if k <= 0 or not text.strip():
            return Candidates({"lexical": (), "dense": ()}, {})
        lexical = index.lexical.search_rows(text, depth, allowed)
        watch.lap("lexical")
        skipped = {} if index.encodes(text) else {"dense": _UNKNOWN_WORDS}
        dense = NO_HITS if skipped else self._dense(text, depth, allowed, watch)
        rows = np.union1d(lexical.rows, dense.rows)
        lists = {
            "lexical": named(lexical, index.columns.ids, depth),
            "dense": named(dense, index.columns.ids, depth),
        }
        ids = index.columns.ids(rows)
        known = frozenset(ids).intersection(index.columns.ids(index.lexical.identified_rows(text)))
        return Candidates(lists, dict(zip(ids, rows.tolist(), strict=True)), known, skipped)

    def _dense(self, text: str, depth: int, allowed: Rows | None, watch: Stopwatch) -> RowHits:
        vector = self.index.encoder.encode_queries([text])[0]
        watch.lap("encode")
        hits = self.index.dense.search_rows(vector, depth, allowed)
        watch.lap("dense")
        return hits

    def answer(self, text: str, k: int = 10, filters: Filters | None = None) -> Answer:
        """Search for one query and say for each hit why it is there.

        Args:
            text: what the user typed.
            k: how many hits, from 0.
            filters: as in `search`.

        Returns:
            Hits with their evidence, and the time of each stage.

        Raises:
            InputError: as `search`.
        """
        watch = Stopwatch()
        allowed = self.index.allowed_rows(filters)
        read_as = self.index.speller.correct(text)
        watch.lap("read")
        found = self._retrieve(read_as, k, allowed, watch)
        hits = self._fuse(found, k)
        watch.lap("fuse")
        evidence = self._explain(read_as, hits, found)
        watch.lap("explain")
        return Answer(text, read_as, evidence, found.skipped, watch.milliseconds)

    def _explain(self, text: str, hits: Sequence[Hit], found: Candidates) -> tuple[Evidence, ...]:
        places = {
            name: {hit.product_id: Place(rank, hit.score) for rank, hit in enumerate(ranked, start=1)}
            for name, ranked in found.lists.items()
        }
        evidence = []
        for rank, (product_id, score) in enumerate(hits, start=1):
            product = self.index.columns.product(found.rows[product_id])
            where = {name: by_id[product_id] for name, by_id in places.items() if product_id in by_id}
            matched = matched_terms(text, product)
            evidence.append(Evidence(product, rank, score, where, matched, product_id in found.identified))
        return tuple(evidence)


def open_index(path: str | os.PathLike[str], *, threads: int = 1) -> Pipeline:
    """Open the current generation of an index folder for searching; imports neither torch nor transformers.

    Args:
        path: the folder that `tilth index --into` wrote.
        threads: how many a single query's encoding may use.

    Returns:
        The pipeline.

    Raises:
        IndexFormatError: no index is there, or it is damaged, foreign or of another version.
    """
    return Pipeline(Index.open(Path(path), threads=threads))
