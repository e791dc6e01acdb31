from itertools import islice

import numpy as np
import pytest

from tilth.errors import InputError, SettingError
from tilth.online.simulation import (
    ARMS,
    CascadeUsers,
    Pages,
    PositionUsers,
    Traffic,
    attractions,
    examination,
    make_pages,
    simulate,
)
from tilth.qrels import Qrels
from tilth.query import Query
from tilth.run import make_run

PAGES = Pages((Query("q", "rose"), Query("r", "pot")), (("a", "b", "c", "d"), ("e", "f")))
QRELS = Qrels({"q": {"a": 3, "b": 0, "c": 2, "d": 1}, "r": {"f": 3}})


def rng(seed=0):
    return np.random.default_rng(seed)


def run(traffic, users, seed=0):
    generator = rng(seed)
    return list(simulate(PAGES, attractions(PAGES, QRELS, generator), traffic, users, generator))


def test_examination_falls_with_the_rank():
    assert examination(4).tolist() == [1, 1 / 2, 1 / 3, 1 / 4]
    assert examination(2, eta=2).tolist() == [1, 0.25]


def test_pages_are_the_first_hits():
    hits = make_run("bm25", {"q": {"a": 1.0, "b": 3.0, "c": 2.0}, "none": {}})
    pages = make_pages(hits, [Query("q", "rose"), Query("none", "x"), Query("missing", "y")], depth=2)
    assert pages == Pages((Query("q", "rose"),), (("b", "c"),))
    with pytest.raises(InputError, match="no query has a hit in the run 'bm25'"):
        make_pages(hits, [Query("none", "x")])


def test_attraction_follows_the_grade():
    expected = [[0.9, 0.05, 0.6, 0.3], [0.05, 0.9, 0, 0]]
    assert attractions(PAGES, QRELS, rng()) == pytest.approx(np.array(expected))


def test_spread_is_normal_on_the_log_odds():
    pages = Pages(tuple(Query(str(n), "t") for n in range(4000)), (("p",),) * 4000)
    drawn = attractions(pages, Qrels({}), rng(), by_grade=(0.2,), spread=0.5)
    odds = np.log(drawn / (1 - drawn))
    assert odds.mean() == pytest.approx(np.log(0.25), abs=0.04)
    assert odds.std() == pytest.approx(0.5, abs=0.03)


def test_a_grade_needs_an_attraction_between_0_and_1():
    with pytest.raises(SettingError, match="grade 3 has no attraction: 2 are given"):
        attractions(PAGES, QRELS, rng(), by_grade=(0.1, 0.5))
    with pytest.raises(SettingError, match="between 0 and 1"):
        attractions(PAGES, QRELS, rng(), by_grade=(0, 1))


def test_the_same_seed_gives_the_same_log():
    traffic, users = Traffic(200, swapped=0.2, shuffled=0.2), PositionUsers(examination(4))
    assert run(traffic, users, 5) == run(traffic, users, 5)
    assert run(traffic, users, 5) != run(traffic, users, 6)


def test_clicks_are_attraction_times_examination():
    users = PositionUsers(np.array([1, 0.5, 0.25, 0.8]))
    pages = [page for page in run(Traffic(40_000), users) if page.query_id == "q"]
    rates = [np.mean([rank in page.clicked for page in pages]) for rank in (1, 2, 3, 4)]
    assert rates == pytest.approx([0.9, 0.025, 0.15, 0.24], abs=0.015)
    assert {page.shown for page in pages} == {tuple("abcd")}


def test_pages_deeper_than_the_examination_are_refused():
    with pytest.raises(SettingError, match="pages have 4 ranks, and 2 have an examination"):
        run(Traffic(1), PositionUsers(examination(2)))


def test_a_cascade_ends_with_the_first_click():
    pages = [page for page in run(Traffic(20_000), CascadeUsers()) if page.query_id == "q"]
    assert max(len(page.clicked) for page in pages) == 1
    rates = [np.mean([page.clicked == (rank,) for page in pages]) for rank in (1, 2, 3)]
    assert rates == pytest.approx([0.9, 0.1 * 0.05, 0.1 * 0.95 * 0.6], abs=0.01)


def test_arms_have_their_shares_and_orders():
    log = run(Traffic(20_000, swapped=0.2, shuffled=0.3), PositionUsers(examination(4)))
    shares = [np.mean([page.arm == arm for page in log]) for arm in ARMS]
    assert shares == pytest.approx([0.5, 0.2, 0.3], abs=0.02)
    by_arm = {arm: [page.shown for page in log if page.arm == arm and page.query_id == "q"] for arm in ARMS}
    assert set(by_arm["ranked"]) == {tuple("abcd")}
    assert set(by_arm["swapped"]) == {tuple("bacd"), tuple("cbad"), tuple("dbca")}
    assert len(set(by_arm["shuffled"])) == 24
    assert {page.shown for page in log if page.query_id == "r"} == {("e", "f"), ("f", "e")}


def test_queries_come_by_zipf():
    pages = Pages(tuple(Query(str(n), "t") for n in range(3)), (("p",),) * 3)
    log = simulate(pages, np.full((3, 1), 0.5), Traffic(30_000), PositionUsers(np.ones(1)), rng())
    ids = [page.query_id for page in log]
    shares = sorted((ids.count(str(n)) / len(ids) for n in range(3)), reverse=True)
    assert shares == pytest.approx(np.array([6, 3, 2]) / 11, abs=0.01)


def test_a_log_of_any_length_streams():
    log = simulate(PAGES, np.full((2, 4), 0.5), Traffic(10**9), PositionUsers(examination(4)), rng())
    assert len(list(islice(log, 3))) == 3


@pytest.mark.parametrize(
    "settings", [{"sessions": 0}, {"zipf": -1}, {"swapped": -0.1}, {"swapped": 0.6, "shuffled": 0.6}]
)
def test_impossible_traffic_is_refused(settings):
    with pytest.raises(SettingError):
        Traffic(**{"sessions": 1, **settings})
