"""Searching over HTTP: what comes back, what a deadline leaves out, and what happens when too many ask."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from live_service import Live, eventually
from tilth.feedback_log import FeedbackLog
from tilth.serve.requests import SearchRequest


def search(live: Live, query: str = "garden hose", **more: Any) -> dict[str, Any]:
    response = live.client("search").post("/v1/search", json={"query": query, **more})
    assert response.status_code == 200, response.text
    return dict(response.json())


def ids(found: dict[str, Any]) -> list[str]:
    return [hit["product_id"] for hit in found["hits"]]


# --- what is found --------------------------------------------------------------------------------


def test_the_best_comes_first_and_says_why(live: Live) -> None:
    found = search(live, "cow manure", k=3, explain=True)
    hit = found["hits"][0]
    assert (hit["product_id"], hit["rank"], hit["brand"]) == ("m1", 1, "Humus")
    assert hit["explanation"]["matched"].keys() == {"cow", "manur"}
    assert hit["explanation"]["matched"]["cow"][0] == "title"
    assert hit["explanation"]["places"]["lexical"]["rank"] == 1
    assert not hit["explanation"]["identified"]


def test_an_identifier_finds_its_product(live: Live) -> None:
    found = search(live, "GH-25-r", explain=True)
    assert ids(found)[0] == "hose-25-red"
    assert found["hits"][0]["explanation"]["identified"]


def test_russian_is_read_as_well(live: Live) -> None:
    assert ids(search(live, "секаторы для розы", k=1)) == ["t1"]
    assert ids(search(live, "лопаты", k=1)) == ["t2"]


def test_a_misspelt_word_is_read_as_the_nearest(live: Live) -> None:
    found = search(live, "gardn hose")
    assert (found["query"], found["read_as"]) == ("gardn hose", "garden hose")


def test_filters_hold_for_every_hit(live: Live) -> None:
    found = search(live, k=50, filters={"colour": "red", "price": {"gte": 20, "lt": 40}})
    assert sorted(ids(found)) == ["hose-20-red", "hose-25-red", "hose-30-red"]
    assert found["totals"]["allowed"] == 3
    assert search(live, filters={"length": "25 m", "colour": ["green", "blue"]})["totals"]["allowed"] == 2


def test_facets_count_all_that_filters_allow_and_what_was_found(live: Live) -> None:
    found = search(live, facets=["colour"], filters={"brand": "Rill"})
    assert found["facets"]["colour"]["allowed"] == {"green": 6, "blue": 6}


def test_variants_collapse(live: Live) -> None:
    found = search(live, k=50, collapse=True)
    groups = Counter(hit.get("item_group_id", hit["product_id"]) for hit in found["hits"])
    assert set(groups.values()) == {1}
    assert sum(name.startswith("hose") for name in groups) == 6


@pytest.mark.parametrize("query", ["", "   ", "!!!", "\t\n"])
def test_a_query_without_words_finds_nothing(live: Live, query: str) -> None:
    found = search(live, query)
    assert (found["hits"], found["cursor"]) == ([], None)


def test_no_hits_are_asked_for(live: Live) -> None:
    found = search(live, k=0, facets=["brand"])
    assert found["hits"] == []
    assert found["facets"]["brand"]["allowed"]["Rill"] == 12


def test_an_unknown_field_is_refused_with_the_nearest(live: Live) -> None:
    response = live.client("search").post("/v1/search", json={"query": "x", "filters": {"colr": "red"}})
    assert response.status_code == 422
    assert "colour" in response.json()["detail"]


def test_limits_are_those_of_the_settings(serve: Callable[..., Live]) -> None:
    live = serve(search={"max_k": 5, "max_query_chars": 20, "max_facets": 1, "max_results": 8})
    for body in ({"query": "x", "k": 6}, {"query": "x" * 21}, {"query": "x", "facets": ["brand", "price"]}):
        assert live.client("search").post("/v1/search", json=body).status_code == 422
    assert live.client("search").post("/v1/facets", json={"fields": ["brand", "price"]}).status_code == 422
    first = search(live, k=5)
    second = search(live, k=5, cursor=first["cursor"])
    assert [hit["rank"] for hit in second["hits"]] == [6, 7, 8]
    assert second["cursor"] is None


# --- what is kept ---------------------------------------------------------------------------------


def test_what_was_shown_is_kept_and_what_was_not_to_be_kept_is_not(serve: Callable[..., Live]) -> None:
    live = serve(feedback={"application": "shop"})
    kept = search(live, k=4, arm="b", client_id="browser 7")
    unkept = search(live, k=4, log=False)
    second = search(live, k=4, cursor=kept["cursor"])
    log = FeedbackLog(live.service.store)
    wanted = [found["impression_id"] for found in (kept, unkept, second)]
    eventually(lambda: len(log.served_by_id(wanted)) == 2)
    served = log.served_by_id(wanted)
    assert wanted[1] not in served
    first = served[wanted[0]]
    assert (first.product_ids, first.first_rank) == (tuple(ids(kept)), 1)
    assert (first.query, first.kind, first.arm) == ("garden hose", "search", "b")
    assert (first.application, first.client_id, first.release) == ("shop", "browser 7", "")
    assert first.milliseconds.keys() >= {"lexical", "dense"}
    assert served[wanted[2]].first_rank == 5


def test_without_feedback_nothing_is_kept_and_searching_goes_on(serve: Callable[..., Live]) -> None:
    live = serve(feedback={"enabled": False})
    assert len(search(live)["impression_id"]) == 32
    assert not (live.service.pipeline.live.path / "feedback").exists()
    event = {"action_name": "view", "query_id": "i", "timestamp": "2026-01-01T00:00Z"}
    response = live.client("feedback").post("/v1/feedback", json={"events": [event]})
    assert response.status_code == 422
    assert "feedback.enabled" in response.json()["detail"]


# --- deadlines ------------------------------------------------------------------------------------


def test_without_time_words_alone_are_found(live: Live) -> None:
    found = search(live, "cow manure", deadline_ms=0)
    assert ids(found)[0] == "m1"
    assert "ms were left" in found["skipped"]["dense"]
    assert search(live, "cow manure", deadline_ms=3000)["skipped"] == {}


def test_the_longest_deadline(serve: Callable[..., Live]) -> None:
    live = serve(search={"deadline_ms": 3_000})
    assert search(live)["skipped"] == {}
    assert search(live, deadline_ms=3_000)["skipped"] == {}
    assert (
        live.client("search").post("/v1/search", json={"query": "x", "deadline_ms": 3001}).status_code == 422
    )


# --- too many -------------------------------------------------------------------------------------


class Slow:
    """The search of a service, made to take its time and to wait until it may go on."""

    def __init__(self, live: Live, monkeypatch: pytest.MonkeyPatch, seconds: float = 0.0) -> None:
        self.search, self.seconds = live.service.search, seconds
        self.open, self.left = threading.Event(), list[float | None]()
        self.running = self.most = 0
        monkeypatch.setattr(live.service, "search", self)

    def __call__(self, request: SearchRequest) -> Any:
        self.left.append(request.deadline_ms)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            assert self.open.wait(20)
            time.sleep(self.seconds)
            return self.search(request)
        finally:
            self.running -= 1


def at_once(live: Live, count: int, **more: Any) -> list[Future[httpx.Response]]:
    """Begin to ask."""
    pool = ThreadPoolExecutor(count)
    body = {"query": "garden hose", **more}
    client = live.client("search")
    futures = [pool.submit(client.post, "/v1/search", json=body) for _ in range(count)]
    pool.shutdown(wait=False)
    return futures


LIMITS = {"running": 1, "waiting": 2, "requests_per_minute": 1_000_000, "burst": 100_000}


def test_of_too_many_some_are_answered_and_the_others_told_when_to_come_again(
    serve: Callable[..., Live], monkeypatch: pytest.MonkeyPatch
) -> None:
    live = serve(limits=LIMITS)
    slow = Slow(live, monkeypatch, 0.05)
    answers = at_once(live, 20, deadline_ms=3000)
    eventually(lambda: sum(answer.done() for answer in answers) >= 17)
    slow.open.set()
    said = [answer.result() for answer in answers]
    codes = Counter(answer.status_code for answer in said)
    assert codes.keys() == {200, 429}
    assert 1 <= codes[200] <= 3  # one runs, and two wait if it does not take too long
    assert slow.most == 1
    for answer in said:
        if answer.status_code == 429:
            assert answer.headers["content-type"] == "application/problem+json"
            assert int(answer.headers["retry-after"]) >= 1
    assert search(live)["hits"]


def test_waiting_for_a_place_is_taken_from_the_deadline(
    serve: Callable[..., Live], monkeypatch: pytest.MonkeyPatch
) -> None:
    live = serve(limits=LIMITS)
    slow = Slow(live, monkeypatch)
    answers = at_once(live, 2, deadline_ms=3000)
    eventually(lambda: live.app._app.state.doors.searches.queued == 1)
    time.sleep(0.3)
    slow.open.set()
    assert [answer.result().status_code for answer in answers] == [200, 200]
    assert slow.left[0] > 2_500
    assert slow.left[1] < 2_701


def test_who_would_wait_longer_than_half_the_deadline_is_refused(
    serve: Callable[..., Live], monkeypatch: pytest.MonkeyPatch
) -> None:
    live = serve(limits=LIMITS)
    slow = Slow(live, monkeypatch)
    first = at_once(live, 1, deadline_ms=3000)
    eventually(lambda: slow.running == 1)
    for deadline in (0, 1, 100):
        body = {"query": "x", "deadline_ms": deadline}
        assert live.client("search").post("/v1/search", json=body).status_code == 429
    slow.open.set()
    assert first[0].result().status_code == 200


def test_other_routes_are_answered_while_searches_wait(
    serve: Callable[..., Live], monkeypatch: pytest.MonkeyPatch
) -> None:
    live = serve(limits=LIMITS)
    slow = Slow(live, monkeypatch)
    answers = at_once(live, 3, deadline_ms=3000)
    eventually(lambda: slow.running == 1)
    assert live.client("search").get("/v1/products/m1").status_code == 200
    assert live.client("write").post("/v1/products", json=[{"id": "w", "title": "x"}]).status_code == 200
    assert live.ready()
    slow.open.set()
    assert [answer.result().status_code for answer in answers] == [200] * 3
