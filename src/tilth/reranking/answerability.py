"""From a query's best hits to the decision that the shop has no answer.

A query is described by `SIGNALS`, all of them known while serving. The decision is fitted with scikit-learn
on answerable and unanswerable validation queries, kept as plain JSON, and made with numpy alone; the same
queries always give the same decision.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

import numpy as np
import numpy.typing as npt

from tilth.errors import InputError, SettingError
from tilth.reranking.calibration import (
    FOLDS,
    LEAST_LABELS,
    Floats,
    Labels,
    Stored,
    as_labels,
    finite,
    is_number,
    sigmoid,
)

SIGNALS = ("best_probability", "mean_of_best_3", "gap", "lexical", "cosine", "unknown_words")


def query_signals(
    probabilities: npt.NDArray[np.floating],
    *,
    lexical: float = math.nan,
    cosine: float = math.nan,
    unknown_words: float = math.nan,
) -> Floats:
    """Return the signals of one query, in the order of `SIGNALS`.

    Args:
        probabilities: (K,) the calibrated probabilities of its hits, in any order; where there are fewer than
            three, those missing count as 0.
        lexical: the best lexical score, as a share of the most that the query's words could score; or the
            share of their inverse document frequency that the best hit covers. NaN where it is not known.
        cosine: of the best passage. NaN where dense search was skipped.
        unknown_words: the share of the query's words that no product has, 0 to 1.

    Returns:
        (6,): the best probability, the mean of the best three, how far the best is above the second, and the
        three others as given.

    Raises:
        InputError: a probability is not finite.
    """
    ranked = np.sort(np.append(finite(probabilities, "probability"), np.zeros(3)))[::-1]
    return np.array([ranked[0], ranked[:3].mean(), ranked[0] - ranked[1], lexical, cosine, unknown_words])


@dataclass(frozen=True, slots=True)
class MostRefused:
    """Refuse as many queries as can be with at most this share of the answerable ones among them."""

    share: float = 0.05

    def __post_init__(self) -> None:
        _check_share(self.share, "the share of answerable queries that may be refused")

    def threshold(self, probabilities: Floats, answerable: Labels) -> float:
        """Return the probability below which to refuse, from those of (Q,) queries."""
        ranked = np.sort(probabilities[answerable])
        return float(ranked[min(math.floor(self.share * len(ranked) + 1e-9), len(ranked) - 1)])


@dataclass(frozen=True, slots=True)
class LeastPrecision:
    """Refuse as many queries as can be with at least this share of unanswerable ones among the refused."""

    share: float

    def __post_init__(self) -> None:
        _check_share(self.share, "the precision wanted of 'no answer'")

    def threshold(self, probabilities: Floats, answerable: Labels) -> float:
        """Return the probability below which to refuse, from those of (Q,) queries; 0 if none will do."""
        order = np.argsort(probabilities, kind="stable")
        ranked, right = probabilities[order], np.cumsum(~answerable[order])
        after = np.append(ranked[1:], 1.0)  # the first that is answered
        good = (right >= self.share * np.arange(1, len(ranked) + 1)) & (after > ranked)
        return float(after[np.flatnonzero(good)[-1]]) if good.any() else 0.0


@dataclass(frozen=True, slots=True)
class Costs:
    """Refuse where answering costs more on average: what each mistake costs, from 0.

    Answering a query without an answer costs `answered`, refusing one that has an answer `refused`. Elkan,
    "The Foundations of Cost-Sensitive Learning", IJCAI 2001; it trusts that unanswerable queries are as
    frequent among the fitted ones as they will be.
    """

    answered: float
    refused: float

    def __post_init__(self) -> None:
        costs = (self.answered, self.refused)
        if not all(is_number(cost) and cost >= 0 for cost in costs) or not any(costs):
            raise SettingError(f"costs must be numbers from 0, one of them above 0, not {costs}")

    def threshold(self, probabilities: Floats, answerable: Labels) -> float:  # noqa: ARG002
        """Return the probability below which to refuse; it depends on the costs alone."""
        return self.answered / (self.answered + self.refused)


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a query is answered, the probability that it can be, what it was compared with, and why."""

    answered: bool
    probability: float
    threshold: float
    signals: Mapping[str, float]  # by the names of `SIGNALS`; NaN is missing


@dataclass(frozen=True, slots=True)
class Answerability:
    """The probability that the shop has an answer to a query, and the threshold below which it is refused.

    A logistic regression over `SIGNALS`; without weights, the best probability itself. A missing signal is
    read as its mean over the queries fitted on.
    """

    threshold: float
    means: tuple[float, ...]  # a value a signal
    weights: tuple[float, ...]  # one a signal, per unit of it, or none
    intercept: float
    answerable: int  # queries of each kind that it was fitted on
    unanswerable: int

    def probability(self, signals: npt.NDArray[np.floating]) -> Floats:
        """Return the probability that each query has an answer.

        Args:
            signals: (Q, 6) in the order of `SIGNALS`; NaN is missing.

        Returns:
            (Q,) from 0 to 1.

        Raises:
            InputError: the shape is another, or a signal is infinite.
        """
        known = _checked_signals(signals)
        whole = np.where(np.isnan(known), self.means, known)
        if not self.weights:
            return np.clip(whole[:, 0], 0.0, 1.0)
        return sigmoid(whole @ np.array(self.weights) + self.intercept)

    def decide(self, signals: npt.NDArray[np.floating]) -> Decision:
        """Decide on one query.

        Args:
            signals: (6,) in the order of `SIGNALS`; NaN is missing.

        Returns:
            The decision with its reasons.

        Raises:
            InputError: the shape is another, or a signal is infinite.
        """
        probability = float(self.probability(np.asarray(signals)[None])[0])
        named = dict(zip(SIGNALS, np.asarray(signals, np.float64).tolist(), strict=True))
        return Decision(probability >= self.threshold, probability, self.threshold, named)

    def to_json(self) -> dict[str, object]:
        """Return plain data for JSON; `from_json` reads it back."""
        return {"signals": list(SIGNALS)} | asdict(self)

    @classmethod
    def from_json(cls, data: object) -> "Answerability":
        """Make an answerability from plain data.

        Args:
            data: what `to_json` returned.

        Returns:
            The answerability.

        Raises:
            IndexFormatError: the data are damaged, or of other signals; names what is wrong.
        """
        read = Stored("answerability", data)
        if read.value("signals") != list(SIGNALS):
            raise read.damaged("signals")
        means, weights = read.numbers("means"), read.numbers("weights")
        if len(means) != len(SIGNALS):
            raise read.damaged("means")
        if len(weights) not in (0, len(SIGNALS)):
            raise read.damaged("weights")
        counts = read.count("answerable"), read.count("unanswerable")
        return cls(read.number("threshold"), means, weights, read.number("intercept"), *counts)


def fit_answerability(
    signals: npt.NDArray[np.floating],
    answerable: npt.ArrayLike,
    wanted: MostRefused | LeastPrecision | Costs | None = None,
) -> Answerability:
    """Fit the decision 'no answer' on validation queries.

    The threshold is chosen on probabilities of queries held out in cross-validation, so that it does not
    trust what the regression has learned by heart. With fewer than 10 unanswerable queries there is no
    regression: the best probability is compared with a threshold.

    Args:
        signals: (Q, 6) in the order of `SIGNALS`; NaN is missing.
        answerable: (Q,) booleans: the shop has an answer.
        wanted: of the threshold; None: at most 5% of the answerable queries are refused.

    Returns:
        The answerability.

    Raises:
        InputError: there are fewer than 10 answerable queries, or fewer than 10 unanswerable ones where what
            is wanted needs them; the shape is another, or a signal is infinite.
    """
    known, truth = _checked_signals(signals), as_labels(answerable)
    wanted = wanted or MostRefused()
    if len(known) != len(truth):
        raise InputError("signals and answers do not fit together", value=[known.shape, truth.shape])
    with_answer, without = int(truth.sum()), int((~truth).sum())
    least = LEAST_LABELS if not isinstance(wanted, MostRefused) else 0
    if with_answer < LEAST_LABELS or without < least:
        raise InputError(
            f"answerability needs at least {LEAST_LABELS} queries with an answer and {least} without; there "
            f"are {with_answer} and {without}",
            remedy="Add validation queries of that kind",
        )
    if without < LEAST_LABELS:
        plain = Answerability(0.0, _column_means(known), (), 0.0, with_answer, without)
        return replace(plain, threshold=wanted.threshold(plain.probability(known), truth))
    weights, intercept, chances = _fit_logistic(known, truth)
    threshold = wanted.threshold(chances, truth)
    return Answerability(threshold, _column_means(known), weights, intercept, with_answer, without)


def _fit_logistic(signals: Floats, truth: Labels) -> tuple[tuple[float, ...], float, Floats]:
    """Return weights, intercept, and the probability of each query when it was held out."""
    from sklearn.impute import SimpleImputer  # a second, which no search needs
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(
        SimpleImputer(keep_empty_features=True), StandardScaler(), LogisticRegression(max_iter=1000)
    )
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    chances = cross_val_predict(model, signals, truth, cv=folds, method="predict_proba")[:, 1]
    _, scaler, logistic = (step for _, step in model.fit(signals, truth).steps)
    weights = logistic.coef_[0] / scaler.scale_
    intercept = float(logistic.intercept_[0] - weights @ scaler.mean_)
    return tuple(weights.tolist()), intercept, chances


def _column_means(signals: Floats) -> tuple[float, ...]:
    """Return the mean of each signal where it is known; 0 where it never is."""
    known = ~np.isnan(signals)
    sums = np.where(known, signals, 0.0).sum(axis=0)
    means: Floats = sums / np.maximum(known.sum(axis=0), 1)
    return tuple(means.tolist())


def _checked_signals(signals: npt.ArrayLike) -> Floats:
    values = np.asarray(signals, np.float64)
    if values.ndim != 2 or values.shape[1] != len(SIGNALS):
        raise InputError(f"a query has the signals {', '.join(SIGNALS)}", value=values.shape)
    if np.isinf(values).any():
        raise InputError("a signal is infinite", remedy="Give NaN for one that is not known")
    return values


def _check_share(share: float, what: str) -> None:
    if not is_number(share) or not 0 <= share <= 1:
        raise SettingError(f"{what} must be from 0 to 1, not {share}")
