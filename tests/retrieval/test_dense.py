"""Dense search against numpy."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilth.errors import SettingError
from tilth.protocols import Rows, Vectors
from tilth.retrieval import dense
from tilth.retrieval.clustering import assign, single_threads, train_regions
from tilth.retrieval.dense import (
    DenseIndex,
    DenseSettings,
    ExactVectors,
    RowPassages,
    build_dense,
    choose,
    exact_top,
)
from tilth.retrieval.quantisation import Codes, code_step, to_codes, to_query
from tilth.retrieval.view import LiveDense

Mask = npt.NDArray[np.bool_]


def unit(rng: np.random.Generator, count: int, dimension: int = 64) -> Vectors:
    vectors = rng.standard_normal((count, dimension)).astype(np.float32)
    unit_vectors: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit_vectors


def best_rows(codes: Codes, rows: Rows, query: Vectors, allowed: Mask | None = None) -> dict[int, float]:
    """Score by the definition: the best whole-number dot product of each row's passages."""
    coded = to_query(query)
    scores = codes.astype(np.int64) @ coded.codes.astype(np.int64)
    kept = np.unique(rows) if allowed is None else [row for row in np.unique(rows) if allowed[row]]
    return {int(row): float(np.float32(scores[rows == row].max()) * coded.unit) for row in kept}


def top(expected: dict[int, float], k: int) -> dict[int, float]:
    """Return the best k rows and those that tie with the last."""
    least = sorted(expected.values(), reverse=True)[: max(k, 1)][-1] if expected else 0.0
    return {row: score for row, score in expected.items() if score >= least}


class Built:
    """An index with what it was made of."""

    def __init__(self, folder: Path, *, passages: int = 600, products: int = 250) -> None:
        rng = np.random.default_rng(7)
        self.codes = to_codes(unit(rng, passages))
        self.rows = np.sort(rng.integers(0, products, passages))
        self.settings = build_dense(self.codes, folder / "dense.faiss", unit(rng, 20), recall=1.0)
        self.products = products
        self.index = DenseIndex(folder / "dense.faiss", self.settings, self.rows)


@pytest.fixture(params=["flat", "ivf"])
def built(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Built:
    monkeypatch.setattr(dense, "FLAT_BELOW", 10_000 if request.param == "flat" else 1)
    made = Built(tmp_path)
    assert made.settings.kind == request.param
    return made


def test_a_product_scores_as_its_best_passage(built: Built) -> None:
    query = unit(np.random.default_rng(1), 1)[0]
    hits = built.index.search_rows(query, 10)
    found = dict(zip(hits.rows.tolist(), hits.scores.tolist(), strict=True))
    expected = best_rows(built.codes, built.rows, query)
    assert top(expected, 10).items() <= found.items() <= expected.items()
    assert len(found) == len(hits.rows)
    assert hits.rows.dtype == np.int64


@pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 0.5, 0.95, 1.0])
@pytest.mark.parametrize("scan_below", [0, 20_000])
def test_filters_are_exact(
    built: Built, share: float, scan_below: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dense, "_SCAN_BELOW", scan_below)
    monkeypatch.setattr(dense, "_SCAN_NARROW", scan_below)
    rng = np.random.default_rng(2)
    query, allowed = unit(rng, 1)[0], rng.random(built.products) < share
    expected = best_rows(built.codes, built.rows, query, allowed)
    hits = built.index.search_rows(query, 3, allowed)
    found = dict(zip(hits.rows.tolist(), hits.scores.tolist(), strict=True))
    assert top(expected, 3).items() <= found.items() <= expected.items()


def test_lists_are_added_until_enough_allowed_products_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dense, "FLAT_BELOW", 1)
    monkeypatch.setattr(dense, "_SCAN_BELOW", 0)
    monkeypatch.setattr(dense, "_SCAN_NARROW", 0)
    made = Built(tmp_path)
    few = DenseSettings("ivf", made.settings.lists, probes=1)
    index = DenseIndex(tmp_path / "dense.faiss", few, made.rows)
    query = made.codes[0].astype(np.float32)
    far = made.codes.astype(np.int64) @ made.codes[0].astype(np.int64) < 0
    allowed = np.zeros(made.products, bool)
    allowed[made.rows[far]] = True
    assert len(index.search_rows(query, 40, allowed).rows) >= 40
    assert len(index.search_rows(query, 10_000).rows) == len(np.unique(made.rows))


def test_a_mask_may_be_longer_than_the_rows_that_have_passages(built: Built) -> None:
    query = unit(np.random.default_rng(3), 1)[0]
    allowed = np.ones(built.products + 20, bool)
    hits, plain = built.index.search_rows(query, 10, allowed), built.index.search_rows(query, 10)
    np.testing.assert_array_equal(hits.rows[:10], plain.rows[:10])


def test_nothing_for_nothing(built: Built) -> None:
    query = unit(np.random.default_rng(4), 1)[0]
    assert len(built.index.search_rows(query, 0).rows) == 0
    assert len(built.index.search_rows(query, 5, np.zeros(built.products, bool)).rows) == 0


def test_a_query_without_direction_scores_zero(built: Built) -> None:
    assert set(built.index.search_rows(np.zeros(64, np.float32), 5).scores.tolist()) == {0.0}


def test_an_index_without_passages_finds_nothing(tmp_path: Path) -> None:
    settings = build_dense(np.empty((0, 8), np.int8), tmp_path / "dense", np.ones((1, 8), np.float32))
    index = DenseIndex(tmp_path / "dense", settings, np.empty(0, np.int64))
    assert len(index.search_rows(np.ones(8, np.float32), 5).rows) == 0
    for rows in ([], [0], [3, 0]):
        found = index.passages_of(np.array(rows, np.int64))
        assert (found.codes.shape, len(found.places)) == ((0, 8), 0)
    later = ExactVectors(np.ones((1, 8), np.float32), np.array([1]))
    assert LiveDense(index, later).passages_of(np.array([0, 1])).places.tolist() == [1]
    assert index.codes(np.empty(0, np.int64)).shape == (0, 8)


def test_k_above_the_catalogue_gives_all(built: Built) -> None:
    query = unit(np.random.default_rng(5), 1)[0]
    assert len(built.index.search_rows(query, 10_000).rows) == len(np.unique(built.rows))


def test_codes_are_given_back_and_make_the_same_index(built: Built, tmp_path: Path) -> None:
    wanted = np.array([599, 0, 17, 17, 300])
    np.testing.assert_array_equal(built.index.codes(wanted), built.codes[wanted])
    again = built.index.codes(np.arange(600))
    np.testing.assert_array_equal(again, built.codes)
    sample = unit(np.random.default_rng(6), 20)
    for threads in (1, 2):
        build_dense(again, tmp_path / f"again{threads}", sample, recall=1.0, threads=threads)
    build_dense(built.codes, tmp_path / "once", sample, recall=1.0)
    once = (tmp_path / "once").read_bytes()
    assert (tmp_path / "again1").read_bytes() == once
    assert (tmp_path / "again2").read_bytes() == once


def test_vectors_in_memory_score_as_those_in_the_index(built: Built) -> None:
    rng = np.random.default_rng(7)
    vectors = built.codes.astype(np.float32) * np.float32(code_step(64))
    half = len(vectors) // 2
    memory = ExactVectors.of(vectors[:half], built.rows[:half]).joined(
        ExactVectors.of(vectors[half:], built.rows[half:])
    )
    allowed = rng.random(built.products) < 0.5
    for query in unit(rng, 5):
        expected = best_rows(built.codes, built.rows, query, allowed)
        hits = memory.search_rows(query, 4, allowed)
        assert dict(zip(hits.rows.tolist(), hits.scores.tolist(), strict=True)) == top(expected, 4)
        everything = memory.search_rows(query, 10_000)
        base = built.index.search_rows(query, 10_000)
        np.testing.assert_array_equal(everything.rows, base.rows)
        np.testing.assert_array_equal(everything.scores, base.scores)
    assert len(memory.search_rows(unit(rng, 1)[0], 0).rows) == 0


def test_the_wanted_recall_is_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dense, "FLAT_BELOW", 1)
    rng = np.random.default_rng(8)
    codes, sample = to_codes(unit(rng, 3_000)), unit(rng, 30)
    settings = build_dense(codes, tmp_path / "dense", sample, recall=0.8)
    assert settings.recall >= 0.8
    assert settings.probes < settings.lists
    index = DenseIndex(tmp_path / "dense", settings, np.arange(3_000))
    with single_threads(1) as pool:
        exact = exact_top(codes, sample, 100, pool)
    found = [
        len(np.intersect1d(index.search_rows(query, 100).rows[:100], passages))
        for query, passages in zip(sample, exact.passages, strict=True)
    ]
    assert np.mean(found) / 100 == pytest.approx(settings.recall, abs=0.01)


def passages_by_row(found: RowPassages, asked: list[int]) -> list[list[list[float]]]:
    """The codes of the passages of each row that was asked for."""
    assert found.places.tolist() == sorted(found.places.tolist())
    return [found.codes[found.places == place].tolist() for place in range(len(asked))]


def test_the_passages_of_rows_are_given_in_any_order(built: Built) -> None:
    memory = ExactVectors(built.codes.astype(np.float32), built.rows)
    without = next(row for row in range(built.products) if row not in built.rows)
    for asked in ([], [without], [100, 0, without, 0, 249], list(range(built.products))[::-1]):
        expected = [built.codes[built.rows == row].tolist() for row in asked]  # the head first
        rows = np.array(asked, np.int64)
        for source in (built.index, memory, LiveDense(built.index)):
            assert passages_by_row(source.passages_of(rows), asked) == expected


def test_rows_after_the_generation_have_their_passages_in_memory(built: Built) -> None:
    rng = np.random.default_rng(9)
    later = np.array([250, 250, 251, 253])
    codes = to_codes(unit(rng, 4)).astype(np.float32)
    live = LiveDense(built.index, ExactVectors(codes, later))
    asked = [253, 3, 250, 252, 3, 251]
    expected = [
        codes[later == row].tolist() if row >= 250 else built.codes[built.rows == row].tolist()
        for row in asked
    ]
    assert passages_by_row(live.passages_of(np.array(asked)), asked) == expected
    alone = built.index.passages_of(np.array([250, 999]))
    assert (alone.codes.shape, len(alone.places)) == ((0, 64), 0)


@given(st.integers(0, 2**32 - 1), st.integers(1, 30))
@settings(max_examples=25)
def test_exact_top_equals_numpy(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    codes, queries = to_codes(unit(rng, 50)), unit(rng, 3)
    products = np.array(
        [codes.astype(np.int64) @ to_query(query).codes.astype(np.int64) for query in queries]
    )
    with single_threads(2) as pool:
        found = exact_top(codes, queries, k, pool)
    np.testing.assert_array_equal(found.scores, -np.sort(-products, axis=1)[:, :k])
    np.testing.assert_array_equal(np.take_along_axis(products, found.passages, axis=1), found.scores)


@given(st.integers(0, 2**32 - 1), st.integers(1, 400))
@settings(max_examples=25)
def test_every_vector_has_a_list(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    codes = to_codes(unit(rng, count, 8))
    with single_threads(2) as pool:
        regions = train_regions(codes, max(count // 4, 1), seed % 1000, pool)
        lists = assign(codes, regions, pool)
    assert lists.shape == (count,)
    assert np.all((lists >= 0) & (lists < len(regions.list_centres)))


@given(st.integers(0, 2**32 - 1), st.sampled_from([8, 64, 256, 384]))
@settings(max_examples=25)
def test_codes_are_within_half_a_step(seed: int, dimension: int) -> None:
    rng = np.random.default_rng(seed)
    vectors, queries = unit(rng, 20, dimension), unit(rng, 5, dimension)
    codes, step = to_codes(vectors), code_step(dimension)
    inside = np.abs(vectors) <= 127 * step
    assert np.all(np.abs(codes * step - vectors)[inside] <= step / 2 + 1e-6)
    for query in queries:
        coded = to_query(query)
        scores = (codes.astype(np.float32) @ coded.codes) * coded.unit
        np.testing.assert_allclose(scores, vectors @ query, atol=0.02)


def test_parameters_follow_the_count() -> None:
    assert choose(49_999).kind == "flat"
    counts = (50_000, 1_000_000, 5_000_000, 100_000_000)
    assert [choose(n).lists for n in counts] == [1024, 4096, 8192, 16_384]


def test_recall_has_a_range(tmp_path: Path) -> None:
    vectors = unit(np.random.default_rng(0), 4)
    with pytest.raises(SettingError, match="recall"):
        build_dense(to_codes(vectors), tmp_path / "dense", vectors, recall=1.5)
