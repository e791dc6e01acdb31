"""The log of judgments: one contract over SQLite and a real PostgreSQL server, and the stores before it."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import create_engine, func, select

from shop import SHOP
from tilth.errors import InputError, SettingError
from tilth.judgment_log import JudgmentLog
from tilth.judgments import Judgment
from tilth.store import Store
from tilth.store_schema import JUDGMENTS, WITHDRAWN

NewUrl = Callable[[], str]
NOON = datetime(2026, 5, 31, 12, tzinfo=UTC)
ONE = Judgment(
    query_id="q1", query="rose food", product_id="m2", grade=2, highest=3, judge="anna", kind="person",
    time=NOON,
)  # fmt: skip


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    with Store.open(url) as opened:
        yield opened


def many(number: int, judge: str = "anna") -> list[Judgment]:
    return [replace(ONE, product_id=f"p{n:05}", grade=n % 4, judge=judge) for n in range(number)]


def test_a_new_log_is_empty(store: Store) -> None:
    log = JudgmentLog(store)
    assert (log.count(), list(log.judgments()), log.append([])) == (0, [], 0)


def test_judgments_are_there_again_after_reopening(url: str) -> None:
    full = replace(
        ONE, query="İ😀 ' \\ %s", product_id="x'\"%b:c", reason="no\troses\nat all", prompt="ab12",
        confidence=0.1, kind="model", grade=5, highest=5, time=NOON + timedelta(microseconds=1),
    )  # fmt: skip
    early = replace(ONE, judge="bert", time=datetime(1931, 1, 1, 1, 2, 3, 4, tzinfo=UTC))
    with Store.open(url) as store:
        assert JudgmentLog(store).append(iter([ONE, full, early])) == 3
    with Store.open(url, create=False) as store:
        log = JudgmentLog(store)
        assert list(log.judgments()) == [(1, ONE), (2, full), (3, early)]
        assert list(log.judgments(after=2)) == [(3, early)]
        assert list(log.judgments(after=3)) == []


def test_the_same_judgment_is_kept_once(store: Store) -> None:
    log = JudgmentLog(store)
    again = replace(ONE, time=NOON + timedelta(days=1))
    assert log.append([ONE, ONE, again]) == 2
    assert log.append([replace(ONE, reason="seen twice"), again]) == 0
    differences = [
        {"query_id": "q2"}, {"product_id": "p9"}, {"judge": "bert"}, {"kind": "clicks"}, {"grade": 1},
        {"time": NOON - timedelta(microseconds=1)},
    ]  # fmt: skip
    assert log.append(replace(ONE, **change) for change in differences) == 6
    numbers = [number for number, _ in log.judgments()]
    assert log.count() == len(numbers) == 8
    assert numbers == sorted(set(numbers))


def test_many_are_added_and_read_batch_by_batch(store: Store) -> None:
    log = JudgmentLog(store)
    assert log.append(many(5_000)) == 5_000
    assert log.append([*many(5_000), *many(3, "bert")]) == 3
    found = list(log.judgments())
    assert [judgment for _, judgment in found[:5_000]] == many(5_000)
    assert [judgment for _, judgment in log.judgments(after=found[4_999][0])] == many(3, "bert")


def test_a_source_that_breaks_off_leaves_the_log_as_it_was(store: Store) -> None:
    log = JudgmentLog(store)
    log.append([ONE])

    def broken() -> Iterator[Judgment]:
        yield from many(4_500)
        raise InputError("damaged gzip", path="ratings.tsv.gz")

    with pytest.raises(InputError, match="damaged gzip"):
        log.append(broken())
    assert list(log.judgments()) == [(1, ONE)]
    assert log.append(many(1)) == 1


def test_judgments_leave_the_numbers_of_products_alone(store: Store) -> None:
    log = JudgmentLog(store)
    store.upsert(SHOP)
    log.append(many(20))
    assert (store.last_sequence(), store.count()) == (8, 8)
    store.delete(["m1"])
    assert store.last_sequence() == 9
    log.append([ONE])
    assert [number for number, _ in log.judgments(after=20)] == [21]
    with store.snapshot() as snapshot:
        assert (snapshot.sequence, snapshot.count) == (9, 7)


def test_reading_sees_one_state(store: Store) -> None:
    log = JudgmentLog(store)
    log.append(many(5_000))
    reading = log.judgments()
    first = next(reading)
    log.append([ONE])
    assert [number for number, _ in [first, *reading]] == list(range(1, 5_001))


def test_a_follower_misses_nothing_of_two_writers(url: str) -> None:
    with Store.open(url) as one, Store.open(url) as other, Store.open(url) as third:
        follower = JudgmentLog(third)

        def write(store: Store, judge: str) -> None:
            for n in range(30):
                JudgmentLog(store).append([replace(ONE, judge=judge, query_id=f"q{n}"), ONE])
                store.upsert([replace(SHOP[0], clicks=n)])

        writers = [threading.Thread(target=write, args=pair) for pair in ((one, "a"), (other, "b"))]
        for writer in writers:
            writer.start()
        seen, found = 0, []
        running = True
        while running:
            running = any(writer.is_alive() for writer in writers)
            for number, judgment in follower.judgments(seen):
                assert number > seen
                seen = number
                found.append(judgment)
        assert len(found) == follower.count() == 61
        assert found.count(ONE) == 1


# --- withdrawal -----------------------------------------------------------------------------------

LATER = NOON + timedelta(hours=1)


def said(log: JudgmentLog) -> list[Judgment]:
    return [judgment for _, judgment in log.judgments()]


def withdraw(log: JudgmentLog, judgment: Judgment = ONE) -> Judgment | None:
    return log.withdraw(judgment.judge, judgment.query_id, judgment.product_id, LATER, kind=judgment.kind)


def test_the_opinion_before_counts_again(url: str) -> None:
    again = replace(ONE, grade=0, time=NOON + timedelta(seconds=1))
    with Store.open(url) as store:
        log = JudgmentLog(store)
        log.append([again, ONE])  # by time, not in the order of the log
        assert withdraw(log) == again
        assert (said(log), log.count()) == ([ONE], 1)
    with Store.open(url, create=False) as store:
        log = JudgmentLog(store)
        assert list(log.judgments()) == [(2, ONE)]
        assert withdraw(log) == ONE
        assert (said(log), log.count(), withdraw(log)) == ([], 0, None)
        with store.engine.connect() as connection:
            assert connection.execute(select(func.count()).select_from(JUDGMENTS)).scalar_one() == 2
            rows = connection.execute(select(WITHDRAWN).order_by(WITHDRAWN.c.number)).all()
        microseconds = int(LATER.timestamp()) * 1_000_000
        assert [tuple(row) for row in rows] == [(1, microseconds), (2, microseconds)]


def test_only_what_that_judge_said_of_that_pair_is_withdrawn(store: Store) -> None:
    log = JudgmentLog(store)
    others = [
        replace(ONE, judge="bert"), replace(ONE, query_id="q2"), replace(ONE, product_id="m1"),
        replace(ONE, kind="model", time=LATER),
    ]  # fmt: skip
    log.append([ONE, *others])
    assert withdraw(log, replace(ONE, judge="carl")) is None
    assert withdraw(log) == ONE
    assert withdraw(log) is None
    assert said(log) == others


def test_what_was_withdrawn_comes_back_only_as_a_new_opinion(store: Store) -> None:
    log = JudgmentLog(store)
    log.append([ONE])
    withdraw(log)
    assert (log.append([ONE]), said(log)) == (0, [])
    anew = replace(ONE, time=NOON + timedelta(microseconds=1))
    assert (log.append([ONE, anew]), said(log)) == (1, [anew])


def test_of_several_withdrawals_at_once_each_takes_another_judgment(url: str) -> None:
    opinions = [replace(ONE, time=NOON + timedelta(seconds=n)) for n in range(8)]
    with Store.open(url) as one, Store.open(url) as other:
        JudgmentLog(one).append(opinions)
        taken: list[Judgment | None] = []
        logs = [JudgmentLog(store) for store in (one, other)] * 5
        threads = [threading.Thread(target=lambda log=log: taken.append(withdraw(log))) for log in logs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(each.time for each in taken if each) == [each.time for each in opinions]
        assert taken.count(None) == 2


def test_a_time_without_a_zone_is_refused(store: Store) -> None:
    log = JudgmentLog(store)
    log.append([ONE])
    with pytest.raises(SettingError, match="has no time zone"):
        log.withdraw("anna", "q1", "m2", datetime(2026, 6, 1))
    assert log.count() == 1


def test_a_follower_learns_of_withdrawals_by_the_state(store: Store) -> None:
    log = JudgmentLog(store)
    assert log.state() == (0, 0)
    log.append([ONE, replace(ONE, judge="bert")])
    log.append([ONE])
    assert log.state() == (2, 0)
    withdraw(log)
    assert log.state() == (2, 1)
    assert [number for number, _ in log.judgments(after=1)] == [2]


def test_judgments_of_some_queries(store: Store) -> None:
    log = JudgmentLog(store)
    wanted = [replace(ONE, query_id=f"q{n}", kind="model" if n % 2 else "person") for n in range(2_500)]
    log.append([*wanted, replace(ONE, query_id="q1", grade=3)])
    withdraw(log, replace(ONE, query_id="q2"))
    assert list(log.of_queries(["q1", "q2", "q3", "q9999"])) == [
        wanted[1], wanted[3], replace(ONE, query_id="q1", grade=3),
    ]  # fmt: skip
    assert list(log.of_queries(["q1", "q3"], ["person"])) == [replace(ONE, query_id="q1", grade=3)]
    assert len(list(log.of_queries([each.query_id for each in wanted]))) == 2_500
    assert list(log.of_queries([])) == []


def test_the_last_of_a_judge(store: Store) -> None:
    log = JudgmentLog(store)
    before = replace(ONE, product_id="m1", time=LATER)
    log.append([before, ONE, replace(ONE, judge="bert"), replace(ONE, kind="bootstrap", grade=1)])
    assert log.last_of("anna") == ONE
    withdraw(log)
    assert log.last_of("anna") == before
    assert log.last_of("anna", kind="bootstrap") == replace(ONE, kind="bootstrap", grade=1)
    assert log.last_of("carl") is None


# What version 1 made in each database, before there were judgments.
VERSION_1 = {
    "sqlite": """CREATE TABLE tilth_products (sequence INTEGER NOT NULL, product_id TEXT NOT NULL,
        hash BIGINT, record BLOB, PRIMARY KEY (sequence), UNIQUE (product_id))""",
    "postgresql": """CREATE TABLE tilth_products (sequence BIGINT NOT NULL,
        product_id TEXT COLLATE "C" NOT NULL, hash BIGINT, record BYTEA, PRIMARY KEY (sequence),
        UNIQUE (product_id))""",
}
META_1 = (
    "CREATE TABLE tilth_meta (key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (key))",
    """INSERT INTO tilth_meta VALUES ('schema_version', '1'), ('sequence', '1'), ('live', '1'),
        ('store_id', 'd1e8')""",
)


def make_version_1(url: str) -> None:
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        for statement in (VERSION_1[engine.dialect.name], *META_1):
            connection.exec_driver_sql(statement)
        record = '\'{"id":"m1","title":"Manure"}\''
        blob = f"CAST({record} AS BLOB)" if engine.dialect.name == "sqlite" else f"{record}::bytea"
        connection.exec_driver_sql(f"INSERT INTO tilth_products VALUES (1, 'm1', 17, {blob})")
    engine.dispose()


def test_a_store_of_version_1_is_brought_up_to_date_as_it_is_opened(url: str) -> None:
    make_version_1(url)
    for added in (1, 0):
        with Store.open(url, create=False) as store:
            assert store.store_id == "d1e8"
            assert (store.count(), store.last_sequence()) == (1, 1)
            assert store.products(["m1"])["m1"].title == "Manure"
            assert JudgmentLog(store).append([ONE]) == added
            assert list(JudgmentLog(store).judgments()) == [(1, ONE)]
    with Store.open(url) as store:
        assert store.upsert(SHOP).sequence == 9
