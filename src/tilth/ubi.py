"""Feedback as User Behavior Insights (UBI) records, the names that OpenSearch's plugins and collectors use.

A served impression is a record of the queries index, an interaction one of the events index. Fields that
have no place in Tilth are passed over.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any, TypeVar

from tilth.errors import InputError
from tilth.interactions import Interaction, Served

_OBJECT_ID_FIELD = "product_id"
_ADVANCE = timedelta(days=1)  # by which a clock may be fast
_ACTIONS = {"cart": "add_to_cart"}  # the others are called the same
_FROM_UBI = {name: action for action, name in _ACTIONS.items()}

_OBJECT_ID = "event_attributes.object.object_id"
_ORDINAL = "event_attributes.position.ordinal"
_EVENT_PATHS = {
    "impression_id": "query_id",
    "action": "action_name",
    "time": "timestamp",
    "product_id": _OBJECT_ID,
    "rank": _ORDINAL,
    "value": "event_attributes.value",
    "reason": "event_attributes.reason",
}
_ATTRIBUTES = ("kind", "first_rank", "propensities", "arm", "release", "answered", "skipped", "milliseconds")
_QUERY_PATHS = {
    "impression_id": "query_id",
    "query": "user_query",
    "time": "timestamp",
    "product_ids": "query_response_hit_ids",
    **{name: f"query_attributes.{name}" for name in _ATTRIBUTES},
}


# --- events ---------------------------------------------------------------------------------------


def interaction_from_ubi(event: object) -> Interaction:
    """Read an event.

    Args:
        event: a record of the events index, as JSON is parsed. `action_name`, `query_id` and `timestamp` must
            be there; null is as good as absent. Without an `event_id` it gets one made of what is kept of it:
            the same event is the same one whenever it is sent.

    Returns:
        The interaction.

    Raises:
        InputError: a field is missing, of the wrong type, or no interaction can have it; its path is named.
    """
    fields = _Fields(event)
    with _named(_EVENT_PATHS):
        action = fields.text("action_name")
        values: dict[str, Any] = {
            "impression_id": fields.text("query_id"),
            "action": _FROM_UBI.get(action, action),
            "time": fields.time("timestamp"),
            "product_id": fields.text(_OBJECT_ID, ""),
            "rank": fields.whole(_ORDINAL),
            "value": fields.number("event_attributes.value"),
            "reason": fields.text("event_attributes.reason", ""),
            "client_id": fields.text("client_id", ""),
            "session_id": fields.text("session_id", ""),
        }
        event_id = fields.text("event_id", "") or _hash(values)
        return Interaction(event_id=event_id, **values)


def interaction_to_ubi(interaction: Interaction) -> dict[str, object]:
    """Return an interaction as an event; what it does not have is left out."""
    i = interaction
    attributes = {
        "object": {"object_id": i.product_id, "object_id_field": _OBJECT_ID_FIELD} if i.product_id else None,
        "position": None if i.rank is None else {"ordinal": i.rank},
        "value": i.value,
        "reason": i.reason,
    }
    return _present(
        {
            "event_id": i.event_id,
            "action_name": _ACTIONS.get(i.action, i.action),
            "query_id": i.impression_id,
            "client_id": i.client_id,
            "session_id": i.session_id,
            "timestamp": _timestamp(i.time),
            "event_attributes": _present(attributes),
        }
    )


def _hash(values: Mapping[str, Any]) -> str:
    content = json.dumps({**values, "time": _timestamp(values["time"])}, sort_keys=True)
    return blake2b(content.encode(), digest_size=16).hexdigest()


# --- queries --------------------------------------------------------------------------------------


def served_from_ubi(record: object) -> Served:
    """Read a query.

    Args:
        record: a record of the queries index, as JSON is parsed. `query_id`, `user_query`, `timestamp` and
            `query_response_hit_ids` must be there; null is as good as absent. What Tilth knows beyond UBI is
            read from `query_attributes`, under the names of `Served`.

    Returns:
        The impression; its id is the `query_id`.

    Raises:
        InputError: a field is missing, of the wrong type, or no impression can have it; its path is named.
    """
    fields = _Fields(record)
    with _named(_QUERY_PATHS):
        first_rank = fields.whole("query_attributes.first_rank")
        answered = fields.get("query_attributes.answered", bool, "true or false")
        return Served(
            impression_id=fields.text("query_id"),
            query=fields.text("user_query"),
            product_ids=fields.texts("query_response_hit_ids"),
            time=fields.time("timestamp"),
            kind=fields.text("query_attributes.kind", "search"),
            first_rank=1 if first_rank is None else first_rank,
            propensities=fields.numbers("query_attributes.propensities"),
            arm=fields.text("query_attributes.arm", ""),
            release=fields.text("query_attributes.release", ""),
            answered=answered is not False,
            skipped=fields.texts("query_attributes.skipped", ()),
            milliseconds=fields.numbers_by_name("query_attributes.milliseconds"),
            application=fields.text("application", ""),
            client_id=fields.text("client_id", ""),
        )


def served_to_ubi(served: Served) -> dict[str, object]:
    """Return an impression as a record of the queries index; what it does not have is left out."""
    s = served
    attributes = {
        "kind": s.kind,
        "first_rank": s.first_rank,
        "propensities": list(s.propensities),
        "arm": s.arm,
        "release": s.release,
        "answered": s.answered,
        "skipped": list(s.skipped),
        "milliseconds": dict(s.milliseconds),
    }
    return {
        **_present({"application": s.application, "client_id": s.client_id}),
        "query_id": s.impression_id,
        "query_response_id": s.impression_id,
        "user_query": s.query,
        "timestamp": _timestamp(s.time),
        "object_id_field": _OBJECT_ID_FIELD,
        "query_response_hit_ids": list(s.product_ids),
        "query_attributes": _present(attributes),
    }


def _present(values: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in values.items() if value is not None and value not in ("", [], {})}


def _timestamp(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


# --- fields ---------------------------------------------------------------------------------------

_T = TypeVar("_T")
_WHEN = "Write it like 2026-05-31T17:20:00Z"


class _Fields:
    """The fields of a record by their paths, such as `event_attributes.object`; null is as good as absent."""

    def __init__(self, record: object) -> None:
        if not isinstance(record, Mapping):
            raise InputError("is no JSON object", value=record)
        self._record = record

    def text(self, path: str, default: str | None = None) -> str:
        value = self.get(path, str, "a text")
        return self._needed(path, default if value is None else value)

    def whole(self, path: str) -> int | None:
        return self.get(path, int, "a whole number")

    def number(self, path: str) -> float | None:
        value = self._find(path)
        return None if value is None else _number(path, value)

    def texts(self, path: str, default: tuple[str, ...] | None = None) -> tuple[str, ...]:
        values = self.get(path, list, "a list of texts")
        if values is None:
            return self._needed(path, default)
        return tuple(_typed(path, value, str, "a list of texts") for value in values)

    def numbers(self, path: str) -> tuple[float, ...]:
        return tuple(_number(path, value) for value in self.get(path, list, "a list of numbers") or ())

    def numbers_by_name(self, path: str) -> dict[str, float]:
        values = self.get(path, dict, "an object of numbers") or {}
        return {str(name): _number(path, value) for name, value in values.items()}

    def time(self, path: str) -> datetime:
        """Return a time in UTC; one that is still to come could outlive what is to be forgotten."""
        text = self.text(path)
        try:
            time = datetime.fromisoformat(text)
            time = time.astimezone(UTC) if time.tzinfo else time
        except (ValueError, OverflowError) as error:
            raise InputError("is no time", field=path, value=text, remedy=_WHEN) from error
        if time.tzinfo is None:
            raise InputError("has no time zone", field=path, value=text, remedy=_WHEN)
        if time > datetime.now(UTC) + _ADVANCE:
            raise InputError("is in the future", field=path, value=text, remedy="Set the clock")
        return time

    def get(self, path: str, kind: type[_T], what: str) -> _T | None:
        value = self._find(path)
        return None if value is None else _typed(path, value, kind, what)

    def _find(self, path: str) -> object:
        value: object = self._record
        passed: list[str] = []
        for name in path.split("."):
            if not isinstance(value, Mapping):
                raise InputError("is no JSON object", field=".".join(passed), value=value)
            value = value.get(name)
            if value is None:
                return None
            passed.append(name)
        return value

    @staticmethod
    def _needed(path: str, value: _T | None) -> _T:
        if value is None:
            raise InputError("is missing", field=path)
        return value


def _typed(path: str, value: object, kind: type[_T], what: str) -> _T:
    if isinstance(value, kind) and isinstance(value, bool) == (kind is bool):
        return value
    raise InputError(f"is not {what}", field=path, value=value)


def _number(path: str, value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:  # of an int; no field has room for it
            pass
    raise InputError("is not a number", field=path, value=value)


@contextmanager
def _named(paths: Mapping[str, str]) -> Iterator[None]:
    """Name fields in errors as a record names them."""
    try:
        yield
    except InputError as error:
        field = paths.get(error.field or "", error.field)
        raise InputError(error.reason, field=field, value=error.value, remedy=error.remedy) from error
