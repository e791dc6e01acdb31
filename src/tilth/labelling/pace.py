"""So many a minute, evenly spread."""

import threading
from collections.abc import Callable


class Pace:
    """Spreads what is spent over time; threads share it.

    There are no bursts: who spends is told how long to wait, and the next waits for as long after that as
    the amount takes at this pace.
    """

    def __init__(self, per_minute: float, seconds: Callable[[], float]) -> None:
        """Prepare.

        Args:
            per_minute: the most that may be spent a minute; infinity for no limit.
            seconds: a clock that never goes back.
        """
        self._each = 60 / per_minute
        self._seconds = seconds
        self._free = seconds()  # from when on more can be spent
        self._lock = threading.Lock()

    def spend(self, amount: float) -> float:
        """Spend an amount, or get one back that was spent in vain.

        Args:
            amount: in units of the limit; below 0 to give back.

        Returns:
            Seconds to wait before doing what the amount is for.
        """
        with self._lock:
            now = self._seconds()
            start = max(now, self._free) if amount > 0 else self._free
            self._free = start + amount * self._each
            return max(0.0, start - now)

    def hold(self, seconds: float) -> None:
        """Let nobody begin before so many seconds have passed."""
        with self._lock:
            self._free = max(self._free, self._seconds() + seconds)
