import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilth.errors import SettingError
from tilth.labelling.pooling import NOT_FOUND, pool
from tilth.run import make_run

A = make_run("A", {"q1": {"x": 9.0, "y": 5.0, "z": 1.0}, "q2": {"x": 0.5}})
B = make_run("B", {"q1": {"z": 0.7, "w": 0.6}, "q3": {"v": 0.1}})

RUNS = st.dictionaries(
    st.sampled_from(["a", "b", "c"]),
    st.dictionaries(
        st.sampled_from(["q1", "q2"]),
        st.dictionaries(st.sampled_from("uvwxyz"), st.floats(-1, 9), max_size=6),
        max_size=2,
    ).map(lambda scores: make_run("run", scores)),
    min_size=1,
)


def test_a_pool_is_the_union_of_the_tops_with_ranks_and_scores():
    found = pool({"a": A, "b": B}, 2)
    assert found.pairs == (("q1", "x"), ("q1", "z"), ("q1", "w"), ("q1", "y"), ("q2", "x"), ("q3", "v"))
    assert found.ranks.tolist() == [[1, 0], [0, 1], [0, 2], [2, 0], [1, 0], [0, 1]]
    assert found.scores[0].tolist() == pytest.approx([9.0, np.nan], nan_ok=True)
    assert found.scores[1].tolist() == pytest.approx([np.nan, 0.7], nan_ok=True)
    assert found.queries().tolist() == [0, 0, 0, 0, 1, 2]


def test_who_found_a_pair_is_told_by_name():
    found = pool({"a": A, "b": B}, 3)
    assert found.found(found.pairs.index(("q1", "z"))) == {"a": 3, "b": 1}
    assert found.found(found.pairs.index(("q1", "w"))) == {"b": 2}


def test_runs_without_hits_give_an_empty_pool():
    empty = pool({"a": make_run("a", {}), "b": make_run("b", {"q1": {}})}, 5)
    assert len(empty) == 0
    assert empty.ranks.shape == empty.scores.shape == (0, 2)


@pytest.mark.parametrize(("runs", "depth"), [({}, 10), ({"a": A}, 0)])
def test_no_run_and_no_depth_are_refused(runs, depth):
    with pytest.raises(SettingError, match="at least one run and a depth from 1"):
        pool(runs, depth)


@given(RUNS, st.integers(1, 7))
def test_every_pair_is_there_once_by_its_best_rank(runs, depth):
    found = pool(runs, depth)
    expected = {(q, hit.product_id) for run in runs.values() for q in run for hit in run[q][:depth]}
    assert len(found.pairs) == len(set(found.pairs))
    assert set(found.pairs) == expected
    best = np.where(found.ranks == NOT_FOUND, depth + 1, found.ranks).min(axis=1, initial=depth + 1).tolist()
    for query_id in ("q1", "q2"):
        keys = [(b, pair[1]) for b, pair in zip(best, found.pairs, strict=True) if pair[0] == query_id]
        assert keys == sorted(keys)
    for place, (query_id, product_id) in enumerate(found.pairs):
        for ranker, rank in found.found(place).items():
            assert runs[ranker][query_id][rank - 1].product_id == product_id
