"""What training reads of products: a fair sample of a stream, short texts, families."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tilth.catalog import Product
from tilth.encoder_training.texts import families, sampled, text_of


def products(count: int) -> list[Product]:
    return [Product(id=str(number), title=f"Spade {number}") for number in range(count)]


def test_every_sample_has_the_same_chance() -> None:
    """Two of four are six samples; the 99.9% point of chi-square with 5 degrees of freedom is 20.5."""
    four, draws = products(4), 3_000
    seen = Counter(tuple(each.id for each in sampled(four, 2, seed)) for seed in range(draws))
    assert len(seen) == 6
    assert sum((count - draws / 6) ** 2 / (draws / 6) for count in seen.values()) < 20.5


def test_every_product_of_a_long_stream_has_the_same_chance() -> None:
    """Of 100 products, each is among ten with probability 0.1; the 99.9% point with 99 is 148.2."""
    hundred, draws = products(100), 500
    seen = Counter(each.id for seed in range(draws) for each in sampled(hundred, 10, seed))
    expected, variance = draws * 0.1, draws * 0.1 * 0.9
    assert sum((seen[each.id] - expected) ** 2 / variance for each in hundred) * 99 / 100 < 148.2


@pytest.mark.parametrize("seed", range(5))
def test_a_sample_keeps_the_order_and_has_nothing_twice(seed: int) -> None:
    numbers = [int(each.id) for each in sampled(products(200), 30, seed)]
    assert len(numbers) == 30
    assert numbers == sorted(set(numbers))


def test_a_seed_draws_the_same_and_another_one_others() -> None:
    assert sampled(products(200), 30, 1) == sampled(products(200), 30, 1)
    assert sampled(products(200), 30, 1) != sampled(products(200), 30, 2)


@pytest.mark.parametrize("most", [3, 4, 100])
def test_few_products_are_all_taken(most: int) -> None:
    assert sampled(iter(products(3)), most, 0) == products(3)


def test_some_products_are_kept_in_any_case() -> None:
    always = {"7", "150", "199", "elsewhere"}
    for seed in range(5):
        numbers = [int(each.id) for each in sampled(products(200), 30, seed, always=always)]
        assert {7, 150, 199} <= set(numbers)
        assert numbers == sorted(set(numbers))
        assert len(numbers) == 29  # the room of the one that is not there stays empty
    seen = Counter(
        each.id for seed in range(2_000) for each in sampled(products(10), 4, seed, always={"0", "9"})
    )
    assert seen["0"] == seen["9"] == 2_000
    others = [seen[str(number)] for number in range(1, 9)]
    assert sum((count - 500) ** 2 / 500 for count in others) < 25


def test_of_too_many_that_are_to_be_kept_some_are() -> None:
    always = {str(number) for number in range(100)}
    drawn = [sampled(products(200), 30, seed, always=always) for seed in range(3)]
    for each in drawn:
        assert len(each) == 30
        assert sum(product.id in always for product in each) >= 15
    assert drawn[0] != drawn[1]


def test_a_stream_is_read_once_and_let_go() -> None:
    """No more products are alive at a time than the sample has, but for the one in the reader's hand."""
    alive: set[int] = set()
    most_alive = 0

    class Tracked:
        def __init__(self, number: int) -> None:
            self.number = number
            alive.add(number)

        def __del__(self) -> None:
            alive.discard(self.number)

    def stream() -> Iterator[Any]:
        nonlocal most_alive
        for number in range(500):
            yield Tracked(number)
            most_alive = max(most_alive, len(alive))

    assert len(sampled(stream(), 20, 0)) == 20
    assert 20 <= most_alive <= 22


def test_the_text_of_a_product() -> None:
    product = Product(
        id="1",
        title="Секатор садовый",
        description="Для роз.",
        brand="Грядка",
        product_type="Сад > Инструмент > Секаторы",
        item_group_id="g1",
        attributes={
            "blade_length": "20 cm",
            "electric": False,
            "bluetooth": "no",
            "with_case": True,
            "вес": 0.4,
        },
    )
    text = text_of(product)
    assert text.product_id == "1"
    assert text.title == "Секатор садовый"
    assert text.names == "Грядка Секаторы"
    assert text.description == "Для роз."
    assert text.attributes == (("blade length", "20 cm"), ("with case", ""), ("вес", "0.4"))
    assert (text.group, text.kind) == ("g1", "Сад > Инструмент > Секаторы")


def test_what_a_product_lacks_is_empty() -> None:
    text = text_of(Product(id="1", title="Spade"))
    assert (text.names, text.description, text.attributes, text.group, text.kind) == ("", "", (), "", "")
    assert text_of(Product(id="1", title="Spade", product_type="Spades")).names == "Spades"


def test_a_long_text_is_cut() -> None:
    attributes = {f"a{number}": number for number in range(5_000)}
    text = text_of(Product(id="1", title="Spade", description="word " * 50_000, attributes=attributes))
    assert len(text.description) < 50_000
    assert len(text.attributes) < 5_000
    assert ("word " * 50_000).startswith(text.description)
    assert text.attributes[0] == ("a0", "0")


def test_a_family_is_the_group_or_else_the_type() -> None:
    rows = [("g1", "Spades"), ("g1", "Spades"), ("", "Spades"), ("alone", "Spades"), ("", ""), ("alone2", "")]
    texts = [
        text_of(Product(id=str(n), title="Spade", item_group_id=group, product_type=kind))
        for n, (group, kind) in enumerate(rows)
    ]
    kind = (0, 1, 2, 3)
    assert families(texts) == [(0, 1), (0, 1), kind, kind, (), ()]
