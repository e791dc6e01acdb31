"""Pseudo-queries: made of a product's own words, and of nothing else."""

from random import Random

import pytest

from tilth.catalog import Product
from tilth.encoder_training.pair_sources import (
    CATALOGUE,
    from_attributes,
    from_description,
    from_names,
    from_title,
)
from tilth.encoder_training.texts import ProductText, text_of
from trainings import shop_products

DRAWS = 400
HOSE = text_of(
    Product(
        id="1",
        title="Garden hose reinforced green flexible 25 m coil",
        description="Stays supple in frost and does not kink when it is pulled around corners.",
        brand="Aquaflow",
        product_type="Garden > Watering > Hoses",
        attributes={
            "inner_diameter": "13 mm",
            "length": "25 m",
            "drinking water": True,
            "frost_proof": False,
        },
    )
)
BARE = text_of(Product(id="2", title="Лейка"))


def drawn(source, text: ProductText, count: int = DRAWS) -> set[str]:
    return {source(text, Random(seed)) for seed in range(count)}


def is_run(words: list[str], of: list[str]) -> bool:
    return any(of[start : start + len(words)] == words for start in range(len(of) - len(words) + 1))


def is_part(words: list[str], of: list[str]) -> bool:
    rest = iter(of)
    return all(word in rest for word in words)


def test_a_title_gives_some_of_its_words_in_their_order() -> None:
    title = HOSE.title.split()
    queries = [query.split() for query in drawn(from_title, HOSE)]
    assert all(is_part(query, title) for query in queries)
    assert {len(query) for query in queries} == {1, 2, 3, 4, 5}
    assert any(is_run(query, title) for query in queries if len(query) > 2)
    assert not all(is_run(query, title) for query in queries)
    assert {query[0] for query in queries} >= set(title[:4])


def test_a_short_title_is_a_query_by_itself() -> None:
    assert drawn(from_title, BARE) == {"Лейка"}


def test_a_description_gives_a_run_of_its_words() -> None:
    queries = [query.split() for query in drawn(from_description, HOSE)]
    assert all(is_run(query, HOSE.description.split()) for query in queries)
    assert {len(query) for query in queries} == set(range(2, 9))


@pytest.mark.parametrize("description", ["", "Blue.", "Blue one."])
def test_a_description_of_next_to_nothing_gives_nothing(description: str) -> None:
    text = text_of(Product(id="1", title="Spade", description=description))
    assert drawn(from_description, text) == {""}


def test_an_attribute_keeps_its_unit_beside_its_value() -> None:
    queries = drawn(from_attributes, HOSE)
    wanted = {"13 mm", "inner diameter 13 mm", "25 m", "length 25 m", "drinking water"}
    assert queries >= wanted
    title = HOSE.title.split()
    for query in queries:
        (end,) = [
            each for each in wanted if query.endswith(each) and is_run(query[: -len(each)].split(), title)
        ][:1]
        assert len(query.removesuffix(end).split()) <= 3
    assert not any("frost" in query for query in queries)


def test_of_a_long_value_a_run_of_words_is_taken() -> None:
    words = [f"w{number}" for number in range(5_000)]
    text = text_of(Product(id="1", title="Spade", attributes={"note": " ".join(words)}))
    queries = [query.removeprefix("Spade ").split() for query in drawn(from_attributes, text)]
    assert all(is_run(query, ["note", *words]) and len(query) == 8 for query in queries)
    assert len({query[0] for query in queries}) > 50


def test_names_give_brand_and_type_with_words_of_the_title() -> None:
    queries = drawn(from_names, HOSE)
    assert "Aquaflow Hoses" in queries
    assert all(query.startswith("Aquaflow Hoses") for query in queries)
    rests = [query.removeprefix("Aquaflow Hoses").split() for query in queries]
    assert {len(rest) for rest in rests} == {0, 1, 2}
    assert all(is_run(rest, HOSE.title.split()) for rest in rests)


def test_a_product_without_something_gives_nothing_for_it() -> None:
    assert drawn(from_attributes, BARE) == drawn(from_names, BARE) == {""}


@pytest.mark.parametrize("source", CATALOGUE.values(), ids=CATALOGUE)
@pytest.mark.parametrize("language", ["en", "ru"])
def test_every_word_is_the_products_own(source, language: str) -> None:
    for text in map(text_of, shop_products(300, language)[::10]):
        attributes = " ".join(f"{name} {value}" for name, value in text.attributes)
        own = set(f"{text.title} {text.names} {text.description} {attributes}".split())
        for query in drawn(source, text, 10):
            assert set(query.split()) <= own


@pytest.mark.parametrize("source", CATALOGUE.values(), ids=CATALOGUE)
def test_the_same_seed_gives_the_same_query(source) -> None:
    assert source(HOSE, Random(3)) == source(HOSE, Random(3))
    assert len(drawn(source, HOSE)) > 1
