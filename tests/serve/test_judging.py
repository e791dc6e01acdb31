"""Judging over the network: which pair comes next, for several people at once, and what is taken back."""

import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes import kept_encoder
from shop import SHOP, index
from tilth.catalog import Product
from tilth.errors import InputError, SettingError, StoreError
from tilth.feedback_log import FeedbackLog
from tilth.interactions import Served, query_id_of
from tilth.judgment_log import JudgmentLog
from tilth.judgments import Judgment
from tilth.labelling.agreement import kappa
from tilth.labelling.choosing import next_pairs
from tilth.labelling.pooling import Pair, pool
from tilth.pipeline import Pipeline, open_index
from tilth.query import Query, read_queries
from tilth.serve import judging as module
from tilth.serve import judging_pool
from tilth.serve.judging import Judging
from tilth.serve.judging_pool import JudgingPool, PoolKeeper, frequent_queries
from tilth.serve.systems import Chosen, first_hits
from tilth.store import Store

QUERIES = "query_id\tquery\nq1\tcow manure\nq2\ttomato feed\nq3\tсекатор для роз\nq4\tgarden hose\n"
WORDS = ["cow", "manure", "tomato", "feed", "секатор", "роз", "garden", "hose", "seeds", "pellets", "rake"]
SHOWN = 32  # pairs: the hybrid shows all 8 products for each of the 4 queries
NOON = datetime(2026, 5, 31, 12, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.seconds = 1_000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    into = tmp_path_factory.mktemp("built") / "idx"
    index(SHOP, into, kept_encoder(WORDS))
    return into


@pytest.fixture
def shop(built: Path, tmp_path: Path) -> Iterator[Pipeline]:
    """The index of the shop, and a store of its own."""
    shutil.copytree(built, tmp_path / "idx")
    (tmp_path / "queries.tsv").write_text(QUERIES, "utf-8")
    opened = open_index(tmp_path / "idx")
    yield opened
    opened.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log(shop: Pipeline) -> JudgmentLog:
    return JudgmentLog(shop.live.store)


Open = Callable[..., Judging]


@pytest.fixture
def start(shop: Pipeline, log: JudgmentLog, tmp_path: Path, clock: Clock) -> Open:
    """Open what a process that has just started has."""
    return lambda **more: Judging(
        shop, log, **{"queries": str(tmp_path / "queries.tsv"), "clock": clock, **more}
    )


@pytest.fixture
def judging(start: Open) -> Judging:
    return start()


def pair_of(answer: dict[str, Any]) -> Pair | None:
    pair = answer["pair"]
    return None if pair is None else (pair["query_id"], pair["product"]["id"])


def graded(judge: str, pair: Pair, grade: int, **more: object) -> dict[str, Any]:
    return {"judge": judge, "query_id": pair[0], "product_id": pair[1], "grade": grade, **more}


def grade_next(judging: Judging, judge: str, grade: int = 2, **more: object) -> Pair | None:
    """Grade the pair that comes next."""
    pair = pair_of(judging.next(judge))
    if pair is not None:
        assert judging.judge([graded(judge, pair, grade, **more)]) == 1
    return pair


def grade_all(judging: Judging, judge: str, grade: int = 2) -> list[Pair]:
    pairs = []
    while (pair := grade_next(judging, judge, grade)) is not None:
        pairs.append(pair)
    return pairs


# --- one judge ------------------------------------------------------------------------------------


def test_the_next_pair_says_what_is_to_be_judged(judging: Judging) -> None:
    answer = judging.next("ann")
    pair = answer["pair"]
    assert set(pair) == {"query_id", "query", "product", "why", "given"}
    product = next(each for each in SHOP if each.id == pair["product"]["id"])
    assert (pair["product"]["title"], pair["given"]) == (product.title, None)
    assert pair["query"] in QUERIES
    assert pair["why"].startswith("lexical ")
    assert answer["highest"] == 3
    assert answer["progress"] == {"mine": 0, "judged": 0, "shown": SHOWN, "left": SHOWN}
    assert answer["agreement"] == {"pairs": 0, "exact": None, "kappa": None}


def test_a_pair_waits_until_it_is_answered(judging: Judging) -> None:
    first = pair_of(judging.next("ann"))
    assert pair_of(judging.next(" ann ", 5)) == first
    judging.judge([graded("ann", first, 3)])
    second = pair_of(judging.next("ann"))
    judging.skip("ann", *second)
    third = pair_of(judging.next("ann"))
    assert len({first, second, third}) == 3
    assert judging.next("ann")["progress"] == {"mine": 1, "judged": 1, "shown": SHOWN, "left": SHOWN - 2}


def test_pairs_come_in_the_order_of_what_they_tell(shop: Pipeline, start: Open, tmp_path: Path) -> None:
    asked = read_queries(tmp_path / "queries.tsv")
    a, b = first_hits(shop, "dense", asked), first_hits(shop, "hybrid", asked)
    wanted = next_pairs(a, b, {}, {}, len(pool({"a": a, "b": b}, 10)))
    assert grade_all(start(between="dense, hybrid"), "ann") == wanted


def test_the_labels_of_the_log_say_what_is_nearly_known(
    judging: Judging, start: Open, log: JudgmentLog
) -> None:
    query_id, product_id = first = pair_of(judging.next("ann"))
    log.append([
        Judgment(
            query_id=query_id, query="", product_id=product_id, grade=0, highest=3, judge="bootstrap",
            kind="bootstrap", time=NOON, confidence=1.0,
        )
    ])  # fmt: skip
    anew = start()
    assert pair_of(anew.next("ann")) != first
    assert anew.next("ann")["progress"]["judged"] == 0  # a label is nobody's opinion


def test_every_pair_comes_once_and_then_none(judging: Judging, log: JudgmentLog) -> None:
    pairs = grade_all(judging, "ann", grade=1)
    assert len(pairs) == len(set(pairs)) == SHOWN
    answer = judging.next("ann")
    assert (answer["pair"], answer["progress"]) == (
        None,
        {"mine": SHOWN, "judged": SHOWN, "shown": SHOWN, "left": 0},
    )
    texts = dict(line.split("\t") for line in QUERIES.splitlines())
    judgments = [judgment for _, judgment in log.judgments()]
    assert [(each.query_id, each.product_id) for each in judgments] == pairs
    assert all(each.query == texts[each.query_id] for each in judgments)
    assert {(each.judge, each.kind, each.grade, each.highest) for each in judgments} == {
        ("ann", "person", 1, 3)
    }
    assert judgments[0].time > datetime.now(UTC) - timedelta(minutes=10)


def test_what_is_judged_is_known_after_a_restart_and_from_elsewhere(
    judging: Judging, start: Open, log: JudgmentLog
) -> None:
    first = grade_next(judging, "ann")
    other = pair_of(judging.next("ann"))
    log.append([
        Judgment(
            query_id=other[0], query="", product_id=other[1], grade=5, highest=5, judge="ann", kind="person",
            time=NOON,
        )
    ])  # fmt: skip
    for opened in (judging, start()):
        assert opened.next("ann")["progress"]["mine"] == 2
        assert not {first, other} & {pair_of(opened.next("ann"))}


def test_judgments_of_another_text_do_not_count(judging: Judging) -> None:
    pair = pair_of(judging.next("ann"))
    judging.judge([graded("ann", pair, 1, query="lawn mower")])
    assert judging.next("ann")["progress"]["mine"] == 0
    judging.judge([graded("ann", pair, 1, query=judging.next("ann")["pair"]["query"].upper())])
    assert judging.next("ann")["progress"]["mine"] == 1


# --- several --------------------------------------------------------------------------------------


def test_two_people_get_two_pairs_until_one_is_given_up(judging: Judging, clock: Clock) -> None:
    anns, bobs = pair_of(judging.next("ann")), pair_of(judging.next("bob"))
    assert anns != bobs
    clock.seconds += 60 * module.SHOWN_MINUTES
    assert pair_of(judging.next("carl")) == anns
    assert pair_of(judging.next("ann")) == anns


def test_every_fifth_pair_is_a_second_opinion(judging: Judging) -> None:
    anns = [grade_next(judging, "ann") for _ in range(8)]
    reasons = []
    bobs = []
    for _ in range(10):
        reasons.append(judging.next("bob")["pair"]["why"].endswith("; a second opinion"))
        bobs.append(grade_next(judging, "bob"))
    assert reasons == [False, False, False, False, True] * 2
    assert judging.next("bob")["agreement"]["pairs"] == 2
    assert judging.next("ann")["agreement"]["pairs"] == 2
    assert set(anns) <= {*bobs, *grade_all(judging, "bob")}
    assert judging.next("bob")["progress"] == {"mine": SHOWN, "judged": SHOWN, "shown": SHOWN, "left": 0}


def test_many_at_once_get_each_pair_once_and_all_of_them(
    shop: Pipeline, judging: Judging, log: JudgmentLog
) -> None:
    names = ["ann", "bob", "Вера", "dan"]
    got: dict[str, list[Pair]] = {name: [] for name in names}

    def work(name: str, grade: int) -> None:
        got[name] += grade_all(judging, name, grade)

    threads = [threading.Thread(target=work, args=(name, n)) for n, name in enumerate(names)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for pairs in got.values():
        assert len(pairs) == len(set(pairs)) == SHOWN
    url = str(shop.live.path / "store.sqlite")
    with Store.open(url, create=False) as store:
        kept = [judgment for _, judgment in JudgmentLog(store).judgments()]
    assert len(kept) == log.count() == 4 * SHOWN
    for n, name in enumerate(names):
        own = [(each.query_id, each.product_id) for each in kept if each.judge == name and each.grade == n]
        assert own == got[name]


def test_agreement_is_measured_on_one_scale(judging: Judging) -> None:
    pairs = judging_pairs(judging, 4)
    for pair, ann, bob, carl in zip(pairs, (0, 3, 1, 2), (0, 5, 5, 3), (0, 1, None, None), strict=True):
        judging.judge([graded("ann", pair, ann), graded("bob", pair, bob, highest=5)])
        if carl is not None:
            judging.judge([graded("carl", pair, carl, highest=1)])
    # bob's 0, 5, 5, 3 of 5 are 0, 3, 3, 2 of 3; carl's 0 and 1 of 1 are 0 and 3
    found = judging.next("ann")["agreement"]
    wanted = kappa(np.array([0, 3, 1, 2]), np.array([0, 3, 3, 2]), 3, "quadratic")
    assert found == {"pairs": 4, "exact": 0.75, "kappa": pytest.approx(wanted)}
    assert judging.next("carl", 1)["agreement"] == {"pairs": 2, "exact": 1.0, "kappa": 1.0}


def judging_pairs(judging: Judging, n: int) -> list[Pair]:
    pairs = []
    for _ in range(n):
        pairs.append(pair_of(judging.next("somebody")))
        judging.skip("somebody", *pairs[-1])
    return pairs


def test_of_others_who_differ_the_lower_grade_counts(judging: Judging) -> None:
    (pair,) = judging_pairs(judging, 1)
    for judge, grade in (("ann", 1), ("bob", 1), ("carl", 3)):
        judging.judge([graded(judge, pair, grade)])
    assert judging.next("ann")["agreement"] == {"pairs": 1, "exact": 1.0, "kappa": None}
    assert judging.next("carl")["agreement"]["exact"] == 0.0


def test_a_pair_that_enough_people_graded_is_not_asked_again(
    judging: Judging, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judging_pool, "ENOUGH", 3)
    (pair,) = judging_pairs(judging, 1)
    judging.judge([graded(f"judge {n}", pair, 1) for n in range(5)])
    assert pair not in grade_all(judging, "ann")
    assert judging.next("ann")["progress"] == {"mine": SHOWN - 1, "judged": SHOWN, "shown": SHOWN, "left": 0}


def test_whoever_was_away_longest_is_forgotten(
    judging: Judging, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_JUDGES", 3)
    (pair,) = judging_pairs(judging, 1)
    for name in ("ann", "bob", "carl", "dan", "ann"):
        judging.next(name)
    assert list(judging._sessions) == ["carl", "dan", "ann"]
    clock.seconds += 60 * module.SHOWN_MINUTES
    assert pair_of(judging.next("somebody")) == pair  # which had been skipped


# --- taking back ----------------------------------------------------------------------------------


def test_undo_gives_the_pair_back_to_be_graded_again(judging: Judging, log: JudgmentLog) -> None:
    first, second = grade_next(judging, "ann", 3), grade_next(judging, "ann", 1)
    third = pair_of(judging.next("ann"))
    undone = judging.undo("ann")
    assert (pair_of(undone), undone["pair"]["given"], undone["highest"]) == (second, 1, 3)
    assert undone["pair"]["why"]
    assert judging.next("ann")["pair"] == undone["pair"]
    assert judging.next("ann")["progress"]["mine"] == log.count() == 1
    assert judging.next("ann", 5)["pair"]["given"] == 2  # 1 of 3 on another scale
    assert pair_of(judging.undo("ann")) == first
    assert log.count() == 0
    assert judging.undo("ann") == {"pair": None}
    assert [grade_next(judging, "ann", 0) for _ in range(3)] == [first, second, third]
    assert [judgment.grade for _, judgment in log.judgments()] == [0, 0, 0]


def test_undo_uncovers_the_opinion_before(judging: Judging, log: JudgmentLog) -> None:
    pair = grade_next(judging, "ann", 3)
    judging.judge([graded("ann", pair, 0), graded("bob", pair, 0)])
    assert judging.next("ann")["agreement"]["exact"] == 1.0
    assert judging.undo("ann")["pair"]["given"] == 0
    answer = judging.next("ann")
    assert (pair_of(answer), answer["progress"]["mine"], answer["agreement"]["exact"]) == (pair, 1, 0.0)
    assert judging.undo("ann")["pair"]["given"] == 3
    assert log.count() == 1  # bob's


def test_what_is_sent_again_is_taken_back_at_once(judging: Judging, start: Open, log: JudgmentLog) -> None:
    first, second = grade_next(judging, "ann", 3), grade_next(judging, "ann", 1)
    again = [graded("ann", first, 3), graded("ann", second, 1)]
    assert (judging.judge(again), start().judge(again), log.count()) == (0, 0, 2)
    assert judging.judge([graded("ann", first, 3, reason="a set"), graded("bob", second, 1)]) == 2
    assert [pair_of(judging.undo("ann")) for _ in range(3)] == [first, second, first]
    assert judging.judge(again) == 2


def test_a_grade_that_is_confirmed_is_the_last_one(judging: Judging, log: JudgmentLog) -> None:
    first, second = grade_next(judging, "ann", 3), grade_next(judging, "ann", 1)
    judging.judge([graded("ann", first, 0)])
    assert pair_of(judging.undo("ann")) == first
    assert judging.judge([graded("ann", first, 3)]) == 1  # as before, and said anew
    assert [pair_of(judging.undo("ann")) for _ in range(3)] == [first, second, first]
    assert log.count() == 0


def test_undo_goes_on_after_a_restart(judging: Judging, start: Open) -> None:
    first, second = grade_next(judging, "ann", 2), grade_next(judging, "ann", 1, highest=5)
    grade_next(judging, "bob", 3)
    anew = start()
    undone = anew.undo("ann")
    assert (pair_of(undone), undone["pair"]["given"], undone["highest"]) == (second, 1, 5)
    assert pair_of(anew.next("ann")) == second
    assert pair_of(anew.undo("ann")) == first


def test_undo_of_a_skipped_pair_leaves_the_judgments_alone(judging: Judging, log: JudgmentLog) -> None:
    first = grade_next(judging, "ann")
    second = pair_of(judging.next("ann"))
    judging.skip("ann", *second)
    undone = judging.undo("ann")
    assert (pair_of(undone), undone["pair"]["given"], log.count()) == (second, None, 1)
    assert grade_next(judging, "ann") == second
    assert [pair_of(judging.undo("ann")) for _ in range(2)] == [second, first]


def test_skipped_pairs_come_again_only_after_a_restart(judging: Judging, start: Open) -> None:
    pair = pair_of(judging.next("ann"))
    judging.skip("ann", *pair)
    judging.skip("ann", "q9", "nothing")
    assert pair_of(judging.next("bob")) == pair
    assert pair not in grade_all(judging, "ann")
    assert pair_of(start().next("ann")) == pair


def test_several_undo_at_once_and_each_takes_another(judging: Judging, log: JudgmentLog) -> None:
    pairs = [grade_next(judging, "ann") for _ in range(6)]
    taken: list[Pair | None] = []
    threads = [threading.Thread(target=lambda: taken.append(pair_of(judging.undo("ann")))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == sorted(pairs)
    assert log.count() == 0


# --- the catalogue and the queries ----------------------------------------------------------------


def test_products_that_are_gone_are_not_asked_for(shop: Pipeline, judging: Judging, start: Open) -> None:
    first = pair_of(judging.next("ann"))
    rest = [pair for pair in grade_all(start(), "bob") if pair[1] != first[1]]
    shop.delete([first[1]])
    pairs = grade_all(judging, "ann")
    assert set(pairs) == set(rest)
    n = len(rest)
    assert judging.next("ann")["progress"] == {"mine": n, "judged": n, "shown": n, "left": 0}
    assert judging.judge([graded("ann", first, 0)]) == 1
    undone = judging.undo("ann")["pair"]
    assert (undone["product"], undone["given"]) == ({"id": first[1], "title": ""}, 0)
    assert judging.next("ann")["pair"] is None


def test_queries_and_products_need_not_be_known(judging: Judging, log: JudgmentLog) -> None:
    assert (
        judging.judge([graded("ann", ("q77", "x1"), 1, query="лейка", reason="too small", confidence=0.5)])
        == 1
    )
    (kept,) = [judgment for _, judgment in log.judgments()]
    assert (kept.query, kept.reason, kept.confidence) == ("лейка", "too small", 0.5)
    assert judging.next("ann")["progress"]["mine"] == 0


NUMBERS = count(1)


def served(*queries: str, **more: object) -> list[Served]:
    return [
        Served(impression_id=str(next(NUMBERS)), query=query, product_ids=("m1",), time=NOON, **more)
        for query in queries
    ]


def test_without_a_file_the_most_frequent_queries_are_judged(shop: Pipeline, start: Open) -> None:
    with pytest.raises(InputError, match=r"'judging.queries': is empty, and no search was served yet"):
        start(queries="").next("ann")
    log = FeedbackLog(shop.live.store)
    log.append(served(*["hose"] * 3, *["Cow  manure", "cow manure"] * 2, "секатор", " "), [])
    log.append(served("x" * 501), [])
    log.append(served(*["later pages"] * 9, first_rank=11), [])
    assert frequent_queries(shop.live.store) == [
        Query(query_id_of("cow manure"), "Cow manure"),
        Query(query_id_of("hose"), "hose"),
        Query(query_id_of("секатор"), "секатор"),
    ]
    assert [query.text for query in frequent_queries(shop.live.store, 1)] == ["Cow manure"]
    answer = start(queries="").next("ann")
    assert answer["progress"]["shown"] > 3
    assert answer["pair"]["query_id"] == query_id_of(answer["pair"]["query"])


def test_only_the_latest_impressions_are_counted(shop: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    FeedbackLog(shop.live.store).append(served(*["hose"] * 5, "manure", "rake"), [])
    monkeypatch.setattr(judging_pool, "LOOKED_BACK", 2)
    assert [query.text for query in frequent_queries(shop.live.store)] == ["manure", "rake"]


def test_of_too_many_queries_the_first_are_taken(
    start: Open, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(judging_pool, "MOST_QUERIES", 2)
    assert {query_id for query_id, _ in grade_all(start(), "ann")} == {"q1", "q2"}
    assert "of 4 queries to judge for, the first 2 are taken" in caplog.text


def test_pairs_are_made_anew_after_a_while(shop: Pipeline, judging: Judging, clock: Clock) -> None:
    grade_next(judging, "ann")
    shop.upsert([Product(id="n1", title="Tomato feed, organic")])
    shop.refresh()
    assert judging.next("ann")["progress"]["shown"] == SHOWN
    clock.seconds += 60 * judging_pool.MINUTES
    progress = judging.next("ann")["progress"]
    assert (progress["mine"], progress["shown"] > SHOWN) == (1, True)
    assert "n1" in {product_id for _, product_id in grade_all(judging, "ann")}


def test_one_thread_makes_the_pairs_and_a_failure_leaves_those_before(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock, made = Clock(), []

    def make() -> JudgingPool:
        if len(made) == 1:
            made.append(None)
            raise StoreError("the disk is gone")
        made.append(JudgingPool([], []))
        return made[-1]

    keeper = PoolKeeper(make, clock)
    found: list[JudgingPool] = []
    threads = [threading.Thread(target=lambda: found.append(keeper.pool())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert all(each is made[0] for each in found)
    clock.seconds += 60 * judging_pool.MINUTES
    assert keeper.pool() is keeper.pool() is made[0]
    assert "the pairs to judge stay as they were: the disk is gone" in caplog.text
    clock.seconds += 60 * judging_pool.MINUTES
    assert keeper.pool() is made[2]


# --- what is refused ------------------------------------------------------------------------------

GOOD = graded("ann", ("q1", "m1"), 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"judge": ""}, r"field 'judgments\[1\].judge': is no name \(got ''\)"),
        ({"judge": "a\nb"}, "judge': is no name"),
        ({"judge": "a" * 101}, "Give 1 to 100 characters"),
        ({"judge": 7}, "judge': is no name"),
        ({"query_id": ""}, "query_id': is no id"),
        ({"query_id": "q\t1"}, "query_id': is no id"),
        ({"product_id": " m1"}, "product_id': is no id"),
        ({"product_id": "m" * 501}, "product_id': is no id"),
        ({"product_id": None}, "product_id': is no id"),
        ({"grade": 4}, "grade': is outside the scale 0-3"),
        ({"grade": "2"}, "grade': is no whole number"),
        ({"grade": True}, "grade': is no whole number"),
        ({"grade": None}, "grade': is no whole number"),
        ({"highest": 4}, "highest': is not the top of a scale"),
        ({"query": ["a"]}, "query': is no text"),
        ({"reason": "r" * 2_001}, "reason': is no text of at most 2,000 characters"),
        ({"reason": "\ud800"}, "reason': holds a NUL or half a character"),
        ({"confidence": 2}, "confidence': is not between 0 and 1"),
        ({"confidence": "high"}, "confidence': is no number"),
        ({"time": "2026-05-31"}, "is no field of a judgment; there are judge, .* The kind is always person"),
    ],
)
def test_a_judgment_that_cannot_be_is_refused_with_all_others(
    judging: Judging, log: JudgmentLog, change: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        judging.judge([GOOD, {**GOOD, **change}])
    assert log.count() == 0


@pytest.mark.parametrize("judgments", [{}, [GOOD] * 1_001, ["good"], [None]])
def test_what_is_no_list_of_judgments_is_refused(
    judging: Judging, log: JudgmentLog, judgments: object
) -> None:
    with pytest.raises(InputError, match="judgments"):
        judging.judge(judgments)
    assert log.count() == 0


def test_names_ids_and_scales_are_checked_everywhere(judging: Judging) -> None:
    for call in (judging.next, judging.undo, lambda name: judging.skip(name, "q1", "m1")):
        with pytest.raises(InputError, match="is no name"):
            call("  ")
    with pytest.raises(InputError, match=r"'highest': is not the top of a scale \(got 4\)"):
        judging.next("ann", 4)
    with pytest.raises(InputError, match="'product_id': is no id"):
        judging.skip("ann", "q1", None)


def test_settings_are_checked_at_the_start(start: Open) -> None:
    with pytest.raises(
        SettingError, match=r"judging\.between names two systems, as in lexical,hybrid; not dense"
    ):
        start(between="dense")
    with pytest.raises(SettingError, match="no system 'best'; there are tfidf, lexical, dense, hybrid"):
        start(between="best,hybrid")
    with pytest.raises(SettingError, match=r"judging\.highest is 2"):
        start(highest=2)
    with pytest.raises(InputError, match=r"missing\.tsv"):
        start(queries="missing.tsv").next("ann")


def test_choosing_pairs_needs_nothing_of_a_server() -> None:
    code = "import sys, tilth.cli.choosing, tilth.serve.judging; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"fastapi", "pydantic", "uvicorn"} & set(done.stdout.split())


# --- whatever people do ---------------------------------------------------------------------------

PAIRS = [(f"q{n}", product.id) for n in range(2) for product in SHOP[:4]]


def small_pool(*_: object) -> JudgingPool:
    queries = [Query("q0", "manure"), Query("q1", "seeds")]
    texts = {query.query_id: query.text for query in queries}
    return JudgingPool(queries, [Chosen(q, texts[q], p, "", {"a": 1, "b": 2}, 0.5, 0.125) for q, p in PAIRS])


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Store]]:
    folder, opened = tmp_path_factory.mktemp("stores"), []

    def new() -> Store:
        opened.append(Store.open(folder / f"{len(opened)}.sqlite"))
        opened[-1].upsert(SHOP)
        return opened[-1]

    yield new
    for store in opened:
        store.close()


@settings(max_examples=40, deadline=None)
@given(
    acts=st.lists(
        st.tuples(st.sampled_from(["ann", "bob"]), st.sampled_from(["grade", "grade", "skip", "undo"])),
        max_size=40,
    )
)
def test_nobody_gets_a_pair_twice_unless_it_was_taken_back(
    stores: Callable[[], Store], acts: list[tuple[str, str]]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JudgingPool, "of", small_pool)
        patch.setattr(module, "queries_to_judge", lambda *_: [])
        patch.setattr(module, "two_systems", lambda *_: ("a", "b"))
        store = stores()
        log = JudgmentLog(store)
        judging = Judging(SimpleNamespace(live=SimpleNamespace(store=store)), log, clock=Clock())
        done: dict[str, list[tuple[Pair, int | None]]] = {"ann": [], "bob": []}
        for n, (judge, act) in enumerate(acts):
            if act == "undo":
                wanted = done[judge].pop() if done[judge] else (None, None)
                answer = judging.undo(judge)
                assert (pair_of(answer), answer["pair"] and answer["pair"]["given"]) == wanted
                continue
            answer = judging.next(judge)
            pair, grade = pair_of(answer), n % 4
            assert (pair is None) == (len(done[judge]) == len(PAIRS))
            if pair is not None:
                assert pair not in [before for before, _ in done[judge]]
                if act == "grade":
                    judging.judge([graded(judge, pair, grade)])
                else:
                    judging.skip(judge, *pair)
                done[judge].append((pair, grade if act == "grade" else None))
        kept = {(each.judge, each.query_id, each.product_id, each.grade) for _, each in log.judgments()}
        wanted = {
            (judge, *pair, grade) for judge, acts in done.items() for pair, grade in acts if grade is not None
        }
        assert kept == wanted
        assert log.count() == len(wanted)
        for judge, acts in done.items():
            mine = sum(grade is not None for _, grade in acts)
            progress = judging.next(judge)["progress"]
            assert (progress["mine"], progress["left"]) == (mine, len(PAIRS) - len(acts))
