import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilth.errors import InputError, SettingError
from tilth.evaluation.reliability import (
    equal_mass_bins,
    equal_width_bins,
    measure_refusals,
    measure_reliability,
)

pairs = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=40)


def test_reliability_by_hand():
    probabilities, relevant = np.array([0.1, 0.2, 0.7, 0.8, 0.9]), np.array([0, 1, 1, 1, 0])
    found = measure_reliability(probabilities, relevant, bins=2)
    low, high = found.equal_width
    assert (low.count, low.low, low.high, low.share_relevant) == (2, 0.1, 0.2, 0.5)
    assert (high.count, high.share_relevant) == (3, pytest.approx(2 / 3))
    assert (low.mean_probability, high.mean_probability) == pytest.approx((0.15, 0.8))
    assert found.ece == pytest.approx((2 * 0.35 + 3 * (0.8 - 2 / 3)) / 5)
    assert found.brier == pytest.approx((0.01 + 0.64 + 0.09 + 0.04 + 0.81) / 5)
    assert [one.count for one in found.equal_mass] == [3, 2]  # ranks 0 to 2 and 3 to 4 of five
    assert found.ece_equal_mass == pytest.approx((3 * (2 / 3 - 1 / 3) + 2 * (0.85 - 0.5)) / 5)
    assert json.loads(json.dumps(found.to_json()))["equal_width"][0]["count"] == 2


def test_edges_of_bins():
    assert equal_width_bins(np.array([0.0, 0.0999, 0.1, 0.25, 1.0]), 10).tolist() == [0, 0, 1, 2, 9]
    assert equal_mass_bins(np.array([0.4, 0.1, 0.3, 0.2]), 2).tolist() == [1, 0, 1, 0]
    assert equal_mass_bins(np.array([0.5, 0.5, 0.5, 0.9]), 4).tolist() == [0, 0, 0, 3]  # ties stay together


@given(count=st.integers(1, 50), data=st.data(), bins=st.integers(1, 20))
def test_a_constant_that_is_the_share_of_relevant_pairs_has_no_error(count, data, bins):
    relevant = np.arange(count) < data.draw(st.integers(0, count))
    found = measure_reliability(np.full(count, relevant.mean()), relevant, bins=bins)
    assert (found.ece, found.ece_equal_mass) == pytest.approx((0, 0), abs=1e-12)
    assert found.brier == pytest.approx(relevant.mean() * (1 - relevant.mean()))


@given(values=pairs, bins=st.integers(1, 12))
def test_errors_are_from_0_to_1_and_tables_hold_every_pair(values, bins):
    probabilities, relevant = map(np.array, zip(*values, strict=True))
    found = measure_reliability(probabilities, relevant, bins=bins)
    overall = abs(probabilities.mean() - relevant.mean())
    for error, table in ((found.ece, found.equal_width), (found.ece_equal_mass, found.equal_mass)):
        assert overall - 1e-12 <= error <= 1 + 1e-12  # errors of opposite signs cannot cancel between bins
        assert sum(one.count for one in table) == found.pairs
        assert len(table) <= bins
        assert all(lower.high <= upper.low for lower, upper in pairwise(table))
    assert 0 <= found.brier <= 1
    backwards = measure_reliability(probabilities[::-1], relevant[::-1], bins=bins)
    assert backwards.ece_equal_mass == pytest.approx(found.ece_equal_mass)


def test_refusals_by_hand():
    found = measure_refusals([1, 1, 1, 0, 0, 0], [0, 0, 1, 0, 1, 1])
    assert (found.queries, found.unanswerable, found.refused) == (6, 3, 3)
    assert (found.precision, found.recall, found.answerable_refused) == pytest.approx((2 / 3, 2 / 3, 1 / 3))
    assert json.loads(json.dumps(found.to_json()))["refused"] == 3


def test_refusals_without_one_of_their_classes():
    none = measure_refusals([0, 0], [1, 1])
    assert (none.precision, none.recall, none.answerable_refused) == (None, None, 0.0)
    assert measure_refusals([1], [0]).answerable_refused is None


def test_wrong_input_is_named():
    for probabilities in ([1.2], [-0.1]):
        with pytest.raises(InputError, match="from 0 to 1"):
            measure_reliability(np.array(probabilities), [1])
    with pytest.raises(SettingError, match="bins must be from 1"):
        measure_reliability(np.array([0.5]), [1], bins=0)
    with pytest.raises(InputError, match="no pair"):
        measure_refusals([], [])
