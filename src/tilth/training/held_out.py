"""Scores that a model gives to queries it has not seen: the only ones that say how good it is."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from tilth.errors import SettingError
from tilth.reranking.boosting import Boosted
from tilth.reranking.models import Model, train
from tilth.reranking.settings import DEFAULT, Settings
from tilth.training.pools import LabelledPool, training_data


@dataclass(frozen=True, slots=True)
class HeldOut:
    """What one kind of model gave, fold by fold."""

    kind: str
    scores: Mapping[str, npt.NDArray[np.float64]]  # by query_id
    models: tuple[Model, ...]  # of each fold
    seconds: float  # of all training

    @property
    def rounds(self) -> int | None:
        """The median of the rounds of boosting; None for a model that has none."""
        counts = [model.scorer.trees.rounds for model in self.models if isinstance(model.scorer, Boosted)]
        return max(1, int(np.median(counts))) if counts else None

    def importance(self) -> dict[str, float]:
        """Return the share of each feature in what the models lean on, the mean over the folds; sums to 1."""
        total: dict[str, float] = {}
        for model in self.models:
            values = model.importance()
            whole = sum(values.values()) or 1.0
            for name, value in values.items():
                total[name] = total.get(name, 0.0) + value / whole / len(self.models)
        return total


def cross_fit(
    kind: str,
    pools: Sequence[LabelledPool],
    folds: Sequence[Sequence[str]],
    *,
    seed: int,
    settings: Settings = DEFAULT,
    threads: int = 0,
) -> HeldOut:
    """Score every fold by a model of the others; of these, the next fold says when to stop.

    Args:
        kind: of `tilth.reranking.models.KINDS`.
        pools: of all queries.
        folds: query ids, at least three folds, each query in one.
        seed: of every training.
        settings: of every training.
        threads: of LightGBM; 0: all cores.

    Returns:
        The scores of the queries in the folds.

    Raises:
        SettingError: there are fewer than three folds, or one of them leaves nothing to learn.
    """
    if len(folds) < 3:
        raise SettingError(f"{len(folds)} folds are too few: one is held out, one stops, one trains")
    by_id = {pool.query.query_id: pool for pool in pools}
    parts = [[by_id[query_id] for query_id in fold if query_id in by_id] for fold in folds]
    start = time.perf_counter()
    scores: dict[str, npt.NDArray[np.float64]] = {}
    models = []
    for place, held in enumerate(parts):
        following = (place + 1) % len(parts)
        learned = [pool for n, part in enumerate(parts) if n not in (place, following) for pool in part]
        model = train_until(kind, learned, parts[following], seed=seed, settings=settings, threads=threads)
        scores.update((pool.query.query_id, model.predict(pool.pool.features)) for pool in held)
        models.append(model)
    return HeldOut(kind, scores, tuple(models), time.perf_counter() - start)


def train_until(
    kind: str,
    learned: Sequence[LabelledPool],
    validation: Sequence[LabelledPool],
    *,
    seed: int,
    settings: Settings = DEFAULT,
    threads: int = 0,
) -> Model:
    """Find on validation queries when to stop, then train on all of them for as many rounds.

    With a few hundred queries, what the validation queries teach is worth more than what they would measure.

    Args:
        kind: of `tilth.reranking.models.KINDS`.
        learned: pools to learn from.
        validation: pools of other queries; without any, `settings.fixed_rounds` are made.
        seed: of the training.
        settings: of the training.
        threads: of LightGBM; 0: all cores.

    Returns:
        The model.

    Raises:
        SettingError: there is nothing to learn.
    """
    if validation:
        data, others = training_data(learned), training_data(validation)
        stopped = train(kind, data, others, seed=seed, settings=settings, threads=threads)
        if isinstance(stopped.scorer, Boosted):
            settings = replace(settings, fixed_rounds=max(1, stopped.scorer.trees.rounds))
    everything = training_data([*learned, *validation])
    return train(kind, everything, None, seed=seed, settings=settings, threads=threads)
