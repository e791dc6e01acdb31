"""How much time a search has, and which of its stages still fit into it.

A stage is believed to take what it took of late: an exponential mean and twice the mean deviation from it, as
TCP estimates round trips (Jacobson and Karels, "Congestion Avoidance and Control", SIGCOMM 1988). One that is
left out is believed a little cheaper each time, so that it is tried again some day.
"""

import math
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

_MEMORY = 0.9  # of the estimates so far, in the new ones
_FORGETTING = 0.95  # of a cost for which a stage was left out: after one slow search it is soon tried again
FINISH = "finish"  # what comes after all that can be left out: fusing, records, reasons

Clock = Callable[[], float]  # seconds


@dataclass(slots=True)
class _Cost:
    mean: float  # ms
    deviation: float


class Costs:
    """What each stage takes in this process, in milliseconds; threads may share it."""

    def __init__(self) -> None:
        self._costs: dict[str, _Cost] = {}
        self._lock = threading.Lock()

    def expected(self, stage: str) -> float:
        """Return what a stage may be expected to take, 0 for one that was never measured."""
        cost = self._costs.get(stage)
        return 0.0 if cost is None else cost.mean + 2 * cost.deviation

    def took(self, stage: str, milliseconds: float) -> None:
        """Take a measurement into the estimate."""
        with self._lock:
            cost = self._costs.setdefault(stage, _Cost(milliseconds, 0.0))
            off = abs(milliseconds - cost.mean)
            cost.deviation = _MEMORY * cost.deviation + (1 - _MEMORY) * off
            cost.mean = _MEMORY * cost.mean + (1 - _MEMORY) * milliseconds

    def left_out(self, stage: str) -> None:
        """Believe a stage a little cheaper, since it was left out for its cost."""
        with self._lock:
            if cost := self._costs.get(stage):
                cost.mean *= _FORGETTING
                cost.deviation *= _FORGETTING


class Deadline:
    """The time of one search: what is left of it, and which stages it leaves out for want of it."""

    def __init__(
        self, milliseconds: float = math.inf, costs: Costs | None = None, clock: Clock = time.perf_counter
    ) -> None:
        """Start the clock.

        Args:
            milliseconds: from now; infinity leaves nothing out.
            costs: of the stages, which the search adds to.
            clock: tells the time in seconds.
        """
        self._milliseconds, self._clock = milliseconds, clock
        self._costs = Costs() if costs is None else costs
        self._end = clock() + milliseconds / 1000
        self.skipped: dict[str, str] = {}  # stage to reason

    def left(self) -> float:
        """Return the milliseconds left for what can be left out, below 0 once they have passed."""
        return (self._end - self._clock()) * 1000 - self._costs.expected(FINISH)

    def allows(self, stage: str, *, sparing: Iterable[str] = ()) -> bool:
        """Tell whether there is time for a stage; one that there is none for is noted in `skipped`.

        Args:
            stage: what is about to be done.
            sparing: stages to come whose time is not to be spent on this one.

        Returns:
            Whether the stage may begin.
        """
        left = self.left() - sum(map(self._costs.expected, sparing))
        cost = self._costs.expected(stage)
        if left > cost:
            self.skipped.pop(stage, None)
            return True
        self._costs.left_out(stage)
        self.skipped[stage] = (
            f"{max(left, 0):.0f} of {self._milliseconds:.3g} ms were left, and it takes {cost:.0f} ms"
        )
        return False

    def timed(self, stage: str) -> "_Timed":
        """Measure a stage while a block runs."""
        return _Timed(self._costs, stage, self._clock)


class _Timed:
    """A block whose time goes into the costs, unless it raises."""

    def __init__(self, costs: Costs, stage: str, clock: Clock) -> None:
        self._costs, self._stage, self._clock = costs, stage, clock

    def __enter__(self) -> None:
        self._start = self._clock()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._costs.took(self._stage, (self._clock() - self._start) * 1000)
