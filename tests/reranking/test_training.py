"""Training data: what is refused, whole queries, the digest, nDCG as ir-measures has it."""

from collections.abc import Callable

import ir_measures
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilth.errors import SettingError
from tilth.reranking.training import TrainingData, mean_ndcg

FEATURES = np.arange(12, dtype=np.float32).reshape(6, 2)
DATA = TrainingData(FEATURES, np.array([0, 1, 2, 0, 3, 1]), np.array([2, 1, 3]), ("price", "score"))


def changed(**values: object) -> TrainingData:
    fields = {name: getattr(DATA, name) for name in ("features", "grades", "sizes", "names", "weights")}
    return TrainingData(**fields | values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"features": FEATURES.astype(np.float64)}, "float32"),
        ({"features": FEATURES.ravel()}, r"\(M, F\)"),
        ({"features": np.where(FEATURES == 3, np.float32(np.inf), FEATURES)}, "'score' is infinite in row 1"),
        ({"names": ("price",)}, "1 names for 2 features"),
        ({"names": ("price", "price")}, "'price' stands for two"),
        ({"grades": np.array([0, 1, 2, 0, 3])}, "5 grades for 6 rows"),
        ({"grades": np.array([0, 1, -2, 0, 3, 1])}, "from 0, not -2"),
        ({"grades": np.array([0, 1, 0.5, 0, 3, 1])}, "whole numbers"),
        ({"sizes": np.array([2, 1, 2])}, "sum to 5, and there are 6"),
        ({"sizes": np.array([2, 1, 0, 3])}, "from 1, not 0"),
        ({"weights": np.ones(5)}, "for 6 rows"),
        ({"weights": np.array([1, 1, np.nan, 1, 1, 1])}, "finite and above 0"),
        ({"weights": np.zeros(6)}, "finite and above 0"),
    ],
)
def test_what_does_not_fit_together_is_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        changed(**values)


def test_whole_queries_are_chosen_by_mask_or_number() -> None:
    masked = changed(weights=np.arange(1.0, 7.0)).only(np.array([False, True, True]))
    assert masked.grades.tolist() == [2, 0, 3, 1]
    assert masked.sizes.tolist() == [1, 3]
    assert masked.features[:, 0].tolist() == [4, 6, 8, 10]
    assert masked.weights is not None
    assert masked.weights.tolist() == [3, 4, 5, 6]
    turned = DATA.only(np.array([2, 0]))
    assert turned.grades.tolist() == [0, 3, 1, 0, 1]
    assert turned.sizes.tolist() == [3, 2]
    assert len(DATA.only(np.array([], np.int64)).grades) == 0


@pytest.mark.parametrize("queries", [np.array([True, False]), np.array([3]), np.array([-1])])
def test_queries_that_are_not_there_are_refused(queries: np.ndarray) -> None:
    with pytest.raises(SettingError):
        DATA.only(queries)


@pytest.mark.parametrize(
    "other",
    [
        lambda: changed(features=FEATURES + 1),
        lambda: changed(grades=np.array([0, 1, 2, 0, 3, 2])),
        lambda: changed(sizes=np.array([1, 2, 3])),
        lambda: changed(names=("price", "rank")),
        lambda: changed(weights=np.ones(6)),
    ],
)
def test_the_digest_tells_data_apart(other: Callable[[], TrainingData]) -> None:
    assert other().digest() != DATA.digest()
    assert DATA.only(np.array([0, 1, 2])).digest() == DATA.digest()


@given(st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=14), min_size=1, max_size=5), st.randoms())
def test_ndcg_is_that_of_ir_measures(lists: list[list[int]], random) -> None:
    grades = np.array([grade for each in lists for grade in each])
    sizes = np.array([len(each) for each in lists])
    data = TrainingData(np.zeros((len(grades), 0), np.float32), grades, sizes, ())
    scores = np.array(random.sample(range(len(grades)), len(grades)), np.float64)
    starts = np.cumsum(sizes) - sizes
    rows = {
        str(q): range(start, start + size) for q, (start, size) in enumerate(zip(starts, sizes, strict=True))
    }
    qrels = {q: {str(row): int(grades[row]) for row in each} for q, each in rows.items()}
    run = {q: {str(row): float(scores[row]) for row in each} for q, each in rows.items()}
    theirs = ir_measures.calc_aggregate([ir_measures.nDCG @ 10], qrels, run)[ir_measures.nDCG @ 10]
    assert mean_ndcg(scores, data) == pytest.approx(theirs)


def test_equal_scores_keep_the_order_of_rows() -> None:
    data = TrainingData(np.zeros((2, 0), np.float32), np.array([0, 1]), np.array([2]), ())
    assert mean_ndcg(np.zeros(2), data) == pytest.approx(1 / np.log2(3))
