"""Information needs: a query as typed, and the clauses that grade any product for it.

Grades follow from facts: a product's grade is that of the first clause it meets, and a product that meets
none is not judged. The needs are drawn from the first products of the shop, so that each but those of the
kind `none` has an answer.
"""

import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tilth.sample.families import pick
from tilth.sample.products import SampleProduct
from tilth.sample.text import phrase
from tilth.sample.typos import misspell
from tilth.sample.vocabulary import ProductType, Vocabulary

WITHOUT_YO = 0.7  # few people type ё
NEAR_PRICE = 1.25  # how far above the wish a price still is of some use


@dataclass(frozen=True, slots=True)
class Clause:
    """A grade, and what it takes: every one of these facts, and a price of at most `at_most`."""

    grade: int
    facts: Mapping[str, object]
    at_most: float = math.inf


@dataclass(frozen=True, slots=True)
class Need:
    """A query and its clauses, the first that a product meets decides."""

    query_id: str
    text: str
    kind: str
    clauses: tuple[Clause, ...]


Draft = tuple[str, list[Clause]]
Draw = Callable[[random.Random, Vocabulary, SampleProduct], Draft | None]


def draw_needs(vocabulary: Vocabulary, seed: int, head: Sequence[SampleProduct]) -> list[Need]:
    """Draw some 300 needs, fewer where `head`, the first products of the shop, gives no more.

    No text occurs twice.
    """
    rng = random.Random(f"{seed}/{vocabulary.language}/queries")  # noqa: S311 - not for secrets
    needs: list[Need] = []
    known: set[str] = set()
    for kind, drafts, quota in _drafts(rng, vocabulary, head):
        drawn = 0
        for draft, clauses in drafts:
            text = draft.replace("ё", "е") if rng.random() < WITHOUT_YO else draft
            if drawn < quota and text not in known:
                drawn += 1
                known.add(text)
                query_id = f"{vocabulary.language}-{kind}-{drawn:03d}"
                needs.append(Need(query_id, text, kind, tuple(clauses)))
    return needs


def _drafts(
    rng: random.Random, vocabulary: Vocabulary, head: Sequence[SampleProduct]
) -> Iterator[tuple[str, Iterator[Draft], int]]:
    """Yield (kind, drafts, how many of them to take)."""
    one_of_each = {product.facts["type"]: product for product in head}.values()
    shuffled = rng.sample(head, min(len(head), 400))
    yield "type", _from_products(rng, vocabulary, one_of_each, _type_need), 80
    yield "attributes", _from_products(rng, vocabulary, shuffled, _attributes_need), 60
    yield "use", _use_needs(rng, vocabulary, head), 50
    yield "brand", _from_products(rng, vocabulary, shuffled[::-1], _brand_need), 30
    yield "code", _from_products(rng, vocabulary, shuffled[1::2], _code_need), 25
    yield "price", _from_products(rng, vocabulary, shuffled[::3], _price_need), 30
    yield "misspelt", _from_products(rng, vocabulary, shuffled[::2], _misspelt_need), 35
    yield "none", _none_needs(vocabulary), 40


def _from_products(
    rng: random.Random, vocabulary: Vocabulary, products: Iterable[SampleProduct], draw: Draw
) -> Iterator[Draft]:
    for product in products:
        draft = draw(rng, vocabulary, product)
        if draft:
            yield draft


def _type_need(rng: random.Random, vocabulary: Vocabulary, product: SampleProduct) -> Draft:
    kind = product.type
    text = pick(rng, vocabulary.phrases["type_queries"]).format(noun=pick(rng, kind.names))
    clauses = [Clause(3, {"type": kind.key})]
    clauses += [Clause(1, {"type": other}) for other in kind.shape.substitutes]
    return text, clauses + _near_misses(vocabulary, kind, {})


def _attributes_need(rng: random.Random, vocabulary: Vocabulary, product: SampleProduct) -> Draft:
    """Ask for one or two attributes with a size, or for two without."""
    kind = product.type
    wanted = _some_facts(rng, product, 1 + int(rng.random() * 2))
    text = phrase(rng, kind, wanted)
    facts: dict[str, object] = {"type": kind.key, **wanted}
    if len(wanted) == 1 or rng.random() < 0.6:
        text = f"{text} {pick(rng, kind.sizes[product.size][:2])}"
        other_size, facts = facts, {**facts, "size": product.size}
        clauses = [Clause(3, facts), Clause(2, other_size)]
    else:
        clauses = [Clause(3, facts)]
    clauses += [Clause(1, {k: v for k, v in facts.items() if k != name}) for name in wanted]
    return text, [*clauses, Clause(0, {"type": kind.key}), *_near_misses(vocabulary, kind, wanted)]


def _brand_need(rng: random.Random, vocabulary: Vocabulary, product: SampleProduct) -> Draft:
    kind = product.type
    wanted = _some_facts(rng, product, int(rng.random() * 2))
    brand = {"brand": product.facts["brand"]}
    text = pick(rng, vocabulary.phrases["brand_queries"]).format(
        brand=brand["brand"], phrase=phrase(rng, kind, wanted)
    )
    clauses = [Clause(3, {"type": kind.key, **brand, **wanted})]
    if wanted:
        clauses.append(Clause(2, {"type": kind.key, **brand}))
    clauses += [Clause(1, {"type": other, **brand}) for other in kind.shape.substitutes]
    return pick(rng, (text, text.lower())), [*clauses, Clause(0, {"type": kind.key, **wanted})]


def _code_need(rng: random.Random, _: Vocabulary, product: SampleProduct) -> Draft:
    """Ask for a part number, as printed or with other separators and case, or for a GTIN."""
    facts, code = product.facts, str(product.facts["code"])
    bare = "".join(c for c in code if c.isalnum())
    spaced = "".join(c if c.isalnum() else " " for c in code)
    text = pick(rng, (code, code, code.lower(), bare, bare.lower(), spaced, str(product.record["gtin"])))
    kind = {"type": facts["type"]}
    return text, [
        Clause(3, {**kind, "code": code}),
        Clause(1, {**kind, "group": facts["group"]}),
        Clause(0, {**kind, "brand": facts["brand"]}),
    ]


def _price_need(rng: random.Random, vocabulary: Vocabulary, product: SampleProduct) -> Draft:
    kind = product.type
    wanted = _some_facts(rng, product, 1)
    limit = _round_up(product.price * (1.05 + 0.3 * rng.random()))
    text = pick(rng, vocabulary.phrases["price_queries"]).format(
        phrase=phrase(rng, kind, wanted), limit=f"{limit:g}"
    )
    facts = {"type": kind.key, **wanted}
    return text, [
        Clause(3, facts, limit),
        Clause(1, facts, limit * NEAR_PRICE),
        Clause(0, {"type": kind.key}),
        *_near_misses(vocabulary, kind, wanted),
    ]


def _misspelt_need(rng: random.Random, vocabulary: Vocabulary, product: SampleProduct) -> Draft | None:
    draw = pick(rng, (_type_need, _attributes_need, _attributes_need))
    text, clauses = draw(rng, vocabulary, product)
    wrong = misspell(rng, text, vocabulary.language)
    return (wrong, clauses) if wrong else None


def _use_needs(rng: random.Random, vocabulary: Vocabulary, head: Sequence[SampleProduct]) -> Iterator[Draft]:
    """Yield a first query of every use that the shop can serve well, then a second."""
    served = []
    for use in vocabulary.uses:
        clauses = [Clause(grade, facts) for grade, facts in use.answers]
        best = [facts for grade, facts in use.answers if grade == 3]
        if any(facts.items() <= product.facts.items() for product in head for facts in best):
            traps = {trap for facts in best for trap in vocabulary.types[facts["type"]].shape.traps}
            clauses += [Clause(0, {"type": trap}) for trap in sorted(traps)]
            served.append((rng.sample(use.queries, 2), clauses))
    for turn in range(2):
        yield from ((queries[turn], clauses) for queries, clauses in served)


def _none_needs(vocabulary: Vocabulary) -> Iterator[Draft]:
    yield from ((text, []) for text in vocabulary.out_of_trade)
    yield from ((text, [Clause(0, {"type": like})]) for text, like in vocabulary.near_trade)


def _some_facts(rng: random.Random, product: SampleProduct, count: int) -> dict[str, str]:
    """Choose attributes whose values mean something when said alone: not `5`, `low` or `yes`."""
    names = []
    for axis in product.type.axes:
        value = str(product.facts[axis.name])
        if axis.place != "detail" or (any(map(str.isdigit, value)) and not value.isdigit()):
            names.append(axis.name)
    return {name: str(product.facts[name]) for name in rng.sample(names, min(count, len(names)))}


def _near_misses(vocabulary: Vocabulary, kind: ProductType, wanted: Mapping[str, str]) -> list[Clause]:
    """Products of another type that share the words: tomato feed, where tomato seeds are wanted."""
    clauses = []
    for trap in kind.shape.traps:
        words = {axis.name: axis.words for axis in vocabulary.types[trap].axes}
        shared = {name: value for name, value in wanted.items() if value in words.get(name, ())}
        clauses.append(Clause(0, {"type": trap, **shared}))
    return clauses


def _round_up(price: float) -> float:
    """Round up to half a power of ten, and at least to a whole: 13.2 to 15, 260 to 300."""
    step = max(1.0, math.pow(10, math.floor(math.log10(price))) / 2)
    return math.ceil(price / step) * step
