"""Rates of few trials, drawn towards what is usual: a Beta prior fitted to all of them."""

from dataclasses import dataclass

import numpy as np

from tilth.errors import InputError
from tilth.online.click_counts import Values

_STRONGEST = 1e6  # pseudo-trials, where rates differ no more than chance makes them
_WEAKEST = 0.1


@dataclass(frozen=True, slots=True)
class Beta:
    """A Beta distribution of rates: `alpha` pseudo-clicks and `beta` pseudo-skips."""

    alpha: float
    beta: float

    @property
    def mean(self) -> float:
        """The mean rate."""
        return self.alpha / self.strength

    @property
    def strength(self) -> float:
        """How many trials it takes to outweigh the prior."""
        return self.alpha + self.beta


def fit_beta(clicks: Values, trials: Values) -> Beta:
    """Fit a Beta prior to rates by the method of moments.

    Kleinman, "Proportions with Extraneous Variance: Single and Independent Samples", Journal of the American
    Statistical Association 68, 1973, with the trials as weights. What the rates differ beyond binomial chance
    is the variance of the prior.

    Args:
        clicks: (P,) of P rates; need not be whole.
        trials: (P,), at least the clicks; rates of less than one trial are left out.

    Returns:
        The prior, with a strength from 0.1 (rates are all or nothing) to 1,000,000 (all are alike).

    Raises:
        InputError: no rate has a trial.
    """
    kept = trials >= 1
    if not kept.any():
        raise InputError("no rate has a trial to fit a prior to")
    clicks, trials = clicks[kept], trials[kept]
    total, others = trials.sum(), len(trials) - 1
    mean = (clicks.sum() + 0.5) / (total + 1)  # never 0 nor 1
    chance = mean * (1 - mean)
    scatter = (trials * (clicks / trials - mean) ** 2).sum() - chance * others
    room = chance * (total - (trials**2).sum() / total - others)
    correlation = scatter / room if room > 0 else 0.0  # 1 / (strength + 1)
    strength = 1 / correlation - 1 if correlation > 0 else _STRONGEST
    strength = float(np.clip(strength, _WEAKEST, _STRONGEST))
    return Beta(float(mean) * strength, (1 - float(mean)) * strength)


def smoothed_ctr(clicks: Values, impressions: Values, prior: Beta) -> Values:
    """Return the posterior mean of click-through rates: that of the prior where there are no impressions.

    Args:
        clicks: any shape; need not be whole.
        impressions: the same shape.
        prior: as `fit_beta` returns it.

    Returns:
        (clicks + alpha) / (impressions + alpha + beta).
    """
    rates: Values = (clicks + prior.alpha) / (impressions + prior.strength)
    return rates
