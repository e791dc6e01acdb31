"""What can be asked of the service, what comes back, and the limits that requests keep."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

import orjson

from tilth.context import Context
from tilth.errors import InputError
from tilth.pipeline import Answer
from tilth.retrieval.filters import Filters
from tilth.serve.settings import Limits

_NO_FACETS: Sequence[str] = ()
LONGEST_FIELD = 1_000  # characters of a field's name
LONGEST_NAME = 200  # characters of an arm, a client or a kind


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRequest:
    """A search; `deadline_ms` is what is left of the caller's patience, None for the service's own."""

    query: str
    k: int = 10
    filters: Filters | None = None
    facets: Sequence[str] = _NO_FACETS
    cursor: str | None = None  # of the page before; what else is asked must be the same as there
    collapse: bool = False
    explain: bool = False  # find the terms that each hit matches
    arm: str = ""
    release: str | None = None  # a release, or "hybrid"; None: the one in force
    deadline_ms: float | None = None
    kind: str = "search"
    client_id: str = ""
    log: bool = True


@dataclass(frozen=True, slots=True)
class Found:
    """One page of hits; `cursor` leads to the next one, None where there is none."""

    impression_id: str
    answer: Answer
    first_rank: int
    cursor: str | None
    arm: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextRequest:
    """A context for a language model; what is None is as the settings say."""

    query: str
    budget_tokens: int | None = None
    k: int | None = None
    filters: Filters | None = None
    template: str = "markdown"
    passages_per_product: int = 2
    arm: str = ""
    release: str | None = None
    deadline_ms: float | None = None
    kind: str = "context"
    client_id: str = ""


@dataclass(frozen=True, slots=True)
class ContextFound:
    """A context, and the answer that it was made of."""

    impression_id: str
    context: Context
    answer: Answer
    milliseconds: Mapping[str, float] = field(default_factory=dict)  # by stage, `context` among them


def check_text(text: str, longest: int, name: str) -> None:
    """Refuse a text that is too long or that no store can keep.

    Args:
        text: what was sent.
        longest: characters.
        name: of its field.

    Raises:
        InputError: it is too long, or holds a NUL or half a character.
    """
    if len(text) > longest:
        raise InputError(f"has {len(text):,} characters; at most {longest:,} are read", field=name)
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise InputError("holds a NUL or half a character", field=name, value=text)


def check_range(value: float, low: float, high: float, name: str) -> None:
    """Refuse a number outside its range, or one that is none."""
    if not low <= value <= high:
        raise InputError(f"must be from {low:,} to {high:,}", field=name, value=value)


def check_filters(filters: Filters | None, limits: Limits) -> None:
    """Refuse filters with too many levels, conditions or values; what they mean is not looked at.

    Args:
        filters: as they came.
        limits: `filter_depth`, `filter_conditions`, and `batch` for the values of lists.

    Raises:
        InputError: there are too many, a name is too long, or JSON does not hold such values.
    """
    level: list[object] = [filters]
    conditions = values = 0
    for _ in range(2 * limits.filter_depth + 1):  # an object and a list a level
        objects = [each for each in level if isinstance(each, Mapping)]
        lists = [each for each in level if isinstance(each, list | tuple)]
        for name in chain.from_iterable(objects):
            check_text(name, LONGEST_FIELD, "filters")
        conditions += sum(map(len, objects))
        values += sum(map(len, lists))
        if conditions > 2 * limits.filter_conditions:  # a field and its operator
            raise InputError(f"has more than {limits.filter_conditions} conditions", field="filters")
        if values > limits.batch:
            raise InputError(f"has more than {limits.batch:,} values", field="filters")
        level = [part for each in objects for part in each.values()] + [
            part for each in lists for part in each
        ]
        if not level:
            break
    if any(isinstance(each, Mapping | list | tuple) for each in level):
        raise InputError(f"is nested deeper than {limits.filter_depth} levels", field="filters")
    try:
        orjson.dumps(filters)
    except TypeError as error:  # a whole number beyond 64 bits, half a character
        raise InputError(f"cannot be read: {error}", field="filters") from error
