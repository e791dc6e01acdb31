"""The words of one language: product types, brands, phrases and uses, read from its TOML file."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal

from tilth.sample.shapes import SHAPES, Shape

LANGUAGES = {"en": "english.toml", "ru": "russian.toml"}
Place = Literal["before", "after", "detail"]
PLACES: tuple[Place, ...] = ("before", "after", "detail")


@dataclass(frozen=True, slots=True)
class Axis:
    """One attribute of a product type: its values, and the words that a title or query has for each.

    Each word comes with its place in a phrase: before the noun or after it. Words of a detail are only
    said in queries.
    """

    name: str
    place: Place
    words: Mapping[str, tuple[tuple[Place, str], ...]]


@dataclass(frozen=True, slots=True)
class ProductType:
    """A product type in one language; `varies` names the axis that differs between variants, if any."""

    key: str
    shape: Shape
    path: str
    nouns: tuple[str, ...]
    names: tuple[str, ...]  # nouns that tell the type from all others, said alone
    axes: tuple[Axis, ...]
    varies: str
    lines: tuple[str, ...]
    category_lines: tuple[str, ...]
    size_name: str
    sizes: Mapping[float, tuple[str, ...]]  # size -> its spellings; the first is the attribute's


@dataclass(frozen=True, slots=True)
class Brand:
    """A brand: its price level (1 is usual) and the pattern of its part numbers, with `{n}` and `{v}`."""

    name: str
    level: float
    code: str


@dataclass(frozen=True, slots=True)
class Use:
    """What somebody wants to achieve: how they ask, and the facts of the products that help, by grade."""

    queries: tuple[str, ...]
    answers: tuple[tuple[int, Mapping[str, str]], ...]


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Everything that the sample shop says in one language."""

    language: str
    currency: str
    rate: float  # of the currency to one EUR
    types: Mapping[str, ProductType]
    brands: Mapping[str, tuple[Brand, ...]]  # by trade
    uses: tuple[Use, ...]
    phrases: Mapping[str, tuple[str, ...]]
    out_of_trade: tuple[str, ...]
    near_trade: tuple[tuple[str, str], ...]  # query, the type whose products look like an answer


@cache
def read_vocabulary(language: str) -> Vocabulary:
    """Read the vocabulary of a language, a key of `LANGUAGES`."""
    text = resources.files("tilth.sample").joinpath(LANGUAGES[language]).read_text("utf-8")
    data = tomllib.loads(text)
    none = data["none"]
    return Vocabulary(
        language=language,
        currency=data["currency"],
        rate=data["rate"],
        types={key: _product_type(key, data) for key in SHAPES},
        brands={trade: tuple(Brand(**row) for row in rows) for trade, rows in data["brands"].items()},
        uses=tuple(_use(row) for row in data["uses"]),
        phrases={name: tuple(lines) for name, lines in data["phrases"].items()},
        out_of_trade=tuple(none["out_of_trade"]),
        near_trade=tuple((row["query"], row["like"]) for row in none["near_trade"]),
    )


def _product_type(key: str, data: Mapping[str, Any]) -> ProductType:
    shape, row = SHAPES[key], data["types"][key]
    category = data["categories"][shape.category]
    return ProductType(
        key=key,
        shape=shape,
        path=f"{data['root']} > {category['name']} > {row['name']}",
        nouns=tuple(row["nouns"]),
        names=tuple(row.get("names", row["nouns"])),
        axes=tuple(
            _axis(name, place, values) for place in PLACES for name, values in row.get(place, {}).items()
        ),
        varies=row.get("varies", ""),
        lines=tuple(row["lines"]),
        category_lines=tuple(category["lines"]),
        size_name=row.get("size_name", data["measures"][shape.measure]),
        sizes={
            size: _spellings(size, row.get("size_forms", data["units"][shape.unit]), data["decimal"])
            for size in shape.sizes
        },
    )


def _axis(name: str, place: Place, values: list[str | int]) -> Axis:
    """Parse values written `word|other word`, or `value=word|other word` where no word is the value.

    A word that begins with ~ stands after the noun, whatever the place of its axis.
    """
    words: dict[str, tuple[tuple[Place, str], ...]] = {}
    for text in map(str, values):
        value, equals, rest = text.partition("=")
        alternatives = (rest if equals else value).split("|")
        key = value if equals else alternatives[0].removeprefix("~")
        words[key] = tuple(("after", w[1:]) if w[0] == "~" else (place, w) for w in alternatives)
    return Axis(name, place, words)


def _spellings(size: float, forms: list[str], decimal: str) -> tuple[str, ...]:
    plain = f"{size:g}".replace(".", decimal)
    fixed = plain if decimal in plain else f"{plain}{decimal}0"
    return tuple(form.format(n=plain, d=fixed) for form in forms)


def _use(row: Mapping[str, Any]) -> Use:
    answers = [(3, f) for f in row["best"]] + [(2, f) for f in row.get("good", [])]
    return Use(tuple(row["queries"]), tuple(answers + [(1, f) for f in row.get("fair", [])]))
