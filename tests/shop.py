"""A shop small enough to know by heart."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tilth.catalog import Price, Product
from tilth.retrieval.build_settings import BuildEncoder, BuildSettings, Progress
from tilth.retrieval.builder import build_index
from tilth.retrieval.fusion import Fusion
from tilth.retrieval.index import open_store

SHOP = [
    Product(id="m1", title="Cow manure 20 kg", brand="Humus", product_type="Garden > Manures", mpn="HU-20/C"),
    Product(id="m2", title="Horse manure, pelleted", brand="Humus", description="For roses. Well rotted."),
    Product(id="f1", title="Tomato feed 1 l", price=Price(7.5, "EUR"), availability="in_stock"),
    Product(id="s1", title="Tomato seeds Moneymaker", price=Price(2.0, "EUR"), gtin="2006189781080"),
    Product(id="t1", title="Секатор садовый", description="Для обрезки роз и кустов.", brand="Грядка"),
    Product(id="t2", title="Secateurs, bypass", attributes={"blade": "steel", "motor": False}),
    Product(id="p1", title="Slug pellets", description="Keeps snails away from lettuce."),
    Product(id="h1", title="Garden hose 25 m", attributes={"length": "25 m", "diameter_inch": 0.5}),
]


DEFAULTS = BuildSettings()

# The fusions where none was tuned: lexical with a general encoder, with an own one, and with both.
TWO_LISTS = Fusion("rrf", (1.0, 0.5))
OWN_AND_LEXICAL = Fusion("minmax", (0.5, 0.5))
THREE_LISTS = Fusion("rrf", (1.0, 0.5, 0.25))


def quiet(stage: str, done: int, total: int | None = None, /) -> None:
    """Report progress to nobody."""


def index(
    products: Iterable[Product],
    into: Path,
    encoder: BuildEncoder,
    settings: BuildSettings = DEFAULTS,
    progress: Progress = quiet,
    own: BuildEncoder | None = None,
) -> dict[str, Any]:
    """Build an index of products, with the store in its folder."""
    source = {"files": ["shop.jsonl"]}
    with open_store(into) as store:
        return build_index(
            into, store, encoder, settings, progress, own=own, products=products, source=source
        )
