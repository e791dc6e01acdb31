"""The position-based click model: click = the rank is examined and the product attracts, independently.

Richardson, Dominowska and Ragno, "Predicting Clicks: Estimating the Click-Through Rate for New Ads", WWW
2007; Craswell et al., WSDM 2008; the estimates by EM as in Chuklin, Markov and de Rijke, "Click Models for
Web Search", 2015, section 4.2. Field symbols: alpha (attraction of a pair), gamma (examination of a rank).

Only products of alpha and gamma are observed, so gamma is told in units of its highest value, which is 1. It
can be told at all only where pairs were shown at several ranks, which then are compared.
"""

from dataclasses import dataclass

import numpy as np

from tilth.errors import InputError, SettingError
from tilth.online.click_counts import ClickCounts, Pair, Values, check_comparable

ITERATIONS = 500
TOLERANCE = 1e-7  # relative gain in log-likelihood below which EM has arrived
_TINY = np.finfo(np.float64).tiny
_LEAST = 1e-6  # probabilities predicted for held-out clicks stay this far from 0 and 1


@dataclass(frozen=True, slots=True)
class PositionModel:
    """A fitted model: the attraction of each pair, and the examination (K,) of each rank, the highest 1.

    `log_likelihoods` are those before each step of EM and after the last.
    """

    attraction: dict[Pair, float]
    examination: Values
    log_likelihoods: tuple[float, ...]

    def click_probabilities(self, counts: ClickCounts, unknown: float) -> Values:
        """Predict the click probability of each cell.

        Args:
            counts: N cells of any log, no deeper than the examination goes.
            unknown: the attraction of pairs that the model was not fitted on.

        Returns:
            Probabilities, shape (N,).

        Raises:
            InputError: the log has ranks that the model does not know.
        """
        if counts.depth > len(self.examination):
            raise InputError(
                f"the model knows {len(self.examination)} ranks", field="shown", value=counts.depth,
                remedy="Fit it on pages of that length",
            )  # fmt: skip
        attraction = np.array([self.attraction.get(pair, unknown) for pair in counts.pairs])
        probabilities: Values = attraction[counts.pair] * self.examination[counts.rank]
        return probabilities


def fit_position_model(
    counts: ClickCounts, *, iterations: int = ITERATIONS, tolerance: float = TOLERANCE
) -> PositionModel:
    """Fit a position-based model by expectation maximisation; no step lowers the likelihood.

    Args:
        counts: a log in which pairs were shown at several ranks.
        iterations: steps at most, from 1.
        tolerance: it ends when a step gains less than this share of the log-likelihood.

    Returns:
        The maximum of the likelihood that EM reached.

    Raises:
        InputError: ranks cannot be compared, since no pair was shown at both, or nothing was clicked.
        SettingError: `iterations` is below 1.
    """
    check_comparable(counts)
    alpha, gamma, likelihoods = maximise(counts, iterations, tolerance)
    scale = gamma.max()
    attraction = dict(zip(counts.pairs, (alpha * scale).tolist(), strict=True))
    return PositionModel(attraction, gamma / scale, likelihoods)


def maximise(
    counts: ClickCounts, iterations: int, tolerance: float
) -> tuple[Values, Values, tuple[float, ...]]:
    """Repeat `em_step` from probabilities of a half until it gains nothing.

    Args:
        counts: a log that can be compared, as `check_comparable` has it.
        iterations: steps at most, from 1.
        tolerance: the least gain, as a share of the log-likelihood.

    Returns:
        Attraction (P,) and examination (K,), not scaled, and the log-likelihoods of all steps.

    Raises:
        SettingError: `iterations` is below 1.
    """
    if iterations < 1:
        raise SettingError(f"EM needs at least 1 iteration, not {iterations}")
    alpha, gamma = np.full(len(counts.pairs), 0.5), np.full(counts.depth, 0.5)
    likelihoods = [log_likelihood(counts, alpha[counts.pair] * gamma[counts.rank])]
    for _ in range(iterations):
        alpha, gamma = em_step(counts, alpha, gamma)
        likelihoods.append(log_likelihood(counts, alpha[counts.pair] * gamma[counts.rank]))
        if likelihoods[-1] - likelihoods[-2] <= tolerance * abs(likelihoods[-1]):
            break
    return alpha, gamma, tuple(likelihoods)


def em_step(counts: ClickCounts, alpha: Values, gamma: Values) -> tuple[Values, Values]:
    """Do one step of expectation maximisation (Chuklin et al., equations 4.19 and 4.21).

    Args:
        counts: the log.
        alpha: (P,) attraction of each pair.
        gamma: (K,) examination of each rank.

    Returns:
        Both anew: the expected share of impressions that attracted, and that were examined.
    """
    a, g = alpha[counts.pair], gamma[counts.rank]
    skips = counts.impressions - counts.clicks
    missed = np.maximum(1 - a * g, _TINY)  # 0 only where every impression was clicked
    attracted = counts.clicks + skips * a * (1 - g) / missed
    examined = counts.clicks + skips * g * (1 - a) / missed
    return (
        counts.by_pair(attracted) / counts.by_pair(counts.impressions),
        counts.by_rank(examined) / np.maximum(counts.by_rank(counts.impressions), _TINY),
    )


def log_likelihood(counts: ClickCounts, probabilities: Values) -> float:
    """Return the log-likelihood of all clicks and skips, given the click probability of each cell (N,)."""
    return float(_log_terms(counts, probabilities).sum())


def _log_terms(counts: ClickCounts, probabilities: Values) -> Values:
    """Return the log-likelihood of each cell; 0 log 0 is 0."""
    skips = counts.impressions - counts.clicks
    clicked = np.log(np.where(counts.clicks > 0, np.maximum(probabilities, _TINY), 1.0))
    skipped = np.log(np.where(skips > 0, np.maximum(1 - probabilities, _TINY), 1.0))
    terms: Values = counts.clicks * clicked + skips * skipped
    return terms


def perplexity(counts: ClickCounts, probabilities: Values) -> Values:
    """Measure predictions on held-out sessions (Chuklin et al., section 5.1).

    Args:
        counts: held-out sessions.
        probabilities: the predicted click probability of each cell, shape (N,).

    Returns:
        For each rank 2 to the mean negative log2-likelihood, shape (K,): 1 is certainty, 2 a coin; NaN where
        a rank has no impression.
    """
    terms = _log_terms(counts, np.clip(probabilities, _LEAST, 1 - _LEAST)) / np.log(2)
    seen = counts.by_rank(counts.impressions)
    mean = np.divide(counts.by_rank(terms), seen, out=np.full(len(seen), np.nan), where=seen > 0)
    surprise: Values = np.exp2(-mean)
    return surprise
