"""What the distinct values of an attribute are: numbers, quantities in one unit, dates, booleans or text."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tilth.catalog import parse_amount
from tilth.errors import InputError
from tilth.retrieval.column_chunks import BOOLEAN, NUMBER, TEXT

Numbers = npt.NDArray[np.float64]  # (V,), one a distinct value; dates are seconds since 1970

_QUANTITY = re.compile(
    r"(-?)(?!0[0-9])([0-9]+(?:[ .,][0-9]+)*)"  # 007 is a name
    r"(?: ?(?![xх×*] ?[0-9])([^\s0-9.,+/-]\S{0,15}(?: [^\s0-9]{1,16})?))?"  # 10 x 20 cm is no quantity
)
_MOST_DIGITS = 15  # beyond, floats take different numbers for one
_TIME = r"[0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?(?:Z|[+-][0-9]{2}:[0-9]{2})?"
_DATE = re.compile(rf"[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}(?:[T ]{_TIME})?")


@dataclass(frozen=True, slots=True)
class Kind:
    """The type of a field: id, text, path, number, date, boolean or presence; a number may have a unit."""

    type: str
    unit: str = ""


def joint_kind(kinds: Iterable[Kind]) -> Kind:
    """Return the kind of values from several places: text, unless they agree; presence adds nothing."""
    distinct = set(kinds) - {Kind("presence")}
    if not distinct:
        return Kind("presence")
    return distinct.pop() if len(distinct) == 1 else Kind("text")


def meaning(texts: pa.LargeStringArray, types: npt.NDArray[np.uint8]) -> tuple[Kind, Numbers]:
    """Find what all of V distinct values are.

    Args:
        texts: (V,) the values as text.
        types: (V,) TEXT, NUMBER or BOOLEAN.

    Returns:
        The kind, `presence` where V is 0; and the number of each value: an amount, seconds since 1970 for a
        date, 0 or 1 for a boolean. Text has no numbers: NaN.
    """
    if len(texts) == 0:
        return Kind("presence"), np.empty(0)
    if (types == BOOLEAN).all():
        return Kind("boolean"), np.asarray(pc.equal(texts, "true"), np.float64)
    if not (types == BOOLEAN).any() and (found := _quantities(texts, types)):
        return found
    if (types == TEXT).all() and (dates := _all_dates(texts)) is not None:
        return Kind("date"), dates
    return Kind("text"), np.full(len(texts), np.nan)


def _quantities(texts: pa.LargeStringArray, types: npt.NDArray[np.uint8]) -> tuple[Kind, Numbers] | None:
    numbers, units = np.empty(len(texts)), set()
    for place, text in enumerate(_each(texts)):
        quantity = (float(text), "") if types[place] == NUMBER else parse_quantity(text)
        if quantity is None:
            return None
        numbers[place] = quantity[0]
        units.add(quantity[1])
        if len(units) > 1:
            return None
    return Kind("number", units.pop()), numbers


def _all_dates(texts: pa.LargeStringArray) -> Numbers | None:
    dates = np.empty(len(texts))
    for place, text in enumerate(_each(texts)):
        date = parse_date(text)
        if date is None:
            return None
        dates[place] = date
    return dates


def _each(texts: pa.LargeStringArray) -> Iterator[str]:
    """Yield texts one by one: most attributes are known for text after the first."""
    return (text.as_py() for text in texts)


def parse_quantity(text: str) -> tuple[float, str] | None:
    """Read `60 l`, `4,5 mm` or `12` as number and unit (empty where there is none); None if it is neither."""
    match = _QUANTITY.fullmatch(text)
    if match is None or sum(map(str.isdigit, match[2])) > _MOST_DIGITS:
        return None
    try:
        amount = parse_amount(match[2])
    except InputError:  # 1.2.3
        return None
    return (-amount if match[1] else amount), match[3] or ""


def parse_date(text: str) -> float | None:
    """Read an ISO 8601 date, with or without a time, as seconds since 1970; UTC if it names no zone."""
    if not _DATE.fullmatch(text):
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:  # 2024-02-30
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
