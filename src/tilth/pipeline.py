"""From a query to explained hits: retrieve lexically and densely, fuse, rerank; itself a `Retriever`.

The index follows its store: see `tilth.retrieval.live`.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tilth.catalog import Product
from tilth.protocols import Allowed, Retriever
from tilth.query import Query, as_queries
from tilth.ranking import Ranking, is_overtaken, read_ranking
from tilth.reranking.answerability import Decision
from tilth.reranking.behaviour import NO_BEHAVIOUR, Behaviour
from tilth.reranking.cross_encoder_stage import Texts
from tilth.reranking.cross_encoder_texts import ProductTexts
from tilth.reranking.features import feature_matrix
from tilth.reranking.training import Features
from tilth.retrieval.candidates import NOTHING, RETRIEVERS, Candidates, retrieve
from tilth.retrieval.filters import Filters
from tilth.retrieval.fusion import RankedPlaces
from tilth.retrieval.index import Index, open_store
from tilth.retrieval.lexical import matched_terms
from tilth.retrieval.live import LiveIndex
from tilth.retrieval.stopwatch import Stopwatch
from tilth.retrieval.tfidf import TfidfRetriever
from tilth.retrieval.view import View
from tilth.run import Hit, Run
from tilth.store import Written

DEPTH = 200  # candidates of each retriever that are fused, at least


@dataclass(frozen=True, slots=True)
class Place:
    """Where a retriever put a product: its rank, from 1, and its score."""

    rank: int
    score: float


@dataclass(frozen=True, slots=True)
class Evidence:
    """Why a product was found: its place in each retriever that found it, and the matched terms by field.

    `identified`: the query is its id, mpn or gtin, which puts it before all others. `probability` is that of
    being relevant, where a reranker in force is calibrated and has seen the product.
    """

    product: Product
    rank: int
    score: float
    places: Mapping[str, Place]
    matched: Mapping[str, Sequence[str]]
    identified: bool
    probability: float | None = None


@dataclass(frozen=True, slots=True)
class Totals:
    """How many products the filters allow, whatever the query; and how many of them the query retrieved.

    What is retrieved are the candidates that were fused: the best `DEPTH` or more of each retriever, not
    every product that shares a word with the query.
    """

    allowed: int
    retrieved: int


@dataclass(frozen=True, slots=True)
class Facet:
    """What a field holds among the products of `Totals`, `allowed` and `retrieved` apart."""

    allowed: Mapping[str, Any]
    retrieved: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """The hits of one query with their evidence, and the milliseconds of each stage.

    `read_as` differs from the query where words that no product has were read as near ones; `skipped` says
    what was not asked, or not about all hits, and why. `release` is the one in force, if any, and `decision`
    whether its calibration finds that the shop has an answer at all.
    """

    query: str
    read_as: str
    hits: tuple[Evidence, ...]
    totals: Totals
    facets: Mapping[str, Facet]
    skipped: Mapping[str, str]
    milliseconds: Mapping[str, float]
    release: str | None
    decision: Decision | None


@dataclass(frozen=True, slots=True)
class Pool:
    """The candidates of one query as a reranker sees them: M products and (M, F) features."""

    query_id: str
    text: str  # as it was searched
    product_ids: tuple[str, ...]
    features: Features
    fused: npt.NDArray[np.float64]  # (M,) scores of the fusion, descending


class Pipeline:
    """A live index with its retrievers and how their hits are ordered; safe to share between threads."""

    name = "hybrid"

    def __init__(self, live: LiveIndex, ranking: Ranking | None = None) -> None:
        """Take an index.

        Args:
            live: the index.
            ranking: how candidates are ordered; None: by the release in force, or else by the fusion that
                the index folder names.

        Raises:
            IndexFormatError: the release in force is damaged.
        """
        self.live, self._follows = live, ranking is None
        self.ranking = ranking or read_ranking(live.path)
        self.texts = ProductTexts(live)

    def __len__(self) -> int:
        """Return the number of products."""
        return len(self.live.view)

    @property
    def index(self) -> Index:
        """The current generation."""
        return self.live.view.index

    def search(
        self,
        queries: Sequence[str | Query],
        k: int = 10,
        filters: Filters | None = None,
        *,
        collapse: bool = False,
    ) -> Run:
        """Return at most `k` fused hits a query.

        Args:
            queries: texts, which get the ids `1`, `2`..., or queries with ids of their own.
            k: how many hits a query, from 0.
            filters: conditions that every hit must satisfy; see `tilth.retrieval.filters`.
            collapse: of the variants with one `item_group_id`, keep the best.

        Returns:
            The run; scores are those of the fusion.

        Raises:
            InputError: a filter names an unknown field or a value of the wrong type.
        """
        view = self.live.view
        allowed = view.allowed(filters)
        searches = {q.query_id: self._searched(view, q.text) for q in as_queries(queries)}
        return Run(self.name, {name: one.hits(k, allowed, collapse) for name, one in searches.items()})

    def answer(
        self,
        text: str,
        k: int = 10,
        filters: Filters | None = None,
        *,
        collapse: bool = False,
        facets: Sequence[str] = (),
    ) -> Answer:
        """Search for one query and say for each hit why it is there.

        Args:
            text: what the user typed.
            k: how many hits, from 0.
            filters: as in `search`.
            collapse: as in `search`.
            facets: fields whose values are counted.

        Returns:
            Hits with their evidence, totals, facets, and the time of each stage.

        Raises:
            InputError: as `search`, or an unknown field in `facets`.
        """
        view = self.live.view
        watch = Stopwatch()
        allowed = view.allowed(filters)
        watch.lap("filter")
        search = self._searched(view, text, watch)
        hits = search.best(k, allowed, collapse)
        watch.lap("fuse")
        evidence = self._explain(search, hits)
        watch.lap("explain")
        retrieved = np.sort(search.found.rows)
        totals = Totals(len(view) if allowed is None else int(np.count_nonzero(allowed)), len(retrieved))
        counts = {name: Facet(*view.facet(name, allowed, retrieved)) for name in facets}
        if facets:
            watch.lap("facets")
        return Answer(
            text,
            search.text,
            evidence,
            totals,
            counts,
            {**search.found.skipped, **search.skipped},
            watch.milliseconds,
            search.ranking.release,
            search.decision,
        )

    def pools(
        self, queries: Sequence[Query], depth: int = DEPTH, behaviour: Behaviour = NO_BEHAVIOUR
    ) -> Iterator[Pool]:
        """Yield what a reranker is trained on, with the very features that it serves with.

        Args:
            queries: texts with ids.
            depth: how many fused candidates.
            behaviour: clicks.

        Yields:
            The pool of each query that has candidates, in the order of the queries.
        """
        view, fusion = self.live.view, self.ranking.fusion
        for query in queries:
            text = view.speller.correct(query.text)
            found = retrieve(view, text, max(depth, DEPTH))
            places, scores = found.fused(fusion)
            top = RankedPlaces(places[:depth], scores[:depth])
            if len(places):
                ids = tuple(found.ids[place] for place in top.places.tolist())
                features = feature_matrix(view, text, found, top, behaviour)
                yield Pool(query.query_id, text, ids, features, top.scores.astype(np.float64))

    def candidates(self, queries: Sequence[Query]) -> dict[str, Run]:
        """Return what `search` fuses, a run for each retriever: the input for choosing a fusion."""
        view = self.live.view
        found = {query.query_id: retrieve(view, view.speller.correct(query.text), DEPTH) for query in queries}
        return {
            name: Run(name, {query_id: candidates.hits(name) for query_id, candidates in found.items()})
            for name in RETRIEVERS
        }

    def retrievers(self) -> dict[str, Retriever]:
        """Return the single retrievers by name, lexical and dense, over the products as they are now."""
        return self.live.view.retrievers()

    def tfidf(self) -> TfidfRetriever:
        """Fit the classical baseline on all passages, which takes time and memory for all of them."""
        view = self.live.view
        with self.live.store.snapshot() as snapshot:
            products = list(snapshot.products())
        cuts = view.index.cutter.cut(products)
        texts = [passage for cut in cuts for passage in cut.passages]
        rows = np.repeat(np.arange(len(cuts)), [len(cut.passages) for cut in cuts])
        return TfidfRetriever(texts, rows, lambda chosen: [products[row].id for row in chosen.tolist()])

    def upsert(self, products: Iterable[Product]) -> Written:
        """Store new and changed products; they are found from the next refresh on.

        Args:
            products: whole records; of several with one id the last counts.

        Returns:
            How many were changed; they are durable.

        Raises:
            StoreError: the store cannot be written.
        """
        return self.live.store.upsert(products)

    def delete(self, product_ids: Iterable[str]) -> Written:
        """Remove products from the store; they are found no more from the next refresh on.

        Args:
            product_ids: unknown ones are counted as unchanged.

        Returns:
            How many were removed; it is durable.

        Raises:
            StoreError: the store cannot be written.
        """
        return self.live.store.delete(product_ids)

    def refresh(self) -> None:
        """Search what the store holds now, by the newest generation and the release in force.

        Searches in flight are not disturbed.

        Raises:
            IndexFormatError: a new generation or release is damaged; the one before is searched on.
            StoreError: the store cannot be read; what was read before is searched on.
        """
        self.live.refresh()
        if self._follows and is_overtaken(self.ranking, self.live.path):
            self.ranking = read_ranking(self.live.path)

    def following(self) -> AbstractContextManager[None]:
        """Refresh in the background while a block runs: every change is found within a second."""
        return self.live.following(self.refresh)

    def close(self) -> None:
        """Close the store and drop what this process made of its changes."""
        self.live.close()
        self.live.store.close()

    def _searched(self, view: View, text: str, watch: Stopwatch | None = None) -> "_Search":
        corrected = view.speller.correct(text)
        search = _Search(view, corrected, self.ranking, self.texts, watch or Stopwatch())
        search.watch.lap("read")
        return search

    def _explain(self, search: "_Search", hits: RankedPlaces) -> tuple[Evidence, ...]:
        """Attach products and reasons; what was deleted a moment ago has no record, and is no hit."""
        found = search.found
        ranks = {
            name: {place: (rank, score) for rank, (place, score) in enumerate(_pairs(ranked), start=1)}
            for name, ranked in found.lists.items()
        }
        products = self.live.store.products([found.ids[place] for place in hits.places.tolist()])
        evidence: list[Evidence] = []
        for place, score in _pairs(hits):
            if product := products.get(found.ids[place]):
                where = {name: Place(*known[place]) for name, known in ranks.items() if place in known}
                matched, known = matched_terms(search.text, product), place in found.identified
                chance = search.chances.get(place)
                evidence.append(Evidence(product, len(evidence) + 1, score, where, matched, known, chance))
        return tuple(evidence)


def _pairs(ranked: RankedPlaces) -> Iterator[tuple[int, float]]:
    return zip(ranked.places.tolist(), ranked.scores.tolist(), strict=True)


class _Search:
    """One query on its way through a view."""

    def __init__(self, view: View, text: str, ranking: Ranking, texts: Texts, watch: Stopwatch) -> None:
        self.view, self.text, self.ranking, self.texts, self.watch = view, text, ranking, texts, watch
        self.found = NOTHING
        self.chances: Mapping[int, float] = {}  # that the product at a place is relevant
        self.skipped: Mapping[str, str] = {}
        self.decision: Decision | None = None

    def hits(self, k: int, allowed: Allowed | None, collapse: bool) -> tuple[Hit, ...]:
        """Return the best `k` with their ids."""
        best = self.best(k, allowed, collapse)
        return tuple(Hit(self.found.ids[place], score) for place, score in _pairs(best))

    def best(self, k: int, allowed: Allowed | None, collapse: bool) -> RankedPlaces:
        """Return the best `k`; where variants collapse, look deeper until there are as many groups."""
        reranker = self.ranking.reranker
        depth = max(k, DEPTH, reranker.depth if reranker else 0)
        while True:
            self.found = self._retrieved(depth, allowed) if k > 0 else NOTHING
            best = self._ordered()
            if collapse:
                best = self._collapsed(best)
            if not collapse or len(best.places) >= k or self.found.whole:
                best = self._refined(best)
                return RankedPlaces(best.places[: max(k, 0)], best.scores[: max(k, 0)])
            depth *= 4

    def _ordered(self) -> RankedPlaces:
        fused = self.found.fused(self.ranking.fusion)
        self.watch.lap("fuse")
        if self.ranking.reranker is None:
            return fused
        ranked, chances, self.decision = self.ranking.reranker.rerank(self.view, self.text, self.found, fused)
        if chances is not None:
            self.chances = dict(zip(ranked.places.tolist(), chances.tolist(), strict=False))
        self.watch.lap("rerank")
        return ranked

    def _refined(self, best: RankedPlaces) -> RankedPlaces:
        """Let a second stage order the first hits, once a query."""
        if self.ranking.reranker is None:
            return best
        ranked, self.skipped = self.ranking.reranker.refine(self.text, self.found, best, self.texts)
        self.watch.lap("rerank")
        return ranked

    def _retrieved(self, depth: int, allowed: Allowed | None) -> Candidates:
        return retrieve(self.view, self.text, depth, allowed, self.watch)

    def _collapsed(self, best: RankedPlaces) -> RankedPlaces:
        """Keep the first of each group of variants, and all products that belong to none."""
        groups = np.array(self.view.groups(self.found.rows[best.places]), object)
        first = np.zeros(len(groups), bool)
        first[np.unique(groups.astype(str), return_index=True)[1]] = True
        kept = first | (groups == "")
        return RankedPlaces(best.places[kept], best.scores[kept])


def open_index(path: str | os.PathLike[str], *, store: str | None = None, threads: int = 1) -> Pipeline:
    """Open an index folder for searching, caught up with its store; imports neither torch nor transformers.

    Args:
        path: the folder that `tilth index --into` wrote.
        store: URL of the store that it was built from; without it, the SQLite file in the folder.
        threads: how many a single query's encoding may use.

    Returns:
        The pipeline.

    Raises:
        IndexFormatError: no index is there, or it is damaged, foreign, of another version or another store.
        StoreError: the store is not there or cannot be read.
    """
    folder = Path(path)
    index = Index.open(folder, threads=threads)
    return Pipeline(LiveIndex(folder, index, open_store(folder, store, create=False), threads=threads))
