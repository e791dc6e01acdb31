"""How far judges agree: observed agreement, Cohen's kappa and Krippendorff's alpha.

Kappa and alpha compare the agreement with that of chance: 1 is perfect, 0 is chance. The weighted kappas, and
the ordinal and interval alphas, forgive a neighbouring grade more than a distant one.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np

from tilth.labelling.aggregation import Integers, Ratings

WEIGHTS = ("none", "linear", "quadratic")
LEVELS = ("nominal", "ordinal", "interval")


@dataclass(frozen=True, slots=True)
class PairAgreement:
    """Two judges, on what both of them graded; kappa and alpha are None where all their grades are one."""

    first: str
    second: str
    shared: int  # pairs of query and product
    observed: float  # share with the same grade
    kappa: Mapping[str, float | None]  # Cohen's, by weights: none, linear, quadratic
    alpha: Mapping[str, float | None]  # Krippendorff's, by level: nominal, ordinal, interval


@dataclass(frozen=True, slots=True)
class Agreement:
    """All judges together, and each two of them who graded something in common."""

    highest: int  # top of the scale
    judges: Mapping[str, int]  # how much each of them graded
    shared: int  # pairs of query and product that two or more judges graded
    observed: float | None  # share of equal grades among all twos of grades of a pair; None: there are none
    alpha: Mapping[str, float | None]
    pairs: tuple[PairAgreement, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain data: numbers, texts, lists and objects, with the names of the fields."""
        return {**asdict(self), "pairs": [asdict(pair) for pair in self.pairs]}


def agreement(given: Ratings) -> Agreement:
    """Measure the agreement of judges.

    Args:
        given: their grades, on one scale.

    Returns:
        The agreement of all, and of each two judges who share a pair, in the order of the judges.
    """
    counts = given.counts()
    numbers = counts.sum(axis=1)
    twos = int((numbers * (numbers - 1)).sum())
    equal = int((counts * (counts - 1)).sum())
    graded = np.bincount(given.judge, minlength=len(given.judges))
    return Agreement(
        given.highest,
        dict(zip(given.judges, graded.tolist(), strict=True)),
        int((numbers > 1).sum()),
        equal / twos if twos else None,
        _alphas(counts[numbers > 1]),
        tuple(_pairs(given)),
    )


def _pairs(given: Ratings) -> Iterator[PairAgreement]:
    each = [_of_judge(given, judge) for judge in range(len(given.judges))]
    for first, second in combinations(range(len(given.judges)), 2):
        (pairs, grades), (others, other_grades) = each[first], each[second]
        _, places, other_places = np.intersect1d(pairs, others, assume_unique=True, return_indices=True)
        if len(places):
            names = given.judges[first], given.judges[second]
            yield _pair(*names, grades[places], other_grades[other_places], given.highest)


def _of_judge(given: Ratings, judge: int) -> tuple[Integers, Integers]:
    places = np.flatnonzero(given.judge == judge)
    return given.pair[places], given.grade[places]


def _pair(first: str, second: str, grades: Integers, others: Integers, highest: int) -> PairAgreement:
    counts = np.zeros((len(grades), highest + 1), np.int64)
    for each in (grades, others):
        np.add.at(counts, (np.arange(len(each)), each), 1)
    observed = float((grades == others).mean())
    kappas = {weights: kappa(grades, others, highest, weights) for weights in WEIGHTS}
    return PairAgreement(first, second, len(grades), observed, kappas, _alphas(counts))


def kappa(grades: Integers, others: Integers, highest: int, weights: str) -> float | None:
    """Return Cohen's kappa of two series of grades, as scikit-learn computes it.

    Args:
        grades: (n,) from 0 to `highest`.
        others: (n,) the other judge's.
        highest: top of the scale; grades that nobody gave count in the distances of the weights.
        weights: of disagreements: `none`, or their `linear` or `quadratic` distance.

    Returns:
        At most 1; None where all grades of both are one and the same.
    """
    from sklearn.metrics import cohen_kappa_score  # takes a second

    if len(np.union1d(grades, others)) < 2:
        return None
    by = None if weights == "none" else weights
    return float(cohen_kappa_score(grades, others, labels=np.arange(highest + 1), weights=by))


def _alphas(counts: Integers) -> dict[str, float | None]:
    """Return Krippendorff's alpha by level, given (N, K) numbers of judges of two or more a pair."""
    import krippendorff

    if np.count_nonzero(counts.sum(axis=0)) < 2:
        return dict.fromkeys(LEVELS)
    return {
        level: float(krippendorff.alpha(value_counts=counts, level_of_measurement=level)) for level in LEVELS
    }
