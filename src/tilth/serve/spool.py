"""The durable queue of feedback: requests write to a file, and a thread moves what is there into the store.

A request so never waits for the database: what was served is kept in some microseconds. What was done with it
is answered once it is durable, and all callers of a moment share one commit. Killing the process loses
nothing that was kept, and a power failure nothing that was answered; the next process writes the rest.
"""

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from tilth.errors import InputError, StoreError
from tilth.feedback_log import Appended, FeedbackLog
from tilth.interactions import Interaction, Served
from tilth.serve.backlog import Backlog, Entry
from tilth.serve.segments import Segment, new_segment, to_line

_PATIENCE = 5.0  # seconds that a caller waits for a store that refuses
_LOOK = 0.25  # seconds between two looks for callers who have waited too long
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0  # seconds between two tries, doubling
_CALM = 10.0  # seconds without trouble after which its end is logged
_NOW = -1.0

_log = logging.getLogger(__name__)


class SpoolFullError(StoreError):
    """Feedback is not taken: too much waits for the store, the disk refuses, or the spool is closed."""


class Spool:
    """Impressions and interactions on their way to the store; threads share it."""

    def __init__(
        self, folder: Path, log: FeedbackLog, *, most_bytes: int = 64 << 20, pause: float = 0.05
    ) -> None:
        """Open the spool, and begin to write what dead processes left in its folder.

        Args:
            folder: of the spool alone; it is made. Processes may share it: each writes its own files.
            log: where records go.
            most_bytes: that may wait for the store; what comes then is refused.
            pause: seconds for which impressions are gathered before they are written.

        Raises:
            StoreError: the folder cannot be written to.
        """
        self._folder, self._log, self._most, self._pause = folder, log, most_bytes, pause
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._backlog = Backlog(folder)
            self._open: Segment | None = new_segment(folder)
        except OSError as error:
            remedy = "Check the disk and the permissions of this user"
            raise StoreError(f"{folder}: cannot be written to: {error.strerror}. {remedy}") from error
        self._lock = threading.Lock()  # of the open segment, the counts, and the order of calls
        self._filled, self._urgent = threading.Condition(self._lock), threading.Condition(self._lock)
        self._hurry = False  # somebody waits for what is in the open segment
        self._ending, self._ended = threading.Event(), threading.Event()
        self._counts = dict.fromkeys(("kept", "dropped", "recorded", "refused"), 0)
        self._calls, self._numbers = _Calls(), count(1)
        self._refusing = _Trouble(f"{folder}: feedback is refused")
        self._failing = _Trouble(f"{folder}: feedback waits for the store")
        self._drainer = threading.Thread(target=self._drain, name="tilth-spool", daemon=True)
        self._watcher = threading.Thread(target=self._watch, name="tilth-spool-watch", daemon=True)
        self._drainer.start()
        self._watcher.start()

    # --- for requests -----------------------------------------------------------------------------

    def keep(self, served: Served) -> bool:
        """Keep an impression; never waits for the database, and never raises.

        Args:
            served: the impression.

        Returns:
            Whether it was kept. Then it outlives the process, but not a power failure within the next
            moments. It is not kept, and counted, when the spool is full, closed, or its disk refuses.
        """
        try:
            line = to_line(served)
            with self._lock:
                self._put(line)
                self._counts["kept"] += 1
        except (SpoolFullError, TypeError) as error:
            with self._lock:
                self._counts["dropped"] += 1
            self._refusing.begin(error)
            return False
        return True

    def record(self, interactions: Sequence[Interaction]) -> Future[Appended]:
        """Take interactions, to be answered once they are in the store.

        Args:
            interactions: of one caller; all are taken, or none.

        Returns:
            What resolves to how many of them were new, when all survive a power failure. Where callers share
            a commit and some of their interactions were known, their numbers are right in sum only. It fails
            with StoreError when that has taken some seconds; the interactions stay in the spool and may be
            written later all the same, so sending them again does no harm.

        Raises:
            SpoolFullError: the spool is full, closed, or its disk refuses.
            InputError: an interaction holds what does not exist in JSON.
        """
        number = next(self._numbers)
        try:
            lines = b"".join([to_line(interaction, number) for interaction in interactions])
        except TypeError as error:
            raise InputError(f"cannot be stored: {error}", field="interactions") from error
        if not interactions:
            return self._calls.answered()
        try:
            with self._lock:
                self._put(lines)
                self._counts["recorded"] += len(interactions)
                self._hurry = True
                self._urgent.notify()
                return self._calls.add(number, len(interactions))
        except SpoolFullError as error:
            with self._lock:
                self._counts["refused"] += len(interactions)
            self._refusing.begin(error)
            raise

    def _put(self, lines: bytes) -> None:
        """Write to the open segment, whose lock the caller holds."""
        segment = self._open
        if self._ending.is_set():
            raise self._full("the service ends")
        if segment is None:
            raise self._full("the disk refuses new files")
        if self._backlog.size + segment.size + len(lines) > self._most:
            raise self._full(f"{self._most} bytes wait for the store")
        try:
            segment.append(lines)
        except OSError as error:
            raise self._full(str(error.strerror)) from error
        self._filled.notify()

    def _full(self, reason: str) -> SpoolFullError:
        return SpoolFullError(f"{self._folder}: feedback is not taken: {reason}. Try again later")

    def counts(self) -> Mapping[str, int]:
        """Return numbers since the start, for metrics.

        Returns:
            `kept` and `dropped` impressions; `recorded` and `refused` interactions; records `written` to the
            store, with those of dead processes; lines that were `torn` by the end of a process; records
            `rejected` and put aside; and `waiting_bytes`, now.
        """
        with self._lock:
            backlog, waiting = self._backlog, 0 if self._open is None else self._open.size
            return {
                **self._counts,
                "written": backlog.written,
                "torn": backlog.torn,
                "rejected": backlog.rejected,
                "waiting_bytes": waiting + backlog.size,
            }

    def close(self, seconds: float = 5.0) -> None:
        """Take nothing more, write what waits, and end; what the store refuses is left to the next process.

        Args:
            seconds: for all of it. Who then still waits for an answer gets a StoreError.
        """
        with self._lock:
            self._ending.set()
            self._filled.notify_all()
            self._urgent.notify_all()
        self._drainer.join(seconds)
        self._ended.set()
        self._watcher.join()
        if waiting := self.counts()["waiting_bytes"]:
            _log.warning("%s: %d bytes are left for the next start", self._folder, waiting)
        self._calls.expire(_NOW, "the service ends")

    # --- the thread that writes -------------------------------------------------------------------

    def _drain(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            ending = self._ending.is_set()
            self._rotate(ending)
            tried = self._backlog.next()
            if self._try(tried):
                pause = _FIRST_PAUSE
            elif ending:
                break
            elif tried:
                self._ending.wait(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                self._gather()
        self._backlog.close()

    def _rotate(self, ending: bool) -> None:
        """Close the open segment, if it is time for that, and open another one."""
        segment = self._open
        if segment is not None and not ending and not self._backlog.wants(segment, self._hurry):
            return
        fresh = None if ending else self._fresh()  # requests do not wait for it
        with self._lock:
            if segment is not None:
                self._backlog.add(segment, self._hurry)
            self._open, self._hurry = fresh, False

    def _fresh(self) -> Segment | None:
        try:
            return new_segment(self._folder)
        except OSError as error:
            self._refusing.begin(error)
            return None

    def _gather(self) -> None:
        """Wait until there is something to write, and then a little, unless somebody waits for it."""
        with self._lock:
            self._filled.wait_for(self._has_work, None if self._open else _LONGEST_PAUSE)
            self._urgent.wait_for(lambda: self._hurry or self._ending.is_set(), self._pause)

    def _has_work(self) -> bool:
        return self._ending.is_set() or (self._open is not None and self._open.size > 0)

    def _try(self, tried: list[Entry]) -> bool:
        """Write records; return whether there were any, and the store took them."""
        if not tried:
            return False
        contents = [entry.content for entry in tried]
        interactions = [content for content in contents if isinstance(content, Interaction)]
        try:
            added = self._log.append([c for c in contents if isinstance(c, Served)], interactions)
        except Exception as error:  # noqa: BLE001 - whatever it is, the queue goes on
            self._failing.begin(error)
            self._backlog.refused(tried)
            return False
        self._failing.end()
        self._refusing.end()
        hopeless = self._backlog.accepted(tried)
        self._calls.written([e.call for e in tried if isinstance(e.content, Interaction)], added.interactions)
        for entry in hopeless:
            self._calls.fail(entry.call, "the store takes others, and not this one")
        return True

    def _watch(self) -> None:
        while not self._ended.wait(_LOOK):
            self._calls.expire(_PATIENCE, self._failing.reason or "the store has not answered")


class _Trouble:
    """Says in the log when something begins to go wrong, and when it has gone well for a while."""

    def __init__(self, what: str) -> None:
        self._what = what
        self.reason = ""  # of the last time, until it has ended
        self._last = 0.0

    def begin(self, error: Exception) -> None:
        self._last, known, self.reason = time.monotonic(), self.reason, str(error)
        if not known:
            _log.error("%s: %s", self._what, error)

    def end(self) -> None:
        if self.reason and time.monotonic() - self._last >= _CALM:
            self.reason = ""
            _log.warning("%s no more", self._what)


@dataclass(slots=True)
class _Call:
    """Somebody waits until `left` more interactions are in the store; `new` are those that were new."""

    future: Future[Appended]
    left: int
    since: float
    new: int = 0


class _Calls:
    """Those who wait for an answer, by the numbers of their calls, the first first; threads share it."""

    def __init__(self) -> None:
        self._waiting: dict[int, _Call] = {}
        self._lock = threading.Lock()

    def answered(self) -> Future[Appended]:
        future: Future[Appended] = Future()
        future.set_result(Appended(0, 0))
        return future

    def add(self, number: int, interactions: int) -> Future[Appended]:
        future: Future[Appended] = Future()
        future.set_running_or_notify_cancel()  # it cannot be cancelled: what was taken is written
        with self._lock:
            self._waiting[number] = _Call(future, interactions, time.monotonic())
        return future

    def written(self, numbers: list[int], new: int) -> None:
        """Answer those whose last interaction is in the store now; `numbers` has the call of each one."""
        known = len(numbers) - new  # rather the first: those of a dead process may have been written by it
        complete = []
        with self._lock:
            for place, number in enumerate(numbers):
                call = self._waiting.get(number)
                if call is not None:
                    call.left -= 1
                    call.new += place >= known
                    if not call.left:
                        complete.append(self._waiting.pop(number))
        for call in complete:
            call.future.set_result(Appended(0, call.new))

    def fail(self, number: int, reason: str) -> None:
        with self._lock:
            call = self._waiting.pop(number, None)
        if call is not None:
            call.future.set_exception(StoreError(f"feedback cannot be stored: {reason}"))

    def expire(self, seconds: float, reason: str) -> None:
        """Answer those who have waited longer that they have to be content with less."""
        before = time.monotonic() - seconds
        with self._lock:
            numbers = [number for number, call in self._waiting.items() if call.since < before]
            expired = [self._waiting.pop(number) for number in numbers]
        text = "It is kept, and written as soon as the store takes it; sending it again does no harm"
        for call in expired:
            call.future.set_exception(StoreError(f"feedback is not in the store yet: {reason}. {text}"))
