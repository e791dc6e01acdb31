"""The learning curve: rising budgets, the last all labels, the same test queries at each."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilth.errors import SettingError
from tilth.evaluation.findings import LearningCurve
from tilth.reranking.models import Model, train
from tilth.reranking.training import TrainingData
from tilth.training import learning_curve as module
from tilth.training.experiment import Material
from tilth.training.learning_curve import BUDGETS, REPEATS, learning_curve


def curve(material: Material, **options) -> LearningCurve:
    trial, pools = material.trial, list(material.pools)
    learned, tested = pools[:50], pools[50:]
    return learning_curve(
        "logistic", learned, tested, trial.qrels, trial.measures[0], {"hybrid": 0.7}, seed=0, **options
    )


def test_budgets_rise_to_all_labels(material: Material) -> None:
    told: list[tuple] = []
    found = curve(material, progress=lambda *args: told.append(args))
    pairs = [point.pairs for point in found.points]
    total = sum(pool.labels for pool in list(material.pools)[:50])
    assert pairs == [*(budget for budget in BUDGETS if budget < total), total]
    queries = [point.queries for point in found.points]
    assert queries == sorted(queries)
    assert queries[-1] == 50
    assert all(0 <= point.low <= point.mean <= point.high <= 1 for point in found.points)
    assert {point.system for point in found.points} == {"logistic"}
    assert found.baselines == {"hybrid": 0.7}
    assert told[-1] == ("learning curve", len(pairs), len(pairs))
    assert curve(material) == found  # the same seed, the same draws


def test_the_same_queries_are_tested_and_none_of_them_learned_from(
    material: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    tested: list[tuple] = []
    learned: list[int] = []

    def measured(run, qrels, measures):
        tested.append((tuple(run), tuple(qrels)))
        return measure(run, qrels, measures)

    def trained(kind: str, data: TrainingData, *args, **options) -> Model:
        learned.append(len(data.sizes))
        return train(kind, data, *args, **options)

    measure = module.measure
    monkeypatch.setattr(module, "measure", measured)
    monkeypatch.setattr(module, "train", trained)
    found = curve(material)
    assert len(set(tested)) == 1
    assert set(tested[0][0]) == {pool.query.query_id for pool in list(material.pools)[50:]}
    assert len(learned) == REPEATS * (len(found.points) - 1) + 1
    assert learned[-1] == 50


def test_a_budget_that_nothing_can_be_learnt_from_is_left_out(
    material: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    def picky(kind: str, data: TrainingData, *args, **options) -> Model:
        if len(data.sizes) < 50:
            raise SettingError("too little")
        return train(kind, data, *args, **options)

    monkeypatch.setattr(module, "train", picky)
    (point,) = curve(material).points
    assert point.queries == 50


def test_no_budget_that_anything_can_be_learnt_from_is_an_error(material: Material) -> None:
    with pytest.raises(SettingError, match="grades are from 9"):
        curve(material, settings=replace(material.trial.settings, threshold=9))


@given(labels=st.lists(st.integers(0, 50), min_size=1, max_size=20), seed=st.integers(0, 9))
def test_draws_fill_the_budget_with_the_fewest_queries_of_their_order(labels: list[int], seed: int) -> None:
    for budget in range(1, sum(labels)):
        drawn = module._draw(np.array(labels), budget, np.random.default_rng(seed))
        assert len(set(drawn)) == len(drawn)
        assert sum(labels[n] for n in drawn) >= budget > sum(labels[n] for n in drawn[:-1])
