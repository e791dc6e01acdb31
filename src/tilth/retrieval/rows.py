"""Row numbers and scores: what retrievers exchange inside an index, before products get their names."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from tilth.protocols import Allowed, Rows
from tilth.run import Hit

_MARGIN = 100  # rows fetched beyond those wanted: most ties at the cut end there
_MOST_TIES = 10_000  # beyond as many equal scores, the order of the index decides


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


def through_ties(fetch: Callable[[int], RowHits], k: int) -> RowHits:
    """Fetch the best `k` rows and all that tie with the last of them.

    Which of several equally scored products stand in the top k is then decided by product id, not by
    where they happen to lie in the index.

    Args:
        fetch: returns the best n rows, fewer only if there are no more.
        k: how many rows are wanted, at least 1.

    Returns:
        At least `k` rows if there are as many; of more than 10,000 that tie, not all.
    """
    depth = k + _MARGIN
    while True:
        hits = fetch(depth)
        if len(hits.rows) < depth or _is_through(hits, hits, k):
            return _not_below(hits, k)
        depth *= 4


def read_on(fetch: Callable[[int], RowHits], k: int, allowed: Allowed, most: int) -> RowHits | None:
    """Read on in a ranking until `k` allowed rows, and those that tie with the last, are found or it ends.

    Args:
        fetch: returns the best n rows, fewer only if there are no more.
        k: how many rows are wanted, at least 1.
        allowed: for each row whether it may be returned, at least one.
        most: how many rows may be fetched once it shows that the allowed ones do not lie evenly.

    Returns:
        As `through_ties`; None if more than `most` would have to be fetched.
    """
    depth = (k + _MARGIN) * len(allowed) // int(np.count_nonzero(allowed))
    while True:
        hits = fetch(depth)
        kept = allowed[hits.rows]
        found = RowHits(hits.rows[kept], hits.scores[kept])
        if len(hits.rows) < depth or _is_through(hits, found, k):
            return _not_below(found, k)
        depth = max(4 * depth, 2 * depth * k // max(len(found.rows), 1))  # as they have lain so far
        if depth > most:
            return None


def _is_through(hits: RowHits, found: RowHits, k: int) -> bool:
    """Tell whether all that tie with the k-th found row are among the hits, or too many of them."""
    if len(found.rows) < k:
        return False
    return bool(hits.scores[-1] < found.scores[k - 1]) or len(found.rows) > k + _MOST_TIES


def _not_below(found: RowHits, k: int) -> RowHits:
    """Return the best `k` rows and those that tie with the last."""
    if len(found.rows) <= k:
        return found
    kept = found.scores >= found.scores[k - 1]
    return RowHits(found.rows[kept], found.scores[kept])


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
