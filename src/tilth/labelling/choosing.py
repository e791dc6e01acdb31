"""What to judge next, so that few judgments tell which of two runs is better.

The difference of two runs in DCG is a sum over pairs: grade times the discount at the pair's rank in A less
that in B. While a pair is unjudged, its part has the variance (difference of discounts)^2 p (1 - p), p being
its relevance; a judgment takes that much away, and nothing where both runs have the pair at one rank.
Carterette, Allan and Sitaraman, "Minimal Test Collections for Retrieval Evaluation", SIGIR 2006, with the
relevance from the bootstrap in place of 1/2.

What is still unjudged then stands with its expected grade, `expected_qrels`. Counted as 0 it would bias the
difference, since pairs are judged for telling the runs apart and not as they come (docs/bootstrap.md).
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from tilth.errors import SettingError, shorten
from tilth.labelling.pooling import NOT_FOUND, Pair, Pool, pool
from tilth.qrels import Qrels
from tilth.run import Run

Strategy = Literal["random", "depth", "difference"]
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)
CUTOFF = 10  # of the measure that is compared, nDCG@10
UNKNOWN = 0.5  # the relevance of a pair of which nothing is known
TOP = 90  # of the scale of expected grades: 1, 3 and 5 divide it

Probabilities = Mapping[Pair, float]
Column = npt.NDArray[np.float64]  # (P,)


def next_pairs(
    a: Run,
    b: Run,
    judged: Mapping[Pair, Any],
    probabilities: Probabilities,
    n: int,
    strategy: str = "difference",
    seed: int = 0,
    *,
    cutoff: int = CUTOFF,
) -> list[Pair]:
    """Choose pairs to be judged among those that two runs show.

    Args:
        a: a run.
        b: the run that it is compared with.
        judged: pairs that need no judgment, with whatever was said of them.
        probabilities: how likely a pair is relevant, 0 to 1; of pairs that are not in it, 1/2.
        n: how many pairs, at most.
        strategy: `difference`, by how much a judgment narrows the difference of the runs; `depth`, by the
            best rank in either; `random`.
        seed: of the order of pairs that are alike.
        cutoff: the rank down to which the measure looks, from 1.

    Returns:
        The pairs, the most telling first; fewer than `n` if no more are unjudged.

    Raises:
        SettingError: there is no such strategy, or `cutoff` is below 1.
    """
    if strategy not in STRATEGIES:
        raise SettingError(f"no strategy {shorten(strategy)}; there are {', '.join(STRATEGIES)}")
    shown = pool({"a": a, "b": b}, cutoff)
    values = _VALUES[strategy](shown, probabilities)
    order = np.lexsort((np.random.default_rng(seed).permutation(len(shown)), -values))
    pairs = (shown.pairs[place] for place in order.tolist())
    return [pair for pair in pairs if pair not in judged][: max(n, 0)]


def expected_qrels(
    pairs: Iterable[Pair], judged: Mapping[Pair, int], highest: int, probabilities: Probabilities
) -> Qrels:
    """Return the grades that pairs have or, while they are unjudged, may be expected to have.

    Args:
        pairs: what the runs show; others are not in the qrels.
        judged: grades, from 0 to `highest`.
        highest: the top of their scale: 1, 3 or 5.
        probabilities: as in `next_pairs`.

    Returns:
        Grades from 0 to TOP, in proportion, which nDCG measures as it does the grades themselves.
    """
    grades: dict[str, dict[str, int]] = {}
    for pair in pairs:
        share = judged[pair] / highest if pair in judged else probabilities.get(pair, UNKNOWN)
        grades.setdefault(pair[0], {})[pair[1]] = round(TOP * share)
    return Qrels(grades)


def variances(shown: Pool, probabilities: Probabilities) -> Column:
    """Return how much variance each judgment takes from the difference of two runs in DCG.

    Args:
        shown: the pool of the two runs, down to the cutoff of the measure.
        probabilities: as in `next_pairs`.

    Returns:
        (P,) from 0, in squares of the gain of a relevant pair.
    """
    found = shown.ranks != NOT_FOUND
    discounts = np.divide(1, np.log2(shown.ranks + 1.0), out=np.zeros(found.shape), where=found)
    p: Column = np.array([probabilities.get(pair, UNKNOWN) for pair in shown.pairs])
    apart: Column = np.square(discounts[:, 0] - discounts[:, 1])
    return apart * p * (1 - p)


def _shallowness(shown: Pool, _: Probabilities) -> Column:
    """Return the best rank of each pair, the smaller the higher."""
    last = np.iinfo(np.int64).max
    best = np.where(shown.ranks == NOT_FOUND, last, shown.ranks).min(axis=1, initial=last)
    shallowness: Column = -best.astype(np.float64)
    return shallowness


def _alike(shown: Pool, _: Probabilities) -> Column:
    return np.zeros(len(shown))


_VALUES: Mapping[str, Callable[[Pool, Probabilities], Column]] = {
    "random": _alike,
    "depth": _shallowness,
    "difference": variances,
}
