import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilth.errors import SettingError
from tilth.labelling.choosing import STRATEGIES, expected_qrels, next_pairs, variances
from tilth.labelling.pooling import pool
from tilth.run import make_run

A = make_run("A", {"q1": {"same": 9, "down": 8, "only": 7}})
B = make_run("B", {"q1": {"same": 9, "late": 8, "down": 7}})

RUN = st.dictionaries(
    st.sampled_from(["q1", "q2"]), st.dictionaries(st.sampled_from("uvwxyz"), st.floats(0, 9)), max_size=2
).map(lambda scores: make_run("run", scores))
PAIRS = st.tuples(st.sampled_from(["q1", "q2"]), st.sampled_from("uvwxyz"))


def test_the_variance_of_a_pair_is_worked_out_by_hand():
    shown = pool({"a": A, "b": B}, 10)
    found = dict(zip(shown.pairs, variances(shown, {("q1", "only"): 0.9}), strict=True))
    second, third = 1 / math.log2(3), 1 / math.log2(4)
    assert found["q1", "same"] == 0
    assert found["q1", "down"] == pytest.approx((second - third) ** 2 / 4)
    assert found["q1", "late"] == pytest.approx(second**2 / 4)
    assert found["q1", "only"] == pytest.approx(third**2 * 0.09)


def test_what_tells_the_runs_apart_comes_first():
    pairs = next_pairs(A, B, {}, {}, 4)
    assert [product_id for _, product_id in pairs] == ["late", "only", "down", "same"]


def test_what_is_nearly_known_comes_later():
    pairs = next_pairs(A, B, {}, {("q1", "late"): 0.999}, 4)
    assert [product_id for _, product_id in pairs] == ["only", "down", "late", "same"]


def test_depth_goes_down_both_runs():
    pairs = next_pairs(A, B, {}, {}, 4, "depth")
    assert pairs[0] == ("q1", "same")
    assert {product_id for _, product_id in pairs[1:3]} == {"down", "late"}


def test_pairs_below_the_cutoff_tell_nothing():
    assert {product_id for _, product_id in next_pairs(A, B, {}, {}, 9, cutoff=2)} == {"same", "down", "late"}


def test_what_is_unjudged_has_its_expected_grade():
    pairs = [("q1", "a"), ("q1", "b"), ("q2", "a"), ("q2", "c")]
    found = expected_qrels(pairs, {("q1", "a"): 2, ("q3", "x"): 3}, 3, {("q1", "b"): 0.7, ("q1", "a"): 0.1})
    assert found.grades == {"q1": {"a": 60, "b": 63}, "q2": {"a": 45, "c": 45}}


def test_an_unknown_strategy_is_refused():
    with pytest.raises(SettingError, match="no strategy 'best'; there are random, depth, difference"):
        next_pairs(A, B, {}, {}, 1, "best")


@given(RUN, RUN, st.sets(PAIRS), st.integers(0, 12), st.sampled_from(STRATEGIES), st.integers(0, 3))
def test_chosen_pairs_are_shown_unjudged_and_different(a, b, judged, n, strategy, seed):
    known = dict.fromkeys(judged, 1)
    pairs = next_pairs(a, b, known, {}, n, strategy, seed)
    open_pairs = set(pool({"a": a, "b": b}, 10).pairs) - judged
    assert len(pairs) == len(set(pairs)) == min(n, len(open_pairs))
    assert set(pairs) <= open_pairs
    assert pairs == next_pairs(a, b, known, {}, n, strategy, seed)
    assert next_pairs(a, b, known, {}, n + 5, strategy, seed)[:n] == pairs


@given(st.integers(0, 50))
def test_seeds_shuffle_what_is_alike(seed):
    run = make_run("run", {f"q{n}": {"x": 1.0} for n in range(200)})
    assert next_pairs(run, run, {}, {}, 200, "random", seed) != next_pairs(
        run, run, {}, {}, 200, "random", seed + 1
    )
