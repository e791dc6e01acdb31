"""Quantiles of streams of numbers by key, near enough, in memory that does not grow with the numbers."""

import math
from array import array
from collections.abc import Hashable, Mapping, Sequence
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

ERROR = 0.01  # relative, at most
_RATIO = (1 + ERROR) / (1 - ERROR)  # of the upper bounds of neighbouring buckets
_LEAST = 1e-6  # smaller numbers count as 0
_LOWEST = math.ceil(math.log(_LEAST) / math.log(_RATIO)) - 1  # the bucket of 0
_WIDTH = 1 << 16  # more buckets than float64 can fill from there
_WAITING = 500_000  # numbers held until they are put into buckets

K = TypeVar("K", bound=Hashable)


class Summary(NamedTuple):
    """Of one key and name: quantiles in the order asked for, and how many numbers there were."""

    quantiles: tuple[float, ...]
    n: int


class Quantiles(Generic[K]):
    """Histograms whose buckets grow by a constant ratio, one for each key and name.

    Masson, Rim and Lee, "DDSketch: A Fast and Fully-Mergeable Quantile Sketch with Relative-Error
    Guarantees", PVLDB 12, 2019. A histogram takes 16 bytes a bucket in use: 115 buckets from 1 to 10.
    """

    def __init__(self) -> None:
        self._places: dict[tuple[K, str], int] = {}
        self._known: dict[tuple[K, tuple[str, ...]], list[int]] = {}  # the places of names that come together
        self._at, self._numbers = array("q"), array("d")  # those waiting
        self._cells = np.zeros(0, np.int64)  # place and bucket, ascending
        self._counts = np.zeros(0, np.int64)

    def add(self, key: K, numbers: Mapping[str, float]) -> None:
        """Take one number for each name, from 0 and finite."""
        together = (key, tuple(numbers))
        if together not in self._known:
            places = self._places
            self._known[together] = [places.setdefault((key, name), len(places)) for name in numbers]
        self._at.extend(self._known[together])
        self._numbers.extend(numbers.values())
        if len(self._numbers) >= _WAITING:
            self._settle()

    def at(self, shares: Sequence[float]) -> dict[K, dict[str, Summary]]:
        """Return the quantiles of every key and name, in the order in which they came.

        Args:
            shares: each above 0, up to 1: 0.5 for the median. The quantile is the smallest number that at
                least this share of the numbers does not exceed.

        Returns:
            The quantiles, each within 1% of the exact one (0 for those below 0.000001), and the counts.
        """
        self._settle()
        bounds = np.searchsorted(self._cells, np.arange(len(self._places) + 1) * _WIDTH).tolist()
        found: dict[K, dict[str, Summary]] = {}
        for (key, name), place in self._places.items():
            found.setdefault(key, {})[name] = self._summary(bounds[place], bounds[place + 1], shares)
        return found

    def _summary(self, start: int, stop: int, shares: Sequence[float]) -> Summary:
        reached = np.cumsum(self._counts[start:stop])
        count = int(reached[-1])
        # What is left of a share that should be whole after rounding must not reach for the next number.
        ranks = np.ceil(np.array(shares) * count - 1e-9)
        buckets = self._cells[start:stop][np.searchsorted(reached, ranks)] % _WIDTH + _LOWEST
        middles = np.where(buckets > _LOWEST, 2 / (1 + _RATIO) * _RATIO ** buckets.astype(np.float64), 0.0)
        return Summary(tuple(middles.tolist()), count)

    def _settle(self) -> None:
        """Put the numbers that wait into their buckets."""
        waiting = np.array(self._at) * _WIDTH + (_buckets(np.array(self._numbers)) - _LOWEST)
        cells, counts = np.unique(waiting, return_counts=True)
        both = np.concatenate([self._cells, cells])
        self._cells, places = np.unique(both, return_inverse=True)
        weights = np.concatenate([self._counts, counts])
        self._counts = np.bincount(places, weights, len(self._cells)).astype(np.int64)
        self._at, self._numbers = array("q"), array("d")


def _buckets(numbers: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Return the bucket b of each number: it is above ratio ** (b - 1), up to ratio ** b."""
    logs = np.log(np.maximum(numbers, _LEAST)) / math.log(_RATIO)
    return np.where(numbers < _LEAST, _LOWEST, np.ceil(logs)).astype(np.int64)
