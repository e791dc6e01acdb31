"""Rows that could not be used: what was wrong, how many, and the file that keeps them."""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field

import orjson

from tilth.errors import InputError
from tilth.files import replacing

_SHOWN = 80


@dataclass(frozen=True, slots=True)
class Rejection:
    """One row that was left out, and why.

    `line` counts from 1: the line where the row begins in JSONL, CSV and TSV, the row in Parquet, the item in
    a feed. `field` is empty where the whole row is meant. `reason` is a fixed phrase, and after a colon what
    is particular to this row.
    """

    path: str
    line: int
    field: str
    value: str
    reason: str

    def as_error(self) -> InputError:
        """Return the error that stops a strict reading."""
        return InputError(
            self.reason,
            path=self.path,
            line=self.line,
            field=self.field or None,
            value=self.value or None,
            remedy="Correct it, or read without --strict: such rows are then left out and listed",
        )


@dataclass(slots=True)
class Summary:
    """What a reading has kept and rejected so far; it is up to date after every product."""

    kept: int = 0
    rejected: int = 0
    reasons: Counter[str] = field(
        default_factory=Counter
    )  # rejections by fixed phrase, adding up to rejected
    warnings: Counter[str] = field(default_factory=Counter)  # values left out of products that were kept

    def to_json(self) -> dict[str, object]:
        """Return the counts as plain data, the most frequent reasons first."""
        return {
            "kept": self.kept,
            "rejected": self.rejected,
            "reasons": dict(self.reasons.most_common()),
            "warnings": dict(self.warnings.most_common()),
        }


def shown(value: object) -> str:
    """Return a value as text of at most 80 characters that any encoder accepts, for `Rejection.value`."""
    if isinstance(value, bytes):
        text = value[: 4 * _SHOWN].decode("utf-8", "backslashreplace")
    elif value is None or isinstance(value, dict | list | tuple):
        text = "" if value is None else f"({type(value).__name__})"  # may be too deep to be printed
    else:
        text = str(value)
    if len(text) > _SHOWN:
        text = text[: _SHOWN - 1] + "…"
    return text.encode("utf-8", "backslashreplace").decode()


@contextmanager
def writing_rejections(path: str | os.PathLike[str]) -> Iterator[Callable[[Rejection], None]]:
    """Write rejections to a JSONL file, one object each; the file appears, whole, when the block ends well.

    An error in the block leaves the file as it was before. Without rejections the file is empty.

    Args:
        path: the file to write, `rejected.jsonl` by custom.

    Yields:
        The function to hand to `read_products` as `on_reject`.
    """
    with replacing(path) as file:

        def write(rejection: Rejection) -> None:
            file.write(orjson.dumps(asdict(rejection), option=orjson.OPT_APPEND_NEWLINE))

        yield write
