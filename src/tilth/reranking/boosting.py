"""Boosted trees as they are trained, through LightGBM."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
import numpy.typing as npt
from scipy.special import expit, softmax

from tilth.errors import SettingError
from tilth.reranking.settings import Settings
from tilth.reranking.training import Features, TrainingData, mean_ndcg
from tilth.reranking.trees import Scores, Trees

if TYPE_CHECKING:
    import lightgbm

_RANKING = ("lambdarank", "rank_xendcg")  # what matters is the order within a query
_SETTINGS = (
    "num_leaves",
    "learning_rate",
    "min_data_in_leaf",
    "feature_fraction",
    "bagging_fraction",
    "lambda_l2",
)  # those that go by the same name in LightGBM
_SMOOTHED = 25  # rounds, whose mean decides when to stop
_FIXED = {
    "metric": "None",  # nDCG@10 of the validation queries is given instead, the same for every kind
    "bagging_freq": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbosity": -1,
}


@dataclass(frozen=True, slots=True)
class Boosted:
    """Trees, and how their sums become a score: by the kind that they were trained as."""

    FILE: ClassVar[str] = "model.txt"
    MADE_WITH: ClassVar[str] = "lightgbm"

    kind: str
    trees: Trees

    @classmethod
    def train(
        cls,
        kind: str,
        data: TrainingData,
        validation: TrainingData | None,
        *,
        seed: int,
        settings: Settings,
        threads: int,
    ) -> Self:
        """Train trees, stopping where the validation queries' nDCG@10 has been best.

        Args:
            kind: a LightGBM objective: lambdarank, rank_xendcg, binary, multiclass, regression.
            data: at least two grades.
            validation: None: `settings.fixed_rounds` are made.
            seed: same seed, data and settings, same trees.
            settings: see there.
            threads: 0: all cores.

        Returns:
            The trees up to the best round.

        Raises:
            SettingError: the data leave nothing to learn.
        """
        import lightgbm

        _check_order(kind, data)
        params = _parameters(kind, data, settings) | {"seed": seed, "num_threads": threads}
        rows = lightgbm.Dataset(
            data.features, _labels(kind, data, settings), weight=data.weights, group=data.sizes, params=params
        )
        if validation is None:
            booster = lightgbm.train(params, rows, settings.fixed_rounds)
        else:
            booster = _train_until(params, rows, kind, validation, settings)
        trees = Trees(booster.model_to_string(num_iteration=booster.best_iteration))
        if not trees.gains().any():
            raise SettingError(f"{len(data.grades)} rows gave no tree: lower min_data_in_leaf, or label more")
        return cls(kind, trees)

    @classmethod
    def read(cls, kind: str, content: bytes) -> Self:
        """Read what `content` gave; ValueError or KeyError where it is damaged."""
        return cls(kind, Trees(content.decode()))

    def content(self) -> bytes:
        """Return LightGBM's text."""
        return self.trees.text.encode()

    def predict(self, features: Features) -> Scores:
        """Return (M,) scores: a grade where grades are predicted, a probability for `binary`."""
        return _score(self.kind, self.trees.scores(features))

    def importance(self) -> Scores:
        """Return (F,) gains."""
        return self.trees.gains()


def _parameters(kind: str, data: TrainingData, settings: Settings) -> dict[str, object]:
    grades = int(data.grades.max()) + 1
    own: dict[str, dict[str, object]] = {
        "lambdarank": {"label_gain": list(range(grades))},  # linear, as our nDCG
        "multiclass": {"num_class": grades},
    }
    # LightGBM 4.7 learns next to nothing from whole queries by any other loss.
    by_query = {"bagging_by_query": kind == "lambdarank"}
    return (
        _FIXED
        | by_query
        | {name: getattr(settings, name) for name in _SETTINGS}
        | own.get(kind, {})
        | {"objective": kind}
    )


def _labels(kind: str, data: TrainingData, settings: Settings) -> npt.NDArray[np.int64]:
    return relevant(data, settings).astype(np.int64) if kind == "binary" else data.grades


def relevant(data: TrainingData, settings: Settings) -> npt.NDArray[np.bool_]:
    """Return (M,) which grades are from the threshold; SettingError if all or none are."""
    found: npt.NDArray[np.bool_] = data.grades >= settings.threshold
    if found.all() or not found.any():
        which = "all" if found.any() else "none"
        raise SettingError(f"{which} of {len(found)} grades are from {settings.threshold}: set threshold")
    return found


def _check_order(kind: str, data: TrainingData) -> None:
    starts = np.cumsum(data.sizes) - data.sizes
    spread = np.maximum.reduceat(data.grades, starts) > np.minimum.reduceat(data.grades, starts)
    if kind in _RANKING and not spread.any():
        raise SettingError(f"{kind} needs queries whose products differ in grade, and there is none")


def _train_until(
    params: dict[str, object],
    rows: "lightgbm.Dataset",
    kind: str,
    validation: TrainingData,
    settings: Settings,
) -> "lightgbm.Booster":
    import lightgbm

    return lightgbm.train(
        params,
        rows,
        settings.rounds,
        valid_sets=[lightgbm.Dataset(validation.features, validation.grades, reference=rows)],
        feval=_validation_ndcg(kind, validation, min(_SMOOTHED, settings.rounds)),
        callbacks=[lightgbm.early_stopping(settings.patience, verbose=False)],
    )


def _validation_ndcg(
    kind: str, validation: TrainingData, window: int
) -> Callable[[Scores, "lightgbm.Dataset"], tuple[str, float, bool]]:
    """Return what decides: the mean nDCG@10 of the last rounds, those before the first counting as 0.

    A few dozen queries make single rounds jump by more than all later ones gain, and the first rounds most.
    """
    latest: deque[float] = deque(maxlen=window)

    def measure(predicted: Scores, _: "lightgbm.Dataset") -> tuple[str, float, bool]:
        scores = _expected(predicted) if kind == "multiclass" else predicted
        latest.append(mean_ndcg(scores, validation))
        return "nDCG@10", sum(latest) / window, True

    return measure


def _score(kind: str, raw: Scores) -> Scores:
    if kind == "multiclass":
        return _expected(softmax(raw, axis=1))
    scores: Scores = expit(raw[:, 0]) if kind == "binary" else raw[:, 0]
    return scores


def _expected(probabilities: Scores) -> Scores:
    """Return (M,) expected grades from (M, grades) probabilities."""
    grades: Scores = probabilities @ np.arange(probabilities.shape[1], dtype=np.float64)
    return grades
