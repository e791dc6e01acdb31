import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tilth.errors import InputError, SettingError
from tilth.evaluation import significance
from tilth.evaluation.significance import bootstrap_intervals, randomisation_test

columns = arrays(np.float64, st.tuples(st.integers(1, 30), st.integers(1, 3)), elements=st.floats(0, 1))


@settings(max_examples=40)
@given(values=columns)
def test_an_interval_holds_the_mean_and_stays_within_the_values(values):
    bounds = bootstrap_intervals(values, seed=0, resamples=500)
    low, high = bounds.T
    assert bounds.shape == (values.shape[1], 2)
    assert (low <= values.mean(axis=0) + 1e-9).all()
    assert (high >= values.mean(axis=0) - 1e-9).all()
    assert (low >= values.min(axis=0) - 1e-9).all()
    assert (high <= values.max(axis=0) + 1e-9).all()


def test_intervals_repeat_with_the_seed_and_narrow_with_queries():
    values = np.random.default_rng(1).random((400, 2))
    one = bootstrap_intervals(values, seed=3)
    assert np.array_equal(one, bootstrap_intervals(values, seed=3))
    assert not np.array_equal(one, bootstrap_intervals(values, seed=4))
    assert (np.diff(one) < np.diff(bootstrap_intervals(values[:50], seed=3))).all()
    assert (np.diff(one) > np.diff(bootstrap_intervals(values, seed=3, confidence=0.5))).all()


def test_small_blocks_give_valid_results_too(monkeypatch):
    values = np.random.default_rng(1).normal(0.05, 0.3, (40, 2))
    whole = bootstrap_intervals(values, seed=0), randomisation_test(values, seed=0)
    monkeypatch.setattr(significance, "_BLOCK", 1000)
    parts = bootstrap_intervals(values, seed=0), randomisation_test(values, seed=0)
    assert np.allclose(whole[0], parts[0], atol=0.01)
    assert np.allclose(whole[1], parts[1], atol=0.03)


def test_exact_p_by_hand():
    # 3 of one sign: of the 8 sign vectors, only +++ and --- reach the sum.
    assert randomisation_test(np.array([[0.1], [0.2], [0.3]]), seed=0) == pytest.approx([2 / 8])
    assert randomisation_test(np.array([[0.1], [-0.1]]), seed=0) == pytest.approx([1.0])
    assert randomisation_test(np.zeros((5, 2)), seed=0) == pytest.approx([1.0, 1.0])


def test_queries_without_a_difference_leave_an_exact_p_as_it_is():
    differences = np.random.default_rng(4).normal(0.1, 0.3, (8, 2))
    padded = np.concatenate([differences, np.zeros((5, 2))])
    assert randomisation_test(padded, seed=0) == pytest.approx(randomisation_test(differences, seed=0))


@settings(max_examples=40)
@given(values=columns, other=st.floats(0, 1))
def test_p_is_a_probability_that_direction_does_not_change(values, other):
    differences = values - other
    p = randomisation_test(differences, seed=0, permutations=300)
    assert ((p > 0) & (p <= 1)).all()
    assert np.array_equal(p, randomisation_test(-differences, seed=0, permutations=300))


def test_drawn_p_is_never_0_and_near_the_exact_one(monkeypatch):
    certain = np.full((100, 1), 0.5)
    assert randomisation_test(certain, seed=0, permutations=999) == pytest.approx([0.001])
    differences = np.random.default_rng(2).normal(0.1, 0.3, (16, 3))
    exact = randomisation_test(differences, seed=0)
    monkeypatch.setattr(significance, "EXACT_UP_TO", 0)
    assert randomisation_test(differences, seed=0) == pytest.approx(exact, abs=0.02)


def test_wrong_settings_and_values_are_named():
    good = np.zeros((2, 1))
    for resamples, confidence, message in [(0, 0.95, "draws must be from 1"), (10, 1.0, "between 0 and 1")]:
        with pytest.raises(SettingError, match=message):
            bootstrap_intervals(good, seed=0, resamples=resamples, confidence=confidence)
    with pytest.raises(SettingError, match="draws must be from 1"):
        randomisation_test(good, seed=0, permutations=0)
    for bad, message in [(np.zeros((0, 1)), "at least one query"), (np.array([[np.nan]]), "not finite")]:
        with pytest.raises(InputError, match=message):
            randomisation_test(bad, seed=0)
        with pytest.raises(InputError, match=message):
            bootstrap_intervals(bad, seed=0)
