"""Measures of pairs over many draws of queries at once, for intervals.

Pairs of one query are alike, so intervals come from drawing queries, not pairs, with replacement (the
cluster bootstrap: Field and Welsh, "Bootstrapping Clustered Data", JRSS B 69, 2007). The measures themselves
come from scikit-learn; asking it for every draw would take a hundred times as long, so here are the same
definitions over all draws together. Tests hold the two to each other.

B is the number of draws, Q of queries, M of pairs, L of classes: the grades, or irrelevant and relevant.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from tilth.errors import InputError, SettingError

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.integer]
Draws = dict[str, Floats]  # measure -> (B,), NaN where it is undefined
Interval = tuple[float, float]

RESAMPLES = 1000
CONFIDENCE = 0.95
_LEAST_DEFINED = 0.95  # of the draws; where a measure is undefined in more, its interval would flatter
_BLOCK = 4_000_000  # numbers held at once


def check_sizes(sizes: Sequence[int] | Integers, pairs: int) -> Integers:
    """Return how many pairs each query has; raise InputError unless they are those of all pairs."""
    counts = np.asarray(sizes)
    if counts.ndim != 1 or (counts < 0).any() or counts.sum() != pairs:
        raise InputError(f"sizes must be numbers from 0 that sum to the {pairs} pairs", field="sizes")
    return counts


def draw_queries(queries: int, width: int, *, seed: int, resamples: int) -> Iterator[Integers]:
    """Yield draws in blocks: how often each query was drawn.

    Args:
        queries: Q, how many there are and are drawn each time.
        width: how many numbers a draw will need; blocks are made as small as it demands.
        seed: of the draws.
        resamples: B, from 1.

    Yields:
        (b, Q); the b sum to B.

    Raises:
        SettingError: `resamples` is below 1.
    """
    if resamples < 1:
        raise SettingError(f"the number of draws must be from 1, not {resamples}")
    rng, most = np.random.default_rng(seed), max(1, _BLOCK // max(width, 1))
    for start in range(0, resamples, most):
        size = min(most, resamples - start)
        yield rng.multinomial(queries, np.full(queries, 1 / queries), size=size)


def intervals(blocks: Sequence[Draws]) -> dict[str, Interval | None]:
    """Return the middle 95% of each measure's draws; None where more than 5% of them are undefined."""
    return {name: _interval(np.concatenate([block[name] for block in blocks])) for name in blocks[0]}


def _interval(draws: Floats) -> Interval | None:
    defined = draws[~np.isnan(draws)]
    if len(defined) < _LEAST_DEFINED * len(draws):
        return None
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(defined, [tail, 1 - tail]).tolist()
    return low, high


def confusions(truth: Integers, guesses: Integers, sizes: Integers, classes: int) -> Floats:
    """Count pairs of each query by true and predicted class.

    Args:
        truth: (M,) from 0 to L - 1.
        guesses: (M,) from 0 to L - 1.
        sizes: (Q,) pairs of each query.
        classes: L.

    Returns:
        (Q, L, L): query, true class, predicted class.
    """
    cells = (np.repeat(np.arange(len(sizes)), sizes) * classes + truth) * classes + guesses
    counts = np.bincount(cells, minlength=len(sizes) * classes**2)
    return counts.reshape(len(sizes), classes, classes).astype(np.float64)


def class_draws(drawn: Integers, by_query: Floats) -> Draws:
    """Return accuracy, balanced accuracy, and micro and macro averages of draws.

    Args:
        drawn: (B, Q) how often each query was drawn.
        by_query: (Q, L, L) of `confusions`.

    Returns:
        The measures by their names in `GradeMeasures`.
    """
    right, true, predicted = _margins(drawn, by_query)
    occurs = (true + predicted) > 0
    accuracy = _ratio(right.sum(axis=1), true.sum(axis=1))
    draws = {"accuracy": accuracy, "balanced_accuracy": _balanced(right, true)}
    draws |= dict.fromkeys(("micro_precision", "micro_recall", "micro_f1"), accuracy)
    for name, below in (("precision", predicted), ("recall", true), ("f1", (true + predicted) / 2)):
        per_class = np.nan_to_num(_ratio(right, below))
        draws[f"macro_{name}"] = _ratio(per_class.sum(axis=1), occurs.sum(axis=1))
    return draws


def call_draws(drawn: Integers, by_query: Floats) -> Draws:
    """Return accuracy, balanced accuracy, precision, recall and F1 of the class 1 of two, of draws.

    Args:
        drawn: (B, Q) how often each query was drawn.
        by_query: (Q, 2, 2) of `confusions`.

    Returns:
        The measures by their names in `RelevanceMeasures`.
    """
    right, true, predicted = _margins(drawn, by_query)
    return {
        "accuracy": _ratio(right.sum(axis=1), true.sum(axis=1)),
        "balanced_accuracy": _balanced(right, true),
        "precision": _ratio(right[:, 1], predicted[:, 1]),
        "recall": _ratio(right[:, 1], true[:, 1]),
        "f1": _ratio(2 * right[:, 1], true[:, 1] + predicted[:, 1]),
    }


def _margins(drawn: Integers, by_query: Floats) -> tuple[Floats, Floats, Floats]:
    """Return pairs of each class that are right, that have it, and that are predicted to: (B, L) each."""
    tables = np.tensordot(drawn.astype(np.float64), by_query, axes=1)
    return np.diagonal(tables, axis1=1, axis2=2), tables.sum(axis=2), tables.sum(axis=1)


def _balanced(right: Floats, true: Floats) -> Floats:
    held = (true > 0).sum(axis=1)
    mean = _ratio(np.nan_to_num(_ratio(right, true)).sum(axis=1), held)
    return np.where(held > 1, mean, np.nan)


def _ratio(above: npt.NDArray[np.number], below: npt.NDArray[np.number]) -> Floats:
    """Divide; what is divided by nothing is NaN."""
    ratios: Floats = np.divide(above, below, out=np.full(above.shape, np.nan), where=below > 0)
    return ratios


def rank_draws(
    drawn: Integers, scores: npt.NDArray[np.floating], relevant: npt.NDArray[np.bool_], sizes: Integers
) -> Draws:
    """Return ROC-AUC and average precision of draws.

    Args:
        drawn: (B, Q) how often each query was drawn.
        scores: (M,).
        relevant: (M,).
        sizes: (Q,) pairs of each query.

    Returns:
        The measures by their names in `RelevanceMeasures`.
    """
    order = np.argsort(-scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=np.inf))  # equal scores stand together
    weights = np.repeat(drawn, sizes, axis=1)[:, order].astype(np.float64)
    positives = np.add.reduceat(weights * relevant[order], starts, axis=1)
    negatives = np.add.reduceat(weights * ~relevant[order], starts, axis=1)
    found, wrong = positives.cumsum(axis=1), negatives.cumsum(axis=1)
    relevants, others = found[:, -1], wrong[:, -1]
    above = (negatives * (found - positives / 2)).sum(axis=1)  # pairs of pairs in the right order
    precise = (positives * np.nan_to_num(_ratio(found, found + wrong))).sum(axis=1)
    return {"roc_auc": _ratio(above, relevants * others), "average_precision": _ratio(precise, relevants)}
