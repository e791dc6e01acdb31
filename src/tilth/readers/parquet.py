"""Parquet, read a batch at a time."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tilth.errors import InputError
from tilth.readers.formats import BUFFER, reading
from tilth.readers.rejections import Rejection, shown
from tilth.readers.rows import ColumnCheck, Row, Rows, refuse_repeats

_BATCH = 1000  # rows held at once


def read_parquet(path: str | os.PathLike[str], check_columns: ColumnCheck) -> Rows:
    """Yield the rows of a Parquet file, batch by batch; a gzipped one is first unpacked to disk."""
    try:
        with _seekable(path) as source:
            table = pq.ParquetFile(source, pre_buffer=False, buffer_size=BUFFER)
            refuse_repeats(table.schema_arrow.names, path)
            check_columns(table.schema_arrow.names)
            line = 0
            for batch in table.iter_batches(batch_size=_BATCH):
                yield from _batch_rows(_without_nan(batch), line, str(path))
                line += batch.num_rows
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(f"damaged Parquet: {error}", path=path, remedy="Write it again") from error


def _without_nan(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Turn NaN into null: it is how data frames write a number that is missing."""
    columns = [
        pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
        if pa.types.is_float32(column.type) or pa.types.is_float64(column.type)
        else column
        for column in batch.columns
    ]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _batch_rows(batch: pa.RecordBatch, before: int, path: str) -> Rows:
    try:
        values = batch.to_pylist()
    except (pa.ArrowException, ValueError, OverflowError):  # some value has no Python form: find out which
        for index in range(batch.num_rows):
            yield _single_row(batch, index, before + index + 1, path)
        return
    for line, row in enumerate(values, start=before + 1):
        yield Row(line, row)


def _single_row(batch: pa.RecordBatch, index: int, line: int, path: str) -> Row | Rejection:
    values: dict[str, object] = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        try:
            values[name] = column[index].as_py()
        except UnicodeDecodeError as error:
            byte = error.object[error.start]
            return Rejection(path, line, name, "", f"not UTF-8: byte 0x{byte:02x} at {error.start + 1}")
        except (pa.ArrowException, ValueError, OverflowError) as error:
            return Rejection(path, line, name, "", f"no such value: {shown(str(error))}")
    return Row(line, values)


@contextmanager
def _seekable(path: str | os.PathLike[str]) -> Iterator[IO[bytes] | str]:
    with reading(path) as file:
        if file.seekable():  # not packed: Arrow reads the file itself
            yield os.fspath(path)
            return
        with tempfile.TemporaryFile() as unpacked:
            shutil.copyfileobj(file, unpacked, BUFFER)
            unpacked.seek(0)
            yield unpacked
