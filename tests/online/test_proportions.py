import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilth.online.proportions import Difference, Rate

RATES = st.integers(1, 10_000).flatmap(lambda of: st.builds(Rate, st.integers(0, of), st.just(of)))


def test_a_rate_as_json():
    assert Rate(1, 4).to_json() == {
        "value": 0.25, "low": pytest.approx(0.0456, abs=1e-4), "high": pytest.approx(0.6994, abs=1e-4),
        "of": 4, "count": 1,
    }  # fmt: skip


def test_nothing_has_no_rate():
    assert Rate(0, 0).to_json() == {"value": None, "low": None, "high": None, "of": 0, "count": 0}
    for difference in (Difference(Rate(0, 0), Rate(1, 2)), Difference(Rate(1, 2), Rate(0, 0))):
        assert (difference.value, difference.interval) == (None, None)


@given(RATES)
def test_an_interval_holds_its_rate_and_no_impossible_one(rate):
    low, high = rate.interval
    assert 0 <= low <= rate.value <= high <= 1
    assert (low == 0) == (rate.count == 0)
    assert (high == 1) == (rate.count == rate.of)


@given(RATES)
def test_more_of_the_same_is_surer(rate):
    low, high = rate.interval
    more_low, more_high = (rate + rate).interval
    assert more_high - more_low < high - low


@given(RATES, RATES)
def test_a_difference_is_within_its_interval_and_turns_its_sign(one, other):
    difference, turned = Difference(one, other), Difference(other, one)
    low, high = difference.interval
    assert -1 - 1e-12 <= low <= difference.value <= high <= 1 + 1e-12
    assert turned.value == -difference.value
    assert turned.interval == pytest.approx((-high, -low))
