"""CSV and TSV as rows."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tilth.errors import InputError
from tilth.readers.delimited import read_csv, read_tsv
from tilth.readers.rejections import Rejection
from tilth.readers.rows import Row, Rows


def read(reader: Callable[..., Rows], tmp_path: Path, data: bytes) -> list[Row | Rejection]:
    path = tmp_path / "a"
    path.write_bytes(data)
    return list(reader(path, lambda columns: None))


def reasons(rows: list[Row | Rejection]) -> list[tuple[int, str]]:
    return [(row.line, row.reason) for row in rows if isinstance(row, Rejection)]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_csv_with_any_separator_and_line_end(tmp_path: Path, separator: str, end: str) -> None:
    text = end.join(["\ufeffid,title", '1,"a, ""b"""', "", '2,"two', 'lines"', "3,c"]).replace(",", separator)
    first, second, third = read(read_csv, tmp_path, text.encode())
    assert first == Row(2, {"id": "1", "title": f'a{separator} "b"'})
    assert second == Row(4, {"id": "2", "title": f"two{end}lines"})
    assert third == Row(6, {"id": "3", "title": "c"})


def test_csv_columns_are_checked_before_the_rows(tmp_path: Path) -> None:
    path, seen = tmp_path / "a.csv", []
    path.write_text("id, title \n1,a")
    rows = read_csv(path, lambda columns: seen.append(list(columns)))
    next(rows)
    assert seen == [["id", "title"]]


def test_csv_broken_rows_are_rejected_alone(tmp_path: Path) -> None:
    data = b'id,title\n1,caf\xe9\n2\n3,a,b\n4,"a"b\n5,\xd0\xbe\xd0\xba\n6,"x\ny\xff"\n7,z\n8,"open\n9,end'
    rows = read(read_csv, tmp_path, data)
    assert [row for row in rows if isinstance(row, Row)] == [
        Row(6, {"id": "5", "title": "ок"}),
        Row(9, {"id": "7", "title": "z"}),
    ]
    assert reasons(rows) == [
        (2, "not UTF-8: byte 0xe9 at 6"),
        (3, "wrong number of cells: 1, and 2 in the header"),
        (4, "wrong number of cells: 3, and 2 in the header"),
        (5, "broken quoting: ',' expected after '\"'"),
        (7, "not UTF-8: byte 0xff at 2"),
        (10, "broken quoting: unexpected end of data"),
    ]


def test_csv_cell_of_ten_megabytes_is_read(tmp_path: Path) -> None:
    (row,) = read(read_csv, tmp_path, b"id,title\n1," + b"x" * 10_000_000)
    assert isinstance(row, Row)
    assert row.values["title"] == "x" * 10_000_000


def test_tsv_quotes_stand_for_themselves_unless_they_enclose_a_cell(tmp_path: Path) -> None:
    rows = read(
        read_tsv,
        tmp_path,
        b'"id"\ttitle\r\n1\t17" screen\r\n2\t"a ""b"" c"\r\n\r\n3\t"a" and "b"\r\n4\t"\r\n',
    )
    titles = [row.values["title"] for row in rows if isinstance(row, Row)]
    assert titles == ['17" screen', 'a "b" c', '"a" and "b"', '"']
    assert [row.line for row in rows] == [2, 3, 5, 6]


def test_tsv_broken_rows_are_rejected_alone(tmp_path: Path) -> None:
    rows = read(read_tsv, tmp_path, b"id\ttitle\n1\tcaf\xe9\n2\n\t\n3\tc")
    assert reasons(rows) == [
        (2, "not UTF-8: byte 0xe9 at 6"),
        (3, "wrong number of cells: 1, and 2 in the header"),
    ]
    assert rows[-1] == Row(5, {"id": "3", "title": "c"})


@pytest.mark.parametrize("reader", [read_csv, read_tsv])
@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\n1,a", "no header"),
        (b"", "no header"),
        (b"\xef\xbb\xbf \n", "no header"),
        (b"id\ttitle\tid", "'id'"),
        ("ид,название".encode("cp1251"), "header not UTF-8: byte 0xe8 at 1.*Save it as UTF-8"),
    ],
)
def test_unusable_header(tmp_path: Path, reader: Callable[..., Rows], data: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(reader, tmp_path, data)


def test_csv_header_with_broken_quoting(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="broken header"):
        read(read_csv, tmp_path, b'id,"title')
