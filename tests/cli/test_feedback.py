"""`tilth feedback` as a person or a program calls it."""

import gzip
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest

from commands import Command, runner
from shop import SHOP
from tilth.cli.feedback import app
from tilth.feedback_log import FeedbackLog
from tilth.interactions import Interaction, Served
from tilth.retrieval.index import open_store

NOON = datetime(2026, 5, 31, 12, tzinfo=UTC)
SERVED = [
    Served(impression_id=f"i{n}", query="розы", product_ids=("m2", "m1"), time=NOON + timedelta(days=n))
    for n in range(3)
]
DONE = [
    Interaction(event_id=f"e{n}", impression_id=f"i{n}", action="click", time=each.time, product_id="m1")
    for n, each in enumerate(SERVED)
]


@pytest.fixture
def feedback(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    monkeypatch.setenv("COLUMNS", "80")

    return runner(app, "tilth feedback", capfd)


@pytest.fixture
def idx(tmp_path: Path) -> Path:
    with open_store(tmp_path / "idx") as store:
        store.upsert(SHOP)
        FeedbackLog(store).append(SERVED, DONE)
    return tmp_path / "idx"


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    open_store(tmp_path / "empty").close()
    return tmp_path / "empty"


def kept(index: Path) -> tuple[list[Served], list[Interaction]]:
    with open_store(index, create=False) as store:
        log = FeedbackLog(store)
        return [each for _, each in log.served()], [each for _, each in log.interactions()]


def test_what_is_exported_is_imported_once(feedback: Command, idx: Path, empty: Path, tmp_path: Path) -> None:
    into = tmp_path / "out"
    assert feedback("export", idx, "--into", into, "--json").json == {
        "into": str(into), "impressions": 3, "interactions": 3,
    }  # fmt: skip
    assert {path.name for path in into.iterdir()} == {"ubi_queries.jsonl", "ubi_events.jsonl"}
    first = orjson.loads((into / "ubi_events.jsonl").read_bytes().splitlines()[0])
    assert first["event_attributes"]["object"]["object_id"] == "m1"
    files = ("--queries", into / "ubi_queries.jsonl", "--events", into / "ubi_events.jsonl")
    assert feedback("import", empty, *files, "--json").json == {
        "read": 6, "impressions": 3, "interactions": 3, "known": 0,
    }  # fmt: skip
    again = feedback("import", empty, *files)
    assert (again.code, again.out) == (0, "0 impressions and 0 interactions added, 6 were known\n")
    assert kept(empty) == (SERVED, DONE)
    told = feedback("export", idx, "--into", into)
    assert told.out == f"{files[1]}: 3 impressions\n{files[3]}: 3 interactions\n"


def test_one_file_alone_also_gzipped(feedback: Command, idx: Path, empty: Path, tmp_path: Path) -> None:
    feedback("export", idx, "--into", tmp_path)
    packed = tmp_path / "events.gz"
    packed.write_bytes(gzip.compress((tmp_path / "ubi_events.jsonl").read_bytes()))
    done = feedback("import", empty, "--events", packed)
    assert done.out == "0 impressions and 3 interactions added, 0 were known\n"
    assert kept(empty) == ([], DONE)


def test_every_bad_line_is_named_and_nothing_is_written(
    feedback: Command, idx: Path, empty: Path, tmp_path: Path
) -> None:
    feedback("export", idx, "--into", tmp_path)
    queries, events = tmp_path / "ubi_queries.jsonl", tmp_path / "ubi_events.jsonl"
    good = events.read_text("utf-8").splitlines()
    bad = ["{", "[]", good[0].replace('"m1"', "7"), good[1].replace('"click"', '"hover"')]
    events.write_text("\n".join([good[0], bad[0], "", bad[1], good[1], *bad[2:]]) + "\n")
    queries.write_bytes(queries.read_bytes() + b'{"query_id": "i9", "user_query": "x"}\n')
    refused = feedback("import", empty, "--queries", queries, "--events", events, "--json")
    assert (refused.code, refused.out) == (1, "")
    told = [line.strip() for line in refused.err.splitlines()]
    assert told[0] == f"{queries}:4, field 'query_response_hit_ids': is missing"
    assert told[1].startswith(f"{events}:2: invalid JSON: ")
    assert told[2] == f"{events}:4: is no JSON object (got [])"
    assert told[3] == f"{events}:6, field 'event_attributes.object.object_id': is not a text (got 7)"
    assert told[4].startswith(f"{events}:7, field 'action_name': is none of view, click, cart")
    assert told[5:] == [
        "error: 5 of 10 lines cannot be used, and nothing was written. Correct them or take them out"
    ]
    assert kept(empty) == ([], [])


def test_a_bad_query_alone_leaves_the_log_as_it_was(feedback: Command, idx: Path, tmp_path: Path) -> None:
    feedback("export", idx, "--into", tmp_path)
    queries = tmp_path / "ubi_queries.jsonl"
    queries.write_text(queries.read_text("utf-8").replace('"i0"', '"i7"').replace('"i2"', '""'))
    refused = feedback("import", idx, "--queries", queries)
    assert (refused.code, refused.err.splitlines()[0]) == (
        1,
        f"  {queries}:3, field 'query_id': cannot be empty",
    )
    assert kept(idx) == (SERVED, DONE)


def test_many_lines_are_read_batch_by_batch(feedback: Command, empty: Path, tmp_path: Path) -> None:
    line = '{"query_id":"i%d","action_name":"view","timestamp":"2026-05-31T12:00:00Z"}\n'
    (tmp_path / "events.jsonl").write_text("".join(line % n for n in range(4_100)))
    done = feedback("import", empty, "--events", tmp_path / "events.jsonl", "--json")
    assert done.json["interactions"] == 4_100
    assert len(kept(empty)[1]) == 4_100


def test_without_a_file_or_a_store_it_says_what_to_do(feedback: Command, idx: Path, tmp_path: Path) -> None:
    assert "no file was given. Name one with --queries, --events, or both" in feedback("import", idx).err
    assert "cannot be read" in feedback("import", idx, "--events", tmp_path / "none.jsonl").err
    assert "there is no store" in feedback("export", tmp_path / "none", "--into", tmp_path).err


def test_the_old_is_forgotten(feedback: Command, idx: Path) -> None:
    done = feedback("forget", idx, "--before", "2026-06-01", "--json")
    assert done.json == {"before": "2026-06-01T00:00:00+00:00", "impressions": 1, "interactions": 1}
    assert kept(idx) == (SERVED[1:], DONE[1:])
    done = feedback("forget", idx, "--before", "2026-06-01T15:00:01+03:00")
    assert done.out == "1 impressions and 1 interactions before 2026-06-01T12:00:01+00:00 deleted\n"
    assert kept(idx) == (SERVED[2:], DONE[2:])
    wrong = feedback("forget", idx, "--before", "yesterday")
    assert wrong.code == 1
    assert "field '--before': is no date (got 'yesterday'). Write it like 2026-01-31" in wrong.err
    assert kept(idx) == (SERVED[2:], DONE[2:])


def test_a_store_named_by_its_url(feedback: Command, idx: Path, empty: Path) -> None:
    url = f"sqlite:///{idx}/store.sqlite"
    done = feedback("forget", empty, "--before", "2030-01-01", "--store", url, "--json")
    assert done.json["impressions"] == 3


def test_an_event_after_what_was_forgotten_stays(feedback: Command, idx: Path) -> None:
    late = replace(DONE[0], event_id="late", time=NOON + timedelta(days=9))
    with open_store(idx, create=False) as store:
        FeedbackLog(store).append([], [late])
    feedback("forget", idx, "--before", "2026-06-05")
    assert kept(idx) == ([], [late])
