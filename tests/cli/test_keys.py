"""`tilth key` as a person or a program calls it."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from commands import Command, runner
from shop import SHOP
from tilth.cli.keys import app
from tilth.key_log import KeyLog
from tilth.retrieval.index import open_store
from tilth.store import Store

NONE = "no key was ever created: the service asks for none, and listens on loopback only\n"


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("TILTH_STORE", raising=False)

    return runner(app, "tilth key", capfd)


@pytest.fixture
def idx(tmp_path: Path) -> Path:
    with open_store(tmp_path / "idx") as store:
        store.upsert(SHOP)
    return tmp_path / "idx"


def test_the_token_stands_alone_on_the_standard_output(key: Command, idx: Path) -> None:
    made = key("create", idx, "--name", "[red]till[/red]", "--scopes", "feedback, search")
    assert made.code == 0
    (key_id,) = re.fullmatch(r"tilth_(\w{12})_[\w-]{43}\n", made.out).groups()
    assert made.err == (
        f"{key_id} is the key of [red]till[/red] for search, feedback; it does not expire. Keep the token: "
        "it cannot be seen again\n"
    )
    with open_store(idx, create=False) as store:
        found = KeyLog(store).find(made.out.strip(), datetime.now(UTC))
    assert found is not None
    assert (found.key_id, found.name, found.expires) == (key_id, "[red]till[/red]", None)


def test_a_key_may_expire(key: Command, idx: Path) -> None:
    before = datetime.now(UTC)
    made = key("create", idx, "--name", "week", "--scopes", "admin", "--days", 7, "--json")
    facts = made.json
    assert made.err == ""
    expires = datetime.fromisoformat(facts["expires"])
    assert before + timedelta(days=7) <= expires <= datetime.now(UTC) + timedelta(days=7)
    with open_store(idx, create=False) as store:
        log = KeyLog(store)
        assert log.find(facts["token"], expires - timedelta(seconds=1)) is not None
        assert log.find(facts["token"], expires) is None
    del facts["token"]
    assert key("list", idx, "--json").json == {"keys": [facts]}
    told = key("create", idx, "--name", "week", "--scopes", "admin", "--days", 7).err
    assert re.search(r"for admin; it expires on \d{4}-\d\d-\d\d\.", told)


def test_keys_are_listed_without_their_tokens(key: Command, idx: Path) -> None:
    assert key("list", idx).out == NONE
    assert key("list", idx, "--json").json == {"keys": []}
    tokens = [
        key("create", idx, "--name", name, "--scopes", scopes).out.strip()
        for name, scopes in (("лавка", "search,feedback"), ("night", "write"))
    ]
    listed = key("list", idx)
    header, first, second = listed.out.splitlines()
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    assert header.split() == ["id", "name", "scopes", "created", "expires", "revoked"]
    assert first.split() == [tokens[0][6:18], "лавка", "search,", "feedback", today]
    assert second.split() == [tokens[1][6:18], "night", "write", today]
    shown = listed.out + key("list", idx, "--json").out
    assert not any(token[-43:] in shown for token in tokens)


def test_a_revoked_key_is_shown_as_such(key: Command, idx: Path) -> None:
    token = key("create", idx, "--name", "till", "--scopes", "search").out.strip()
    key_id = token[6:18]
    assert key("revoke", idx, key_id).out == f"{key_id}, the key of till, is revoked\n"
    again = key("revoke", idx, key_id, "--json").json
    assert (again["key_id"], again["scopes"]) == (key_id, ["search"])
    assert key("list", idx, "--json").json == {"keys": [again]}
    assert key("list", idx).out.splitlines()[1].split()[-1] == again["revoked"][:10]
    with open_store(idx, create=False) as store:
        assert KeyLog(store).find(token, datetime.now(UTC)) is None


def test_refusals_say_what_to_do(key: Command, idx: Path, tmp_path: Path) -> None:
    unknown = key("revoke", idx, "0" * 12)
    assert (unknown.code, unknown.out) == (1, "")
    assert "there is no such key (got '000000000000'). Those there are: tilth key list" in unknown.err
    for scopes, reason in (
        ("search,read", "there is no such scope (got 'read')"),
        (",", "at least one scope"),
    ):
        refused = key("create", idx, "--name", "x", "--scopes", scopes)
        assert (refused.code, refused.out) == (1, "")
        assert reason in refused.err
        assert "There are search, feedback, write, judge, admin" in refused.err
    assert "1 to 100 printable characters" in key("create", idx, "--name", " ", "--scopes", "search").err
    assert key("create", idx, "--name", "x", "--scopes", "search", "--days", 0).code == 2
    assert key("create", idx, "--scopes", "search").code == 2
    assert key("list", idx).out == NONE
    for command in (["list"], ["revoke"], ["create", "--name", "x", "--scopes", "search"]):
        rest = [*command[1:], *(["0" * 12] if command == ["revoke"] else [])]
        nowhere = key(command[0], tmp_path / "none", *rest)
        assert (nowhere.code, nowhere.out) == (1, "")
        assert "there is no store" in nowhere.err


def test_keys_are_kept_in_the_store_that_is_named(key: Command, idx: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/shared.db"
    Store.open(url).close()
    token = key("create", idx, "--name", "x", "--scopes", "search", "--store", url).out.strip()
    assert key("list", idx).out == NONE
    (listed,) = key("list", idx, "--store", url, "--json").json["keys"]
    assert listed["key_id"] == token[6:18]
    assert key("revoke", idx, listed["key_id"], "--store", url).code == 0
