"""Logistic regression on features: trained through scikit-learn, served as a few arrays."""

from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import orjson
from scipy.special import expit

from tilth.reranking.boosting import relevant
from tilth.reranking.settings import Settings
from tilth.reranking.training import Features, TrainingData

Values = npt.NDArray[np.float64]
_Rows = npt.NDArray[np.bool_]
_ITERATIONS = 1_000


@dataclass(frozen=True, slots=True)
class Inputs:
    """Features made comparable: a missing value is the median and sets a column of its own.

    Attributes:
        medians: (F,) of the values that were there in training.
        missing: (I,) the numbers of features that had missing values; a column each after the F.
        means: (F + I,)
        scales: (F + I,) standard deviations, 1 where a column never varied.
    """

    medians: Values
    missing: npt.NDArray[np.int64]
    means: Values
    scales: Values

    @classmethod
    def learn(cls, features: Features) -> Self:
        """Take medians, means and deviations from (M, F) training features."""
        from sklearn.impute import SimpleImputer
        from sklearn.preprocessing import StandardScaler

        imputer = SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)
        filled = imputer.fit_transform(features.astype(np.float64))
        scaler = StandardScaler().fit(filled)
        return cls(imputer.statistics_, imputer.indicator_.features_, scaler.mean_, scaler.scale_)

    def columns(self, features: Features) -> Values:
        """Return (M, F + I) standardised columns of (M, F) features."""
        absent = np.isnan(features)
        filled = np.where(absent, self.medians, features.astype(np.float64))
        columns = np.concatenate([filled, absent[:, self.missing]], axis=1)
        standardised: Values = (columns - self.means) / self.scales
        return standardised


@dataclass(frozen=True, slots=True)
class Linear:
    """One binary classifier, or several whose probabilities together say a grade.

    `logistic` gives the probability of a grade from the threshold. `logistic-ovr` has a classifier for each
    grade against all others; its score is the expected grade, by their normalised probabilities.
    `logistic-ovo` has one for each pair of grades; its score is the mean of the grades that they expect.
    """

    FILE: ClassVar[str] = "model.json"
    MADE_WITH: ClassVar[str] = "scikit-learn"

    kind: str
    inputs: Inputs
    coefficients: Values  # (classifiers, F + I)
    intercepts: Values  # (classifiers,)
    grades: npt.NDArray[np.int64]  # those that training had, ascending

    @classmethod
    def train(
        cls,
        kind: str,
        data: TrainingData,
        validation: TrainingData | None,  # noqa: ARG003 - nothing here stops early
        *,
        seed: int,
        settings: Settings,
        threads: int,  # noqa: ARG003 - as for trees
    ) -> Self:
        """Train the classifiers.

        Args:
            kind: logistic, logistic-ovr or logistic-ovo.
            data: at least two grades.
            validation: not used.
            seed: of the solver.
            settings: `c` and `threshold`.
            threads: not used: one is enough.

        Returns:
            The model.

        Raises:
            SettingError: the data leave nothing to learn.
        """
        inputs, grades = Inputs.learn(data.features), np.unique(data.grades)
        columns, problems = inputs.columns(data.features), _problems(kind, data, grades, settings)
        fitted = [_classifier(columns, *each, data.weights, seed, settings.c) for each in problems]
        coefficients = np.concatenate([each.coef_ for each in fitted])
        intercepts = np.concatenate([each.intercept_ for each in fitted])
        return cls(kind, inputs, coefficients, intercepts, grades)

    @classmethod
    def read(cls, kind: str, content: bytes) -> Self:
        """Read what `content` gave; ValueError or KeyError where it is damaged."""
        facts = orjson.loads(content)
        coefficients, intercepts = _numbers(facts["coefficients"]), _numbers(facts["intercepts"])
        return cls(kind, _inputs(facts["inputs"]), coefficients, intercepts, _whole(facts["grades"]))

    def content(self) -> bytes:
        """Return plain JSON."""
        facts = asdict(self)
        del facts["kind"]
        return orjson.dumps(facts, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY)

    def predict(self, features: Features) -> Values:
        """Return (M,) scores: a probability for `logistic`, else an expected grade."""
        likely: Values = expit(self.inputs.columns(features) @ self.coefficients.T + self.intercepts)
        if self.kind == "logistic":
            return likely[:, 0]
        if self.kind == "logistic-ovr":
            expected: Values = likely @ self.grades / likely.sum(axis=1)
            return expected
        low, high = np.array(list(combinations(self.grades.tolist(), 2))).T
        between: Values = (low + likely * (high - low)).mean(axis=1)
        return between

    def importance(self) -> Values:
        """Return (F,) mean sizes of the coefficients of a feature, that of its being missing added."""
        sizes = np.abs(self.coefficients).mean(axis=0)
        count = len(self.inputs.medians)
        whole: Values = sizes[:count].copy()
        whole[self.inputs.missing] += sizes[count:]
        return whole


def _problems(
    kind: str, data: TrainingData, grades: npt.NDArray[np.int64], settings: Settings
) -> list[tuple[_Rows, _Rows]]:
    """Return for each classifier which rows it learns from, and which are positive."""
    every = np.full(len(data.grades), True)
    if kind == "logistic":
        return [(every, relevant(data, settings))]
    if kind == "logistic-ovr":
        return [(every, data.grades == grade) for grade in grades]
    pairs = combinations(grades.tolist(), 2)
    return [((data.grades == low) | (data.grades == high), data.grades == high) for low, high in pairs]


def _classifier(
    columns: Values, chosen: _Rows, positive: _Rows, weights: Values | None, seed: int, c: float
) -> Any:  # noqa: ANN401 - scikit-learn has no types
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=c, max_iter=_ITERATIONS, random_state=seed)
    return model.fit(columns[chosen], positive[chosen], None if weights is None else weights[chosen])


def _inputs(facts: dict[str, list[float]]) -> Inputs:
    medians, means, scales = (_numbers(facts[name]) for name in ("medians", "means", "scales"))
    return Inputs(medians, _whole(facts["missing"]), means, scales)


def _numbers(values: list[float]) -> Values:
    return np.array(values, np.float64)


def _whole(values: list[float]) -> npt.NDArray[np.int64]:
    return np.array(values, np.int64)
