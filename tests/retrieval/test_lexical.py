"""BM25 in tantivy: fields, boosts, filters; user text is data."""

from collections.abc import Sequence
from pathlib import Path
from shutil import rmtree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilth.catalog import Product
from tilth.errors import SettingError
from tilth.retrieval.lexical import (
    MOST_TERMS,
    LexicalIndex,
    LexicalSettings,
    LexicalWriter,
    field_terms,
    matched_terms,
    query_terms,
)

SHOP = [
    Product(id="a1", title="Cow manure 20 kg", brand="Humus", product_type="Soil > Manures"),
    Product(id="a2", title="Horse manure 20kg", description="Well rotted. Not for cow parsley."),
    Product(id="a3", title="Wireless headphones WH-1000XM4", mpn="WH1000XM4", brand="Sonor"),
    Product(id="a4", title="Секатор садовый", description="Для обрезки роз", brand="Грядка"),
    Product(id="a5", title="Radio", attributes={"bluetooth": False, "waterproof": True, "weight": "5 кг"}),
]


def build(folder: Path, products: Sequence[Product]) -> LexicalIndex:
    with LexicalWriter(folder / "lexical") as writer:
        for row, product in enumerate(products):
            writer.add(row, product)
    return LexicalIndex(folder / "lexical")


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> LexicalIndex:
    return build(tmp_path_factory.mktemp("shop"), SHOP)


@pytest.mark.parametrize(
    ("query", "first"),
    [
        ("cow manure", 0),
        ("20kg horse manures", 1),
        ("wh 1000 xm4", 2),
        ("WH-1000XM4", 2),
        ("секаторы для розы", 3),
        ("waterproof", 4),
        ("5kg", 4),
        ("a2", 1),
    ],
)
def test_the_right_product_comes_first(index: LexicalIndex, query: str, first: int) -> None:
    assert index.search_rows(query, 3).rows[0] == first


def test_a_negative_attribute_is_not_found_by_its_name(index: LexicalIndex) -> None:
    assert len(index.search_rows("bluetooth", 5).rows) == 0


@pytest.mark.parametrize(
    "query", ["title:cow AND (manure", "+cow -manure", '"cow manure"~2', "cow*", "[a TO b]", "/c.w/"]
)
def test_query_syntax_is_plain_text(index: LexicalIndex, query: str) -> None:
    plain = index.search_rows(" ".join(query_terms(query)), 5)
    assert index.search_rows(query, 5).rows.tolist() == plain.rows.tolist()


@given(st.text(max_size=80))
@settings(max_examples=150, deadline=None)
def test_no_query_is_an_error(index: LexicalIndex, query: str) -> None:
    hits = index.search_rows(query, 5)
    assert (hits.scores > 0).all()
    assert (np.diff(hits.scores) <= 0).all()


def test_a_pasted_page_is_cut_to_its_first_terms() -> None:
    assert len(query_terms(" ".join(f"w{n}x" for n in range(1000)))) == MOST_TERMS


@pytest.mark.parametrize("few", [0, 10_000])
def test_filters_are_exact_however_few_are_allowed(
    index: LexicalIndex, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tilth.retrieval.lexical._FEW_ALLOWED", few)
    assert index.search_rows("manure", 1, np.array([1, 2])).rows.tolist() == [1]
    assert index.search_rows("manure", 5, np.array([2, 3])).rows.tolist() == []
    assert index.search_rows("manure", 5, np.array([], np.int64)).rows.tolist() == []


def test_a_filter_does_not_change_scores(index: LexicalIndex) -> None:
    free = dict(zip(*map(np.ndarray.tolist, index.search_rows("cow manure", 5)), strict=True))
    only = index.search_rows("cow manure", 5, np.array([1]))
    assert only.scores[0] == pytest.approx(free[1], rel=1e-6)


def test_ties_at_the_cut_are_all_returned(tmp_path: Path) -> None:
    same = build(tmp_path, [Product(id=str(n), title="spade") for n in range(60)])
    assert len(same.search_rows("spade", 5).rows) == 60


def test_boosts_order_fields(tmp_path: Path) -> None:
    shop = [Product(id="1", title="rose fork", description="spade"), Product(id="2", title="spade fork")]
    build(tmp_path, shop)
    by_title = LexicalIndex(tmp_path / "lexical", LexicalSettings({"title": 1.0}, tie=0))
    assert by_title.search_rows("spade", 5).rows.tolist() == [1]


@pytest.mark.parametrize(
    "boosts", [{"colour": 1.0}, {"title": -1.0}, {"title": float("inf")}, {"title": float("nan")}]
)
def test_bad_boosts_are_named(boosts: dict[str, float]) -> None:
    with pytest.raises(SettingError, match=next(iter(boosts))):
        LexicalSettings(boosts)


def test_tie_has_a_range() -> None:
    with pytest.raises(SettingError, match="tie is"):
        LexicalSettings(tie=1.5)


def test_matched_terms_name_their_fields() -> None:
    assert matched_terms("cow 20 kg tractor", SHOP[0]) == {
        "cow": ["title", "text"],
        "20kg": ["title", "text"],
        "20": ["title", "text"],
        "kg": ["title", "text"],
    }


def test_every_field_has_a_text() -> None:
    product = Product(
        id="7", title="T", brand="B", gtin="4006381333931", attributes={"inner_width": 4, "lid": True}
    )
    terms = field_terms(product)
    assert terms["identifiers"].split() == ["7", "4006381333931", "4006381333931"]
    assert terms["attributes"] == "inner width 4 lid"
    assert terms["text"].split() == ["t", "t", "b"]


def test_a_writer_that_is_interrupted_leaves_no_thread_in_its_folder(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), LexicalWriter(tmp_path / "lexical", threads=2) as writer:
        for row in range(200):
            writer.add(row, Product(id=f"p{row}", title=f"spade {row}"))
        raise KeyboardInterrupt
    rmtree(tmp_path / "lexical")  # raises if a thread still writes there
    assert not (tmp_path / "lexical").exists()
