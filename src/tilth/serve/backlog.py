"""What waits for the store: which records are tried next, and which is not tried any more.

A store that refuses is either out of order or will never take one of the records. From outside the two look
the same, so fewer and fewer records are tried at a time, in the end each by itself. One that is refused
again and again, while others are accepted in between, is put aside; as long as none is accepted, all wait.
"""

import logging
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from tilth.interactions import Interaction, Served
from tilth.serve.segments import NO_RECORD, Segment, left_segments, put_aside, to_record

_BATCH = 1_000  # records tried at a time; the next ones are in memory, the others are not
_FEWER = 4  # times fewer are tried after a refusal, and times more after a success
_STRIKES = 5  # refusals between successes of others, until a record is put aside
_MOST_HELD = 64  # segments; each is an open file
_LARGE = 4 << 20  # bytes of a segment that is better followed by another one

_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Entry:
    """A record that waits; `call` is the number of the call of this process that waits for it, 0 for none."""

    content: Served | Interaction
    call: int
    line: bytes
    segment: Segment
    strikes: int = 0


class Backlog:
    """Closed segments. One thread works on it; others may read its numbers."""

    def __init__(self, folder: Path) -> None:
        """Take over what dead processes left in a folder; raises OSError if it cannot be read."""
        self._folder = folder
        self.size = 0  # bytes of all segments
        self.torn = self.rejected = self.written = 0  # records
        self._held = 0
        self._unread: deque[Segment] = deque()  # not up to their end
        self._foreign: set[Segment] = set()
        self._entries: list[Entry] = []
        self._suspects: list[Entry] = []  # refused alone, since anything was accepted
        self._batch = _BATCH
        self._take_over()

    def _take_over(self) -> None:
        found = left_segments(self._folder, _MOST_HELD)
        self._more_left = len(found) == _MOST_HELD
        for segment in found:
            self._foreign.add(segment)
            self.add(segment)

    def wants(self, segment: Segment, urgent: bool) -> bool:
        """Tell whether an open segment should be closed and added: it is next, or large."""
        is_next = (urgent or not self._unread) and self._held < _MOST_HELD
        return segment.size > 0 and (is_next or segment.size >= _LARGE)

    def add(self, segment: Segment, urgent: bool = False) -> None:
        """Add a segment that nobody writes to any more; an urgent one is read before all others."""
        if urgent:
            self._unread.appendleft(segment)
        else:
            self._unread.append(segment)
        self._held += 1
        self.size += segment.size

    def close(self) -> None:
        """Leave what waits to the next process."""
        for segment in {*self._unread, *(entry.segment for entry in self._entries)}:
            segment.close()

    # --- reading ----------------------------------------------------------------------------------

    def next(self) -> list[Entry]:
        """Return the records to be tried now; none if nothing waits."""
        if self._more_left and not self._held:
            self._take_over()
        while self._unread and len(self._entries) < _BATCH:
            self._read(self._unread[0])
        return self._entries[: self._batch]

    def _read(self, segment: Segment) -> None:
        try:
            for line in segment.read(_BATCH - len(self._entries)):
                self._take(segment, line)
        except OSError as error:
            _log.error("%s: cannot be read, and stays where it is: %s", segment.path, error.strerror)
            self._unread.remove(segment)
        if segment.at_end:
            self._unread.remove(segment)
            self._let_go(segment)

    def _take(self, segment: Segment, line: bytes) -> None:
        if not line.endswith(b"\n"):
            _log.warning("%s: its last record was cut off when it was written", segment.path)
            self.torn += 1
            segment.unwritten -= 1
            return
        try:
            content, call = to_record(line)
        except NO_RECORD as error:
            self._put_aside(segment, line, f"{type(error).__name__}: {error}")
        else:
            own = segment not in self._foreign
            self._entries.append(Entry(content, call if own else 0, line, segment))

    # --- after a try ------------------------------------------------------------------------------

    def accepted(self, tried: list[Entry]) -> list[Entry]:
        """Drop records that are in the store.

        Args:
            tried: what `next` returned.

        Returns:
            Those that were put aside, since the store takes others and never them.
        """
        del self._entries[: len(tried)]
        self._batch = min(_BATCH, self._batch * _FEWER)
        self.written += len(tried)
        for entry in tried:
            self._done(entry.segment)
        return self._judge(set(tried))

    def _judge(self, accepted: set[Entry]) -> list[Entry]:
        suspects = [entry for entry in self._suspects if entry not in accepted]
        self._suspects.clear()
        for entry in suspects:
            entry.strikes += 1
        hopeless = [entry for entry in suspects if entry.strikes == _STRIKES]
        for entry in hopeless:
            self._entries.remove(entry)
            self._put_aside(entry.segment, entry.line, "the store takes others, and not this one")
        return hopeless

    def refused(self, tried: list[Entry]) -> None:
        """Try fewer next time; a record that was tried alone comes last."""
        if len(tried) > 1:
            self._batch = max(1, len(tried) // _FEWER)
            return
        entry = self._entries.pop(0)
        self._entries.append(entry)
        if entry not in self._suspects:
            self._suspects.append(entry)

    def _put_aside(self, segment: Segment, line: bytes, reason: str) -> None:
        put_aside(self._folder, line, reason)
        self.rejected += 1
        self._done(segment)

    def _done(self, segment: Segment) -> None:
        segment.unwritten -= 1
        self._let_go(segment)

    def _let_go(self, segment: Segment) -> None:
        """Delete a segment when nothing of it waits."""
        if not segment.at_end or segment.unwritten:
            return
        self._held -= 1
        self.size -= segment.size
        self._foreign.discard(segment)
        try:
            segment.remove()
        except OSError as error:  # read again by the next process, which then passes its records over
            _log.error("%s: cannot be deleted: %s", segment.path, error.strerror)
