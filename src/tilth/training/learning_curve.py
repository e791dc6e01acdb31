"""What labels buy: the quality on test queries by the number of labelled pairs that were learned from."""

from collections.abc import Mapping, Sequence

import numpy as np
from ir_measures import Measure

from tilth.evaluation.findings import CurvePoint, LearningCurve
from tilth.evaluation.measures import Values, measure
from tilth.evaluation.significance import bootstrap_intervals
from tilth.qrels import Qrels
from tilth.reranking.models import train
from tilth.reranking.settings import DEFAULT, Settings
from tilth.training.pools import LabelledPool, as_run, training_data

BUDGETS = (100, 200, 400, 700, 1_000, 2_000, 5_000, 10_000)  # labelled pairs to learn from
REPEATS = 5  # draws of the queries


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

    Returns:
        A point a budget: the mean over 5 draws, and the 95% interval over the tested queries of their mean.
        Budgets that the queries do not fill are left out, but for all of them together.
    """
    points = []
    pairs = np.array([int(pool.judged.sum()) for pool in learned])
    grades = qrels.only([pool.query.query_id for pool in tested])
    for budget in _budgets(int(pairs.sum())):
        drawn = [_draw(pairs, budget, np.random.default_rng((seed, n))) for n in range(REPEATS)]
        values = [
            _value(kind, [learned[n] for n in chosen], tested, grades, by, seed, settings, threads)
            for chosen in (drawn if budget < pairs.sum() else drawn[:1])
        ]
        mean = np.mean(values, axis=0)
        low, high = bootstrap_intervals(mean, seed=seed)[0].tolist()
        queries = round(float(np.mean([len(chosen) for chosen in drawn])))
        points.append(CurvePoint(kind, queries, budget, float(mean.mean()), low, high))
    return LearningCurve(tuple(points), baselines)


def _budgets(total: int) -> list[int]:
    return [*(budget for budget in BUDGETS if budget < total), total]


def _draw(pairs: np.ndarray, budget: int, rng: np.random.Generator) -> list[int]:
    """Draw queries until their judged pairs fill the budget; the last may exceed it."""
    order = rng.permutation(len(pairs))
    count = int(np.searchsorted(np.cumsum(pairs[order]), budget)) + 1
    chosen: list[int] = order[:count].tolist()
    return chosen


def _value(
    kind: str,
    learned: Sequence[LabelledPool],
    tested: Sequence[LabelledPool],
    qrels: Qrels,
    by: Measure,
    seed: int,
    settings: Settings,
    threads: int,
) -> Values:
    """Return the measure of each tested query, (Q, 1)."""
    model = train(kind, training_data(learned), None, seed=seed, settings=settings, threads=threads)
    scores = {pool.query.query_id: model.predict(pool.pool.features) for pool in tested}
    return measure(as_run(kind, tested, scores), qrels, [by]).values
