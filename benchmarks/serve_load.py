"""A load generator over loopback: raw HTTP/1.1 on kept connections, closed or open loop.

Closed: each connection sends its next request when it has the answer, after the pause that a 429 asks for.
Open: requests are due at fixed times, whatever became of those before, and latency counts from when a request
was due, so that a server that stalls cannot hide it (no coordinated omission).
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from itertools import cycle

import numpy as np
import orjson

_TIMEOUT = 10.0  # seconds; what takes longer is an error
_MOST = 512  # connections of an open loop
OK, BUSY = 200, 429


@dataclass(slots=True)
class Load:
    """What came of a load: milliseconds of accepted requests, and how many there were of each status.

    `outside` is what each accepted request took beyond the stages that its answer names.
    """

    seconds: float = 0.0
    accepted: list[float] = field(default_factory=list)
    outside: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)

    def count(self, status: str, milliseconds: float, body: bytes = b"") -> None:
        """Count one request."""
        self.statuses[status] += 1
        if status == str(OK):
            self.accepted.append(milliseconds)
            self.outside.append(milliseconds - sum(orjson.loads(body)["milliseconds"].values()))

    def values(self) -> dict[str, float]:
        """Return throughput, percentiles, and the shares of refusals and errors."""
        sent = sum(self.statuses.values())
        p50, p99 = np.percentile(self.accepted, [50, 99]) if self.accepted else (np.nan, np.nan)
        fine = self.statuses[str(OK)] + self.statuses[str(BUSY)]
        if sent != fine:
            print(f"errors: {dict(self.statuses)}")
        return {
            "throughput": len(self.accepted) / self.seconds,
            "p50": float(p50),
            "p99": float(p99),
            "door, p50": float(np.median(self.outside)) if self.outside else np.nan,
            "refused": self.statuses[str(BUSY)] / sent,
            "errors": float(sent - fine),
        }


class _Connection:
    """One kept connection to a server."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, request: bytes) -> tuple[int, float, bytes]:
        """Send a request; return the status, the seconds that a 429 asks to wait, and the body."""
        if self._streams is not None and self._streams[0].at_eof():
            self.close()  # the server has closed it, since it was idle for long
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        status, headers = int(head[9:12]), head.lower()
        body = await reader.readexactly(int(_header(headers, b"content-length")))
        return status, float(_header(headers, b"retry-after") or 0), body

    def close(self) -> None:
        """Close it; the next request opens another."""
        if self._streams is not None:
            self._streams[1].close()
        self._streams = None


def _header(head: bytes, name: bytes) -> bytes:
    return head.partition(b"\r\n" + name + b": ")[2].partition(b"\r\n")[0]


async def _count(load: Load, connection: _Connection, request: bytes, due: float) -> float:
    """Send one request and count it; return the pause that it asks for."""
    pause, body = 0.0, b""
    try:
        async with asyncio.timeout(_TIMEOUT):
            status, pause, body = await connection.ask(request)
        name = str(status)
    except (TimeoutError, OSError, asyncio.IncompleteReadError) as error:
        connection.close()
        name = type(error).__name__
    load.count(name, (time.perf_counter() - due) * 1000, body)
    return pause


async def closed_loop(port: int, requests: Sequence[bytes], connections: int, seconds: float) -> Load:
    """Keep connections busy.

    Args:
        port: of the server on this machine.
        requests: sent in turn.
        connections: how many.
        seconds: how long.

    Returns:
        What came of it.
    """
    load, rest, start = Load(), cycle(requests), time.perf_counter()

    async def one() -> None:
        connection = _Connection(port)
        while (now := time.perf_counter()) < start + seconds:
            pause = await _count(load, connection, next(rest), now)
            await asyncio.sleep(min(pause, max(start + seconds - time.perf_counter(), 0)))
        connection.close()

    await asyncio.gather(*(one() for _ in range(connections)))
    load.seconds = time.perf_counter() - start
    return load


async def open_loop(
    port: int,
    requests: Sequence[bytes],
    rate: float,
    seconds: float,
    beside: Callable[[float], Awaitable[None]] | None = None,
) -> Load:
    """Send requests at a fixed rate.

    Args:
        port: of the server on this machine.
        requests: sent in turn.
        rate: requests a second.
        seconds: how long.
        beside: awaited once a second with the seconds so far.

    Returns:
        What came of it; a request that no connection was free for is counted as an error.
    """
    load, rest, start = Load(), cycle(requests), time.perf_counter()
    free = [_Connection(port) for _ in range(_MOST)]
    tasks: set[asyncio.Task[None]] = set()

    async def one(connection: _Connection, request: bytes, due: float) -> None:
        await _count(load, connection, request, due)
        free.append(connection)

    second = 0
    for number in range(int(rate * seconds)):
        due = start + number / rate
        if (ahead := due - time.perf_counter()) > 0:
            await asyncio.sleep(ahead)
        if not free:
            load.count("no connection", 0.0)
            continue
        task = asyncio.ensure_future(one(free.pop(), next(rest), due))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        if beside is not None and due - start >= second:
            await beside(due - start)
            second += 1
    await asyncio.gather(*tasks)
    load.seconds = time.perf_counter() - start
    for connection in free:
        connection.close()
    return load


def search_request(query: str, k: int) -> bytes:
    """Return a search as it goes over the wire."""
    body = orjson.dumps({"query": query, "k": k})
    head = (
        "POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
