"""Row numbers and scores: what retrievers exchange inside an index, before products get their names."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from tilth.protocols import Rows
from tilth.run import Hit

_TIE_MARGIN = 16  # hits fetched beyond k, so that a tie at k is seen
_TIE_LIMIT = 10_000  # beyond this many equal scores, the catalogue's order decides


Scores = npt.NDArray[np.float32]


class RowHits(NamedTuple):
    """Scored rows, best first: two arrays of one length."""

    rows: Rows
    scores: Scores


NO_HITS = RowHits(np.empty(0, np.int64), np.empty(0, np.float32))


class ProductIds(Protocol):
    """Names of rows."""

    def __call__(self, rows: Rows, /) -> Sequence[str]:
        """Return the product id of each row."""


def fetch_with_ties(fetch: Callable[[int], RowHits], k: int) -> RowHits:
    """Fetch the best `k` rows and all that tie with the last of them.

    Which of several equally scored products stand in the top k is then decided by product id, not by
    where they happen to lie in the index.

    Args:
        fetch: returns the best n rows, fewer only if there are no more.
        k: how many rows are wanted, at least 1.

    Returns:
        At least `k` rows if there are as many.
    """
    depth = k + _TIE_MARGIN
    while True:
        hits = fetch(depth)
        found = len(hits.rows)
        tied = found == depth and hits.scores[-1] == hits.scores[k - 1]
        if not tied or depth >= k + _TIE_LIMIT:
            return hits
        depth *= 4


def best_per_row(rows: Rows, scores: Scores) -> RowHits:
    """Reduce scored passages to scored products: each row once, with its best score, best first."""
    order = np.lexsort((rows, -scores))
    rows, scores = rows[order], scores[order]
    _, first = np.unique(rows, return_index=True)
    first.sort()
    return RowHits(rows[first], scores[first])


def named(hits: RowHits, ids: ProductIds, k: int) -> tuple[Hit, ...]:
    """Name rows and order them by (-score, product_id), cut to `k`."""
    pairs = zip(ids(hits.rows), hits.scores.tolist(), strict=True)
    return tuple(Hit(p, s) for p, s in sorted(pairs, key=lambda pair: (-pair[1], pair[0]))[:k])
