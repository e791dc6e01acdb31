"""Dense search against numpy."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilth.errors import SettingError
from tilth.protocols import Rows, Vectors
from tilth.retrieval import dense
from tilth.retrieval.dense import DenseIndex, build_dense, choose, exact_top


def unit(rng: np.random.Generator, count: int, dimension: int = 16) -> Vectors:
    vectors = rng.standard_normal((count, dimension)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def best_rows(vectors: Vectors, rows: Rows, query: Vectors) -> dict[int, float]:
    scores = vectors @ query
    return {int(row): float(scores[rows == row].max()) for row in np.unique(rows)}


@pytest.fixture(params=["flat", "ivf"])
def built(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[DenseIndex, Vectors, Rows]:
    monkeypatch.setattr(dense, "FLAT_BELOW", 10_000 if request.param == "flat" else 1)
    rng = np.random.default_rng(7)
    vectors = unit(rng, 600).astype(np.float16)
    rows = np.sort(rng.integers(0, 250, 600))
    settings = build_dense(vectors, tmp_path / "dense", unit(rng, 20), recall=1.0)
    assert settings.kind == request.param
    return DenseIndex(tmp_path / "dense", settings, vectors, rows), vectors.astype(np.float32), rows


def test_a_product_scores_as_its_best_passage(built: tuple[DenseIndex, Vectors, Rows]) -> None:
    index, vectors, rows = built
    query = unit(np.random.default_rng(1), 1)[0]
    expected = best_rows(vectors, rows, query)
    hits = index.search_rows(query, 10)
    top = sorted(expected, key=lambda row: -expected[row])[:10]
    assert set(top) <= set(hits.rows.tolist())
    assert len(set(hits.rows.tolist())) == len(hits.rows)
    found = dict(zip(hits.rows.tolist(), hits.scores.tolist(), strict=True))
    for row in top:
        assert found[row] == pytest.approx(expected[row], abs=0.02)  # 8 bits a number


@pytest.mark.parametrize("scan_below", [0, 20_000])
def test_filters_are_exact(
    built: tuple[DenseIndex, Vectors, Rows], scan_below: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dense, "_SCAN_BELOW", scan_below)
    index, vectors, rows = built
    query = unit(np.random.default_rng(2), 1)[0]
    allowed = np.unique(rows)[::25]
    expected = best_rows(vectors, rows, query)
    hits = index.search_rows(query, 3, allowed)
    top = sorted(allowed.tolist(), key=lambda row: -expected[row])[:3]
    assert set(top) <= set(hits.rows.tolist()) <= set(allowed.tolist())


def test_nothing_for_nothing(built: tuple[DenseIndex, Vectors, Rows]) -> None:
    index, vectors, _ = built
    assert len(index.search_rows(vectors[0], 0).rows) == 0
    assert len(index.search_rows(vectors[0], 5, np.array([], np.int64)).rows) == 0


def test_k_above_the_catalogue_gives_all(built: tuple[DenseIndex, Vectors, Rows]) -> None:
    index, vectors, rows = built
    if index.settings.kind == "flat":
        assert len(index.search_rows(vectors[0], 10_000).rows) == len(np.unique(rows))


@given(st.integers(0, 2**32 - 1), st.integers(1, 30))
def test_exact_top_equals_numpy(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    vectors, queries = unit(rng, 50).astype(np.float16), unit(rng, 3)
    expected = np.sort(-(queries @ vectors.astype(np.float32).T), axis=1)[:, :k]
    found = exact_top(vectors, queries, k)
    scores = -np.take_along_axis(queries @ vectors.astype(np.float32).T, found, axis=1)
    np.testing.assert_allclose(scores, expected, atol=1e-5)


def test_parameters_follow_the_count() -> None:
    assert choose(49_999).kind == "flat"
    assert [choose(n).lists for n in (50_000, 1_000_000, 5_000_000)] == [1024, 4096, 8192]


def test_recall_has_a_range(tmp_path: Path) -> None:
    vectors = unit(np.random.default_rng(0), 4)
    with pytest.raises(SettingError, match="recall"):
        build_dense(vectors.astype(np.float16), tmp_path / "dense", vectors, recall=1.5)
