"""Rerankers that learn from graded candidates: trained by kind, chosen on validation queries, and kept.

A folder holds `reranker.json`, which says what the model is, and the model itself as text: `model.txt`
(trees) or `model.json` (linear). It serves without LightGBM and scikit-learn.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from itertools import product
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from tilth.errors import IndexFormatError, SettingError, shorten
from tilth.files import replacing
from tilth.reranking.boosting import Boosted
from tilth.reranking.linear import Linear
from tilth.reranking.model_files import file_facts, read_checked, read_facts, write_facts
from tilth.reranking.settings import DEFAULT, LINEAR_GRID, TREE_GRID, Grid, Settings
from tilth.reranking.training import Features, TrainingData, mean_ndcg

FORMAT = "tilth-reranker"
FORMAT_VERSION = 1
FACTS = "reranker.json"
VALIDATION = "validation nDCG@10"

KINDS: Mapping[str, type[Boosted] | type[Linear]] = MappingProxyType({
    "lambdarank": Boosted,  # pairwise: pairs of one query, by what swapping them does to nDCG
    "rank_xendcg": Boosted,  # listwise: the cross-entropy of whole lists
    "binary": Boosted,  # pointwise: is the grade from the threshold?
    "multiclass": Boosted,  # pointwise: how likely is each grade?
    "regression": Boosted,  # pointwise: the grade as a number
    "logistic": Linear,
    "logistic-ovr": Linear,
    "logistic-ovo": Linear,
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Model:
    """A trained model, and what it was trained from.

    Attributes:
        kind: one of KINDS.
        names: the names of the F features, in their order.
        scorer: the trees or coefficients.
        data: the digest of the training data.
        settings: those of the training.
        seed: of the training.
        metrics: what is known of its quality, by name.
    """

    kind: str
    names: tuple[str, ...]
    scorer: Boosted | Linear
    data: str
    settings: Settings
    seed: int
    metrics: Mapping[str, float] = field(default_factory=dict)

    def predict(self, features: Features) -> npt.NDArray[np.float64]:
        """Score candidates.

        Args:
            features: (M, F) float32; NaN is missing.

        Returns:
            (M,) the higher the better. A probability for `binary` and `logistic`, a grade for kinds that
            predict one; scores of ranking kinds have no unit, and compare within a query only.
        """
        return self.scorer.predict(features)

    def importance(self) -> dict[str, float]:
        """Return by feature how much the model leans on it: gain of trees, size of coefficients; from 0."""
        return dict(zip(self.names, self.scorer.importance().tolist(), strict=True))

    def save(self, folder: Path, metrics: Mapping[str, float] = MappingProxyType({})) -> None:
        """Write the model; `reranker.json` comes last, so that a folder half written is refused.

        Args:
            folder: made if it is not there.
            metrics: more about its quality, kept beside `self.metrics`.

        Raises:
            InputError: the folder cannot be written to.
        """
        with replacing(folder / self.scorer.FILE) as file:
            file.write(self.scorer.content())
        facts = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "kind": self.kind,
            "features": self.names,
            "data": self.data,
            "settings": asdict(self.settings),
            "seed": self.seed,
            "versions": {name: version(name) for name in ("tilth", self.scorer.MADE_WITH)},
            "metrics": {**self.metrics, **metrics},
            "model": file_facts(folder / self.scorer.FILE),
        }
        write_facts(folder / FACTS, facts)


def train(
    kind: str,
    data: TrainingData,
    validation: TrainingData | None = None,
    *,
    seed: int,
    settings: Settings = DEFAULT,
    threads: int = 0,
) -> Model:
    """Train a model.

    Args:
        kind: one of KINDS.
        data: of the training queries.
        validation: of other queries: trees stop where its nDCG@10 has been best; without it they make
            `settings.fixed_rounds` rounds.
        seed: from 0; same seed, data, settings and threads, same bytes.
        settings: see there.
        threads: of LightGBM; 0: all cores.

    Returns:
        The model; with validation queries, `metrics` has their nDCG@10.

    Raises:
        SettingError: no such kind, validation has other features, or the data leave nothing to learn.
    """
    if kind not in KINDS:
        raise SettingError(f"no kind {shorten(kind)} of model; there are {', '.join(KINDS)}")
    _check(data, validation)
    scorer = KINDS[kind].train(kind, data, validation, seed=seed, settings=settings, threads=threads)
    model = Model(kind, data.names, scorer, data.digest(), settings, seed)
    if validation is None:
        return model
    return replace(model, metrics={VALIDATION: mean_ndcg(model.predict(validation.features), validation)})


def _check(data: TrainingData, validation: TrainingData | None) -> None:
    if len(np.unique(data.grades)) < 2:
        raise SettingError(f"{len(data.grades)} rows have no two different grades: nothing can be learnt")
    if validation is None:
        return
    if not len(validation.sizes):
        raise SettingError("there are no validation queries: give some, or None")
    if difference := _difference(validation.names, data.names):
        raise SettingError(f"the validation queries have other features than the training: {difference}")


@dataclass(frozen=True, slots=True)
class Trial:
    """What one point of a grid gave."""

    settings: Settings
    ndcg: float  # of the validation queries, from 0 to 1


@dataclass(frozen=True, slots=True)
class Search:
    """The best model of a grid, and all trials in the order of the grid."""

    best: Model
    trials: tuple[Trial, ...]


def search(
    kind: str,
    data: TrainingData,
    validation: TrainingData,
    grid: Grid | None = None,
    seed: int = 0,
    *,
    settings: Settings = DEFAULT,
    threads: int = 0,
) -> Search:
    """Train a model with every combination of a grid and keep the one with the best validation nDCG@10.

    The value of the best is the highest of several, and so flatters it: report on other queries.

    Args:
        kind: one of KINDS.
        data: of the training queries.
        validation: of other queries: they stop the rounds and choose.
        grid: values by the name of a setting; None: a small one for the kind.
        seed: of every training.
        settings: those that the grid does not name.
        threads: of LightGBM; 0: all cores.

    Returns:
        The best, the earlier in the grid where several are equal.

    Raises:
        SettingError: the grid names no setting or a value out of range, or as `train`.
    """
    default = LINEAR_GRID if KINDS.get(kind) is Linear else TREE_GRID
    points = [replace(settings, **point) for point in _points(default if grid is None else grid)]
    models = [train(kind, data, validation, seed=seed, settings=point, threads=threads) for point in points]
    trials = tuple(Trial(model.settings, model.metrics[VALIDATION]) for model in models)
    return Search(max(models, key=lambda model: model.metrics[VALIDATION]), trials)


def _points(grid: Grid) -> list[dict[str, Any]]:
    known = asdict(DEFAULT)
    if unknown := [name for name in grid if name not in known]:
        raise SettingError(f"no setting {shorten(unknown[0])}; there are {', '.join(known)}")
    if empty := [name for name in grid if not len(grid[name])]:
        raise SettingError(f"the grid has no value for {empty[0]}")
    return [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]


def open_model(folder: Path, names: Sequence[str]) -> Model:
    """Open what `Model.save` wrote.

    Args:
        folder: the model's.
        names: the features that will be given, in their order.

    Returns:
        The model.

    Raises:
        IndexFormatError: it is not there, damaged, of a newer format, or was trained with other features.
    """
    facts = read_facts(folder / FACTS, FORMAT, FORMAT_VERSION)
    try:
        if difference := _difference(facts["features"], names):
            raise IndexFormatError(
                f"{folder}: the model was trained with other features: {difference}. Train it again"
            )
        kind, settings = facts["kind"], Settings(**facts["settings"])
        scorer = KINDS[kind].read(kind, read_checked(folder, facts["model"]))
        return Model(kind, tuple(names), scorer, facts["data"], settings, facts["seed"], facts["metrics"])
    except (KeyError, TypeError, ValueError, IndexError, SettingError) as error:
        raise IndexFormatError(f"{folder}: the model is damaged ({error}). Train it again") from error


def _difference(have: Sequence[str], wanted: Sequence[str]) -> str:
    """Say how the names that one has differ from those wanted; nothing if they do not."""
    parts = []
    if lacks := [name for name in wanted if name not in have]:
        parts.append(f"it lacks {', '.join(map(repr, lacks))}")
    if beyond := [name for name in have if name not in wanted]:
        parts.append(f"it has {', '.join(map(repr, beyond))}")
    if not parts and list(have) != list(wanted):
        first = next(place for place, pair in enumerate(zip(have, wanted, strict=True)) if pair[0] != pair[1])
        parts.append(f"their order differs from {have[first]!r} on")
    return " and ".join(parts)
