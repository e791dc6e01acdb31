"""Propensities: how likely each rank is examined, told without a model of relevance.

All are in units of the highest, as in `tilth.online.click_models`: what is needed is their ratios.
"""

import numpy as np

from tilth.errors import InputError
from tilth.online.click_counts import ClickCounts, Values, check_comparable, shared_cells
from tilth.online.click_models import ITERATIONS, TOLERANCE, maximise


def shuffled_propensities(counts: ClickCounts) -> Values:
    """Estimate propensities from pages in random order: there, ranks differ in nothing but examination.

    Joachims, Swaminathan and Schnabel, "Unbiased Learning-to-Rank with Biased Feedback", WSDM 2017.

    Args:
        counts: the shuffled pages alone, all of one length.

    Returns:
        Click-through rate by rank, divided by the highest: (K,).

    Raises:
        InputError: nothing was clicked.
    """
    if not counts.clicks.any():
        raise InputError("nothing was clicked on the shuffled pages")
    rates = counts.by_rank(counts.clicks) / np.maximum(counts.by_rank(counts.impressions), 1)
    highest: Values = rates / rates.max()
    return highest


def harvest_propensities(
    counts: ClickCounts, *, iterations: int = ITERATIONS, tolerance: float = TOLERANCE
) -> Values:
    """Estimate propensities from pairs that a log happens to show at several ranks: AllPairs.

    Agarwal, Zaitsev, Wang, Li, Najork and Joachims, "Estimating Position Bias without Intrusive
    Interventions", WSDM 2019. Pairs shown at both of two ranks are one set, whose click-through rates differ
    by examination alone, whatever the relevance. Each pair counts with the harmonic mean of its impressions
    at the two ranks, where the paper gives each the same weight: weights that no click decides leave the
    ratio as it is and take noise out. The likelihood of all sets together is that of a position-based model
    whose products are the sets.

    Args:
        counts: pages of several rankers, or with swaps.
        iterations: steps of EM at most, from 1.
        tolerance: as in `fit_position_model`.

    Returns:
        Propensities of the ranks, the highest 1: (K,).

    Raises:
        InputError: ranks cannot be compared, since no pair was shown at both, or nothing was clicked.
        SettingError: `iterations` is below 1.
    """
    check_comparable(counts)
    _, examination, _ = maximise(_sets(counts), iterations, tolerance)
    propensities: Values = examination / examination.max()
    return propensities


def _sets(counts: ClickCounts) -> ClickCounts:
    """Return the sets as pairs of a log: for two ranks, weighted impressions and clicks at each."""
    here, there = shared_cells(counts)
    rank, other, depth = counts.rank[here], counts.rank[there], counts.depth
    weight = 1 / (1 / counts.impressions[here] + 1 / counts.impressions[there])
    sets = np.minimum(rank, other) * depth + np.maximum(rank, other)
    keys, cell = np.unique(sets * depth + rank, return_inverse=True)
    known, pair = np.unique(keys // depth, return_inverse=True)
    clicks = weight * counts.clicks[here] / counts.impressions[here]
    return ClickCounts(
        tuple((str(first), str(second)) for first, second in (divmod(key, depth) for key in known.tolist())),
        {},
        pair,
        keys % depth,
        np.bincount(cell, weight, len(keys)).astype(np.float64),
        np.bincount(cell, clicks, len(keys)).astype(np.float64),
    )
