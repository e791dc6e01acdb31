"""Titles and descriptions: the same facts said in many ways, some of them left out."""

import random
from collections.abc import Mapping
from dataclasses import dataclass

from tilth.sample.families import Family, pick
from tilth.sample.vocabulary import PLACES, Axis, ProductType, Vocabulary

TITLE_MENTION = 0.75  # chance that an attribute is named in the title
SIZE_MENTION = 0.85
SPECIFICATION = 0.55  # chance that the description lists the attributes
LEFT_TO_TEXT = 0.3  # chance that a listed attribute is missing from the attributes


@dataclass(frozen=True, slots=True)
class TitleStyle:
    """How the titles of one family are written: word order, synonyms, what is said and what is not."""

    template: str
    noun: str
    synonym: float  # in [0, 1): which of a value's words is taken
    spelling: int | None  # which spelling of the size is taken, None leaves it out
    mentioned: tuple[Axis, ...]


@dataclass(frozen=True, slots=True)
class Description:
    """A description, and the attributes that only it states."""

    text: str
    only_here: frozenset[str]


def draw_title_style(rng: random.Random, vocabulary: Vocabulary, family: Family) -> TitleStyle:
    """Draw the style in which a family's titles are written."""
    kind = family.type
    spellings = len(next(iter(kind.sizes.values())))
    return TitleStyle(
        template=pick(rng, vocabulary.phrases["titles"]),
        noun=pick(rng, kind.nouns),
        synonym=rng.random(),
        spelling=int(rng.random() * spellings) if rng.random() < SIZE_MENTION else None,
        mentioned=tuple(a for a in kind.axes if a.place != "detail" and rng.random() < TITLE_MENTION),
    )


def title(style: TitleStyle, family: Family, size: float, values: Mapping[str, str], code: str) -> str:
    """Write the title of one variant."""
    words: dict[str, list[str]] = {"before": [], "after": []}
    for axis in style.mentioned:
        choices = axis.words[values[axis.name]]
        place, word = choices[int(style.synonym * len(choices))]
        words[place].append(word)
    text = style.template.format(
        brand=family.brand.name,
        noun=style.noun,
        before=" ".join(words["before"]),
        after=" ".join(words["after"]),
        size="" if style.spelling is None else family.type.sizes[size][style.spelling],
        code=code,
    )
    text = " ".join(text.replace("()", "").split())  # what is not said leaves no gap and no comma
    text = text.replace(" ,", ",").replace(",,", ",").replace(",,", ",").strip(", ")
    return text[0].upper() + text[1:]


def describe(rng: random.Random, vocabulary: Vocabulary, family: Family) -> Description:
    """Write the description of a family in two to six sentences, in no fixed order after the first."""
    kind, phrases = family.type, vocabulary.phrases
    lines = [*rng.sample(kind.lines, 1 + int(rng.random() * 2))]
    if rng.random() < 0.5:
        lines.append(pick(rng, kind.category_lines))
    if rng.random() < 0.35:
        lines.append(pick(rng, phrases["notes"]))
    if rng.random() < 0.25:
        other = _neighbour(rng, vocabulary, kind)
        lines.append(pick(rng, phrases["cross"]).format(other=other))
    rng.shuffle(lines)
    if rng.random() < 0.4:
        opener = pick(rng, phrases["openers"]).format(noun=kind.nouns[0], brand=family.brand.name)
        lines.insert(0, opener[0].upper() + opener[1:])
    only_here: frozenset[str] = frozenset()
    if rng.random() < SPECIFICATION:
        listed = [axis.name for axis in kind.axes if axis.name != kind.varies]
        lines.append(specification(listed, family.values))
        only_here = frozenset(name for name in listed if rng.random() < LEFT_TO_TEXT)
    return Description(" ".join(lines), only_here)


def specification(names: list[str], values: Mapping[str, str]) -> str:
    """List attributes as `Name: value; name: value.`."""
    text = "; ".join(f"{name.replace('_', ' ')}: {values[name]}" for name in names)
    return f"{text[0].upper()}{text[1:]}."


def phrase(rng: random.Random, kind: ProductType, values: Mapping[str, str]) -> str:
    """Write a type and some of its values as one would say them, with random synonyms and no size."""
    parts: dict[str, list[str]] = {place: [] for place in PLACES}
    for axis in kind.axes:
        if axis.name in values:
            place, word = pick(rng, axis.words[values[axis.name]])
            parts[place].append(word)
    nouns = kind.nouns if parts["before"] or parts["after"] else kind.names
    return " ".join([*parts["before"], pick(rng, nouns), *parts["after"], *parts["detail"]])


def _neighbour(rng: random.Random, vocabulary: Vocabulary, kind: ProductType) -> str:
    """Name another article of the shop, more often than not one that is easily confused with this."""
    traps = kind.shape.traps
    key = pick(rng, traps) if traps and rng.random() < 0.6 else pick(rng, tuple(vocabulary.types))
    other = vocabulary.types[key]
    axis = next((axis for axis in other.axes if axis.place != "detail"), None)
    return phrase(rng, other, {axis.name: pick(rng, tuple(axis.words))} if axis else {})
