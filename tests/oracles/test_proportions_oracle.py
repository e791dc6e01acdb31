"""Wilson's interval against SciPy, Newcombe's against the examples of his paper."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from tilth.online.proportions import Rate, newcombe_interval, wilson_interval


@given(st.integers(1, 10**6).flatmap(lambda of: st.tuples(st.integers(0, of), st.just(of))))
def test_wilson_agrees_with_scipy(rate: tuple[int, int]) -> None:
    count, of = rate
    expected = binomtest(count, of).proportion_ci(0.95, method="wilson")
    assert wilson_interval(count, of) == pytest.approx((expected.low, expected.high), rel=1e-9, abs=1e-12)


# Newcombe (1998), table II, method 10: the interval of the first minus the second.
TABLE_2 = [
    ((56, 70), (48, 80), (0.0524, 0.3339)),
    ((9, 10), (3, 10), (0.1705, 0.8090)),
    ((6, 7), (2, 7), (0.0582, 0.8062)),
    ((5, 56), (0, 29), (-0.0381, 0.1926)),
    ((0, 10), (0, 20), (-0.1611, 0.2775)),
    ((0, 10), (0, 10), (-0.2775, 0.2775)),
    ((10, 10), (0, 20), (0.6791, 1.0000)),
    ((10, 10), (0, 10), (0.6075, 1.0000)),
]


@pytest.mark.parametrize(("one", "other", "expected"), TABLE_2)
def test_newcombe_agrees_with_his_paper(
    one: tuple[int, int], other: tuple[int, int], expected: tuple[float, float]
) -> None:
    assert newcombe_interval(Rate(*other), Rate(*one)) == pytest.approx(expected, abs=5e-5)
