"""Raw values of a file as the values of a product's fields; what cannot be used is an InputError."""

import html
import math
import re
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from functools import lru_cache

import orjson

from tilth.catalog import AttributeValue, category_path, clean_text, parse_amount
from tilth.errors import InputError

MAX_TEXT = 1_000_000  # characters of one field
_MAX_DEPTH = 20
_SHORT = 500  # characters of a text that is worth remembering
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_SPACE = re.compile(r"\s")
_SCRIPT = re.compile(r"<(script|style)\b[^<]*(?:<(?!/?(?:script|style)\b)[^<]*)*</\1\s*>", re.IGNORECASE)
_TAG = re.compile(r"<[/!?]?[a-zA-Z\-][^<>]*>")
_LARGEST_COUNT = 2**63 - 1


def as_text(value: object) -> str:
    """Return a scalar, or a list of them joined by commas, as clean text on one line.

    Args:
        value: text, a number, a date, bytes in UTF-8, a list of these, or an object with a `name`.

    Returns:
        The text; control characters have become spaces.

    Raises:
        InputError: the value is an object without a name, no UTF-8, or longer than a million characters.
    """
    if isinstance(value, str):
        if len(value) > MAX_TEXT:
            raise InputError(f"longer than {MAX_TEXT} characters")
        if value.isprintable() and "  " not in value:  # the usual case, without a call
            return value.strip()
        return clean_text(value)
    if isinstance(value, list | tuple):
        return as_text(", ".join(filter(None, (_scalar_text(item) for item in value))))
    return clean_text(_scalar_text(value))


def _scalar_text(value: object) -> str:
    if isinstance(value, Mapping):  # {"@type": "Brand", "name": "Acme"}
        value = value.get("name")
    if value is None:
        return ""
    if isinstance(value, bytes):
        try:
            return as_text(value.decode())
        except UnicodeDecodeError as error:
            raise InputError(f"not UTF-8: byte 0x{value[error.start]:02x} at {error.start + 1}") from error
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and not math.isfinite(value):
        return ""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))  # a column of whole numbers with gaps is often stored as floats
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Mapping | list | tuple):
        raise InputError("not a text")
    return as_text(str(value))


def as_id(value: object) -> str:
    """Return a product id: text without white space, which would break TREC files.

    Args:
        value: text or a whole number.

    Returns:
        The id, its ends stripped.

    Raises:
        InputError: the id holds white space or a control character, or is no text.
    """
    text = value.strip() if isinstance(value, str) else _scalar_text(value)
    if text.isascii() and text.isalnum():
        return as_text(text)
    if _CONTROL.search(text):
        raise InputError("control character in id")
    if _SPACE.search(text):
        raise InputError("white space in id")
    return as_text(text)


def as_description(value: object) -> str:
    """Return text without its HTML: tags become spaces, entities their characters.

    Raises an InputError as `as_text` does.
    """
    if not isinstance(value, str):
        value = as_text(value)
    if "<" not in value and "&" not in value:
        return as_text(value)
    if len(value) > MAX_TEXT:
        raise InputError(f"longer than {MAX_TEXT} characters")
    text = html.unescape(_without_tags(value))
    return as_text(_without_tags(text))  # once more: feeds often escape their markup twice


def as_category(value: object) -> str:
    """Return a category path; raises an InputError if it is too long or too deep."""
    if isinstance(value, str) and len(value) <= _SHORT:
        return _short_category(value)
    return as_text(category_path(as_text(value) if isinstance(value, str | bytes) else value))


@lru_cache(4096)  # many products have the same one
def _short_category(text: str) -> str:
    return as_text(category_path(as_text(text)))


def _without_tags(text: str) -> str:
    return _TAG.sub(" ", _SCRIPT.sub(" ", text))


def as_number(value: object) -> float | None:
    """Return a finite number; blank is None.

    Args:
        value: a number, or text such as `4.5`, `4,5`, `1 200`.

    Returns:
        The number.

    Raises:
        InputError: the value is no number, or is not finite.
    """
    if type(value) is float:
        number = value
    elif isinstance(value, str):
        if not value.strip():
            return None
        number = _number_in(value)
    elif isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise InputError("not a number")
    else:
        number = float(value)
    if not math.isfinite(number):
        raise InputError("not a number")
    return number


def _number_in(text: str) -> float:
    if len(text) > 100:
        raise InputError("not a number")
    try:
        return float(text)
    except ValueError:
        return parse_amount(text)


def as_rating(value: object) -> float | None:
    """Return a number of zero or more, whatever its scale; raises an InputError for any other value."""
    number = as_number(value)
    if number is not None and number < 0:
        raise InputError("less than zero")
    return number


def as_count(value: object) -> int | None:
    """Return a whole number from 0 to 2^63 - 1; raises an InputError for any other value."""
    number = as_rating(value)
    if number is None:
        return None
    if not number.is_integer() or number > _LARGEST_COUNT:
        raise InputError("not a whole number")
    return int(number)


def as_attributes(value: object, rest: Mapping[str, object]) -> dict[str, AttributeValue]:
    """Return attributes and leftover columns as one flat map.

    Objects are flattened with dots (`size.width`), lists of scalars joined by commas, and objects of a name
    and a value (`attribute_name`, `attribute_value`; `name`, `value`) become the attribute of that name.

    Args:
        value: the `attributes` field: an object, text that holds a JSON object, a list of names with values,
            or None.
        rest: columns that no field takes; an attribute goes before a column of its name.

    Returns:
        Name to text, finite number or boolean; blank values are left out.

    Raises:
        InputError: text that begins like a JSON object is none, or objects are nested deeper than 20 levels.
    """
    flat: dict[str, AttributeValue] = {}
    for column, content in rest.items():
        try:
            _add(flat, clean_text(column.removeprefix("attributes.")), content, 0)
        except InputError as error:
            raise InputError(error.reason, field=column) from error
    given = _json_object(value) if isinstance(value, str) else value
    if isinstance(given, Mapping) and "attribute_name" not in given:
        _add_all(flat, "", given, 0)
    else:
        _add(flat, "attributes", given, 0)
    return flat


def _json_object(text: str) -> object:
    if len(text) > MAX_TEXT:
        raise InputError(f"longer than {MAX_TEXT} characters")
    if not text.lstrip().startswith("{"):
        return text
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InputError(f"not a JSON object: {error.msg}") from error


def _add(flat: dict[str, AttributeValue], name: str, value: object, depth: int) -> None:
    if not name or value is None:
        return
    if isinstance(value, str):
        if text := as_text(value):
            flat[name] = text
    elif isinstance(value, bool | int):
        flat[name] = value
    elif isinstance(value, float):
        if math.isfinite(value):
            flat[name] = value
    else:
        _add_nested(flat, name, value, depth + 1)


def _add_nested(flat: dict[str, AttributeValue], name: str, value: object, depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise InputError(f"nested deeper than {_MAX_DEPTH} levels")
    if pair := _name_and_value(value):
        _add(flat, *pair, depth)
    elif isinstance(value, Mapping):
        _add_all(flat, f"{name}.", value, depth)
    elif isinstance(value, list | tuple) and any(isinstance(item, Mapping | list | tuple) for item in value):
        for number, item in enumerate(value, start=1):
            _add(flat, f"{name}.{number}", item, depth)
    elif text := as_text(value):
        flat[name] = text


def _add_all(flat: dict[str, AttributeValue], prefix: str, values: Mapping[str, object], depth: int) -> None:
    for key, value in values.items():
        if name := clean_text(key):
            _add(flat, prefix + name, value, depth)


def _name_and_value(value: object) -> tuple[str, object] | None:
    """Return the parts of `{"name", "value"}`, of the feed's product detail, or of an Arrow map entry."""
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str):
        return clean_text(value[0]), value[1]
    if isinstance(value, Mapping):
        for name, content in (("attribute_name", "attribute_value"), ("name", "value")):
            if isinstance(value.get(name), str) and content in value:
                return clean_text(str(value[name])), value[content]
    return None
