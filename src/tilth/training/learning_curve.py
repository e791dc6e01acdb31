"""What labels buy: the quality on test queries by the number of labelled pairs that were learned from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from ir_measures import Measure

from tilth.errors import SettingError
from tilth.evaluation.findings import CurvePoint, LearningCurve
from tilth.evaluation.measures import Values, measure
from tilth.evaluation.significance import bootstrap_intervals
from tilth.qrels import Qrels
from tilth.reranking.models import train
from tilth.reranking.settings import DEFAULT, Settings
from tilth.retrieval.build_settings import Progress
from tilth.training.pools import LabelledPool, as_run, training_data, untold

BUDGETS = (100, 200, 400, 700, 1_000, 2_000, 5_000, 10_000)  # labelled pairs to learn from
REPEATS = 5  # draws of the queries


@dataclass(frozen=True, slots=True)
class _Learner:
    """A kind of model, how it is trained, and what it is measured on."""

    kind: str
    tested: Sequence[LabelledPool]
    qrels: Qrels
    by: Measure
    seed: int
    settings: Settings
    threads: int

    def values(self, learned: Sequence[LabelledPool]) -> Values:
        """Return the measure of each tested query, (Q, 1)."""
        data = training_data(learned)
        model = train(self.kind, data, None, seed=self.seed, settings=self.settings, threads=self.threads)
        scores = {pool.query.query_id: model.predict(pool.pool.features) for pool in self.tested}
        return measure(as_run(self.kind, self.tested, scores), self.qrels, [self.by]).values


def learning_curve(
    kind: str,
    learned: Sequence[LabelledPool],
    tested: Sequence[LabelledPool],
    qrels: Qrels,
    by: Measure,
    baselines: Mapping[str, float],
    *,
    seed: int,
    settings: Settings = DEFAULT,
    threads: int = 0,
    progress: Progress = untold,
) -> LearningCurve:
    """Train on more and more queries, and measure on the same others.

    Args:
        kind: of model.
        learned: pools to draw from.
        tested: pools of other queries.
        qrels: the grades of all.
        by: the measure.
        baselines: name to mean on the tested queries, of systems that learn nothing.
        seed: of the draws and the training.
        settings: of every training; the rounds are its `fixed_rounds`.
        threads: of LightGBM; 0: all cores.
        progress: is told of every budget.

    Returns:
        A point a budget: the mean over 5 draws, and the 95% interval over the tested queries of their mean.
        Budgets that the queries do not fill, or that nothing can be learnt from, are left out; the last point
        is all of them together.

    Raises:
        SettingError: nothing can be learnt from all of them together.
    """
    grades = qrels.only([pool.query.query_id for pool in tested])
    learner = _Learner(kind, tested, grades, by, seed, settings, threads)
    total = sum(pool.labels for pool in learned)
    budgets = [*(budget for budget in BUDGETS if budget < total), total]
    points = []
    for place, budget in enumerate(budgets, start=1):
        try:
            points.append(_point(learner, learned, budget))
        except SettingError:
            if budget == total:
                raise
        progress("learning curve", place, len(budgets))
    return LearningCurve(tuple(points), baselines)


def _point(learner: _Learner, learned: Sequence[LabelledPool], budget: int) -> CurvePoint:
    labels = np.array([pool.labels for pool in learned])
    draws = [_draw(labels, budget, np.random.default_rng((learner.seed, n))) for n in range(REPEATS)]
    if budget >= labels.sum():
        draws = [list(range(len(learned)))]
    mean = np.mean([learner.values([learned[n] for n in chosen]) for chosen in draws], axis=0)
    low, high = bootstrap_intervals(mean, seed=learner.seed)[0].tolist()
    queries = round(float(np.mean([len(chosen) for chosen in draws])))
    return CurvePoint(learner.kind, queries, budget, float(mean.mean()), low, high)


def _draw(labels: npt.NDArray[np.int64], budget: int, rng: np.random.Generator) -> list[int]:
    """Draw queries until their labels fill the budget; the last may exceed it."""
    order = rng.permutation(len(labels))
    count = int(np.searchsorted(np.cumsum(labels[order]), budget)) + 1
    chosen: list[int] = order[:count].tolist()
    return chosen
