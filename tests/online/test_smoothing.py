import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilth.errors import InputError
from tilth.online.smoothing import Beta, fit_beta, smoothed_ctr


def test_a_rate_lies_between_its_own_and_the_prior():
    prior = Beta(2, 8)
    assert (prior.mean, prior.strength) == (0.2, 10)
    rates = smoothed_ctr(np.array([0.0, 1, 90]), np.array([0.0, 1, 90]), prior)
    assert rates == pytest.approx([0.2, 3 / 11, 0.92])


@pytest.mark.parametrize(("alpha", "beta"), [(2.0, 8.0), (0.5, 0.5), (30.0, 270.0)])
def test_a_planted_prior_is_found(alpha, beta):
    rng = np.random.default_rng(0)
    trials = rng.integers(1, 200, 20_000)
    clicks = rng.binomial(trials, rng.beta(alpha, beta, 20_000))
    prior = fit_beta(clicks.astype(float), trials.astype(float))
    assert (prior.alpha, prior.beta) == pytest.approx((alpha, beta), rel=0.08)


def test_rates_that_differ_by_chance_alone_have_a_strong_prior():
    prior = fit_beta(np.full(50, 3.0), np.full(50, 10.0))
    assert prior.strength == pytest.approx(1e6)
    assert prior.mean == pytest.approx(0.3, abs=0.001)


def test_rates_of_all_or_nothing_have_a_weak_prior():
    assert fit_beta(np.array([0.0, 100] * 20), np.full(40, 100.0)).strength == pytest.approx(0.1)


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(1, 1e4)), min_size=1, max_size=20))
def test_any_rates_have_a_prior(rates):
    share, trials = map(np.array, zip(*rates, strict=True))
    prior = fit_beta(share * trials, trials)
    assert prior.alpha > 0
    assert prior.beta > 0
    smooth = smoothed_ctr(share * trials, trials, prior)
    assert ((smooth > 0) & (smooth < 1)).all()
    between = (smooth - share) * (smooth - prior.mean)
    assert (between <= 1e-9).all()


def test_nothing_tried_has_no_prior():
    with pytest.raises(InputError, match="no rate has a trial"):
        fit_beta(np.zeros(2), np.array([0.0, 0.5]))
