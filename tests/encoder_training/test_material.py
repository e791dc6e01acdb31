"""Products as tokens: passages as an index cuts them, and which products are held out."""

from dataclasses import replace

import numpy as np
import pytest

from tilth.catalog import Product
from tilth.encoder_training.bags import Bags
from tilth.encoder_training.material import Material
from trainings import SHORT, shop_products

LONG = Product(id="long", title="Compost", description="Rotted leaves feed the soil of roses. " * 60)
UNREADABLE = Product(id="u", title="x" * 5_000)  # data, of which no passage is made
FEW = [Product(id="a", title="Spade"), LONG, UNREADABLE, Product(id="b", title="Лейка 8 л")]


@pytest.fixture(scope="module")
def material() -> Material:
    return Material.of(FEW, SHORT)


def test_the_passages_of_a_product_stand_side_by_side(material: Material) -> None:
    assert material.first.tolist()[0] == 0
    assert material.first[-1] == len(material.passages) == len(material.bags)
    counts = np.diff(material.first).tolist()
    assert counts == [1, max(counts), 1, 1]
    assert counts[1] > 1
    assert material.passages[material.first[3]] == "Лейка 8 л"
    tokens = material.bags.take(np.array([material.first[0]])).tokens.tolist()
    assert tokens == material.tokenizer.encode("Spade").ids


def test_a_product_without_a_passage_has_an_empty_one(material: Material) -> None:
    place = material.first[2]
    assert len(material.bags.take(np.array([place])).tokens) == 0
    own = {int(material.some_passage(np.array([2]), np.random.default_rng(seed))[0]) for seed in range(20)}
    assert own == {place}


def test_some_passage_is_any_of_a_products_own(material: Material) -> None:
    first, end = material.first[1:3].tolist()
    rows = np.array([1, 0, 1] * 200)
    numbers = material.some_passage(rows, np.random.default_rng(0))
    assert set(numbers[rows == 0].tolist()) == {0}
    seen, counts = np.unique(numbers[rows == 1], return_counts=True)
    assert seen.tolist() == list(range(first, end))
    expected = 400 / (end - first)
    assert ((counts - expected) ** 2 / expected).sum() < 20


@pytest.mark.parametrize("rows", [[0, 1, 2, 3], [3, 1], [1, 1, 0], []])
def test_all_passages_of_products_with_their_places(material: Material, rows: list[int]) -> None:
    numbers, places = material.passages_of(np.array(rows, np.int64))
    wanted = [
        (number, place)
        for place, row in enumerate(rows)
        for number in range(material.first[row], material.first[row + 1])
    ]
    assert list(zip(numbers.tolist(), places.tolist(), strict=True)) == wanted


def test_some_products_are_held_out_and_the_others_learned_from() -> None:
    products = shop_products(300, "both")
    material = Material.of(products, SHORT)
    held, learned = set(material.held.tolist()), set(material.learned.tolist())
    assert held | learned == set(range(300))
    assert not held & learned
    assert 0 < len(held) < 100
    again = Material.of(products, SHORT)
    np.testing.assert_array_equal(again.held, material.held)
    np.testing.assert_array_equal(again.bags.tokens, material.bags.tokens)
    other = Material.of(products, replace(SHORT, seed=SHORT.seed + 1))
    assert set(other.held.tolist()) != held


@pytest.mark.parametrize("judged", [100, 298, 300])
def test_what_queries_lead_to_is_held_out_last(judged: int) -> None:
    products = shop_products(300, "both")
    ids = {product.id for product in products[:judged]}
    material = Material.of(products, SHORT, ids)
    held = [products[row].id in ids for row in material.held]
    assert len(held) == len(Material.of(products, SHORT).held)
    assert sum(held) == max(0, len(held) - (300 - judged))


def test_a_word_that_is_too_long_is_no_token_and_takes_no_time() -> None:
    long = "".join(chr(97 + n * n % 26) for n in range(60_000))
    products = [*shop_products(300, "en"), Product(id="long", title=f"Spade {long}")]
    without = [*shop_products(300, "en"), Product(id="long", title="Spade ")]
    one, other = (Material.of(each, SHORT).tokenizer.to_str() for each in (products, without))
    assert one == other


def test_tokens_are_learned_from_all_that_products_say() -> None:
    product = Product(
        id="1",
        title="Spade",
        brand="Humus",
        description="Rotted leaves",
        product_type="Tools > Spades",
        attributes={"handle": "ashwood"},
    )
    tokenizer = Material.of([product] * 3, replace(SHORT, vocabulary=500)).tokenizer
    for word in ("spade", "humus", "rotted", "leaves", "spades", "handle", "ashwood"):
        assert tokenizer.encode(word).tokens == [word]
    assert len(Bags.of(tokenizer, ["Spade Humus"]).tokens) == 2
