"""How sure a mean over queries is: bootstrap intervals and the paired randomisation test."""

from collections.abc import Iterator

import numpy as np

from tilth.errors import InputError, SettingError
from tilth.evaluation.measures import Values

RESAMPLES = 10_000
CONFIDENCE = 0.95
EXACT_UP_TO = 16  # queries; 2**16 sign vectors cost no more than the random ones
_BLOCK = 4_000_000  # numbers held at once


def bootstrap_intervals(
    values: Values, *, seed: int, resamples: int = RESAMPLES, confidence: float = CONFIDENCE
) -> Values:
    """Return the percentile bootstrap interval of the mean over queries.

    Efron, "Bootstrap Methods: Another Look at the Jackknife", Annals of Statistics 7, 1979. Queries are drawn
    with replacement, the same draws for every column. For a paired difference, pass the differences.

    Args:
        values: shape (Q, C), a row for each query and a column for each measure.
        seed: of the draws.
        resamples: the number of draws of Q queries, from 1.
        confidence: the share of the draws' means inside the interval, between 0 and 1.

    Returns:
        Shape (C, 2): low and high.

    Raises:
        InputError: there is no query, or a value is not finite.
        SettingError: `resamples` or `confidence` is out of its range.
    """
    _check(values, resamples)
    if not 0 < confidence < 1:
        raise SettingError(f"confidence must be between 0 and 1, not {confidence}")
    queries, rng = len(values), np.random.default_rng(seed)
    means = []
    for size in _blocks(resamples, queries):
        drawn = rng.integers(queries, size=(size, queries)) + np.arange(size)[:, None] * queries
        counts = np.bincount(drawn.ravel(), minlength=size * queries).reshape(size, queries)
        means.append(counts @ values / queries)
    tail = (1 - confidence) / 2
    bounds: Values = np.quantile(np.concatenate(means), [tail, 1 - tail], axis=0).T
    return bounds


def randomisation_test(differences: Values, *, seed: int, permutations: int = RESAMPLES) -> Values:
    """Return two-sided p-values that the mean paired difference is 0.

    Under the null hypothesis the two systems may be swapped query by query, which flips the sign of the
    difference. Fisher's test as in Smucker, Allan and Carterette, "A Comparison of Statistical Significance
    Tests for Information Retrieval Evaluation", CIKM 2007. Up to 16 queries every sign vector is tried and p
    is exact; above, they are drawn and the observed one counts among them, (b + 1) / (permutations + 1), so
    that p is never 0 (Phipson and Smyth, 2010). A query with the difference 0, such as one without a relevant
    product, leaves an exact p as it is. No correction is made for testing several measures.

    Args:
        differences: shape (Q, C), a row for each query and a column for each measure.
        seed: of the sign vectors.
        permutations: the number of sign vectors drawn, from 1.

    Returns:
        Shape (C,), in (0, 1].

    Raises:
        InputError: there is no query, or a difference is not finite.
        SettingError: `permutations` is below 1.
    """
    _check(differences, permutations)
    queries = len(differences)
    observed = np.abs(differences.sum(axis=0))
    # The same sum added in another order may differ in its last bits; it is still the same sum.
    threshold = observed - 1e-12 * np.abs(differences).sum(axis=0)
    exact = queries <= EXACT_UP_TO
    blocks = _all_signs(queries) if exact else _random_signs(queries, permutations, seed)
    extreme, total = np.zeros(differences.shape[1]), 0
    for signs in blocks:
        extreme += (np.abs(signs @ differences) >= threshold).sum(axis=0)
        total += len(signs)
    p: Values = extreme / total if exact else (extreme + 1) / (total + 1)
    return p


def _all_signs(queries: int) -> Iterator[Values]:
    """Yield all 2**queries sign vectors, shape (2**queries, queries)."""
    bits = np.arange(2**queries)[:, None] >> np.arange(queries) & 1
    signs: Values = np.where(bits, -1.0, 1.0)
    yield signs


def _random_signs(queries: int, permutations: int, seed: int) -> Iterator[Values]:
    rng = np.random.default_rng(seed)
    for size in _blocks(permutations, queries):
        signs: Values = np.where(rng.integers(2, size=(size, queries), dtype=np.int8), -1.0, 1.0)
        yield signs


def _blocks(total: int, width: int) -> Iterator[int]:
    """Yield sizes that sum to `total`, each of at most `_BLOCK` numbers of so many a row."""
    most = max(1, _BLOCK // width)
    for start in range(0, total, most):
        yield min(most, total - start)


def _check(values: Values, draws: int) -> None:
    if values.ndim != 2 or not len(values):
        raise InputError(
            "needs values of shape (queries, measures) for at least one query", value=values.shape
        )
    if not np.isfinite(values).all():
        raise InputError("values hold a number that is not finite")
    if draws < 1:
        raise SettingError(f"the number of draws must be from 1, not {draws}")
