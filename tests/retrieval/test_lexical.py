"""BM25 in tantivy: weights, filters, updates; user text is data."""

from collections.abc import Iterable, Sequence
from math import log
from pathlib import Path
from shutil import rmtree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilth.catalog import Product
from tilth.errors import SettingError
from tilth.protocols import Allowed
from tilth.retrieval.lexical import (
    MOST_TERMS,
    LexicalIndex,
    LexicalSettings,
    LexicalUpdater,
    LexicalWriter,
    clone,
    field_terms,
    lexical_document,
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


def build(folder: Path, products: Sequence[Product], threads: int = 1) -> LexicalIndex:
    with LexicalWriter(folder / "lexical", threads=threads) as writer:
        for row, product in enumerate(products):
            writer.add(lexical_document(row, product))
    return LexicalIndex(folder / "lexical")


def only(*rows: int, of: int = len(SHOP)) -> Allowed:
    """Allow some rows."""
    allowed = np.zeros(of, np.bool_)
    allowed[list(rows)] = True
    return allowed


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


@pytest.mark.parametrize("cost", [0, 1e9], ids=["as a set", "read on"])
def test_filters_are_exact_however_few_are_allowed(
    index: LexicalIndex, cost: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tilth.retrieval.lexical._SET_COST", cost)
    assert index.search_rows("manure", 1, only(1, 2)).rows.tolist() == [1]
    assert index.search_rows("manure", 5, only(2, 3)).rows.tolist() == []
    assert index.search_rows("manure", 5, only()).rows.tolist() == []


@pytest.mark.parametrize("cost", [0, 1e9], ids=["as a set", "read on"])
def test_a_filter_does_not_change_scores(
    index: LexicalIndex, cost: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tilth.retrieval.lexical._SET_COST", cost)
    free = scores(index, "cow manure")
    assert scores(index, "cow manure", only(1)) == {1: pytest.approx(free[1], rel=1e-6)}


def scores(index: LexicalIndex, text: str, allowed: Allowed | None = None, k: int = 1000) -> dict[int, float]:
    hits = index.search_rows(text, k, allowed)
    return dict(zip(hits.rows.tolist(), hits.scores.tolist(), strict=True))


def test_ties_at_the_cut_are_all_returned(tmp_path: Path) -> None:
    same = build(tmp_path, [Product(id=str(n), title="spade") for n in range(60)])
    assert len(same.search_rows("spade", 5).rows) == 60


def test_a_score_is_that_of_bm25(tmp_path: Path) -> None:
    # Titles count six times, the description four times, identifiers once: 7, 7 and 11 terms.
    shop = [Product(id="a", title="spade"), Product(id="b", title="fork")]
    shop.append(Product(id="c", title="rake", description="spade"))
    index = build(tmp_path, shop)
    inverse, mean = log(1 + (3 - 2 + 0.5) / (2 + 0.5)), (7 + 7 + 11) / 3
    expected = {
        row: inverse * 2.2 * times / (times + 1.2 * (0.25 + 0.75 * length / mean))
        for row, times, length in ((0, 6, 7), (2, 4, 11))
    }
    assert scores(index, "spade") == pytest.approx(expected, rel=1e-5)


def test_a_title_counts_more_than_a_description_and_that_more_than_an_attribute(tmp_path: Path) -> None:
    shop = [
        Product(id="1", title="rake", attributes={"for": "compost"}),
        Product(id="2", title="rake", description="for compost"),
        Product(id="3", title="compost"),
    ]
    assert build(tmp_path, shop).search_rows("compost", 3).rows.tolist() == [2, 1, 0]


@pytest.mark.parametrize("settings", [{"title": 0}, {"prose": 21}])
def test_weights_have_a_range(settings: dict[str, int]) -> None:
    with pytest.raises(SettingError, match=f"the {next(iter(settings))} is to count"):
        LexicalSettings(**settings)


# Words and the share of products that have them.
WORDS = {"rake": 0.01, "spade": 0.03, "fork": 0.1, "hoe": 0.2, "compost": 0.4, "soil": 0.7}


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> LexicalIndex:
    """Open an index of six hundred products with random words in their titles and descriptions."""
    draw = np.random.default_rng(7).random
    shop = [
        Product(
            id=f"p{n}",
            title=" ".join(["x", *(word for word, share in WORDS.items() if draw() < share)]),
            description=" ".join(
                word for word, share in WORDS.items() for _ in range(3) if draw() < share / 3
            ),
        )
        for n in range(600)
    ]
    return build(tmp_path_factory.mktemp("many"), shop)


@given(
    st.lists(st.sampled_from([*WORDS, "x"]), min_size=1, unique=True),
    st.integers(1, 30),
    st.sampled_from([None, 0.02, 0.3]),
    st.sampled_from([0.0, 3.0, 1e9]),
)
@settings(max_examples=80, deadline=None)
def test_what_is_left_out_while_searching_would_not_have_been_among_the_best(
    many: LexicalIndex, query: list[str], k: int, share: float | None, cost: float
) -> None:
    parts = [scores(many, word) for word in query]  # a single term leaves nothing out
    total = {row: sum(part.get(row, 0.0) for part in parts) for part in parts for row in part}
    allowed = None if share is None else np.random.default_rng(k).random(600) < share
    best = sorted((s for row, s in total.items() if allowed is None or allowed[row]), reverse=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tilth.retrieval.lexical._SET_COST", cost)
        patch.setattr("tilth.retrieval.pruning._ENOUGH", 1)
        patch.setattr("tilth.retrieval.rows._MARGIN", 1)
        hits = many.search_rows(" ".join(query), k, allowed)
    assert hits.scores[:k].tolist() == pytest.approx(best[:k], rel=1e-5)
    assert hits.scores.tolist() == pytest.approx([total[row] for row in hits.rows.tolist()], rel=1e-5)


def test_scores_do_not_depend_on_how_the_index_was_written(tmp_path: Path) -> None:
    shop = [Product(id=f"p{n}", title=f"spade {'rake' * (n % 3)}", brand=f"b{n % 5}") for n in range(300)]
    one, two = build(tmp_path / "one", shop), build(tmp_path / "two", shop, threads=2)
    (tmp_path / "grown").mkdir()
    build(tmp_path / "grown", shop[:200])
    update(tmp_path / "grown" / "lexical", add=enumerate(shop[200:], start=200))
    grown = LexicalIndex(tmp_path / "grown" / "lexical")
    for query in ("spade b3", "rake", "spade"):
        assert scores(one, query) == scores(two, query) == scores(grown, query)


def update(folder: Path, *, add: Iterable[tuple[int, Product]] = (), delete: Iterable[int] = ()) -> None:
    updater = LexicalUpdater(folder)
    for row in delete:
        updater.delete(row)
    for row, product in add:
        updater.add(lexical_document(row, product))
    updater.commit()
    updater.close()


def test_changes_are_seen_by_the_refreshed_index_alone(tmp_path: Path) -> None:
    before = build(tmp_path, SHOP)
    update(tmp_path / "lexical", add=[(5, Product(id="a6", title="Sheep manure"))], delete=[0, 17])
    after = before.refreshed()
    assert (len(before), len(after)) == (5, 5)
    assert set(scores(before, "manure")) == {0, 1}
    assert set(scores(after, "manure")) == {1, 5}
    assert after.identified_rows("a6").tolist() == []  # too short for an identifier
    assert after.knows("sheep")
    assert not before.knows("sheep")


def test_a_deleted_row_can_be_added_again(tmp_path: Path) -> None:
    index = build(tmp_path, SHOP)
    update(tmp_path / "lexical", delete=[1], add=[(1, Product(id="a2", title="Hay"))])
    assert set(scores(index.refreshed(), "hay horse")) == {1}
    assert set(scores(index.refreshed(), "horse")) == set()


def test_an_index_of_which_nearly_all_was_deleted_still_answers(tmp_path: Path) -> None:
    shop = [Product(id=f"p{n}", title="spade") for n in range(300)]
    index = build(tmp_path, shop)
    update(tmp_path / "lexical", delete=range(299))
    assert list(scores(index.refreshed(), "spade p299")) == [299]
    update(tmp_path / "lexical", delete=[299])
    assert scores(index.refreshed(), "spade") == {}


def test_what_was_not_committed_is_dropped(tmp_path: Path) -> None:
    index = build(tmp_path, SHOP)
    updater = LexicalUpdater(tmp_path / "lexical")
    updater.delete(0)
    updater.close()
    assert len(index.refreshed()) == 5


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in sorted(folder.iterdir())}


def test_changing_a_clone_changes_nothing_of_the_original(tmp_path: Path) -> None:
    index = build(tmp_path, [Product(id=f"p{n}", title=f"spade {n}") for n in range(300)])
    before = contents(tmp_path / "lexical")
    clone(tmp_path / "lexical", tmp_path / "clone")
    assert any(file.is_symlink() for file in (tmp_path / "clone").iterdir())
    for start in range(0, 300, 20):  # enough commits for small segments to be merged
        new = [(1000 + start, Product(id=f"q{start}", title="spade new"))]
        update(tmp_path / "clone", delete=range(start, start + 19), add=new)
    changed = LexicalIndex(tmp_path / "clone")
    assert len(changed) == 15 + 15
    assert len(scores(changed, "spade")) == 30
    assert contents(tmp_path / "lexical") == before
    assert len(scores(index.refreshed(), "spade")) == 300


def test_rarity_is_the_inverse_document_frequency_of_any_field(index: LexicalIndex) -> None:
    terms = ["manur", "20kg", "роз", "wh1000xm4", "nobodi"]  # the first: two titles and a type
    frequencies = [2, 2, 1, 1, 0]
    expected = [log(1 + (5 - frequency + 0.5) / (frequency + 0.5)) for frequency in frequencies]
    np.testing.assert_allclose(index.rarity(terms), expected)
    assert index.rarity([]).shape == (0,)


def test_rarity_counts_what_was_deleted_until_it_is_merged_away(tmp_path: Path) -> None:
    base = build(tmp_path, SHOP)
    updater = LexicalUpdater(tmp_path / "lexical")
    updater.delete(0)
    updater.add(lexical_document(5, Product(id="a6", title="Cow bell")))
    updater.commit()
    after = base.refreshed()
    updater.close()
    assert base.rarity(["cow"])[0] == pytest.approx(log(1 + 3.5 / 2.5))
    assert after.rarity(["cow"])[0] == pytest.approx(log(1 + 3.5 / 3.5))  # 3 of 6, one of them no more


def test_matched_terms_name_their_fields() -> None:
    assert matched_terms("cow 20 kg tractor", SHOP[0]) == {
        "cow": ["title", "text"],
        "20kg": ["title", "text"],
        "20": ["title", "text"],
        "kg": ["title", "text"],
    }


def test_every_field_has_its_terms() -> None:
    product = Product(
        id="7", title="T", brand="B", gtin="4006381333931", attributes={"inner_width": 4, "lid": True}
    )
    terms = field_terms(product)
    assert terms["identifiers"] == {"7", "4006381333931"}
    assert terms["attributes"] == {"inner", "width", "4", "lid"}
    assert terms["text"] == {"t", "b"}


def test_a_writer_that_is_interrupted_leaves_no_thread_in_its_folder(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), LexicalWriter(tmp_path / "lexical", threads=2) as writer:
        for row in range(200):
            writer.add(lexical_document(row, Product(id=f"p{row}", title=f"spade {row}")))
        raise KeyboardInterrupt
    rmtree(tmp_path / "lexical")  # raises if a thread still writes there
    assert not (tmp_path / "lexical").exists()
