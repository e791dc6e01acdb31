"""Products in the shapes of the Universal Commerce Protocol's catalogue capability, version 2026-04-08.

A record of the catalogue is a variant; those with one `item_group_id` are the variants of one product, which
goes by the id of the variant that is shown first. Prices are whole minor units: 7.49 EUR is 749. Text is made
harmless (`tilth.context_text.inert`) and cut, ids are as they are, and links are http or https ones.
"""

import re
from collections.abc import Mapping, Sequence
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from tilth.catalog import AttributeValue, Price, Product
from tilth.context_text import inert

VERSION = "2026-04-08"
SEARCH = "dev.ucp.shopping.catalog.search"
LOOKUP = "dev.ucp.shopping.catalog.lookup"

NO_CURRENCY = "XXX"  # of ISO 4217, for a price that names none
_LENGTHS = {False: 300, True: 8_000}  # characters of a description: in a list, and of a whole product
_ATTRIBUTES = {False: 20, True: 200}
_MOST_OPTIONS = 20
_RATING_MAX = 5
_LINK = re.compile(r"https?://[^\s\x00-\x20\x7f<>\"`{}|\\^]{1,2000}", re.IGNORECASE)

# Currencies whose minor unit is not a hundredth: ISO 4217, list one.
_EXPONENTS = {
    code: exponent
    for exponent, codes in {
        0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
        3: "BHD IQD JOD KWD LYD OMR TND",
        4: "CLF UYW",
    }.items()
    for code in codes.split()
}


# --- money ----------------------------------------------------------------------------------------


def minor_units(price: Price) -> dict[str, Any]:
    """Return a price as its amount in minor units, rounded half up, and its currency, `XXX` without one."""
    amount = Decimal(repr(price.amount)).scaleb(_exponent(price.currency))
    whole = int(amount.to_integral_value(ROUND_HALF_UP))
    return {"amount": whole, "currency": price.currency or NO_CURRENCY}


def major_units(amount: int, currency: str) -> float:
    """Return an amount in minor units as the catalogue has it: 749 in EUR is 7.49."""
    return float(Decimal(amount).scaleb(-_exponent(currency)))


def _exponent(currency: str) -> int:
    return _EXPONENTS.get(currency, 2)


def _selling(product: Product) -> Price | None:
    return product.sale_price or product.price


def _before(product: Product) -> Price | None:
    """Return the price before a discount, where there is one."""
    now, before = product.sale_price, product.price
    if now is None or before is None or now.currency != before.currency or now.amount >= before.amount:
        return None
    return before


# --- filters --------------------------------------------------------------------------------------


def conditions(filters: Mapping[str, Any], currency: str = "") -> dict[str, Any]:
    """Return filters of the protocol as Tilth's own.

    Args:
        filters: `categories`, `brand` and `availability`, each a list of which one must hold, and `price`
            with `min` and `max` in minor units, both included. Lists are not empty.
        currency: of the prices; empty: whichever the products have, in hundredths.

    Returns:
        Conditions as `tilth.retrieval.filters` has them. The price is that which is asked for now, and a
        category also holds for those below it.
    """
    found: list[dict[str, Any]] = []
    if categories := filters.get("categories"):
        paths = [category.replace("›", ">") for category in categories]  # as `inert` shows it
        found.append({"or": [{"product_type": {"prefix": path}} for path in paths]})
    found += [{name: list(filters[name])} for name in ("brand", "availability") if filters.get(name)]
    if price := filters.get("price"):
        bounds = {"min": "gte", "max": "lte"}
        asked = {bounds[end]: major_units(amount, currency) for end, amount in price.items()}
        listed = {"sale_price": {"exists": False}, "price": asked}
        found.append({"or": [{"sale_price": asked}, listed]})
        found += [{"currency": currency}] if currency else []
    return {"and": found} if found else {}


# --- products -------------------------------------------------------------------------------------


def envelope(capability: str, *, failed: bool = False) -> dict[str, Any]:
    """Return the protocol's metadata of a response: version, status and the capability in use."""
    status = {"status": "error"} if failed else {}
    return {"version": VERSION, **status, "capabilities": {capability: [{"version": VERSION}]}}


def ucp_product(
    variants: Sequence[Product], *, whole: bool = False, facts: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return records of one group, at least one, as a product of the protocol.

    Args:
        variants: the one to be featured first; it gives the product its id and texts.
        whole: with the whole description and all attributes, and the options in which variants differ.
        facts: of Tilth's, into the product's metadata.

    Returns:
        The product; what the catalogue lacks is absent, prices included.
    """
    first = variants[0]
    options = _options(variants) if whole else {}
    return {
        "id": first.id,
        "title": inert(first.title),
        "description": _description(first, whole),
        **_links(first),
        **_ranges(variants),
        **({"options": _option_values(options)} if options else {}),
        **({"selected": _selected(first, options)} if options else {}),
        "variants": [_variant(variant, first, whole, options) for variant in variants],
        **_rating(first),
        "metadata": {**(facts or {}), **_metadata(first, whole)},
    }


def _variant(
    product: Product, first: Product, whole: bool, options: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """Return a variant; where its description is the product's, which is there already, its title stands."""
    price, before = _selling(product), _before(product)
    same = product.description == first.description
    return {
        "id": product.id,
        "sku": product.id,
        **({"barcodes": [{"type": "GTIN", "value": inert(product.gtin)}]} if product.gtin else {}),
        "title": inert(product.title),
        "description": {"plain": inert(product.title)} if same else _description(product, whole),
        **_url(product),
        **({"price": minor_units(price)} if price else {}),
        **({"list_price": minor_units(before)} if before else {}),
        **_availability(product),
        **({"selected_options": _selected(product, options)} if options else {}),
    }


def _description(product: Product, whole: bool) -> dict[str, str]:
    text, most = inert(product.description), _LENGTHS[whole]
    return {"plain": text if len(text) <= most else text[:most].rsplit(" ", 1)[0] + " …"}


def _url(product: Product) -> dict[str, str]:
    return {"url": product.link} if _LINK.fullmatch(product.link) else {}


def _links(product: Product) -> dict[str, Any]:
    found: dict[str, Any] = {**_url(product)}
    if product.product_type:
        found["categories"] = [{"value": inert(product.product_type), "taxonomy": "merchant"}]
    if _LINK.fullmatch(product.image_link):
        found["media"] = [{"type": "image", "url": product.image_link, "alt_text": inert(product.title)}]
    return found


def _ranges(variants: Sequence[Product]) -> dict[str, Any]:
    """Return the ranges of prices over the variants whose currency is that of the first price."""
    ranges: dict[str, Any] = {}
    for name, price_of in (("price_range", _selling), ("list_price_range", _before)):
        prices = [minor_units(price) for price in map(price_of, variants) if price]
        same = [price for price in prices if price["currency"] == prices[0]["currency"]]
        if same:
            ranges[name] = {"min": min(same, key=_amount), "max": max(same, key=_amount)}
    return ranges


def _amount(price: Mapping[str, Any]) -> int:
    return int(price["amount"])


def _availability(product: Product) -> dict[str, Any]:
    if not product.availability:
        return {}
    available = product.availability in ("in_stock", "preorder", "backorder")
    return {"availability": {"available": available, "status": inert(product.availability)}}


def _rating(product: Product) -> dict[str, Any]:
    if product.rating is None or not 0 <= product.rating <= _RATING_MAX:
        return {}
    count = {} if product.rating_count is None else {"count": product.rating_count}
    return {"rating": {"value": product.rating, "scale_max": _RATING_MAX, **count}}


def _metadata(product: Product, whole: bool) -> dict[str, Any]:
    names = ("brand", "mpn", "item_group_id")
    known = {name: inert(getattr(product, name)) for name in names if getattr(product, name)}
    attributes = list(product.attributes.items())[: _ATTRIBUTES[whole]]
    shown = {inert(name): inert(value) if isinstance(value, str) else value for name, value in attributes}
    return {**known, **({"attributes": shown} if shown else {})}


# --- options --------------------------------------------------------------------------------------


def _options(variants: Sequence[Product]) -> dict[str, list[str]]:
    """Return the attributes in which variants differ, each with its values in the order of the variants."""
    names = dict.fromkeys(name for variant in variants for name in variant.attributes)
    values = {
        name: list(dict.fromkeys(_label(v.attributes[name]) for v in variants if name in v.attributes))
        for name in names
    }
    options = [(name, labels) for name, labels in values.items() if len(labels) > 1]
    return dict(options[:_MOST_OPTIONS])


def _option_values(options: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
    return [
        {"name": inert(name), "values": [{"label": label} for label in labels]}
        for name, labels in options.items()
    ]


def _selected(product: Product, options: Mapping[str, Sequence[str]]) -> list[dict[str, str]]:
    chosen = {name: product.attributes[name] for name in options if name in product.attributes}
    return [{"name": inert(name), "label": _label(value)} for name, value in chosen.items()]


def _label(value: AttributeValue) -> str:
    return str(value).lower() if isinstance(value, bool) else inert(str(value))


# --- responses, as JSON Schema --------------------------------------------------------------------

_TEXT = {"type": "string"}
_OPEN = {"type": "object"}


def _object(required: Sequence[str], **properties: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required)}


def _list(items: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


_PRICE = _object(
    ("amount", "currency"),
    amount={"type": "integer", "minimum": 0},
    currency={"type": "string", "pattern": "^[A-Z]{3}$"},
)
_RANGE = _object(("min", "max"), min=_PRICE, max=_PRICE)
_DESCRIPTION = _object(("plain",), plain=_TEXT)
_OPTION = _object(("name", "label"), name=_TEXT, label=_TEXT)
_VARIANT = _object(
    ("id", "title", "description"),
    id=_TEXT,
    sku=_TEXT,
    barcodes=_list(_object(("type", "value"), type=_TEXT, value=_TEXT)),
    title=_TEXT,
    description=_DESCRIPTION,
    url=_TEXT,
    price=_PRICE,
    list_price=_PRICE,
    availability=_object((), available={"type": "boolean"}, status=_TEXT),
    selected_options=_list(_OPTION),
    inputs=_list(_object(("id", "match"), id=_TEXT, match={"enum": ["exact"]})),
)
_PRODUCT = _object(
    ("id", "title", "description", "variants"),
    id=_TEXT,
    title=_TEXT,
    description=_DESCRIPTION,
    url=_TEXT,
    categories=_list(_object(("value",), value=_TEXT, taxonomy=_TEXT)),
    price_range=_RANGE,
    list_price_range=_RANGE,
    media=_list(_object(("type", "url"), type=_TEXT, url=_TEXT, alt_text=_TEXT)),
    options=_list(_object(("name", "values"), name=_TEXT, values=_list(_object(("label",), label=_TEXT)))),
    selected=_list(_OPTION),
    variants={**_list(_VARIANT), "minItems": 1},
    rating=_object(("value", "scale_max"), value={"type": "number"}, scale_max={"type": "number"}),
    metadata=_OPEN,
)
_UCP = _object(
    ("version", "capabilities"), version=_TEXT, status={"enum": ["success", "error"]}, capabilities=_OPEN
)
_MESSAGES = _list(_object(("type", "content"), type=_TEXT, code=_TEXT, content=_TEXT, severity=_TEXT))
_PAGES = _object(("has_next_page",), cursor=_TEXT, has_next_page={"type": "boolean"})

SEARCH_RESPONSE = _object(
    ("ucp", "products", "tilth"),
    ucp=_UCP,
    products=_list(_PRODUCT),
    pagination=_PAGES,
    messages=_MESSAGES,
    tilth={
        **_object(("impression_id",), impression_id=_TEXT),
        "description": "What the protocol has no place for.",
    },
)
LOOKUP_RESPONSE = _object(("ucp", "products"), ucp=_UCP, products=_list(_PRODUCT), messages=_MESSAGES)
PRODUCT_RESPONSE = _object(("ucp",), ucp=_UCP, product=_PRODUCT, messages=_MESSAGES)
