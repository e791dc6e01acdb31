"""Reading text safely, and writing so that a reader never sees a half-written file."""

import csv
import errno
import gzip
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from tilth.errors import InputError

if TYPE_CHECKING:
    from io import FileIO

_SEPARATORS = dict.fromkeys(map(ord, "\t\r\n"))


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Open a file beside `path` for writing; on success fsync it and move it over `path`.

    On any error, Ctrl-C included, `path` stays as it was and the temporary file is removed.

    Args:
        path: the file to write; folders above it are made.

    Yields:
        The binary file to write to.

    Raises:
        InputError: the folder cannot be made or written to, or `path` is a folder.
    """
    target = Path(path)
    aside = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        file = aside.open("wb")
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror}", path=path) from error
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)
    sync_folder(target.parent)


def move_durably(folder: Path, target: Path) -> None:
    """Make a folder and all in it durable, then move it: `target` is there whole, or not at all.

    Args:
        folder: what is moved.
        target: its new name, on the same disk; nothing is there.
    """
    for path in (*folder.rglob("*"), folder):
        _sync(path)
    folder.rename(target)
    sync_folder(target.parent)


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable (fsync of the folder itself)."""
    _sync(path)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def open_binary(path: str | os.PathLike[str]) -> IO[bytes]:
    """Open a file, unpacking it when its first bytes say gzip, whatever its name.

    Args:
        path: a file, or a pipe: nothing is read twice.

    Returns:
        The unpacked bytes; closing it closes the file.

    Raises:
        InputError: the file is not there, is a folder, or may not be read.
    """
    try:
        file = Path(path).open("rb")  # noqa: SIM115 - handed to the caller
        magic = file.peek(2)[:2]
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", path=path) from error
    if magic != b"\x1f\x8b":
        return file
    unpacked = gzip.GzipFile(fileobj=file)
    unpacked.myfileobj = cast("FileIO", file)  # the one that it closes with itself
    return cast("IO[bytes]", unpacked)


def read_rows(
    path: str | os.PathLike[str], *, delimiter: str | None = "\t"
) -> Iterator[tuple[int, list[str]]]:
    """Read the rows of a UTF-8 table, plain or gzipped, skipping blank lines.

    Args:
        path: the file; a byte-order mark is dropped.
        delimiter: the cell separator; None splits a line at its tabs or, where it has none, at white
            space, which reads TSV and TREC files alike.

    Yields:
        The line number, from 1, and the cells of that line.

    Raises:
        InputError: the file cannot be read, is not UTF-8, holds a NUL byte, or its gzip stream is damaged.
    """
    number = 0
    try:
        with open_binary(path) as file:
            for number, line in enumerate(file, start=1):
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
                if "\0" in text:
                    raise InputError("holds a NUL byte", path=path, line=number, remedy="Save it as UTF-8")
                if text.strip():
                    yield number, _cells(text, delimiter)
    except UnicodeDecodeError as error:
        raise InputError("is not UTF-8", path=path, line=number, remedy="Save it as UTF-8") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(
            f"damaged gzip: {error}", path=path, line=number + 1, remedy="Copy it again"
        ) from error
    except csv.Error as error:
        raise InputError(f"broken row: {error}", path=path, line=number) from error


def _cells(text: str, delimiter: str | None) -> list[str]:
    if delimiter is None:
        if "\t" not in text:
            return text.split()
        delimiter = "\t"
    if delimiter == "\t":  # TSV has no quoting: a quote is an inch mark as often as not
        return [cell.strip() for cell in text.split("\t")]
    return [cell.strip() for cell in next(csv.reader([text], delimiter=delimiter))]


def check_ids(path: str | os.PathLike[str], *ids: str) -> None:
    """Check that ids written to a table will be read back as they are.

    Args:
        path: the table, tab-separated if its name ends in `.tsv`, else separated by white space.
        *ids: the ids of one row.

    Raises:
        InputError: an id is empty or holds a character that separates cells or rows.
    """
    tsv = str(path).endswith(".tsv")
    for text in ids:
        read_back = text.strip().translate(_SEPARATORS) if tsv else "".join(text.split()[:1])
        if not text or text != read_back or "\0" in text:
            raise InputError(
                "an id cannot be empty or hold a separator of the file's format",
                path=path, value=text, remedy="" if tsv else "A file named .tsv takes ids with blanks",
            )  # fmt: skip
