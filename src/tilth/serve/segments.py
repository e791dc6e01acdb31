"""Files of records on their way to the store: each belongs to one living process, which holds its lock.

The system frees the lock when the process dies, however it dies, and the next one takes the file over. A line
is one record in JSON, written in one call: once that has returned, the record is with the system, and killing
the process does not lose it.
"""

import errno
import fcntl
import logging
import os
import secrets
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from tilth.errors import InputError
from tilth.interactions import Interaction, Served

REJECTED = "rejected.jsonl"
MOST_REJECTED = 16 << 20  # bytes of that file

NO_RECORD = (AttributeError, InputError, KeyError, TypeError, ValueError)

_NAMES = "segment-*.jsonl"  # sorted by name, the oldest first
_MODE = 0o600  # queries are nobody else's business

_log = logging.getLogger(__name__)


class Record(NamedTuple):
    """What a line holds; `call` is the number of the call that waits for it, 0 for none."""

    content: Served | Interaction
    call: int


def to_line(content: Served | Interaction, call: int = 0) -> bytes:
    """Return the line of a record; raises TypeError if it holds what does not exist in JSON."""
    kind = "served" if isinstance(content, Served) else "interaction"
    record = {kind: content, "call": call}
    return orjson.dumps(record, default=dict, option=orjson.OPT_APPEND_NEWLINE)


def to_record(line: bytes) -> Record:
    """Return what a line holds; raises one of `NO_RECORD` if that is no record."""
    values = orjson.loads(line)
    if "served" in values:
        return Record(_served(values["served"]), values["call"])
    return Record(Interaction(**_timed(values["interaction"])), values["call"])


def _served(values: dict[str, Any]) -> Served:
    lists = {name: tuple(values[name]) for name in ("product_ids", "propensities", "skipped")}
    return Served(**{**_timed(values), **lists})


def _timed(values: dict[str, Any]) -> dict[str, Any]:
    return {**values, "time": datetime.fromisoformat(values["time"])}


class Segment:
    """A file of lines that this process holds; it is first written, then read, by one thread at a time."""

    def __init__(self, path: Path, handle: int) -> None:
        self.path, self._handle = path, handle
        self.size = os.fstat(handle).st_size  # bytes
        self._file = os.fdopen(handle, "rb")
        self._place = 0  # up to where it was read
        self.at_end = False
        self.unwritten = 0  # lines that were read, and are not in the store yet

    def append(self, lines: bytes) -> None:
        """Write lines in one call.

        Args:
            lines: each with its end.

        Raises:
            OSError: the disk refuses; the file is as it was.
        """
        written = os.write(self._handle, lines)
        if written < len(lines):
            os.ftruncate(self._handle, self.size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.size += written

    def read(self, most: int) -> Iterator[bytes]:
        """Yield the next lines; the last of a file lacks its end if writing it was cut off."""
        self._file.seek(self._place)  # appending has moved it
        for _ in range(most):
            line = self._file.readline()
            if not line:
                self.at_end = True
                return
            self._place += len(line)
            self.unwritten += 1
            yield line

    def remove(self) -> None:
        """Delete the file and free its lock."""
        self.path.unlink(missing_ok=True)
        self._file.close()

    def close(self) -> None:
        """Free the lock and leave the file to the next process."""
        self._file.close()


def new_segment(folder: Path) -> Segment:
    """Make an empty segment that this process holds; raises OSError if the disk refuses."""
    while True:
        path = folder / _NAMES.replace("*", f"{time.time_ns():020}-{secrets.token_hex(8)}")
        segment = _held(path, os.O_CREAT | os.O_EXCL)
        if segment is not None:
            return segment


def left_segments(folder: Path, most: int) -> list[Segment]:
    """Take over segments of processes that have ended.

    Args:
        folder: of the segments.
        most: how many at most; the oldest come first.

    Returns:
        Those that nobody else holds.
    """
    found: list[Segment] = []
    for path in sorted(folder.glob(_NAMES)):
        if len(found) == most:
            break
        try:
            segment = _held(path)
        except FileNotFoundError:
            continue
        except OSError as error:
            _log.error("%s: cannot be read, and stays where it is: %s", path, error.strerror)
            continue
        if segment is not None:
            found.append(segment)
    return found


def _held(path: Path, flags: int = 0) -> Segment | None:
    """Open and lock a segment; None if another process holds it, or deletes it in this very moment."""
    handle = os.open(path, os.O_RDWR | os.O_APPEND | flags, _MODE)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    if not os.fstat(handle).st_nlink:
        os.close(handle)
        return None
    return Segment(path, handle)


def put_aside(folder: Path, line: bytes, reason: str) -> None:
    """Keep a line that cannot be stored in `rejected.jsonl`, with the reason and the time.

    Args:
        folder: of the segments.
        line: as it was read.
        reason: why it cannot be stored; logged, too.
    """
    path = folder / REJECTED
    _log.error("%s: a record cannot be stored and is put aside: %s", path, reason)
    entry = {"time": datetime.now(UTC), "reason": reason, "line": line.decode("utf-8", "backslashreplace")}
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, _MODE), "ab") as file:
            if file.tell() < MOST_REJECTED:
                file.write(orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE))
    except OSError as error:
        _log.error("%s: cannot be written: %s", path, error.strerror)
