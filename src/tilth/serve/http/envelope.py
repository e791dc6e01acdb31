"""The outermost layer: a request's id, its body within limits, headers of safety, a line of log, measures."""

import asyncio
import logging
import re
import secrets
import time
import zlib
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any

from tilth.errors import TilthError
from tilth.serve.http.problems import PayloadError, problem_of
from tilth.serve.limits import OverloadedError
from tilth.serve.logs import REQUEST_ID
from tilth.serve.settings import Settings
from tilth.serve.telemetry import Telemetry
from tilth.serve.tracing import Tracing

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_BODY_SECONDS = 30.0  # that a body may take to arrive
_BODIES = 16  # of the greatest size, that are in memory at once
_SMALL = 64 << 10  # bytes of a body that is read whoever sends it, and however many there are
_GIVEN_ID = re.compile(rb"[A-Za-z0-9._\-]{1,64}")
_LOOPBACK = re.compile(rb"(localhost|127\.0\.0\.1|\[::1\])(:\d{1,5})?")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
]

_log = logging.getLogger("tilth.access")


class Envelope:
    """An ASGI application around another."""

    def __init__(
        self,
        app: App,
        settings: Settings,
        telemetry: Telemetry,
        local: Callable[[], bool],
        identify: Callable[[Scope], Awaitable[None]],
        tracing: Tracing | None = None,
    ) -> None:
        """Wrap.

        Args:
            app: what answers.
            settings: the limits of bodies.
            telemetry: is told of every request.
            local: tells whether no keys exist, so that only this machine is served.
            identify: raises where a request needs a key and has none: large bodies of such are not read.
            tracing: is told of every request, too.
        """
        self._identify, self._tracing = identify, tracing
        self._app, self._limits, self._telemetry, self._local = app, settings.limits, telemetry, local
        self._held = 0  # bytes of bodies in memory
        self._keyed = False  # keys were created; that is for good

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, send)
        token = REQUEST_ID.set(exchange.request_id)
        try:
            try:
                await self._check_origin(scope)
                body = await self._body(exchange, receive)
                await self._app(scope, _whole(body, receive), exchange.send)
            except TilthError as error:
                await problem_of(error, exchange.request_id)(scope, receive, exchange.send)
            except Exception:
                if exchange.status != HTTPStatus.INTERNAL_SERVER_ERROR:  # else it was answered and logged
                    raise
        finally:
            self._held -= exchange.held
            self._tell(exchange)
            REQUEST_ID.reset(token)

    async def _check_origin(self, scope: Scope) -> None:
        """While no key is asked for, refuse what pages elsewhere can make a browser send."""
        headers = dict(scope["headers"])
        elsewhere = headers.get(b"sec-fetch-site") == b"cross-site" and scope["method"] != "GET"
        if self._keyed or (_LOOPBACK.fullmatch(headers.get(b"host", b"")) and not elsewhere):
            return
        if await asyncio.to_thread(self._local):  # may ask the store
            raise PayloadError(
                HTTPStatus.MISDIRECTED_REQUEST,
                "Without keys only requests of this machine to localhost are answered. Make a key: tilth key "
                "create",
            )
        self._keyed = True

    # --- the body ---------------------------------------------------------------------------------

    async def _body(self, exchange: "_Exchange", receive: Receive) -> bytes:
        """Return the whole body, unpacked; PayloadError where it is too large or in another form."""
        headers = dict(exchange.scope["headers"])
        encoding = headers.get(b"content-encoding", b"identity").strip().lower()
        if encoding not in (b"", b"identity", b"gzip"):
            raise PayloadError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Bodies are plain or gzip")
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length[:20]) > self._limits.body_bytes:
            raise _too_large(self._limits.body_bytes)
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                body = await self._read(exchange, receive)
        except TimeoutError as error:
            raise PayloadError(HTTPStatus.REQUEST_TIMEOUT, "The body took too long to arrive") from error
        if encoding == b"gzip":
            await self._identify(exchange.scope)
            body = _unpacked(body, self._limits.unpacked_bytes)
            self._hold(exchange, len(body))
        return body

    async def _read(self, exchange: "_Exchange", receive: Receive) -> bytes:
        parts, size = [], 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return b""
            part = message.get("body", b"")
            if size <= _SMALL < size + len(part):
                await self._identify(exchange.scope)
            size += len(part)
            if size > self._limits.body_bytes:
                raise _too_large(self._limits.body_bytes)
            self._hold(exchange, len(part))
            parts.append(part)
            if not message.get("more_body", False):
                return b"".join(parts)

    def _hold(self, exchange: "_Exchange", size: int) -> None:
        """Count bytes that are in memory until the exchange has ended; refuse a large body among many."""
        exchange.held += size
        self._held += size
        if exchange.held > _SMALL and self._held > _BODIES * self._limits.body_bytes:
            raise OverloadedError(1.0)

    # --- afterwards -------------------------------------------------------------------------------

    def _tell(self, exchange: "_Exchange") -> None:
        seconds = time.perf_counter() - exchange.start
        route, method = exchange.route(), exchange.scope["method"]
        self._telemetry.request(method if method in _METHODS else "other", route, exchange.status, seconds)
        if self._tracing is not None:
            self._trace(self._tracing, exchange, route)
        key = exchange.scope.get("tilth.key")
        _log.info(
            "request",
            extra={
                "method": exchange.scope["method"],
                "route": route,
                "status": exchange.status,
                "ms": round(seconds * 1000, 2),
                "key": key.key_id if key is not None else "",
                **exchange.scope.get("tilth.logged", {}),
            },
        )

    def _trace(self, tracing: Tracing, exchange: "_Exchange", route: str) -> None:
        attributes = {
            "http.request.method": exchange.scope["method"],
            "http.route": route,
            "http.response.status_code": exchange.status,
            "tilth.request_id": exchange.request_id,
        }
        scope, end = exchange.scope, time.time_ns()
        stages, stages_ended = scope.get("tilth.stages", {}), scope.get("tilth.stages_ended", end)
        tracing.request(scope["headers"], attributes, exchange.began, end, stages, stages_ended)


class _Exchange:
    """One request and what was answered."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self.scope, self._send = scope, send
        self.start, self.began = time.perf_counter(), time.time_ns()
        self.status = 0  # until something was answered
        self.held = 0  # bytes of its body
        given = dict(scope["headers"]).get(b"x-request-id", b"")
        known = _GIVEN_ID.fullmatch(given)
        self.request_id = given.decode() if known else secrets.token_hex(8)
        scope["tilth.request_id"] = self.request_id

    async def send(self, message: MutableMapping[str, Any]) -> None:
        """Pass on what is answered, with headers that all answers have."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = list(message.get("headers", ()))
            named = {name.lower() for name, _ in headers}
            headers += [each for each in _HEADERS if each[0] not in named]
            if b"cache-control" not in named:
                headers.append((b"cache-control", b"no-store"))
            message = {
                **message,
                "headers": [*headers, (b"x-request-id", self.request_id.encode())],
            }
        await self._send(message)

    def route(self) -> str:
        """Return the template of the path, so that ids make no new series of measures."""
        route = self.scope.get("route")
        path = getattr(route, "path", None)
        return path if isinstance(path, str) else self.scope.get("tilth.route", "other")


def _too_large(most: int) -> PayloadError:
    return PayloadError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"The body has more than {most:,} bytes. Send it in parts"
    )


def _unpacked(packed: bytes, most: int) -> bytes:
    unpacker = zlib.decompressobj(wbits=31)
    try:
        body = unpacker.decompress(packed, most)
    except zlib.error as error:
        raise PayloadError(HTTPStatus.BAD_REQUEST, f"The body is not gzip: {error}") from error
    if unpacker.unconsumed_tail:
        raise _too_large(most)
    if not unpacker.eof or unpacker.unused_data:
        raise PayloadError(HTTPStatus.BAD_REQUEST, "The gzip of the body does not end where it does")
    return body


def _whole(body: bytes, receive: Receive) -> Receive:
    """Return what gives a body that was read already, and then whatever comes."""
    given = False

    async def give() -> MutableMapping[str, Any]:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return give
