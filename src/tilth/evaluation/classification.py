"""How well pairs of query and product are told apart, as relevant or not and by grade, through scikit-learn.

A measure that would divide by nothing is None: there is no relevant pair, no pair was called relevant, or all
pairs are of one class. Each docstring below says which. `docs/measures.md` has the definitions.

Intervals come from drawing queries, not pairs: see `tilth.evaluation.query_draws`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
import numpy.typing as npt

from tilth.errors import InputError, SettingError
from tilth.evaluation.query_draws import (
    RESAMPLES,
    Interval,
    call_draws,
    check_sizes,
    class_draws,
    confusions,
    draw_queries,
    intervals,
    rank_draws,
)

Scores = npt.NDArray[np.floating]
Grades = npt.NDArray[np.integer]
Labels = npt.NDArray[np.bool_]
Values = dict[str, float | None]


@dataclass(frozen=True, slots=True)
class RelevanceMeasures:
    """Calling relevant what scores at least `threshold`, and the order of the scores at no threshold.

    `precision` is None when nothing is called relevant, `recall` and `average_precision` when nothing is
    relevant, `f1` when neither is; `balanced_accuracy` and `roc_auc` when all pairs are of one class.
    """

    threshold: float
    pairs: int
    relevant: int
    true_positives: int
    false_positives: int
    false_negatives: int
    true_negatives: int
    accuracy: float
    balanced_accuracy: float | None
    precision: float | None
    recall: float | None
    f1: float | None
    roc_auc: float | None
    average_precision: float | None
    intervals: Mapping[str, Interval | None] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """Return plain data for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class GradeRow:
    """One grade: pairs that have it, pairs predicted to have it, and how well the two agree.

    `precision` is None when the grade is never predicted, `recall` when no pair has it.
    """

    grade: int
    pairs: int
    predicted: int
    precision: float | None
    recall: float | None
    f1: float


@dataclass(frozen=True, slots=True)
class GradeMeasures:
    """Predicted against true grades, over the grades that occur in either.

    `confusion[i][j]` counts pairs of the grade `grades[i].grade` that were predicted as `grades[j].grade`.
    Micro averages count pairs and all equal the accuracy; macro averages count grades alike, and there a
    grade without a value counts as 0. `balanced_accuracy` is None when all pairs have one grade.
    """

    pairs: int
    grades: tuple[GradeRow, ...]
    confusion: tuple[tuple[int, ...], ...]
    accuracy: float
    balanced_accuracy: float | None
    micro_precision: float
    micro_recall: float
    micro_f1: float
    macro_precision: float
    macro_recall: float
    macro_f1: float
    intervals: Mapping[str, Interval | None] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """Return plain data for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Threshold:
    """Calling relevant what scores at least `threshold` costs `cost` in all, by these mistakes."""

    threshold: float
    cost: float
    false_positives: int
    false_negatives: int

    def to_json(self) -> dict[str, object]:
        """Return plain data for JSON."""
        return asdict(self)


def measure_relevance(
    scores: Scores,
    relevant: npt.ArrayLike,
    *,
    threshold: float,
    sizes: Sequence[int] | Grades | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> RelevanceMeasures:
    """Measure scores against what is relevant.

    Args:
        scores: (M,) scores or probabilities, higher for what is more likely relevant.
        relevant: (M,) booleans.
        threshold: the lowest score that is called relevant.
        sizes: (Q,) how many pairs each query has, side by side; if given, 95% intervals are drawn.
        seed: of the draws.
        resamples: the number of draws of Q queries, from 1.

    Returns:
        The measures, with an interval for each where sizes are given.

    Raises:
        InputError: there is no pair, lengths differ, or a score is not finite.
        SettingError: `resamples` is below 1.
    """
    scores, truth = np.asarray(scores, np.float64), as_labels(relevant)
    check_pairs(scores, truth)
    called = scores >= threshold
    drawn = {} if sizes is None else _relevance_intervals(scores, truth, called, sizes, seed, resamples)
    return RelevanceMeasures(
        threshold=float(threshold),
        pairs=len(scores),
        relevant=int(truth.sum()),
        true_positives=int((called & truth).sum()),
        false_positives=int((called & ~truth).sum()),
        false_negatives=int((~called & truth).sum()),
        true_negatives=int((~called & ~truth).sum()),
        intervals=drawn,
        **_relevance_values(scores, truth, called),  # type: ignore[arg-type]  # accuracy is never None
    )


def _relevance_values(scores: Scores, truth: Labels, called: Labels) -> Values:
    from sklearn import metrics  # a second, which only measuring needs

    answers, guesses = truth.astype(np.int64), called.astype(np.int64)
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(
        answers, guesses, average="binary", zero_division=np.nan
    )
    two = truth.any() and not truth.all()
    return {
        "accuracy": float(metrics.accuracy_score(answers, guesses)),
        "balanced_accuracy": _balanced(answers, guesses),
        "precision": _defined(precision),
        "recall": _defined(recall),
        "f1": _defined(f1),
        "roc_auc": float(metrics.roc_auc_score(answers, scores)) if two else None,
        "average_precision": _average_precision(answers, scores),
    }


def _average_precision(answers: Grades, scores: Scores) -> float | None:
    from sklearn import metrics

    return float(metrics.average_precision_score(answers, scores)) if answers.any() else None


def _relevance_intervals(
    scores: Scores,
    truth: Labels,
    called: Labels,
    sizes: Sequence[int] | Grades,
    seed: int,
    resamples: int,
) -> dict[str, Interval | None]:
    counts = check_sizes(sizes, len(truth))
    tables = confusions(truth.astype(np.int64), called.astype(np.int64), counts, classes=2)
    blocks = draw_queries(len(counts), len(truth), seed=seed, resamples=resamples)
    return intervals([call_draws(b, tables) | rank_draws(b, scores, truth, counts) for b in blocks])


def measure_grades(
    predicted: Grades,
    grades: Grades,
    *,
    sizes: Sequence[int] | Grades | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> GradeMeasures:
    """Measure predicted against true grades.

    Args:
        predicted: (M,) whole numbers from 0.
        grades: (M,) whole numbers from 0.
        sizes: (Q,) how many pairs each query has, side by side; if given, 95% intervals are drawn.
        seed: of the draws.
        resamples: the number of draws of Q queries, from 1.

    Returns:
        The measures, with an interval for each average where sizes are given.

    Raises:
        InputError: there is no pair, lengths differ, or a grade is not a whole number from 0.
        SettingError: `resamples` is below 1.
    """
    from sklearn import metrics

    guesses, truth = _as_grades(predicted, "predicted"), _as_grades(grades, "grades")
    check_pairs(guesses, truth)
    levels = np.union1d(guesses, truth)
    drawn = {} if sizes is None else _grade_intervals(guesses, truth, levels, sizes, seed, resamples)
    confusion = metrics.confusion_matrix(truth, guesses, labels=levels)
    return GradeMeasures(
        pairs=len(truth),
        grades=_grade_rows(guesses, truth, levels),
        confusion=tuple(map(tuple, confusion.tolist())),
        intervals=drawn,
        **_grade_values(guesses, truth),  # type: ignore[arg-type]  # only balanced accuracy is ever None
    )


def _grade_values(guesses: Grades, truth: Grades) -> Values:
    from sklearn import metrics

    values: Values = {
        "accuracy": float(metrics.accuracy_score(truth, guesses)),
        "balanced_accuracy": _balanced(truth, guesses),
    }
    for average in ("micro", "macro"):
        three = metrics.precision_recall_fscore_support(truth, guesses, average=average, zero_division=0)[:3]
        for name, value in zip(("precision", "recall", "f1"), three, strict=True):
            values[f"{average}_{name}"] = float(value)
    return values


def _grade_intervals(
    guesses: Grades,
    truth: Grades,
    levels: Grades,
    sizes: Sequence[int] | Grades,
    seed: int,
    resamples: int,
) -> dict[str, Interval | None]:
    counts = check_sizes(sizes, len(truth))
    places = np.searchsorted(levels, truth), np.searchsorted(levels, guesses)
    tables = confusions(*places, counts, len(levels))
    blocks = draw_queries(len(counts), tables.size, seed=seed, resamples=resamples)
    return intervals([class_draws(block, tables) for block in blocks])


def _grade_rows(guesses: Grades, truth: Grades, levels: Grades) -> tuple[GradeRow, ...]:
    from sklearn import metrics

    columns = metrics.precision_recall_fscore_support(truth, guesses, labels=levels, zero_division=np.nan)
    return tuple(
        GradeRow(
            int(level),
            int(pairs),
            int((guesses == level).sum()),
            _defined(precision),
            _defined(recall),
            float(f1),
        )
        for level, precision, recall, f1, pairs in zip(levels, *columns, strict=True)
    )


def _balanced(truth: Grades, guesses: Grades) -> float | None:
    """Return the mean recall of the true classes; None if there is one, where it would say nothing."""
    from sklearn import metrics

    levels = np.unique(truth)
    if len(levels) < 2:
        return None
    return float(metrics.recall_score(truth, guesses, labels=levels, average="macro"))


def _defined(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def cheapest_threshold(
    scores: Scores, relevant: npt.ArrayLike, *, false_positive_cost: float, false_negative_cost: float
) -> Threshold:
    """Find the threshold whose mistakes cost least on these pairs, over all thresholds that differ on them.

    This needs no calibration, `calibrated_threshold` no pairs; on calibrated probabilities the two come
    together as pairs grow in number.

    Args:
        scores: (M,) scores or probabilities.
        relevant: (M,) booleans.
        false_positive_cost: of calling relevant what is not, from 0.
        false_negative_cost: of not calling relevant what is, from 0.

    Returns:
        The highest of the cheapest; just above the highest score where nothing should be called relevant.

    Raises:
        InputError: there is no pair, lengths differ, or a score is not finite.
        SettingError: a cost is negative or not finite, or both are 0.
    """
    _check_costs(false_positive_cost, false_negative_cost)
    scores, truth = np.asarray(scores, np.float64), as_labels(relevant)
    check_pairs(scores, truth)
    levels, place = np.unique(scores, return_inverse=True)
    positives = np.bincount(place, weights=truth, minlength=len(levels)).astype(np.int64)
    negatives = np.bincount(place, minlength=len(levels)) - positives
    missed = np.append(0, np.cumsum(positives))  # below levels[i]
    wrong = negatives.sum() - np.append(0, np.cumsum(negatives))  # from levels[i] on
    costs = wrong * false_positive_cost + missed * false_negative_cost
    best = len(levels) - int(np.argmin(costs[::-1]))
    threshold = levels[best] if best < len(levels) else np.nextafter(levels[-1], np.inf)
    return Threshold(float(threshold), float(costs[best]), int(wrong[best]), int(missed[best]))


def calibrated_threshold(*, false_positive_cost: float, false_negative_cost: float) -> float:
    """Return the cheapest threshold on a calibrated probability: c_fp / (c_fp + c_fn).

    At a probability p, calling relevant costs (1 - p) c_fp on average, not doing so p c_fn; the two are equal
    there. Elkan, "The Foundations of Cost-Sensitive Learning", IJCAI 2001.

    Args:
        false_positive_cost: of calling relevant what is not, from 0.
        false_negative_cost: of not calling relevant what is, from 0.

    Returns:
        A probability, from 0 to 1.

    Raises:
        SettingError: a cost is negative or not finite, or both are 0.
    """
    _check_costs(false_positive_cost, false_negative_cost)
    return false_positive_cost / (false_positive_cost + false_negative_cost)


def _check_costs(*costs: float) -> None:
    if not all(np.isfinite(cost) and cost >= 0 for cost in costs) or not any(costs):
        raise SettingError(
            f"costs must be finite numbers from 0, one of them above 0, not {costs[0]} and {costs[1]}"
        )


def as_labels(relevant: npt.ArrayLike) -> Labels:
    """Return booleans, given as such or as 0 and 1."""
    values = np.asarray(relevant)
    if not np.isin(values, (0, 1)).all():
        raise InputError("relevance is given as true and false, or 1 and 0", value=values[:5].tolist())
    return values.astype(np.bool_)


def _as_grades(grades: npt.ArrayLike, what: str) -> Grades:
    values = np.asarray(grades)
    if not np.issubdtype(values.dtype, np.integer) or (values < 0).any():
        raise InputError("grades are whole numbers from 0", field=what, value=values[:5].tolist())
    return values


def check_pairs(*columns: npt.NDArray[np.generic]) -> None:
    """Raise InputError unless columns hold a finite value for each of the same pairs, at least one."""
    if any(column.ndim != 1 or len(column) != len(columns[0]) for column in columns):
        raise InputError("columns must have one value a pair", value=[column.shape for column in columns])
    if not len(columns[0]):
        raise InputError("there is no pair to measure")
    if not all(np.isfinite(column.astype(np.float64)).all() for column in columns):
        raise InputError("a score is not finite")
