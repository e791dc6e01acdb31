"""Over real HTTP: what is asked, what is tried again, what is an error, and what is never shown."""

import logging
import socket
import sys
from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labelling.chat_server import BEGIN, KEY, ChatServer, FakeTime, Reply, connect, grade, says, serving
from tilth.errors import InputError, MissingExtraError, SettingError
from tilth.labelling.chat import (
    Chat,
    Endpoint,
    EndpointError,
    EndpointRefusedError,
    Usage,
    read_key,
    retry_after,
)
from tilth.labelling.pace import Pace

ASKED = [{"role": "user", "content": "How good is it?"}]
SCHEMA = {"type": "object"}
TOKENS = {"prompt_tokens": 40, "completion_tokens": 7}


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with serving() as server:
        yield server


def forms(server: ChatServer) -> list[tuple[str | None, bool]]:
    """The output form and the temperature's presence of each request."""
    bodies = [asked.body for asked in server.asked]
    return [(body.get("response_format", {}).get("type"), "temperature" in body) for body in bodies]


# --- what is asked --------------------------------------------------------------------------------


def test_a_question_and_its_answer(server: ChatServer) -> None:
    server.replies = [says("Good.", TOKENS)]
    with connect(server) as chat:
        assert chat.ask(ASKED, SCHEMA) == ("Good.", Usage(40, 7))
    (asked,) = server.asked
    assert asked.path == "/v1/chat/completions"
    assert asked.headers["Authorization"] == f"Bearer {KEY}"
    assert asked.body["model"] == "judge-1"
    assert asked.body["messages"] == ASKED
    assert asked.body["temperature"] == 0
    assert asked.body["response_format"]["json_schema"] == {
        "name": "answer",
        "strict": True,
        "schema": SCHEMA,
    }


def test_without_a_key_no_header_is_sent(server: ChatServer) -> None:
    with connect(server, key="") as chat:
        chat.ask(ASKED, SCHEMA)
    assert "Authorization" not in server.asked[0].headers


def test_missing_token_numbers_are_guessed_and_said_to_be(server: ChatServer) -> None:
    server.replies = [says("123456789012")]
    with connect(server) as chat:
        assert chat.ask(ASKED, SCHEMA).usage == Usage(len("How good is it?") // 3 + 1, 5, estimated=1)


def test_a_refusal_is_the_answer(server: ChatServer) -> None:
    server.replies = [says(None, refusal="I cannot.")]
    with connect(server) as chat:
        assert chat.ask(ASKED, SCHEMA).text == "I cannot."


# --- forms ----------------------------------------------------------------------------------------


def test_an_endpoint_without_schemas_is_asked_for_any_object_from_then_on(server: ChatServer) -> None:
    server.replies = [Reply({"error": "response_format json_schema is unknown"}, 400), grade(1)]
    with connect(server) as chat:
        chat.ask(ASKED, SCHEMA)
        chat.ask(ASKED, SCHEMA)
    assert forms(server) == [("json_schema", True), ("json_object", True), ("json_object", True)]


def test_an_endpoint_without_forms_is_asked_for_text(server: ChatServer) -> None:
    server.replies = [Reply("no", 400), Reply("no", 422), grade(1)]
    with connect(server) as chat:
        assert "grade" in chat.ask(ASKED, SCHEMA).text
    assert forms(server) == [("json_schema", True), ("json_object", True), (None, True)]


def test_a_model_of_one_temperature_is_asked_without_it(server: ChatServer) -> None:
    server.replies = [Reply({"error": {"message": "'temperature' does not support 0"}}, 400), grade(1)]
    with connect(server) as chat:
        chat.ask(ASKED, SCHEMA)
    assert forms(server) == [("json_schema", True), ("json_schema", False)]


def test_a_question_that_suits_no_form_changes_nothing_for_the_next(server: ChatServer) -> None:
    server.replies = [*[Reply("input is too long", 400)] * 4, grade(1)]
    with connect(server) as chat:
        with pytest.raises(EndpointError, match="HTTP 400 'input is too long'") as caught:
            chat.ask(ASKED, SCHEMA)
        assert not isinstance(caught.value, EndpointRefusedError)
        chat.ask(ASKED, SCHEMA)
    assert forms(server)[-1] == ("json_schema", True)


# --- what passes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
def test_what_passes_is_tried_again_after_growing_pauses(server: ChatServer, status: int) -> None:
    faked = FakeTime()
    server.replies = [Reply("busy", status)] * 3 + [grade(1)]
    with connect(server, faked) as chat:
        chat.ask(ASKED, SCHEMA)
        assert chat.requests == 4
    assert faked.slept == [1.0, 2.0, 4.0]


def test_pauses_are_shortened_at_random_by_half_at_most(server: ChatServer) -> None:
    faked = FakeTime(chance=1.0)
    server.replies = [Reply("busy", 500)] * 7 + [grade(1)]
    with connect(server, faked, attempts=8) as chat:
        chat.ask(ASKED, SCHEMA)
    assert faked.slept == [0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0]  # the last from the longest, 30


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("header", ["20", "Sun, 31 May 2026 12:00:20 GMT"])
def test_the_pause_that_is_asked_for_is_kept(server: ChatServer, status: int, header: str) -> None:
    faked = FakeTime()
    server.replies = [Reply("busy", status, {"Retry-After": header}), grade(1)]
    with connect(server, faked) as chat:
        chat.ask(ASKED, SCHEMA)
    assert faked.elapsed == 20


def test_the_pause_that_is_asked_for_holds_other_questions_too(server: ChatServer) -> None:
    faked = FakeTime()
    server.replies = [Reply("busy", 429, {"Retry-After": "50"}), grade(1)]
    with connect(server, faked, attempts=1) as chat:
        with pytest.raises(EndpointError, match="no answer in 1 attempts"):
            chat.ask(ASKED, SCHEMA)
        assert faked.elapsed == 0
        chat.ask(ASKED, SCHEMA)
    assert faked.elapsed == 50


def test_an_endpoint_that_asks_for_an_hour_has_refused(server: ChatServer) -> None:
    server.replies = [Reply("come back", 429, {"Retry-After": "3600"})]
    with connect(server) as chat, pytest.raises(EndpointRefusedError, match="pause of 3,600 seconds"):
        chat.ask(ASKED, SCHEMA)
    assert len(server.asked) == 1


def test_a_slow_answer_is_given_up_and_asked_for_again(server: ChatServer) -> None:
    server.replies = [Reply("", delay=0.6), grade(3)]
    with connect(server, timeout=0.3, attempts=20) as chat:
        assert "3" in chat.ask(ASKED, SCHEMA).text
        assert chat.requests >= 2


def test_a_closed_connection_is_tried_again(server: ChatServer) -> None:
    server.replies = [Reply(None), grade(3)]
    with connect(server) as chat:
        assert "3" in chat.ask(ASKED, SCHEMA).text
        assert chat.requests == 2


def test_when_nothing_helps_the_error_says_what_happened_last(server: ChatServer) -> None:
    server.replies = [Reply("overloaded", 500)]
    with connect(server, attempts=3) as chat, pytest.raises(EndpointError) as caught:
        chat.ask(ASKED, SCHEMA)
    assert "no answer in 3 attempts; the last: HTTP 500 'overloaded'" in str(caught.value)
    assert f"{server.url}/chat/completions" in str(caught.value)
    assert len(server.asked) == 3


def test_where_nothing_listens_the_error_names_the_address() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        faked = FakeTime()
        with (
            Chat(Endpoint(url, "m", attempts=2), faked.clock) as chat,
            pytest.raises(EndpointError, match=r"ConnectError.*Check that the endpoint runs") as caught,
        ):
            chat.ask(ASKED, SCHEMA)
    assert url in str(caught.value)
    assert faked.slept == [1.0]


def test_after_stopping_nothing_is_tried_again(server: ChatServer) -> None:
    with Chat(Endpoint(server.url, "m", attempts=9)) as chat:  # on the real clock

        def stopping(_: object) -> Reply:
            chat.stop()
            return Reply("busy", 500)

        server.replies = [stopping]
        with pytest.raises(EndpointError, match="HTTP 500"):
            chat.ask(ASKED, SCHEMA)
    assert len(server.asked) == 1


# --- what does not pass ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "remedy"),
    [(401, "Check the key"), (402, "no funds"), (403, "Check the key"), (404, "name of the model"),
     (301, "OpenAI-compatible"), (405, "OpenAI-compatible")],
)  # fmt: skip
def test_a_refusal_is_final_and_says_what_to_do(server: ChatServer, status: int, remedy: str) -> None:
    server.replies = [Reply("no such thing", status)]
    with connect(server) as chat, pytest.raises(EndpointRefusedError) as caught:
        chat.ask(ASKED, SCHEMA)
    text = str(caught.value)
    assert f"HTTP {status} 'no such thing'" in text
    assert server.url in text
    assert remedy in text
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "body", ["<html>", {"choices": []}, {"object": "list"}, [1], {"choices": [{"message": None}]}]
)
def test_what_is_no_completion_is_shown(server: ChatServer, body: object) -> None:
    server.replies = [Reply(body)]
    with connect(server) as chat, pytest.raises(EndpointError, match="is no chat completion: HTTP 200"):
        chat.ask(ASKED, SCHEMA)


# --- the key --------------------------------------------------------------------------------------


def test_the_key_is_never_shown(server: ChatServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    server.replies = [Reply(f"Incorrect API key: {KEY}", 401)]
    with connect(server) as chat, pytest.raises(EndpointRefusedError, match=r"API key: \*\*\*") as caught:
        chat.ask(ASKED, SCHEMA)
    server.replies = [Reply("-" * 290 + KEY, 500)]  # across the end of what is quoted
    with connect(server, attempts=1) as chat, pytest.raises(EndpointError) as later:
        chat.ask(ASKED, SCHEMA)
    seen = [
        str(caught.value),
        str(later.value),
        repr(chat.endpoint),
        *(r.getMessage() for r in caplog.records),
    ]
    assert not any(KEY[:6] in text for text in seen)
    assert any("chat/completions" in r.getMessage() for r in caplog.records)  # there was something to see


def test_a_key_comes_from_the_environment() -> None:
    assert read_key({"LLM_KEY": f" {KEY}\n"}, "LLM_KEY") == KEY


@pytest.mark.parametrize("value", [None, "", "  ", "sk secret", "sk\nsecret", "ключ"])
def test_a_key_that_cannot_be_sent_is_not_shown(value: str | None) -> None:
    with pytest.raises(InputError, match="LLM_KEY") as caught:
        read_key({} if value is None else {"LLM_KEY": value}, "LLM_KEY")
    assert "secret" not in str(caught.value)


# --- settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    ["", "localhost:8000", "ftp://host/v1", "http://", "http://host:port/v1", "http://[::1/v1",
     "https://user:secret@host/v1", "https://host/v1?key=secret", "https://host/v1#secret"],
)  # fmt: skip
def test_what_is_no_address_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(InputError, match="the URL") as caught:
        Endpoint(url, "m")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "wrong",
    [{"model": ""}, {"timeout": 0}, {"attempts": 0}, {"requests_per_minute": -1}, {"tokens_per_minute": 0},
     {"timeout": float("nan")}],
)  # fmt: skip
def test_settings_out_of_range(wrong: dict) -> None:
    with pytest.raises(SettingError, match=next(iter(wrong))):
        Endpoint(**{"url": "http://localhost/v1", "model": "m", **wrong})


def test_without_httpx_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(MissingExtraError, match=r"tilth\[llm\]"):
        Chat(Endpoint("http://localhost/v1", "m"))


# --- pace -----------------------------------------------------------------------------------------


def test_requests_are_spread_over_the_minute(server: ChatServer) -> None:
    faked = FakeTime()
    with connect(server, faked, requests_per_minute=30) as chat:
        for _ in range(4):
            chat.ask(ASKED, SCHEMA)
    assert faked.slept == [2.0, 2.0, 2.0]


def test_tokens_are_spread_over_the_minute_by_what_was_used(server: ChatServer) -> None:
    faked = FakeTime()
    server.replies = [says("Good.", {"prompt_tokens": 500, "completion_tokens": 100})]
    with connect(server, faked, tokens_per_minute=1200) as chat:
        for _ in range(3):
            chat.ask(ASKED, SCHEMA)
    assert faked.slept == [30.0, 30.0]  # 600 of 1,200 a minute, whatever was expected


@given(
    st.floats(1, 10_000),
    st.lists(st.tuples(st.floats(0.01, 1_000), st.floats(0, 100)), min_size=1, max_size=30),
)
def test_no_pace_is_ever_exceeded(per_minute: float, steps: list[tuple[float, float]]) -> None:
    now = [0.0]
    pace = Pace(per_minute, lambda: now[0])
    begun: list[tuple[float, float]] = []
    for amount, later in steps:
        begun.append((now[0] + pace.spend(amount), amount))
        now[0] += later
    for (start, amount), (following, _) in pairwise(begun):
        assert following - start >= amount * 60 / per_minute - 1e-6


def test_what_is_given_back_can_be_spent_again() -> None:
    pace = Pace(60, lambda: 0.0)
    assert pace.spend(10) == 0
    pace.spend(-4)
    assert pace.spend(1) == 6


def test_without_a_limit_nobody_waits_unless_held() -> None:
    pace = Pace(float("inf"), lambda: 5.0)
    assert pace.spend(1e9) == 0
    pace.hold(3)
    assert [pace.spend(1), pace.spend(1)] == [3, 3]


# --- Retry-After ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "seconds"),
    [(None, None), ("", None), ("soon", None), ("nan", None), ("inf", None),
     ("7", 7), ("0.5", 0.5), ("-3", 0), ("Sun, 31 May 2026 12:01:00 GMT", 60),
     ("Sun, 31 May 2026 11:00:00 GMT", 0), ("Sun, 31 May 2026 15:01:00 +0300", 60)],
)  # fmt: skip
def test_retry_after(header: str | None, seconds: float | None) -> None:
    assert retry_after(header, BEGIN) == seconds


def test_retry_after_counts_from_now() -> None:
    assert retry_after("Sun, 31 May 2026 12:01:00 GMT", BEGIN + timedelta(seconds=45)) == 15
