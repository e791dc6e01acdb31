"""The outermost layer: ids, headers, how bodies are packed, a line of log, and what our own faults show."""

import gzip
import logging
import re
import socket
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import orjson
import pytest

from live_service import Live, eventually, head, spoken, status
from tilth.serve.http import envelope
from tilth.serve.limits import OverloadedError
from tilth.serve.logs import REQUEST_ID

QUERY = orjson.dumps({"query": "garden hose"})


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[str], dict[str, Any]]]:
    """The line of the access log for the request of an id; it may come a moment after the answer."""
    caplog.set_level(logging.INFO)
    found: dict[str, dict[str, Any]] = {}

    def keep(record: logging.LogRecord) -> bool:
        found[REQUEST_ID.get()] = vars(record)
        return True

    def line(request_id: str) -> dict[str, Any]:
        eventually(lambda: request_id in found)
        return found[request_id]

    log = logging.getLogger("tilth.access")
    log.addFilter(keep)
    yield line
    log.removeFilter(keep)


def post(live: Live, body: bytes = QUERY, **headers: str) -> httpx.Response:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return live.client().post(
        "/v1/search", content=body, headers={"Content-Type": "application/json"} | names
    )


# --- headers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/health/live", "/v1/fields", "/nothing", "/", "/metrics", "/openapi.json"])
def test_every_answer_has_the_headers_of_safety(live: Live, path: str) -> None:
    for client in (live.client(), live.client("")):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] in ("no-store", "no-cache")
        assert "server" not in headers
        assert len(headers.get_list("x-request-id")) == 1


def test_the_page_may_load_nothing_from_elsewhere(live: Live) -> None:
    policy = live.client("").get("/").headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "http" not in policy


@pytest.mark.parametrize("given", ["a", "4f5a-1.b_C", "x" * 64])
def test_an_id_that_was_given_is_kept(live: Live, given: str) -> None:
    assert post(live, X_Request_Id=given).headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "x" * 65, "a b", "a\tb", "<script>", "ü", '"', "a;b", "a,b"])
def test_any_other_id_is_replaced(live: Live, given: str) -> None:
    response = live.client("").get("/health/live", headers={"X-Request-Id": given.encode("latin-1")})
    assert re.fullmatch("[0-9a-f]{16}", response.headers["x-request-id"])


def test_ids_differ(live: Live) -> None:
    assert len({post(live).headers["x-request-id"] for _ in range(20)}) == 20


# --- bodies ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gzip", "GZIP", "GZip"])
def test_a_body_may_be_packed(live: Live, name: str) -> None:
    response = post(live, gzip.compress(QUERY), Content_Encoding=name)
    assert response.json()["query"] == "garden hose"


def test_a_body_may_come_in_pieces(live: Live) -> None:
    response = in_pieces(live, [QUERY[at : at + 3] for at in range(0, len(QUERY), 3)])
    assert response.json()["query"] == "garden hose"


def in_pieces(live: Live, pieces: list[bytes]) -> httpx.Response:
    kind = {"Content-Type": "application/json"}
    return live.client().post("/v1/search", content=iter(pieces), headers=kind)


@pytest.mark.parametrize(
    "kind", ["application/json; charset=utf-8", "application/vnd.shop+json", "APPLICATION/JSON"]
)
def test_json_by_any_of_its_names(live: Live, kind: str) -> None:
    assert post(live, Content_Type=kind).status_code == 200


@pytest.mark.parametrize(
    "kind", ["text/plain", "text/json", "application/xml", "", "application/jsonx", "json"]
)
def test_other_types_are_refused(live: Live, kind: str) -> None:
    response = post(live, Content_Type=kind)
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == "body"


@pytest.mark.parametrize("name", ["br", "deflate", "gzip, gzip", "x-gzip", "compress", "zstd"])
def test_other_packings_are_refused(live: Live, name: str) -> None:
    assert post(live, Content_Encoding=name).status_code == 415


PACKED = gzip.compress(QUERY)
BROKEN = {
    "plain": QUERY,
    "empty": b"",
    "cut": PACKED[:-1],
    "cut early": PACKED[:12],
    "header alone": PACKED[:10],
    "wrong sum": PACKED[:-8] + bytes(4) + PACKED[-4:],
    "more behind it": PACKED + b"x",
    "twice": PACKED + PACKED,
    "raw deflate": PACKED[10:-8],
}


@pytest.mark.parametrize("body", BROKEN.values(), ids=BROKEN)
def test_what_is_not_gzip_is_refused(live: Live, body: bytes) -> None:
    response = post(live, body, Content_Encoding="gzip")
    assert response.status_code == 400
    assert "gzip" in response.json()["detail"]


def test_a_body_that_is_too_large_is_not_read(serve: Callable[..., Live]) -> None:
    live = serve(limits={"body_bytes": 2_000, "unpacked_bytes": 5_000})
    fits = orjson.dumps({"query": "x", "arm": "a" * 100}).ljust(2_000)
    assert post(live, fits).status_code == 200
    assert post(live, fits + b" ").status_code == 413
    pieces = live.client().post(
        "/v1/search", content=iter([fits, b" "]), headers={"Content-Type": "application/json"}
    )
    assert pieces.status_code == 413
    assert status(spoken(live, head(live, "POST /v1/search", Content_Length=2_001))) == 413
    assert post(live, gzip.compress(fits.ljust(5_000)), Content_Encoding="gzip").status_code in (200, 413)
    assert post(live, gzip.compress(fits.ljust(4_999)), Content_Encoding="gzip").status_code == 200
    response = post(live, gzip.compress(fits.ljust(5_001)), Content_Encoding="gzip")
    assert response.status_code == 413
    assert response.json()["detail"].startswith("The body has more than 5,000 bytes")


def test_a_body_that_takes_too_long_is_given_up(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envelope, "_BODY_SECONDS", 0.3)
    said = spoken(live, head(live, "POST /v1/search", Content_Length=len(QUERY)), QUERY[:-1])
    assert status(said) == 408
    assert b"application/problem+json" in said


def test_half_a_body_does_nothing(live: Live, lines: Callable[[str], dict[str, Any]]) -> None:
    """Who hangs up half-way through an upload has stored nothing, when the service has noticed it, too."""
    body = b'{"id": "half-1", "title": "Half"}\n{"id": "half-2", "title": "Half"}\n'
    kind = "application/x-ndjson"
    start = head(
        live, "POST /v1/products", Content_Length=len(body), Content_Type=kind, X_Request_Id="half-a-body"
    )
    with socket.create_connection(("127.0.0.1", live.port)) as connection:
        connection.sendall(start + body[:34])
    assert lines("half-a-body")["status"] == 422
    assert live.ready()
    assert live.client().get("/v1/products/half-1").status_code == 404


# --- the log --------------------------------------------------------------------------------------


def test_each_request_is_a_line(live: Live, lines: Callable[[str], dict[str, Any]]) -> None:
    answers = [
        post(live),
        live.client("").get("/v1/products/hose-10-red"),
        live.client("").get("/nothing/at/all"),
    ]
    said = [lines(answer.headers["x-request-id"]) for answer in answers]
    assert [(line["method"], line["route"], line["status"], bool(line["key"])) for line in said] == [
        ("POST", "/v1/search", 200, True),
        ("GET", "/v1/products/{product_id:path}", 401, False),
        ("GET", "other", 404, False),
    ]
    assert all(line["ms"] > 0 for line in said)


def test_paths_make_no_new_series(live: Live) -> None:
    client = live.client()
    for number in range(5):
        client.get(f"/v1/products/none-{number}")
        client.get(f"/nothing-{number}")
        client.request(f"BREW{number}", "/health/live")
    text = client.get("/metrics").text
    assert "none-" not in text
    assert "nothing-" not in text
    assert "BREW" not in text


# --- faults of ours -------------------------------------------------------------------------------


@pytest.fixture
def faulty(serve: Callable[..., Live]) -> Live:
    live = serve()

    def breaks() -> None:
        raise RuntimeError("a secret of the house")

    live.app._app.add_api_route("/broken", breaks)
    return live


def test_a_fault_of_ours_says_nothing_of_its_reason(faulty: Live, caplog: pytest.LogCaptureFixture) -> None:
    response = faulty.client().get("/broken")
    assert response.status_code == 500
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "secret" not in response.text
    said = [record for record in caplog.records if record.exc_info]
    assert len(said) == 1
    assert "a secret of the house" in str(said[0].exc_info)
    assert response.json()["request_id"] in response.headers["x-request-id"]
    assert (
        faulty.client().get("/metrics").text.count('route="/broken",status="500"') == 2
    )  # and when it began


def test_a_fault_of_ours_ends_no_connection(faulty: Live) -> None:
    ask = b"GET /broken HTTP/1.1\r\nHost: localhost\r\n\r\n"
    said = spoken(faulty, ask * 2, head(faulty, "GET /health/live"))
    assert said.count(b"HTTP/1.1 500") == 2
    assert said.count(b"HTTP/1.1 200") == 1


def test_what_is_busy_says_when_to_come_again(
    serve: Callable[..., Live], monkeypatch: pytest.MonkeyPatch
) -> None:
    live = serve()

    def overloaded(*_: object) -> None:
        raise OverloadedError(2.5)

    monkeypatch.setattr(live.service, "search", overloaded)
    response = post(live)
    assert (response.status_code, response.headers["retry-after"]) == (429, "3")
