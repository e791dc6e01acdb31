"""What there is to filter by: the values of a field with their counts, all fields, and a schema of filters.

A catalogue may be in parts: the columns of a generation, and those of products that came after it. Each part
goes with a selection of its rows; counts of all parts are added.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tilth.errors import InputError
from tilth.protocols import Rows
from tilth.retrieval.column_chunks import NUMBER, NUMBER_FIELDS, PRESENCE_FIELDS, TEXT, Mask
from tilth.retrieval.columns import Coded, Columns
from tilth.retrieval.filters import ATTRIBUTE, FIELDS, RANGES, Field, find_field, operators_of

Selection = Mask | Rows | None  # a mask of all rows, row numbers each at most once, or None for all
MOST_VALUES = 20  # of a field, the most frequent, that a schema shows
MOST_ATTRIBUTES = 40  # those of the most products, that a schema of filters spells out

_Counted = tuple[Coded, npt.NDArray[np.int64]]


def facet_counts(
    parts: Sequence[Columns], selections: Sequence[Selection], field: str, most: int | None = None
) -> dict[str, Any]:
    """Count the values of one field among selected rows.

    Args:
        parts: the columns of one catalogue.
        selections: of each part.
        field: a text field or attribute, or a number field of the product.
        most: how many values to return; None for all.

    Returns:
        Value as text to its count, the most frequent first. For a number field of the product `count`, the
        selected rows that have it, and its `min` and `max`, absent where the count is 0.

    Raises:
        InputError: there is no such field, or nothing but its presence is known.
    """
    found = find_field(parts, field)
    masks = [_mask(columns, chosen) for columns, chosen in zip(parts, selections, strict=True)]
    if found.name in NUMBER_FIELDS:
        return _number_summary(parts, masks, found.name)
    if found.kind.type in ("presence", "id"):
        raise InputError("has no values to count", field=field)
    counts: Counter[str] = Counter()
    for value, count in _top(_counted(parts, masks, found), most):
        counts[_as_text(value)] += count  # 5 and "5" are shown alike
    return dict(counts.most_common())


def _mask(columns: Columns, selection: Selection) -> Mask | None:
    if selection is None or selection.dtype == bool:
        return selection  # type: ignore[return-value]
    mask = np.zeros(len(columns), bool)
    mask[selection] = True
    return mask


def _number_summary(parts: Sequence[Columns], masks: Sequence[Mask | None], name: str) -> dict[str, Any]:
    held = [columns.numbers[name] for columns in parts]
    chosen = [numbers if m is None else numbers[m] for numbers, m in zip(held, masks, strict=True)]
    known = np.concatenate([numbers[~np.isnan(numbers)] for numbers in chosen])
    if not len(known):
        return {"count": 0}
    return {"count": len(known), "min": _plain(known.min()), "max": _plain(known.max())}


# --- counting values ------------------------------------------------------------------------------


def _counted(parts: Sequence[Columns], masks: Sequence[Mask | None], field: Field) -> list[_Counted]:
    """Return the values and counts of each part, those of later parts without what an earlier part has."""
    counted: list[_Counted] = []
    for columns, mask in zip(parts, masks, strict=True):
        coded = field.coded(columns)
        if coded is not None:
            counts = coded.counts(mask)
            for earlier, sums in counted:
                _move(coded, counts, earlier, sums)
            counted.append((coded, counts))
    return counted


def _move(coded: Coded, counts: npt.NDArray[np.int64], into: Coded, sums: npt.NDArray[np.int64]) -> None:
    """Add the counts of values that `into` has too to its own, and set them to 0."""
    places = np.flatnonzero(counts)
    for kind in np.unique(coded.types[places]):
        mine = places[coded.types[places] == kind]
        found = pc.index_in(into.texts, coded.texts.take(pa.array(mine))).fill_null(-1).to_numpy()
        there = np.flatnonzero((found >= 0) & (into.types == kind))
        sums[there] += counts[mine[found[there]]]
        counts[mine[found[there]]] = 0


def _top(counted: Sequence[_Counted], most: int | None) -> list[tuple[Any, int]]:
    """Return the most frequent values and their counts, at first those that come first in the catalogue."""
    pairs: list[tuple[Any, int]] = []
    for coded, counts in counted:
        places = _largest(counts, most)
        texts = coded.texts.take(pa.array(places)).to_pylist()
        values = (_value(text, kind) for text, kind in zip(texts, coded.types[places].tolist(), strict=True))
        pairs += zip(values, counts[places].tolist(), strict=True)
    return sorted(pairs, key=lambda pair: -pair[1])[:most]


def _largest(counts: npt.NDArray[np.int64], most: int | None) -> npt.NDArray[np.int64]:
    """Return the places of the largest counts above 0, largest first, ties in their order."""
    places = np.flatnonzero(counts)
    if most is not None and most < len(places):
        held = counts[places]
        least = np.partition(held, len(held) - most)[len(held) - most]
        ties = places[held == least][: most - int((held > least).sum())]
        places = np.sort(np.concatenate((places[held > least], ties)))
    return places[np.argsort(-counts[places], kind="stable")]


def _value(text: str, kind: int) -> str | float | bool:
    return text if kind == TEXT else _plain(float(text)) if kind == NUMBER else text == "true"


def _plain(number: float) -> float:
    """Return a whole number as an int, as people write it."""
    return int(number) if float(number).is_integer() and abs(number) < 2**53 else float(number)


def _as_text(value: str | float) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


# --- all fields -----------------------------------------------------------------------------------


def schema(parts: Sequence[Columns], alive: Sequence[Mask | None]) -> dict[str, dict[str, Any]]:
    """Describe every field that some live product has, as plain JSON.

    Args:
        parts: the columns of one catalogue.
        alive: the rows of each part that count; None for all.

    Returns:
        Field (`attributes.NAME` for attributes, those of the most products first) to `type` (id, text, path,
        number, date, boolean, presence), `unit` where numbers have one, `products` that have it, `min` and
        `max` of numbers and dates; and, but for ids, presence and the product's own numbers, how many
        `distinct` values it has and the most frequent `values`, at most 20, each `value` and `count`.
    """
    own = [(name, _described(parts, alive, find_field(parts, name))) for name in FIELDS]
    names = {ATTRIBUTE + name for columns in parts for name in columns.attribute_names}
    others = [(name, _described(parts, alive, find_field(parts, name))) for name in sorted(names)]
    others.sort(key=lambda pair: -pair[1]["products"])
    return {name: facts for name, facts in own + others if facts["products"]}


def _described(parts: Sequence[Columns], alive: Sequence[Mask | None], field: Field) -> dict[str, Any]:
    facts: dict[str, Any] = {"type": field.kind.type}
    if field.kind.unit:
        facts["unit"] = field.kind.unit
    if field.name in NUMBER_FIELDS:
        summary = _number_summary(parts, alive, field.name)
        return facts | {"products": summary.pop("count")} | summary
    facts["products"] = sum(_having(field, each, mask) for each, mask in zip(parts, alive, strict=True))
    if facts["products"] and field.kind.type not in ("id", "presence"):
        facts |= _described_values(field, _counted(parts, alive, field))
    return facts


def _having(field: Field, columns: Columns, mask: Mask | None) -> int:
    """Return how many live rows have a field."""
    if field.kind.type == "id":
        return len(columns) if mask is None else int(mask.sum())
    coded = field.coded(columns)
    if field.name in PRESENCE_FIELDS:
        held = columns.presence[field.name]
        return int((held if mask is None else held & mask).sum())
    if coded is None:
        return 0
    if coded.rows is None:
        return int(coded.counts(mask).sum())
    return len(coded.rows) if mask is None else int(mask[coded.rows].sum())


def _described_values(field: Field, counted: Sequence[_Counted]) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    if field.kind.type in ("number", "date"):
        ends = [end for coded, counts in counted for end in _ends(field, coded, counts)]
        if ends:
            facts |= {"min": min(ends)[1], "max": max(ends)[1]}
    facts["distinct"] = sum(int(np.count_nonzero(counts)) for _, counts in counted)
    facts["values"] = [{"value": value, "count": count} for value, count in _top(counted, MOST_VALUES)]
    return facts


def _ends(field: Field, coded: Coded, counts: npt.NDArray[np.int64]) -> Iterable[tuple[float, Any]]:
    """Return the least and the largest value that occurs: as a number to compare, and as it is shown."""
    places = np.flatnonzero(counts)
    if not len(places):
        return []
    numbers = coded.meaning[1][places]
    shown = [places[numbers.argmin()], places[numbers.argmax()]]
    ends = [float(numbers.min()), float(numbers.max())]
    if field.kind.type == "date":
        return zip(ends, coded.texts.take(pa.array(shown)).to_pylist(), strict=True)
    return zip(ends, map(_plain, ends), strict=True)


# --- a schema of filters --------------------------------------------------------------------------


def json_schema(fields: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return a JSON Schema (draft 2020-12) of the filters that a catalogue understands.

    It serves as the parameters of a tool that a language model calls. The 40 attributes of the most products
    are spelt out; any other may be named too. Filters that it accepts can still be refused: an empty range,
    filters nested too deep.

    Args:
        fields: what `schema` returned.

    Returns:
        The JSON Schema of an object; filters within filters refer to `#/$defs/filters`.
    """
    attributes = [name for name in fields if name.startswith(ATTRIBUTE)]
    left_out = set(attributes[MOST_ATTRIBUTES:])
    filters: dict[str, Any] = {
        "type": "object",
        "properties": {name: _condition(facts) for name, facts in fields.items() if name not in left_out},
        "additionalProperties": False,
    }
    if left_out:
        filters["patternProperties"] = {"^attributes[.]": {"description": "Another attribute of products"}}
    inner = {"$ref": "#/$defs/filters"}
    filters["properties"] |= {
        "and": {"type": "array", "items": inner},
        "or": {"type": "array", "items": inner, "minItems": 1},
        "not": inner,
    }
    dialect = "https://json-schema.org/draft/2020-12/schema"
    return {"$schema": dialect, "type": "object", **inner, "$defs": {"filters": filters}}


def _condition(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of the conditions on one field: a value, one of several, or operators."""
    value = _value_schema(facts)
    listed = {"type": "array", "items": value, "minItems": 1}
    plain = [] if facts["type"] == "presence" else [value, listed]
    return {"description": _sentence(facts), "anyOf": [*plain, _operators(facts)]}


def _value_schema(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of one value; the values themselves where all are known and none is a number."""
    if facts["type"] == "number":
        return _number_schema(facts)
    values = [each["value"] for each in facts.get("values", [])]
    if facts["type"] == "boolean":
        return {"type": "boolean"}
    if values and facts["distinct"] == len(values):
        return {"enum": values}
    return {"type": "string"} if all(isinstance(value, str) for value in values) else {}


def _number_schema(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": ["number", "string"] if "unit" in facts else "number"}  # 60, or "60 l"


def _operators(facts: Mapping[str, Any]) -> dict[str, Any]:
    bound = _number_schema(facts) if facts["type"] == "number" else {"type": "string"}
    schemas = {"exists": {"type": "boolean"}, "prefix": {"type": "string"}, **dict.fromkeys(RANGES, bound)}
    names = operators_of(facts["type"])
    return {
        "type": "object",
        "properties": {name: schemas[name] for name in names},
        "additionalProperties": False,
        "minProperties": 1,
    }


def _sentence(facts: Mapping[str, Any]) -> str:
    unit = f" in {facts['unit']}" if "unit" in facts else ""
    ends = f", {facts['min']} to {facts['max']}" if "min" in facts else ""
    examples = [str(each["value"]) for each in facts.get("values", [])[:5]]
    such = f", such as {'; '.join(examples)}" if examples and "min" not in facts else ""
    return f"{facts['type']}{unit}{ends}{such}"
