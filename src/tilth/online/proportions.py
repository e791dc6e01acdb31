"""How sure a share of yes and no is, and the difference of two shares."""

import math
from dataclasses import dataclass
from typing import Any

CONFIDENCE = 0.95
_Z = 1.959963984540054  # of the standard normal distribution, for 95% on both sides

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Rate:
    """So many of so many; `count` is from 0 to `of`."""

    count: int
    of: int

    @property
    def value(self) -> float | None:
        """The share, None of nothing."""
        return self.count / self.of if self.of else None

    @property
    def interval(self) -> Interval | None:
        """Its 95% interval, None of nothing."""
        return wilson_interval(self.count, self.of) if self.of else None

    def __add__(self, other: "Rate") -> "Rate":
        return Rate(self.count + other.count, self.of + other.of)

    def to_json(self) -> dict[str, Any]:
        """Return value, low, high (null of nothing), of and count."""
        low, high = self.interval or (None, None)
        return {"value": self.value, "low": low, "high": high, "of": self.of, "count": self.count}


@dataclass(frozen=True, slots=True)
class Difference:
    """The second rate minus the first; value and interval are None where one of them is of nothing."""

    first: Rate
    second: Rate

    @property
    def value(self) -> float | None:
        """The difference, from -1 to 1."""
        first, second = self.first.value, self.second.value
        return None if first is None or second is None else second - first

    @property
    def interval(self) -> Interval | None:
        """Its 95% interval."""
        return None if self.value is None else newcombe_interval(self.first, self.second)


def wilson_interval(count: int, of: int) -> Interval:
    """Return the 95% score interval of a share.

    Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", Journal of the American
    Statistical Association 22, 1927; without a correction for continuity. It stays within 0 and 1, and holds
    for few trials and rare events, where the usual mean and error do not.

    Args:
        count: the trials that were a yes, from 0.
        of: all trials, from 1; they are taken to be independent.

    Returns:
        (low, high), both from 0 to 1.
    """
    share, square = count / of, _Z * _Z / of
    middle = (share + square / 2) / (1 + square)
    reach = _Z / (1 + square) * math.sqrt((share * (1 - share) + square / 4) / of)
    # At the ends the bound is the end itself, which rounding would miss.
    return (middle - reach if count else 0.0, middle + reach if count < of else 1.0)


def newcombe_interval(first: Rate, second: Rate) -> Interval:
    """Return the 95% hybrid score interval of `second` minus `first`.

    Newcombe, "Interval Estimation for the Difference between Independent Proportions: Comparison of Eleven
    Methods", Statistics in Medicine 17, 1998, method 10: from the Wilson intervals of both.

    Args:
        first: of at least one trial; the two are taken to be independent of each other.
        second: likewise.

    Returns:
        (low, high), both from -1 to 1.
    """
    p, q = first.count / first.of, second.count / second.of
    low_p, high_p = wilson_interval(first.count, first.of)
    low_q, high_q = wilson_interval(second.count, second.of)
    return q - p - math.hypot(q - low_q, high_p - p), q - p + math.hypot(high_q - q, p - low_p)
