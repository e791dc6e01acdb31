"""Product families: one brand's article of one type, before it is cut into sizes and colours."""

import random
from bisect import bisect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from typing import TypeVar

from tilth.sample.shapes import CATEGORY_WEIGHT, SHAPES
from tilth.sample.vocabulary import Axis, Brand, ProductType, Vocabulary

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Family:
    """What all variants share; `values` holds the first variant's value of the axis that varies."""

    number: int  # from 0, unique in the shop's language
    type: ProductType
    brand: Brand
    values: Mapping[str, str]  # axis name -> value
    appeal: float  # log popularity
    quality: float  # the mean of its ratings, 1 to 5
    dearness: float  # price factor within its brand


def pick(rng: random.Random, items: Sequence[T]) -> T:
    """Return one of the items, each as likely; some five times faster than `rng.choice`."""
    return items[int(rng.random() * len(items))]


def draw_family(rng: random.Random, vocabulary: Vocabulary, number: int) -> Family:
    """Draw a family: its type by category weight, the rest uniformly, its appeal from a heavy tail."""
    keys, limits = _cumulative_weights()
    kind = vocabulary.types[keys[bisect(limits, rng.random() * limits[-1])]]
    brand = pick(rng, vocabulary.brands[kind.shape.trade])
    quality = min(5.0, max(1.5, rng.gauss(4.05 + 0.15 * min(brand.level, 2), 0.4)))
    return Family(
        number=number,
        type=kind,
        brand=brand,
        values={axis.name: pick(rng, tuple(axis.words)) for axis in kind.axes},
        appeal=rng.gauss(0.6 * (quality - 4.2), 1.6),
        quality=quality,
        dearness=rng.lognormvariate(0, 0.16),
    )


def draw_variants(rng: random.Random, family: Family) -> Iterator[tuple[float, Mapping[str, str]]]:
    """Yield (size, values) of one to six variants: a run of sizes, in up to three values of what varies."""
    sizes = family.type.shape.sizes
    start = int(rng.random() * len(sizes))
    chosen = sizes[start : start + 1 + int(rng.random() * 3)]
    axis = _varying(family.type)
    options: Sequence[str] = ("",)
    if axis:
        options = rng.sample(tuple(axis.words), 1 + int(rng.random() * 3))
    for option in options[: 6 // len(chosen)]:
        values = {**family.values, axis.name: option} if axis else family.values
        for size in chosen:
            yield size, values


def _varying(kind: ProductType) -> Axis | None:
    return next((axis for axis in kind.axes if axis.name == kind.varies), None)


@cache
def _cumulative_weights() -> tuple[tuple[str, ...], tuple[float, ...]]:
    return tuple(SHAPES), tuple(accumulate(CATEGORY_WEIGHT[shape.category] for shape in SHAPES.values()))
