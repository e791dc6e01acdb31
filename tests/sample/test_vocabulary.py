import re

import pytest

from tilth.sample.shapes import CATEGORY_WEIGHT, PRICE_EXPONENT, SHAPES
from tilth.sample.vocabulary import LANGUAGES, read_vocabulary

RESERVED = {"type", "brand", "size", "code", "group"}
languages = pytest.mark.parametrize("language", LANGUAGES)


def test_shapes_name_what_exists():
    for shape in SHAPES.values():
        assert shape.category in CATEGORY_WEIGHT
        assert shape.unit in PRICE_EXPONENT
        assert set(shape.substitutes) | set(shape.traps) <= SHAPES.keys()


@languages
def test_forty_types_and_more_with_their_own_attributes(language):
    types = read_vocabulary(language).types
    assert len(types) >= 40
    for kind in types.values():
        assert len(kind.axes) >= 2
        assert all(len(axis.words) >= 2 for axis in kind.axes)
        assert len(kind.lines) >= 3
    assert len({frozenset(axis.name for axis in kind.axes) for kind in types.values()}) > 40
    assert len({kind.path for kind in types.values()}) == len(types)


@languages
def test_facts_of_a_product_have_one_name_each(language):
    for kind in read_vocabulary(language).types.values():
        names = [axis.name for axis in kind.axes]
        assert len(set(names)) == len(names)
        assert not RESERVED & set(names)
        assert kind.size_name not in names, kind.key
        assert kind.varies == "" or kind.varies in names


@languages
def test_spellings_of_a_size_hold_its_number(language):
    vocabulary = read_vocabulary(language)
    for kind in vocabulary.types.values():
        for size, spellings in kind.sizes.items():
            for spelling in spellings:
                number = re.search(r"\d+([.,]\d+)?", spelling)
                assert number is not None
                assert float(number[0].replace(",", ".")) == size


@languages
def test_uses_ask_for_facts_that_products_can_have(language):
    vocabulary = read_vocabulary(language)
    assert len(vocabulary.uses) >= 25
    for use in vocabulary.uses:
        assert len(use.queries) >= 2
        assert [grade for grade, _ in use.answers] == sorted((g for g, _ in use.answers), reverse=True)
        for _, facts in use.answers:
            axes = {axis.name: axis.words for axis in vocabulary.types[facts["type"]].axes}
            assert all(value in axes[name] for name, value in facts.items() if name != "type"), facts


@languages
def test_a_use_is_asked_in_other_words_than_products_are_described(language):
    """The gap in vocabulary is on purpose: no query is a sentence or a noun of the products it wants."""
    vocabulary = read_vocabulary(language)
    for use in vocabulary.uses:
        for _, facts in use.answers:
            texts = {
                text.lower()
                for text in (*vocabulary.types[facts["type"]].lines, *vocabulary.types[facts["type"]].nouns)
            }
            assert not texts & set(use.queries)


@languages
def test_names_tell_types_apart(language):
    owners: dict[str, str] = {}
    for kind in read_vocabulary(language).types.values():
        for name in kind.names:
            assert owners.setdefault(name, kind.key) == kind.key, name


@languages
def test_traps_and_near_trade_name_types(language):
    vocabulary = read_vocabulary(language)
    assert {like for _, like in vocabulary.near_trade} <= SHAPES.keys()
    assert set(vocabulary.brands) == {shape.trade for shape in SHAPES.values()}
