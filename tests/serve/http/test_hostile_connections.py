"""Connections and bodies that are made to exhaust a server, or to make it take one thing for another."""

import contextlib
import gzip
import socket
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from live_service import Live, eventually, head, memory, spoken, status
from tilth.serve.http import envelope, protocol

MB = 1 << 20
START = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n"


@pytest.fixture(scope="module", autouse=True)
def _afterwards(live: Live) -> Iterator[None]:
    """Whatever was sent in this module, the service answers, and holds no bodies any more."""
    yield
    assert live.ready()
    assert live.app._held == 0


@contextlib.contextmanager
def peak_below(megabytes: float) -> Iterator[None]:
    """Check that the memory of this process, in which the service runs, never grows by more."""
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
    before = memory()
    yield
    lines = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e6
    assert peak - before < megabytes


# --- bombs ----------------------------------------------------------------------------------------


def bomb(megabytes: int) -> bytes:
    """Return the gzip of many zeros; its check sum is wrong, and nobody comes so far."""
    packer = zlib.compressobj(9, wbits=31)
    start = packer.compress(bytes(MB)) + packer.flush(zlib.Z_FULL_FLUSH)
    more = packer.compress(bytes(MB)) + packer.flush(zlib.Z_FULL_FLUSH)
    return start + more * (megabytes - 1) + packer.flush()


@pytest.mark.parametrize("path", ["/v1/search", "/v1/products", "/v1/feedback", "/v1/judgments", "/mcp"])
def test_a_bomb_is_unpacked_as_far_as_the_limit(live: Live, path: str) -> None:
    packed = bomb(1_024)
    assert len(packed) < 3 * MB
    with peak_below(250):
        headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        response = live.client().post(path, content=packed, headers=headers)
    assert response.status_code == 413


def test_a_bomb_within_a_bomb(live: Live) -> None:
    """What is inside is not unpacked, whatever the headers say."""
    packed = gzip.compress(gzip.compress(bomb(1_024)))
    for encoding, code in (("gzip", 400), ("gzip, gzip", 415)):
        headers = {"Content-Type": "application/json", "Content-Encoding": encoding}
        with peak_below(100):
            response = live.client().post("/v1/search", content=packed, headers=headers)
        assert response.status_code == code


def test_nothing_is_unpacked_for_strangers(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envelope, "_unpacked", None)
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    response = live.client("").post("/v1/search", content=gzip.compress(b"{}"), headers=headers)
    assert response.status_code == 401


def test_a_large_body_of_a_stranger_is_not_read(live: Live) -> None:
    ask = head(live, "POST /v1/products", Content_Length=5 * MB, Authorization="Bearer no")
    assert status(spoken(live, ask, bytes(100_000))) == 401
    small = head(live, "POST /v1/products", Content_Length=2, Authorization="Bearer no") + b"[]"
    assert status(spoken(live, small)) == 401


def test_large_bodies_wait_for_each_other_and_small_ones_do_not(serve: Callable[..., Live]) -> None:
    size = 200_000
    live = serve(limits={"body_bytes": size, "requests_per_minute": 1_000_000, "burst": 100_000})
    start = head(live, "POST /v1/products", Content_Length=size)
    with contextlib.ExitStack() as stack:
        for _ in range(17):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", live.port)))
            connection.sendall(start + b" " * (size - 1))
        eventually(lambda: live.app._held > 15 * size)
        assert status(spoken(live, start, b" " * size)) == 429
        assert live.client("search").post("/v1/search", json={"query": "hose"}).status_code == 200
    eventually(lambda: live.app._held == 0)
    assert status(spoken(live, start, b" " * size)) == 422


# --- what does not come, or has no end ------------------------------------------------------------


def test_headers_that_do_not_come(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.3)
    for beginning in (b"", b"GET", START, START + b"X-A: 1"):
        assert spoken(live, beginning) == b""
    served = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
    assert spoken(live, served, START).count(b"HTTP/1.1 200") == 1


@pytest.mark.parametrize("part", [b"a" * 10_000, b"a" * 9_990 + b"\r\nX-A: ", b"a: b\r\n" * 1_600])
def test_headers_without_end(live: Live, part: bytes) -> None:
    with peak_below(60):
        said = spoken(live, START + b"X-A: ", *[part] * 10_000)
    assert status(said) in (0, 400)  # 0: what was said was lost, since we went on talking


def test_an_address_without_end(live: Live) -> None:
    with peak_below(60):
        assert status(spoken(live, b"GET /", *[b"a" * 10_000] * 5_000)) in (0, 400)
    said = spoken(live, head(live, f"GET /v1/products/{'a' * 20_000}"))
    assert status(said) == 422


def test_headers_may_be_as_large_as_browsers_make_them(live: Live) -> None:
    said = spoken(live, head(live, "GET /v1/fields", Cookie="a" * 16_000))
    assert status(said) == 200


def test_a_body_that_comes_by_drops(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envelope, "_BODY_SECONDS", 0.5)
    with socket.create_connection(("127.0.0.1", live.port), timeout=20) as connection:
        connection.sendall(head(live, "POST /v1/search", Transfer_Encoding="chunked"))
        connection.settimeout(0.05)
        said = b""
        for _ in range(200):
            with contextlib.suppress(TimeoutError):
                said += connection.recv(65_536)
            if said:
                break
            connection.sendall(b"1\r\n \r\n")
    assert status(said) == 408


def test_many_requests_on_one_connection(live: Live) -> None:
    asked = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n" * 300
    said = spoken(live, asked, head(live, "GET /health/live"))
    assert said.count(b"HTTP/1.1 200") == 301


# --- what could be taken for something else -------------------------------------------------------

BROKEN = {
    "two lengths": b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    "length and chunks": b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "negative length": b"Content-Length: -5\r\n\r\n",
    "length with an exponent": b"Content-Length: 1e3\r\n\r\n",
    "length with a sign": b"Content-Length: +5\r\n\r\nhello",
    "unknown coding": b"Transfer-Encoding: chunked, identity\r\n\r\n",
    "chunk without a size": b"Transfer-Encoding: chunked\r\n\r\nz\r\nhello\r\n0\r\n\r\n",
    "chunk of more than there is memory": b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
    "blank in a name": b"X A: b\r\n\r\n",
    "blank before the colon": b"X-A : b\r\n\r\n",
    "nul in a value": b"X-A: b\0c\r\n\r\n",
    "bare line break": b"X-A: b\nX-B: c\r\n\r\n",
    "carriage return in a value": b"X-A: b\rX-B: c\r\n\r\n",
    "folded": b"X-A: b\r\n c\r\n\r\n",
    "no colon": b"nonsense\r\n\r\n",
}


@pytest.mark.parametrize("rest", BROKEN.values(), ids=BROKEN)
def test_requests_that_can_be_read_in_two_ways(live: Live, rest: bytes) -> None:
    """They are refused; or else they are one request, and what stands behind them is none."""
    start = b"POST /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    said = spoken(live, start + rest)
    assert said.count(b"HTTP/1.1 ") == 1
    assert 400 <= status(said) < 500


@pytest.mark.parametrize(
    "line", ["GET / HTTP/9.9", "GET /", "get / HTTP/1.1", "GET  / HTTP/1.1", "TILTH / HTTP/1.1", "\0\1", "{}",
             "CONNECT localhost:22 HTTP/1.1", "PRI * HTTP/2.0", "GET http:// HTTP/1.1", "\x16\x03\x01\0"]
)  # fmt: skip
def test_lines_that_are_no_request(live: Live, line: str) -> None:
    said = spoken(live, f"{line}\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode("latin-1"))
    assert said.count(b"HTTP/1.1 ") <= 1
    assert status(said) in (0, 200, 400, 404, 405)  # 200 is the page, in the manner of HTTP/0.9
    assert b"Traceback" not in said


@pytest.mark.parametrize("method", ["PUT", "PATCH", "TRACE", "OPTIONS", "HEAD", "PROPFIND", "DELETE", "MOVE"])
@pytest.mark.parametrize("path", ["/v1/search", "/v1/products", "/health/live", "/", "/openapi.json"])
def test_other_methods_do_nothing(live: Live, method: str, path: str) -> None:
    override = {"X-HTTP-Method-Override": "POST", "X-Method-Override": "POST"}
    response = live.client().request(method, path, headers=override)
    assert response.status_code in ((200, 405) if method == "HEAD" else (404, 405))


@pytest.mark.parametrize("upgrade", ["websocket", "h2c", "TLS/1.0", "nonsense"])
def test_whoever_wants_another_protocol_gets_this_one(live: Live, upgrade: str) -> None:
    asked = head(
        live, "GET /health/live", Upgrade=upgrade, Connection="Upgrade, close",
        Sec_WebSocket_Key="x" * 22 + "==", Sec_WebSocket_Version="13",
    )  # fmt: skip
    assert status(spoken(live, asked)) == 200


PATHS = ["/assets/../../etc/passwd", "/assets/%2e%2e/%2e%2e/etc/passwd", "/assets/..%2f..%2fservice.py",
         "/assets/%2fetc%2fpasswd", "/assets//etc/passwd", "/assets/.", "/assets/", "/assets/app.js%00.html",
         "/assets/__init__.py", "/assets/..\\..\\etc\\passwd", "/assets/app.js/", "//etc/passwd", "/.env",
         "/assets/%c0%ae%c0%ae/etc/passwd", "/../../../etc/passwd", "/%2e%2e/service.py",
         "/v1/reports/../../x", "/v1/reports/%2e%2e%2f%2e%2e", "/v1/reports/experiment-0",
         "/v1/reports/experiment--1", "/openapi.yaml", "/docs", "/redoc", "/static/app.js",
         "/assets/index.html?../../x", "/index.html"]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_no_path_leads_to_a_file(live: Live, path: str) -> None:
    said = spoken(live, head(live, f"GET {path}"))
    assert b"root:" not in said
    assert status(said) == 404 or path == "/assets/index.html?../../x"


def test_ids_with_slashes_are_ids(live: Live) -> None:
    ids = {"odd/id": "odd/id", "odd%2Fid": "odd/id", "odd%252Fid": "odd%2Fid", "..%2Fup": "../up",
           "%2e%2e%2Fup": "../up", "../up": "../up"}  # fmt: skip
    for quoted, product_id in ids.items():
        said = spoken(live, head(live, f"GET /v1/products/{quoted}"))
        assert f'"id":"{product_id}"'.encode() in said


def test_an_answer_that_nobody_fetches(live: Live) -> None:
    """Clients that go away while they are answered leave nothing behind."""
    for _ in range(50):
        with socket.create_connection(("127.0.0.1", live.port)) as connection:
            connection.sendall(head(live, "GET /openapi.json"))
    eventually(lambda: len(live.server.server_state.tasks) == 0)
