"""JSON lines: one object a line."""

import os

import orjson

from tilth.errors import InputError
from tilth.readers.formats import decoded, read_lines, reading
from tilth.readers.rejections import Rejection, shown
from tilth.readers.rows import MAX_COLUMNS, ColumnCheck, Row, Rows


def read_jsonl(path: str | os.PathLike[str], check_columns: ColumnCheck) -> Rows:
    """Yield the objects of a file that has one a line; blank lines are skipped."""
    seen: set[str] = set()
    with reading(path) as file:
        for number, line in read_lines(file):
            if line.isspace():
                continue
            try:
                values = orjson.loads(line)
            except orjson.JSONDecodeError as error:
                yield Rejection(str(path), number, "", shown(line), _json_fault(line, error))
                continue
            if type(values) is not dict:
                yield Rejection(str(path), number, "", shown(line), "not an object")
                continue
            if not values.keys() <= seen and len(seen) < MAX_COLUMNS:
                seen.update(values)
            yield Row(number, values)
    if seen:
        check_columns(seen)


def _json_fault(line: bytes, error: orjson.JSONDecodeError) -> str:
    try:
        decoded(line)
    except InputError as fault:
        return fault.reason
    return f"invalid JSON: {error.msg} at {error.pos + 1}"
