"""The use cases of the service; HTTP and MCP are doors to it. Threads share one.

What is served is kept as an impression before the answer leaves: see `tilth.serve.spool`.
"""

import logging
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import numpy as np

from tilth.catalog import Product
from tilth.context import Form, context_of
from tilth.errors import InputError, StoreError, TilthError
from tilth.feedback_log import Appended
from tilth.interactions import Interaction, Served
from tilth.pipeline import Answer, Facet, Pipeline
from tilth.ranking import ranking_of
from tilth.releases import HYBRID, open_release
from tilth.retrieval.facets import json_schema
from tilth.retrieval.filters import Filters
from tilth.serve.paging import FIRST, Page, digest_of, read_cursor, write_cursor
from tilth.serve.requests import (
    LONGEST_FIELD,
    LONGEST_NAME,
    ContextFound,
    ContextRequest,
    Found,
    SearchRequest,
    check_filters,
    check_range,
    check_text,
)
from tilth.serve.settings import Settings
from tilth.serve.spool import Spool
from tilth.store import Written

LONGEST_DEADLINE = 3_000.0  # ms; nobody waits longer for an answer
MOST_VALUES = 1_000  # of a facet
LONGEST_ID = 1_000  # characters of a product's
_WARM_UP = 3  # searches
_WARM_TITLES = 100  # one of which is asked
NOT_SERVING = ("has not started", "is shutting down")  # faults that are none
_RANKINGS_KEPT = 4  # of releases that are not in force, opened for comparison
_FIELDS_SECONDS = 60.0  # that a description of the fields serves, though products have changed

_log = logging.getLogger(__name__)


class NotFoundError(InputError):
    """What was named is not there."""


class Service:
    """An index that is searched, followed and logged."""

    def __init__(self, pipeline: Pipeline, settings: Settings, spool: Spool | None = None) -> None:
        """Take an opened index.

        Args:
            pipeline: the index; it is followed from `start` on, and closed by `close`.
            settings: limits and defaults.
            spool: keeps impressions and interactions; None: nothing is logged, and feedback is refused.
        """
        self.pipeline, self.settings, self.spool = pipeline, settings, spool
        self.store = pipeline.live.store
        self._compared: OrderedDict[tuple[str, ...], Pipeline] = OrderedDict()
        self._lock = threading.Lock()
        self._fields = _Fields(pipeline)
        self._following = ExitStack()
        self._fault: str | None = NOT_SERVING[0]

    # --- life -------------------------------------------------------------------------------------

    def start(self) -> None:
        """Follow the store and the releases from now on; the first searches, which take longest, are made."""
        self._warm_up()
        self._fault = None
        self._following.enter_context(self.pipeline.live.following(self._refresh))

    def _warm_up(self) -> None:
        cold = Pipeline(self.pipeline.live, self.pipeline.ranking)  # its times are no measure of later ones
        for title in self._known_titles()[:1]:
            for pipeline in (*[cold] * _WARM_UP, self.pipeline):
                pipeline.answer(title)

    def _known_titles(self) -> list[str]:
        """Return some titles, those first that every encoder knows."""
        view = self.pipeline.live.view
        products = self.store.products(view.ids(np.arange(min(_WARM_TITLES, view.rows)))).values()
        legs = view.index.legs.values()
        return sorted(
            (product.title for product in products),
            key=lambda title: not all(leg.knows(title) for leg in legs),
        )

    def _refresh(self) -> None:
        try:
            self.pipeline.refresh()
        except TilthError as error:
            self._fault = str(error)
            raise
        except Exception:
            self._fault = "failed in an unforeseen way"
            raise
        self._fault = None

    def close(self) -> None:
        """Write what is waiting, and let go of the index; requests must have ended."""
        self._fault = NOT_SERVING[1]
        self._following.close()
        if self.spool is not None:
            self.spool.close()
        self.pipeline.close()

    def health(self) -> dict[str, Any]:
        """Return whether searches can be answered, and how far behind the store they are.

        Returns:
            `ready`; `products`; `generation` and `release` in force; `sequence` of the last change that
            searches see, and how many numbers `behind` the store they are; `fault`, the last one of following
            or of the store, or None.
        """
        view, fault = self.pipeline.live.view, self._fault
        behind = None
        try:
            behind = self.store.last_sequence() - view.sequence
        except StoreError as error:
            fault = str(error)
        return {
            "ready": behind is not None and self._fault not in NOT_SERVING,
            "products": len(view),
            "generation": view.index.generation.number,
            "release": self.pipeline.ranking.release,
            "sequence": view.sequence,
            "behind": behind,
            "fault": fault,
        }

    # --- searching --------------------------------------------------------------------------------

    def search(self, request: SearchRequest) -> Found:
        """Find products, a page at a time.

        Args:
            request: what is asked for.

        Returns:
            The page.

        Raises:
            InputError: a value is outside its limits, a filter or facet names an unknown field, the cursor
                is of another search, or there is no such release.
            StoreError: the store cannot be read.
        """
        settings = self.settings
        self._check(request)
        check_range(request.k, 0, settings.search.max_k, "k")
        self._check_fields(request.facets, "facets")
        digest = digest_of(request)
        page = FIRST if request.cursor is None else read_cursor(request.cursor, digest)
        check_range(page.depth, 0, settings.search.max_results, "cursor")  # a higher one was made by hand
        page = replace(page, depth=max(page.depth, settings.search.max_results))
        check_range(page.offset, 0, settings.search.max_results, "cursor")
        pipeline = self._ranked(request.release if request.cursor is None else page.release)
        k = min(request.k, settings.search.max_results - page.offset)
        answer = pipeline.answer(
            request.query,
            k,
            request.filters,
            collapse=request.collapse,
            facets=request.facets,
            deadline_ms=self._deadline(request.deadline_ms),
            offset=page.offset,
            depth=page.depth,
            explain=request.explain,
        )
        answer = replace(answer, facets={name: _cut(facet) for name, facet in answer.facets.items()})
        impression_id = self._keep(request, answer, page.offset + 1) if request.log else _new_id()
        cursor = self._next(page, answer, k, request.collapse, digest)
        return Found(impression_id, answer, page.offset + 1, cursor, request.arm)

    def _next(self, page: Page, answer: Answer, k: int, collapse: bool, digest: str) -> str | None:
        offset, shown = page.offset + k, len(answer.hits)
        there = page.offset + shown if collapse and shown < k else answer.totals.retrieved
        if not shown or offset >= min(there, self.settings.search.max_results):
            return None
        return write_cursor(Page(offset, page.depth, answer.release or HYBRID), digest)

    def context(self, request: ContextRequest) -> ContextFound:
        """Write what a language model answers from.

        Args:
            request: what is asked for.

        Returns:
            The context, with facts of this moment.

        Raises:
            InputError: as `search`.
            SettingError: there is no such template, or the budget is too small for any product.
            StoreError: the store cannot be read.
        """
        settings = self.settings.context
        self._check(request)
        budget = settings.budget_tokens if request.budget_tokens is None else request.budget_tokens
        k = settings.k if request.k is None else request.k
        check_range(budget, 1, settings.max_budget_tokens, "budget_tokens")
        check_range(k, 1, self.settings.search.max_k, "k")
        check_range(request.passages_per_product, 1, 10, "passages_per_product")
        form = Form(budget, request.passages_per_product, request.template, settings.tokenizer)
        pipeline = self._ranked(request.release)
        deadline = self._deadline(request.deadline_ms)
        answer = pipeline.answer(request.query, k, request.filters, deadline_ms=deadline, explain=False)
        start = time.perf_counter()
        context = context_of(answer, pipeline.index, form)
        spent = {**answer.milliseconds, "context": round((time.perf_counter() - start) * 1000, 3)}
        shown = tuple(source.offer.product_id for source in context.sources)
        return ContextFound(self._keep(request, answer, 1, shown, spent), context, answer, spent)

    def _check(self, request: SearchRequest | ContextRequest) -> None:
        check_text(request.query, self.settings.search.max_query_chars, "query")
        for name in ("arm", "client_id", "kind"):
            check_text(getattr(request, name), LONGEST_NAME, name)
        check_filters(request.filters, self.settings.limits)

    def _check_fields(self, names: Sequence[str], field: str) -> None:
        if len(names) > self.settings.search.max_facets:
            raise InputError(f"has more than {self.settings.search.max_facets} names", field=field)
        for name in names:
            check_text(name, LONGEST_FIELD, field)

    def _deadline(self, asked: float | None) -> float:
        if asked is None:
            return self.settings.search.deadline_ms
        check_range(asked, 0, LONGEST_DEADLINE, "deadline_ms")
        return asked

    def _ranked(self, release: str | None) -> Pipeline:
        """Return what searches with a release: the one in force, or one that is opened for comparison."""
        if release is None or release == (self.pipeline.ranking.release or HYBRID):
            return self.pipeline
        with self._lock:
            key = release, *self.pipeline.lists  # the plain fusion is another where the lists are
            pipeline = self._compared.pop(key, None) or self._opened(release)
            self._compared[key] = pipeline
            while len(self._compared) > _RANKINGS_KEPT:
                self._compared.popitem(last=False)
        return pipeline

    def _opened(self, release: str) -> Pipeline:
        live = self.pipeline.live
        check_text(release, LONGEST_NAME, "release")
        if release == HYBRID:
            return self.pipeline.plain()
        try:
            return Pipeline(live, ranking_of(open_release(live.path, release)))
        except InputError as error:  # names the folder, which is nobody's concern
            raise InputError("there is no such release", field="release", value=release) from error

    def _keep(
        self,
        request: SearchRequest | ContextRequest,
        answer: Answer,
        first_rank: int,
        shown: tuple[str, ...] | None = None,
        milliseconds: Mapping[str, float] | None = None,
    ) -> str:
        """Keep an answer as an impression, and return its id."""
        impression_id = _new_id()
        if self.spool is not None:
            self.spool.keep(
                Served(
                    impression_id=impression_id,
                    query=request.query,
                    product_ids=tuple(hit.product.id for hit in answer.hits) if shown is None else shown,
                    time=datetime.now(UTC),
                    kind=request.kind,
                    first_rank=first_rank,
                    arm=request.arm,
                    release=answer.release or "",
                    answered=answer.decision is None or answer.decision.answered,
                    skipped=tuple(answer.skipped),
                    milliseconds=answer.milliseconds if milliseconds is None else milliseconds,
                    application=self.settings.feedback.application,
                    client_id=request.client_id,
                )
            )
        return impression_id

    # --- the catalogue ----------------------------------------------------------------------------

    def products(self, product_ids: Sequence[str]) -> dict[str, Product]:
        """Return products by id as the store has them now, in the order of the ids; others are absent."""
        if len(product_ids) > self.settings.limits.batch:
            raise InputError(f"at most {self.settings.limits.batch:,} ids at a time", field="ids")
        for product_id in product_ids:
            check_text(product_id, LONGEST_ID, "ids")
        return self.store.products(product_ids)

    def upsert(self, products: Sequence[Product]) -> Written:
        """Store new and changed products; durable when this returns, found within a second."""
        for product in products:
            check_text(product.id, LONGEST_ID, "id")
        return self.pipeline.upsert(products)

    def delete(self, product_ids: Sequence[str]) -> Written:
        """Remove products; durable when this returns, found no more within a second."""
        for product_id in product_ids:
            check_text(product_id, LONGEST_ID, "ids")
        return self.pipeline.delete(product_ids)

    def fields(self) -> dict[str, dict[str, Any]]:
        """Return what can be filtered by: each field's type, unit, products, values and range."""
        return self._fields.described()

    def filter_schema(self) -> dict[str, Any]:
        """Return the JSON Schema of the filters that this catalogue knows."""
        return self._fields.schema()

    def facets(self, names: Sequence[str], filters: Filters | None = None) -> dict[str, dict[str, Any]]:
        """Count the values of fields among the products that filters allow.

        Args:
            names: fields or attributes.
            filters: conditions; None: all products.

        Returns:
            A value's count by value, the most frequent first, at most `MOST_VALUES`; for numbers, count, min
            and max.

        Raises:
            InputError: a field or filter is not known, or there are too many.
        """
        self._check_fields(names, "fields")
        check_filters(filters, self.settings.limits)
        counts = self.pipeline.facets(names, filters)
        return {name: dict(islice(each.items(), MOST_VALUES)) for name, each in counts.items()}

    # --- feedback ---------------------------------------------------------------------------------

    def record(self, interactions: Sequence[Interaction]) -> Future[Appended]:
        """Record what was done with impressions.

        Args:
            interactions: one with an `event_id` that is known already is passed over.

        Returns:
            A future that is resolved once they are durable.

        Raises:
            InputError: feedback is switched off, or there are too many at once.
            SpoolFullError: the database has not taken feedback for long, and no more of it can be kept.
        """
        if self.spool is None:
            raise InputError("feedback is switched off here", remedy="Set feedback.enabled to true")
        if len(interactions) > self.settings.limits.batch:
            raise InputError(f"at most {self.settings.limits.batch:,} events at a time", field="events")
        return self.spool.record(interactions)


def _cut(facet: Facet) -> Facet:
    """Keep the most frequent values, so that no answer is as large as the catalogue."""
    return Facet(*(dict(islice(each.items(), MOST_VALUES)) for each in (facet.allowed, facet.retrieved)))


def _new_id() -> str:
    return secrets.token_hex(16)


class _Fields:
    """What can be filtered by, described anew at most once a minute: it reads every column."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._lock = threading.Lock()
        self._sequence, self._time = -1, 0.0
        self._known: dict[str, dict[str, Any]] = {}

    def described(self) -> dict[str, dict[str, Any]]:
        view = self._pipeline.live.view
        with self._lock:
            old = time.monotonic() - self._time > _FIELDS_SECONDS
            if self._sequence < 0 or (old and view.sequence != self._sequence):
                self._known = view.fields()
                self._sequence, self._time = view.sequence, time.monotonic()
            return self._known

    def schema(self) -> dict[str, Any]:
        return json_schema(self.described())
