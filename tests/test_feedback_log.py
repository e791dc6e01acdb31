"""The log of feedback: one contract over SQLite and a real PostgreSQL server, and the stores before it."""

import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine

from feedback_strategies import impressions, interactions
from shop import SHOP
from tilth.errors import InputError, SettingError
from tilth.feedback import Impression
from tilth.feedback_log import Appended, FeedbackLog
from tilth.interactions import Interaction, Served, query_id_of
from tilth.judgment_log import JudgmentLog
from tilth.judgments import Judgment
from tilth.store import Store

NewUrl = Callable[[], str]
NOON = datetime(2026, 5, 31, 12, tzinfo=UTC)
DAY = timedelta(days=1)
SERVED = Served(impression_id="i1", query="rose food", product_ids=("m2", "m1", "m3"), time=NOON)
CLICK = Interaction(event_id="e1", impression_id="i1", action="click", time=NOON, product_id="m1", rank=2)
FULL = Served(
    impression_id="İ😀 ' \\ %s", query="x'\"%b:c\t\n", product_ids=("м1", "a,b", '"'), time=NOON + 3 * DAY,
    kind="context", first_rank=1_000_000, propensities=(0.1, 1.0, 5e-324), arm="b", release="r2",
    answered=False, skipped=("cross-encoder", "dense"), milliseconds={"lexical": 0.1, "всё": 3},
    application="shop", client_id="c1",
)  # fmt: skip
PAID = Interaction(
    event_id="x'\"%b:c", impression_id="nowhere", action="purchase", product_id="м1", value=49.95,
    time=datetime(1931, 1, 1, 1, 2, 3, 4, tzinfo=UTC), reason="ё", client_id="c1", session_id="s1",
)  # fmt: skip


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    with Store.open(url) as opened:
        yield opened


@pytest.fixture
def log(store: Store) -> FeedbackLog:
    return FeedbackLog(store)


def many(number: int, before: str = "") -> tuple[list[Served], list[Interaction]]:
    served = [replace(SERVED, impression_id=f"{before}i{n:05}") for n in range(number)]
    done = [
        replace(CLICK, event_id=f"{before}e{n:05}", impression_id=f"{before}i{n:05}", rank=n % 3 + 1)
        for n in range(number)
    ]
    return served, done


# --- written and read -----------------------------------------------------------------------------


def test_a_new_log_is_empty(log: FeedbackLog) -> None:
    assert (list(log.served()), list(log.interactions()), list(log.pages())) == ([], [], [])
    assert log.latest() is None
    assert log.append([], []) == log.forget(NOON) == Appended(0, 0)


def test_feedback_is_there_again_after_reopening(url: str) -> None:
    with Store.open(url) as store:
        assert FeedbackLog(store).append([SERVED, FULL], [CLICK, PAID]) == Appended(2, 2)
    with Store.open(url, create=False) as store:
        log = FeedbackLog(store)
        assert list(log.served()) == [(1, SERVED), (2, FULL)]
        assert list(log.interactions()) == [(1, CLICK), (2, PAID)]
        assert list(log.served(after=1)) == [(2, FULL)]
        assert list(log.interactions(after=2)) == []
        assert log.latest() == FULL.time
        assert log.served_by_id([FULL.impression_id, "nowhere", "i1"]) == {
            FULL.impression_id: FULL,
            "i1": SERVED,
        }


def test_what_is_there_is_passed_over(log: FeedbackLog) -> None:
    other = replace(SERVED, impression_id="i2")
    assert log.append([SERVED, SERVED, other], [CLICK]) == Appended(2, 1)
    assert log.append([replace(SERVED, query="another"), other], [replace(CLICK, rank=3)]) == Appended(0, 0)
    assert log.append([replace(SERVED, impression_id="i3")], [CLICK, replace(CLICK, event_id="e2")]) == (1, 1)
    assert [each.impression_id for _, each in log.served()] == ["i1", "i2", "i3"]
    assert [(each.event_id, each.rank) for _, each in log.interactions()] == [("e1", 2), ("e2", 2)]
    for numbers in ([n for n, _ in log.served()], [n for n, _ in log.interactions()]):
        assert numbers == sorted(set(numbers))


def test_many_are_added_and_read_batch_by_batch(log: FeedbackLog) -> None:
    served, done = many(4_500)
    assert log.append(served, done) == (4_500, 4_500)
    more, more_done = many(3, "b")
    assert log.append([*served, *more], [*done, *more_done]) == (3, 3)
    assert [each for _, each in log.served()] == [*served, *more]
    assert [each for _, each in log.interactions()] == [*done, *more_done]
    assert list(log.served_by_id([each.impression_id for each in served]).values()) == served
    assert [len(page.clicked) for page in log.pages()] == [1] * 4_503


def test_a_source_that_breaks_off_leaves_the_log_as_it_was(log: FeedbackLog) -> None:
    served, done = many(2_500)
    log.append([SERVED], [CLICK])

    def broken() -> Iterator[Interaction]:
        yield from done
        raise InputError("damaged gzip", path="events.jsonl.gz")

    with pytest.raises(InputError, match="damaged gzip"):
        log.append(served, broken())
    assert list(log.served()) == [(1, SERVED)]
    assert list(log.interactions()) == [(1, CLICK)]
    assert log.append(served[:1], done[:1]) == (1, 1)


def test_other_numbers_stay_as_they_are(store: Store, log: FeedbackLog) -> None:
    store.upsert(SHOP)
    judgment = Judgment(
        query_id="q1", query="", product_id="m1", grade=1, highest=1, judge="a", kind="person", time=NOON
    )
    JudgmentLog(store).append([judgment])
    log.append(*many(20))
    assert (store.last_sequence(), JudgmentLog(store).append([replace(judgment, grade=0)])) == (8, 1)
    assert [number for number, _ in JudgmentLog(store).judgments()] == [1, 2]
    store.delete(["m1"])
    assert log.append([SERVED], []) == (1, 0)
    assert [number for number, _ in log.served(after=20)] == [21]


def test_reading_sees_one_state(log: FeedbackLog) -> None:
    log.append(*many(4_500))
    for n, reading in enumerate((log.served(), log.interactions(), log.pages())):
        first = next(reading)
        log.append(*many(1, f"later {n}"))
        assert len([first, *reading]) == 4_500 + n


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    max_examples=30,
    deadline=None,
)
@given(
    served=st.lists(impressions(), max_size=4, unique_by=lambda each: each.impression_id),
    done=st.lists(interactions(), max_size=4, unique_by=lambda each: each.event_id),
)
def test_what_is_written_reads_back(store: Store, served: list[Served], done: list[Interaction]) -> None:
    log = FeedbackLog(store)
    assert log.append(served, done) == (len(served), len(done))
    assert [each for _, each in log.served()] == served
    assert [each for _, each in log.interactions()] == done
    assert log.served_by_id([each.impression_id for each in served]) == {s.impression_id: s for s in served}
    assert log.forget(datetime(2027, 1, 1, tzinfo=UTC)) == (len(served), len(done))


# --- writers together -----------------------------------------------------------------------------


def test_threads_add_everything_once(log: FeedbackLog) -> None:
    added: list[Appended] = []

    def write(name: str) -> None:
        for start in range(0, 40, 10):
            served, done = many(40, name)
            batch = slice(start, start + 10)
            added.append(log.append([*served[batch], SERVED], [*done[batch], CLICK]))

    writers = [threading.Thread(target=write, args=(name,)) for name in "abcd"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert sum(each.impressions for each in added) == sum(each.interactions for each in added) == 161
    for numbers in ([n for n, _ in log.served()], [n for n, _ in log.interactions()]):
        assert len(numbers) == len(set(numbers)) == 161


def test_a_follower_misses_nothing_of_two_writers(url: str) -> None:
    with Store.open(url) as one, Store.open(url) as other, Store.open(url) as third:
        follower = FeedbackLog(third)

        def write(store: Store, name: str) -> None:
            served, done = many(30, name)
            for n in range(30):
                FeedbackLog(store).append([served[n], SERVED], [done[n], CLICK])
                FeedbackLog(store).forget(NOON - DAY)
                store.upsert([replace(SHOP[0], clicks=n)])

        writers = [threading.Thread(target=write, args=pair) for pair in ((one, "a"), (other, "b"))]
        for writer in writers:
            writer.start()
        seen, found = 0, []
        running = True
        while running:
            running = any(writer.is_alive() for writer in writers)
            for number, served in follower.served(seen):
                assert number > seen
                seen = number
                found.append(served)
        assert len(found) == len({each.impression_id for each in found}) == 61


# --- forgetting -----------------------------------------------------------------------------------


def test_what_is_older_is_forgotten_and_numbers_ascend(log: FeedbackLog) -> None:
    served = [replace(SERVED, impression_id=f"i{n}", time=NOON + n * DAY) for n in range(4)]
    done = [replace(CLICK, event_id=f"e{n}", impression_id="i0", time=NOON + n * DAY) for n in range(4)]
    log.append(served, done)
    assert log.forget(NOON + 2 * DAY) == (2, 2)
    assert list(log.served()) == [(3, served[2]), (4, served[3])]
    assert list(log.interactions()) == [(3, done[2]), (4, done[3])]
    assert log.forget(NOON + 4 * DAY) == (2, 2)
    assert (list(log.served()), log.latest()) == ([], None)
    log.append([SERVED], [CLICK])
    assert list(log.served()) == [(5, SERVED)]
    assert list(log.interactions()) == [(5, CLICK)]
    with pytest.raises(SettingError, match=r"has no time zone. Add \+00:00"):
        log.forget(datetime(2026, 5, 31))


# --- pages ----------------------------------------------------------------------------------------


def test_pages_have_the_ranks_that_were_clicked(log: FeedbackLog) -> None:
    log.append(
        [
            replace(SERVED, arm="b"),
            replace(SERVED, impression_id="i2", query=" Rose  FOOD"),
            replace(SERVED, impression_id="later", first_rank=11),
            replace(SERVED, impression_id="none", product_ids=()),
            replace(SERVED, impression_id="ask", kind="ask"),
        ],
        [
            replace(CLICK, event_id="twice"),
            CLICK,
            replace(CLICK, event_id="paid", action="purchase", product_id="m3", rank=None, value=5.0),
            replace(CLICK, event_id="i2 by rank", impression_id="i2", product_id="", rank=1),
            replace(CLICK, event_id="i2 wrong rank", impression_id="i2", action="cart", product_id="m3"),
            replace(CLICK, event_id="i2 deep", impression_id="i2", product_id="", rank=4),
            replace(CLICK, event_id="i2 elsewhere", impression_id="i2", product_id="m9", rank=2),
            replace(CLICK, event_id="i2 seen", impression_id="i2", action="view"),
            replace(CLICK, event_id="nowhere", impression_id="nowhere"),
            replace(CLICK, event_id="on later", impression_id="later"),
        ],
    )
    rose, shown = query_id_of("rose food"), ("m2", "m1", "m3")
    assert list(log.pages()) == [
        Impression(rose, "rose food", shown, (2, 3), "b", NOON),
        Impression(rose, " Rose  FOOD", shown, (1, 3), "", NOON),
    ]


# --- the stores before ----------------------------------------------------------------------------

# What version 2 made in each database, before there was feedback.
VERSION_2 = {
    "sqlite": (
        """CREATE TABLE tilth_products (sequence INTEGER NOT NULL, product_id TEXT NOT NULL, hash BIGINT,
            record BLOB, PRIMARY KEY (sequence), UNIQUE (product_id))""",
        """CREATE TABLE tilth_judgments (number INTEGER NOT NULL, query_id TEXT NOT NULL, query TEXT NOT NULL,
            product_id TEXT NOT NULL, grade INTEGER NOT NULL, highest INTEGER NOT NULL, judge TEXT NOT NULL,
            kind TEXT NOT NULL, time BIGINT NOT NULL, reason TEXT NOT NULL, prompt TEXT NOT NULL,
            confidence DOUBLE, PRIMARY KEY (number), CONSTRAINT tilth_judgments_once
            UNIQUE (query_id, product_id, judge, kind, time, grade))""",
    ),
    "postgresql": (
        """CREATE TABLE tilth_products (sequence BIGINT NOT NULL, product_id TEXT COLLATE "C" NOT NULL,
            hash BIGINT, record BYTEA, PRIMARY KEY (sequence), UNIQUE (product_id))""",
        """CREATE TABLE tilth_judgments (number BIGINT NOT NULL, query_id TEXT COLLATE "C" NOT NULL,
            query TEXT NOT NULL, product_id TEXT COLLATE "C" NOT NULL, grade INTEGER NOT NULL,
            highest INTEGER NOT NULL, judge TEXT COLLATE "C" NOT NULL, kind TEXT COLLATE "C" NOT NULL,
            time BIGINT NOT NULL, reason TEXT NOT NULL, prompt TEXT NOT NULL, confidence DOUBLE PRECISION,
            PRIMARY KEY (number), CONSTRAINT tilth_judgments_once
            UNIQUE (query_id, product_id, judge, kind, time, grade))""",
    ),
}
META_2 = (
    "CREATE TABLE tilth_meta (key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (key))",
    """INSERT INTO tilth_meta VALUES ('schema_version', '2'), ('sequence', '0'), ('live', '0'),
        ('judgments', '7'), ('store_id', 'd1e8')""",
    """INSERT INTO tilth_judgments
        VALUES (7, 'q1', 'rose food', 'm1', 2, 3, 'anna', 'person', 0, '', '', NULL)""",
)


def make_version_2(url: str) -> None:
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        for statement in (*VERSION_2[engine.dialect.name], *META_2):
            connection.exec_driver_sql(statement)
    engine.dispose()


def test_a_store_of_version_2_is_brought_up_to_date_as_it_is_opened(url: str) -> None:
    make_version_2(url)
    for added in (1, 0):
        with Store.open(url, create=False) as store:
            assert store.store_id == "d1e8"
            ((number, judgment),) = JudgmentLog(store).judgments()
            assert (number, judgment.judge, judgment.time.year) == (7, "anna", 1970)
            log = FeedbackLog(store)
            assert log.append([SERVED], [CLICK]) == (added, added)
            assert list(log.served()) == [(1, SERVED)]
            assert list(log.interactions()) == [(1, CLICK)]


# --- the page -------------------------------------------------------------------------------------


def test_the_page_of_feedback(tmp_path: Path) -> None:
    page = Path(__file__).parents[1] / "docs" / "feedback.md"
    (example,) = re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "Appended(impressions=1, interactions=1)\n(2,)\n"
