"""From many opinions on a pair to one grade: majority, mean, and the model of Dawid and Skene.

Where judges are split evenly the lower grade counts: a product that is wrongly called good costs a ranking
more than one that is wrongly doubted.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from tilth.errors import InputError, SettingError
from tilth.judgments import KINDS, Judgment, Mappings, rescaled
from tilth.qrels import Qrels

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

BOOTSTRAP = "bootstrap"  # the kind of labels that nobody gave
_NOTHING: Mappings = {}
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Ratings:
    """The last grade that each judge gave to each pair, on one scale: M ratings of N pairs by J judges."""

    pairs: tuple[tuple[str, str], ...]  # (N,) query_id, product_id
    judges: tuple[str, ...]  # (J,)
    highest: int  # top of the scale
    pair: Integers  # (M,) place in `pairs`
    judge: Integers  # (M,) place in `judges`
    grade: Integers  # (M,) from 0 to `highest`

    def counts(self) -> Integers:
        """Return how many judges gave each grade to each pair: (N, highest + 1)."""
        counts = np.zeros((len(self.pairs), self.highest + 1), np.int64)
        np.add.at(counts, (self.pair, self.grade), 1)
        return counts


def ratings(
    judgments: Iterable[Judgment],
    *,
    highest: int | None = None,
    declared: Mappings = _NOTHING,
    kinds: Collection[str] = KINDS,
    least_confidence: float = 0.0,
) -> Ratings:
    """Collect the last opinion of each judge on each pair; all judgments are held in memory.

    Args:
        judgments: in any order; of two of one judge on one pair the one with the later time counts, of two
            with one time the later in order. It counts also where the conditions below leave it out.
        highest: top of the scale of the result; None: that of the judgments, which must then be one.
        declared: how grades of other scales are mapped to it; see `tilth.judgments.rescaled`.
        kinds: of judges that are heard.
        least_confidence: judgments that are less sure are left out; those without a confidence are sure.

    Returns:
        The ratings, pairs and judges in the order in which they were met.

    Raises:
        InputError: no judgment is left.
        SettingError: there is no such kind, or the judgments have several scales and `highest` names none.
    """
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise SettingError(f"no kind of judge {unknown[0]!r}; there are {', '.join(KINDS)}")
    kept = [
        judgment
        for judgment in last_opinions(judgments)
        if judgment.kind in kinds and (judgment.confidence is None or judgment.confidence >= least_confidence)
    ]
    if not kept:
        raise InputError("no judgment is left", remedy="Import judgments, or allow more kinds of judges")
    to = _one_scale(kept) if highest is None else highest
    pairs, pair = _numbered((judgment.query_id, judgment.product_id) for judgment in kept)
    judges, judge = _numbered(judgment.judge for judgment in kept)
    grades = [rescaled(judgment.grade, judgment.highest, to, declared) for judgment in kept]
    return Ratings(pairs, judges, to, pair, judge, np.array(grades, np.int64))


def corrected(judgments: Iterable[Judgment], kinds: Collection[str] = KINDS) -> Collection[Judgment]:
    """Return the last opinions, a bootstrap label only where nobody else has judged the pair.

    Bootstrap labels are there to be corrected: none of them may outvote a person.

    Args:
        judgments: in any order.
        kinds: of judges that are heard.

    Returns:
        Those that count.
    """
    last = [judgment for judgment in last_opinions(judgments) if judgment.kind in kinds]
    others = {(one.query_id, one.product_id) for one in last if one.kind != BOOTSTRAP}
    return [one for one in last if one.kind != BOOTSTRAP or (one.query_id, one.product_id) not in others]


def last_opinions(judgments: Iterable[Judgment]) -> Collection[Judgment]:
    """Return the last judgment of each judge on each pair, as `ratings` counts them."""
    last: dict[tuple[str, str, str], Judgment] = {}
    for judgment in judgments:
        key = (judgment.query_id, judgment.product_id, judgment.judge)
        if key not in last or judgment.time >= last[key].time:
            last[key] = judgment
    return last.values()


def _one_scale(judgments: Iterable[Judgment]) -> int:
    scales = sorted({judgment.highest for judgment in judgments})
    if len(scales) > 1:
        names = " and ".join(f"0-{highest}" for highest in scales)
        raise SettingError(f"the judgments are on the scales {names}. Name the top of the one you want")
    return scales[0]


def _numbered(things: Iterable[_T]) -> tuple[tuple[_T, ...], Integers]:
    """Return the different things in the order of their first places, and the number of each thing."""
    numbers: dict[_T, int] = {}
    places = [numbers.setdefault(thing, len(numbers)) for thing in things]
    return tuple(numbers), np.array(places, np.int64)


# --- counting -------------------------------------------------------------------------------------


def majority(given: Ratings) -> Qrels:
    """Return the most frequent grade of each pair; of equally frequent ones the lowest."""
    return _qrels(given, given.counts().argmax(axis=1))


def means(given: Ratings) -> Floats:
    """Return the mean grade of each pair: (N,), from 0 to the top of the scale."""
    totals, numbers = _totals(given)
    return totals / numbers


def mean(given: Ratings) -> Qrels:
    """Return the mean grade of each pair, rounded to the nearest one; halves go down."""
    totals, numbers = _totals(given)
    return _qrels(given, -((numbers - 2 * totals) // (2 * numbers)))


def _totals(given: Ratings) -> tuple[Integers, Integers]:
    counts = given.counts()
    return counts @ np.arange(given.highest + 1), counts.sum(axis=1)


def _qrels(given: Ratings, grades: Integers) -> Qrels:
    """Return the qrels with these (N,) grades of the pairs."""
    table: dict[str, dict[str, int]] = {}
    for (query_id, product_id), grade in zip(given.pairs, grades.tolist(), strict=True):
        table.setdefault(query_id, {})[product_id] = grade
    return Qrels(table)


# --- Dawid and Skene ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DawidSkene:
    """What the model found; K = highest + 1 grades."""

    posteriors: Floats  # (N, K) probability of each grade, given all ratings of the pair
    prior: Floats  # (K,) share of each grade
    confusions: Floats  # (J, K, K) [judge, true grade, given grade]: probability of what a judge says
    log_likelihoods: tuple[float, ...]  # after each iteration; they never decrease


def dawid_skene(given: Ratings, *, iterations: int = 1_000, tolerance: float = 1e-7) -> DawidSkene:
    """Estimate the grades, and how each judge errs, together.

    Each judge is taken to err independently of the others, by a confusion matrix that is the judge's own. EM
    finds it and the grades, from the shares of the grades given to each pair: so the result is always the
    same, and a grade keeps its meaning. Dawid and Skene, 1979: Maximum Likelihood Estimation of Observer
    Error-Rates Using the EM Algorithm, Applied Statistics 28(1), equations 2.3 to 2.5.

    Args:
        given: the ratings.
        iterations: at most.
        tolerance: it ends when the log-likelihood rises by less, a pair.

    Returns:
        The estimates of the last iteration.
    """
    counts = given.counts()
    posteriors = counts / counts.sum(axis=1, keepdims=True)
    history: list[float] = []
    for _ in range(iterations):
        prior, confusions = _maximised(given, posteriors)
        posteriors, likelihood = _expected(given, prior, confusions)
        history.append(likelihood)
        if len(history) > 1 and history[-1] - history[-2] < tolerance * len(given.pairs):
            break
    return DawidSkene(posteriors, prior, confusions, tuple(history))


def _maximised(given: Ratings, posteriors: Floats) -> tuple[Floats, Floats]:
    """Return prior and confusions that fit the posteriors best."""
    grades = given.highest + 1
    said = given.judge * grades + given.grade
    sums = _sums(posteriors[given.pair], said, len(given.judges) * grades)
    weights = sums.reshape(-1, grades, grades)  # [judge, given grade, true grade]
    totals = weights.sum(axis=1, keepdims=True)
    # A judge who met no pair of some true grade: nothing depends on what is said of it.
    shares = np.divide(weights, totals, out=np.full_like(weights, 1 / grades), where=totals > 0)
    return posteriors.mean(axis=0), shares.transpose(0, 2, 1)


def _expected(given: Ratings, prior: Floats, confusions: Floats) -> tuple[Floats, float]:
    """Return the posteriors of the grades, and the log-likelihood of all ratings."""
    with np.errstate(divide="ignore"):  # the logarithm of an impossible event is minus infinity
        said = np.log(confusions)[given.judge, :, given.grade]
        joint = np.log(prior) + _sums(said, given.pair, len(given.pairs))
    peaks = joint.max(axis=1, keepdims=True)  # finite: some grade is possible
    shares = np.exp(joint - peaks)
    totals = shares.sum(axis=1, keepdims=True)
    return shares / totals, float((peaks + np.log(totals)).sum())


def _sums(rows: Floats, group: Integers, groups: int) -> Floats:
    """Return the sums of (M, K) rows by their (M,) group: (groups, K)."""
    columns = [np.bincount(group, weights=column, minlength=groups) for column in rows.T]
    return np.column_stack(columns)


def most_likely(given: Ratings) -> Qrels:
    """Return the most probable grade of each pair by `dawid_skene`; of equally probable ones the lowest."""
    return _qrels(given, dawid_skene(given).posteriors.argmax(axis=1))


AGGREGATES: Mapping[str, Callable[[Ratings], Qrels]] = {
    "majority": majority,
    "mean": mean,
    "dawid-skene": most_likely,
}
