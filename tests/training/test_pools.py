"""Pools: grades joined to candidates, unjudged ones irrelevant, queries without an answer, runs."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilth.errors import InputError, SettingError
from tilth.feedback import Impression
from tilth.pipeline import Pipeline, Pool
from tilth.qrels import Qrels
from tilth.query import Query
from tilth.reranking.behaviour import Counts
from tilth.reranking.feature_names import NAMES
from tilth.training.pools import LabelledPool, as_run, count_clicks, known_queries, label_pools, training_data

ROSES, SPADES, NOTHING = Query("r", "compost"), Query("s", "spade"), Query("n", "violin for compost", "none")


@pytest.fixture(scope="module")
def found(opened: Pipeline) -> tuple[str, ...]:
    """The candidates of `ROSES`, in the order of the fusion."""
    return tuple(hit.product_id for hit in opened.search([ROSES], 20)["r"])


def label(opened: Pipeline, grades: dict[str, dict[str, int]], *queries: Query, **options) -> list:
    return label_pools(opened, queries or (ROSES, SPADES, NOTHING), Qrels(grades), 20, **options)


def test_grades_are_joined_and_what_is_unjudged_is_irrelevant(opened: Pipeline, found: tuple) -> None:
    pool = label(opened, {"r": {found[0]: 3, found[2]: 0, found[4]: 1, "elsewhere": 2}}, ROSES)[0]
    assert pool.pool.product_ids == found
    assert pool.grades.tolist() == [3, 0, 0, 0, 1] + [0] * 15
    assert np.flatnonzero(pool.judged).tolist() == [0, 2, 4]
    assert (pool.answerable, pool.labels) == (True, 3)
    assert pool.pool.features.shape == (20, len(NAMES))


def test_a_query_without_an_answer_has_only_irrelevant_candidates(opened: Pipeline, found: tuple) -> None:
    roses, nothing = label(opened, {"r": {found[0]: 1}})
    assert (roses.query, nothing.query) == (ROSES, NOTHING)  # nobody judged the spades
    assert nothing.judged.all()
    assert not nothing.grades.any()
    assert (nothing.answerable, nothing.labels) == (False, 1)


def test_judgments_count_more_than_the_kind(opened: Pipeline, found: tuple) -> None:
    (pool,) = label(opened, {"n": {found[0]: 2}}, replace(ROSES, query_id="n", kind="none"))
    assert (pool.answerable, int(pool.judged.sum())) == (True, 1)


@pytest.mark.parametrize(("relevant", "answerable"), [(1, True), (2, True), (3, False)])
def test_what_is_relevant_decides_what_is_an_answer(
    opened: Pipeline, found: tuple, relevant: int, answerable: bool
) -> None:
    (pool,) = label(opened, {"r": {found[0]: 2}}, ROSES, relevant=relevant)
    assert pool.answerable is answerable


@pytest.mark.parametrize("grades", [{"other": {"en0000001": 1}}, {"r": {"of another shop": 1}}, {}])
def test_labels_that_fit_nothing_are_refused(opened: Pipeline, grades: dict) -> None:
    with pytest.raises(InputError, match="need the same query ids, and qrels the product ids"):
        label(opened, grades)


def test_progress_is_told_of_every_query(opened: Pipeline, found: tuple) -> None:
    told: list[tuple] = []
    label(opened, {"r": {found[0]: 1}}, progress=lambda *args: told.append(args))
    assert told == [("searching", 1, 2), ("searching", 2, 2)]


def test_known_queries_are_judged_or_known_to_have_no_answer() -> None:
    assert known_queries([ROSES, SPADES, NOTHING], Qrels({"s": {"a": 0}})) == [SPADES, NOTHING]


# training data and runs


def made(query_id: str, grades: list[int], *, identified: int | None = None) -> LabelledPool:
    features = np.zeros((len(grades), len(NAMES)), np.float32)
    if identified is not None:
        features[identified, NAMES.index("identified")] = 1
    ids = tuple(f"p{number}" for number in range(len(grades)))
    pool = Pool(query_id, "text", ids, features, np.zeros(len(grades)))
    known = np.ones(len(grades), bool)
    return LabelledPool(Query(query_id, "text"), pool, np.array(grades), known, True, len(grades))


def test_training_data_have_the_rows_of_a_query_side_by_side() -> None:
    data = training_data([made("a", [1, 0]), made("b", [0, 3, 2])])
    assert data.grades.tolist() == [1, 0, 0, 3, 2]
    assert data.sizes.tolist() == [2, 3]
    assert data.names == NAMES


def test_nothing_to_learn_from_is_said() -> None:
    with pytest.raises(SettingError, match="no query to learn from has candidates"):
        training_data([])


def test_a_run_is_ordered_by_score_then_id_and_leaves_out_what_has_no_scores() -> None:
    pools = [made("a", [0, 0, 0]), made("b", [0])]
    run = as_run("new", pools, {"a": np.array([0.5, 2.0, 0.5])})
    assert run.name == "new"
    assert list(run) == ["a"]
    assert [hit.product_id for hit in run["a"]] == ["p1", "p0", "p2"]


@given(
    scores=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=8),
    identified=st.integers(0, 7),
)
def test_a_typed_identifier_stands_first_whatever_the_scores(scores: list[float], identified: int) -> None:
    identified %= len(scores)
    run = as_run("new", [made("a", [0] * len(scores), identified=identified)], {"a": np.array(scores)})
    assert run["a"][0].product_id == f"p{identified}"
    others = [hit.score for hit in run["a"][1:]]
    assert others == sorted((s for n, s in enumerate(scores) if n != identified), reverse=True)


def test_clicks_are_counted_by_query_and_product() -> None:
    pages = [Impression("1", "Rose", ("a", "b"), (1,)), Impression("2", "rose", ("b", "a"), (1, 2))]
    behaviour = count_clicks(pages)
    assert behaviour.of_query("ROSE") == {"a": Counts(2, 2), "b": Counts(2, 1)}
    assert behaviour.rate == 0.75


def test_clicks_change_the_features(opened: Pipeline, found: tuple, garden: Path) -> None:
    behaviour = count_clicks([Impression("1", "compost", found[:2], (2,))])
    (pool,) = label(opened, {"r": {found[0]: 1}}, ROSES, behaviour=behaviour)
    clicks = pool.pool.features[:, NAMES.index("query_clicks")]
    assert clicks[:2].tolist() == [0.0, 1.0]
    assert np.isnan(clicks[2:]).all()
