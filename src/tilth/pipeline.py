"""From a query to explained hits: retrieve lexically and densely, fuse, rerank; itself a `Retriever`.

The index follows its store: see `tilth.retrieval.live`.
"""

import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tilth.catalog import Product
from tilth.one_search import DEPTH, OneSearch, pairs
from tilth.protocols import Retriever
from tilth.query import Query, as_queries
from tilth.ranking import Ranking, is_overtaken, plain_ranking, read_ranking
from tilth.reranking.answerability import Decision
from tilth.reranking.behaviour import NO_BEHAVIOUR, Behaviour
from tilth.reranking.cross_encoder_texts import ProductTexts
from tilth.reranking.features import feature_matrix
from tilth.reranking.training import Features
from tilth.retrieval.candidates import Candidates, retrieve
from tilth.retrieval.deadline import FINISH, Costs, Deadline
from tilth.retrieval.filters import Filters
from tilth.retrieval.fusion import RankedPlaces
from tilth.retrieval.index import Index, open_store
from tilth.retrieval.lexical import matched_terms
from tilth.retrieval.live import LiveIndex
from tilth.retrieval.stopwatch import Stopwatch
from tilth.retrieval.tfidf import TfidfRetriever
from tilth.retrieval.view import View
from tilth.run import Run
from tilth.store import Written


@dataclass(frozen=True, slots=True)
class Place:
    """Where a retriever put a product: its rank, from 1, and its score; see `Candidates.seen_by`."""

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
    depth: int = DEPTH  # candidates that were asked of each retriever


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
        self._fused = live.view.lists, live.view.index.default_fusion  # that the ranking was read for
        self.ranking = ranking or read_ranking(live.path, live.view.index.default_fusion)
        self.texts = ProductTexts(live)
        self._costs = Costs()

    def __len__(self) -> int:
        """Return the number of products."""
        return len(self.live.view)

    @property
    def index(self) -> Index:
        """The current generation."""
        return self.live.view.index

    @property
    def lists(self) -> tuple[str, ...]:
        """The names of the ranked lists that are fused, and of the retrievers that they come from."""
        return self.live.view.lists

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
        deadline_ms: float = math.inf,
        offset: int = 0,
        depth: int = DEPTH,
        explain: bool = True,
    ) -> Answer:
        """Search for one query and say for each hit why it is there.

        Args:
            text: what the user typed.
            k: how many hits, from 0.
            filters: as in `search`.
            collapse: as in `search`.
            facets: fields whose values are counted.
            deadline_ms: milliseconds that the search may take; stages that no longer fit into them are left
                out, the least valuable first (cross-encoder, reranker, dense, own), and named in `skipped`.
                What is found lexically always comes.
            offset: how many of the first hits to leave out, those of earlier pages.
            depth: candidates asked of each retriever, at least; the same number on all pages, so that they
                are of one order.
            explain: find the terms that each hit matches, which takes as long as all else that is said of it;
                otherwise `matched` is empty.

        Returns:
            Hits with their evidence, totals, facets, and the time of each stage.

        Raises:
            InputError: as `search`, or an unknown field in `facets`.
        """
        view = self.live.view
        watch = Stopwatch()
        allowed = view.allowed(filters)
        watch.lap("filter")
        search = self._searched(view, text, watch, Deadline(deadline_ms, self._costs))
        hits = search.best(offset + k if k > 0 else 0, allowed, collapse, depth)
        watch.lap("fuse")
        with search.deadline.timed(FINISH):
            evidence = self._explain(search, hits, offset, explain)
        watch.lap("explain")
        retrieved = search.retrieved
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
            search.skipped,
            watch.milliseconds,
            search.ranking.release,
            search.decision,
            search.depth,
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
            text, typed = view.speller.read(query.text)
            found = retrieve(view, text, max(depth, DEPTH), typed=typed)
            places, scores = found.fused(fusion)
            top = RankedPlaces(places[:depth], scores[:depth])
            if len(places):
                ids = tuple(found.ids[place] for place in top.places.tolist())
                features = feature_matrix(view, text, found, top, behaviour)
                yield Pool(query.query_id, text, ids, features, top.scores.astype(np.float64))

    def candidates(self, queries: Sequence[Query]) -> dict[str, Candidates]:
        """Return what `search` fuses, by query_id: the input for choosing a fusion."""
        view = self.live.view
        read = {query.query_id: view.speller.read(query.text) for query in queries}
        return {
            query_id: retrieve(view, corrected, DEPTH, typed=typed)
            for query_id, (corrected, typed) in read.items()
        }

    def found(self, queries: Sequence[Query]) -> dict[str, Run]:
        """Return what each retriever finds for `search`, a run each; those left out have no hits."""
        candidates = self.candidates(queries)
        return {
            name: Run(name, {query_id: of_query.hits(name) for query_id, of_query in candidates.items()})
            for name in self.live.view.lists
        }

    def facets(self, names: Sequence[str], filters: Filters | None = None) -> dict[str, dict[str, Any]]:
        """Count the values of fields among the products that filters allow.

        Args:
            names: fields or attributes.
            filters: as in `search`.

        Returns:
            A value's count by value, the most frequent first; for numbers, count, min and max.

        Raises:
            InputError: as `search`, or an unknown field in `names`.
        """
        view = self.live.view
        allowed = view.allowed(filters)
        return {name: view.facet(name, allowed, np.empty(0, np.int64))[0] for name in names}

    def retrievers(self) -> dict[str, Retriever]:
        """Return the single retrievers by name, one a list, over the products as they are now."""
        return self.live.view.retrievers()

    def plain(self) -> "Pipeline":
        """Return what searches the same index by the fusion alone, whatever release is in force."""
        return Pipeline(self.live, plain_ranking(self.live.path, self.index.default_fusion))

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
        view = self.live.refresh()
        fused = view.lists, view.index.default_fusion
        if self._follows and (fused != self._fused or is_overtaken(self.ranking, self.live.path)):
            self.ranking = read_ranking(self.live.path, view.index.default_fusion)
            self._fused = fused

    def following(self) -> AbstractContextManager[None]:
        """Refresh in the background while a block runs: every change is found within a second."""
        return self.live.following(self.refresh)

    def close(self) -> None:
        """Close the store and drop what this process made of its changes."""
        self.live.close()
        self.live.store.close()

    def _searched(
        self, view: View, text: str, watch: Stopwatch | None = None, deadline: Deadline | None = None
    ) -> OneSearch:
        corrected, typed = view.speller.read(text)
        search = OneSearch(view, corrected, self.ranking, self.texts, watch, deadline, typed=typed)
        search.watch.lap("read")
        return search

    def _explain(
        self, search: OneSearch, best: RankedPlaces, offset: int, terms: bool
    ) -> tuple[Evidence, ...]:
        """Attach products and reasons; what was deleted a moment ago has no record, and is no hit."""
        hits = RankedPlaces(best.places[offset:], best.scores[offset:])
        found = search.found
        lists = found.seen_by(search.ranking.fusion)
        ranks = {name: _places(ranked, hits) for name, ranked in lists.items()}
        products = self.live.store.products([found.ids[place] for place in hits.places.tolist()])
        evidence: list[Evidence] = []
        for place, score in pairs(hits):
            if product := products.get(found.ids[place]):
                where = {name: known[place] for name, known in ranks.items() if place in known}
                matched = matched_terms(search.text, product) if terms else {}
                known = place in found.identified
                chance = search.chances.get(product.id)
                rank = offset + len(evidence) + 1
                evidence.append(Evidence(product, rank, score, where, matched, known, chance))
        return tuple(evidence)


def _places(ranked: RankedPlaces, hits: RankedPlaces) -> dict[int, Place]:
    """Return where a retriever put those hits that it found."""
    found = np.flatnonzero(np.isin(ranked.places, hits.places))
    scores = zip(ranked.places[found].tolist(), found.tolist(), ranked.scores[found].tolist(), strict=True)
    return {place: Place(number + 1, score) for place, number, score in scores}


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
