"""Writing over HTTP: all or none, durable when answered, found a moment later, and each event once."""

import gzip
import threading
from collections.abc import Callable
from typing import Any

import httpx
import orjson
import pytest

from live_service import PRODUCTS, Live, eventually
from tilth.feedback_log import FeedbackLog
from tilth.judgment_log import JudgmentLog
from tilth.serve.spool import SpoolFullError
from tilth.store import Store

LINES = {"Content-Type": "application/x-ndjson"}


@pytest.fixture
def own(serve: Callable[..., Live]) -> Live:
    """A service of the test's own."""
    return serve()


def durable(live: Live) -> Store:
    """Open the store anew, as the next process would."""
    return Store.open(live.service.pipeline.live.path / "store.sqlite")


def put(live: Live, products: object, **more: Any) -> httpx.Response:
    return live.client("write").post("/v1/products", json=products, **more)


def hits(live: Live, query: str) -> list[str]:
    found = live.client("search").post("/v1/search", json={"query": query, "k": 50}).json()
    return [hit["product_id"] for hit in found["hits"]]


# --- products -------------------------------------------------------------------------------------


def test_a_product_is_durable_when_answered_and_found_a_moment_later(own: Live) -> None:
    product = {"id": "z1", "title": "Zwiebelpflanzer", "price": "12,50 €", "length": "22 cm"}
    assert put(own, [product]).json()["changed"] == 1
    with durable(own) as store:
        assert store.products(["z1"])["z1"].title == "Zwiebelpflanzer"
    eventually(lambda: hits(own, "zwiebelpflanzer")[:1] == ["z1"])
    assert own.client("search").get("/v1/products/z1").json()["price"] == "12.50 EUR"
    own.client("write").request("DELETE", "/v1/products/z1")
    with durable(own) as store:
        assert store.products(["z1"]) == {}
    eventually(lambda: "z1" not in hits(own, "zwiebelpflanzer"))


def test_lines_and_gzip(own: Live) -> None:
    lines = b"".join(orjson.dumps({"id": f"l{n}", "title": f"Line {n}"}) + b"\n" for n in range(1_000))
    packed, headers = gzip.compress(lines + b"\r\n\n"), {**LINES, "Content-Encoding": "gzip"}
    answer = own.client("write").post("/v1/products", content=packed, headers=headers)
    assert answer.json()["changed"] == 1_000
    again = own.client("write").post("/v1/products", content=lines, headers=LINES)
    assert again.json()["unchanged"] == 1_000
    assert own.service.store.count() == len(PRODUCTS) + 1_000


@pytest.mark.parametrize(
    ("bad", "field", "reason"),
    [
        ({"id": "x"}, "1.title", "no title"),
        ({"title": "x"}, "1.id", "no id"),
        ({"id": "a b", "title": "x"}, "1.id", "white space"),
        ({"id": "x", "title": "x", "price": "free"}, "1.price", "broken price"),
        ({"id": "x", "title": "x", "rating": "many"}, "1.rating", "not a number"),
        ({"id": "good", "title": "x"}, "1.id", "duplicate id"),
        ("x", "1", "not an object"),
        (None, "1", "not an object"),
        ({"id": "x", "title": "x" * 1_000_001}, "1.title", "longer than"),
    ],
)
def test_one_bad_product_stops_all_of_them(own: Live, bad: object, field: str, reason: str) -> None:
    response = put(own, [{"id": "good", "title": "Good"}, bad, {"id": "other", "title": "Other"}])
    assert response.status_code == 422
    fault = response.json()["errors"][0]
    assert fault["field"] == field
    assert reason in fault["detail"]
    assert response.json()["detail"] == "1 of 3 products cannot be used; none was stored"
    assert own.service.store.products(["good", "other", "x"]) == {}


def test_a_batch_has_its_limits(serve: Callable[..., Live]) -> None:
    live = serve(limits={"batch": 3, "requests_per_minute": 100_000, "burst": 10_000})
    four = [{"id": f"b{n}", "title": "x"} for n in range(4)]
    assert put(live, four).status_code == 422
    assert put(live, []).status_code == 422
    lines = b"".join(orjson.dumps(each) + b"\n" for each in four)
    assert live.client("write").post("/v1/products", content=lines, headers=LINES).status_code == 422
    ids = {"ids": [each["id"] for each in four]}
    assert live.client("write").post("/v1/products/delete", json=ids).status_code == 422
    events = {"events": [{"action_name": "view", "query_id": "i", "timestamp": "2026-01-01T00:00Z"}] * 4}
    assert live.client("feedback").post("/v1/feedback", json=events).status_code == 422
    assert live.service.store.count() == len(PRODUCTS)
    assert put(live, four[:3]).json()["changed"] == 3


def test_an_id_that_no_address_could_hold_is_not_taken(own: Live) -> None:
    assert put(own, [{"id": "x" * 1_000, "title": "x"}]).json()["changed"] == 1
    assert own.client("search").get(f"/v1/products/{'x' * 1_000}").status_code == 200
    response = put(own, [{"id": "x" * 1_001, "title": "x"}, {"id": "y", "title": "y"}])
    assert response.status_code == 422
    assert own.service.store.products(["y"]) == {}


def test_writers_at_once(own: Live) -> None:
    """Each writes products of its own, some of them again and again: all are there, and numbers ascend."""
    sequences: list[int] = []

    def write(writer: int) -> None:
        with httpx.Client(base_url=own.address, headers=own.client("write").headers, timeout=60) as client:
            for turn in range(5):
                batch = [{"id": f"w{writer}-{n}", "title": f"Turn {turn}"} for n in range(20)]
                answer = client.post("/v1/products", json=batch)
                if answer.status_code == 200:
                    sequences.append(answer.json()["sequence"])
                    assert answer.json()["changed"] == 20

    threads = [threading.Thread(target=write, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(sequences)) == len(sequences) == 30
    assert own.service.store.count() == len(PRODUCTS) + 120
    stored = own.service.store.products([f"w{writer}-{n}" for writer in range(6) for n in range(20)])
    assert {product.title for product in stored.values()} == {"Turn 4"}


# --- feedback -------------------------------------------------------------------------------------


def event(number: int, action: str = "click", **more: Any) -> dict[str, Any]:
    attributes = {"object": {"object_id": f"p{number}"}, **more.pop("attributes", {})}
    return {"action_name": action, "query_id": "i1", "timestamp": "2026-05-31T12:00:00Z",
            "event_attributes": attributes, **more}  # fmt: skip


def feed(live: Live, *events: object) -> httpx.Response:
    return live.client("feedback").post("/v1/feedback", json={"events": list(events)})


def test_events_are_durable_when_answered_and_kept_once(own: Live) -> None:
    assert feed(own, event(1), event(2), event(3, event_id="e3")).json() == {"recorded": 3, "known": 0}
    with durable(own) as store:
        kept = [each for _, each in FeedbackLog(store).interactions()]
    assert [each.product_id for each in kept] == ["p1", "p2", "p3"]
    assert feed(own, event(1), event(9, event_id="e3"), event(4)).json() == {"recorded": 1, "known": 2}
    assert len(list(FeedbackLog(own.service.store).interactions())) == 4


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        (event(1, "dance"), "action_name"),
        (event(1, "csat"), "event_attributes.value"),
        (event(1, "csat", attributes={"value": 6}), "event_attributes.value"),
        (event(1, attributes={"value": 1}), "event_attributes.value"),
        (event(1, attributes={"position": {"ordinal": 0}}), "event_attributes.position.ordinal"),
        (event(1, timestamp="yesterday"), "timestamp"),
        (event(1, timestamp="2026-05-31T12:00:00"), "timestamp"),
        (event(1, query_id=""), "query_id"),
        (event(1, query_id=7), "query_id"),
        (event(1, client_id="x" * 201), "client_id"),
        ({"query_id": "i"}, "action_name"),
    ],
)
def test_one_bad_event_stops_all_of_them(own: Live, bad: dict[str, Any], field: str) -> None:
    response = feed(own, event(1), bad)
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == f"events.1.{field}"
    assert list(FeedbackLog(own.service.store).interactions()) == []


def test_an_event_without_an_object_is_named_whole(own: Live) -> None:
    fault = feed(own, event(1), {}).json()["errors"][0]
    assert fault["field"] == "events.1.action_name"


def test_feedback_that_cannot_be_stored_says_when_to_come_again(
    own: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise SpoolFullError(f"{own.service.pipeline.live.path}: no more")

    monkeypatch.setattr(own.service, "record", full)
    response = feed(own, event(1))
    assert (response.status_code, response.headers["retry-after"]) == (503, "2")
    assert "index" not in response.json()["detail"].replace("or the index", "")


# --- judgments ------------------------------------------------------------------------------------


def test_grades_are_durable_when_answered(own: Live) -> None:
    grade = {"judge": "ann", "query_id": "q1", "query": "hose", "product_id": "hose-10-red", "grade": 3}
    answer = own.client("judge").post(
        "/v1/judgments", json={"judgments": [grade, {**grade, "product_id": "m1"}]}
    )
    assert answer.json() == {"added": 2}
    with durable(own) as store:
        kept = list(JudgmentLog(store).judgments())
    assert [(each.judge, each.grade, each.kind) for _, each in kept] == [("ann", 3, "person")] * 2


def test_one_bad_grade_stops_all_of_them(own: Live) -> None:
    grade = {"judge": "ann", "query_id": "q1", "product_id": "m1", "grade": 1}
    for bad in ({"grade": 4}, {"grade": "1"}, {"time": "now"}, {"kind": "model"}, {"judge": " "},
                {"product_id": "a\tb"}, {"query_id": None}):  # fmt: skip
        response = own.client("judge").post("/v1/judgments", json={"judgments": [grade, {**grade, **bad}]})
        assert response.status_code == 422
        assert "judgments[1]" in response.json()["errors"][0]["field"]
    assert list(JudgmentLog(own.service.store).judgments()) == []


# --- releases -------------------------------------------------------------------------------------


def test_releases_that_are_not_there(own: Live) -> None:
    client = own.client("admin")
    for name in ("r9", "..", "%2e%2e", "a%2Fb", "current", ".proposing-r1", "hybrid", "%00", "x" * 201):
        response = client.post(f"/v1/releases/{name}/promote", json={"force": True, "why": "because"})
        assert response.status_code in (404, 422)
        assert str(own.service.pipeline.live.path) not in response.text
    response = client.post("/v1/releases/rollback", json={})
    assert response.json()["detail"].endswith("no release is in force, so there is nothing to return from")
    assert str(own.service.pipeline.live.path) not in response.text
    assert client.get("/v1/releases").json() == {"in_force": None, "releases": [], "history": []}
