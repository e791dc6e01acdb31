"""Health, measures, figures and reports: what a person or a program sees of the running service."""

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from live_service import PRODUCTS, Live, eventually
from tilth.errors import IndexFormatError, StoreError
from tilth.online.figures import figures
from tilth.serve.http import watching


def measures(live: Live) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Return every measure by its name and labels."""
    response = live.client("admin").get("/metrics")
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    families = text_string_to_metric_families(response.text)
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for f in families for s in f.samples}


def search(live: Live, **body: object) -> None:
    assert live.client("search").post("/v1/search", json={"query": "garden hose", **body}).status_code == 200


# --- health ---------------------------------------------------------------------------------------


def test_health_says_what_is_searched(serve: Callable[..., Live]) -> None:
    live = serve()
    health = live.client("").get("/health/ready").json()
    assert (health["products"], health["generation"], health["release"]) == (len(PRODUCTS), 1, None)
    assert (health["behind"], health["fault"]) == (0, None)
    live.client("write").post("/v1/products", json=[{"id": "n", "title": "New"}])
    live.settled()
    after = live.client("").get("/health/ready").json()
    assert (after["products"], after["sequence"]) == (len(PRODUCTS) + 1, health["sequence"] + 1)


def test_without_its_store_the_service_is_not_ready(
    serve: Callable[..., Live], monkeypatch: pytest.MonkeyPatch
) -> None:
    live = serve()

    def broken(*_: object) -> int:
        raise StoreError("/secret/place/store.sqlite: the disk is gone")

    monkeypatch.setattr(live.service.store, "last_sequence", broken)
    response = live.client("").get("/health/ready")
    assert response.status_code == 503
    assert response.json()["behind"] is None
    assert "secret" not in response.text
    assert live.client("").get("/health/live").status_code == 200
    assert measures(live)["tilth_ready", ()] == 0
    monkeypatch.undo()
    eventually(live.ready)


def test_a_store_that_fails_is_told_without_its_place(
    serve: Callable[..., Live], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    live = serve()
    for error, part in ((StoreError, "store"), (IndexFormatError, "index")):

        def broken(*_: object, error: type[Exception] = error) -> None:
            raise error("/secret/place: is gone")

        monkeypatch.setattr(live.service, "search", broken)
        response = live.client("search").post("/v1/search", json={"query": "x"})
        assert (response.status_code, response.headers["retry-after"]) == (503, "2")
        assert "secret" not in response.text
        assert part in response.json()["detail"]
        assert "/secret/place: is gone" in caplog.text


# --- measures -------------------------------------------------------------------------------------


def test_requests_are_counted_by_route_and_status(serve: Callable[..., Live]) -> None:
    live = serve()
    for _ in range(3):
        search(live)
    live.client("").post("/v1/search", json={"query": "x"})
    live.client("search").post("/v1/search", content=b"{", headers={"Content-Type": "application/json"})
    found = measures(live)
    labels = (("method", "POST"), ("route", "/v1/search"))
    by_status = {
        status: found["tilth_requests_total", (*labels, ("status", status))]
        for status in ("200", "401", "400")
    }
    assert by_status == {"200": 3, "401": 1, "400": 1}
    assert found["tilth_request_seconds_count", (("route", "/v1/search"),)] == 5
    assert found["tilth_request_seconds_bucket", (("le", "+Inf"), ("route", "/v1/search"))] == 5
    assert 0 < found["tilth_request_seconds_sum", (("route", "/v1/search"),)] < 60


def test_searches_are_measured_by_stage_and_outcome(serve: Callable[..., Live]) -> None:
    live = serve()
    search(live)
    search(live, deadline_ms=0)
    search(live, query="")
    live.client("search").post("/v1/context", json={"query": "garden hose"})
    found = measures(live)
    assert found["tilth_stage_seconds_count", (("stage", "lexical"),)] == 3
    assert found["tilth_stage_seconds_count", (("stage", "dense"),)] == 2
    assert found["tilth_stage_seconds_count", (("stage", "context"),)] == 1
    assert found["tilth_stages_skipped_total", (("stage", "dense"),)] == 1
    assert found["tilth_answers_total", (("outcome", "hits"),)] == 3
    assert found["tilth_answers_total", (("outcome", "no hits"),)] == 1


def test_the_state_is_measured(serve: Callable[..., Live]) -> None:
    live = serve()
    search(live)
    event = {"action_name": "view", "query_id": "i", "timestamp": "2026-05-31T12:00:00Z"}
    live.client("feedback").post("/v1/feedback", json={"events": [event]})
    found = measures(live)
    assert found["tilth_ready", ()] == 1
    assert found["tilth_products", ()] == len(PRODUCTS)
    assert found["tilth_generation", ()] == 1
    assert found["tilth_behind", ()] == 0
    for queue in ("search", "write"):
        assert found["tilth_running", (("queue", queue),)] == 0
        assert found["tilth_waiting", (("queue", queue),)] == 0
    assert found["tilth_feedback_total", (("what", "kept"),)] == 1
    assert found["tilth_feedback_total", (("what", "recorded"),)] == 1
    assert found["tilth_feedback_total", (("what", "dropped"),)] == 0
    assert found["tilth_feedback_waiting_bytes", ()] >= 0


def test_without_feedback_there_are_no_measures_of_it(serve: Callable[..., Live]) -> None:
    live = serve(feedback={"enabled": False})
    assert not [name for name, _ in measures(live) if "feedback" in name]


# --- figures --------------------------------------------------------------------------------------


def test_figures_of_what_was_served(serve: Callable[..., Live]) -> None:
    live = serve()
    for arm in ("a", "a", "b"):
        search(live, arm=arm)
    client = live.client("judge")
    eventually(lambda: sum(g["answers"] for g in client.get("/v1/stats?by=arm").json()["groups"]) == 3)
    groups = client.get("/v1/stats", params={"by": "arm"}).json()["groups"]
    assert {group["group"]["arm"]: group["answers"] for group in groups} == {"a": 2, "b": 1}
    assert client.get("/v1/stats?by=arm&until=2020-01-01").json()["groups"] == []
    assert (
        client.get("/v1/stats?since=2020-01-01T00:00:00%2B03:00").json()["since"].startswith("2019-12-31T21")
    )


@pytest.mark.parametrize(
    ("query", "field"),
    [("since=yesterday", "since"), ("until=2026-13-01", "until"), ("since=2026-01-01T12:00:00", "since"),
     ("until=9999-12-31T23:00:00-12:00", "until"), ("since=0001-01-01T00:00:00%2B12:00", "since")],
)  # fmt: skip
def test_times_that_are_none(live: Live, query: str, field: str) -> None:
    response = live.client("judge").get(f"/v1/stats?{query}")
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == field


@pytest.mark.parametrize("by", ["colour", "arm,colour", "arm;release", "ARM"])
def test_figures_are_by_few_things(live: Live, by: str) -> None:
    assert live.client("judge").get("/v1/stats", params={"by": by}).status_code == 422


def test_figures_that_take_long_hold_up_nobody_else(
    serve: Callable[..., Live], monkeypatch: pytest.MonkeyPatch
) -> None:
    live = serve()
    client, go_on = live.client("judge"), threading.Event()
    monkeypatch.setattr(watching, "figures", lambda *_: go_on.wait(20) and figures(live.service.store))
    with ThreadPoolExecutor(30) as pool:
        asked = [pool.submit(client.get, "/v1/stats") for _ in range(30)]
        eventually(lambda: live.app._app.state.doors.asides.running == 2)
        try:
            assert live.ready()
            assert live.client("admin").get("/metrics").status_code == 200  # a key that was never asked for
            search(live)
            assert live.client("search").get("/v1/products/m1").status_code == 200
            answer = live.client("write").post("/v1/products", json=[{"id": "w", "title": "x"}])
            assert answer.status_code == 200
        finally:
            go_on.set()
        codes = Counter(each.result().status_code for each in asked)
    assert codes.keys() == {200, 429}
    assert codes[200] >= 2


# --- reports --------------------------------------------------------------------------------------


def test_reports_of_folders(serve: Callable[..., Live], tmp_path: Path) -> None:
    for name, text in (("one", "<p>One</p>"), ("two", "<p>Два</p>")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "report.html").write_text(text, "utf-8")
    (tmp_path / "three").mkdir()
    (tmp_path / "secret.html").write_text("secret", "utf-8")
    folders = [str(tmp_path / name) for name in ("one", "two", "three", "four")]
    live = serve(reports={"folders": folders})
    client = live.client("judge")
    names = {each["name"]: each["title"] for each in client.get("/v1/reports").json()["reports"]}
    assert names == {"experiment-1": "one", "experiment-2": "two"}
    assert client.get("/v1/reports/experiment-2").text == "<p>Два</p>"
    for name in ("experiment-3", "one", "../secret.html", "..%2Fsecret.html", str(tmp_path), "experiment-01"):
        assert client.get(f"/v1/reports/{name}").status_code == 404
    (tmp_path / "one" / "report.html").unlink()
    assert client.get("/v1/reports/experiment-1").status_code == 404
