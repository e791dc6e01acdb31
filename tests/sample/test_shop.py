import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tilth.catalog import Product
from tilth.errors import SettingError
from tilth.qrels import read_qrels
from tilth.query import read_queries
from tilth.sample.products import CHUNK
from tilth.sample.shop import write_shop

NAMES = ("products.jsonl", "queries.tsv", "qrels.tsv")


def contents(folder):
    return [(folder / name).read_bytes() for name in NAMES]


def test_the_same_arguments_give_the_same_bytes(tmp_path):
    for folder in ("a", "b"):
        write_shop(tmp_path / folder, products=1000, language="both", seed=5)
    write_shop(tmp_path / "c", products=1000, language="both", seed=6)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert all(a != c for a, c in zip(contents(tmp_path / "a"), contents(tmp_path / "c"), strict=True))


def test_a_larger_shop_begins_with_the_smaller(tmp_path):
    write_shop(tmp_path / "small", products=CHUNK + 100)
    write_shop(tmp_path / "large", products=2 * CHUNK + 100)
    small, large = contents(tmp_path / "small"), contents(tmp_path / "large")
    assert large[0].startswith(small[0])
    assert large[1] == small[1]


@pytest.mark.parametrize("language", ["en", "ru", "both"])
def test_files_are_what_the_readers_expect(tmp_path, language):
    summary = write_shop(tmp_path, products=1001, language=language)
    rows = [json.loads(line) for line in (tmp_path / "products.jsonl").open(encoding="utf-8")]
    products = [Product(**row) for row in rows]
    queries, qrels = read_queries(tmp_path / "queries.tsv"), read_qrels(tmp_path / "qrels.tsv")
    assert len(products) == len({p.id for p in products}) == summary.products == 1001
    assert len(queries) == summary.queries
    assert sum(len(qrels[q]) for q in qrels) == summary.judgments
    assert set(qrels) <= {q.query_id for q in queries}
    assert {p for q in qrels for p in qrels[q]} <= {p.id for p in products}
    assert {g for q in qrels for g in qrels[q].values()} == {0, 1, 2, 3}
    assert summary.capped == ()


def test_a_shop_in_both_languages_is_half_and_half(tmp_path):
    write_shop(tmp_path, products=1001, language="both")
    ids = [json.loads(line)["id"][:2] for line in (tmp_path / "products.jsonl").open(encoding="utf-8")]
    assert (ids.count("en"), ids.count("ru")) == (501, 500)
    qrels = read_qrels(tmp_path / "qrels.tsv")
    assert all(query[:2] == product[:2] for query in qrels for product in qrels[query])


def test_broad_queries_of_a_large_shop_are_named_as_capped(tmp_path, monkeypatch):
    monkeypatch.setattr("tilth.sample.grading.MOST_RELEVANT", 30)
    summary = write_shop(tmp_path, products=2000)
    qrels = read_qrels(tmp_path / "qrels.tsv")
    relevant = {q: sum(g > 0 for g in qrels[q].values()) for q in qrels}
    assert max(relevant.values()) == 30
    assert set(summary.capped) <= {q for q, n in relevant.items() if n == 30}
    assert any("-type-" in q for q in summary.capped)
    assert not any("-code-" in q for q in summary.capped)


def test_progress_counts_products(tmp_path):
    seen = []
    write_shop(tmp_path, products=CHUNK + 5, progress=seen.append)
    assert seen == [CHUNK, CHUNK + 5]


def test_an_interrupt_leaves_what_was_there(tmp_path):
    write_shop(tmp_path, products=10)
    before = contents(tmp_path)

    def interrupt(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shop(tmp_path, products=5000, progress=interrupt)
    assert contents(tmp_path) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(NAMES)


@pytest.mark.parametrize("products", [0, -3, 5_000_001])
def test_a_count_out_of_range_is_named(tmp_path, products):
    with pytest.raises(SettingError, match=r"1 to 5,000,000 products"):
        write_shop(tmp_path, products=products)
    assert not list(tmp_path.iterdir())


def test_an_unknown_language_is_named(tmp_path):
    with pytest.raises(SettingError, match="en, ru or both, not 'de'"):
        write_shop(tmp_path, products=10, language="de")


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(-(2**31), 2**63),
    products=st.integers(1, 60),
    language=st.sampled_from(["en", "ru", "both"]),
)
def test_any_seed_makes_a_shop(tmp_path, seed, products, language):
    summary = write_shop(tmp_path, products=products, language=language, seed=seed)
    qrels = read_qrels(tmp_path / "qrels.tsv")
    kinds = {query.query_id: query.kind for query in read_queries(tmp_path / "queries.tsv")}
    assert summary.products == len((tmp_path / "products.jsonl").read_bytes().splitlines()) == products
    for query_id in qrels:
        assert (max(qrels[query_id].values()) == 3) == (kinds[query_id] != "none")
