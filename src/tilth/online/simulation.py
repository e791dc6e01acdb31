"""Simulated users: they look at pages of a run and click by what the qrels say, so that the truth is known.

What a simulation shows is that a method undoes the bias that was put in, not that people behave so.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from tilth.errors import InputError, SettingError
from tilth.feedback import Impression
from tilth.qrels import Qrels
from tilth.query import Query
from tilth.run import Run

Values = npt.NDArray[np.float64]
Clicks = npt.NDArray[np.bool_]
Orders = npt.NDArray[np.int64]

ATTRACTION = (0.05, 0.3, 0.6, 0.9)  # of the grades 0 to 3
ARMS = ("ranked", "swapped", "shuffled")
_BLOCK = 10_000  # sessions drawn at once


@dataclass(frozen=True, slots=True)
class Pages:
    """The page of each query as a ranker makes it: `shown[q]` are product ids by rank, at least one."""

    queries: tuple[Query, ...]
    shown: tuple[tuple[str, ...], ...]

    @property
    def depth(self) -> int:
        """K, the length of the longest page."""
        return max(map(len, self.shown))


@dataclass(frozen=True, slots=True)
class Traffic:
    """How many sessions there are, over which queries, and in which share of them the order is disturbed.

    The n-th most frequent query has a share in proportion to n ** -zipf. A swapped page has its first product
    exchanged with one of a rank drawn at random, a shuffled page has all products in random order.
    """

    sessions: int
    zipf: float = 1.0
    swapped: float = 0.0
    shuffled: float = 0.0

    def __post_init__(self) -> None:
        if self.sessions < 1 or self.zipf < 0:
            raise SettingError(
                f"traffic needs at least 1 session and zipf from 0, not {self.sessions} and {self.zipf}"
            )
        if min(self.swapped, self.shuffled) < 0 or self.swapped + self.shuffled > 1:
            raise SettingError(
                "the shares of swapped and shuffled pages must be from 0 and sum to at most 1, "
                f"not {self.swapped} and {self.shuffled}"
            )


class Users(Protocol):
    """What decides which products of a page are clicked."""

    def clicks(self, attraction: Values, rng: np.random.Generator, /) -> Clicks:
        """Draw the clicks on S pages, whose products attract with probabilities of shape (S, K)."""


@dataclass(frozen=True, slots=True)
class PositionUsers:
    """Users who examine rank k with a fixed probability and click what they examine and are attracted by.

    Craswell, Zoeter, Taylor and Ramsey, "An Experimental Comparison of Click Position-Bias Models", WSDM
    2008. examination: (K,), from the first rank.
    """

    examination: Values

    def clicks(self, attraction: Values, rng: np.random.Generator, /) -> Clicks:
        """Draw each click on its own: attraction times examination."""
        depth = attraction.shape[1]
        if len(self.examination) < depth:
            raise SettingError(f"pages have {depth} ranks, and {len(self.examination)} have an examination")
        probability = attraction * self.examination[:depth]
        drawn: Clicks = rng.random(attraction.shape) < probability
        return drawn


@dataclass(frozen=True, slots=True)
class CascadeUsers:
    """Users who go down from the first rank and leave with the first product that attracts them (ibid.)."""

    def clicks(self, attraction: Values, rng: np.random.Generator, /) -> Clicks:
        """Draw at most one click a page."""
        attracted = rng.random(attraction.shape) < attraction
        first: Clicks = attracted & (np.cumsum(attracted, axis=1) == 1)
        return first


def examination(depth: int, eta: float = 1.0) -> Values:
    """Return the examination probabilities 1 / rank ** eta of the ranks from 1 to `depth`: (K,)."""
    return np.arange(1, depth + 1, dtype=np.float64) ** -eta


def make_pages(run: Run, queries: Sequence[Query], depth: int = 10) -> Pages:
    """Make pages of the first hits of a run.

    Args:
        run: what the ranker returned.
        queries: those that users type; one without a hit has no page.
        depth: products a page, from 1.

    Returns:
        A page for each query with a hit.

    Raises:
        InputError: no query has a hit.
    """
    hits = {query: run.hits.get(query.query_id, ())[:depth] for query in queries}
    pages = {query: tuple(hit.product_id for hit in found) for query, found in hits.items() if found}
    if not pages:
        raise InputError(f"no query has a hit in the run {run.name!r}")
    return Pages(tuple(pages), tuple(pages.values()))


def attractions(
    pages: Pages,
    qrels: Qrels,
    rng: np.random.Generator,
    *,
    by_grade: Sequence[float] = ATTRACTION,
    spread: float = 0.0,
) -> Values:
    """Return how likely each product of each page is clicked if it is examined.

    Args:
        pages: the pages.
        qrels: the truth; an unjudged product attracts like grade 0.
        rng: of the spread.
        by_grade: the attraction of each grade from 0, between 0 and 1.
        spread: standard deviation of normal noise on the log-odds, drawn once for each pair; 0: none.

    Returns:
        Probabilities of shape (Q, K), 0 where a page is shorter than K.

    Raises:
        SettingError: the qrels have a grade without an attraction, or one is not between 0 and 1.
    """
    if not all(0 < probability < 1 for probability in by_grade):
        raise SettingError(f"attractions must be between 0 and 1, not {tuple(by_grade)}")
    grades = np.full((len(pages.shown), pages.depth), -1)
    for row, (query, shown) in enumerate(zip(pages.queries, pages.shown, strict=True)):
        judged = qrels.grades.get(query.query_id, {})
        grades[row, : len(shown)] = [judged.get(product_id, 0) for product_id in shown]
    if grades.max() >= len(by_grade):
        raise SettingError(f"grade {grades.max()} has no attraction: {len(by_grade)} are given, from grade 0")
    base = np.asarray(by_grade, np.float64)[grades]
    noisy = 1 / (1 + (1 / base - 1) * np.exp(-spread * rng.standard_normal(grades.shape)))
    return np.where(grades < 0, 0.0, noisy)


def simulate(
    pages: Pages, attraction: Values, traffic: Traffic, users: Users, rng: np.random.Generator
) -> Iterator[Impression]:
    """Let users click through sessions of one page each.

    Args:
        pages: the pages of Q queries.
        attraction: (Q, K), as `attractions` returns it.
        traffic: sessions, frequencies of queries, disturbed orders.
        users: what decides about clicks.
        rng: of everything random; the same state gives the same log.

    Yields:
        The impressions; `arm` says whether the page was ranked, swapped or shuffled.
    """
    shares = rng.permutation(np.arange(1, len(pages.queries) + 1) ** -traffic.zipf)
    lengths = np.array([len(shown) for shown in pages.shown])
    weights = [1 - traffic.swapped - traffic.shuffled, traffic.swapped, traffic.shuffled]
    for start in range(0, traffic.sessions, _BLOCK):
        size = min(_BLOCK, traffic.sessions - start)
        drawn = rng.choice(len(shares), size, p=shares / shares.sum())
        arms = rng.choice(len(ARMS), size, p=weights)
        orders = _orders(lengths[drawn], pages.depth, arms, rng)
        clicked = users.clicks(np.take_along_axis(attraction[drawn], orders, axis=1), rng)
        for query, arm, order, clicks in zip(drawn, arms, orders, clicked, strict=True):
            shown = pages.shown[query]
            page = tuple(shown[place] for place in order[: len(shown)])
            ranks = tuple((np.flatnonzero(clicks) + 1).tolist())
            one = pages.queries[query]
            yield Impression(one.query_id, one.text, page, ranks, ARMS[arm])


def _orders(lengths: Orders, depth: int, arms: Orders, rng: np.random.Generator) -> Orders:
    """Return which place of its page stands at each rank: (S, K); what a page lacks stays at the end."""
    orders = np.tile(np.arange(depth), (len(lengths), 1))
    swapped = np.flatnonzero((arms == ARMS.index("swapped")) & (lengths > 1))
    with_first = rng.integers(1, lengths[swapped])
    orders[swapped, 0], orders[swapped, with_first] = with_first, 0
    shuffled = np.flatnonzero(arms == ARMS.index("shuffled"))
    keys = rng.random((len(shuffled), depth)) + (np.arange(depth) >= lengths[shuffled, None])
    orders[shuffled] = np.argsort(keys, axis=1)
    return orders
