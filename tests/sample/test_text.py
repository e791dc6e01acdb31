import random

import pytest

from tilth.sample.families import draw_family
from tilth.sample.text import describe, draw_title_style, phrase, specification, title
from tilth.sample.vocabulary import LANGUAGES, read_vocabulary


@pytest.fixture(params=LANGUAGES)
def vocabulary(request):
    return read_vocabulary(request.param)


def test_titles_of_one_family_vary(vocabulary):
    rng = random.Random(1)
    family = draw_family(rng, vocabulary, 0)
    size = family.type.shape.sizes[0]
    styles = [draw_title_style(rng, vocabulary, family) for _ in range(60)]
    titles = [title(style, family, size, family.values, "AB-1") for style in styles]
    assert len(set(titles)) > 30
    assert any(family.brand.name not in text for text in titles)
    assert any(family.brand.name in text for text in titles)


def test_what_attributes_lack_the_description_says(vocabulary):
    rng = random.Random(2)
    hidden = 0
    for number in range(200):
        family = draw_family(rng, vocabulary, number)
        description = describe(rng, vocabulary, family)
        for name in description.only_here:
            hidden += 1
            assert f"{name.replace('_', ' ')}: {family.values[name]}".lower() in description.text.lower()
            assert name != family.type.varies
    assert hidden > 30


def test_a_phrase_names_the_type_and_every_value(vocabulary):
    rng = random.Random(3)
    for number in range(100):
        family = draw_family(rng, vocabulary, number)
        text = phrase(rng, family.type, family.values)
        assert any(noun in text for noun in family.type.nouns)
        for axis in family.type.axes:
            assert any(word in text for _, word in axis.words[family.values[axis.name]])


def test_a_phrase_without_values_uses_a_name_of_its_own():
    kind = read_vocabulary("en").types["vegetable_seeds"]
    assert phrase(random.Random(0), kind, {}) in kind.names
    assert phrase(random.Random(0), kind, {"crop": "tomatoes"}) in {"tomato seeds", "tomato seed"}


def test_specification_is_one_sentence():
    assert specification(["form", "sowing_month"], {"form": "dried", "sowing_month": "May"}) == (
        "Form: dried; sowing month: May."
    )
