"""How far a model's grades agree with people's, before anything is built on them."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from tilth.errors import InputError

Key = tuple[str, str]  # query_id, product_id


@dataclass(frozen=True, slots=True)
class GradeQuality:
    """Of one grade: of the pairs that the model gave it, and of those that people gave it, the share in both.

    A share of nothing is NaN.
    """

    precision: float
    recall: float
    by_model: int
    by_people: int


@dataclass(frozen=True, slots=True)
class Calibration:
    """A model's grades against people's; `confusion[h][m]` pairs have the grade h by people, m by the model.

    Kappa is agreement beyond chance (Cohen, 1960); `kappa_weighted` counts a disagreement by the square of
    its distance (Cohen, 1968). Both are NaN where all grades are one.
    """

    pairs: int
    accuracy: float
    kappa: float
    kappa_weighted: float
    confusion: tuple[tuple[int, ...], ...]
    grades: tuple[GradeQuality, ...]

    def to_json(self) -> dict[str, object]:
        """Return plain data; NaN becomes None."""
        numbers = {name: _defined(value) for name, value in asdict(self).items() if name != "grades"}
        by_grade = [{name: _defined(value) for name, value in asdict(each).items()} for each in self.grades]
        return {**numbers, "grades": by_grade}


def _defined(value: object) -> object:
    return None if isinstance(value, float) and math.isnan(value) else value


def calibrate(model: Mapping[Key, int], people: Mapping[Key, int], highest: int) -> Calibration:
    """Compare a model's grades with people's, on the pairs that both have.

    Args:
        model: grade by (query_id, product_id).
        people: likewise.
        highest: grade of the scale that both use.

    Returns:
        Counts and measures over the common pairs.

    Raises:
        InputError: no pair is common, or a grade is none of the scale.
    """
    from sklearn import metrics  # takes a second to import

    common = sorted(model.keys() & people.keys())
    if not common:
        raise InputError(
            "no pair has both a model's grade and a person's", remedy="Judge the pairs of the qrels"
        )
    truth, given = [people[key] for key in common], [model[key] for key in common]
    if not 0 <= min(truth + given) <= max(truth + given) <= highest:
        raise InputError(f"a grade is not on the scale from 0 to {highest}", value=max(truth + given))
    scale = list(range(highest + 1))
    confusion = metrics.confusion_matrix(truth, given, labels=scale)
    precision, recall, _, _ = metrics.precision_recall_fscore_support(
        truth, given, labels=scale, zero_division=math.nan
    )
    counts = (confusion.sum(axis=0).tolist(), confusion.sum(axis=1).tolist())
    constant = len(set(truth + given)) == 1  # no agreement by chance can be told from a real one
    kappas = [
        math.nan if constant else metrics.cohen_kappa_score(truth, given, labels=scale, weights=weights)
        for weights in (None, "quadratic")
    ]
    return Calibration(
        pairs=len(common),
        accuracy=float(metrics.accuracy_score(truth, given)),
        kappa=float(kappas[0]),
        kappa_weighted=float(kappas[1]),
        confusion=tuple(map(tuple, confusion.tolist())),
        grades=tuple(map(GradeQuality, precision.tolist(), recall.tolist(), *counts)),
    )
