"""The product, and the values of its fields: prices, availability, category paths.

Field names follow the merchant product feed specification.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from decimal import Decimal
from operator import attrgetter
from types import MappingProxyType

from tilth.errors import InputError


@dataclass(frozen=True, slots=True)
class Price:
    """An amount of money; `currency` is an ISO 4217 code, or empty where the feed names none."""

    amount: float
    currency: str = ""

    def __str__(self) -> str:
        text = f"{self.amount:.2f}"
        if float(text) != self.amount:  # finer than cents: every digit, and never an exponent
            text = format(Decimal(repr(self.amount)), "f")
        return f"{text} {self.currency}".rstrip()


AttributeValue = str | int | float | bool
NO_ATTRIBUTES: Mapping[str, AttributeValue] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """One record of the catalogue. Text that the feed lacks is empty; a number that it lacks is None."""

    id: str
    title: str
    description: str = ""
    brand: str = ""
    product_type: str = ""  # "A > B > C", from the widest to the narrowest
    price: Price | None = None
    sale_price: Price | None = None
    availability: str = ""  # in_stock, out_of_stock, preorder, backorder, or empty
    gtin: str = ""
    mpn: str = ""
    item_group_id: str = ""
    link: str = ""
    image_link: str = ""
    attributes: Mapping[str, AttributeValue] = field(default_factory=lambda: NO_ATTRIBUTES)
    rating: float | None = None
    rating_count: int | None = None
    popularity: float | None = None
    clicks: int | None = None


PRODUCT_FIELDS = tuple(f.name for f in fields(Product))
_FIELD_NAMES = frozenset(PRODUCT_FIELDS)
_VALUES = attrgetter(*PRODUCT_FIELDS)

# What changes all day. No term and no vector is made of these, so that such a change costs an index little.
VOLATILE_FIELDS = (
    "price", "sale_price", "availability", "rating", "rating_count", "popularity", "clicks",
)  # fmt: skip


def product_to_json(product: Product) -> dict[str, object]:
    """Return the product under its merchant-feed names, prices as `49.95 EUR`, empty fields left out."""
    values = zip(PRODUCT_FIELDS, _VALUES(product), strict=True)
    record: dict[str, object] = {name: value for name, value in values if value is not None and value != ""}
    if product.price is not None:
        record["price"] = str(product.price)
    if product.sale_price is not None:
        record["sale_price"] = str(product.sale_price)
    if product.attributes:
        record["attributes"] = dict(product.attributes)
    else:
        record.pop("attributes", None)
    return record


def product_from_json(record: Mapping[str, object]) -> Product:
    """Return the product that `product_to_json` wrote; values are taken as they are, prices apart.

    Args:
        record: merchant-feed name to value; empty fields may be absent.

    Returns:
        The product; `product_from_json(product_to_json(p)) == p`.

    Raises:
        InputError: `id` or `title` is missing, a field is not a product's, or a price is broken.
    """
    values: dict[str, object] = dict(record)
    for name in ("id", "title"):
        if name not in values:
            raise InputError("a stored product lacks a field", field=name)
    for name in values.keys() - _FIELD_NAMES:
        raise InputError("a stored product has a field that products do not have", field=name)
    for name in ("price", "sale_price"):
        if name in values:
            values[name] = parse_price(values[name])
    return Product(**values)  # type: ignore[arg-type]


# --- text -----------------------------------------------------------------------------------------

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def clean_text(text: str) -> str:
    """Turn control characters into spaces and every run of white space into one space; strip the ends."""
    if text.isprintable():  # the usual case: no control characters, and no white space but U+0020
        return " ".join(text.split()) if "  " in text else text.strip()
    return " ".join(_CONTROL.sub(" ", text).split())


# --- prices ---------------------------------------------------------------------------------------

_CURRENCY_SIGNS = {
    "€": "EUR", "$": "USD", "us$": "USD", "£": "GBP", "¥": "JPY", "₽": "RUB", "р": "RUB", "р.": "RUB",
    "руб": "RUB", "руб.": "RUB", "рублей": "RUB", "₴": "UAH", "грн": "UAH", "грн.": "UAH", "₸": "KZT",
    "₹": "INR", "₺": "TRY", "₩": "KRW", "₪": "ILS", "zł": "PLN", "kč": "CZK", "ft": "HUF",
}  # fmt: skip
_MAX_PRICE_LENGTH = 400  # a float without exponent has at most 309 digits before the point
_PLAIN_PRICE = re.compile(r"(\d{1,15}(?:\.\d+)?)(?: ([A-Z]{3}))?", re.ASCII)
_PRICE = re.compile(r"([^0-9.,+-]*)([0-9.,'’\s]*[0-9])(?:[.,][-–—]+)?([^0-9]*)")  # sign, amount, sign
_AMOUNT = re.compile(r"([0-9]+|[0-9]{1,3}(?:[., '][0-9]{2,3})*[., '][0-9]{3})(?:([.,])([0-9]+))?")
_AMOUNT_KEYS = ("amount", "value", "price")
_CURRENCY_KEYS = ("currency", "currency_code", "currencyCode", "priceCurrency")


def parse_price(value: object, currency: str = "") -> Price | None:
    """Read a price: a number, `49.95 EUR`, `$12.50`, `1 299,00 ₽`, `1.299,00 €`, or an object.

    A dot alone is decimal, as the feed specification has it; a comma alone is decimal unless exactly three
    digits follow it. An object holds `amount` (or `value`, `price`) and `currency`.

    Args:
        value: what the file holds; None and blank text mean that there is no price.
        currency: the ISO 4217 code for a price that names none.

    Returns:
        The price, or None where there is none.

    Raises:
        InputError: the value is no amount of money: negative, not finite, or not readable.
    """
    if isinstance(value, str):
        return _price_from_text(value, currency)
    if isinstance(value, Mapping):
        named = next((value[key] for key in _CURRENCY_KEYS if value.get(key)), currency)
        amount = next((value[key] for key in _AMOUNT_KEYS if value.get(key) is not None), None)
        return None if isinstance(amount, Mapping) else parse_price(amount, parse_currency(named))
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise InputError(f"broken price: not an amount but {type(value).__name__}")
    return Price(_checked_amount(value, value), currency)


def parse_currency(value: object) -> str:
    """Read a currency, a sign or three letters, as its ISO 4217 code; blank stays blank.

    Args:
        value: `€`, `eur`, `руб.`; `$` is USD and `¥` JPY.

    Returns:
        Three capital letters, or nothing.

    Raises:
        InputError: the value is neither.
    """
    if value is None or value == "":
        return ""
    text = value.strip().casefold() if isinstance(value, str) else ""
    code = _CURRENCY_SIGNS.get(text, text.upper())
    if not re.fullmatch("[A-Z]{3}", code):
        raise InputError("unknown currency", remedy="Use an ISO 4217 code such as EUR")
    return code


def parse_amount(text: str) -> float:
    """Read a number without sign that a person wrote: `1 299,50`, `1,299.50`, `1299.5`.

    Args:
        text: digits, at most one decimal sign, and groups of thousands.

    Returns:
        The number, zero or more.

    Raises:
        InputError: the text is no such number.
    """
    bare = re.sub(r"\s", " ", text.strip()).replace("’", "'")
    match = _AMOUNT.fullmatch("0" + bare if bare.startswith(".") else bare)
    if match is None:
        raise InputError("not a number", value=text)
    whole, point, decimals = match.groups(default="")
    separators = {c for c in whole if not c.isdigit()}
    if len(separators) > 1 or point in separators:
        raise InputError("not a number", value=text)
    if point == "," and len(decimals) == 3 and len(whole) <= 3 and not whole.startswith("0"):
        return float(whole + decimals)  # 1,299: a comma before three digits parts the thousands
    return float(re.sub(r"\D", "", whole) + "." + (decimals or "0"))


def _price_from_text(text: str, currency: str) -> Price | None:
    if match := _PLAIN_PRICE.fullmatch(text):
        return Price(float(match[1]), match[2] or currency)
    text = text.strip()
    if not text:
        return None
    match = _PRICE.fullmatch(text) if len(text) <= _MAX_PRICE_LENGTH else None
    if match is None or (match[1].strip() and match[3].strip()):
        raise InputError("broken price", value=text)
    try:
        amount = parse_amount(match[2])
        return Price(_checked_amount(amount, text), parse_currency((match[1] + match[3]).strip()) or currency)
    except InputError as error:
        raise InputError("broken price", value=text) from error


def _checked_amount(amount: float | Decimal, shown: object) -> float:
    try:
        number = float(amount)
    except (OverflowError, ValueError):  # an integer beyond floats, a signalling NaN
        number = math.inf
    if not 0 <= number < math.inf:  # false for NaN too
        raise InputError("broken price", value=shown)
    return number + 0.0  # -0.0 becomes 0.0


# --- availability ---------------------------------------------------------------------------------

_AVAILABILITY = {
    word: state
    for state, words in {
        "in_stock": "instock available availablenow yes y true on limitedavailability instoreonly onlineonly "
        "вналичии есть естьвналичии да наскладе",
        "out_of_stock": "outofstock unavailable notavailable no n false off soldout discontinued "
        "нетвналичии нет отсутствует нетнаскладе распродано снятспроизводства",
        "preorder": "preorder presale preordering comingsoon предзаказ скоровпродаже ожидается",
        "backorder": "backorder backordered madetoorder availablefororder onorder подзаказ назаказ",
    }.items()
    for word in words.split()
}
_SCHEMA_ORG = re.compile("^https?://schema.org/")


def parse_availability(value: object) -> str:
    """Read a word for availability, in English, Russian or schema.org's form, or a count of pieces.

    Args:
        value: text, a boolean, or the number of pieces in stock.

    Returns:
        `in_stock`, `out_of_stock`, `preorder` or `backorder`; empty where the word is not known.
    """
    if value in ("in_stock", "out_of_stock"):
        return str(value)
    if isinstance(value, bool):
        return "in_stock" if value else "out_of_stock"
    if not isinstance(value, str | int | float):
        return ""
    word = _SCHEMA_ORG.sub("", str(value)[:200].strip().casefold())
    if re.fullmatch(r"\d+(\.0+)?", word):
        return "in_stock" if float(word) > 0 else "out_of_stock"
    return _AVAILABILITY.get(re.sub(r"[\s_\-.]", "", word), "")


# --- categories -----------------------------------------------------------------------------------

_MAX_DEPTH = 20
_ARROW = re.compile("[>»→]")


def category_path(value: object) -> str:
    """Normalise a category to `A > B > C`, from the widest to the narrowest.

    Text is cut at `>` (or `»`, `→`), and at `/` if it has none of these. A list holds the parts of one path;
    if its items are paths themselves, the deepest counts, the first among equals. An object has a `name` and
    perhaps a `parent`, or holds a path a level (`lvl0`, `lvl1`).

    Args:
        value: text, a list, an object, or None.

    Returns:
        The path; empty where there is none.

    Raises:
        InputError: the value is nested deeper than 20 levels.
    """
    return " > ".join(_category_parts(value, 0))


def _category_parts(value: object, depth: int) -> list[str]:
    if depth > _MAX_DEPTH:
        raise InputError(f"nested deeper than {_MAX_DEPTH} levels")
    if value is None:
        return []
    if isinstance(value, Mapping):
        if "name" not in value:
            return _deepest(list(value.values()), depth)
        return _category_parts(value.get("parent"), depth + 1) + _item_parts(value["name"], depth + 1)
    if isinstance(value, list | tuple):
        return _deepest(value, depth)
    return _split_path(str(value))


def _deepest(items: Sequence[object], depth: int) -> list[str]:
    paths = [path for path in (_item_parts(item, depth + 1) for item in items) if path]
    if all(len(path) == 1 for path in paths):
        return [part for path in paths for part in path]
    return max(paths, key=len)


def _item_parts(item: object, depth: int) -> list[str]:
    if isinstance(item, str) and not _ARROW.search(item):  # one part: its slash belongs to its name
        return [name] if (name := clean_text(item)) else []
    return _category_parts(item, depth)


def _split_path(text: str) -> list[str]:
    parts = _ARROW.split(text) if _ARROW.search(text) else text.split("/")
    return [part for part in map(clean_text, parts) if part]
