"""The tools over the Model Context Protocol: the official client over both transports, and hostile bytes."""

import contextlib
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import httpx
import orjson
import pytest
import uvicorn
from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS, CallToolResult
from starlette.applications import Starlette
from starlette.routing import Route

from fakes import WordEncoder
from shop import SHOP, index
from tilth.errors import StoreError
from tilth.feedback_log import FeedbackLog
from tilth.key_log import Key
from tilth.pipeline import open_index
from tilth.retrieval.index import open_store
from tilth.serve.mcp import FEEDBACK, LIST, SEARCH, McpApp, in_thread, mcp_server
from tilth.serve.service import Service
from tilth.serve.settings import Settings
from tilth.serve.spool import Spool

COMMAND = """
import typer
from tilth.cli.mcp import mcp
from tilth.cli.terminal import reporting_errors
app = typer.Typer()
app.command()(mcp)
with reporting_errors():
    app()
"""
NAMES = ["search_catalog", "lookup_catalog", "get_product", "get_context", "report_outcome"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    into = tmp_path_factory.mktemp("shop") / "index"
    index(SHOP, into, WordEncoder())
    return into


@pytest.fixture(scope="module")
def service(folder: Path) -> Iterator[Service]:
    pipeline = open_index(folder)
    spool = Spool(folder / "spool", FeedbackLog(pipeline.live.store), pause=0.001)
    given = Settings(
        search={"deadline_ms": 3_000.0},
        limits={"body_bytes": 2 << 20},
        mcp={"allowed_hosts": ["shop.example"], "allowed_origins": ["https://shop.example"]},
    )
    service = Service(pipeline, given, spool)
    yield service
    service.close()


def key(*scopes: str) -> Key:
    made = datetime(2026, 1, 1, tzinfo=UTC)
    return Key(key_id="k", name="agent", scopes=frozenset(scopes), created=made, expires=None, revoked=None)


class Door:
    """What stands before the tools in the service: it lets requests in, and says with which key."""

    def __init__(self, app: McpApp, keys: dict[str, Key]) -> None:
        self.app, self.keys = app, keys

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        token = dict(scope["headers"]).get(b"authorization", b"Bearer agent").decode()
        scope["tilth.key"] = self.keys.get(token.removeprefix("Bearer "))
        await self.app(scope, receive, send)


@contextlib.contextmanager
def served(service: Service) -> Iterator[str]:
    """Serve the tools on a free port of this machine, and give their address."""
    mcp_app = McpApp(service)
    keys = {"agent": key("search", "feedback"), "reader": key("search")}
    app = Starlette(
        routes=[Route("/mcp", endpoint=Door(mcp_app, keys))], lifespan=lambda _: mcp_app.running()
    )
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            threading.Event().wait(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/mcp"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def url(service: Service) -> Iterator[str]:
    with served(service) as url:
        yield url


def stdio(folder: Path) -> StdioServerParameters:
    return StdioServerParameters(command=sys.executable, args=["-c", COMMAND, str(folder)])


def using(client: Client, do: Callable[[Client], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        async with client:
            return await do(client)

    return anyio.run(run)


def said(result: CallToolResult) -> str:
    (block,) = result.content
    return str(block.text)


# --- the official client, over each transport -----------------------------------------------------


@pytest.fixture(params=["stdio", "stdio legacy", "http", "http legacy", "in process"])
def client(request: pytest.FixtureRequest, folder: Path, url: str, service: Service) -> Client:
    how, _, mode = request.param.partition(" ")
    server: Any = {"stdio": stdio(folder), "http": url, "in": mcp_server(service)}[how]
    return Client(server, mode="legacy" if mode == "legacy" else "auto")


def test_every_tool_can_be_listed_and_called(client: Client, folder: Path) -> None:
    async def do(client: Client) -> None:
        listed = (await client.list_tools()).tools
        assert [tool.name for tool in listed] == NAMES
        assert "filters" in listed[0].input_schema["$defs"]  # older protocols keep it too
        assert [tool.annotations.read_only_hint for tool in listed] == [True] * 4 + [False]
        found = await client.call_tool("search_catalog", {"catalog": {"query": "tomato seeds"}})
        assert found.structured_content["products"][0]["id"] == "s1"
        assert "title: Tomato seeds" in said(found)
        looked = await client.call_tool("lookup_catalog", {"catalog": {"ids": ["m1", "m2"]}})
        assert len(looked.structured_content["products"]) == 2
        product = await client.call_tool("get_product", {"catalog": {"id": "t1"}})
        assert product.structured_content["product"]["title"] == "Секатор садовый"
        context = await client.call_tool("get_context", {"query": "garden hose", "budget_tokens": 500})
        assert "25 m" in said(context)
        impression = found.structured_content["tilth"]["impression_id"]
        report = {"impression_id": impression, "action": "click", "product_id": "s1", "rank": 1}
        assert (await client.call_tool("report_outcome", report)).structured_content["recorded"] is True
        assert (await client.call_tool("report_outcome", report)).structured_content["recorded"] is False
        with open_store(folder, create=False) as store:
            assert FeedbackLog(store).served_by_id([impression])[impression].query == "tomato seeds"

    using(client, do)


def test_what_cannot_be_called_is_an_error_of_the_protocol(client: Client) -> None:
    async def do(client: Client) -> None:
        many = {"catalog": {"ids": [f"p{number}" for number in range(101)]}}
        for name, arguments in (("drop_catalog", {}), ("x" * 10_000, {}), ("lookup_catalog", many)):
            with pytest.raises(MCPError) as caught:
                await client.call_tool(name, arguments)
            assert caught.value.code == INVALID_PARAMS
            assert len(caught.value.message) < 500

    using(client, do)


def test_what_fails_is_said_to_the_model(client: Client) -> None:
    async def do(client: Client) -> None:
        for catalog, named in (
            ({}, "catalog.query"),
            ({"query": 5}, "catalog.query"),
            ({"query": "x" * 1_000_000}, "longer than"),
            ({"query": "x", "pagination": {"limit": -1}}, "catalog.pagination.limit"),
        ):
            result = await client.call_tool("search_catalog", {"catalog": catalog})
            assert result.is_error
            assert named in said(result)
            assert result.structured_content is None
        filters: dict[str, Any] = {"brand": "Humus"}
        for _ in range(40):
            filters = {"not": filters}
        deep = await client.call_tool("search_catalog", {"catalog": {"query": "x"}, "filters": filters})
        assert deep.is_error
        assert "deep" in said(deep)
        unknown = {"catalog": {"query": "x"}, "filters": {"<b>[1]": 1}}
        assert "‹b›(1)" in said(await client.call_tool("search_catalog", unknown))
        assert not (await client.call_tool("search_catalog", {"catalog": {"query": "x\x01"}})).is_error

    using(client, do)


def test_many_calls_at_once(url: str) -> None:
    async def do(client: Client) -> None:
        async def one(query: str) -> None:
            result = await client.call_tool("search_catalog", {"catalog": {"query": query}})
            assert result.structured_content["tilth"]["read_as"] == query
            done.append(query)

        done: list[str] = []
        async with anyio.create_task_group() as group:
            for word in ("manure", "tomato", "hose", "pellets") * 5:
                group.start_soon(one, word)
        assert len(done) == 20

    using(Client(url), do)


# --- faults ---------------------------------------------------------------------------------------


class Failing(Service):
    """A service that fails as nobody foresaw."""

    def __init__(self, fault: Exception) -> None:
        self.settings, self.fault = Settings(), fault

    def search(self, request: Any) -> Any:
        raise self.fault

    def fields(self) -> Any:
        raise self.fault


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_a_fault_that_nobody_foresaw_is_not_told(mode: str, caplog: pytest.LogCaptureFixture) -> None:
    async def do(client: Client) -> str:
        with pytest.raises(MCPError) as caught:
            await client.list_tools()
        result = await client.call_tool("search_catalog", {"catalog": {"query": "x"}})
        assert result.is_error
        return f"{caught.value.message} {said(result)}"

    with served(Failing(ZeroDivisionError("the password is 12345"))) as url:
        assert "12345" not in using(Client(url, mode=mode), do)
    assert caplog.text.count("the password is 12345") >= 2
    with served(Failing(StoreError("the store cannot be read"))) as url:
        assert using(Client(url, mode=mode), do).count("the store cannot be read") == 2


def test_work_is_told_what_it_is(service: Service) -> None:
    kinds = []

    async def work(kind: str, call: Callable[[], Any]) -> Any:
        kinds.append(kind)
        return await in_thread(kind, call)

    async def do(client: Client) -> None:
        await client.list_tools()
        await client.call_tool("get_product", {"catalog": {"id": "m1"}})
        await client.call_tool("report_outcome", {"impression_id": "i", "action": "view"})

    using(Client(mcp_server(service, work=work)), do)
    assert kinds == [LIST, SEARCH, FEEDBACK]


# --- HTTP -----------------------------------------------------------------------------------------

HEADERS = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
MODERN = {"mcp-protocol-version": "2026-07-28"}


def message(method: str, params: Any = None, id_: Any = 1) -> bytes:
    return orjson.dumps({"jsonrpc": "2.0", "id": id_, "method": method, "params": params or {}})


def post(url: str, content: bytes, **headers: str) -> httpx.Response:
    given = HEADERS | {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.post(url, content=content, headers=given, timeout=30)


def is_alive(url: str) -> bool:
    call = message("tools/call", {"name": "get_product", "arguments": {"catalog": {"id": "m1"}}})
    answer = post(url, call)
    return answer.json()["result"]["structuredContent"]["product"]["id"] == "m1"


def test_one_post_is_one_answer_in_json(url: str) -> None:
    answer = post(url, message("tools/list"))
    assert answer.headers["content-type"] == "application/json"
    assert "mcp-session-id" not in answer.headers
    assert [tool["name"] for tool in answer.json()["result"]["tools"]] == NAMES


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT", "OPTIONS", "HEAD"])
def test_there_is_nothing_but_post(url: str, method: str) -> None:
    answer = httpx.request(method, url, headers=HEADERS)
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"


@pytest.mark.parametrize("version", [{}, MODERN])
def test_a_page_elsewhere_cannot_get_in(url: str, version: dict[str, str]) -> None:
    def status(**headers: str) -> int:
        return post(url, message("tools/list"), **version, **headers).status_code

    assert status(host="evil.example") == 421
    assert status(host="127.0.0.1.evil.example") == 421
    assert status(origin="https://evil.example") == 403
    assert status(origin="null") == 403
    assert status(host="shop.example", origin="https://shop.example") not in (403, 421)
    assert status(host="localhost", origin="http://localhost:3000") not in (403, 421)


def test_a_call_needs_a_key_with_its_scope(url: str) -> None:
    def call(name: str, arguments: Any, token: str) -> dict[str, Any]:
        body = message("tools/call", {"name": name, "arguments": arguments})
        result: dict[str, Any] = post(url, body, authorization=f"Bearer {token}").json()["result"]
        return result

    report = {"impression_id": "i", "action": "view"}
    assert not call("report_outcome", report, "agent").get("isError")
    refused = call("report_outcome", report, "reader")
    assert refused["isError"] is True
    assert "feedback" in refused["content"][0]["text"]
    assert not call("get_product", {"catalog": {"id": "m1"}}, "reader").get("isError")
    assert call("get_product", {"catalog": {"id": "m1"}}, "nobody")["isError"] is True


def calling(name: str, arguments: bytes, meta: bytes = b"") -> bytes:
    params = b'{"name":"' + name.encode() + b'","arguments":' + arguments + meta + b"}"
    return b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":' + params + b"}"


@pytest.mark.parametrize(
    ("name", "arguments", "named"),
    [
        ("get_product", b'{"catalog":{"id":"\\ud800"}}', "half a character"),
        ("get_product", b'{"\\ud800":1,"catalog":{"id":"m1"}}', "half a character"),
        ("get_context", b'{"query":"x","budget_tokens":NaN}', "not finite"),
        ("search_catalog", b'{"catalog":{"query":"x"},"filters":{"price":{"gte":1e999}}}', "not finite"),
        ("search_catalog", b'{"catalog":' + b"[" * 900 + b"]" * 900 + b"}", "nested deeper"),
    ],
)
def test_json_that_is_none_is_refused_by_the_newest_protocol(
    url: str, name: str, arguments: bytes, named: str
) -> None:
    prefix = "io.modelcontextprotocol/"
    client = {f"{prefix}clientInfo": {"name": "t", "version": "1"}, f"{prefix}clientCapabilities": {}}
    meta = b',"_meta":' + orjson.dumps({f"{prefix}protocolVersion": "2026-07-28", **client})
    routing = {"mcp_method": "tools/call", "mcp_name": name}
    result = post(url, calling(name, arguments, meta), **MODERN, **routing).json()["result"]
    assert result["isError"] is True
    assert named in result["content"][0]["text"]


@pytest.mark.parametrize("version", [{}, MODERN])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe\x00",
        b"null",
        b"[]",
        b"{}",
        b"[" * 200_000,
        b'{"a":' * 100_000,
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call"}',
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":[]}',
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":5}}',
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get_product","arguments":"x"}}',
        calling("get_product", b'{"catalog":{"id":"\\ud800"}}'),
        calling("get_context", b'{"query":"x","budget_tokens":NaN}'),
        calling("get_context", b'{"query":"x","budget_tokens":1' + b"0" * 5_000 + b"}"),
        calling("get_context", b'{"query":"x","filters":{"price":{"gte":1e999}}}'),
        b'{"jsonrpc":"2.0","id":1,"method":"nothing/known"}',
        b'{"jsonrpc":"2.0","id":{},"method":"tools/list"}',
        b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}',
        b'{"jsonrpc":"2.0","id":1,"result":{}}',
        b'[{"jsonrpc":"2.0","id":1,"method":"tools/list"}]',
        message("tools/call", {"name": "get_product", "arguments": {"catalog": {"id": "x" * 1_000_000}}}),
        b" " * (3 << 20),
    ],
)
def test_hostile_bodies_are_answered_and_harm_nobody(url: str, body: bytes, version: dict[str, str]) -> None:
    answer = post(url, body, **version)
    assert 200 <= answer.status_code < 500
    assert "Traceback" not in answer.text
    assert len(answer.content) < 5_000
    if answer.status_code == 200:
        reply = answer.json()
        assert "error" in reply or reply["result"]["isError"]
    assert is_alive(url)


def test_a_body_that_is_too_large_is_not_read(url: str) -> None:
    assert post(url, b" " * (3 << 20)).status_code == 413


def test_requests_are_refused_before_the_start_and_after_the_end(service: Service) -> None:
    app = McpApp(service)

    async def run() -> list[int]:
        routes = Starlette(routes=[Route("/mcp", endpoint=Door(app, {"agent": key("search")}))])
        transport = httpx.ASGITransport(routes)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:

            async def ask() -> int:
                answer = await client.post("/mcp", content=message("tools/list"), headers=HEADERS)
                return answer.status_code

            found = [await ask()]
            for _ in range(2):  # it can be started again
                async with app.running():
                    found.append(await ask())
                found.append(await ask())
            return found

    assert anyio.run(run) == [503, 200, 503, 200, 503]


# --- standard streams -----------------------------------------------------------------------------

HELLO = message(
    "initialize",
    {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}},
)


def spoken(folder: Path, *lines: bytes, last: int) -> list[dict[str, Any]]:
    """Send lines to `tilth mcp` and return what it writes, each line of which is a message, up to an id."""
    command = [sys.executable, "-c", COMMAND, str(folder)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"\n".join([*lines, b""]))
        process.stdin.flush()
        replies = []
        while not replies or replies[-1].get("id") != last:
            replies.append(orjson.loads(process.stdout.readline()))
        process.stdin.close()
        assert process.stdout.read() == b""
    assert process.returncode == 0
    return replies


def test_only_messages_are_written_and_garbage_harms_nobody(folder: Path) -> None:
    replies = spoken(
        folder,
        b"\xff\xfe garbage",
        b"[" * 100_000,
        b'{"jsonrpc":"2.0","id":9}',
        HELLO,
        b'{"jsonrpc":"2.0","method":"notifications/initialized"}',
        message("tools/list", id_=2),
        last=2,
    )
    by_id = {reply["id"]: reply for reply in replies if "id" in reply}
    assert by_id[1]["result"]["serverInfo"]["name"] == "tilth"
    assert "data" in by_id[1]["result"]["instructions"]
    assert [tool["name"] for tool in by_id[2]["result"]["tools"]] == NAMES


def test_a_missing_extra_names_the_command(tmp_path: Path) -> None:
    without = "import sys\nsys.modules['mcp.server.caching'] = None\n"
    done = subprocess.run(
        [sys.executable, "-c", without + COMMAND, str(tmp_path)],
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert b"pip install 'tilth[serve]'" in done.stderr


def test_an_index_that_is_not_there_is_said_on_the_standard_error(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, str(tmp_path / "none")], capture_output=True, timeout=120, check=False
    )
    assert done.returncode == 1
    assert done.stdout == b""
    assert b"error:" in done.stderr
