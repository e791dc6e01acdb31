"""What training reads of products: a sample of a catalogue that is streamed, a few short texts each."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from operator import attrgetter, itemgetter
from random import Random
from typing import NamedTuple, TypeVar

from tilth.catalog import Product
from tilth.retrieval.lexical import is_negative

_T = TypeVar("_T")

_MOST_LETTERS = 2_000  # of a description; what comes later says little about what a product is
_MOST_ATTRIBUTES = 50


class ProductText(NamedTuple):
    """The texts of one product that pseudo-queries are made of."""

    product_id: str
    title: str
    names: str  # brand and the narrowest part of the type
    description: str
    attributes: tuple[tuple[str, str], ...]  # name and value, with its unit
    group: str  # variants of one article have the same; empty: it has none
    kind: str  # the whole type; empty: the catalogue does not say


def text_of(product: Product) -> ProductText:
    """Return what training reads of a product."""
    kind = product.product_type
    return ProductText(
        product.id,
        product.title,
        f"{product.brand} {kind.rpartition('>')[2].strip()}".strip(),
        product.description[:_MOST_LETTERS],
        tuple(_attributes(product)),
        product.item_group_id,
        kind,
    )


def _attributes(product: Product) -> Iterator[tuple[str, str]]:
    for name, value in list(product.attributes.items())[:_MOST_ATTRIBUTES]:
        if not is_negative(value):
            yield name.replace("_", " ").strip(), "" if value is True else str(value)


def sampled(
    products: Iterable[_T],
    most: int,
    seed: int,
    *,
    always: Collection[str] = (),
    id_of: Callable[[_T], str] = attrgetter("id"),
) -> list[_T]:
    """Draw products or their records from a stream, each with the same chance, and keep no more than `most`.

    Vitter, "Random Sampling with a Reservoir", ACM TOMS 11 (1985), algorithm R.

    Args:
        products: read once.
        most: how many, at most.
        seed: another one draws others.
        always: ids of products that are kept in any case; of more than half of `most`, some that many.
        id_of: the id of a product or record.

    Returns:
        The sample, in the order of the stream.
    """
    random = Random(seed)
    wanted = set(_some(sorted(always), most // 2, seed))
    most -= len(wanted)
    kept: list[tuple[int, _T]] = []
    chosen: list[tuple[int, _T]] = []
    drawn = 0
    for number, product in enumerate(products):
        if wanted and id_of(product) in wanted:
            chosen.append((number, product))
            continue
        if drawn < most:
            kept.append((number, product))
        elif (place := random.randrange(drawn + 1)) < most:
            kept[place] = (number, product)
        drawn += 1
    return [product for _, product in sorted(kept + chosen, key=itemgetter(0))]


def _some(ids: Sequence[str], most: int, seed: int) -> Sequence[str]:
    return ids if len(ids) <= most else Random(f"{seed}:always").sample(ids, most)


def families(texts: Sequence[ProductText]) -> list[tuple[int, ...]]:
    """Return, for each product, the rows of its group, itself included, or of its type where it is alone."""
    by_group: dict[str, list[int]] = {}
    by_kind: dict[str, list[int]] = {}
    for row, text in enumerate(texts):
        if text.group:
            by_group.setdefault(text.group, []).append(row)
        if text.kind:
            by_kind.setdefault(text.kind, []).append(row)
    groups = {name: tuple(rows) for name, rows in by_group.items() if len(rows) > 1}
    kinds = {name: tuple(rows) for name, rows in by_kind.items()}
    return [groups.get(text.group) or kinds.get(text.kind, ()) for text in texts]
