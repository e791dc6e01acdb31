"""Lines of log: one an event, with the id of the request, and without queries unless they are wanted."""

import io
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from live_service import Live, eventually
from tilth.serve.logs import REQUEST_ID, set_up_logging


@pytest.fixture
def logged() -> Iterator[Callable[..., io.StringIO]]:
    """Set up the logging of the process, and put it back afterwards."""
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    known = {
        name: logging.getLogger(name)
        for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "httpx", "mcp")
    }
    states = {name: (logger.level, logger.propagate, list(logger.handlers)) for name, logger in known.items()}

    def begin(form: str = "json", level: str = "info") -> io.StringIO:
        stream = io.StringIO()
        set_up_logging(form, level, stream)
        return stream

    yield begin
    root.handlers[:] = before
    root.setLevel(level)
    for name, logger in known.items():
        logger.level, logger.propagate, logger.handlers[:] = states[name]


def events(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def requests(stream: io.StringIO, answers: list[httpx.Response]) -> list[dict[str, Any]]:
    """Return the lines of the requests that were answered so; a line may come a moment after the answer."""

    def found() -> dict[str, dict[str, Any]]:
        whole = stream.getvalue().rpartition("\n")[0]
        said = [event for event in map(json.loads, whole.splitlines()) if event["logger"] == "tilth.access"]
        return {event["request_id"]: event for event in said}

    ids = [answer.headers["x-request-id"] for answer in answers]
    eventually(lambda: found().keys() >= set(ids))
    return [found()[each] for each in ids]


def test_a_line_is_json_with_its_facts(logged: Callable[..., io.StringIO]) -> None:
    stream = logged()
    logging.getLogger("shop").warning("%d лопат", 3, extra={"stage": "dense", "ms": 1.5})
    (event,) = events(stream)
    assert event.pop("time").endswith("+00:00")
    assert event == {"level": "warning", "logger": "shop", "event": "3 лопат", "stage": "dense", "ms": 1.5}


def test_lines_of_a_request_have_its_id(logged: Callable[..., io.StringIO]) -> None:
    stream = logged()
    token = REQUEST_ID.set("r-1")
    logging.getLogger("shop").error("within")
    REQUEST_ID.reset(token)
    logging.getLogger("shop").error("without")
    assert [event.get("request_id") for event in events(stream)] == ["r-1", None]


def test_a_trace_stays_on_its_line(logged: Callable[..., io.StringIO]) -> None:
    stream = logged()
    try:
        raise KeyError("x\ny")
    except KeyError:
        logging.getLogger("shop").exception("broken")
    (event,) = events(stream)
    assert "Traceback" in event["trace"]
    assert "KeyError" in event["trace"]


@pytest.mark.parametrize(
    "value", ["\ud800", 2**200, {("a", 1): 2}, object(), b"\xff", float("nan"), {"\udfff": 1}, {1, 2}]
)
def test_no_value_loses_a_line(logged: Callable[..., io.StringIO], value: object) -> None:
    stream = logged()
    logging.getLogger("shop").info("odd", extra={"value": value})
    (event,) = events(stream)
    assert event["event"] == "odd"


def test_no_text_looks_like_another_event(logged: Callable[..., io.StringIO]) -> None:
    forged = 'x"}\n{"level":"error","event":"forged"}\r\n2026 error forged'
    for form in ("json", "text"):
        stream = logged(form)
        logging.getLogger("shop").info("%s", forged, extra={"query": forged})
        assert len(stream.getvalue().splitlines()) == 1


def test_lines_for_people(logged: Callable[..., io.StringIO]) -> None:
    stream = logged("text")
    logging.getLogger("shop").info("found", extra={"hits": 3, "key": "", "query": "лопата"})
    line = stream.getvalue()
    assert line.endswith(" info shop found hits=3 query=лопата\n")
    try:
        raise ValueError("twice")
    except ValueError:
        logging.getLogger("shop").exception("broken")
    assert stream.getvalue().endswith("ValueError: twice\n")


def test_levels(logged: Callable[..., io.StringIO]) -> None:
    stream = logged(level="error")
    logging.getLogger("shop").warning("nothing to see")
    logging.getLogger("httpx").info("nothing to see")
    logging.getLogger("uvicorn.access").error("nothing to see")
    assert stream.getvalue() == ""
    logging.getLogger("uvicorn.error").error("seen")
    assert len(events(stream)) == 1


# --- of the running service -----------------------------------------------------------------------

SECRET = "самая тайная лопата"


def ask_everything(live: Live) -> list[httpx.Response]:
    """Ask and fail in many ways, always with a text that nobody may see."""
    client, answers = live.client("admin"), []
    for path, body in (
        ("/v1/search", {"query": SECRET}), ("/v1/search", {"query": SECRET, "filters": {"brand": SECRET}}),
        ("/v1/search", {"query": SECRET * 60}), ("/v1/search", {"query": SECRET, "facets": [SECRET]}),
        ("/v1/search", {"query": 1, "arm": SECRET}), ("/v1/context", {"query": SECRET}),
        ("/v1/context", {"query": SECRET, "budget_tokens": 1}), ("/v1/ask", {"query": SECRET}),
        ("/v1/facets", {"fields": [SECRET]}),
    ):  # fmt: skip
        answers.append(client.post(path, json=body))
    answers.append(client.get(f"/v1/products/{SECRET}", params={"query": SECRET}))
    return answers


def test_queries_are_not_logged(serve: Callable[..., Live], logged: Callable[..., io.StringIO]) -> None:
    live = serve()
    live.client("admin").get("/v1/fields")
    stream = logged(level="debug")
    logging.getLogger("httpx").setLevel(logging.CRITICAL)
    logging.getLogger("httpcore").setLevel(logging.CRITICAL)
    found = requests(stream, ask_everything(live))
    assert all(event["ms"] > 0 for event in found)
    assert {event["status"] for event in found} == {200, 404, 409, 422}
    assert SECRET not in stream.getvalue()
    assert "тайная" not in stream.getvalue()


def test_queries_are_logged_where_the_settings_say_so(
    serve: Callable[..., Live], logged: Callable[..., io.StringIO]
) -> None:
    live = serve(logging={"queries": True})
    stream = logged()
    client, named = live.client("search"), {"X-Request-Id": "mine"}
    answers = [
        client.post("/v1/search", json={"query": SECRET}),
        client.post("/v1/context", json={"query": SECRET}, headers=named),
    ]
    found = requests(stream, answers)
    assert [event["query"] for event in found] == [SECRET, SECRET]
    assert found[1]["request_id"] == "mine"
