"""Conditions on products, as plain JSON, to the rows that they allow.

{"brand": "Terra"}                                   equal, whatever the case
{"brand": ["Terra", "Humus"]}                        one of
{"price": {"gte": 5, "lt": 20}}                      range, either end open; of dates too
{"product_type": {"prefix": "Garden > Compost"}}     that category and all below it
{"gtin": {"exists": true}}                           has the field, or has it not
{"attributes.volume": "60 l"}, {"volume": 60}        an attribute; its bare name where no field has it
{"brand": "Terra", "availability": "in_stock"}       all of them
{"and": [...]}, {"or": [...]}, {"not": {...}}        filters of filters

A product that lacks a field satisfies no condition on it but `{"exists": false}`; `not` turns any filter
round. Text is compared without case (`str.casefold`), product ids exactly. An attribute whose values are all
numbers in one unit is compared as a number, and so is `"60 l"` with it; one whose values are all ISO 8601
dates is compared as a date.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from rapidfuzz import process
from rapidfuzz.distance import OSA

from tilth.errors import InputError
from tilth.retrieval.column_chunks import (
    NUMBER_FIELDS,
    PRESENCE_FIELDS,
    STRING,
    TEXT,
    TEXT_FIELDS,
    Mask,
    value_text,
    value_type,
)
from tilth.retrieval.columns import Coded, Columns
from tilth.retrieval.kinds import Kind, Numbers, joint_kind, parse_date, parse_quantity

Filters = Mapping[str, object]
Test = Callable[[Columns], Mask]

ATTRIBUTE = "attributes."  # before the name of an attribute
FIELDS = ("product_id", *TEXT_FIELDS, *NUMBER_FIELDS, *PRESENCE_FIELDS)
RANGES: Mapping[str, Callable[[Numbers, float], Mask]] = {
    "gt": np.greater,
    "gte": np.greater_equal,
    "lt": np.less,
    "lte": np.less_equal,
}
DEEPEST = 32  # levels of and, or, not
_SHOWN = 12  # attributes that an error lists


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a catalogue: its name, `attributes.volume` for an attribute, and what its values are."""

    name: str
    kind: Kind

    def coded(self, columns: Columns) -> Coded | None:
        """Return the field's distinct values and codes; None where it has none."""
        if self.name.startswith(ATTRIBUTE):
            return columns.attribute(self.name.removeprefix(ATTRIBUTE))
        return columns.texts.get(self.name)


def allowed_in(parts: Sequence[Columns], filters: Filters | None) -> list[Mask] | None:
    """Return which rows of each part of one catalogue satisfy filters.

    Args:
        parts: a field is known if any part has it, and what its values are follows from all of them.
        filters: field to condition, or `and`, `or`, `not` to filters.

    Returns:
        A mask a part, to be changed at will; None if there is no condition.

    Raises:
        InputError: an unknown field or operator, a value of the wrong type, a condition that nothing can
            satisfy, or filters nested deeper than 32 levels. A value that no product has is no error.
    """
    if not filters:
        return None
    test = _every(parts, filters, 1)
    return [test(columns) for columns in parts]


def find_field(parts: Sequence[Columns], name: str) -> Field:
    """Return the field of a name: the product's own, or else an attribute.

    Args:
        parts: the columns of one catalogue.
        name: `brand`, `attributes.volume`, `volume`.

    Returns:
        The field.

    Raises:
        InputError: no product has it; names the nearest and lists what there is.
    """
    if name in FIELDS:
        return Field(name, _own_kind(name))
    bare = name.removeprefix(ATTRIBUTE)
    for attribute in (bare, name):  # an attribute may itself be called attributes.x
        found = [coded for columns in parts if (coded := columns.attribute(attribute)) is not None]
        if found:
            return Field(ATTRIBUTE + attribute, joint_kind(coded.meaning[0] for coded in found))
    raise _unknown_field(parts, name)


def _own_kind(name: str) -> Kind:
    if name in TEXT_FIELDS:
        return Kind("path" if name == "product_type" else "text")
    return Kind("number" if name in NUMBER_FIELDS else "presence" if name in PRESENCE_FIELDS else "id")


def _unknown_field(parts: Sequence[Columns], name: str) -> InputError:
    attributes = sorted({attribute for columns in parts for attribute in columns.attribute_names})
    near = process.extract(
        name.removeprefix(ATTRIBUTE),
        [*FIELDS, *attributes],
        scorer=OSA.normalized_similarity,
        processor=str.casefold,
        score_cutoff=0.5,
        limit=3,
    )
    nearest = f"The nearest: {', '.join(match[0] for match in near)}. " if near else ""
    shown = ", ".join(attributes[:_SHOWN]) + (", …" if len(attributes) > _SHOWN else "")
    there = f"There are {', '.join(FIELDS)}; and {len(attributes)} attributes: {shown}"
    return InputError("no field to filter by", field=name, remedy=nearest + there)


# --- filters --------------------------------------------------------------------------------------


def _every(parts: Sequence[Columns], filters: object, depth: int) -> Test:
    if depth > DEEPEST:
        raise InputError(f"filters are nested deeper than {DEEPEST} levels")
    if not isinstance(filters, Mapping):
        raise InputError("a filter is an object of fields and their conditions", value=filters)
    return _all([_test(parts, name, condition, depth) for name, condition in filters.items()])


def _test(parts: Sequence[Columns], name: str, condition: object, depth: int) -> Test:
    if name == "not":
        test = _every(parts, condition, depth + 1)
        return lambda columns: ~test(columns)
    if name in ("and", "or"):
        if not isinstance(condition, list | tuple) or (name == "or" and not condition):
            raise InputError("needs a list of at least one filter", field=name, value=condition)
        tests = [_every(parts, filters, depth + 1) for filters in condition]
        return _all(tests) if name == "and" else _any(tests)
    return _condition(parts, find_field(parts, name), condition)


def _all(tests: Sequence[Test]) -> Test:
    def test(columns: Columns) -> Mask:
        mask = np.ones(len(columns), bool)
        for each in tests:
            mask &= each(columns)
        return mask

    return test


def _any(tests: Sequence[Test]) -> Test:
    def test(columns: Columns) -> Mask:
        mask = np.zeros(len(columns), bool)
        for each in tests:
            mask |= each(columns)
        return mask

    return test


def _condition(parts: Sequence[Columns], field: Field, condition: object) -> Test:
    if isinstance(condition, Mapping):
        return _operators(parts, field, condition)
    values = list(condition) if isinstance(condition, list | tuple) else [condition]
    if not values:
        raise InputError("one of no values can match nothing", field=field.name, value=condition)
    if field.kind.type == "presence":
        reason = "only its presence is known"
        raise InputError(reason, field=field.name, value=condition, remedy='Ask for {"exists": true}')
    if field.kind.type in ("number", "date", "boolean"):
        numbers = [_number(parts, field, value) for value in values]
        return _number_test(field, lambda held: np.isin(held, numbers))
    return _text_test(field, [_text(parts, field, value) for value in values])


def _operators(parts: Sequence[Columns], field: Field, operators: Mapping[str, object]) -> Test:
    known = operators_of(field.kind.type)
    unknown = [name for name in operators if name not in known]
    if unknown or not operators:
        reason = f"the operators of a {field.kind.type} field are {', '.join(known)}"
        raise InputError(reason, field=field.name, value=dict(operators))
    bounds = {name: _number(parts, field, bound) for name, bound in operators.items() if name in RANGES}
    _check_range(field, operators, bounds)
    tests = [_compared(field, RANGES[name], bound) for name, bound in bounds.items()]
    if "exists" in operators:
        tests.append(_exists(field, operators["exists"]))
    if "prefix" in operators:
        tests.append(_below(field, operators["prefix"]))
    return _all(tests)


def operators_of(type_: str) -> Sequence[str]:
    """Return the operators that conditions on a field of a type may have."""
    special = {"number": (*RANGES,), "date": (*RANGES,), "path": ("prefix",)}
    return (*special.get(type_, ()), "exists")


def _check_range(field: Field, shown: Mapping[str, object], bounds: Mapping[str, float]) -> None:
    for low in ("gt", "gte"):
        for high in ("lt", "lte"):
            if low in bounds and high in bounds:
                open_ = low == "gt" or high == "lt"
                if bounds[low] > bounds[high] or (open_ and bounds[low] == bounds[high]):
                    raise InputError("an empty range can match nothing", field=field.name, value=dict(shown))


# --- conditions on one field ----------------------------------------------------------------------


def _number_test(field: Field, holds: Callable[[Numbers], Mask]) -> Test:
    if field.name in NUMBER_FIELDS:
        return lambda columns: holds(columns.numbers[field.name])
    return _coded_test(field, lambda coded: holds(coded.meaning[1]))


def _compared(field: Field, compare: Callable[[Numbers, float], Mask], bound: float) -> Test:
    return _number_test(field, lambda held: compare(held, bound))


def _coded_test(field: Field, choose: Callable[[Coded], Mask]) -> Test:
    def test(columns: Columns) -> Mask:
        coded = field.coded(columns)
        return np.zeros(len(columns), bool) if coded is None else coded.mask(choose(coded), len(columns))

    return test


def _text_test(field: Field, values: Sequence[str | float]) -> Test:
    if field.kind.type == "id":
        return lambda columns: _rows_mask(columns, [str(value) for value in values])
    wanted = {
        kind: pa.array([value_text(v).casefold() for v in values if value_type(v) == kind], STRING)
        for kind in {value_type(value) for value in values}
    }

    def choose(coded: Coded) -> Mask:
        chosen = np.zeros(len(coded.texts), bool)
        for kind, texts in wanted.items():
            same = pc.is_in(coded.folded, texts) if len(texts) > 1 else pc.equal(coded.folded, texts[0])
            chosen |= np.asarray(same, bool) & (coded.types == kind)
        return chosen

    return _coded_test(field, choose)


def _rows_mask(columns: Columns, product_ids: Sequence[str]) -> Mask:
    rows = columns.row_of(product_ids)
    mask = np.zeros(len(columns), bool)
    mask[rows[rows >= 0]] = True
    return mask


def _exists(field: Field, wanted: object) -> Test:
    if not isinstance(wanted, bool):
        raise InputError("`exists` is true or false", field=field.name, value=wanted)
    return (
        (lambda columns: _present(field, columns)) if wanted else (lambda columns: ~_present(field, columns))
    )


def _present(field: Field, columns: Columns) -> Mask:
    if field.name in PRESENCE_FIELDS:
        return columns.presence[field.name]
    if field.name in NUMBER_FIELDS:
        return ~np.isnan(columns.numbers[field.name])
    coded = field.coded(columns)
    if coded is None:  # every product has an id; no product of this part has the attribute
        return np.full(len(columns), field.kind.type == "id")
    return coded.present(len(columns))


def _below(field: Field, path: object) -> Test:
    if not isinstance(path, str) or not path.strip(" >"):
        raise InputError("a prefix is a category such as 'Garden > Compost'", field=field.name, value=path)
    top = " > ".join(part.strip() for part in path.strip(" >").casefold().split(">"))

    def choose(coded: Coded) -> Mask:
        return np.asarray(
            pc.or_(pc.equal(coded.folded, top), pc.starts_with(coded.folded, top + " > ")), bool
        )

    return _coded_test(field, choose)


# --- values ---------------------------------------------------------------------------------------


def _number(parts: Sequence[Columns], field: Field, value: object) -> float:
    """Return what a number field holds for a value of a filter."""
    number = None
    if field.kind.type == "boolean":
        number = float(value) if isinstance(value, bool) else None
    elif field.kind.type == "date":
        number = parse_date(value) if isinstance(value, str) else None
    elif isinstance(value, str) and field.name.startswith(ATTRIBUTE):
        quantity = parse_quantity(value.strip())
        if quantity and quantity[1].casefold() == field.kind.unit.casefold():
            number = quantity[0]
    else:
        number = _finite(value)
    if number is None:
        raise _wrong_type(parts, field, value)
    return number


def _finite(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) + 0.0 if math.isfinite(value) else None
    except OverflowError:
        return None


def _text(parts: Sequence[Columns], field: Field, value: object) -> str | float:
    """Return a value as a text field holds it; numbers and booleans where some product has one."""
    if isinstance(value, str):
        return value
    held = [coded.types for columns in parts if (coded := field.coded(columns)) is not None]
    plain = value if isinstance(value, bool) else _finite(value)
    if plain is None or not any((types == value_type(plain)).any() for types in held):
        raise _wrong_type(parts, field, value)
    return plain


def _wrong_type(parts: Sequence[Columns], field: Field, value: object) -> InputError:
    needed = {"number": "a finite number", "date": "an ISO 8601 date", "boolean": "true or false"}
    reason = f"needs {needed.get(field.kind.type, 'text')}"
    if field.kind.unit:
        reason += f" in {field.kind.unit!r}"
    coded = next((coded for columns in parts if (coded := field.coded(columns)) is not None), None)
    if coded is not None and field.kind.type != "boolean" and len(coded.texts):
        types, texts = coded.types[:2].tolist(), coded.texts[:2].to_pylist()
        shown = (repr(text) if kind == TEXT else text for kind, text in zip(types, texts, strict=True))
        reason += f", such as {', '.join(shown)}"
    return InputError(reason, field=field.name, value=value)
