"""Keys of the service: one contract over SQLite and a real PostgreSQL server."""

import re
import string
import threading
from base64 import urlsafe_b64decode
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from tilth.errors import InputError, StoreError
from tilth.key_log import MAX_NAME, SCOPES, KeyLog, is_token
from tilth.store import Store
from tilth.store_schema import KEYS

NewUrl = Callable[[], str]
DAY = timedelta(days=1)
LETTERS = string.ascii_letters + string.digits + "-_"
NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=120)


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    with Store.open(url) as opened:
        yield opened


@pytest.fixture(scope="module")
def shared(new_url: NewUrl) -> Iterator[KeyLog]:
    """A log for tests that only read it, or that do not care what else is in it."""
    with Store.open(new_url()) as opened:
        yield KeyLog(opened)


def test_a_new_store_has_no_keys(store: Store) -> None:
    log = KeyLog(store)
    assert (log.keys(), log.any_created()) == ([], False)
    assert log.find(f"tilth_{'0' * 12}_{'A' * 43}", now()) is None


def test_a_key_is_found_by_its_token_after_reopening(url: str) -> None:
    before = now()
    with Store.open(url) as store:
        key, token = KeyLog(store).create("лавка 'Rose' \\ %s", ["feedback", "search"], before + DAY)
    assert re.fullmatch(r"tilth_[0-9a-f]{12}_[A-Za-z0-9_-]{43}", token)
    assert token.startswith(f"tilth_{key.key_id}_")
    assert len(urlsafe_b64decode(token[-43:] + "=")) == 32
    assert before <= key.created <= now()
    assert (key.scopes, key.expires, key.revoked) == ({"search", "feedback"}, before + DAY, None)
    with Store.open(url, create=False) as store:
        log = KeyLog(store)
        assert log.any_created()
        assert log.keys() == [key]
        assert log.find(token, now()) == key


def test_the_hash_of_the_secret_is_kept_and_nothing_else_of_it(store: Store) -> None:
    _, token = KeyLog(store).create("till", ["search"])
    with store.engine.connect() as connection:
        row = connection.execute(select(KEYS)).one()
    assert bytes(row.hash) == sha256(token[-43:].encode()).digest()
    assert token[-43:] not in repr(row)


def test_the_files_of_the_store_do_not_hold_the_secret(tmp_path: Path) -> None:
    with Store.open(tmp_path / "store.sqlite") as store:
        log = KeyLog(store)
        key, token = log.create("till", ["search"])
        secret = token.rpartition(f"{key.key_id}_")[2]
        assert log.find(token, now()) == key
        written = b"".join(path.read_bytes() for path in tmp_path.iterdir())  # the log of SQLite too
    written += (tmp_path / "store.sqlite").read_bytes()
    assert key.key_id.encode() in written
    assert sha256(secret.encode()).digest() in written
    for secret_bytes in (secret.encode(), urlsafe_b64decode(secret + "="), secret[:20].encode()):
        assert secret_bytes not in written


def test_keys_and_secrets_are_all_different(shared: KeyLog) -> None:
    made = [shared.create("one of many", ["search"]) for _ in range(50)]
    assert len({key.key_id for key, _ in made}) == len({token[-43:] for _, token in made}) == 50


def test_keys_are_listed_with_the_oldest_first(store: Store) -> None:
    log = KeyLog(store)
    made = [log.create(name, ["search"])[0] for name in ("c", "a", "b")]
    log.revoke(made[1].key_id)
    listed = log.keys()
    assert [key.name for key in listed] == ["c", "a", "b"]
    assert [key.revoked is None for key in listed] == [True, False, True]


@pytest.mark.parametrize("scope", SCOPES)
def test_a_scope_opens_itself_and_admin_opens_all(shared: KeyLog, scope: str) -> None:
    key, token = shared.create("x", [scope])
    opened = {each for each in SCOPES if key.allows(each)}
    assert opened == (set(SCOPES) if scope == "admin" else {scope})
    assert shared.find(token, now()) == key
    assert key.ordered_scopes == [scope]


def test_scopes_keep_their_own_order() -> None:
    assert SCOPES == ("search", "feedback", "write", "judge", "admin")


def test_a_revoked_key_is_not_found_and_stays_revoked(store: Store) -> None:
    log = KeyLog(store)
    (_, kept), (key, token) = log.create("kept", ["search"]), log.create("lost", ["admin"])
    revoked = log.revoke(key.key_id)
    assert revoked.revoked is not None
    assert key.created <= revoked.revoked <= now()
    assert log.find(token, now()) is None
    assert log.find(token, key.created) is None
    assert log.revoke(key.key_id) == revoked
    assert log.find(kept, now()) is not None
    assert log.any_created()


def test_a_key_is_found_until_the_moment_it_expires(store: Store) -> None:
    log = KeyLog(store)
    there = timezone(timedelta(hours=5))
    expires = (now() + DAY).astimezone(there)
    key, token = log.create("week", ["search"], expires)
    assert key.expires == expires
    assert key.expires.tzinfo is UTC
    microsecond = timedelta(microseconds=1)
    assert log.find(token, expires - microsecond) == key
    assert log.find(token, expires) is None
    assert log.find(token, expires + 1000 * DAY) is None


@pytest.mark.parametrize("key_id", ["", "0" * 12, "0" * 13, "x\0y", "\ud800", "' OR 1=1 --", "ABCDEF012345"])
def test_an_unknown_key_cannot_be_revoked(shared: KeyLog, key_id: str) -> None:
    with pytest.raises(InputError, match=r"field 'key_id': there is no such key .*tilth key list"):
        shared.revoke(key_id)


@pytest.mark.parametrize(
    "name", ["", "  ", "a\nb", "a\tb", "x" * (MAX_NAME + 1), "\x1b[2J", "a\u202eb", "\ud800"]
)
def test_a_name_says_who_it_is(shared: KeyLog, name: str) -> None:
    before = shared.keys()
    with pytest.raises(InputError, match=r"field 'name': is no name of a key .*1 to 100 printable"):
        shared.create(name, ["search"])
    assert shared.keys() == before


@pytest.mark.parametrize(
    ("scopes", "wrong"), [([], "at least one"), (["search", "read"], "'read'"), ("admin", "'a'")]
)
def test_scopes_are_those_there_are(shared: KeyLog, scopes: list[str], wrong: str) -> None:
    with pytest.raises(InputError, match=rf"{wrong}.*There are search, feedback, write, judge, admin"):
        shared.create("x", scopes)


def test_an_expiry_lies_in_the_future_and_has_a_zone(shared: KeyLog) -> None:
    for expires in (now(), now() - DAY, datetime.max):
        with pytest.raises(InputError, match="a key expires in the future"):
            shared.create("x", ["search"], expires)


def test_what_the_database_refuses_makes_no_key(store: Store) -> None:
    with store.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE tilth_keys")
    log = KeyLog(store)
    for ask in (log.keys, log.any_created, lambda: log.create("x", ["search"]), lambda: log.revoke("0" * 12)):
        with pytest.raises(StoreError):
            ask()
    with pytest.raises(StoreError):
        log.find(f"tilth_{'0' * 12}_{'A' * 43}", now())


@pytest.fixture(scope="module")
def one(shared: KeyLog) -> str:
    """The token of a key that is valid."""
    return shared.create("valid", ["admin"])[1]


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_no_altered_token_is_found(shared: KeyLog, one: str, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(one) - 1))
    put = data.draw(st.sampled_from(LETTERS) | st.characters())
    other = shared.create("other", ["search"])[1]
    altered = data.draw(
        st.sampled_from([
            one[:place] + put + one[place + 1 :],
            one[:place] + one[place + 1 :],
            one[:place] + put + one[place:],
            one + put,
            one[:place],
            one.swapcase(),
            one.upper(),
            one[:19] + other[19:],
            one * 2,
        ])
    )  # fmt: skip
    assume(altered != one)
    assert shared.find(altered, now()) is None
    assert shared.find(one, now()) is not None


@given(st.text(max_size=200) | st.from_regex(r"tilth_[0-9a-f]{12}_[\w-]{43}\n?", fullmatch=True))
@settings(max_examples=150, deadline=None)
def test_no_text_that_somebody_makes_up_is_found(shared: KeyLog, one: str, text: str) -> None:
    assume(text != one)
    assert shared.find(text, now()) is None
    assert not is_token(text) or (len(text) == 62 and text.isascii())


def test_a_malformed_token_costs_no_query(store: Store, one: str) -> None:
    with store.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE tilth_keys")
    for text in ("", "tilth_", "x" * 62, one + "\n", one + "A" * 10_000_000, f" {one}", f"Bearer {one}"):
        assert not is_token(text)
        assert KeyLog(store).find(text, now()) is None


@given(NAMES, st.sets(st.sampled_from(SCOPES), min_size=1), st.none() | st.timedeltas(DAY, 10_000 * DAY))
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
def test_a_key_is_kept_as_it_was_made(
    shared: KeyLog, name: str, scopes: set[str], lasts: timedelta | None
) -> None:
    assume(name.isprintable() and name.strip() and len(name) <= MAX_NAME)
    expires = None if lasts is None else now() + lasts
    key, token = shared.create(name, scopes, expires)
    assert (key.name, key.scopes, key.expires, key.revoked) == (name, scopes, expires, None)
    assert shared.find(token, now()) == key
    listed = shared.keys()
    assert key in listed


def test_two_programs_see_each_others_keys(url: str) -> None:
    with Store.open(url) as one, Store.open(url) as other:
        made: list[tuple[str, str]] = []

        def make(store: Store) -> None:
            for _ in range(10):
                key, token = KeyLog(store).create("x", ["search"])
                made.append((key.key_id, token))

        makers = [threading.Thread(target=make, args=(store,)) for store in (one, other)]
        for maker in makers:
            maker.start()
        for maker in makers:
            maker.join()
        for key_id, token in made:
            for store in (one, other):
                found = KeyLog(store).find(token, now())
                assert found is not None
                assert found.key_id == key_id
        KeyLog(one).revoke(made[0][0])
        assert KeyLog(other).find(made[0][1], now()) is None
