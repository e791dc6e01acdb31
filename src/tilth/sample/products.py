"""Sample products as records of a merchant feed, drawn in chunks that depend on nothing but their number.

Chunk `c` of a language is a function of (seed, language, c). So the first products of a shop are the same
whatever its size, and the shop is written in constant memory.
"""

import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tilth.sample.families import Family, draw_family, draw_variants, pick
from tilth.sample.shapes import PRICE_EXPONENT
from tilth.sample.text import Description, describe, draw_title_style, title
from tilth.sample.vocabulary import LANGUAGES, ProductType, Vocabulary

CHUNK = 2048  # products; also the families that a chunk may number
LETTERS = "XSMLABCDEFGHKN"
GTIN_STEP = 7_368_787  # coprime to 10**9: spreads running numbers over the range without a collision
SERIALS = 10**9
AVAILABILITY = ("in_stock",) * 43 + ("out_of_stock",) * 4 + ("backorder",) * 2 + ("preorder",)  # out of 50


@dataclass(frozen=True, slots=True)
class SampleProduct:
    """One record, and the facts that grades follow from: type, brand, code, group, size and every axis."""

    type: ProductType
    size: float
    record: Mapping[str, object]
    facts: Mapping[str, object]
    price: float  # what the customer pays: the sale price where there is one


def sample_products(vocabulary: Vocabulary, seed: int, count: int) -> Iterator[list[SampleProduct]]:
    """Yield the first `count` products of a language in lists of at most `CHUNK`."""
    for chunk, start in enumerate(range(0, count, CHUNK)):
        yield draw_chunk(vocabulary, seed, chunk)[: count - start]


def draw_chunk(vocabulary: Vocabulary, seed: int, chunk: int) -> list[SampleProduct]:
    """Draw the `CHUNK` products of one chunk."""
    rng = random.Random(f"{seed}/{vocabulary.language}/{chunk}")  # noqa: S311 - not for secrets
    products: list[SampleProduct] = []
    number = first = chunk * CHUNK
    while len(products) < CHUNK:
        family = draw_family(rng, vocabulary, number)
        products += _draw_products(rng, vocabulary, family, first + len(products))
        number += 1
    return products[:CHUNK]


def gtin13(serial: int, language: str) -> str:
    """Return a GTIN-13 of the restricted range 20-29 (GS1 General Specifications, section 1.4 and 7.9).

    The check digit completes the sum of the digits, weighted 1 and 3 in turn, to a multiple of 10.
    """
    digits = f"2{list(LANGUAGES).index(language):02d}{serial * GTIN_STEP % SERIALS:09d}"
    total = sum(map(int, digits[::2])) + 3 * sum(map(int, digits[1::2]))
    return f"{digits}{-total % 10}"


def _draw_products(
    rng: random.Random, vocabulary: Vocabulary, family: Family, first: int
) -> Iterator[SampleProduct]:
    style = draw_title_style(rng, vocabulary, family)
    description = describe(rng, vocabulary, family)
    for letter, (size, values) in zip(LETTERS, draw_variants(rng, family), strict=False):
        code = family.brand.code.format(n=1000 + family.number, v=letter)
        record = _identity(vocabulary, family, code, first)
        record["title"] = title(style, family, size, values, code)
        record["description"] = description.text
        record["attributes"] = _attributes(family, size, values, description)
        price = _add_offer(record, rng, vocabulary, family, size)
        _add_reputation(record, rng, family)
        yield SampleProduct(family.type, size, record, _facts(record, family, size, values), price)
        first += 1


def _identity(vocabulary: Vocabulary, family: Family, code: str, number: int) -> dict[str, object]:
    product_id = f"{vocabulary.language}{number + 1:07d}"
    return {
        "id": product_id,
        "title": "",
        "description": "",
        "brand": family.brand.name,
        "product_type": family.type.path,
        "gtin": gtin13(number, vocabulary.language),
        "mpn": code,
        "item_group_id": f"{vocabulary.language}-g{family.number + 1}",
        "link": f"https://shop.example/p/{product_id}",
        "image_link": f"https://shop.example/i/{product_id}.jpg",
    }


def _attributes(
    family: Family, size: float, values: Mapping[str, str], description: Description
) -> dict[str, str]:
    attributes = {name: value for name, value in values.items() if name not in description.only_here}
    attributes[family.type.size_name] = family.type.sizes[size][0]
    return attributes


def _facts(
    record: Mapping[str, object], family: Family, size: float, values: Mapping[str, str]
) -> Mapping[str, object]:
    return {
        **values,
        "type": family.type.key,
        "brand": family.brand.name,
        "size": size,
        "code": record["mpn"],
        "group": record["item_group_id"],
    }


def _add_offer(
    record: dict[str, object], rng: random.Random, vocabulary: Vocabulary, family: Family, size: float
) -> float:
    """Add price, sale price and availability; return what the customer pays."""
    shape = family.type.shape
    middle = shape.sizes[len(shape.sizes) // 2]
    factor = family.brand.level * family.dearness * (size / middle) ** PRICE_EXPONENT[shape.unit]
    price = _shelf_price(shape.price * factor * vocabulary.rate, vocabulary.rate)
    record["price"] = f"{price:.2f} {vocabulary.currency}"
    if rng.random() < 0.12:
        price = _shelf_price(price * (0.6 + 0.3 * rng.random()), vocabulary.rate)
        record["sale_price"] = f"{price:.2f} {vocabulary.currency}"
    record["availability"] = pick(rng, AVAILABILITY)
    return price


def _shelf_price(price: float, rate: float) -> float:
    """Round as shops do: 12.49 or 12.99 in a strong currency, 1290 in a weak one."""
    if rate > 10:
        return max(19.0, round(price / 10) * 10 - 1.0)
    return max(0.49, round(price * 2) / 2 - 0.01)


def _add_reputation(record: dict[str, object], rng: random.Random, family: Family) -> None:
    """Add popularity (monthly page views, log-normal), and ratings in proportion to it."""
    popularity = math.exp(3 + family.appeal + 0.5 * rng.gauss(0, 1))
    record["popularity"] = round(popularity, 1)
    count = int(popularity * 0.25 * rng.random())
    if count:
        mean = rng.gauss(family.quality, 0.8 / math.sqrt(count))
        record["rating"] = round(min(5.0, max(1.0, mean)), 1)
        record["rating_count"] = count
