"""Pooling: what several rankers found for the same queries, and where each of them put it.

Spärck Jones and van Rijsbergen, "Report on the Need for and Provision of an 'Ideal' Information Retrieval
Test Collection", 1975: the union of the top of many runs holds most of what is relevant.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tilth.errors import SettingError
from tilth.run import Run

Pair = tuple[str, str]  # query_id, product_id

NOT_FOUND = 0  # instead of a rank


@dataclass(frozen=True, slots=True)
class Pool:
    """P pairs that at least one of R rankers found.

    The pairs of one query stand side by side, by (best rank, product_id).
    """

    rankers: tuple[str, ...]
    pairs: tuple[Pair, ...]
    ranks: npt.NDArray[np.int64]  # (P, R) from 1; NOT_FOUND
    scores: npt.NDArray[np.float64]  # (P, R) of each ranker; NaN where it did not find the pair

    def __len__(self) -> int:
        return len(self.pairs)

    def found(self, place: int) -> dict[str, int]:
        """Return the rank in each ranker that found the pair in this place."""
        ranks = zip(self.rankers, self.ranks[place].tolist(), strict=True)
        return {ranker: rank for ranker, rank in ranks if rank != NOT_FOUND}

    def queries(self) -> npt.NDArray[np.intp]:
        """Return the number of each pair's query, from 0 in the order of the pairs: (P,)."""
        ids = [query_id for query_id, _ in self.pairs]
        number = {query_id: n for n, query_id in enumerate(dict.fromkeys(ids))}
        return np.array([number[query_id] for query_id in ids], np.intp)


def pool(runs: Mapping[str, Run], depth: int) -> Pool:
    """Pool runs: the union, per query, of the first hits of each.

    Args:
        runs: a run for each ranker.
        depth: how many hits of each run count, from 1.

    Returns:
        The pool; queries in the order in which the runs have them.

    Raises:
        SettingError: there is no run, or `depth` is below 1.
    """
    if not runs or depth < 1:
        raise SettingError(f"a pool needs at least one run and a depth from 1, not {len(runs)} and {depth}")
    rows: list[tuple[Pair, list[int], list[float]]] = []
    for query_id in dict.fromkeys(query_id for run in runs.values() for query_id in run):
        rows += _of_query(query_id, list(runs.values()), depth)
    shape = (len(rows), len(runs))
    return Pool(
        tuple(runs),
        tuple(pair for pair, _, _ in rows),
        np.array([ranks for _, ranks, _ in rows], np.int64).reshape(shape),
        np.array([scores for _, _, scores in rows], np.float64).reshape(shape),
    )


def _of_query(query_id: str, runs: list[Run], depth: int) -> list[tuple[Pair, list[int], list[float]]]:
    """Return pair, ranks and scores of each product found for a query, in the order of the pool."""
    ranks: dict[str, list[int]] = {}
    scores: dict[str, list[float]] = {}
    for column, run in enumerate(runs):
        for rank, (product_id, score) in enumerate(run.hits.get(query_id, ())[:depth], start=1):
            ranks.setdefault(product_id, [NOT_FOUND] * len(runs))[column] = rank
            scores.setdefault(product_id, [np.nan] * len(runs))[column] = score
    order = sorted(ranks, key=lambda product_id: (_best(ranks[product_id]), product_id))
    return [((query_id, product_id), ranks[product_id], scores[product_id]) for product_id in order]


def _best(ranks: list[int]) -> int:
    return min(rank for rank in ranks if rank != NOT_FOUND)
