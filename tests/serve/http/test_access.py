"""Who is let in where: every route, every scope, every kind of key; and what is open without any key."""

import logging
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

from live_service import SECONDS, Live, eventually, running
from tilth.key_log import SCOPES, KeyLog
from tilth.serve.http.app import OPEN, http_app
from tilth.serve.http.doors import needs
from tilth.serve.keys import Doorkeeper
from tilth.serve.logs import JsonFormatter
from tilth.serve.service import Service
from tilth.serve.settings import Settings
from tilth.serve.starting import host_for

SCOPE_OF = {
    "POST /v1/search": "search",
    "POST /v1/context": "search",
    "POST /v1/ask": "search",
    "POST /v1/facets": "search",
    "GET /v1/fields": "search",
    "GET /v1/products/{product_id}": "search",
    "GET /v1/tools": "search",
    "POST /mcp": "search",
    "POST /v1/products": "write",
    "POST /v1/products/delete": "write",
    "DELETE /v1/products/{product_id}": "write",
    "POST /v1/feedback": "feedback",
    "POST /v1/judgments": "judge",
    "GET /v1/judgments/next": "judge",
    "POST /v1/judgments/skip": "judge",
    "POST /v1/judgments/undo": "judge",
    "GET /v1/releases": "judge",
    "GET /v1/reports": "judge",
    "GET /v1/reports/{name}": "judge",
    "GET /v1/stats": "judge",
    "POST /v1/releases/{name}/promote": "admin",
    "POST /v1/releases/rollback": "admin",
    "GET /metrics": "admin",
}
BODIES: dict[str, object] = {
    "/v1/search": {"query": "hose"},
    "/v1/context": {"query": "hose"},
    "/v1/ask": {"query": "hose"},
    "/v1/facets": {"fields": ["brand"]},
    "/v1/products": [{"id": "new", "title": "New spade"}],
    "/v1/products/delete": {"ids": ["new"]},
    "/v1/judgments/skip": {"judge": "ann", "query_id": "q", "product_id": "m1"},
    "/v1/judgments/undo": {"judge": "ann"},
    "/v1/releases/rollback": {},
    "/mcp": {"jsonrpc": "2.0", "id": 1, "method": "ping"},
}


def ask(client: httpx.Client, route: str, **more: Any) -> httpx.Response:
    """Send what a route takes."""
    method, path = route.split()
    path = path.replace("{product_id}", "m1x").replace("{name:path}", "app.js").replace("{name}", "r1")
    path += "?judge=ann" if path.endswith("/next") else ""
    body = BODIES.get(path, {}) if method == "POST" else None
    return client.request(method, path, json=body, **more)


def routes_of(app: Any) -> Iterator[str]:
    """Yield what an application answers, as `METHOD /path`, whether it is documented or not."""
    for route in app.routes:
        for each in getattr(getattr(route, "original_router", None), "routes", [route]):
            methods = (each.methods or {"POST"}) - {"HEAD"}
            yield from (f"{method} {each.path.replace('_id:path', '_id')}" for method in methods)


def unguarded(app: Any) -> set[str]:
    """Return the routes of an application that answer whoever comes without a key."""
    client = TestClient(app, base_url="http://localhost")
    return {route for route in routes_of(app._app) if ask(client, route).status_code != 401}


def problem(response: httpx.Response, status: int) -> dict[str, Any]:
    """Check that an answer is a problem, and return it."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["status"] == status
    assert response.json()["request_id"] == response.headers["x-request-id"]
    return dict(response.json())


# --- every route ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def app(live: Live) -> Callable[[], Any]:
    """Make the application anew, over the same service."""
    return lambda: http_app(live.service, Doorkeeper(KeyLog(live.service.store)))


def test_every_route_has_a_scope_or_is_named_as_open(app: Callable[[], Any]) -> None:
    made = app()
    assert unguarded(made) == {f"GET {path}" for path in OPEN}
    assert set(routes_of(made._app)) == {f"GET {path}" for path in OPEN} | SCOPE_OF.keys()


def nothing() -> dict[str, str]:
    return {}


def test_a_route_without_a_scope_is_found(app: Callable[[], Any]) -> None:
    made = app()
    made._app.add_api_route("/v1/new", nothing, methods=["GET"])
    made._app.add_api_route("/v1/guarded", nothing, methods=["GET"], dependencies=[needs("admin")])
    assert unguarded(made) - {f"GET {path}" for path in OPEN} == {"GET /v1/new"}


@pytest.mark.parametrize("route", SCOPE_OF)
def test_a_route_opens_with_its_key_and_with_no_other(live: Live, route: str) -> None:
    needed = SCOPE_OF[route]
    assert "Bearer" in ask(live.client(""), route).headers["www-authenticate"]
    problem(ask(live.client(""), route), 401)
    for scope in SCOPES:
        if scope in (needed, "admin"):
            assert ask(live.client(scope), route).status_code not in (401, 403)
        else:
            detail = problem(ask(live.client(scope), route), 403)["detail"]
            assert f"this needs the scope {needed!r}" in detail


def test_what_is_open_needs_no_key(live: Live) -> None:
    for path in OPEN:
        assert ask(live.client(""), f"GET {path}").status_code == 200


# --- keys that open nothing -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Basic dGlsdGg6dGlsdGg=", "Bearer tilth_", "Bearer tilth_0123456789ab_",
     "Bearer tilth_0123456789ab_" + "A" * 43, "Bearer TILTH_0123456789ab_" + "A" * 43, "Bearer Bearer x",
     "tilth_0123456789ab_" + "A" * 43, "Bearer ' OR 1=1 --", "Bearer \xff\xfe", "Bearer " + "x" * 9_000],
)  # fmt: skip
@pytest.mark.parametrize("route", ["POST /v1/search", "POST /v1/products", "GET /metrics", "POST /mcp"])
def test_what_is_no_key_opens_nothing(live: Live, route: str, header: str) -> None:
    response = ask(live.client(""), route, headers={"Authorization": header.encode("latin-1")})
    problem(response, 401)
    assert header in ("", "Bearer") or header not in response.text


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "PUT", "OPTIONS", "HEAD"])
def test_no_method_gets_round_the_key(live: Live, method: str) -> None:
    for path in ("/mcp", "/mcp/", "/v1/search", "/v1/products/m1", "/metrics", "//v1/search", "/v1/search/"):
        response = live.client("").request(method, path)
        assert response.status_code in (401, 404, 405, 307)
        assert response.status_code != 307 or response.headers["location"].startswith(live.address)


def test_the_key_of_another_secret_opens_nothing(live: Live) -> None:
    head, tail = live.tokens["search"][:-1], live.tokens["search"][-1]
    wrong = f"Bearer {head}{'A' if tail != 'A' else 'B'}"
    problem(live.client("").post("/v1/search", json={"query": "x"}, headers={"Authorization": wrong}), 401)


def key_is_taken(live: Live, token: str) -> bool:
    headers = {"Authorization": f"Bearer {token}"}
    response = live.client("").get("/v1/fields", headers=headers)
    assert response.status_code in (200, 401)
    return response.status_code == 200


def test_a_revoked_key_is_refused_soon(live: Live) -> None:
    log = KeyLog(live.service.store)
    key, token = log.create("leaver", {"search"})
    assert key_is_taken(live, token)
    log.revoke(key.key_id)
    eventually(lambda: not key_is_taken(live, token), 10 + SECONDS)
    assert not key_is_taken(live, token)


def test_an_expired_key_is_refused_at_once(live: Live) -> None:
    expires = datetime.now(UTC) + timedelta(seconds=1)
    _, token = KeyLog(live.service.store).create("guest", {"admin"}, expires)
    while key_is_taken(live, token):
        assert datetime.now(UTC) < expires + timedelta(seconds=5)
    assert datetime.now(UTC) >= expires


def test_admin_is_all_scopes_and_the_others_are_none_but_themselves(live: Live) -> None:
    opened = {scope: set[str]() for scope in SCOPES}
    for route, needed in SCOPE_OF.items():
        for scope in SCOPES:
            if ask(live.client(scope), route).status_code not in (401, 403):
                opened[scope].add(needed)
    assert opened.pop("admin") == set(SCOPES)
    assert opened == {scope: {scope} for scope in opened}


# --- secrets --------------------------------------------------------------------------------------


def test_no_key_stands_in_a_log_or_an_answer(live: Live) -> None:
    """Whatever is asked, however it fails: keys that work, keys that do not, keys in a wrong place."""
    stream = StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    level, wrong = root.level, f"tilth_{'0' * 12}_{'S' * 43}"
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    answers = []
    try:
        for route in SCOPE_OF:
            for token in (live.tokens["search"], live.tokens["admin"], wrong, wrong[:-1]):
                headers = {"Authorization": f"Bearer {token}", "Cookie": token}
                answers.append(ask(live.client(""), route, headers=headers, params={"key": token}))
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    logged = "".join(line for line in stream.getvalue().splitlines() if '"logger":"http' not in line)
    assert '"route":"/v1/search"' in logged
    said = "".join(f"{answer.text} {answer.headers}" for answer in answers)
    for token in (*live.tokens.values(), wrong):
        secret = token.split("_", 2)[2]
        assert secret not in logged
        assert secret not in said


# --- without any key ------------------------------------------------------------------------------

ELSEWHERE = [b"shop.example", b"localhost.shop.example", b"127.0.0.1.nip.io", b"127.0.0.2", b"localhost:",
             b"", b"localhost@shop.example", b"[::1", b"LOCALHOST.", b"localhost:80:80", b"\xff"]  # fmt: skip


def test_without_keys_this_machine_may_do_everything(serve: Callable[..., Live]) -> None:
    live = serve(keys=False)
    for route in SCOPE_OF:
        assert ask(live.client(""), route).status_code not in (401, 403, 421)
    for host in (b"localhost", b"localhost:8080", b"127.0.0.1", b"127.0.0.1:1", b"[::1]", b"[::1]:65535"):
        assert live.client("").get("/v1/fields", headers={"Host": host}).status_code == 200


@pytest.fixture(scope="module")
def keyless(built: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    into = shutil.copytree(built, tmp_path_factory.mktemp("keyless") / "index")
    with running(into, keys=False) as shop:
        yield shop


@pytest.mark.parametrize("host", ELSEWHERE)
def test_without_keys_only_localhost_is_served(keyless: Live, host: bytes) -> None:
    for path in ("/v1/fields", "/", "/health/live", "/openapi.json", "/nothing"):
        problem(keyless.client("").get(path, headers={"Host": host}), 421)


def test_without_keys_pages_elsewhere_can_change_nothing(keyless: Live) -> None:
    """What a browser sends without asking first: forms and plain text, with or without a content type."""
    client, product = keyless.client(""), b'[{"id": "planted", "title": "Planted"}]'
    for kind in (
        b"text/plain",
        b"application/x-www-form-urlencoded",
        b"multipart/form-data; boundary=x",
        b"",
    ):
        for route in SCOPE_OF:
            method, path = route.replace("{name}", "r1").split()
            if method == "POST" and path != "/mcp":
                body = product if path == "/v1/products" else b'{"ids": ["m1"], "query": "x", "why": "x"}'
                response = client.post(path, content=body, headers={"Content-Type": kind} if kind else {})
                assert 400 <= response.status_code < 500, route
    problem(client.post("/v1/products", json=[], headers={"Sec-Fetch-Site": "cross-site"}), 421)
    assert client.get("/v1/products/planted").status_code == 404
    assert client.get("/v1/products/m1").status_code == 200


def test_the_first_key_closes_the_door_for_good(serve: Callable[..., Live]) -> None:
    live = serve(keys=False)
    log = KeyLog(live.service.store)
    assert live.client("").get("/v1/fields").status_code == 200
    key, token = log.create("first", {"search"})
    eventually(lambda: live.client("").get("/v1/fields").status_code == 401)
    headers = {"Authorization": f"Bearer {token}", "Host": "shop.example"}
    assert live.client("").get("/v1/fields", headers=headers).status_code == 200
    log.revoke(key.key_id)
    eventually(lambda: live.client("").get("/v1/fields", headers=headers).status_code == 401)
    problem(live.client("").get("/v1/fields"), 401)


def test_without_keys_the_service_listens_to_this_machine_alone(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    log = KeyLog(service.store)
    at = {host: Settings(server={"host": host}) for host in ("0.0.0.0", "::", "shop.example", "10.1.2.3")}
    local = {host: Settings(server={"host": host}) for host in ("localhost", "127.0.0.1", "::1", "127.9.9.9")}
    for settings in at.values():
        assert host_for(settings, Doorkeeper(log)) == "127.0.0.1"
    assert "there are no API keys" in caplog.text
    for host, settings in local.items():
        assert host_for(settings, Doorkeeper(log)) == host
    log.create("first", {"search"})
    for host, settings in (at | local).items():
        assert host_for(settings, Doorkeeper(log)) == host


# --- how often ------------------------------------------------------------------------------------


def test_a_key_that_asks_too_often_has_to_wait_and_others_do_not(serve: Callable[..., Live]) -> None:
    live = serve(limits={"requests_per_minute": 1, "burst": 5})
    answers = [live.client("search").get("/v1/fields") for _ in range(10)]
    codes = [answer.status_code for answer in answers]  # who it is was not known at the first one
    assert codes == [200] * 6 + [429] * 4
    assert int(answers[-1].headers["retry-after"]) >= 1
    problem(answers[-1], 429)
    assert live.client("admin").get("/v1/fields").status_code == 200
    assert live.ready()


def test_whoever_guesses_keys_is_slowed_down(serve: Callable[..., Live]) -> None:
    live = serve(limits={"requests_per_minute": 1, "burst": 20})
    guesses = [{"Authorization": f"Bearer tilth_{number:012x}_{'A' * 43}"} for number in range(30)]
    answers = [live.client("").get("/v1/fields", headers=guess).status_code for guess in guesses]
    assert set(answers) == {401, 429}
    assert answers[-1] == 429
