"""Who is let in, and how soon a change of the keys is seen."""

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilth.errors import StoreError, TilthError
from tilth.key_log import SCOPES, Key, KeyLog
from tilth.serve.keys import ANYBODY, Doorkeeper, ForbiddenError, UnauthenticatedError
from tilth.store import Store

MADE_UP = f"tilth_{'0' * 12}_{'A' * 43}"


class Clock:
    """A clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.seconds = 1_000.0

    def __call__(self) -> float:
        return self.seconds


class Watched(KeyLog):
    """A log that counts how often it is asked, and fails when it is told to."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.asked, self.fails = 0, False

    def _count(self) -> None:
        self.asked += 1
        if self.fails:
            raise StoreError("PostgreSQL reports: no route to host")

    def find(self, token: str, now: datetime) -> Key | None:
        self._count()
        return super().find(token, now)

    def any_created(self) -> bool:
        self._count()
        return super().any_created()


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Watched]:
    with Store.open(tmp_path / "store.sqlite") as store:
        yield Watched(store)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def door(log: Watched, clock: Clock) -> Doorkeeper:
    return Doorkeeper(log, clock=clock)


def guess(number: int) -> str:
    return f"tilth_{number:012x}_{'A' * 43}"


# --- what opens what ------------------------------------------------------------------------------


@pytest.mark.parametrize("has", SCOPES)
@pytest.mark.parametrize("needed", SCOPES)
def test_a_key_opens_what_its_scopes_say(log: Watched, door: Doorkeeper, has: str, needed: str) -> None:
    key, token = log.create("till", [has])
    if has in (needed, "admin"):
        assert door.admit(token, needed) == key
        return
    with pytest.raises(ForbiddenError) as caught:
        door.admit(token, needed)
    assert caught.value.scope == needed
    text = str(caught.value)
    assert f"the scope '{needed}'" in text
    assert f"'till' ({key.key_id}) has {has}." in text
    assert f"tilth key create INDEX --name NAME --scopes {needed}" in text
    assert token[-43:] not in text


@pytest.mark.parametrize(
    "token", ["", "tilth_", "secret", MADE_UP, f"{MADE_UP}\n", "ключ" * 20, "x" * 100_000]
)
def test_who_is_unknown_is_refused_and_their_token_not_repeated(
    log: Watched, door: Doorkeeper, token: str
) -> None:
    log.create("till", ["admin"])
    with pytest.raises(
        UnauthenticatedError, match=r"unknown, revoked or expired\. .*tilth key create"
    ) as caught:
        door.admit(token, "search")
    assert isinstance(caught.value, TilthError)
    assert len(token) < 8 or token.strip() not in str(caught.value)


def test_a_malformed_token_costs_nothing(log: Watched, door: Doorkeeper) -> None:
    for token in ("", "x" * 100_000, MADE_UP + "A"):
        with pytest.raises(UnauthenticatedError):
            door.admit(token, "search")
    assert log.asked == 0


def test_a_key_that_expired_since_is_refused_at_once(log: Watched, door: Doorkeeper) -> None:
    key, token = log.create("till", ["search"], datetime.now(UTC) + timedelta(days=1))
    expired = replace(key, expires=datetime.now(UTC) - timedelta(seconds=1))
    log.find = lambda *_: expired  # as it was found before that
    with pytest.raises(UnauthenticatedError):
        door.admit(token, "search")


def test_the_page_of_keys_is_true(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "keys.md").read_text("utf-8")
    assert tuple(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) == SCOPES
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    done = subprocess.run([sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "shop.sqlite").is_file()


# --- before there is a key ------------------------------------------------------------------------


def test_anybody_comes_in_until_the_first_key_is_made(log: Watched, door: Doorkeeper, clock: Clock) -> None:
    assert door.open
    assert {door.admit(None, scope) for scope in SCOPES} == {ANYBODY}
    assert log.asked == 1
    with pytest.raises(UnauthenticatedError):
        door.admit(MADE_UP, "search")
    key, token = log.create("first", ["search"])
    assert door.admit(token, "search") == key
    clock.seconds += 5
    with pytest.raises(UnauthenticatedError, match=r"'Authorization: Bearer tilth_\.\.\.'"):
        door.admit(None, "search")
    assert not door.open


def test_the_door_stays_closed_when_the_last_key_is_revoked(
    log: Watched, door: Doorkeeper, clock: Clock
) -> None:
    key, _ = log.create("only", ["admin"])
    log.revoke(key.key_id)
    for _ in range(3):
        assert not door.open
        with pytest.raises(UnauthenticatedError):
            door.admit(None, "search")
        clock.seconds += 100
    assert log.asked == 1


def test_an_open_door_stays_open_for_a_minute_without_the_store(
    log: Watched, door: Doorkeeper, clock: Clock
) -> None:
    assert door.open
    log.fails = True
    clock.seconds += 59
    assert door.admit(None, "search") == ANYBODY
    clock.seconds += 1
    with pytest.raises(StoreError):
        door.admit(None, "search")


def test_nobody_comes_in_before_the_store_was_asked(log: Watched, door: Doorkeeper) -> None:
    log.fails = True
    for token in (None, MADE_UP):
        with pytest.raises(StoreError):
            door.admit(token, "search")


# --- how long an answer holds ---------------------------------------------------------------------


def test_the_store_is_asked_once_in_five_seconds(log: Watched, door: Doorkeeper, clock: Clock) -> None:
    key, token = log.create("till", ["search"])
    for asked in (1, 2, 3):
        for _ in range(100):
            assert door.admit(token, "search") == key
        assert log.asked == asked
        clock.seconds += 5


def test_a_revoked_key_is_refused_within_five_seconds(log: Watched, door: Doorkeeper, clock: Clock) -> None:
    key, token = log.create("till", ["search"])
    door.admit(token, "search")
    log.revoke(key.key_id)
    clock.seconds += 4.9
    assert door.admit(token, "search") == key
    clock.seconds += 0.1
    for _ in range(2):
        with pytest.raises(UnauthenticatedError):
            door.admit(token, "search")
    assert log.asked == 2


def test_a_new_key_is_let_in_at_once(log: Watched, door: Doorkeeper) -> None:
    for _ in range(3):
        key, token = log.create("till", ["search"])
        assert door.admit(token, "search") == key


def test_a_refusal_holds_for_five_seconds_too(log: Watched, door: Doorkeeper, clock: Clock) -> None:
    key, token = log.create("till", ["search"])
    found = log.find
    log.find = lambda *_: log._count()  # not there yet
    for _ in range(10):
        with pytest.raises(UnauthenticatedError):
            door.admit(token, "search")
    assert log.asked == 1
    log.find = found
    with pytest.raises(UnauthenticatedError):
        door.admit(token, "search")
    clock.seconds += 5
    assert door.admit(token, "search") == key


def test_guesses_push_out_no_keys(log: Watched, door: Doorkeeper) -> None:
    made = [log.create(str(n), ["search"]) for n in range(20)]
    for _, token in made:
        door.admit(token, "search")
    for number in range(1_200):
        with pytest.raises(UnauthenticatedError):
            door.admit(guess(number), "search")
    asked = log.asked
    assert [door.admit(token, "search") for _, token in made] == [key for key, _ in made]
    assert log.asked == asked
    assert (len(door._found), len(door._refused)) == (20, 1_000)


def test_of_too_many_keys_those_used_last_are_remembered(log: Watched, door: Doorkeeper) -> None:
    key, _ = log.create("any", ["search"])
    log.find = lambda *_: log._count() or key
    for number in range(1_000):
        door.admit(guess(number), "search")
    door.admit(guess(0), "search")  # used again
    door.admit(guess(1_000), "search")  # pushes out the second
    asked = log.asked
    door.admit(guess(0), "search")
    assert log.asked == asked
    door.admit(guess(1), "search")
    assert log.asked == asked + 1
    assert len(door._found) == 1_000


def test_no_token_is_remembered(log: Watched, door: Doorkeeper) -> None:
    _, token = log.create("till", ["search"])
    door.admit(token, "search")
    with pytest.raises(UnauthenticatedError):
        door.admit(MADE_UP, "search")
    remembered = repr(vars(door))
    assert token[-43:] not in remembered
    assert "A" * 43 not in remembered


def test_what_is_remembered_is_recalled_without_the_store(
    log: Watched, door: Doorkeeper, clock: Clock
) -> None:
    key, token = log.create("till", ["search"])
    assert door.recall(token) is None
    door.admit(token, "search")
    clock.seconds += 4.9
    assert door.recall(token) == key
    door.check(key, "search")
    with pytest.raises(ForbiddenError):
        door.check(key, "write")
    clock.seconds += 0.1
    assert door.recall(token) is None
    assert log.asked == 1


def test_nothing_is_recalled_of_who_is_refused(log: Watched, door: Doorkeeper) -> None:
    key, token = log.create("till", ["search"], datetime.now(UTC) + timedelta(days=1))
    expired = replace(key, expires=datetime.now(UTC))
    log.find = lambda token, _: expired if token != MADE_UP else None
    for refused in (token, MADE_UP, "x"):
        with pytest.raises(UnauthenticatedError):
            door.admit(refused, "search")
        assert door.recall(refused) is None


def test_anybody_is_recalled_while_the_door_is_open(log: Watched, door: Doorkeeper, clock: Clock) -> None:
    assert door.recall(None) is None
    door.admit(None, "search")
    assert door.recall(None) == ANYBODY
    log.create("first", ["search"])
    clock.seconds += 5
    assert door.recall(None) is None
    assert log.asked == 1
    assert not door.open
    assert door.recall(None) is None


# --- without the store ----------------------------------------------------------------------------


def test_without_the_store_a_known_key_is_let_in_for_a_minute(
    log: Watched, door: Doorkeeper, clock: Clock
) -> None:
    key, token = log.create("till", ["search"])
    _, other = log.create("other", ["search"])
    door.admit(token, "search")
    log.fails = True
    clock.seconds += 59
    assert door.admit(token, "search") == key
    with pytest.raises(ForbiddenError):
        door.admit(token, "write")
    with pytest.raises(StoreError, match="no route to host"):
        door.admit(other, "search")
    clock.seconds += 1
    with pytest.raises(StoreError, match="no route to host"):
        door.admit(token, "search")
    log.fails = False
    assert door.admit(token, "search") == key


def test_without_the_store_a_refused_token_stays_out(log: Watched, door: Doorkeeper, clock: Clock) -> None:
    with pytest.raises(UnauthenticatedError):
        door.admit(MADE_UP, "search")
    log.fails = True
    clock.seconds += 4
    with pytest.raises(UnauthenticatedError):
        door.admit(MADE_UP, "search")
    clock.seconds += 1
    with pytest.raises(StoreError):
        door.admit(MADE_UP, "search")


def test_time_that_the_store_took_to_fail_counts(log: Watched, door: Doorkeeper, clock: Clock) -> None:
    _, token = log.create("till", ["search"])
    door.admit(token, "search")
    clock.seconds += 10

    def fail(*_: object) -> None:
        clock.seconds += 120
        raise StoreError("timed out")

    log.find = fail
    with pytest.raises(StoreError, match="timed out"):
        door.admit(token, "search")


def test_while_one_thread_waits_for_the_store_the_others_go_on(
    log: Watched, door: Doorkeeper, clock: Clock
) -> None:
    key, token = log.create("till", ["search"])
    door.admit(token, "search")
    clock.seconds += 6
    waiting, go = threading.Event(), threading.Event()
    admitted = []

    def hang(*_: object) -> Key:
        waiting.set()
        assert go.wait(30)
        return key

    log.find = hang
    thread = threading.Thread(target=lambda: admitted.append(door.admit(token, "search")))
    thread.start()
    assert waiting.wait(30)
    assert door.admit(token, "search") == key
    go.set()
    thread.join()
    assert admitted == [key]


def test_what_was_asked_later_counts(log: Watched, door: Doorkeeper, clock: Clock) -> None:
    """An old answer that comes late does not let in a key that was found to be revoked since."""
    key, token = log.create("till", ["search"])
    found, times = log.find, []

    def slow(token: str, now: datetime) -> Key | None:
        answer = found(token, now)
        if not times:
            times.append(now)
            log.revoke(key.key_id)
            clock.seconds += 1
            with pytest.raises(UnauthenticatedError):
                door.admit(token, "search")
        return answer

    log.find = slow
    assert door.admit(token, "search") == key  # asked before it was revoked
    with pytest.raises(UnauthenticatedError):
        door.admit(token, "search")


@given(st.lists(st.sampled_from(["use", "revoke", "pass", "fail", "mend"]), max_size=30))
@settings(max_examples=60, deadline=None)
def test_a_revoked_key_never_outlasts_its_time(
    tmp_path_factory: pytest.TempPathFactory, acts: list[str]
) -> None:
    with Store.open(tmp_path_factory.mktemp("keys") / "store.sqlite") as store:
        log, clock = Watched(store), Clock()
        door = Doorkeeper(log, clock=clock)
        key, token = log.create("till", ["search"])
        revoked: float | None = None
        for act in acts:
            if act == "pass":
                clock.seconds += 3
            elif act == "revoke":
                log.revoke(key.key_id)
                revoked = clock.seconds if revoked is None else revoked
            elif act in ("fail", "mend"):
                log.fails = act == "fail"
            else:
                admitted = _admits(door, token)
                longest = 60 if log.fails else 5
                if revoked is not None and clock.seconds - revoked >= longest:
                    assert not admitted
                if revoked is None and not log.fails:
                    assert admitted


def _admits(door: Doorkeeper, token: str) -> bool:
    try:
        door.admit(token, "search")
    except (UnauthenticatedError, StoreError):
        return False
    return True
