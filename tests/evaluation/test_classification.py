import json
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilth.errors import InputError, SettingError
from tilth.evaluation import query_draws
from tilth.evaluation.classification import (
    calibrated_threshold,
    cheapest_threshold,
    measure_grades,
    measure_relevance,
)

levels = st.lists(st.sampled_from([-1.5, 0.0, 0.25, 0.3, 0.5, 2.0]), min_size=1, max_size=25)
costs = st.sampled_from([0.0, 0.5, 1.0, 3.0, 10.0])


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def test_relevance_by_hand():
    found = measure_relevance(np.array([0.9, 0.8, 0.6, 0.4, 0.2]), np.array([1, 0, 1, 1, 0]), threshold=0.6)
    counts = found.true_positives, found.false_positives, found.false_negatives, found.true_negatives
    assert counts == (2, 1, 1, 1)
    assert (found.pairs, found.relevant, found.intervals) == (5, 3, {})
    assert found.accuracy == pytest.approx(3 / 5)
    assert (found.precision, found.recall, found.f1) == pytest.approx((2 / 3, 2 / 3, 2 / 3))
    assert found.balanced_accuracy == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert found.roc_auc == pytest.approx(4 / 6)  # of the 6 pairs, 0.6 and 0.4 lose to 0.8
    assert found.average_precision == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)


def test_one_class_leaves_measures_without_a_value():
    scores = np.array([0.1, 0.9])
    nothing = measure_relevance(scores, np.array([False, False]), threshold=2.0)
    assert (nothing.precision, nothing.recall, nothing.f1) == (None, None, None)
    assert (nothing.roc_auc, nothing.average_precision, nothing.balanced_accuracy) == (None, None, None)
    assert nothing.accuracy == 1.0
    everything = measure_relevance(scores, np.array([True, True]), threshold=2.0)
    assert (everything.precision, everything.recall, everything.f1) == (None, 0.0, 0.0)
    assert (everything.roc_auc, everything.balanced_accuracy, everything.average_precision) == (None, None, 1)


def test_grades_by_hand():
    found = measure_grades(np.array([0, 0, 2, 2, 3, 1]), np.array([0, 0, 2, 3, 3, 3]))
    table = {row.grade: (row.pairs, row.predicted, row.precision, row.recall) for row in found.grades}
    assert table == {0: (2, 2, 1.0, 1.0), 1: (0, 1, 0.0, None), 2: (1, 2, 0.5, 1.0), 3: (3, 1, 1.0, 1 / 3)}
    assert found.confusion == ((2, 0, 0, 0), (0, 0, 0, 0), (0, 0, 1, 0), (0, 1, 1, 1))
    assert found.accuracy == found.micro_precision == found.micro_recall == found.micro_f1
    assert found.accuracy == pytest.approx(4 / 6)
    assert found.macro_precision == pytest.approx((1 + 0 + 0.5 + 1) / 4)
    assert found.macro_recall == pytest.approx((1 + 0 + 1 + 1 / 3) / 4)
    assert found.balanced_accuracy == pytest.approx((1 + 1 + 1 / 3) / 3)  # grades that pairs have


def test_a_grade_never_predicted_has_no_precision_and_one_grade_no_balanced_accuracy():
    found = measure_grades(np.array([1, 1]), np.array([1, 2]))
    assert [row.precision for row in found.grades] == [0.5, None]
    assert [row.f1 for row in found.grades] == [pytest.approx(2 / 3), 0.0]
    assert measure_grades(np.array([1, 2]), np.array([1, 1])).balanced_accuracy is None


def test_intervals_come_from_whole_queries():
    # Each query is all right or all wrong: of two queries, a draw has none, half or all pairs right.
    relevant, scores = np.array([1, 1, 0, 0] * 10), np.array([1, 1, 0, 0] * 5 + [0, 0, 1, 1] * 5) * 1.0
    together = measure_relevance(scores, relevant, threshold=0.5, sizes=[20, 20], resamples=300)
    assert together.intervals["accuracy"] == (0.0, 1.0)
    assert together.intervals["roc_auc"] == (0.0, 1.0)
    apart = measure_relevance(scores, relevant, threshold=0.5, sizes=[1] * 40, resamples=300)
    low, high = apart.intervals["accuracy"]
    assert 0.2 < low < together.accuracy == 0.5 < high < 0.8


def test_intervals_repeat_with_the_seed_and_are_plain_data():
    rng = np.random.default_rng(0)
    grades, predicted = rng.integers(4, size=60), rng.integers(4, size=60)
    one = measure_grades(predicted, grades, sizes=[6] * 10, resamples=50)
    assert one == measure_grades(predicted, grades, sizes=[6] * 10, resamples=50)
    assert one != measure_grades(predicted, grades, sizes=[6] * 10, resamples=50, seed=1)
    assert json.loads(json.dumps(one.to_json()))["intervals"]["macro_f1"] == list(one.intervals["macro_f1"])
    for name in ("accuracy", "balanced_accuracy", "micro_f1", "macro_precision", "macro_recall"):
        low, high = one.intervals[name]
        assert low <= getattr(one, name) <= high


def test_no_interval_where_many_draws_have_no_value():
    relevant = np.array([1] + [0] * 9)  # a third of the draws lacks the one query with a relevant pair
    found = measure_relevance(np.arange(10.0), relevant, threshold=5, sizes=[1] * 10, resamples=200)
    assert found.intervals["recall"] is None
    assert found.intervals["accuracy"] is not None


def test_small_blocks_give_valid_intervals_too(monkeypatch):
    rng = np.random.default_rng(0)
    scores, relevant = rng.random(100), rng.random(100) < 0.5
    whole = measure_relevance(scores, relevant, threshold=0.5, sizes=[5] * 20)
    monkeypatch.setattr(query_draws, "_BLOCK", 1000)
    parts = measure_relevance(scores, relevant, threshold=0.5, sizes=[5] * 20)
    for name, bounds in whole.intervals.items():
        assert parts.intervals[name] == pytest.approx(bounds, abs=0.05)


def test_a_query_without_pairs_is_drawn_too():
    found = measure_relevance(np.array([1.0, 0.0]), [1, 0], threshold=0.5, sizes=[0, 2], resamples=100)
    assert found.intervals["accuracy"] is None  # a quarter of the draws is empty


@given(values=levels, data=st.data(), wrong=costs, missed=costs)
def test_the_cheapest_threshold_is_the_best_of_all(values, data, wrong, missed):
    if not wrong + missed:
        wrong = 1.0
    scores = np.array(values)
    relevant = np.array(data.draw(st.lists(st.booleans(), min_size=len(values), max_size=len(values))))
    found = cheapest_threshold(scores, relevant, false_positive_cost=wrong, false_negative_cost=missed)

    def cost(threshold):
        called = scores >= threshold
        return wrong * (called & ~relevant).sum() + missed * (~called & relevant).sum()

    tried = [*values, max(values) + 1]
    assert found.cost == cost(found.threshold) == min(map(cost, tried))
    assert found.false_positives == (~relevant & (scores >= found.threshold)).sum()
    assert found.false_negatives == (relevant & (scores < found.threshold)).sum()
    assert all(cost(value) > found.cost for value in values if value > found.threshold)


@pytest.mark.parametrize(("wrong", "missed"), [(1, 1), (1, 4), (3, 1), (1, 0), (0, 1)])
def test_on_calibrated_probabilities_the_costs_alone_give_the_threshold(wrong, missed):
    # Of 20 pairs at the probability k / 20, k are relevant. No level stands at the theory's value itself.
    probabilities = np.repeat(np.arange(21) / 20, 20)
    relevant = np.concatenate([np.arange(20) < k for k in range(21)])
    theory = calibrated_threshold(false_positive_cost=wrong, false_negative_cost=missed)
    found = cheapest_threshold(probabilities, relevant, false_positive_cost=wrong, false_negative_cost=missed)
    called, by_theory = probabilities >= found.threshold, probabilities >= theory
    assert (wrong * (called & ~relevant) + missed * (~called & relevant)).sum() == pytest.approx(
        (wrong * (by_theory & ~relevant) + missed * (~by_theory & relevant)).sum()
    )
    assert abs(found.threshold - theory) <= 1 / 20 + 1e-12


def test_where_nothing_should_be_called_relevant_the_threshold_is_above_all():
    found = cheapest_threshold(np.array([0.2, 1.0]), [0, 0], false_positive_cost=1, false_negative_cost=1)
    assert found.threshold > 1.0
    assert json.loads(json.dumps(found.to_json())) == {
        "threshold": found.threshold, "cost": 0.0, "false_positives": 0, "false_negatives": 0,
    }  # fmt: skip


@settings(max_examples=30, deadline=None)
@given(values=levels, data=st.data(), threshold=st.floats(-2, 3))
def test_measures_are_shares(values, data, threshold):
    relevant = data.draw(st.lists(st.booleans(), min_size=len(values), max_size=len(values)))
    found = measure_relevance(np.array(values), relevant, threshold=threshold)
    names = ("accuracy", "balanced_accuracy", "precision", "recall", "f1", "roc_auc", "average_precision")
    shares = [getattr(found, name) for name in names]
    assert all(share is None or 0 <= share <= 1 for share in shares)


def test_wrong_input_is_named():
    good = np.array([0.5, 0.7])
    for scores, relevant, message in [
        (good[:0], [], "no pair"),
        (good, [1], "one value a pair"),
        (np.array([0.5, np.nan]), [0, 1], "not finite"),
        (good, [0, 2], "true and false"),
    ]:
        with pytest.raises(InputError, match=message):
            measure_relevance(scores, relevant, threshold=0.5)
    for sizes in ([1], [3, -1], [[1, 1]]):
        with pytest.raises(InputError, match="sum to the 2 pairs"):
            measure_relevance(good, [0, 1], threshold=0.5, sizes=sizes)
    with pytest.raises(SettingError, match="draws must be from 1"):
        measure_relevance(good, [0, 1], threshold=0.5, sizes=[2], resamples=0)
    for grades in (np.array([0.5, 1.0]), np.array([-1, 0])):
        with pytest.raises(InputError, match="whole numbers from 0"):
            measure_grades(grades, np.array([0, 1]))
    for wrong, missed in [(0, 0), (-1, 1), (1, float("inf"))]:
        with pytest.raises(SettingError, match="costs must be"):
            calibrated_threshold(false_positive_cost=wrong, false_negative_cost=missed)
