"""Parquet as rows."""

import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tilth.errors import InputError
from tilth.readers.parquet import read_parquet
from tilth.readers.rejections import Rejection
from tilth.readers.rows import Row


def write(path: Path, table: pa.Table, **options: object) -> bytes:
    pq.write_table(table, path, **options)
    return path.read_bytes()


@pytest.mark.parametrize("packed", [False, True])
def test_rows_are_counted_across_batches_and_row_groups(tmp_path: Path, packed: bool) -> None:
    path, seen = tmp_path / "a.parquet", []
    data = write(path, pa.table({"id": range(2500), "price": [1.5, float("nan")] * 1250}), row_group_size=700)
    if packed:
        path.write_bytes(gzip.compress(data))
    rows = list(read_parquet(path, lambda columns: seen.append(list(columns))))
    assert rows == [Row(n + 1, {"id": n, "price": None if n % 2 else 1.5}) for n in range(2500)]
    assert seen == [["id", "price"]]


def test_value_that_is_no_text_rejects_its_row_alone(tmp_path: Path) -> None:
    broken = pa.array([b"ok", b"caf\xe9", None], pa.binary()).view(pa.string())
    write(tmp_path / "a.parquet", pa.table({"id": [1, 2, 3], "title": broken}))
    rows = list(read_parquet(tmp_path / "a.parquet", lambda columns: None))
    assert rows[0] == Row(1, {"id": 1, "title": "ok"})
    assert rows[1] == Rejection(str(tmp_path / "a.parquet"), 2, "title", "", "not UTF-8: byte 0xe9 at 4")
    assert rows[2] == Row(3, {"id": 3, "title": None})


def test_date_beyond_the_calendar_rejects_its_row_alone(tmp_path: Path) -> None:
    days = pa.array([0, 2**30], pa.int32()).view(pa.date32())
    write(tmp_path / "a.parquet", pa.table({"id": [1, 2], "day": days}))
    first, second = read_parquet(tmp_path / "a.parquet", lambda columns: None)
    assert isinstance(first, Row)
    assert isinstance(second, Rejection)
    assert (second.line, second.field) == (2, "day")


@pytest.mark.parametrize("keep", [4, 100, -1, -8, -50])
@pytest.mark.parametrize("packed", [False, True])
def test_truncated_file(tmp_path: Path, keep: int, packed: bool) -> None:
    path = tmp_path / "a.parquet"
    data = write(path, pa.table({"id": ["1", "2"]}))[:keep]
    path.write_bytes(gzip.compress(data) if packed else data)
    with pytest.raises(InputError, match="damaged Parquet"):
        list(read_parquet(path, lambda columns: None))


def test_column_that_occurs_twice(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["id", "id"]))
    with pytest.raises(InputError, match="twice"):
        list(read_parquet(tmp_path / "a.parquet", lambda columns: None))
