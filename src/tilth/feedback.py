"""Feedback: the result pages that people were shown and what they clicked, and the files that hold them."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

import orjson

from tilth.errors import InputError
from tilth.files import check_ids, read_rows, replacing

COLUMNS = ("query_id", "query", "shown", "clicked", "arm", "time")
_NEEDED = COLUMNS[:4]
_TSV_REMEDY = "The columns are query_id, query, shown, clicked and, optionally, arm and time"
_JSONL_REMEDY = 'Write {"query_id": "q1", "query": "rose", "shown": ["p1", "p2"], "clicked": [1]}'


@dataclass(frozen=True, slots=True)
class Impression:
    """One result page: the products shown, by rank, and the ranks clicked, from 1 and ascending.

    `arm` names what ordered the page (a ranker, a side of an experiment); `time` is aware, in UTC.
    """

    query_id: str
    query: str
    shown: tuple[str, ...]
    clicked: tuple[int, ...] = ()
    arm: str = ""
    time: datetime | None = None


def read_impressions(path: str | os.PathLike[str]) -> Iterator[Impression]:
    """Read a log of impressions, one at a time: TSV if the name says `.tsv`, else JSON lines.

    Args:
        path: plain or gzipped. A JSON line holds `query_id`, `query`, `shown` (ids by rank), `clicked` (ranks
            from 1) and, optionally, `arm` and `time` (ISO 8601 with a zone); others are passed over. TSV has
            the same columns, ids and ranks separated by blanks; a header may name them in another order.

    Yields:
        The impressions in the order of the file.

    Raises:
        InputError: the file is empty, a line is no JSON object or has too few cells, or a field lacks, is of
            the wrong type, or does not fit the others; file, line and field are named.
    """
    line = None
    for line, values in (_tsv_rows if _is_tsv(path) else _json_rows)(path):
        yield _impression(values, path, line)
    if line is None:
        raise InputError("holds no impressions", path=path)


def write_impressions(impressions: Iterable[Impression], path: str | os.PathLike[str]) -> None:
    """Write a log as it comes: TSV if the name ends in `.tsv`, else JSON lines.

    Args:
        impressions: the log; may be an iterator of any length.
        path: the file to write or replace.

    Raises:
        InputError: an id or a text cannot stand in a TSV file.
    """
    tsv = _is_tsv(path)
    with replacing(path) as file:
        if tsv:
            file.write(("\t".join(COLUMNS) + "\n").encode())
        for impression in impressions:
            file.write(_tsv_line(impression, path) if tsv else _json_line(impression))


def _is_tsv(path: str | os.PathLike[str]) -> bool:
    return ".tsv" in Path(path).suffixes


# --- rows to values --------------------------------------------------------------------------------


def _json_rows(path: str | os.PathLike[str]) -> Iterator[tuple[int, Mapping[str, object]]]:
    for line, cells in read_rows(path):
        try:
            values = orjson.loads("\t".join(cells))  # a tab stands between tokens or not at all in JSON
        except orjson.JSONDecodeError as error:
            raise InputError(
                f"invalid JSON: {error.msg}", path=path, line=line, remedy=_JSONL_REMEDY
            ) from error
        if not isinstance(values, dict):
            raise InputError("not a JSON object", path=path, line=line, value=values, remedy=_JSONL_REMEDY)
        yield line, values


def _tsv_rows(path: str | os.PathLike[str]) -> Iterator[tuple[int, Mapping[str, object]]]:
    columns: Sequence[str] | None = None
    for line, cells in read_rows(path):
        if columns is None:
            columns = cells if "query_id" in cells else COLUMNS
            if columns is cells:
                _check_header(cells, path, line)
                continue
        row = dict(zip(columns, cells, strict=False))
        yield line, {**row, "shown": row.get("shown", "").split(), "clicked": _ranks(row, path, line)}


def _check_header(cells: list[str], path: str | os.PathLike[str], line: int) -> None:
    for name in _NEEDED:
        if cells.count(name) != 1:
            raise InputError(
                f"the header needs one column {name!r}",
                path=path, line=line, value=" | ".join(cells), remedy=_TSV_REMEDY,
            )  # fmt: skip


def _ranks(row: Mapping[str, str], path: str | os.PathLike[str], line: int) -> list[int]:
    if "clicked" not in row:
        raise InputError(
            "a row of a log needs 4 cells", path=path, line=line, value=" | ".join(row.values()),
            remedy=_TSV_REMEDY,
        )  # fmt: skip
    for text in row["clicked"].split():
        if not (text.isascii() and text.isdecimal()):
            raise InputError(
                "a clicked rank is not a whole number", path=path, line=line, field="clicked", value=text
            )
    return [int(text[:9]) for text in row["clicked"].split()]


# --- values to impressions -------------------------------------------------------------------------


def _impression(values: Mapping[str, object], path: str | os.PathLike[str], line: int) -> Impression:
    def refuse(field: str, reason: str) -> NoReturn:
        raise InputError(reason, path=path, line=line, field=field, value=values.get(field))

    for field in ("query_id", "query"):
        if not (isinstance(values.get(field), str) and values[field]):
            refuse(field, "must be a text that is not empty")
    arm = values.get("arm") or ""
    if not isinstance(arm, str):
        refuse("arm", "must be a text")
    shown = _shown(values.get("shown"), refuse)
    return Impression(
        str(values["query_id"]),
        str(values["query"]),
        shown,
        _clicked(values.get("clicked"), len(shown), refuse),
        arm,
        _time(values.get("time") or None, refuse),
    )


_Refuse = Callable[[str, str], NoReturn]


def _shown(value: object, refuse: _Refuse) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(p, str) and p for p in value):
        refuse("shown", "must be the product ids of the page, at least one")
    if len(set(value)) < len(value):
        refuse("shown", "a product occurs twice on the page")
    return tuple(value)


def _clicked(value: object, shown: int, refuse: _Refuse) -> tuple[int, ...]:
    if not isinstance(value, list) or not all(type(rank) is int for rank in value):
        refuse("clicked", "must be the ranks that were clicked, whole numbers")
    if not all(1 <= rank <= shown for rank in value):
        refuse("clicked", f"ranks of this page are from 1 to {shown}")
    return tuple(sorted(set(value)))  # a result clicked twice was clicked


def _time(value: object, refuse: _Refuse) -> datetime | None:
    if value is None:
        return None
    try:
        time = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        refuse("time", "must be ISO 8601 with a zone, as in 2026-01-31T12:00:00Z")
    return time.astimezone(UTC)


# --- impressions to lines --------------------------------------------------------------------------


def _json_line(impression: Impression) -> bytes:
    record: dict[str, object] = {
        "query_id": impression.query_id,
        "query": impression.query,
        "shown": impression.shown,
        "clicked": impression.clicked,
    }
    if impression.arm:
        record["arm"] = impression.arm
    if impression.time:
        record["time"] = impression.time
    return orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z)


def _tsv_line(impression: Impression, path: str | os.PathLike[str]) -> bytes:
    check_ids(path, impression.query_id, impression.query, *filter(None, [impression.arm]))
    for product_id in impression.shown:
        if len(product_id.split()) != 1 or product_id != product_id.strip():
            raise InputError(
                "an id in a list cannot hold a blank", path=path, field="shown", value=product_id,
                remedy="A file named .jsonl takes ids with blanks",
            )  # fmt: skip
    cells = (
        impression.query_id,
        impression.query,
        " ".join(impression.shown),
        " ".join(map(str, impression.clicked)),
        impression.arm,
        impression.time.isoformat() if impression.time else "",
    )
    return ("\t".join(cells) + "\n").encode()
