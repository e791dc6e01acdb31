"""JSON lines as rows."""

from pathlib import Path

import pytest

from tilth.readers.jsonl import read_jsonl
from tilth.readers.rejections import Rejection
from tilth.readers.rows import Row


def read(tmp_path: Path, data: bytes) -> tuple[list[Row | Rejection], list[set[str]]]:
    path, seen = tmp_path / "a.jsonl", []
    path.write_bytes(data)
    return list(read_jsonl(path, lambda columns: seen.append(set(columns)))), seen


def test_objects_and_the_columns_of_all_of_them(tmp_path: Path) -> None:
    rows, seen = read(tmp_path, b'\xef\xbb\xbf{"id": 1}\r\n\n  \n{"title": "x"}')
    assert rows == [Row(1, {"id": 1}), Row(4, {"title": "x"})]
    assert seen == [{"id", "title"}]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"id": "caf\xe9"}', "not UTF-8: byte 0xe9 at 12"),
        (b'{"id": "1"', "invalid JSON: unexpected end"),
        (b'{"id": "\\ud800"}', "invalid JSON: no low surrogate"),
        (b'{"id": NaN}', "invalid JSON"),
        (b"[" * 5000, "invalid JSON: depth"),
        (b"\x00", "invalid JSON"),
        (b"[1]", "not an object"),
        (b"null", "not an object"),
    ],
)
def test_broken_line_is_rejected_alone(tmp_path: Path, line: bytes, reason: str) -> None:
    (first, broken, last), _ = read(tmp_path, b'{"id": 1}\n' + line + b'\n{"id": 2}')
    assert (first, last) == (Row(1, {"id": 1}), Row(3, {"id": 2}))
    assert isinstance(broken, Rejection)
    assert broken.line == 2
    assert broken.reason.startswith(reason)


def test_columns_are_not_checked_where_no_line_was_an_object(tmp_path: Path) -> None:
    assert read(tmp_path, b"x\ny")[1] == []
