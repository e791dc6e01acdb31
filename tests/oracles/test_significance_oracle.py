"""Intervals and p-values against scipy.stats."""

import numpy as np
import pytest
from scipy import stats

from tilth.evaluation.significance import bootstrap_intervals, randomisation_test


def paired(queries, seed):
    rng = np.random.default_rng(seed)
    return rng.beta(2, 3, (queries, 2)) - rng.beta(2, 2.5, (queries, 2))


@pytest.mark.parametrize("queries", [12, 120])
def test_bootstrap_interval(queries):
    values = paired(queries, seed=0)
    ours = bootstrap_intervals(values, seed=1)
    for column, bounds in zip(values.T, ours, strict=True):
        theirs = stats.bootstrap((column,), np.mean, method="percentile", rng=np.random.default_rng(2))
        width = theirs.confidence_interval.high - theirs.confidence_interval.low
        assert bounds == pytest.approx(list(theirs.confidence_interval), abs=0.03 * width)


def permutation_p(column, resamples):
    return stats.permutation_test(
        (column, np.zeros_like(column)), lambda a, b, axis: np.mean(a - b, axis=axis), vectorized=True,
        permutation_type="samples", n_resamples=resamples, rng=np.random.default_rng(3),
    ).pvalue  # fmt: skip


@pytest.mark.parametrize("queries", [2, 5, 12])
def test_exact_randomisation_test(queries):
    values = paired(queries, seed=4)
    expected = [permutation_p(column, np.inf) for column in values.T]
    assert randomisation_test(values, seed=0) == pytest.approx(expected)


def test_drawn_randomisation_test():
    values = paired(60, seed=5)
    expected = [permutation_p(column, 10_000) for column in values.T]
    assert randomisation_test(values, seed=0) == pytest.approx(expected, abs=0.02)
