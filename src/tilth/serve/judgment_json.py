"""Judgments of people as they come over the network: JSON objects, checked field by field."""

from datetime import datetime

from tilth.errors import InputError
from tilth.judgments import Judgment

FIELDS = ("judge", "query_id", "query", "product_id", "grade", "highest", "reason", "confidence")
MOST_NAME = 100  # characters of a judge's name
MOST_ID = 500  # characters of an id
MOST_TEXT = 2_000  # characters of a query or a reason


def read_judgment(values: object, highest: int, time: datetime) -> Judgment:
    """Read the judgment of a person.

    Args:
        values: a JSON object with `judge`, `query_id`, `product_id` and `grade`, and perhaps with others of
            `FIELDS`.
        highest: the top of the scale where the object names none.
        time: aware; of the judgment.

    Returns:
        The judgment.

    Raises:
        InputError: a field is missing, unknown, too long or of the wrong type, or the grade is outside the
            scale; it is named.
    """
    if not isinstance(values, dict):
        raise InputError("is no JSON object", value=values)
    if unknown := [name for name in values if name not in FIELDS]:
        raise InputError(
            f"is no field of a judgment; there are {', '.join(FIELDS)}",
            value=unknown[0], remedy="The kind is always person, and the time is now",
        )  # fmt: skip
    given = {name: value for name, value in values.items() if value is not None}
    return Judgment(
        judge=judge_name(given.get("judge")),
        query_id=checked_id("query_id", given.get("query_id")),
        query=_text("query", given.get("query", "")),
        product_id=checked_id("product_id", given.get("product_id")),
        grade=_whole("grade", given.get("grade")),
        highest=_whole("highest", given.get("highest", highest)),
        reason=_text("reason", given.get("reason", "")),
        confidence=_number("confidence", given["confidence"]) if "confidence" in given else None,
        kind="person",
        time=time,
    )


def judge_name(value: object) -> str:
    """Return the name of a judge without blanks around it; InputError where it cannot be one."""
    name = value.strip() if isinstance(value, str) else ""
    if not 0 < len(name) <= MOST_NAME or not name.isprintable():
        raise InputError(
            "is no name", field="judge", value=value,
            remedy=f"Give 1 to {MOST_NAME} characters, all of which can be seen",
        )  # fmt: skip
    return name


def checked_id(field: str, value: object) -> str:
    """Return the id of a query or product; InputError where a file of judgments could not hold it."""
    usable = isinstance(value, str) and value == value.strip() and not any(c in value for c in "\t\r\n\0")
    if not isinstance(value, str) or not usable or not 0 < len(value) <= MOST_ID:
        raise InputError(
            "is no id", field=field, value=value,
            remedy=f"Give 1 to {MOST_ID} characters, without tabs, line breaks or blanks around them",
        )  # fmt: skip
    return value


def _text(field: str, value: object) -> str:
    if not isinstance(value, str) or len(value) > MOST_TEXT:
        raise InputError(f"is no text of at most {MOST_TEXT:,} characters", field=field, value=value)
    return value


def _whole(field: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise InputError("is no whole number", field=field, value=value)
    return value


def _number(field: str, value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise InputError("is no number", field=field, value=value)
    return value
