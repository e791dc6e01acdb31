"""Routes that read: search, context, facets, fields, products, tools, and answers of a language model."""

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from tilth.catalog import product_to_json
from tilth.errors import TilthError
from tilth.pipeline import Answer
from tilth.serve.answers import answer_to_json, context_to_json
from tilth.serve.ask import Asking, Event
from tilth.serve.http.doors import JsonRoute, doors_of, json_response, needs
from tilth.serve.http.models import (
    AskBody,
    ContextAnswer,
    ContextBody,
    FacetsAnswer,
    FacetsBody,
    FieldsAnswer,
    ProductAnswer,
    SearchAnswer,
    SearchBody,
    ToolsAnswer,
)
from tilth.serve.http.problems import problem_of, request_id_of
from tilth.serve.requests import ContextRequest, Found, SearchRequest
from tilth.serve.service import NotFoundError
from tilth.serve.telemetry import Telemetry
from tilth.serve.tools import openai_functions

router = APIRouter(route_class=JsonRoute)
_SEARCH = [needs("search")]
_EVENTS = "The events context, token, citations and done, or error"
_LINE_ENDS = {  # to some who read lines, though not to the standard; in JSON they stand in strings alone
    each.encode(): f"\\u{ord(each):04x}".encode() for each in "\x85\u2028\u2029"
}
_READING = 10.0  # seconds beyond the longest answer, in which a slow client may read it to the end


@router.post("/v1/search", dependencies=_SEARCH, responses={200: {"model": SearchAnswer}}, tags=["search"])
async def search(body: SearchBody, request: Request) -> Response:
    """Find products: lexically and by meaning, fused, reranked, a page at a time."""
    doors = doors_of(request)
    asked = body.model_dump(exclude={"deadline_ms"})
    found = await doors.search(
        lambda left: doors.service.search(SearchRequest(**asked, deadline_ms=left)), body.deadline_ms
    )
    _note(request, body.query, found.answer, found.answer.milliseconds)
    return json_response(found_to_json(found, explain=body.explain))


def found_to_json(found: Found, *, explain: bool) -> dict[str, Any]:
    """Return a page of hits as plain data."""
    return {
        "impression_id": found.impression_id,
        "arm": found.arm,
        **answer_to_json(found.answer, explain=explain),
        "cursor": found.cursor,
    }


def _note(request: Request, query: str, answer: Answer, milliseconds: Mapping[str, float]) -> None:
    """Measure an answer, and let the log have the query, where the settings say so."""
    telemetry = request.app.state.telemetry
    assert isinstance(telemetry, Telemetry)
    telemetry.answer(answer, milliseconds)
    request.scope["tilth.stages"] = milliseconds
    request.scope["tilth.stages_ended"] = time.time_ns()
    if doors_of(request).settings.logging.queries:
        request.scope["tilth.logged"] = {"query": query}


@router.post("/v1/context", dependencies=_SEARCH, responses={200: {"model": ContextAnswer}}, tags=["search"])
async def context(body: ContextBody, request: Request) -> Response:
    """Write what a language model answers from: passages to cite, under a budget of tokens."""
    doors = doors_of(request)
    asked = body.model_dump(exclude={"deadline_ms"})
    found = await doors.search(
        lambda left: doors.service.context(ContextRequest(**asked, deadline_ms=left)), body.deadline_ms
    )
    _note(request, body.query, found.answer, found.milliseconds)
    return json_response(
        {
            "impression_id": found.impression_id,
            **context_to_json(found.context),
            "skipped": dict(found.answer.skipped),
            "milliseconds": dict(found.milliseconds),
        }
    )


@router.post(
    "/v1/ask",
    dependencies=_SEARCH,
    responses={200: {"content": {"text/event-stream": {}}, "description": _EVENTS}},
    tags=["search"],
)
async def ask(body: AskBody, request: Request) -> Response:
    """Let the language model of the settings answer from the context, streamed, its citations checked."""
    doors = doors_of(request)
    asking: Asking = request.app.state.asking
    asked = body.model_dump(exclude={"history", "budget_tokens"})
    usual = min(doors.settings.ask.budget_tokens, doors.settings.context.max_budget_tokens)
    budget = body.budget_tokens or usual
    asking.check()
    found = await doors.search(
        lambda left: doors.service.context(
            ContextRequest(**asked, budget_tokens=budget, kind="ask", deadline_ms=left)
        ),
        None,
    )
    _note(request, body.query, found.answer, found.milliseconds)
    events = asking.answer(found, [turn.model_dump() for turn in body.history])
    return _Events(_lines(events, request), asking.longest_seconds + _READING)


class _Events(StreamingResponse):
    """A stream of events; whoever leaves, or does not read them in time, ends what makes them."""

    def __init__(self, lines: AsyncGenerator[bytes], seconds: float) -> None:
        unbuffered = {"X-Accel-Buffering": "no"}  # by a proxy, which would hold them back
        super().__init__(lines, headers=unbuffered, media_type="text/event-stream")
        self._lines, self._seconds = lines, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""
        async with aclosing(self._lines):
            with suppress(TimeoutError):
                async with asyncio.timeout(self._seconds):
                    await super().__call__(scope, receive, send)


async def _lines(events: AsyncGenerator[Event], request: Request) -> AsyncGenerator[bytes]:
    """Yield events as the lines of a stream; one that fails ends with the event `error`."""
    try:
        async with aclosing(events):
            async for event in events:
                yield _line(event.name, orjson.dumps(event.data))
    except TilthError as error:
        yield _line("error", bytes(problem_of(error, request_id_of(request)).body))


def _line(name: str, data: bytes) -> bytes:
    for character, escaped in _LINE_ENDS.items():
        data = data.replace(character, escaped)
    return b"event: %s\ndata: %s\n\n" % (name.encode(), data)


@router.post("/v1/facets", dependencies=_SEARCH, responses={200: {"model": FacetsAnswer}}, tags=["search"])
async def facets(body: FacetsBody, request: Request) -> Response:
    """Count the values of fields among the products that filters allow."""
    doors = doors_of(request)
    counts = await doors.search(lambda _: doors.service.facets(body.fields, body.filters), None)
    return json_response({"facets": counts})


@router.get("/v1/fields", dependencies=_SEARCH, responses={200: {"model": FieldsAnswer}}, tags=["search"])
async def fields(request: Request) -> Response:
    """List what can be filtered by, with the JSON Schema of filters."""
    service = doors_of(request).service
    described = await doors_of(request).aside(
        lambda: {"fields": service.fields(), "filter_schema": service.filter_schema()}
    )
    return json_response(described)


@router.get(
    "/v1/products/{product_id:path}",
    dependencies=_SEARCH,
    responses={200: {"model": ProductAnswer}},
    tags=["catalogue"],
)
async def product(product_id: Annotated[str, Path(max_length=1000)], request: Request) -> Response:
    """Return a product as the store has it now."""
    doors = doors_of(request)
    found = await doors.quick(lambda: doors.service.products([product_id]))
    if product_id not in found:
        raise NotFoundError("there is no such product", field="product_id", value=product_id)
    return json_response(product_to_json(found[product_id]))


@router.get("/v1/tools", dependencies=_SEARCH, responses={200: {"model": ToolsAnswer}}, tags=["search"])
async def tools(request: Request) -> Response:
    """Return the tools of a language model, as OpenAI's function calling has them."""
    doors = doors_of(request)
    return json_response({"openai": await doors.aside(lambda: openai_functions(doors.service))})
