"""How near the passages of products are to a query."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tilth.protocols import Vectors
from tilth.retrieval.dense import RowPassages
from tilth.retrieval.quantisation import to_query

Cosines = npt.NDArray[np.float32]  # NaN where there is no passage


class Nearness(NamedTuple):
    """The cosines of a query with the passages of M rows, NaN for a row that has none: (M,) each."""

    head: Cosines  # of the first passage
    best: Cosines  # of the nearest one


def nearness(passages: RowPassages, vector: Vectors, rows: int) -> Nearness:
    """Compare a query with the passages of rows, to the cosines that a dense search gives.

    Args:
        passages: of the rows.
        vector: (D,) of the query.
        rows: how many there are.

    Returns:
        A cosine (-1 to 1) of each row.
    """
    head, best = np.full((2, rows), np.nan, np.float32)
    if len(passages.places):
        first = firsts(passages.places)
        has = passages.places[first]
        query = to_query(vector)
        cosines = np.einsum("ij,j->i", passages.codes, query.codes)  # BLAS would wait for other threads
        cosines *= query.unit
        head[has], best[has] = cosines[first], np.maximum.reduceat(cosines, first)
    return Nearness(head, best)


def firsts(groups: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """Return where each group begins; the members of one, numbered from 0, are side by side."""
    return np.flatnonzero(np.diff(groups, prepend=-1))
