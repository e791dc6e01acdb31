"""Held-out scores: no model has seen the query that it scores; when to stop is learned on other queries."""

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilth.errors import InputError, SettingError
from tilth.pipeline import Pool
from tilth.query import Query
from tilth.reranking.boosting import Boosted
from tilth.reranking.feature_names import NAMES
from tilth.reranking.models import train
from tilth.reranking.settings import Settings
from tilth.reranking.training import TrainingData
from tilth.training import held_out
from tilth.training.held_out import cross_fit, deal, train_until
from tilth.training.pools import LabelledPool, training_data

QUICK = Settings(rounds=40, patience=10, fixed_rounds=7, min_data_in_leaf=2)


def planted(count: int, rows: int = 12) -> list[LabelledPool]:
    """Pools whose first feature is the number of the query and whose second goes with the grade."""
    random = np.random.default_rng(0)
    pools = []
    for number in range(count):
        grades = random.integers(0, 3, rows)
        features = random.normal(size=(rows, len(NAMES))).astype(np.float32)
        features[:, NAMES.index("identified")] = 0
        features[:, 0], features[:, 1] = number, grades + random.normal(size=rows)
        ids = tuple(f"p{row:02}" for row in range(rows))
        pool = Pool(str(number), f"query {number}", ids, features, np.zeros(rows))
        query = Query(str(number), f"query {number}")
        pools.append(LabelledPool(query, pool, grades, np.ones(rows, bool), True, rows))
    return pools


@dataclass
class Recorder:
    """Stands for training: keeps which queries each model has seen, and which it was asked for."""

    trained: list[set[int]] = field(default_factory=list)
    asked: list[tuple[set[int], int]] = field(default_factory=list)

    def train(self, kind: str, data: TrainingData, validation: TrainingData | None, **_: object) -> "Seen":
        both = [data] if validation is None else [data, validation]
        seen = {int(number) for each in both for number in each.features[:, 0]}
        self.trained.append(seen)
        return Seen(seen, self)


@dataclass
class Seen:
    """A model that knows which queries it has seen."""

    seen: set[int]
    recorder: Recorder
    scorer: object = None

    def predict(self, features: np.ndarray) -> np.ndarray:
        (asked,) = {int(number) for number in features[:, 0]}
        self.recorder.asked.append((self.seen, asked))
        return np.full(len(features), float(asked))


@given(count=st.integers(3, 12), k=st.integers(3, 6), seed=st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_a_query_is_never_scored_by_a_model_that_saw_it(count: int, k: int, seed: int) -> None:
    k, pools, recorder = min(k, count), planted(count, rows=2), Recorder()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(held_out, "train", recorder.train)
        one = cross_fit("lambdarank", pools, deal([p.query for p in pools], k, seed=seed), seed=0)
    assert sorted(asked for _, asked in recorder.asked) == list(range(count))  # every query once
    assert all(asked not in seen for seen, asked in recorder.asked)
    assert all(len(seen) >= count - -(-count // k) for seen, _ in recorder.asked)  # and all others seen
    assert {query_id: set(scores) for query_id, scores in one.scores.items()} == {
        str(number): {float(number)} for number in range(count)
    }
    assert len(one.models) == k


def test_real_models_cannot_know_the_labels_of_a_held_out_query() -> None:
    pools = planted(9)
    dealt = deal([pool.query for pool in pools], 3, seed=0)
    before = cross_fit("lambdarank", pools, dealt, seed=0, settings=QUICK, threads=1)
    changed = [*pools]
    place = next(n for n, pool in enumerate(pools) if pool.query.query_id in dealt[0])
    changed[place] = _with_grades(pools[place], pools[place].grades[::-1])
    after = cross_fit("lambdarank", changed, dealt, seed=0, settings=QUICK, threads=1)
    for query_id in dealt[0]:
        np.testing.assert_array_equal(before.scores[query_id], after.scores[query_id])
    assert any((before.scores[query_id] != after.scores[query_id]).any() for query_id in dealt[1])


def _with_grades(pool: LabelledPool, grades: np.ndarray) -> LabelledPool:
    return LabelledPool(pool.query, pool.pool, grades, pool.judged, pool.answerable, pool.labels)


@pytest.mark.parametrize("kind", ["lambdarank", "logistic"])
def test_the_same_seed_gives_the_same_scores(kind: str) -> None:
    pools = planted(9)
    dealt = deal([pool.query for pool in pools], 3, seed=0)
    one, other = (cross_fit(kind, pools, dealt, seed=3, settings=QUICK, threads=1) for _ in range(2))
    assert one.scores.keys() == other.scores.keys()
    for query_id in one.scores:
        np.testing.assert_array_equal(one.scores[query_id], other.scores[query_id])
    assert one.importance() == other.importance()
    assert sum(one.importance().values()) == pytest.approx(1)
    assert (one.rounds is None) == (kind == "logistic")


def test_progress_is_told_of_every_fold() -> None:
    pools, told = planted(9), []
    dealt = deal([pool.query for pool in pools], 3, seed=0)
    cross_fit("logistic", pools, dealt, seed=0, progress=lambda *args: told.append(args))
    assert told == [("logistic", 1, 3), ("logistic", 2, 3), ("logistic", 3, 3)]


def test_queries_without_candidates_are_passed_over() -> None:
    pools = planted(6)
    one = cross_fit("logistic", pools, [("0", "1", "gone"), ("2", "3"), ("4", "5")], seed=0)
    assert set(one.scores) == set("012345")


@pytest.mark.parametrize("k", [0, 1, 2])
def test_fewer_than_three_folds_are_refused(k: int) -> None:
    pools = planted(4)
    with pytest.raises(SettingError, match=f"{k} folds are too few: one is held out, one stops, one trains"):
        cross_fit("logistic", pools, [("0", "1"), ("2", "3")][:k], seed=0)
    with pytest.raises(SettingError, match="folds are too few"):
        deal([pool.query for pool in pools], k, seed=0)


def test_fewer_queries_than_folds_are_refused_with_the_remedy() -> None:
    queries = [Query("1", "spade"), Query("2", "Spade"), Query("3", "hose")]
    with pytest.raises(InputError, match=r"3 judged queries .* too few for 3 folds.*Judge more"):
        deal(queries, 3, seed=0)


def test_a_fold_that_leaves_nothing_to_learn_is_said() -> None:
    with pytest.raises(SettingError, match="no query to learn from has candidates"):
        cross_fit("logistic", planted(1), [("0",), ("1",), ("2",)], seed=0)


# when to stop


def test_rounds_come_from_validation_and_the_model_from_all_queries() -> None:
    pools = planted(12)
    learned, validation = pools[:8], pools[8:]
    data, others = training_data(learned), training_data(validation)
    stopped = train("lambdarank", data, others, seed=0, settings=QUICK, threads=1)
    model = train_until("lambdarank", learned, validation, seed=0, settings=QUICK, threads=1)
    assert isinstance(stopped.scorer, Boosted)
    assert isinstance(model.scorer, Boosted)
    assert model.settings.fixed_rounds == model.scorer.trees.rounds == stopped.scorer.trees.rounds
    assert model.data == training_data(pools).digest() != stopped.data


def test_without_validation_queries_the_rounds_are_fixed() -> None:
    model = train_until("lambdarank", planted(6), [], seed=0, settings=QUICK, threads=1)
    assert isinstance(model.scorer, Boosted)
    assert model.scorer.trees.rounds == 7


def test_a_model_without_rounds_learns_from_all_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, bool]] = []

    def spied(kind: str, data: TrainingData, validation: TrainingData | None, **options):
        calls.append((len(data.sizes), validation is None))
        return train(kind, data, validation, **options)

    monkeypatch.setattr(held_out, "train", spied)
    pools = planted(6)
    model = train_until("logistic", pools[:4], pools[4:], seed=0)
    assert calls == [(6, True)]  # and once: there is nothing to stop
    assert model.data == training_data(pools).digest()
