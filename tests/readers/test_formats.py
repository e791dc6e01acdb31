"""Which format a file has, and its lines."""

import gzip
import io
from pathlib import Path

import pytest

from tilth.errors import InputError
from tilth.readers import formats
from tilth.readers.formats import decoded, detect_format, read_lines, reading


@pytest.mark.parametrize(
    ("name", "data", "form"),
    [
        ("a.jsonl", b"{}", "jsonl"), ("a.ndjson", b"x", "jsonl"), ("a.json", b'\xef\xbb\xbf{"id"', "jsonl"),
        ("a.CSV", b"id,title", "csv"), ("a.tsv", b"id", "tsv"), ("a.parquet", b"PAR1", "parquet"),
        ("a.xml", b"<rss", "xml"), ("a.rss", b"<rss", "xml"), ("a.atom", b"<feed", "xml"),
        ("a", b' {"id": 1}', "jsonl"), ("a.txt", b"<?xml", "xml"), ("a.dat", b"PAR1...", "parquet"),
        ("a.csv", b"PAR1...", "parquet"), ("a.xml", b"\xff\xfe<\x00", "xml"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("pack", [lambda data: data, gzip.compress])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_format(tmp_path: Path, name: str, data: bytes, form: str, pack: object, suffix: str) -> None:
    path = tmp_path / (name + suffix)
    path.write_bytes(pack(data))  # type: ignore[operator]
    assert detect_format(path) == form


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.txt", b"id;title", "unknown format.*jsonl.*csv.*parquet.*gzipped"),
        ("a.xlsx", b"PK\x03\x04", "unknown format"),
        ("a.jsonl", b"", "empty"),
        ("a.csv.gz", gzip.compress(b"", mtime=0), "empty"),
        ("a.parquet", b"id,title", "not Parquet"),
        ("a.csv", "id,title".encode("utf-16"), "UTF-16.*UTF-8"),
        ("a.json", b'\n[{"id": 1}]', "JSON array.*jq"),
        ("a.csv.gz", gzip.compress(b"id,title", mtime=0)[:11], "damaged gzip"),
    ],
)
def test_no_format(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(InputError, match=f"(?s){message}"):
        detect_format(path)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        detect_format(tmp_path / "none.csv")
    with pytest.raises(InputError, match="directory"):
        detect_format(tmp_path)


def test_lines_before_a_truncation_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(b"one\ntwo\nthree", mtime=0)[:-9])
    lines = []
    with pytest.raises(InputError, match=r"damaged gzip.*Copy it again"), reading(path) as file:
        lines += [line for _, line in read_lines(file)]
        lines = lines[:2]
    assert lines == []


def test_byte_order_mark_is_dropped_from_the_first_line_alone() -> None:
    mark = b"\xef\xbb\xbf"
    assert list(read_lines(io.BytesIO(mark + b"a\n" + mark + b"b"))) == [(1, b"a\n"), (2, mark + b"b")]


@pytest.mark.parametrize("size", [10, 11, 12, 25, 33, 34])
def test_overlong_line_is_cut_and_the_next_is_whole(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(formats, "MAX_LINE", 10)
    (_, first), second = read_lines(io.BytesIO(b"x" * size + b"\nnext\n"))
    assert len(first) == 11
    assert second == (2, b"next\n")
    if size > 10:
        with pytest.raises(InputError, match="longer than 10 bytes"):
            decoded(first)


def test_wrong_byte_is_named() -> None:
    with pytest.raises(InputError, match="byte 0xe9 at 4"):
        decoded(b"caf\xe9")
