"""Labels without people: how likely a pair is relevant, from the agreement of independent rankers.

What a ranker says of a pair is its share: the pair's score over the best score that the ranker gave for the
query. Ranks would not tell a query with five right answers from one with five hundred; shares do.

1. The weight of a ranker is 1 over the sum of its correlations with all rankers, itself included: two that
   always say the same count as one.
2. The consensus of a pair is the weighted mean of its shares.
3. Read as a probability, the consensus tells for each ranker how often it gives each level of share (not
   found, then four quarters) to a relevant and to an irrelevant pair, and for each query how common relevant
   pairs are.
4. Bayes' rule puts these together: the log odds of the query, plus the weighted log likelihood ratios of the
   levels. A ranker that found nothing for a query has no say in it.

Steps 3 and 4 are one round of expectation maximisation for the model of Dawid and Skene, "Maximum Likelihood
Estimation of Observer Error-Rates Using the EM Algorithm", Applied Statistics 28, 1979. More rounds drift to
what rankers of one kind share, which is not relevance (docs/bootstrap.md).
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from tilth.errors import SettingError
from tilth.labelling.pooling import NOT_FOUND, Pair, Pool

Column = npt.NDArray[np.float64]  # (P,) or (R,)
Shares = npt.NDArray[np.float64]  # (P, R), 0 to 1
Identified = Mapping[str, Collection[str]]  # query_id -> ids of the products that the query names

LEVELS = 4  # of the shares of what a ranker found
ROUNDS = 1
PSEUDO_PAIRS = 5.0  # how many pairs of the mean query each query's own count against
_SURE = 0.98  # no consensus is surer than this
_NONE: Identified = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Label:
    """A grade without a person, and the probability that the pair is on that side of relevant."""

    query_id: str
    product_id: str
    grade: int  # from 0
    confidence: float  # that the grade is rightly above 0, or rightly 0: 0.5 to 1

    @property
    def relevance(self) -> float:
        """The probability that the grade is above 0."""
        return self.confidence if self.grade else 1 - self.confidence


def label(pool: Pool, highest: int = 3, identified: Identified = _NONE) -> list[Label]:
    """Grade every pair of a pool.

    A pair that is rather irrelevant (probability below 1/2) has grade 0; above, the range up to 1 is cut into
    as many equal parts as there are grades above 0.

    Args:
        pool: of at least two rankers.
        highest: the top of the scale, from 1.
        identified: products whose identifier is the query: of the highest grade, and certain.

    Returns:
        A label for each pair, in the order of the pool.

    Raises:
        SettingError: the pool is of fewer than two rankers, or `highest` is below 1.
    """
    if highest < 1:
        raise SettingError(f"the highest grade must be from 1, not {highest}")
    return [
        Label(query_id, product_id, highest, 1.0)
        if product_id in identified.get(query_id, ())
        else Label(query_id, product_id, _grade(p, highest), max(p, 1 - p))
        for (query_id, product_id), p in zip(pool.pairs, relevance(pool).tolist(), strict=True)
    ]


def relevances(labels: Collection[Label]) -> dict[Pair, float]:
    """Return the probability of relevance of each pair."""
    return {(each.query_id, each.product_id): each.relevance for each in labels}


def _grade(probability: float, highest: int) -> int:
    if probability < 0.5:
        return 0
    return min(highest, 1 + int((2 * probability - 1) * highest))


def relevance(pool: Pool, rounds: int = ROUNDS) -> Column:
    """Return how likely each pair is relevant.

    Args:
        pool: P pairs of R rankers.
        rounds: how often steps 3 and 4 are done; 0 gives the consensus.

    Returns:
        (P,) between 0 and 1; see the top of this module.

    Raises:
        SettingError: the pool is of fewer than two rankers, which cannot agree.
    """
    if len(pool.rankers) < 2:
        raise SettingError(f"labels come from the agreement of at least 2 rankers, not {len(pool.rankers)}")
    if not len(pool):
        return np.empty(0)
    given, queries = shares(pool), pool.queries()
    answered = _answered(given, queries)
    weights = independence(given)
    voices = np.maximum(answered @ weights, 1e-9)
    belief: Column = np.clip(given @ weights / voices, 1 - _SURE, _SURE)
    for _ in range(rounds):
        log_odds = _log_odds(_commonness(belief, queries))[queries]
        for column, weight in enumerate(weights.tolist()):
            rows = answered[:, column]
            log_odds[rows] += weight * _evidence(_levels(given[rows, column]), belief[rows])
        belief = 1 / (1 + np.exp(-log_odds))
    return belief


def shares(pool: Pool) -> Shares:
    """Return each score over the best that its ranker gave for the query.

    Args:
        pool: P pairs of R rankers.

    Returns:
        (P, R), 0 to 1; 0 for what was not found, and for scores that are not above 0.
    """
    scores = np.where(pool.ranks == NOT_FOUND, 0.0, np.maximum(pool.scores, 0.0))
    queries = pool.queries()
    best = np.zeros((int(queries.max(initial=-1)) + 1, len(pool.rankers)))
    np.maximum.at(best, queries, scores)
    given: Shares = np.divide(scores, best[queries], out=np.zeros_like(scores), where=scores > 0)
    return given


def _answered(given: Shares, queries: npt.NDArray[np.intp]) -> npt.NDArray[np.bool_]:
    """Return, for each pair, which rankers found anything for its query: only they have a say, (P, R)."""
    best = np.zeros((int(queries.max()) + 1, given.shape[1]))
    np.maximum.at(best, queries, given)
    found: npt.NDArray[np.bool_] = best[queries] > 0
    return found


def independence(given: Shares) -> Column:
    """Return how much of a voice each ranker has.

    Args:
        given: shares, (P, R).

    Returns:
        (R,) 1 for a ranker that goes with no other, 1/R for each of R that say the same.
    """
    deviations = given - given.mean(axis=0)
    lengths = np.linalg.norm(deviations, axis=0)
    units = np.divide(deviations, lengths, out=np.zeros_like(deviations), where=lengths > 0)
    correlations = np.clip(units.T @ units, 0, 1)
    np.fill_diagonal(correlations, 1)  # of a ranker that says the same of every pair, too
    weights: Column = 1 / correlations.sum(axis=1)
    return weights


def _levels(given: Column) -> npt.NDArray[np.intp]:
    """Return 0 for what was not found, and 1 to LEVELS by the quarter of its share among what was."""
    found = given > 0
    levels = np.zeros(len(given), np.intp)
    if found.any():
        bounds = np.quantile(given[found], np.arange(1, LEVELS) / LEVELS)
        levels[found] = 1 + np.searchsorted(bounds, given[found], side="right")
    return levels


def _evidence(levels: npt.NDArray[np.intp], belief: Column) -> Column:
    """Return the log likelihood ratio of each pair's level, each level seen once more in both classes."""
    relevant = np.bincount(levels, belief, LEVELS + 1) + 1
    irrelevant = np.bincount(levels, 1 - belief, LEVELS + 1) + 1
    ratios: Column = np.log(relevant / relevant.sum()) - np.log(irrelevant / irrelevant.sum())
    return ratios[levels]


def _commonness(belief: Column, queries: npt.NDArray[np.intp]) -> Column:
    """Return the share of relevant pairs in each query, drawn to that of all queries."""
    sums, counts = np.bincount(queries, belief), np.bincount(queries)
    common: Column = (sums + PSEUDO_PAIRS * belief.mean()) / (counts + PSEUDO_PAIRS)
    return common


def _log_odds(probabilities: Column) -> Column:
    odds: Column = np.log(probabilities) - np.log1p(-probabilities)
    return odds
