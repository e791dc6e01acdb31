"""Fusion against ranx, an independent implementation."""

import numpy as np
import pytest

from tilth.retrieval.fusion import Fusion, fuse_hits
from tilth.run import make_run

with pytest.MonkeyPatch.context() as patch:
    patch.setenv("NUMBA_DISABLE_JIT", "1")  # the same code; compiling it takes half a minute
    import ranx

QUERIES = [f"q{n}" for n in range(25)]


def random_run(name, rng, products, low, high):
    table = {}
    for query_id in QUERIES:
        held = rng.choice(products, size=rng.integers(2, products + 1), replace=False)
        table[query_id] = {f"p{p}": float(rng.uniform(low, high)) for p in held}
    return make_run(name, table)


@pytest.fixture(scope="module")
def runs():
    rng = np.random.default_rng(0)
    return [
        random_run("bm25", rng, 30, 0, 40),
        random_run("dense", rng, 30, -1, 1),
        random_run("x", rng, 30, 5, 6),
    ]


def as_ranx(run):
    return ranx.Run({query_id: dict(run[query_id]) for query_id in run}, name=run.name)


def fuse(runs, fusion):
    return {query_id: fuse_hits([run[query_id] for run in runs], fusion) for query_id in QUERIES}


def assert_same(ours, theirs):
    for query_id in QUERIES:
        assert dict(ours[query_id]) == pytest.approx(theirs.run[query_id], abs=1e-9)
        scores = [theirs.run[query_id][hit.product_id] for hit in ours[query_id]]
        assert scores == pytest.approx(sorted(scores, reverse=True), abs=1e-9)


@pytest.mark.parametrize("rrf_k", [1, 60])
@pytest.mark.parametrize("count", [2, 3])
def test_reciprocal_rank_fusion(runs, rrf_k, count):
    theirs = ranx.fuse([as_ranx(run) for run in runs[:count]], norm=None, method="rrf", params={"k": rrf_k})
    assert_same(fuse(runs[:count], Fusion("rrf", rrf_k=rrf_k)), theirs)


@pytest.mark.parametrize("weights", [(0.3, 0.7), (1.0, 1.0), (0.2, 0.5, 0.3)])
def test_weighted_min_max_sum(runs, weights):
    theirs = ranx.fuse(
        [as_ranx(run) for run in runs[: len(weights)]],
        norm="min-max",
        method="wsum",
        params={"weights": weights},
    )
    assert_same(fuse(runs[: len(weights)], Fusion("minmax", weights)), theirs)


@pytest.mark.parametrize("weights", [(0.3, 0.7), (0.2, 0.5, 0.3)])
def test_weighted_z_score_sum_where_every_list_holds_every_product(weights):
    # ranx gives 0, the mean, to a product that a list lacks; here it has the minimum of the list.
    rng = np.random.default_rng(1)
    full = [
        make_run(str(n), {q: {f"p{p}": float(rng.normal(n, 1 + n)) for p in range(20)} for q in QUERIES})
        for n in range(len(weights))
    ]
    theirs = ranx.fuse(
        [as_ranx(run) for run in full], norm="zmuv", method="wsum", params={"weights": weights}
    )
    assert_same(fuse(full, Fusion("zscore", weights)), theirs)


@pytest.mark.parametrize("weights", [(0.3, 0.7), (0.2, 0.5, 0.3)])
def test_weighted_sum_of_shares_of_the_largest(runs, weights):
    positive = [runs[0], runs[2], runs[0]][: len(weights)]  # ranx does not cut what is below 0
    theirs = ranx.fuse(
        [as_ranx(run) for run in positive], norm="max", method="wsum", params={"weights": weights}
    )
    assert_same(fuse(positive, Fusion("tmm", weights)), theirs)
