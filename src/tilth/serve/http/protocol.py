"""HTTP/1.1 as uvicorn speaks it, with bounds that it lacks: on the size of headers, and on their time."""

from asyncio import TimerHandle, Transport

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST_HEAD = 64 << 10  # bytes of a request line and headers, and at most two reads more
HEAD_SECONDS = 20.0  # that they may take from their first byte, or from the connection, to their last


class BoundedProtocol(HttpToolsProtocol):
    """A connection that is closed when headers have no end, or do not come."""

    _in_head, _head = False, 0
    _timer: TimerHandle | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Read; what lies within headers from end to end is counted."""
        before = self._in_head
        super().data_received(data)
        self._head = self._head + len(data) if before and self._in_head else 0
        if self._head > MOST_HEAD and not self.transport.is_closing():
            self.send_400_response("The headers are too large.")

    def on_message_begin(self) -> None:
        """Begin to read headers."""
        super().on_message_begin()
        self._in_head = True
        self._watch()

    def on_headers_complete(self) -> None:
        """End that, and begin to answer."""
        self._in_head = False
        self._unwatch()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go."""
        self._unwatch()
        super().connection_lost(exc)

    def _watch(self) -> None:
        self._unwatch()
        self._timer = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _unwatch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _unsupported_upgrade_warning(self) -> None:
        """Say nothing: there are no WebSockets here, and whoever asks for them gets HTTP."""
