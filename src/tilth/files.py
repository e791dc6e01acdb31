"""Reading text safely, and writing so that a reader never sees a half-written file."""

import csv
import gzip
import io
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tilth.errors import InputError


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Open a file beside `path` for writing; on success fsync it and move it over `path`.

    On any error, Ctrl-C included, `path` stays as it was and the temporary file is removed.

    Yields:
        The binary file to write to.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with aside.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)
    sync_folder(target.parent)


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable (fsync of the folder itself)."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def open_binary(path: str | os.PathLike[str]) -> IO[bytes]:
    """Open a file, unpacking it when its first bytes say gzip, whatever its name.

    Raises:
        InputError: the file is not there, is a folder, or may not be read.
    """
    try:
        file = Path(path).open("rb")  # noqa: SIM115 - handed to the caller
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", path=path) from error
    magic = file.read(2)
    file.seek(0)
    return gzip.GzipFile(fileobj=file) if magic == b"\x1f\x8b" else file  # type: ignore[return-value]


def read_rows(
    path: str | os.PathLike[str], *, delimiter: str | None = "\t"
) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number from 1, cells) of a UTF-8 table, plain or gzipped, skipping blank lines.

    Args:
        path: the file; a byte-order mark is dropped.
        delimiter: the cell separator; None splits at any white space, as in TREC files.

    Yields:
        The line number, from 1, and the cells of that line.

    Raises:
        InputError: the file cannot be read, is not UTF-8, or its gzip stream is damaged.
    """
    number = 0
    try:
        with open_binary(path) as file:
            for number, line in enumerate(io.TextIOWrapper(file, "utf-8-sig", newline="\n"), start=1):
                text = line.rstrip("\r\n")
                if text.strip():
                    yield number, text.split() if delimiter is None else _cells(text, delimiter)
    except UnicodeDecodeError as error:
        raise InputError("is not UTF-8", path=path, line=number + 1, remedy="Save it as UTF-8") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"damaged gzip: {error}", path=path, line=number + 1, remedy="Copy it again") from error
    except csv.Error as error:
        raise InputError(f"broken row: {error}", path=path, line=number) from error


def _cells(text: str, delimiter: str) -> list[str]:
    if delimiter == "\t":  # TSV has no quoting: a quote is an inch mark as often as not
        return [cell.strip() for cell in text.split("\t")]
    return [cell.strip() for cell in next(csv.reader([text], delimiter=delimiter))]
