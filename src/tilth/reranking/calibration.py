"""From scores to the probability that a product is relevant.

Fitted with scikit-learn on validation queries, kept as plain JSON, evaluated with numpy alone; the same
labels always give the same calibration.

Platt     p = 1 / (1 + exp(-(slope score + intercept))). Platt, "Probabilistic Outputs for Support Vector
          Machines", 1999, with his targets (N+ + 1) / (N+ + 2) and 1 / (N- + 2) for 1 and 0: no probability
          becomes certain out of finitely many labels.
isotonic  the ascending steps nearest to the labels, joined by lines. Zadrozny and Elkan, "Transforming
          Classifier Scores into Accurate Multiclass Probability Estimates", KDD 2002; kept within the same
          two targets. It overfits below about 1000 labels: Niculescu-Mizil and Caruana, "Predicting Good
          Probabilities with Supervised Learning", ICML 2005.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from tilth.errors import IndexFormatError, InputError, SettingError, shorten

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.bool_]
Method = Literal["platt", "isotonic"]
METHODS: tuple[Method, ...] = get_args(Method)

LEAST_LABELS = 10  # of each kind
LEAST_FOR_ISOTONIC = 1000  # labels
FOLDS = 5
_REMEDY = "Fit it again"


@dataclass(frozen=True, slots=True)
class Platt:
    """A sigmoid of the score; the slope is from 0, so that order is kept."""

    slope: float
    intercept: float

    def probability(self, scores: Floats) -> Floats:
        """Return a probability for each score, (M,) to (M,)."""
        return sigmoid(self.slope * scores + self.intercept)


@dataclass(frozen=True, slots=True)
class Isotonic:
    """Lines between points: scores ascend, probabilities never descend; flat beyond first and last."""

    scores: tuple[float, ...]
    probabilities: tuple[float, ...]

    def probability(self, scores: Floats) -> Floats:
        """Return a probability for each score, (M,) to (M,)."""
        return np.interp(scores, self.scores, self.probabilities)


@dataclass(frozen=True, slots=True)
class Calibration:
    """The probability that a product is relevant, from its score.

    `log_loss` has, of each method that was tried, the mean over labels of queries that it was not fitted on;
    it is empty where there was no choice.
    """

    curve: Platt | Isotonic
    relevant: int  # labels of each kind that it was fitted on
    irrelevant: int
    log_loss: Mapping[Method, float] = field(default_factory=dict)

    @property
    def method(self) -> Method:
        """Which of `METHODS` it is."""
        return "platt" if isinstance(self.curve, Platt) else "isotonic"

    def probability(self, scores: npt.NDArray[np.floating]) -> Floats:
        """Return the probability that each product is relevant.

        Args:
            scores: (M,) scores of the system that was calibrated.

        Returns:
            (M,) from 0 to 1; a higher score never has a lower probability, but for rounding.

        Raises:
            InputError: a score is not finite.
        """
        return self.curve.probability(finite(scores, "score"))

    def to_json(self) -> dict[str, object]:
        """Return plain data for JSON; `from_json` reads it back."""
        counts = {"relevant": self.relevant, "irrelevant": self.irrelevant, "log_loss": dict(self.log_loss)}
        return {"method": self.method, "curve": asdict(self.curve)} | counts

    @classmethod
    def from_json(cls, data: object) -> "Calibration":
        """Make a calibration from plain data.

        Args:
            data: what `to_json` returned.

        Returns:
            The calibration.

        Raises:
            IndexFormatError: the data are damaged; names what is wrong.
        """
        read = Stored("calibration", data)
        method = read.value("method")
        if method not in METHODS:
            raise read.damaged("method")
        curve = Stored("calibration", read.value("curve"))
        log_loss = read.value("log_loss")
        if not isinstance(log_loss, dict) or not all(is_number(loss) for loss in log_loss.values()):
            raise read.damaged("log_loss")
        made = _platt_from(curve) if method == "platt" else _isotonic_from(curve)
        return cls(made, read.count("relevant"), read.count("irrelevant"), log_loss)


def _platt_from(read: "Stored") -> Platt:
    slope, intercept = read.number("slope"), read.number("intercept")
    if slope < 0:
        raise read.damaged("slope")
    return Platt(slope, intercept)


def _isotonic_from(read: "Stored") -> Isotonic:
    scores, probabilities = read.numbers("scores"), read.numbers("probabilities")
    if not scores or any(low >= high for low, high in pairwise(scores)):
        raise read.damaged("scores")
    descends = any(low > high for low, high in pairwise(probabilities))
    if len(probabilities) != len(scores) or descends or probabilities[0] < 0 or probabilities[-1] > 1:
        raise read.damaged("probabilities")
    return Isotonic(scores, probabilities)


def fit_calibration(
    scores: npt.NDArray[np.floating],
    relevant: npt.ArrayLike,
    sizes: Sequence[int] | npt.NDArray[np.integer],
    *,
    method: Method | None = None,
) -> Calibration:
    """Fit the probability of relevance on scores of validation queries.

    Args:
        scores: (M,) scores, the products of one query side by side.
        relevant: (M,) booleans.
        sizes: (Q,) how many products each query has; sums to M.
        method: None: isotonic if its log loss on held-out queries is below Platt's in cross-validation by
            query, Platt otherwise and wherever there are fewer than 1000 labels.

    Returns:
        The calibration.

    Raises:
        InputError: there are fewer than 10 relevant or 10 irrelevant labels, lengths differ, or a score is
            not finite.
        SettingError: the method is unknown.
    """
    if method is not None and method not in METHODS:
        raise SettingError(f"calibration method {shorten(method)} is not one of {', '.join(METHODS)}")
    values, truth, counts = finite(scores, "score"), as_labels(relevant), np.asarray(sizes)
    if len(values) != len(truth) or counts.ndim != 1 or (counts < 0).any() or counts.sum() != len(values):
        shapes = [values.shape, truth.shape, counts.shape]
        raise InputError("scores, relevance and sizes do not fit together", value=shapes)
    positives, negatives = int(truth.sum()), int((~truth).sum())
    if min(positives, negatives) < LEAST_LABELS:
        raise InputError(
            f"a calibration needs {LEAST_LABELS} relevant and {LEAST_LABELS} irrelevant labels at least; "
            f"there are {positives} and {negatives}",
            remedy="Judge more products of the validation queries",
        )
    tried = method is None and len(truth) >= LEAST_FOR_ISOTONIC
    losses = _held_out_losses(values, truth, counts) if tried else {}
    best: Method = min(losses, key=losses.__getitem__, default="platt")  # Platt where they are equal
    return Calibration(_fit_curve(values, truth, method or best), positives, negatives, losses)


def _fit_curve(scores: Floats, truth: Labels, method: Method) -> Platt | Isotonic:
    return _fit_platt(scores, truth) if method == "platt" else _fit_isotonic(scores, truth)


def _targets(truth: Labels) -> tuple[float, float]:
    """Return what stands for irrelevant and for relevant: the mean of a label under a uniform prior."""
    positives = int(truth.sum())
    return 1 / (len(truth) - positives + 2), (positives + 1) / (positives + 2)


def _fit_platt(scores: Floats, truth: Labels) -> Platt:
    """Fit on standardised scores, each twice: as relevant and as irrelevant, weighted by its target."""
    from sklearn.linear_model import LogisticRegression  # a second, which no search needs

    centre, scale = float(scores.mean()), float(scores.std()) if np.ptp(scores) > 0 else 0.0
    low, high = _targets(truth)
    weights = np.where(truth, high, low)
    base = float(weights.mean())
    flat = Platt(0.0, math.log(base / (1 - base)))
    if scale == 0:
        return flat
    twice = np.tile((scores - centre) / scale, 2)[:, None]
    labels = np.repeat([1, 0], len(scores))
    model = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-8, max_iter=1000)
    model.fit(twice, labels, sample_weight=np.concatenate([weights, 1 - weights]))
    slope = float(model.coef_[0, 0]) / scale
    # Scores that are higher for what is irrelevant say nothing that an order may follow.
    return Platt(slope, float(model.intercept_[0]) - slope * centre) if slope > 0 else flat


def _fit_isotonic(scores: Floats, truth: Labels) -> Isotonic:
    from sklearn.isotonic import IsotonicRegression

    low, high = _targets(truth)
    model = IsotonicRegression(y_min=low, y_max=high, increasing=True, out_of_bounds="clip")
    model.fit(scores, truth.astype(np.float64))
    return Isotonic(tuple(model.X_thresholds_.tolist()), tuple(model.y_thresholds_.tolist()))


def _held_out_losses(scores: Floats, truth: Labels, sizes: npt.NDArray[np.integer]) -> dict[Method, float]:
    """Return the mean log loss of each method on queries held out; none where a fold would lack a class."""
    from sklearn.metrics import log_loss

    folds = list(_folds(sizes))
    if len(folds) < 2 or any(truth[~held].all() or not truth[~held].any() for held in folds):
        return {}
    losses: dict[Method, float] = {}
    for method in METHODS:
        held_out = np.empty(len(scores))
        for held in folds:
            held_out[held] = _fit_curve(scores[~held], truth[~held], method).probability(scores[held])
        losses[method] = float(log_loss(truth, held_out))
    return losses


def _folds(sizes: npt.NDArray[np.integer]) -> Iterator[Labels]:
    """Yield which rows each fold holds; the rows of a query share one, and no fold is empty."""
    filled = np.cumsum(sizes > 0) - 1  # the number of each query among those with rows
    fold = np.repeat(filled % FOLDS, sizes)
    for number in np.unique(fold):
        yield fold == number


def sigmoid(values: Floats) -> Floats:
    """Return 1 / (1 + exp(-value)) of each value, without overflow."""
    probabilities: Floats = np.exp(-np.logaddexp(0.0, -values))
    return probabilities


def finite(values: npt.ArrayLike, what: str) -> Floats:
    """Return one list of numbers as float64; raise InputError where it is none or one is not finite."""
    numbers = np.asarray(values, np.float64)
    if numbers.ndim != 1:
        raise InputError(f"needs one {what} a product", value=numbers.shape)
    if not np.isfinite(numbers).all():
        raise InputError(f"a {what} is not finite", value=float(numbers[~np.isfinite(numbers)][0]))
    return numbers


def as_labels(values: npt.ArrayLike) -> Labels:
    """Return booleans, given as such or as 0 and 1; raise InputError for any others."""
    labels = np.asarray(values)
    if labels.ndim != 1 or not np.isin(labels, (0, 1)).all():
        raise InputError("labels are one list of true and false, or 1 and 0", value=labels.tolist())
    return labels.astype(np.bool_)


def is_number(value: object) -> bool:
    """Tell whether a value read from JSON is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


class Stored:
    """Plain data that were stored, read back value by value; each method raises IndexFormatError."""

    def __init__(self, what: str, data: object) -> None:
        if not isinstance(data, Mapping):
            raise IndexFormatError(f"the {what} is damaged: an object is wanted. {_REMEDY}")
        self._what, self._data = what, data

    def damaged(self, name: str) -> IndexFormatError:
        """Return the error that says which value is wrong."""
        found = shorten(self._data.get(name))
        return IndexFormatError(f"the {self._what} is damaged: {name!r} cannot be {found}. {_REMEDY}")

    def value(self, name: str) -> Any:  # noqa: ANN401  # what JSON can hold
        """Return a value of any type."""
        if name not in self._data:
            raise IndexFormatError(f"the {self._what} is damaged: {name!r} is missing. {_REMEDY}")
        return self._data[name]

    def number(self, name: str) -> float:
        """Return a finite number."""
        if not is_number(value := self.value(name)):
            raise self.damaged(name)
        return float(value)

    def count(self, name: str) -> int:
        """Return a whole number from 0."""
        value = self.value(name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise self.damaged(name)
        return value

    def numbers(self, name: str) -> tuple[float, ...]:
        """Return a list of finite numbers."""
        values = self.value(name)
        if not isinstance(values, list | tuple) or not all(map(is_number, values)):
            raise self.damaged(name)
        return tuple(map(float, values))
