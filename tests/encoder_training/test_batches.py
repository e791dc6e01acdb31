"""Batches: the same at the same step, and made of what the settings say, in the shares that they say."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from random import Random

import numpy as np
import pytest

from tilth.catalog import Product
from tilth.encoder_training.asked import Asked
from tilth.encoder_training.batches import Batch, Batches, known_pairs
from tilth.encoder_training.material import Material
from tilth.encoder_training.settings import EncoderSettings
from trainings import shop_products

PLAIN = EncoderSettings(
    vocabulary=2_000, batch=64, slips=0.0, strange=0.0, dropped=0.0, hard_negatives=0.0,
    shares={"title": 1.0},
)  # fmt: skip
MARKED = [  # every source has words of its own
    Product(
        id=str(number),
        title=f"tt{number} tt tt{number} tt",
        brand="bb",
        product_type=f"kind{chr(97 + number % 20)}",
        description="dd dd dd dd dd",
        attributes={"aa": "vv"},
    )
    for number in range(200)
]


def lists(bags) -> list[list[int]]:
    return [bags.tokens[a:b].tolist() for a, b in pairwise(bags.ends.tolist())]


def of_product(material: Material, row: int) -> list[list[int]]:
    """The tokens of each of its passages."""
    return lists(material.bags.take(np.arange(*material.first[row : row + 2])))


def queries(batch: Batch, material: Material) -> list[str]:
    return [
        " ".join(material.tokenizer.id_to_token(token) for token in each).replace(" ##", "")
        for each in lists(batch.queries)
    ]


def same(one: Batch, other: Batch) -> bool:
    return (
        lists(one.queries) == lists(other.queries)
        and lists(one.passages) == lists(other.passages)
        and one.weights.tolist() == other.weights.tolist()
    )


@pytest.fixture(scope="module")
def material() -> Material:
    return Material.of(shop_products(300, "both"), PLAIN)


@pytest.fixture(scope="module")
def marked() -> Material:
    return Material.of(MARKED, PLAIN)


def drawn(material: Material, settings: EncoderSettings, asked: Sequence[Asked] = (), steps: int = 30):
    batches = Batches(material, settings, asked)
    return [batches.draw(step, []) for step in range(steps)]


@pytest.mark.parametrize("more", [{}, {"slips": 0.5, "strange": 0.5, "dropped": 0.5, "shares": {"kin": 1.0}}])
def test_a_step_has_the_same_batch_whatever_came_before(material: Material, more: dict) -> None:
    settings = replace(PLAIN, **more)
    batches = Batches(material, settings, [])
    seventh = [batches.draw(step, []) for step in range(8)][7]
    assert same(Batches(material, settings, []).draw(7, []), seventh)
    assert same(batches.draw(7, []), seventh)
    assert not same(batches.draw(6, []), seventh)
    assert not same(Batches(material, replace(settings, seed=1), []).draw(7, []), seventh)


def test_a_batch_has_as_many_pairs_as_wanted(material: Material) -> None:
    batches = Batches(material, PLAIN, [])
    batch = batches.draw(0, [])
    assert len(batch.queries) == len(batch.passages) == len(batch.weights) == batches.size == 64
    assert batch.weights.dtype == np.float32
    assert batch.weights.tolist() == [1.0] * 64
    assert batches.tokens == material.tokenizer.get_vocab_size()


def test_a_catalogue_smaller_than_a_batch_is_a_batch(material: Material) -> None:
    batches = Batches(material, replace(PLAIN, batch=100_000), [])
    assert batches.size == len(material.learned)
    batch = batches.draw(0, [])
    assert len(batch.queries) == len(material.learned)
    whole = {tuple(tokens) for tokens in lists(batch.passages)}
    assert all(whole & set(map(tuple, of_product(material, row))) for row in material.learned)


def test_a_pair_is_a_query_and_a_passage_of_its_product(material: Material) -> None:
    for batch in drawn(material, PLAIN, steps=5):
        for query, passage in zip(lists(batch.queries), lists(batch.passages), strict=True):
            assert set(query) <= set(passage)  # a title opens each passage, and nothing was dropped


@pytest.mark.parametrize("source", ["title", "kin", "asked"])
def test_held_out_products_are_not_learned_from(marked: Material, source: str) -> None:
    """The number of a product is in its title, which is in its passages and in queries of its kin."""
    asked = [Asked("hosepipe", str(row), 1.0) for row in range(len(MARKED))]
    settings = replace(PLAIN, shares={"title": 0.1, source: 1.0})
    held = {str(row) for row in marked.held}
    for batch in drawn(marked, settings, asked):
        shown = queries(batch, marked) + queries(batch._replace(queries=batch.passages), marked)
        words = {word for text in shown for word in text.split()}
        assert words & {str(row) for row in marked.learned}
        assert not words & held


def test_what_is_left_of_a_query_weighs_as_much_as_before(marked: Material) -> None:
    held = str(marked.held[0])
    asked = [Asked("a", "3", 0.2), Asked("a", "gone", 0.3), Asked("a", "5", 0.2), Asked("a", held, 0.3)]
    asked += [Asked("b", "3", 1.0), Asked("c", "gone", 1.0)]
    assert {"3", "5"} <= {str(row) for row in marked.learned}
    known = known_pairs(asked, marked)
    assert [(pair.query, row) for pair, row in known] == [("a", 3), ("a", 5), ("b", 3)]
    assert [pair.weight for pair, _ in known] == pytest.approx([0.5, 0.5, 1.0])


def test_sources_have_their_shares(marked: Material) -> None:
    shares = {"title": 0.1, "description": 0.3, "names": 0.6, "kin": 0.0}
    texts = [
        text for batch in drawn(marked, replace(PLAIN, shares=shares)) for text in queries(batch, marked)
    ]
    counts = {
        "description": sum(text.startswith("dd") for text in texts),
        "names": sum(text.startswith("bb") for text in texts),
    }
    for name, count in counts.items():
        expected = shares[name]
        assert abs(count / len(texts) - expected) < 4 * (expected * (1 - expected) / len(texts)) ** 0.5
    assert sum(counts.values()) < len(texts)


def test_where_a_source_has_nothing_the_title_has_words() -> None:
    bare = Material.of([Product(id=str(n), title=f"tt{n}") for n in range(60)], PLAIN)
    settings = replace(PLAIN, shares={"description": 1.0, "names": 1.0, "attributes": 1.0, "kin": 1.0})
    texts = [text for batch in drawn(bare, settings, steps=3) for text in queries(batch, bare)]
    assert all(text.startswith("tt") for text in texts)


def test_a_pair_of_kin_counts_less(marked: Material) -> None:
    """The number of a product is in its title and in each of its passages."""
    batches = drawn(marked, replace(PLAIN, shares={"kin": 1.0}), steps=10)
    seen = set()
    for batch in batches:
        for query, passage, weight in zip(
            queries(batch, marked), lists(batch.passages), batch.weights.tolist(), strict=True
        ):
            numbers = {word for word in query.split() if word.isdigit()}
            own = numbers <= {marked.tokenizer.id_to_token(token) for token in passage}
            if numbers:
                assert (0 < weight < 1) is not own
                seen.add(weight < 1)
    assert True in seen
    alone = drawn(marked, replace(PLAIN, shares={"title": 1.0}), steps=3)
    assert all((batch.weights == 1).all() for batch in alone)


ASKED = [Asked("hosepipe", "3", 0.75), Asked("hosepipe", "5", 0.25), Asked("nothing", "gone", 1.0)]


def test_asked_pairs_appear_with_their_share_and_weights(marked: Material) -> None:
    settings = replace(PLAIN, shares={"title": 0.7, "asked": 0.3})
    tokens = marked.tokenizer.encode("hosepipe").ids
    three, five = of_product(marked, 3), of_product(marked, 5)
    pairs = [
        (query, passage)
        for batch in drawn(marked, settings, ASKED, steps=60)
        for query, passage in zip(lists(batch.queries), lists(batch.passages), strict=True)
    ]
    asked = [passage for query, passage in pairs if query == tokens]
    assert abs(len(asked) / len(pairs) - 0.3) < 0.03
    of_three = sum(passage in three for passage in asked)
    assert of_three + sum(passage in five for passage in asked) == len(asked)
    assert abs(of_three / len(asked) - 0.75) < 0.05


@pytest.mark.parametrize(
    ("asked", "share"), [(ASKED[2:], 0.9), ([], 0.9), (ASKED, 0.0)], ids=["gone", "none", "no share"]
)
def test_without_asked_pairs_the_catalogue_fills_the_batch(
    marked: Material, asked: list[Asked], share: float
) -> None:
    settings = replace(PLAIN, shares={"title": 0.1, "asked": share})
    texts = [text for batch in drawn(marked, settings, asked, 5) for text in queries(batch, marked)]
    assert all(text.startswith("tt") for text in texts)


def test_wrong_products_come_last(marked: Material) -> None:
    hard = [("hosepipe", 7, 9), ("hosepipe", 7, 11)]
    settings = replace(PLAIN, hard_negatives=0.25)
    tokens = marked.tokenizer.encode("hosepipe").ids
    of = {row: of_product(marked, row) for row in (7, 9, 11)}
    batches, count, rows = Batches(marked, settings, []), 0, set()
    for step in range(40):
        batch = batches.draw(step, hard)
        passages = lists(batch.passages)
        places = [place for place, query in enumerate(lists(batch.queries)) if query == tokens]
        assert len(batch.queries) == len(batch.weights) == batches.size
        assert len(passages) == batches.size + len(places)
        assert all(passages[place] in of[7] for place in places)
        assert all(passage in of[9] + of[11] for passage in passages[batches.size :])
        rows |= {9 if passage in of[9] else 11 for passage in passages[batches.size :]}
        count += len(places)
    assert rows == {9, 11}
    assert abs(count / (40 * batches.size) - 0.25) < 0.04
    assert len(batches.draw(0, []).passages) == batches.size


def test_passages_are_thinned_and_queries_are_not(material: Material) -> None:
    whole = drawn(material, PLAIN, steps=10)
    thin = drawn(material, replace(PLAIN, dropped=0.4), steps=10)
    before, after = (sum(len(batch.passages.tokens) for batch in batches) for batches in (whole, thin))
    assert abs(after / before - 0.6) < 0.03
    assert [lists(batch.queries) for batch in whole] == [lists(batch.queries) for batch in thin]


def test_slips_and_strange_words_have_their_shares(marked: Material) -> None:
    plain = [text for batch in drawn(marked, PLAIN) for text in queries(batch, marked)]
    assert all(
        set(text.split()) <= {"tt", *(f"tt{n}" for n in range(200)), *map(str, range(200))} for text in plain
    )
    words = [f"dd{one}{other}" for one in "abcdefghijkl" for other in "abcdefghijkl"]
    told = [replace(each, description=" ".join(words)) for each in MARKED]
    described = Material.of(told, PLAIN)
    strange = [
        text for batch in drawn(described, replace(PLAIN, strange=0.5)) for text in queries(batch, described)
    ]
    assert abs(sum("d" in text for text in strange) / len(strange) - 0.5) < 0.06
    settings = replace(PLAIN, shares={"description": 1.0})
    slipped = [
        text for batch in drawn(marked, replace(settings, slips=0.5)) for text in queries(batch, marked)
    ]
    share = sum(set(text.split()) != {"dd"} for text in slipped) / len(slipped)
    assert 0.2 < share < 0.55  # a slip between two equal letters changes nothing


def test_strange_words_are_not_those_of_the_only_description() -> None:
    products = [replace(each, description="oak" if each.id == "0" else "") for each in MARKED]
    bare = Material.of(products, PLAIN)
    texts = [text for batch in drawn(bare, replace(PLAIN, strange=0.5)) for text in queries(batch, bare)]
    assert sum("oak" in text.split() for text in texts) < 0.05 * len(texts)


def test_a_pseudo_query_is_of_the_product(marked: Material) -> None:
    batches = Batches(marked, replace(PLAIN, slips=0.9, strange=0.9), [])
    for row in (0, 17, 150):
        words = set(batches.pseudo_query(row, Random(row)).split())
        assert words <= set(MARKED[row].title.split())
