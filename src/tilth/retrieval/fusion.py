"""Fusion: several ranked lists for one query become one, as pure functions on hits.

Four methods, each a sum over the lists with a weight per list:

rrf     weight / (rrf_k + rank). Cormack, Clarke and Büttcher, "Reciprocal Rank Fusion outperforms
        Condorcet and individual Rank Learning Methods", SIGIR 2009.
minmax  scores of a list mapped onto [0, 1]. Fox and Shaw, "Combination of Multiple Searches", TREC-2, 1994;
        Montague and Aslam, "Relevance Score Normalization for Metasearch", CIKM 2001.
zscore  scores of a list with mean 0 and standard deviation 1; Montague and Aslam, as above.
tmm     scores of a list divided by its largest: min-max with the least score that there can be in place of
        the least that was found ("theoretical"). Bruch, Gai and Ingber, "An Analysis of Fusion Functions for
        Hybrid Retrieval", ACM TOIS 42, 2023; theirs of a cosine is -1, and here 0, as that of texts that
        have nothing to do with each other.

What a list says about a product that it does not hold, and what it says when its scores do not differ (a
single hit, for one), stands beside each function below. A list of weight 0 is left out altogether: the
products that only it holds are not in the result.
"""

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from tilth.errors import InputError, SettingError, shorten
from tilth.run import Hit

FusedScores = npt.NDArray[np.float64]
Method = Literal["rrf", "minmax", "zscore", "tmm"]
METHODS: tuple[Method, ...] = get_args(Method)
RRF_K = 60  # the constant of the paper
TUNED_RRF_K = (RRF_K, 5, 20)


@dataclass(frozen=True, slots=True)
class Fusion:
    """How lists are fused: the method, a weight per list in their order (none: all equal), the k of RRF.

    Raises:
        SettingError: the method is unknown, a weight is negative or not finite, all weights are 0, or
            `rrf_k` is not a finite number above 0.
    """

    method: Method = "rrf"
    weights: tuple[float, ...] = ()
    rrf_k: float = RRF_K

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise SettingError(f"fusion method {shorten(self.method)} is not one of {', '.join(METHODS)}")
        if not all(_is_number(w) and w >= 0 for w in self.weights):
            raise SettingError(f"fusion weights must be finite numbers from 0, not {shorten(self.weights)}")
        if self.weights and not any(self.weights):
            raise SettingError("fusion weights are all 0: give at least one list a weight above 0")
        if not _is_number(self.rrf_k) or self.rrf_k <= 0:
            raise SettingError(f"rrf_k must be a finite number above 0, not {shorten(self.rrf_k)}")

    def __str__(self) -> str:
        settings = [f"k={self.rrf_k:g}"] if self.method == "rrf" else []
        settings += [f"{weight:g}" for weight in self.weights]
        return f"{self.method}({','.join(settings)})"

    @property
    def adds_scores(self) -> bool:
        """Whether it is scores that are added up, and not ranks."""
        return self.method != "rrf"

    def weights_of(self, lists: int) -> tuple[float, ...]:
        """Return a weight for each list.

        Args:
            lists: the number of lists.

        Returns:
            As many weights.

        Raises:
            SettingError: the weights are for another number of lists.
        """
        if self.weights and len(self.weights) != lists:
            raise SettingError(f"fusion has {len(self.weights)} weights for {lists} lists: give one a list")
        return self.weights or (1.0,) * lists

    def to_dict(self) -> dict[str, object]:
        """Return plain data for a manifest; `from_dict` reads it back."""
        return {"method": self.method, "weights": list(self.weights), "rrf_k": self.rrf_k}

    @classmethod
    def from_dict(cls, data: object) -> "Fusion":
        """Make a fusion from plain data.

        Args:
            data: a mapping with the keys `method`, `weights` and `rrf_k`; a missing one has its default.

        Returns:
            The fusion.

        Raises:
            SettingError: it is no mapping, a key is unknown, or a value is of the wrong type or out of range.
        """
        if not isinstance(data, Mapping):
            raise SettingError(f"a fusion is an object with method, weights and rrf_k, not {shorten(data)}")
        unknown = sorted(set(data) - {"method", "weights", "rrf_k"})
        if unknown:
            raise SettingError(f"fusion has no setting {unknown[0]!r}: method, weights and rrf_k exist")
        weights = data.get("weights", ())
        if not isinstance(weights, list | tuple):
            raise SettingError(f"fusion weights must be a list of numbers, not {shorten(weights)}")
        # The constructor checks method and rrf_k, whatever their type.
        return cls(data.get("method", "rrf"), tuple(weights), data.get("rrf_k", RRF_K))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def fitted(fusion: Fusion, lists: int) -> Fusion:
    """Return a fusion for the lists that there are.

    A fusion outlives the index that it was made for: with a weight fewer for one that has got another list,
    or with a weight more for one that has lost its last.

    Args:
        fusion: made for any number of lists.
        lists: how many there are.

    Returns:
        The fusion: a list without a weight has none, a weight without a list is dropped, and where no weight
        above 0 is left, all lists are equal.
    """
    if not fusion.weights:
        return fusion
    weights = (*fusion.weights, *[0.0] * lists)[:lists]
    return replace(fusion, weights=weights if any(weights) else ())


class RankedPlaces(NamedTuple):
    """A ranked list over numbered products: the number of each and its score, best first."""

    places: npt.NDArray[np.intp]
    scores: npt.NDArray[np.floating]


NO_PLACES = RankedPlaces(np.empty(0, np.intp), np.empty(0, np.float32))


class Contribution(NamedTuple):
    """What one list says: a value for each product that it holds, best first, and one for all others."""

    values: FusedScores
    missing: float


def reciprocal_ranks(scores: npt.NDArray[np.floating], rrf_k: float = RRF_K) -> Contribution:
    """Return 1 / (rrf_k + rank), rank from 1; a missing product has 0."""
    return Contribution(1 / (rrf_k + np.arange(1.0, len(scores) + 1)), 0.0)


def min_max(scores: npt.NDArray[np.floating]) -> Contribution:
    """Return (score - min) / (max - min), in [0, 1]; a missing product has 0.

    Where all scores are equal, each product has 1: it was found, and nothing else was found to be better.
    """
    exact = scores.astype(np.float64)
    if not len(exact) or exact.min() == exact.max():
        return Contribution(np.ones(len(exact)), 0.0)
    low, high = exact.min() / 2, exact.max() / 2  # halves, since the range of two floats may be none
    return Contribution((exact / 2 - low) / (high - low), 0.0)


def z_scores(scores: npt.NDArray[np.floating]) -> Contribution:
    """Return (score - mean) / standard deviation (of the population); a missing product has the minimum.

    Where all scores are equal, each product has 0 and a missing one -1, so that a single hit still counts.
    """
    scaled = min_max(scores).values  # the same z-scores, and no square overflows or vanishes
    if not len(scaled):
        return Contribution(scaled, 0.0)
    mean, deviation = float(scaled.mean()), float(scaled.std())
    if scaled.min() == scaled.max() or deviation == 0:
        return Contribution(np.zeros(len(scaled)), -1.0)
    return Contribution((scaled - mean) / deviation, -mean / deviation)  # the minimum was scaled to 0


def shares(scores: npt.NDArray[np.floating]) -> Contribution:
    """Return score / max, in [0, 1], and 0 for scores below 0; a missing product has 0.

    Where no score is above 0, each product has 0.
    """
    exact = scores.astype(np.float64)
    if not len(exact) or exact.max() <= 0:
        return Contribution(np.zeros(len(exact)), 0.0)
    return Contribution(np.maximum(exact, 0) / exact.max(), 0.0)


def fuse_places(
    lists: Sequence[RankedPlaces], products: int, fusion: Fusion, always: Collection[int] = ()
) -> RankedPlaces:
    """Fuse ranked lists over products that are numbered in the order of their ids.

    Args:
        lists: one a retriever, best first.
        products: how many there are; places are below it.
        fusion: the method and its weights.
        always: places of products that are in the result even if no list holds them; each list then says of
            them what it says of a missing one.

    Returns:
        Every product of the lists that have a weight, and of `always`, ordered by (-score, place).

    Raises:
        SettingError: the fusion has weights for another number of lists.
    """
    weights = fusion.weights_of(len(lists))
    fused, found = np.zeros(products), np.zeros(products, bool)
    found[list(always)] = True
    for weight, (places, scores) in zip(weights, lists, strict=True):
        if weight > 0:
            values, missing = _contribution(scores, fusion)
            fused += weight * missing
            fused[places] += weight * (values - missing)
            found[places] = True
    places = np.flatnonzero(found)
    best = places[np.lexsort((places, -fused[places]))]
    return RankedPlaces(best, fused[best])


def _contribution(scores: npt.NDArray[np.floating], fusion: Fusion) -> Contribution:
    if fusion.method == "rrf":
        return reciprocal_ranks(scores, fusion.rrf_k)
    return _OF_SCORES[fusion.method](scores)


_OF_SCORES: Mapping[str, Callable[[npt.NDArray[np.floating]], Contribution]] = {
    "minmax": min_max, "zscore": z_scores, "tmm": shares,
}  # fmt: skip


def fuse_hits(lists: Sequence[Sequence[Hit]], fusion: Fusion) -> tuple[Hit, ...]:
    """Fuse the lists of one query into one.

    Args:
        lists: hits of each retriever, best first.
        fusion: the method and its weights.

    Returns:
        Every product of the lists that have a weight, ordered by (-score, product_id).

    Raises:
        InputError: a score is infinite or not a number.
        SettingError: the fusion has weights for another number of lists.
    """
    ids = sorted({hit.product_id for hits in lists for hit in hits})
    place = {product_id: number for number, product_id in enumerate(ids)}
    fused = fuse_places([_placed(hits, place) for hits in lists], len(ids), fusion)
    return tuple(
        Hit(ids[n], score) for n, score in zip(fused.places.tolist(), fused.scores.tolist(), strict=True)
    )


def _placed(hits: Sequence[Hit], place: Mapping[str, int]) -> RankedPlaces:
    for hit in hits:
        if not math.isfinite(hit.score):
            raise InputError("a score to be fused is not finite", field=hit.product_id, value=hit.score)
    places = np.array([place[hit.product_id] for hit in hits], np.intp)
    return RankedPlaces(places, np.array([hit.score for hit in hits], np.float64))


def grid(lists: int = 2, steps: int = 20) -> list[Fusion]:
    """Return the fusions that tuning tries, the plainest (equal RRF) first.

    Every method with every vector of weights in steps of 1/`steps` that sum to 1. Weights that leave a single
    list appear once, under min-max: the order is then the same under each method.

    Args:
        lists: the number of lists, from 1.
        steps: the number of steps from 0 to 1, from 1.

    Returns:
        117 fusions for two lists and 20 steps, 382 for three lists and 10 steps.

    Raises:
        SettingError: `lists` or `steps` is below 1.
    """
    if lists < 1 or steps < 1:
        raise SettingError(f"a grid needs at least 1 list and 1 step, not {lists} and {steps}")
    weights = [tuple(part / steps for part in parts) for parts in _compositions(steps, lists)]
    inner = [w for w in weights if max(w) < 1]
    return [
        Fusion(),
        *(Fusion("minmax", w) for w in weights),
        *(Fusion("zscore", w) for w in inner),
        *(Fusion("tmm", w) for w in inner),
        *(Fusion("rrf", w, rrf_k) for rrf_k in TUNED_RRF_K for w in inner),
    ]


def _compositions(total: int, parts: int) -> Iterator[tuple[int, ...]]:
    """Yield every way to write `total` as an ordered sum of `parts` whole numbers from 0."""
    if parts == 1:
        yield (total,)
        return
    for first in range(total, -1, -1):
        for rest in _compositions(total - first, parts - 1):
            yield (first, *rest)
