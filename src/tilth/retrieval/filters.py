"""Conditions on columns, as plain JSON, to the rows that they allow.

{"brand": "Terra"}                          equal
{"brand": ["Terra", "Humus"]}               one of
{"price": {"gte": 5, "lt": 20}}             range, either end open
{"brand": "Terra", "availability": "in_stock"}    all of them
"""

import sys
from collections.abc import Mapping
from functools import reduce
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tilth.errors import InputError
from tilth.protocols import Rows
from tilth.retrieval.columns import FILTERABLE

Filters = Mapping[str, object]
_LARGEST = sys.float_info.max
_BOUNDS = {
    "gt": pc.greater,
    "gte": pc.greater_equal,
    "lt": pc.less,
    "lte": pc.less_equal,
}


def allowed_rows(table: pa.Table, filters: Filters | None) -> Rows | None:
    """Return the rows that satisfy every condition, ascending; None if there is no condition.

    A product that lacks a field satisfies no condition on it.

    Args:
        table: one row a product.
        filters: field name to condition.

    Returns:
        Row numbers, or None.

    Raises:
        InputError: an unknown field, a value of the wrong type or an unknown bound; lists what exists.
    """
    if not filters:
        return None
    masks = [_mask(table, field, condition) for field, condition in filters.items()]
    return np.flatnonzero(pc.fill_null(reduce(pc.and_, masks), False).to_numpy())


def _mask(table: pa.Table, field: str, condition: object) -> pa.ChunkedArray:
    if field not in FILTERABLE:
        raise InputError(f"no field to filter by; there are {', '.join(FILTERABLE)}", field=field)
    column = table[field]
    if pa.types.is_integer(column.type):  # so that a bound may be a fraction
        column = pc.cast(column, pa.float64(), safe=False)
    if isinstance(condition, Mapping):
        return _range_mask(column, field, condition)
    values = list(condition) if isinstance(condition, list | tuple) else [condition]
    return pc.is_in(column, value_set=_values(column.type, field, values))


def _range_mask(column: pa.ChunkedArray, field: str, bounds: Mapping[str, object]) -> pa.ChunkedArray:
    unknown = [name for name in bounds if name not in _BOUNDS]
    if unknown or not bounds:
        raise InputError(f"a range has the bounds {', '.join(_BOUNDS)}", field=field, value=dict(bounds))
    masks = [
        compare(column, _values(column.type, field, [bounds[name]])[0])
        for name, compare in _BOUNDS.items()
        if name in bounds
    ]
    return reduce(pc.and_, masks)


def _values(kind: pa.DataType, field: str, values: list[Any]) -> pa.Array:
    """Convert the values of a condition to a column's type; a text is never taken for a number."""
    text = pa.types.is_string(kind)
    for value in values:
        if not (isinstance(value, str) if text else _is_number(value)):
            raise InputError(f"needs {'text' if text else 'a finite number'}", field=field, value=value)
    return pa.array(values if text else map(float, values), type=kind)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST
