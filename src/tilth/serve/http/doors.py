"""What every route goes through: the key, the caller's rate, a place to work in, and a thread to do it."""

import asyncio
import contextvars
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

import orjson
from fastapi import Depends, Request, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from tilth.cores import usable_cores
from tilth.key_log import Key
from tilth.serve.keys import Doorkeeper, ForbiddenError
from tilth.serve.limits import Admission, Rates
from tilth.serve.mcp import SEARCH
from tilth.serve.service import Service

_T = TypeVar("_T")
_WRITERS = 2  # one writes, one is prepared; the store takes one at a time
_ASIDES, _ASKERS = 2, 2
_PATIENCE = 0.5  # of its deadline, what a request waits for a place at most
_BEARER = "bearer "
_MOST_VALUES = 2_000_000  # of one body
_NESTED = 50  # objects and lists a record, of this many records or more
_LEAST_BATCH = 1_000


class Doors:
    """The service behind its limits; for one event loop."""

    def __init__(self, service: Service, doorkeeper: Doorkeeper) -> None:
        """Open.

        Args:
            service: what is asked.
            doorkeeper: knows the keys.
        """
        self.service, self.doorkeeper, self.settings = service, doorkeeper, service.settings
        limits = self.settings.limits
        threads = self.settings.server.threads or usable_cores()
        running = limits.running or threads
        self.searches = Admission(running, limits.waiting)
        self.writes = Admission(_WRITERS, limits.waiting)
        self._rates = Rates(limits.requests_per_minute, limits.burst)
        self._searchers = ThreadPoolExecutor(running, "tilth-search")
        self.asides = Admission(_ASIDES, limits.waiting)
        self._others = ThreadPoolExecutor(_WRITERS + _ASIDES, "tilth-write")
        self._askers = ThreadPoolExecutor(_ASKERS, "tilth-ask")

    def close(self) -> None:
        """Let the threads end."""
        self._searchers.shutdown()
        self._others.shutdown()
        self._askers.shutdown()

    async def admit(self, request: Request, scope: str) -> Key:
        """Let a request in, or raise: the key has the scope, and its owner has not asked too often."""
        token, client = _token_of(request), request.client.host if request.client else ""
        key = self.doorkeeper.recall(token)
        if key is None:
            self._rates.spend(client)  # whoever guesses keys is slowed down, too
            return await self.quick(lambda: self.doorkeeper.admit(token, scope))
        self._rates.spend(key.key_id or client)
        self.doorkeeper.check(key, scope)
        return key

    async def identify(self, scope: Scope) -> None:
        """Raise where a request needs a key and has no valid one, whatever the scopes of the key."""
        with suppress(ForbiddenError):
            await self.admit(Request(scope), "search")

    async def search(self, ask: Callable[[float], _T], deadline_ms: float | None) -> _T:
        """Run a search in a thread, once there is a place.

        Args:
            ask: is given the milliseconds that are left.
            deadline_ms: of the request; None: as the settings say.

        Returns:
            What `ask` returns.

        Raises:
            OverloadedError: there is no place in time.
        """
        whole = self.settings.search.deadline_ms if deadline_ms is None else deadline_ms
        start = time.perf_counter()
        async with self.searches.enter(max(whole, 0) * _PATIENCE / 1000):
            left = whole - (time.perf_counter() - start) * 1000
            return await _in_thread(self._searchers, lambda: ask(max(left, 0.0)))

    async def write(self, work: Callable[[], _T]) -> _T:
        """Run what writes in a thread of its own, one after the other."""
        async with self.writes.enter(self.settings.server.shutdown_seconds):
            return await _in_thread(self._others, work)

    async def aside(self, work: Callable[[], _T]) -> _T:
        """Run what is neither a search nor a write and may take long, such as figures of the whole log."""
        async with self.asides.enter(self.settings.server.shutdown_seconds):
            return await _in_thread(self._others, work)

    async def quick(self, work: Callable[[], _T]) -> _T:
        """Run a short question to the store, which nothing that takes long may hold up."""
        return await _in_thread(self._askers, work)

    async def work(self, kind: str, call: Callable[[], Any]) -> Any:  # noqa: ANN401 - what the call returns
        """Run the call of a tool where its kind belongs: see `tilth.serve.mcp`."""
        return await (self.search(lambda _: call(), None) if kind == SEARCH else self.aside(call))


class McpDoor:
    """The route of the Model Context Protocol: lets a request in, and hands it on."""

    needed = "search"

    def __init__(self, doors: Doors, app: ASGIApp) -> None:
        self._doors, self._app = doors, app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request that has the scope."""
        scope["tilth.key"] = await self._doors.admit(Request(scope), self.needed)
        scope["tilth.route"] = "/mcp"
        await self._app(scope, receive, send)


async def _in_thread(executor: ThreadPoolExecutor, work: Callable[[], _T]) -> _T:
    """Run work in a thread; who is cancelled meanwhile waits for its end, so that its place stays taken."""
    context = contextvars.copy_context()  # the request's id, for logs
    future = asyncio.get_running_loop().run_in_executor(executor, lambda: context.run(work))
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait([future])
        raise


def _token_of(request: Request) -> str | None:
    header = request.headers.get("authorization")
    if header is None:
        return None
    return header[len(_BEARER) :].strip() if header[: len(_BEARER)].lower() == _BEARER else header


def doors_of(request: Request) -> Doors:
    """Return the doors of an application."""
    doors = request.app.state.doors
    assert isinstance(doors, Doors)
    return doors


class Needed:
    """What a route needs; each has one, or is named among `OPEN` in `app`."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def __call__(self, request: Request) -> Key:
        """Admit a request; the key is kept for the log."""
        key = await doors_of(request).admit(request, self.name)
        request.scope["tilth.key"] = key
        return key


def needs(name: str) -> Any:  # noqa: ANN401 - FastAPI's own type for this
    """Return the dependency of a route that needs a scope."""
    return Depends(Needed(name))


def read_json(body: bytes, batch: int) -> Any:  # noqa: ANN401 - anything that JSON holds
    """Parse strict JSON: no NaN, no half characters, and no body that is nothing but brackets or commas.

    Args:
        body: UTF-8.
        batch: the most records that it may hold.

    Returns:
        What it says.

    Raises:
        JSONDecodeError: it is not JSON.
        HTTPException: it would take seconds, and far more memory than the body.
    """
    nested = body.count(b"[") + body.count(b"{")
    if nested > _NESTED * max(batch, _LEAST_BATCH) or body.count(b",") > _MOST_VALUES:
        raise HTTPException(413, "The body has too many values for its size. Send it in parts")
    return orjson.loads(body)


class _JsonRequest(Request):
    """A request whose JSON is strict."""

    async def json(self) -> Any:  # noqa: ANN401 - anything that JSON holds
        if not hasattr(self, "_json"):
            batch = doors_of(self).settings.limits.batch
            self._json = read_json(await self.body(), batch)
        return self._json


class JsonRoute(APIRoute):
    """A route that reads strict JSON."""

    def get_route_handler(self) -> Callable[[Request], Any]:
        """Return the handler, given requests that read JSON strictly."""
        handle = super().get_route_handler()

        async def strict(request: Request) -> Response:
            response: Response = await handle(_JsonRequest(request.scope, request.receive))
            return response

        return strict


def json_response(content: Any, status: int = 200) -> Response:  # noqa: ANN401 - anything that JSON holds
    """Return data as JSON, not checked again against its model: the tests do that."""
    return Response(
        orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY), status, None, "application/json"
    )
