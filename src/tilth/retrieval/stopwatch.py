"""Where the time goes, stage by stage."""

import time


class Stopwatch:
    """Milliseconds by stage; a stage that comes again adds up."""

    def __init__(self) -> None:
        self.milliseconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        """Book the time since the last lap on a stage."""
        now = time.perf_counter()
        spent = self.milliseconds.get(stage, 0.0) + (now - self._last) * 1000
        self.milliseconds[stage] = round(spent, 3)
        self._last = now
