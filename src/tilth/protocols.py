"""The contracts between stages; `tests/contracts` runs one suite over every implementation."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from tilth.query import Query
from tilth.run import Run

Vectors = npt.NDArray[np.float32]  # (N, D), each row of length 1
Rows = npt.NDArray[np.int64]  # row numbers of an index, ascending
Allowed = npt.NDArray[np.bool_]  # for every row of an index, whether it may be returned


class Encoder(Protocol):
    """Text to unit vectors of `dimension` numbers."""

    @property
    def dimension(self) -> int:
        """D, the length of every vector."""

    def encode_queries(self, texts: Sequence[str], /) -> Vectors:
        """Encode queries: (Q, D) float32 unit vectors."""

    def encode_passages(self, texts: Sequence[str], /) -> Vectors:
        """Encode passages: (N, D) float32 unit vectors."""


class Retriever(Protocol):
    """Queries to a run."""

    def search(self, queries: Sequence[Query], k: int) -> Run:
        """Return at most `k` hits a query, every query present, ordered by (-score, product_id)."""
