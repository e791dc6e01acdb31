"""Click counts: what a log says of each query, product and rank. All that a position-based model needs."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tilth.errors import InputError
from tilth.feedback import Impression

Values = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]
Pair = tuple[str, str]  # query_id, product_id


@dataclass(frozen=True, slots=True)
class ClickCounts:
    """Impressions and clicks in N cells, one for each pair of query and product at each rank it had.

    pairs: the P pairs; texts: the text of each query; pair: (N,) row in `pairs`; rank: (N,) from 0;
    impressions and clicks: (N,), clicks at most impressions.
    """

    pairs: tuple[Pair, ...]
    texts: Mapping[str, str]
    pair: Numbers
    rank: Numbers
    impressions: Values
    clicks: Values

    @property
    def depth(self) -> int:
        """K, the deepest rank that was shown."""
        return int(self.rank.max()) + 1

    def by_pair(self, values: Values) -> Values:
        """Sum values (N,) of the cells over each pair: (P,)."""
        return np.bincount(self.pair, values, len(self.pairs)).astype(np.float64, copy=False)

    def by_rank(self, values: Values) -> Values:
        """Sum values (N,) of the cells over each rank: (K,)."""
        return np.bincount(self.rank, values, self.depth).astype(np.float64, copy=False)


def count_clicks(impressions: Iterable[Impression]) -> ClickCounts:
    """Count a log, one impression at a time.

    Args:
        impressions: the log, of any length; memory grows with the number of cells alone.

    Returns:
        The counts; pairs and cells in the order in which they first occur.

    Raises:
        InputError: the log is empty.
    """
    pairs: dict[Pair, int] = {}
    cells: dict[tuple[int, int], list[int]] = {}
    texts: dict[str, str] = {}
    for impression in impressions:
        query_id = impression.query_id
        texts.setdefault(query_id, impression.query)
        clicked = set(impression.clicked)
        for rank, product_id in enumerate(impression.shown):
            pair = pairs.setdefault((query_id, product_id), len(pairs))
            counts = cells.setdefault((pair, rank), [0, 0])
            counts[0] += 1
            counts[1] += rank + 1 in clicked
    if not cells:
        raise InputError("the log holds no impressions")
    keys = np.array(list(cells), np.int64)
    sums = np.array(list(cells.values()), np.float64)
    return ClickCounts(tuple(pairs), texts, keys[:, 0], keys[:, 1], sums[:, 0], sums[:, 1])


def shared_cells(counts: ClickCounts) -> tuple[Numbers, Numbers]:
    """Find the cells in which one pair stands at different ranks.

    Args:
        counts: the log.

    Returns:
        (cells, other cells), both of the same length: the same pair, at another rank, in both directions.
    """
    order = np.lexsort((counts.rank, counts.pair))
    here, there = [order[:0]], [order[:0]]
    for step in range(1, counts.depth):
        first, second = order[:-step], order[step:]
        same = counts.pair[first] == counts.pair[second]
        if not same.any():
            break
        here += [first[same], second[same]]
        there += [second[same], first[same]]
    return np.concatenate(here), np.concatenate(there)


def check_comparable(counts: ClickCounts) -> None:
    """Check that the examination of all ranks can be told from a log.

    Args:
        counts: the log.

    Raises:
        InputError: nothing was clicked, or some ranks share no pair that was ever clicked with the others,
            directly or by way of others.
    """
    if not counts.clicks.any():
        raise InputError("nothing was clicked in the log")
    ranks = np.unique(counts.rank)
    known = {int(ranks[0])}
    shared = np.zeros((counts.depth, counts.depth), np.bool_)
    here, there = shared_cells(counts)
    telling = counts.by_pair(counts.clicks)[counts.pair[here]] > 0
    shared[counts.rank[here[telling]], counts.rank[there[telling]]] = True
    while reached := set(np.flatnonzero(shared[list(known)].any(axis=0)).tolist()) - known:
        known |= reached
    if missing := sorted(set(ranks.tolist()) - known):
        raise InputError(
            f"no product that was ever clicked was shown at rank {missing[0] + 1} and, for the same query, "
            "at a rank above: the effect of the rank cannot be told from that of the product",
            remedy="Log pages of several rankers, or swap two products on a small share of the pages",
        )
