from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilth.errors import InputError, SettingError
from tilth.feedback import Impression
from tilth.judgments import Judgment
from tilth.online.click_counts import ClickCounts, count_clicks
from tilth.online.click_models import PositionModel
from tilth.online.counterfactual import (
    ClickLabels,
    inverse_propensity_rates,
    model_labels,
    naive_labels,
    thresholds_by_share,
    to_grades,
    to_judgments,
    weighted_labels,
)
from tilth.online.simulation import Pages, PositionUsers, Traffic, simulate
from tilth.query import Query

THETA = np.array([1, 0.5, 0.25])


def cells(*rows):
    """Counts of rows (product, rank from 0, impressions, clicks) of one query."""
    names = list(dict.fromkeys(row[0] for row in rows))
    columns = [np.array(column) for column in zip(*[row[1:] for row in rows], strict=True)]
    pairs = np.array([names.index(row[0]) for row in rows])
    ranks, impressions, clicks = columns[0], columns[1].astype(float), columns[2].astype(float)
    return ClickCounts(tuple(("q", n) for n in names), {"q": "rose"}, pairs, ranks, impressions, clicks)


def test_inverse_propensities_by_hand():
    counts = cells(("a", 0, 10, 4), ("a", 1, 10, 3), ("b", 2, 8, 1))
    assert inverse_propensity_rates(counts, THETA) == pytest.approx([(4 + 3 / 0.5) / 20, (1 / 0.25) / 8])
    assert inverse_propensity_rates(counts, THETA, clip=0.5)[1] == pytest.approx((1 / 0.5) / 8)


def simulated_rates(logs, clip=0.01):
    """The mean and the standard error over logs of the rates of three products, one swapped log each."""
    pages = Pages((Query("q", "rose"),), (("a", "b", "c"),))
    attraction, rng, found = np.array([[0.2, 0.5, 0.8]]), np.random.default_rng(1), []
    for _ in range(logs):
        log = simulate(pages, attraction, Traffic(60, swapped=0.3), PositionUsers(THETA), rng)
        counts = count_clicks(log)
        rates = dict(zip(counts.pairs, inverse_propensity_rates(counts, THETA, clip=clip), strict=True))
        found.append([rates["q", name] for name in "abc"])
    return np.mean(found, axis=0), np.std(found, axis=0) / np.sqrt(logs)


def test_the_mean_of_many_logs_is_the_attraction():
    mean, error = simulated_rates(400)
    assert (np.abs(mean - [0.2, 0.5, 0.8]) < 4 * error).all()
    assert (error < 0.01).all()


def test_clipping_takes_from_the_ranks_that_it_clips():
    mean, error = simulated_rates(400, clip=0.5)
    assert mean[2] < 0.8 - 4 * error[2]


def test_equal_products_are_equal_once_corrected():
    theta = np.array([1, 0.5, 0.1])
    counts = cells(("top", 0, 10_000, 6000), ("low", 2, 10_000, 600), ("poor", 1, 10_000, 500))
    naive, weighted = naive_labels(counts), weighted_labels(counts, theta)
    assert naive.label == pytest.approx([0.6, 0.06, 0.05], abs=0.01)
    assert weighted.label == pytest.approx([0.6, 0.6, 0.1], abs=0.01)
    model = PositionModel(dict(zip(counts.pairs, (0.6, 0.6, 0.1), strict=True)), theta, ())
    assert model_labels(counts, model).label == pytest.approx([0.6, 0.6, 0.1], abs=0.01)
    assert naive.impressions.tolist() == [10_000] * 3
    assert naive.clicks.tolist() == [6000, 600, 500]


def test_few_clicks_at_a_low_rank_weigh_little():
    counts = cells(("often", 0, 1000, 300), ("other", 0, 1000, 100), ("once", 2, 1, 1))
    labels = weighted_labels(counts, np.array([1, 0.5, 0.1]))
    assert labels.weight[2] < 0.05 < labels.weight[0]
    assert labels.label[2] < 0.35  # a click / 0.1 would be 10


@st.composite
def counted(draw):
    rows = []
    for name in "abcd":
        for rank in draw(st.sets(st.integers(0, 2), min_size=1)):
            shown = draw(st.integers(1, 50))
            rows.append((name, rank, shown, draw(st.integers(0, shown))))
    return cells(*rows)


@settings(deadline=None)
@given(counts=counted())
def test_labels_and_weights_are_between_0_and_1(counts):
    for labels in (naive_labels(counts), weighted_labels(counts, THETA[: counts.depth])):
        assert len(labels.pairs) == len(labels.label) == len(labels.weight)
        assert ((labels.label > 0) & (labels.label < 1)).all()
        assert ((labels.weight > 0) & (labels.weight < 1)).all()


def test_propensities_of_too_few_ranks_are_refused():
    with pytest.raises(InputError, match="propensities for 1 ranks"):
        weighted_labels(cells(("a", 1, 1, 1)), np.ones(1))


@pytest.mark.parametrize(("propensities", "clip"), [([1.0], 0), ([1.0], 2), ([1.5], 0.1), ([np.nan], 0.1)])
def test_settings_out_of_range_are_refused(propensities, clip):
    with pytest.raises(SettingError):
        inverse_propensity_rates(cells(("a", 0, 1, 1)), np.array(propensities), clip=clip)


def test_grades_count_the_thresholds_exceeded():
    assert to_grades(np.array([0.1, 0.2, 0.3, 0.9]), (0.2, 0.5)).tolist() == [0, 0, 1, 2]
    for broken in ((), (0.5, 0.2)):
        with pytest.raises(SettingError, match="thresholds must ascend"):
            to_grades(np.zeros(1), broken)


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=60, unique=True))
def test_grades_by_share(values):
    labels = np.array(values)
    grades = to_grades(labels, thresholds_by_share(labels, (0.5, 0.3, 0.2)))
    order = np.argsort(labels)
    assert (np.diff(grades[order]) >= 0).all()
    assert np.mean(grades == 0) == pytest.approx(0.5, abs=1 / len(values) + 1e-9)


def test_equal_labels_all_have_the_lowest_grade():
    labels = np.full(9, 0.3)
    assert to_grades(labels, thresholds_by_share(labels)).tolist() == [0] * 9


def test_shares_sum_to_1():
    with pytest.raises(SettingError, match="sum to 1"):
        thresholds_by_share(np.zeros(3), (0.5, 0.6))


def test_labels_become_judgments():
    labels = ClickLabels(
        (("q", "a"), ("q", "b")),
        label=np.array([0.1, 0.8]),
        weight=np.array([0.5, 0.25]),
        impressions=np.array([9.0, 4]),
        clicks=np.array([1.0, 3]),
    )
    time = datetime(2026, 1, 31, tzinfo=UTC)
    first, second = to_judgments(labels, {"q": "rose"}, judge="clicks-pbm", time=time)
    assert first == Judgment(
        query_id="q", query="rose", product_id="a", grade=0, highest=3, judge="clicks-pbm", kind="clicks",
        time=time, reason="1 clicks on 9 impressions, label 0.100", confidence=0.5,
    )  # fmt: skip
    assert (second.product_id, second.grade, second.confidence) == ("b", 3, 0.25)


def test_a_log_of_one_pair_can_be_labelled():
    labels = naive_labels(count_clicks([Impression("q", "rose", ("a",), (1,))]))
    assert 0 < labels.label[0] < 1
