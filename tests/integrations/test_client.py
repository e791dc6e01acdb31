"""The client of the service: what it returns, what it tries again, and what it says of faults."""

import asyncio
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from integrations.running import running, settings_of
from serve.chat_stream import ChatServer, Reply, serving
from tilth.errors import InputError, SettingError
from tilth.integrations.client import Client, TilthHttpError, products_of
from tilth.key_log import KeyLog
from tilth.store import Store

KEY = "tilth_0123456789ab_very-secret"
Ask = Callable[[Client], dict[str, Any]]


def at_once(client: Client) -> dict[str, Any]:
    return client.context("bucket")


def in_a_loop(client: Client) -> dict[str, Any]:
    async def run() -> dict[str, Any]:
        try:
            return await client.acontext("bucket")
        finally:
            await client.aclose()

    return asyncio.run(run())


@pytest.fixture(params=[at_once, in_a_loop])
def ask(request: pytest.FixtureRequest) -> Ask:
    """Ask for a context, from a thread or from an event loop."""
    return request.param


@pytest.fixture
def server() -> Iterator[ChatServer]:
    """A server that answers every POST as it is told."""
    with serving() as server:
        yield server


def answers(content: object, status: int = 200, **headers: str) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply([orjson.dumps(content)], status, {"Content-Type": "application/json", **named})


def busy(after: str | None, status: int = 429) -> Reply:
    headers = {} if after is None else {"Retry_After": after}
    return answers({"status": status, "detail": "too much at once", "request_id": "r7"}, status, **headers)


# --- answers --------------------------------------------------------------------------------------


def test_answers_are_those_of_the_service(url: str) -> None:
    filters = {"price": {"lt": 10}}
    with Client(url) as client:
        context = client.context("bucket", k=5, budget_tokens=900, filters=filters)
        page = client.search("bucket", k=1, filters=filters)
    asked = {"query": "bucket", "k": 5, "budget_tokens": 900, "filters": filters}
    assert context["text"] == httpx.post(f"{url}/v1/context", json=asked).json()["text"]
    assert {passage["product_id"] for passage in context["passages"]} == {"b1", "b3"}
    assert len(page["hits"]) == 1
    assert page["hits"][0]["product_id"] in ("b1", "b3")


def test_an_event_loop_gets_the_same(url: str) -> None:
    async def run(client: Client) -> tuple[dict[str, Any], dict[str, Any]]:
        async with client:
            return await client.acontext("секатор", k=5), await client.asearch("секатор")

    context, page = asyncio.run(run(Client(url)))
    assert "> id: s1" in context["text"]
    assert page["hits"][0]["product_id"] == "s1"


def test_loops_and_threads_share_a_client(url: str) -> None:
    client = Client(url)

    async def several() -> list[str]:
        found = await asyncio.gather(*(client.asearch("bucket", k=1) for _ in range(4)))
        return [each["query"] for each in found]

    assert [asyncio.run(several()) for _ in range(3)] == [["bucket"] * 4] * 3  # each loop has ended
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda query: client.search(query)["query"], ["bucket", "секатор"] * 4))
    assert found == ["bucket", "секатор"] * 4
    client.close()


def test_a_service_may_lie_below_a_path(server: ChatServer) -> None:
    server.replies = [answers({})]
    with Client(server.url.replace("/v1", "/shop/tilth")) as client:
        assert client.search("x") == {}
    assert server.asked[0].path == "/shop/tilth/v1/search"
    assert server.asked[0].body == {"query": "x"}
    assert "Authorization" not in server.asked[0].headers


# --- keys -----------------------------------------------------------------------------------------


def test_a_key_is_sent_and_one_that_is_missing_is_said_to_be(goods: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(goods, tmp_path / "index", symlinks=True))
    with Store.open(folder / "store.sqlite") as store:
        _, token = KeyLog(store).create("a shop", ["search"])
        _, other = KeyLog(store).create("a load", ["write"])
    with running(folder, settings_of()) as url:
        with Client(url, f" {token}\n") as client:
            assert client.search("bucket")["hits"]
        for key, status, said in (("", 401, "needs an API key"), (other, 403, "needs the scope 'search'")):
            with Client(url, key) as client, pytest.raises(TilthHttpError, match=said) as raised:
                client.search("bucket")
            assert raised.value.status == status
            assert raised.value.request_id
            assert not key or key not in str(raised.value)


def test_a_key_is_shown_nowhere(server: ChatServer) -> None:
    client = Client(server.url, KEY)
    server.replies = [answers({"detail": "no"}, 401)]
    with pytest.raises(TilthHttpError) as raised:
        client.search("x")
    assert server.asked[0].headers["Authorization"] == f"Bearer {KEY}"
    assert KEY not in f"{client!r} {vars(client)} {raised.value!r} {vars(raised.value)}"
    assert repr(client) == f"Client('{server.url}/')"
    client.close()


@pytest.mark.parametrize("key", ["ключ", "a b", "a\nb"])
def test_a_key_that_no_header_holds_is_refused(key: str) -> None:
    with pytest.raises(InputError, match="key cannot be sent") as raised:
        Client("http://localhost", key)
    assert key not in str(raised.value)


@pytest.mark.parametrize(
    "url",
    ["localhost:8080", "ftp://shop", "http://", "", "http://me:secret@shop", "http://a:x", "http://a?b=1"],
)
def test_a_url_that_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(InputError, match="no address of a service") as raised:
        Client(url)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("timeout", [0, -1, float("nan")])
def test_a_timeout_is_above_0(timeout: float) -> None:
    with pytest.raises(SettingError, match="timeout is"):
        Client("http://localhost", timeout=timeout)


# --- faults ---------------------------------------------------------------------------------------


def test_what_is_wrong_is_said_in_the_words_of_the_service(url: str) -> None:
    with Client(url) as client, pytest.raises(TilthHttpError, match=r"HTTP 422: .*nosuch") as raised:
        client.context("bucket", filters={"nosuch": 1})
    assert raised.value.status == 422


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("after", ["0", "date"])
def test_a_busy_service_is_asked_once_more(server: ChatServer, ask: Ask, status: int, after: str) -> None:
    past = format_datetime(datetime.now(UTC) - timedelta(seconds=5), usegmt=True)
    refusal = busy(past if after == "date" else after, status)
    server.replies = [refusal, answers({"query": "bucket"})]
    assert ask(Client(server.url)) == {"query": "bucket"}
    assert len(server.asked) == 2
    assert server.asked[0].body == server.asked[1].body

    server.asked.clear()
    server.replies = [refusal]
    with pytest.raises(TilthHttpError, match="too much at once") as raised:
        ask(Client(server.url))
    assert (raised.value.status, raised.value.request_id) == (status, "r7")
    assert len(server.asked) == 2


@pytest.mark.parametrize("refusal", [busy("3"), busy(None), busy("soon"), busy("nan"), busy("1", 500)])
def test_other_refusals_stand(server: ChatServer, ask: Ask, refusal: Reply) -> None:
    server.replies = [refusal]
    with pytest.raises(TilthHttpError, match="too much at once"):
        ask(Client(server.url, timeout=2.0))
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "reply",
    [
        Reply([b"<html>Welcome</html>"]),
        Reply([b"<html>Bad Gateway</html>"], 502),
        Reply([], 404),
        answers([1]),
        Reply([b"\xff"]),
        Reply([], 302, {"Location": "http://127.0.0.1:9/"}),
    ],
)
def test_what_is_no_service_is_said_to_be_none(server: ChatServer, ask: Ask, reply: Reply) -> None:
    server.replies = [reply]
    with pytest.raises(TilthHttpError, match="is no service of Tilth") as raised:
        ask(Client(server.url))
    assert raised.value.status == reply.status
    assert len(server.asked) == 1


def test_a_service_that_is_not_there_or_silent(server: ChatServer, ask: Ask) -> None:
    server.replies = [Reply(silent=True)]
    with pytest.raises(TilthHttpError, match=r"no answer in 0\.1 seconds") as raised:
        ask(Client(server.url, timeout=0.1))
    assert raised.value.status is None
    with serving() as gone:
        pass
    with pytest.raises(TilthHttpError, match="cannot be reached"):
        ask(Client(gone.url))


def test_what_is_no_json_is_not_sent(server: ChatServer) -> None:
    with Client(server.url) as client:
        for filters in ({"price": {1, 2}}, {"brand": "\ud800"}):
            with pytest.raises(InputError, match="cannot be written as JSON"):
                client.context("x", filters=filters)
    assert server.asked == []


# --- products of a context ------------------------------------------------------------------------


def test_the_products_of_a_context(url: str) -> None:
    with Client(url) as client:
        context = client.context("steel bucket 10 l")
    (text, metadata), *others = products_of(context)
    assert text.startswith("Steel bucket volume: 10 l;")
    assert metadata == {
        "product_id": "b1",
        "label": "[1]",
        "price": "9.00 EUR",
        "sale_price": "",
        "availability": "in_stock",
        "variants": [
            {
                "product_id": "b2",
                "price": "12.00 EUR",
                "sale_price": "11.00 EUR",
                "availability": "out_of_stock",
                "differences": {"volume": "15 l"},
            }
        ],
        "rank": 1,
        "nearest": False,
        "impression_id": context["impression_id"],
    }
    assert [each["rank"] for _, each in others] == list(range(2, len(others) + 2))
    assert all(each["variants"] == [] for _, each in others)


def test_passages_of_one_product_are_one_text() -> None:
    offer = {"price": "", "sale_price": "", "availability": ""}
    passages = [
        {"label": "[1]", "product_id": "a", **offer, "text": "A spade."},
        {"label": "[1]", "product_id": "a", **offer, "text": "Its handle."},
        {"label": "[2]", "product_id": "b", **offer, "text": "A rake."},
    ]
    context = {"passages": passages, "variants": [], "nearest": True, "impression_id": "i"}
    assert [(text, each["product_id"], each["rank"]) for text, each in products_of(context)] == [
        ("A spade.\nIts handle.", "a", 1),
        ("A rake.", "b", 2),
    ]
    assert products_of({**context, "passages": []}) == []
