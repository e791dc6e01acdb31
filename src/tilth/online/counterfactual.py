"""From clicks to labels: how attractive each product is to a query, with the bias of its ranks taken out.

Every method estimates a rate for each pair and how many fully examined impressions it is worth; the rate is
then drawn towards the usual one by that number (`tilth.online.smoothing`). Few clicks never make a label.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from tilth.errors import InputError, SettingError
from tilth.judgments import Judgment
from tilth.online.click_counts import ClickCounts, Numbers, Pair, Values
from tilth.online.click_models import PositionModel
from tilth.online.smoothing import fit_beta, smoothed_ctr

CLIP = 0.05
SHARES = (0.5, 0.3, 0.13, 0.07)  # of the pairs that get the grades 0 to 3


@dataclass(frozen=True, slots=True)
class ClickLabels:
    """A label for each of P pairs of query and product.

    label: (P,) estimated attraction, 0 to 1; weight: (P,) the share of it that comes from clicks on this very
    pair, 0 to 1, the rest being the prior; impressions and clicks: (P,) as they are in the log.
    """

    pairs: tuple[Pair, ...]
    label: Values
    weight: Values
    impressions: Values
    clicks: Values


def naive_labels(counts: ClickCounts) -> ClickLabels:
    """Label by click-through rate, as if every rank were examined."""
    clicks, impressions = counts.by_pair(counts.clicks), counts.by_pair(counts.impressions)
    return _labels(counts, clicks / impressions, impressions)


def weighted_labels(counts: ClickCounts, propensities: Values, *, clip: float = CLIP) -> ClickLabels:
    """Label by clicks in inverse proportion to the propensity of their rank.

    Args:
        counts: the log.
        propensities: (K,) of the ranks, the highest 1.
        clip: see `inverse_propensity_rates`.

    Returns:
        The labels; the evidence is `impressions ** 2 / sum of 1 / propensity`, which makes the variance of
        the rate that of so many examined impressions.

    Raises:
        InputError: the log has more ranks than there are propensities.
        SettingError: `clip` or a propensity is out of its range.
    """
    rates = inverse_propensity_rates(counts, propensities, clip=clip)
    impressions = counts.by_pair(counts.impressions)
    spread = counts.by_pair(counts.impressions / np.maximum(propensities, clip)[counts.rank])
    return _labels(counts, rates, impressions**2 / spread)


def inverse_propensity_rates(counts: ClickCounts, propensities: Values, *, clip: float = CLIP) -> Values:
    """Return for each pair the mean over impressions of click / propensity of the rank.

    Joachims, Swaminathan and Schnabel, "Unbiased Learning-to-Rank with Biased Feedback", WSDM 2017. Where
    clicks follow the position-based model and no propensity is clipped, the mean over logs is the attraction.

    Args:
        counts: the log.
        propensities: (K,) of the ranks, above 0 and at most 1.
        clip: propensities below it are taken for it: a little bias for much less variance; above 0, at most
            1.

    Returns:
        Rates, shape (P,), from 0; by chance one may exceed 1.

    Raises:
        InputError: the log has more ranks than there are propensities.
        SettingError: `clip` or a propensity is out of its range.
    """
    if counts.depth > len(propensities):
        raise InputError(
            f"there are propensities for {len(propensities)} ranks", field="shown", value=counts.depth,
            remedy="Estimate them on pages of that length",
        )  # fmt: skip
    if not 0 < clip <= 1:
        raise SettingError(f"clip must be above 0 and at most 1, not {clip}")
    if not (np.all(propensities >= 0) and np.all(propensities <= 1)):
        raise SettingError(f"propensities must be from 0 to 1, not {propensities.tolist()}")
    weights = 1 / np.maximum(propensities, clip)
    rates: Values = counts.by_pair(counts.clicks * weights[counts.rank]) / counts.by_pair(counts.impressions)
    return rates


def model_labels(counts: ClickCounts, model: PositionModel) -> ClickLabels:
    """Label by the attraction of a position-based model.

    Args:
        counts: the log that the model was fitted on.
        model: the fitted model.

    Returns:
        The labels; the evidence are the impressions that the model expects to have been examined.
    """
    attraction = np.array([model.attraction[pair] for pair in counts.pairs])
    return _labels(counts, attraction, counts.by_pair(counts.impressions * model.examination[counts.rank]))


def _labels(counts: ClickCounts, rates: Values, evidence: Values) -> ClickLabels:
    """Smooth rates (P,) by the examined impressions (P,) that each of them is worth."""
    rates = np.minimum(rates, 1.0)
    prior = fit_beta(rates * evidence, evidence)
    return ClickLabels(
        counts.pairs,
        smoothed_ctr(rates * evidence, evidence, prior),
        evidence / (evidence + prior.strength),
        counts.by_pair(counts.impressions),
        counts.by_pair(counts.clicks),
    )


def thresholds_by_share(labels: Values, shares: Sequence[float] = SHARES) -> tuple[float, ...]:
    """Choose thresholds so that each grade has about a given share of the labels.

    Clicks know no absolute scale: what a good product's rate is differs from shop to shop.

    Args:
        labels: (P,).
        shares: of the grades from 0, above 0; they sum to 1.

    Returns:
        The lowest label of each grade from 1, ascending.

    Raises:
        SettingError: a share is not above 0, or they do not sum to 1.
    """
    if min(shares) <= 0 or abs(sum(shares) - 1) > 1e-9:
        raise SettingError(f"shares of grades must be above 0 and sum to 1, not {tuple(shares)}")
    return tuple(np.quantile(labels, np.cumsum(shares)[:-1]).tolist())


def to_grades(labels: Values, thresholds: Sequence[float]) -> Numbers:
    """Turn labels into grades: how many thresholds a label exceeds.

    Args:
        labels: any shape.
        thresholds: ascending; with three of them the grades are 0 to 3.

    Returns:
        Grades of the same shape, from 0.

    Raises:
        SettingError: there is no threshold, or they do not ascend.
    """
    if not len(thresholds) or list(thresholds) != sorted(thresholds):
        raise SettingError(f"thresholds must ascend, at least one, not {tuple(thresholds)}")
    grades: Numbers = np.searchsorted(np.asarray(thresholds), labels, side="left").astype(np.int64)
    return grades


def to_judgments(
    labels: ClickLabels, texts: Mapping[str, str], *, judge: str, time: datetime
) -> Iterator[Judgment]:
    """Turn labels into judgments on the scale 0-3, whose confidence is the weight.

    Args:
        labels: the labels; their grades come from `thresholds_by_share`.
        texts: the text of each query.
        judge: the method.
        time: when the log was taken.

    Yields:
        One judgment of the kind `clicks` for each pair.
    """
    grades = to_grades(labels.label, thresholds_by_share(labels.label)).tolist()
    rows = zip(labels.pairs, grades, *(array.tolist() for array in _shown(labels)), strict=True)
    for (query_id, product_id), grade, label, weight, impressions, clicks in rows:
        yield Judgment(
            query_id=query_id,
            query=texts[query_id],
            product_id=product_id,
            grade=grade,
            highest=len(SHARES) - 1,
            judge=judge,
            kind="clicks",
            time=time,
            reason=f"{clicks:g} clicks on {impressions:g} impressions, label {label:.3f}",
            confidence=weight,
        )


def _shown(labels: ClickLabels) -> tuple[Values, ...]:
    return labels.label, labels.weight, labels.impressions, labels.clicks
