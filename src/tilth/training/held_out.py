"""Scores that a model gives to queries it has not seen: the only ones that say how good it is."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from tilth.errors import InputError, SettingError
from tilth.evaluation.splits import folds
from tilth.query import Query
from tilth.reranking.boosting import Boosted
from tilth.reranking.models import KINDS, Model, train
from tilth.reranking.settings import DEFAULT, Settings
from tilth.retrieval.build_settings import Progress
from tilth.training.pools import LabelledPool, training_data, untold

LEAST_FOLDS = 3  # one is held out, one stops, one trains


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


def deal(queries: Sequence[Query], k: int, *, seed: int) -> list[tuple[str, ...]]:
    """Deal queries into folds.

    Args:
        queries: to learn from.
        k: the number of folds, from 3.
        seed: another seed gives other folds.

    Returns:
        The query ids of each fold.

    Raises:
        InputError: there are fewer different queries than folds.
        SettingError: `k` is below 3.
    """
    _check_folds(k)
    try:
        return folds(queries, k, seed=seed)
    except SettingError as error:
        raise InputError(
            f"{len(queries)} judged queries to learn from are too few for {k} folds",
            remedy="Judge more queries that differ, or take fewer folds",
        ) from error


def _check_folds(k: int) -> None:
    if k < LEAST_FOLDS:
        raise SettingError(f"{k} folds are too few: one is held out, one stops, one trains")


def cross_fit(
    kind: str,
    pools: Sequence[LabelledPool],
    dealt: Sequence[Sequence[str]],
    *,
    seed: int,
    settings: Settings = DEFAULT,
    threads: int = 0,
    progress: Progress = untold,
) -> HeldOut:
    """Score every fold by a model of the others; of these, the next fold says when to stop.

    Args:
        kind: of `tilth.reranking.models.KINDS`.
        pools: of all queries.
        dealt: the folds, at least three, as query ids, each query in one.
        seed: of every training.
        settings: of every training.
        threads: of LightGBM; 0: all cores.
        progress: is told of every fold.

    Returns:
        The scores of the queries in the folds.

    Raises:
        SettingError: there are fewer than three folds, or one of them leaves nothing to learn.
    """
    _check_folds(len(dealt))
    by_id = {pool.query.query_id: pool for pool in pools}
    parts = [[by_id[query_id] for query_id in fold if query_id in by_id] for fold in dealt]
    start = time.perf_counter()
    scores: dict[str, npt.NDArray[np.float64]] = {}
    models = []
    for place, held in enumerate(parts):
        following = (place + 1) % len(parts)
        learned = [pool for n, part in enumerate(parts) if n not in (place, following) for pool in part]
        model = train_until(kind, learned, parts[following], seed=seed, settings=settings, threads=threads)
        scores.update((pool.query.query_id, model.predict(pool.pool.features)) for pool in held)
        models.append(model)
        progress(kind, len(models), len(parts))
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
    if validation and KINDS.get(kind) is Boosted:
        data, others = training_data(learned), training_data(validation)
        stopped = train(kind, data, others, seed=seed, settings=settings, threads=threads)
        if isinstance(stopped.scorer, Boosted):
            settings = replace(settings, fixed_rounds=max(1, stopped.scorer.trees.rounds))
    everything = training_data([*learned, *validation])
    return train(kind, everything, None, seed=seed, settings=settings, threads=threads)
