"""How much the service takes on at once, and how much of it each caller gets. Neither grows without bound."""

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from tilth.errors import SettingError, TilthError

MOST_KEYS = 10_000  # buckets of their own; 1 MB of memory
_MEMORY = 0.9  # of the mean so far, in the new one
_ROUNDING = 1e-6  # seconds that a request may come too early
_SWEEP_SECONDS = 1.0  # between two looks for buckets that can go


class BusyError(TilthError):
    """The service does not take a request now; `retry_after` are whole seconds, at least 1."""

    def __init__(self, reason: str, seconds: float) -> None:
        self.retry_after = max(1, math.ceil(seconds))
        unit = "second" if self.retry_after == 1 else "seconds"
        super().__init__(f"{reason}. Try again in {self.retry_after} {unit}")


class OverloadedError(BusyError):
    """So many requests are being worked on that this one would wait too long."""

    def __init__(self, seconds: float) -> None:
        super().__init__("the service has more to do than it can in time", seconds)


class TooManyRequestsError(BusyError):
    """One caller asks for more than it is allowed to."""

    def __init__(self, seconds: float) -> None:
        super().__init__("more requests came from this caller than are allowed", seconds)


# --- how much at once ------------------------------------------------------------------------------


class Admission:
    """Places for work, and a queue before them: first come, first served. For one event loop, not threads."""

    def __init__(self, running: int, waiting: int) -> None:
        """Prepare.

        Args:
            running: places, at least 1.
            waiting: the most that wait for a place, at least 0.

        Raises:
            SettingError: a number is below its least.
        """
        if running < 1 or waiting < 0:
            raise SettingError(
                f"running must be at least 1 and waiting at least 0 (got {running} and {waiting})"
            )
        self._places, self._waiting = running, waiting
        self._running = 0
        self._queue: deque[asyncio.Future[None]] = deque()
        self._mean: float | None = None

    @property
    def running(self) -> int:
        """The places that are taken."""
        return self._running

    @property
    def queued(self) -> int:
        """How many wait for a place."""
        return sum(not place.done() for place in self._queue)

    @property
    def mean_seconds(self) -> float:
        """How long a place was held of late: an exponential mean, 0 before the first."""
        return self._mean or 0.0

    @asynccontextmanager
    async def enter(self, wait_seconds: float) -> AsyncIterator[None]:
        """Hold a place while the block runs.

        Whoever is cancelled while waiting leaves the queue. A place belongs to its block: work that goes on
        in a thread after the block was cancelled is not counted.

        Args:
            wait_seconds: the longest wait for a place.

        Yields:
            Nothing.

        Raises:
            OverloadedError: the queue is full or the wait is expected to be longer, both told at once; or no
                place became free in time.
        """
        loop = asyncio.get_running_loop()
        if self._running < self._places:
            self._running += 1
        else:
            await self._wait(loop, wait_seconds)
        entered = loop.time()
        try:
            yield
        finally:
            self._learn(loop.time() - entered)
            self._leave()

    def _expected(self) -> float:
        """Return the seconds that a newcomer would wait: until all before it, and one more, have left."""
        return (self.queued + 1) * self.mean_seconds / self._places

    async def _wait(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        """Wait until somebody who leaves hands over the place."""
        if self.queued >= self._waiting or self._expected() > seconds:
            raise OverloadedError(self._expected())
        place = loop.create_future()
        self._queue.append(place)
        timer = loop.call_later(seconds, self._give_up, place)
        try:
            await place
        except asyncio.CancelledError:
            if place.cancelled():
                self._forget(place)
            elif place.exception() is None:
                self._leave()  # it was handed over in this very moment: to the next, then
            raise
        finally:
            timer.cancel()

    def _give_up(self, place: asyncio.Future[None]) -> None:
        if not place.done():
            self._forget(place)
            place.set_exception(OverloadedError(self._expected()))

    def _forget(self, place: asyncio.Future[None]) -> None:
        if place in self._queue:  # else somebody who left has passed it over
            self._queue.remove(place)

    def _leave(self) -> None:
        """Hand the place to the first who still waits, or give it up."""
        while self._queue:
            place = self._queue.popleft()
            if not place.done():
                place.set_result(None)
                return
        self._running -= 1

    def _learn(self, seconds: float) -> None:
        self._mean = seconds if self._mean is None else _MEMORY * self._mean + (1 - _MEMORY) * seconds


# --- how much for each caller ----------------------------------------------------------------------


class Rates:
    """A token bucket for each key: so much a minute, and a burst after a rest. Threads share it.

    A bucket is kept as the time when it will be full. One that is full is as good as none, so it can be
    dropped without a trace, and only such are. When `MOST_KEYS` keys have buckets that are not full, all
    others share one. A bucket that is new begins as empty as the shared one, since its key may have spent
    from it: so no key ever gets more than a burst and its rate, however many keys there are.
    """

    def __init__(self, per_minute: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Prepare.

        Args:
            per_minute: what a bucket gains in a minute, above 0.
            burst: what a full bucket holds, at least 1.
            clock: tells seconds, and never goes back.

        Raises:
            SettingError: a number is below its least.
        """
        if not per_minute > 0 or burst < 1:
            raise SettingError(
                f"per_minute must be above 0 and burst at least 1 (got {per_minute} and {burst})"
            )
        self._each = 60 / per_minute
        self._burst, self._clock = burst, clock
        self._full: dict[str, float] = {}  # when the bucket of a key will be full
        self._shared = clock()
        self._swept = -math.inf
        self._lock = threading.Lock()

    def spend(self, key: str, amount: float = 1) -> None:
        """Take an amount from the bucket of a key, or refuse, and then take nothing.

        Args:
            key: of the caller.
            amount: above 0. One above the burst needs a full bucket, and what is missing has to be gained
                before anything else.

        Raises:
            TooManyRequestsError: the bucket does not hold as much yet.
        """
        with self._lock:
            now = self._clock()
            full = max(now, self._full.get(key, self._shared))
            wait = full - now - (self._burst - min(amount, self._burst)) * self._each
            if wait > _ROUNDING:
                raise TooManyRequestsError(wait)
            self._put(key, full + amount * self._each, now)

    def _put(self, key: str, full: float, now: float) -> None:
        if key in self._full or self._has_room(now):
            self._full[key] = full
        else:
            self._shared = full

    def _has_room(self, now: float) -> bool:
        if len(self._full) >= MOST_KEYS and now - self._swept >= _SWEEP_SECONDS:
            self._swept = now
            self._full = {key: full for key, full in self._full.items() if full > now}
        return len(self._full) < MOST_KEYS
