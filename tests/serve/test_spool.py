"""The queue of feedback: only who asks waits for the store, and nothing acknowledged is lost."""

import contextlib
import errno
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilth.errors import InputError, StoreError
from tilth.feedback_log import Appended, FeedbackLog
from tilth.interactions import Interaction, Served
from tilth.serve import backlog, segments, spool
from tilth.serve.segments import left_segments, new_segment, to_line, to_record
from tilth.serve.spool import Spool, SpoolFullError
from tilth.store import Store

NOON = datetime(2026, 5, 31, 12, tzinfo=UTC)
PAGE = Served(
    impression_id="i1", query="лопата «Труд»\n\t😀", product_ids=("p1", "p2"), time=NOON,
    propensities=(0.5, 0.25), skipped=("rerank",), milliseconds={"lexical": 1.25}, answered=False,
    first_rank=11, client_id="c",
)  # fmt: skip
CLICK = Interaction(
    event_id="e1", impression_id="i1", action="click", time=NOON + timedelta(microseconds=1), product_id="p1",
    rank=11,
)  # fmt: skip


def page(number: int) -> Served:
    return replace(PAGE, impression_id=f"i{number}")


def click(number: int) -> Interaction:
    return replace(CLICK, event_id=f"e{number}")


class Log:
    """A log in memory that waits or refuses when it is told to."""

    def __init__(self) -> None:
        self.served: dict[str, Served] = {}
        self.interactions: dict[str, Interaction] = {}
        self.calls = 0
        self.refusals = 0
        self.open = threading.Event()
        self.open.set()
        self.refuses: Callable[[set[str]], Exception | None] = lambda _: None

    def append(self, served: Sequence[Served], interactions: Sequence[Interaction]) -> Appended:
        self.open.wait(30)
        pages = {one.impression_id: one for one in served}
        actions = {one.event_id: one for one in interactions}
        if error := self.refuses({*pages, *actions}):
            self.refusals += 1
            raise error
        self.calls += 1
        before = len(self.served), len(self.interactions)
        self.served = pages | self.served
        self.interactions = actions | self.interactions
        return Appended(len(self.served) - before[0], len(self.interactions) - before[1])


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def opened(tmp_path: Path, log: Log) -> Iterator[Callable[..., Spool]]:
    """What opens spools over the log in memory; they are closed in the end."""
    spools: list[Spool] = []

    def new(**settings: float) -> Spool:
        spools.append(Spool(tmp_path / "feedback", log, **settings))  # type: ignore[arg-type]
        return spools[-1]

    yield new
    log.open.set()
    for each in spools:
        each.close()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes retries and the patience of callers short."""
    monkeypatch.setattr(spool, "_FIRST_PAUSE", 0.001)
    monkeypatch.setattr(spool, "_LONGEST_PAUSE", 0.005)
    monkeypatch.setattr(spool, "_PATIENCE", 0.2)
    monkeypatch.setattr(spool, "_LOOK", 0.02)


def until(condition: Callable[[], object]) -> None:
    """Wait for what another thread does."""
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.002)


def left(folder: Path) -> list[bytes]:
    """What the segments in a folder hold."""
    found = []
    for path in sorted(folder.glob("segment-*")):
        with contextlib.suppress(FileNotFoundError):  # it was written in this very moment
            found.append(path.read_bytes())
    return found


def refuse_all(_: set[str]) -> StoreError:
    return StoreError("the disk is full. Free some space")


# --- to the store ---------------------------------------------------------------------------------


def test_what_is_kept_and_recorded_comes_into_the_store_as_it_is(tmp_path: Path) -> None:
    with Store.open(tmp_path / "store.db") as store:
        with closing(Spool(tmp_path / "feedback", FeedbackLog(store))) as spooled:
            assert spooled.keep(PAGE)
            assert spooled.record([CLICK, click(2)]).result(20) == Appended(0, 2)
            assert spooled.record([click(2), click(3)]).result(20) == Appended(0, 1)
        log = FeedbackLog(store)
        assert [served for _, served in log.served()] == [PAGE]
        assert [done for _, done in log.interactions()] == [CLICK, click(2), click(3)]
        counts = spooled.counts()
    assert counts == {
        "kept": 1, "dropped": 0, "recorded": 4, "refused": 0, "written": 5, "torn": 0, "rejected": 0,
        "waiting_bytes": 0,
    }  # fmt: skip
    assert list((tmp_path / "feedback").iterdir()) == []


def test_impressions_are_written_without_anybody_asking(opened: Callable[..., Spool], log: Log) -> None:
    spooled = opened()
    assert spooled.keep(PAGE)
    until(lambda: log.served == {"i1": PAGE})
    until(lambda: spooled.counts()["waiting_bytes"] == 0)


def test_nothing_to_record_is_answered_at_once(opened: Callable[..., Spool], log: Log) -> None:
    log.open.clear()
    assert opened().record([]).result(0) == Appended(0, 0)


def test_callers_of_a_moment_share_a_commit(opened: Callable[..., Spool], log: Log) -> None:
    spooled = opened()
    log.open.clear()
    first = spooled.record([click(0)])
    until(lambda: left(spooled._folder)[-1] == b"")  # it is being written, and the next file is open
    others = [spooled.record([click(2 * n), click(2 * n + 1)]) for n in range(1, 50)]
    log.open.set()
    assert first.result(20) == Appended(0, 1)
    assert {other.result(20) for other in others} == {Appended(0, 2)}
    assert log.calls == 2


def test_threads_lose_nothing_and_write_nothing_twice(tmp_path: Path) -> None:
    kept: list[bool] = []
    answers: list[Future[Appended]] = []

    def work(thread: int) -> None:
        for number in range(50):
            kept.append(spooled.keep(page(1000 * thread + number)))
            answers.append(spooled.record([click(1000 * thread + number)]))

    with Store.open(tmp_path / "store.db") as store:
        with closing(Spool(tmp_path / "feedback", FeedbackLog(store), pause=0.001)) as spooled:
            threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert {answer.result(20) for answer in answers} == {Appended(0, 1)}
        expected = {1000 * thread + number for thread in range(8) for number in range(50)}
        found = [served.impression_id for _, served in FeedbackLog(store).served()]
        assert sorted(found) == sorted(f"i{number}" for number in expected)
        assert len(list(FeedbackLog(store).interactions())) == 400
    assert kept == [True] * 400


# --- a store that is slow, refuses, or never comes back ---------------------------------------------


def test_keeping_does_not_wait_for_the_store(opened: Callable[..., Spool], log: Log) -> None:
    spooled = opened(pause=0)
    log.open.clear()
    assert all(spooled.keep(page(number)) for number in range(100))
    assert b"".join(left(spooled._folder)).count(b"\n") == 100
    assert log.served == {}
    log.open.set()
    until(lambda: len(log.served) == 100)


def test_a_full_spool_refuses_and_counts(
    opened: Callable[..., Spool], log: Log, caplog: pytest.LogCaptureFixture
) -> None:
    spooled = opened(most_bytes=5 * len(to_line(page(1))), pause=0)
    log.open.clear()
    assert [spooled.keep(page(number)) for number in range(1, 8)] == [True] * 5 + [False] * 2
    with pytest.raises(SpoolFullError, match=r"feedback is not taken: \d+ bytes wait for the store"):
        spooled.record([click(1), click(2)])
    counts = spooled.counts()
    assert (counts["kept"], counts["dropped"], counts["recorded"], counts["refused"]) == (5, 2, 0, 2)
    assert counts["waiting_bytes"] == sum(map(len, left(spooled._folder)))
    assert [record.message.partition(": ")[2][:19] for record in caplog.records] == ["feedback is refused"]
    log.open.set()
    until(lambda: spooled.counts()["waiting_bytes"] == 0)
    assert spooled.record([click(1), click(2)]).result(20) == Appended(0, 2)
    assert set(log.served) == {f"i{number}" for number in range(1, 6)}


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("error", [StoreError("it is locked"), KeyError("a fault of the program")])
def test_a_store_that_refuses_is_tried_again(
    opened: Callable[..., Spool], log: Log, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    spooled = opened()
    log.refuses = lambda _: error
    with pytest.raises(StoreError, match=r"not in the store yet: .*(locked|fault).* no harm"):
        spooled.record([click(1)]).result(20)
    assert spooled.keep(PAGE)
    until(lambda: log.refusals > 10)
    assert log.interactions == {}
    log.refuses = lambda _: None
    until(lambda: spooled.counts()["written"] == 2)
    assert spooled.record([click(1)]).result(20) == Appended(0, 0)  # sent again
    (message,) = [record.message for record in caplog.records]
    assert message.endswith(f"feedback waits for the store: {error}")


@pytest.mark.usefixtures("quick")
def test_a_caller_of_a_store_that_does_not_answer_is_told(opened: Callable[..., Spool], log: Log) -> None:
    spooled = opened()
    log.open.clear()
    future = spooled.record([click(1)])
    with pytest.raises(StoreError, match="the store has not answered"):
        future.result(20)
    log.open.set()
    until(lambda: log.interactions)


@pytest.mark.usefixtures("quick")
def test_an_outage_puts_nothing_aside_however_long(opened: Callable[..., Spool], log: Log) -> None:
    spooled = opened(pause=0)
    for outage in range(2 * backlog._STRIKES):
        log.refuses = refuse_all
        for number in range(5):
            assert spooled.keep(page(10 * outage + number))
        tries = log.refusals
        until(lambda tries=tries: log.refusals > tries + 20)
        log.refuses = lambda _: None
        until(lambda outage=outage: len(log.served) == 5 * (outage + 1))
    assert spooled.counts()["rejected"] == 0


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("around", [0, 3, 3000])
def test_a_record_that_the_store_never_takes_is_put_aside(
    opened: Callable[..., Spool], log: Log, monkeypatch: pytest.MonkeyPatch, around: int
) -> None:
    monkeypatch.setattr(spool, "_PATIENCE", 60)
    spooled = opened()
    log.refuses = lambda ids: StoreError("it cannot hold this") if "e0" in ids else None
    for number in range(around):
        assert spooled.keep(page(number))
    poisoned = spooled.record([click(0)])
    good = [spooled.record([click(number)]) for number in range(1, 4)]
    number = 0
    while not poisoned.done():  # others come all the time
        assert spooled.keep(page(10_000 + number))
        number += 1
        time.sleep(0.01)
    with pytest.raises(StoreError, match="takes others, and not this one"):
        poisoned.result()
    assert [future.result(20) for future in good] == [Appended(0, 1)] * 3
    until(lambda: len(log.served) == around + number)
    assert spooled.counts()["rejected"] == 1
    (aside,) = (spooled._folder / "rejected.jsonl").read_bytes().splitlines()
    assert to_record(orjson.loads(aside)["line"].encode()).content == click(0)


# --- a disk that refuses --------------------------------------------------------------------------


@pytest.mark.parametrize("short", [False, True])
def test_a_full_disk_refuses_and_harms_nothing(
    opened: Callable[..., Spool], log: Log, monkeypatch: pytest.MonkeyPatch, short: bool
) -> None:
    spooled = opened()
    log.open.clear()
    assert spooled.keep(page(1))
    write = os.write

    def full(handle: int, data: bytes) -> int:
        if short:
            return write(handle, data[: len(data) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(segments.os, "write", full)
        assert not spooled.keep(page(2))
        with pytest.raises(SpoolFullError, match="not taken: No space left on device"):
            spooled.record([click(2)])
    assert spooled.keep(page(3))
    log.open.set()
    until(lambda: set(log.served) == {"i1", "i3"})
    assert (log.interactions, spooled.counts()["dropped"], spooled.counts()["refused"]) == ({}, 1, 1)


@pytest.mark.usefixtures("quick")
def test_without_a_new_file_what_waits_is_written_and_the_rest_refused(
    opened: Callable[..., Spool], log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    spooled = opened()

    def full(_: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(spool, "new_segment", full)
        assert spooled.record([click(1)]).result(20) == Appended(0, 1)
        assert not spooled.keep(page(1))
    until(lambda: spooled.keep(page(2)))
    until(lambda: set(log.served) == {"i2"})


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, log: Log) -> None:
    (tmp_path / "feedback").write_text("in the way")
    with pytest.raises(StoreError, match="feedback: cannot be written to: File exists"):
        Spool(tmp_path / "feedback", log)  # type: ignore[arg-type]


def test_what_does_not_exist_in_json_is_refused(opened: Callable[..., Spool], log: Log) -> None:
    spooled = opened()
    half = Fraction(1, 2)
    assert not spooled.keep(replace(PAGE, milliseconds={"lexical": half}))  # type: ignore[dict-item]
    with pytest.raises(InputError, match="cannot be stored"):
        spooled.record([CLICK, replace(CLICK, action="purchase", value=half)])  # type: ignore[arg-type]
    assert (spooled.counts()["dropped"], spooled.counts()["recorded"]) == (1, 0)


# --- what dead processes left ---------------------------------------------------------------------


def write_segment(folder: Path, lines: bytes) -> None:
    folder.mkdir(exist_ok=True)
    segment = new_segment(folder)
    segment.append(lines)
    segment.close()


def test_the_next_process_writes_what_one_left(opened: Callable[..., Spool], log: Log) -> None:
    first = opened()
    log.refuses = refuse_all
    assert first.keep(PAGE)
    future = first.record([CLICK])
    first.close()
    with pytest.raises(StoreError, match="not in the store yet: the service ends"):
        future.result(0)
    assert first.counts()["waiting_bytes"] == sum(map(len, left(first._folder))) > 0
    log.refuses = lambda _: None
    second = opened()
    until(lambda: (log.served, log.interactions) == ({"i1": PAGE}, {"e1": CLICK}))
    until(lambda: left(second._folder) == [b""])
    assert second.record([CLICK, click(2)]).result(20) == Appended(0, 1)


def test_calls_of_a_dead_process_are_nobody_elses(
    opened: Callable[..., Spool], log: Log, tmp_path: Path
) -> None:
    write_segment(tmp_path / "feedback", to_line(click(7), call=1))
    log.open.clear()
    spooled = opened()
    future = spooled.record([click(8), click(9)])
    log.open.set()
    assert future.result(20) == Appended(0, 2)
    assert set(log.interactions) == {"e7", "e8", "e9"}


def test_a_line_that_was_cut_off_is_passed_over(
    opened: Callable[..., Spool], log: Log, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines = to_line(page(1)) + to_line(click(2)) + to_line(page(3))
    write_segment(tmp_path / "feedback", lines[:-1])
    spooled = opened()
    until(lambda: left(tmp_path / "feedback") == [b""])
    assert (set(log.served), set(log.interactions)) == ({"i1"}, {"e2"})
    assert (spooled.counts()["torn"], spooled.counts()["rejected"]) == (1, 0)
    assert "its last record was cut off" in caplog.text


NO_RECORDS = [
    b"\0\0\0\n",
    b"{}\n",
    b"[1]\n",
    b"5\n",
    b"\xff\xfe\n",
    b"\n",
    b'{"served":{"impression_id":"i"},"call":0}\n',
    b'{"served":7,"call":0}\n',
    to_line(PAGE).replace(b'"query"', b'"asked"'),
    to_line(PAGE).replace(b'"i1"', b'""'),
    to_line(PAGE).replace(b'{"lexical":1.25}', b"[1]"),
    to_line(CLICK).replace(b'"click"', b'"lick"'),
    to_line(CLICK).replace(b"2026", b"the "),
    to_line(CLICK).replace(b',"call":0', b""),
]


def test_lines_that_are_no_records_are_put_aside(
    opened: Callable[..., Spool], log: Log, tmp_path: Path
) -> None:
    write_segment(tmp_path / "feedback", to_line(page(1)) + b"".join(NO_RECORDS) + to_line(page(2)))
    spooled = opened()
    until(lambda: left(tmp_path / "feedback") == [b""])
    assert set(log.served) == {"i1", "i2"}
    assert spooled.counts()["rejected"] == len(NO_RECORDS)
    aside = (tmp_path / "feedback" / "rejected.jsonl").read_bytes().splitlines()
    entries = list(map(orjson.loads, aside))
    expected = [line.decode("utf-8", "backslashreplace") for line in NO_RECORDS]
    assert [entry["line"] for entry in entries] == expected
    assert all(entry["reason"] for entry in entries)


def test_what_is_put_aside_does_not_grow_for_ever(
    opened: Callable[..., Spool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "MOST_REJECTED", 1000)
    write_segment(tmp_path / "feedback", b"{}\n" * 500)
    spooled = opened()
    until(lambda: spooled.counts()["rejected"] == 500)
    assert 1000 <= (tmp_path / "feedback" / "rejected.jsonl").stat().st_size < 1200


def test_what_a_living_process_holds_is_left_alone(opened: Callable[..., Spool], log: Log) -> None:
    log.open.clear()
    first = opened()
    future = first.record([click(1)])
    second = opened()
    until(lambda: len(left(first._folder)) == 3)  # what is being written, and two open ones
    assert second.counts()["waiting_bytes"] == 0
    assert left_segments(first._folder, 10) == []
    log.open.set()
    assert future.result(20) == Appended(0, 1)


def test_many_segments_are_taken_over_a_few_at_a_time(
    opened: Callable[..., Spool], log: Log, tmp_path: Path
) -> None:
    number = 2 * backlog._MOST_HELD + 5
    for each in range(number):
        write_segment(tmp_path / "feedback", to_line(page(each)))
    log.open.clear()
    spooled = opened()
    assert spooled.counts()["waiting_bytes"] < backlog._MOST_HELD * (len(to_line(PAGE)) + 5)
    log.open.set()
    until(lambda: len(log.served) == number)
    until(lambda: left(tmp_path / "feedback") == [b""])


def test_a_segment_larger_than_a_batch_is_read_piece_by_piece(
    opened: Callable[..., Spool], log: Log, tmp_path: Path
) -> None:
    number = 3 * backlog._BATCH
    write_segment(tmp_path / "feedback", b"".join(to_line(page(each)) for each in range(number)))
    spooled = opened()
    until(lambda: left(tmp_path / "feedback") == [b""])
    assert (len(log.served), log.calls, spooled.counts()["written"]) == (number, 3, number)


def test_who_waits_does_not_wait_for_what_was_left(
    opened: Callable[..., Spool], log: Log, tmp_path: Path
) -> None:
    number = 5 * backlog._BATCH
    write_segment(tmp_path / "feedback", b"".join(to_line(page(each)) for each in range(number)))
    log.open.clear()
    before: list[int] = []
    spooled = opened()
    spooled.record([CLICK]).add_done_callback(lambda _: before.append(len(log.served)))
    log.open.set()
    until(lambda: len(log.served) == number)
    assert before[0] <= 2 * backlog._BATCH


def test_a_file_that_cannot_be_opened_stops_nothing(
    opened: Callable[..., Spool], log: Log, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_segment(tmp_path / "feedback", to_line(page(1)))
    (tmp_path / "feedback" / "segment-0.jsonl").mkdir()
    opened()
    until(lambda: set(log.served) == {"i1"})
    assert "segment-0.jsonl: cannot be read" in caplog.text


# --- the end --------------------------------------------------------------------------------------


def test_closing_writes_what_waits(opened: Callable[..., Spool], log: Log) -> None:
    spooled = opened(pause=60)
    assert all(spooled.keep(page(number)) for number in range(3000))
    spooled.close()
    assert len(log.served) == 3000
    assert list(spooled._folder.iterdir()) == []
    assert not spooled.keep(page(1))
    with pytest.raises(SpoolFullError, match="the service ends"):
        spooled.record([CLICK])
    spooled.close()  # again, which does nothing


def test_closing_does_not_wait_for_ever(
    opened: Callable[..., Spool], log: Log, caplog: pytest.LogCaptureFixture
) -> None:
    spooled = opened()
    log.open.clear()
    future = spooled.record([CLICK])
    spooled.close(0.05)
    with pytest.raises(StoreError, match="not in the store yet: the service ends"):
        future.result(0)
    assert "are left for the next start" in caplog.text
    assert not spooled.keep(PAGE)
    log.open.set()
    until(lambda: log.interactions == {"e1": CLICK})


def test_an_answer_cannot_be_cancelled(opened: Callable[..., Spool], log: Log) -> None:
    log.open.clear()
    future = opened().record([CLICK])
    assert not future.cancel()
    log.open.set()
    assert wait([future], 20).done
    assert future.result() == Appended(0, 1)


def test_files_are_for_this_user_alone(opened: Callable[..., Spool], tmp_path: Path) -> None:
    write_segment(tmp_path / "feedback", b"{}\n")
    spooled = opened()
    until(lambda: spooled.counts()["rejected"])
    assert {path.stat().st_mode & 0o077 for path in (tmp_path / "feedback").iterdir()} == {0}


# --- lines ----------------------------------------------------------------------------------------

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
IDS = TEXTS.filter(bool)
TIMES = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC))


@given(IDS, TEXTS, st.lists(IDS, unique=True), TIMES, st.dictionaries(IDS, st.floats(0, 1e12)), st.booleans())
def test_an_impression_is_read_as_it_was_written(
    name: str, query: str, ids: list[str], when: datetime, took: dict[str, float], answered: bool
) -> None:
    served = Served(
        impression_id=name, query=query, product_ids=tuple(ids), time=when, milliseconds=took,
        skipped=tuple(took), answered=answered,
    )  # fmt: skip
    line = to_line(served, 7)
    assert line.count(b"\n") == 1
    assert to_record(line) == (served, 7)


@given(IDS, TEXTS, TIMES, st.none() | st.integers(1, 1_000_000), st.floats(0, 1e12))
def test_an_interaction_is_read_as_it_was_written(
    name: str, reason: str, when: datetime, rank: int | None, value: float
) -> None:
    done = replace(CLICK, event_id=name, reason=reason, time=when, rank=rank, value=value, action="purchase")
    assert to_record(to_line(done)) == (done, 0)


def test_an_error_of_the_log_is_said_once_more_after_calm(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = [0.0]
    monkeypatch.setattr(spool.time, "monotonic", lambda: now[0])
    trouble = spool._Trouble("it fails")
    for now[0] in range(8):
        trouble.begin(StoreError(f"fault {now[0]}"))
        trouble.end()
    assert trouble.reason == "fault 7"
    now[0] += spool._CALM
    trouble.end()
    trouble.end()
    trouble.begin(StoreError("again"))
    said = [record.message for record in caplog.records]
    assert said == ["it fails: fault 0", "it fails no more", "it fails: again"]
    assert {record.levelno for record in caplog.records} == {logging.ERROR, logging.WARNING}
