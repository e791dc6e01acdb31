"""Which format a catalogue file has, and its bytes, unpacked."""

import gzip
import io
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Literal

from tilth.errors import InputError
from tilth.files import open_binary

Format = Literal["jsonl", "csv", "tsv", "parquet", "xml"]

SUFFIXES: dict[str, Format] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".xml": "xml",
    ".rss": "xml",
    ".atom": "xml",
}
_FIRST_BYTES: dict[bytes, Format] = {b"{": "jsonl", b"<": "xml"}
_PARQUET = b"PAR1"
_UTF8_MARK = b"\xef\xbb\xbf"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
BUFFER = 1 << 20
MAX_LINE = 64 << 20  # bytes; a longer line is rejected, so that memory stays bounded whatever the file


def detect_format(path: str | os.PathLike[str]) -> Format:
    """Tell the format of a catalogue from its name and first bytes, gzipped or not.

    Args:
        path: the file; `.gz` at the end of its name is passed over.

    Returns:
        The format; what the first bytes say of Parquet and, for an unknown name, of JSONL and XML, counts.

    Raises:
        InputError: the file cannot be read, is empty, or has none of the formats.
    """
    with reading(path) as file:
        head = file.read(512)
    if not head:
        raise InputError("the file is empty", path=path)
    named = SUFFIXES.get(Path(Path(path).name.lower().removesuffix(".gz")).suffix)
    if head.startswith(_PARQUET):
        return "parquet"
    if named == "parquet":
        raise InputError("is not Parquet: its first bytes are not PAR1", path=path, value=head[:8])
    found = named or _FIRST_BYTES.get(head.removeprefix(_UTF8_MARK).lstrip()[:1])
    if found is None:
        known = ", ".join(SUFFIXES)
        raise InputError("unknown format", path=path, remedy=f"Known are {known}, each also gzipped")
    if found != "xml" and head.startswith(_UTF16_MARKS):
        raise InputError("is UTF-16", path=path, remedy="Save it as UTF-8")
    if found == "jsonl" and head.removeprefix(_UTF8_MARK).lstrip().startswith(b"["):
        raise InputError("is one JSON array", path=path, remedy="Write one object a line: jq -c '.[]'")
    return found


@contextmanager
def reading(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file for buffered reading, unpacked; reading errors become input errors.

    Args:
        path: the file, plain or gzipped.

    Yields:
        The bytes. What stands before the damage of a gzip file is read before its error is raised.

    Raises:
        InputError: the file cannot be read, or its gzip stream is cut off or damaged.
    """
    try:
        with open_binary(path) as file:
            source: Any = file
            raw = Unpacking(source) if isinstance(source, gzip.GzipFile) else source
            yield io.BufferedReader(raw, BUFFER)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"damaged gzip: {error}", path=path, remedy="Copy it again") from error
    except OSError as error:
        raise InputError(f"cannot be read: {error}", path=path) from error


class Unpacking(io.RawIOBase):
    """A gzip stream read a step at a time, so that what stands before damage is given before its error."""

    def __init__(self, source: gzip.GzipFile) -> None:
        self.source = source

    def readable(self) -> bool:  # noqa: D102 - of RawIOBase
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401, D102 - of RawIOBase
        data = self.source.read1(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def read_lines(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Yield (number from 1, line); a line longer than MAX_LINE bytes comes cut to one byte more than that."""
    number = 0
    while line := file.readline(MAX_LINE + 1):
        number += 1
        rest = line
        while len(rest) > MAX_LINE and not rest.endswith(b"\n"):
            rest = file.readline(MAX_LINE + 1)
        yield number, line.removeprefix(_UTF8_MARK) if number == 1 else line


def decoded(line: bytes) -> str:
    """Return a line as text.

    Args:
        line: the line, cut to MAX_LINE + 1 bytes if it was longer.

    Returns:
        The text, its line end included.

    Raises:
        InputError: the line was longer than MAX_LINE bytes, or is not UTF-8; the first wrong byte is named.
    """
    if len(line) > MAX_LINE:
        raise InputError(f"line longer than {MAX_LINE} bytes")
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise InputError(f"not UTF-8: byte 0x{line[error.start]:02x} at {error.start + 1}") from error
