"""From a query to explained hits: retrieve lexically and densely, fuse; itself a `Retriever`.

The index follows its store: see `tilth.retrieval.live`.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tilth.catalog import Product
from tilth.protocols import Allowed, Retriever, Rows
from tilth.query import Query, as_queries
from tilth.retrieval.filters import Filters
from tilth.retrieval.fusion import NO_PLACES, Fusion, RankedPlaces, fuse_places
from tilth.retrieval.index import Index, open_store, read_fusion
from tilth.retrieval.lexical import matched_terms
from tilth.retrieval.live import LiveIndex
from tilth.retrieval.rows import NO_HITS, RowHits
from tilth.retrieval.stopwatch import Stopwatch
from tilth.retrieval.tfidf import TfidfRetriever
from tilth.retrieval.view import View
from tilth.run import Hit, Run
from tilth.store import Written

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
    """What the retrievers found for one query: a list each, over the products of all lists.

    `whole`: each retriever was asked for more than it has, so that no depth would find others. `identified`
    are the products whose identifier is the query itself; `skipped` says which retriever was not asked, and
    why.
    """

    ids: Sequence[str]  # of all products found, ascending: their numbers are the places in the lists
    rows: Rows  # of each
    lists: Mapping[str, RankedPlaces]
    identified: frozenset[int] = frozenset()
    skipped: Mapping[str, str] = field(default_factory=dict)
    whole: bool = True

    def hits(self, name: str) -> tuple[Hit, ...]:
        """Return what one retriever found, by its name."""
        places, scores = self.lists[name]
        return tuple(Hit(self.ids[n], s) for n, s in zip(places.tolist(), scores.tolist(), strict=True))


_NOTHING = Candidates((), np.empty(0, np.int64), dict.fromkeys(RETRIEVERS, NO_PLACES))


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
    which retriever was not asked, and why.
    """

    query: str
    read_as: str
    hits: tuple[Evidence, ...]
    totals: Totals
    facets: Mapping[str, Facet]
    skipped: Mapping[str, str]
    milliseconds: Mapping[str, float]


class Pipeline:
    """A live index with its retrievers and their fusion; safe to share between threads."""

    name = "hybrid"

    def __init__(self, live: LiveIndex, fusion: Fusion | None = None) -> None:
        self.live = live
        self.fusion = fusion or read_fusion(live.path)

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
        evidence = self._explain(search.text, hits, search.found)
        watch.lap("explain")
        retrieved = np.sort(search.found.rows)
        totals = Totals(len(view) if allowed is None else int(np.count_nonzero(allowed)), len(retrieved))
        counts = {name: Facet(*view.facet(name, allowed, retrieved)) for name in facets}
        if facets:
            watch.lap("facets")
        return Answer(text, search.text, evidence, totals, counts, search.found.skipped, watch.milliseconds)

    def candidates(self, queries: Sequence[Query]) -> dict[str, Run]:
        """Return what `search` fuses, a run for each retriever: the input for choosing a fusion."""
        view = self.live.view
        found = {query.query_id: self._searched(view, query.text).retrieve(DEPTH) for query in queries}
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
        """Search what the store holds now, and the newest generation; searches in flight are not disturbed.

        Raises:
            IndexFormatError: a new generation is damaged; the one before is searched on.
            StoreError: the store cannot be read; what was read before is searched on.
        """
        self.live.refresh()

    def following(self) -> AbstractContextManager[None]:
        """Refresh in the background while a block runs: every change is found within a second."""
        return self.live.following()

    def close(self) -> None:
        """Close the store and drop what this process made of its changes."""
        self.live.close()
        self.live.store.close()

    def _searched(self, view: View, text: str, watch: Stopwatch | None = None) -> "_Search":
        search = _Search(view, view.speller.correct(text), self.fusion, watch or Stopwatch())
        search.watch.lap("read")
        return search

    def _explain(self, text: str, hits: RankedPlaces, found: Candidates) -> tuple[Evidence, ...]:
        """Attach products and reasons; what was deleted a moment ago has no record, and is no hit."""
        ranks = {
            name: {place: (rank, score) for rank, (place, score) in enumerate(_pairs(ranked), start=1)}
            for name, ranked in found.lists.items()
        }
        products = self.live.store.products([found.ids[place] for place in hits.places.tolist()])
        evidence: list[Evidence] = []
        for place, score in _pairs(hits):
            if product := products.get(found.ids[place]):
                where = {name: Place(*known[place]) for name, known in ranks.items() if place in known}
                matched, known = matched_terms(text, product), place in found.identified
                evidence.append(Evidence(product, len(evidence) + 1, score, where, matched, known))
        return tuple(evidence)


def _pairs(ranked: RankedPlaces) -> Iterator[tuple[int, float]]:
    return zip(ranked.places.tolist(), ranked.scores.tolist(), strict=True)


class _Search:
    """One query on its way through a view."""

    def __init__(self, view: View, text: str, fusion: Fusion, watch: Stopwatch) -> None:
        self.view, self.text, self.fusion, self.watch = view, text, fusion, watch
        self.found = _NOTHING

    def hits(self, k: int, allowed: Allowed | None, collapse: bool) -> tuple[Hit, ...]:
        """Return the best `k` with their ids."""
        best = self.best(k, allowed, collapse)
        return tuple(Hit(self.found.ids[place], score) for place, score in _pairs(best))

    def best(self, k: int, allowed: Allowed | None, collapse: bool) -> RankedPlaces:
        """Return the best `k`; where variants collapse, look deeper until there are as many groups."""
        depth = max(k, DEPTH)
        while True:
            self.found = self.retrieve(depth, allowed) if k > 0 else _NOTHING
            best = self._fuse()
            if collapse:
                best = self._collapsed(best)
            if not collapse or len(best.places) >= k or self.found.whole:
                return RankedPlaces(best.places[: max(k, 0)], best.scores[: max(k, 0)])
            depth *= 4

    def _fuse(self) -> RankedPlaces:
        """Fuse the lists; products whose identifier was typed come first, in a tier of their own."""
        found = self.found
        best, scores = fuse_places(list(found.lists.values()), len(found.ids), self.fusion)
        known = np.isin(best, list(found.identified))
        if known.any():
            scores = np.where(known, scores + 1 + scores[0] - scores[-1], scores)
            order = np.lexsort((best, -scores))
            best, scores = best[order], scores[order]
        return RankedPlaces(best, scores)

    def _collapsed(self, best: RankedPlaces) -> RankedPlaces:
        """Keep the first of each group of variants, and all products that belong to none."""
        groups = np.array(self.view.groups(self.found.rows[best.places]), object)
        first = np.zeros(len(groups), bool)
        first[np.unique(groups.astype(str), return_index=True)[1]] = True
        kept = first | (groups == "")
        return RankedPlaces(best.places[kept], best.scores[kept])

    def retrieve(self, depth: int, allowed: Allowed | None = None) -> Candidates:
        """Return each retriever's candidates, booking its time."""
        view, text = self.view, self.text
        if not text.strip():
            return _NOTHING
        lexical = view.lexical.search_rows(text, depth, allowed)
        self.watch.lap("lexical")
        skipped = {} if view.index.encodes(text) else {"dense": _UNKNOWN_WORDS}
        dense = NO_HITS if skipped else self._dense(depth, allowed)
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
                for name, hits in (("lexical", lexical), ("dense", dense))
            },
            frozenset(places[known].tolist()),
            skipped,
            len(lexical.rows) < depth and len(dense.rows) < depth,
        )

    def _dense(self, depth: int, allowed: Allowed | None) -> RowHits:
        vector = self.view.index.encoder.encode_queries([self.text])[0]
        self.watch.lap("encode")
        hits = self.view.dense.search_rows(vector, depth, allowed)
        self.watch.lap("dense")
        return hits


def _ranked(places: npt.NDArray[np.intp], hits: RowHits, depth: int) -> RankedPlaces:
    """Order hits by (-score, place) and cut them."""
    order = np.lexsort((places, -hits.scores))[:depth]
    return RankedPlaces(places[order], hits.scores[order])


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
