"""What a reranker learns from: the features and grades of candidates, query by query."""

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import orjson

from tilth.errors import SettingError

Features = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class TrainingData:
    """Candidates of queries, the rows of one query side by side.

    Attributes:
        features: (M, F) float32; NaN is missing.
        grades: (M,) from 0.
        sizes: (Q,) how many rows each query has, from 1; they sum to M.
        names: the names of the F features, in their order.
        weights: (M,) above 0, or None: every row counts as much.
    """

    features: Features
    grades: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int64]
    names: tuple[str, ...]
    weights: npt.NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        _check_features(self.features, self.names)
        rows = len(self.features)
        _check_whole(self.grades, "grades", lowest=0)
        _check_whole(self.sizes, "sizes", lowest=1)
        if len(self.grades) != rows:
            raise SettingError(f"{len(self.grades)} grades for {rows} rows of features")
        if (total := int(self.sizes.sum())) != rows:
            raise SettingError(f"the sizes of queries sum to {total}, and there are {rows} rows")
        if self.weights is not None:
            _check_weights(self.weights, rows)

    def only(self, queries: npt.NDArray[np.bool_] | npt.NDArray[np.int64]) -> "TrainingData":
        """Return whole queries.

        Args:
            queries: (Q,) which ones, or their numbers, in the order wanted.

        Returns:
            Copies of their rows.

        Raises:
            SettingError: a mask of another length, or no such query.
        """
        chosen = _numbers(queries, len(self.sizes))
        sizes = self.sizes[chosen]
        first = (np.cumsum(self.sizes) - self.sizes)[chosen]
        within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        rows = np.repeat(first, sizes) + within
        weights = None if self.weights is None else self.weights[rows]
        return TrainingData(self.features[rows], self.grades[rows], sizes, self.names, weights)

    def digest(self) -> str:
        """Return a hash of everything: equal data, equal digest (32 hexadecimal digits, BLAKE2b)."""
        features = np.where(np.isnan(self.features), np.float32(np.nan), self.features)  # one NaN of many
        arrays = [(features, "<f4"), (self.grades, "<i8"), (self.sizes, "<i8")]
        if self.weights is not None:
            arrays.append((self.weights, "<f8"))
        shape = orjson.dumps([self.names, len(self.grades), len(self.sizes)])
        hasher = hashlib.blake2b(shape, digest_size=16)
        for array, form in arrays:
            hasher.update(np.ascontiguousarray(array, form).tobytes())
        return hasher.hexdigest()


def _check_features(features: Features, names: tuple[str, ...]) -> None:
    if features.ndim != 2 or features.dtype != np.float32:
        raise SettingError(f"features are (M, F) float32, not {features.shape} {features.dtype}")
    if features.shape[1] != len(names):
        raise SettingError(f"{len(names)} names for {features.shape[1]} features")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise SettingError(f"the name {twice[0]!r} stands for two features")
    if infinite := np.argwhere(np.isinf(features)).tolist():
        row, column = infinite[0]
        raise SettingError(f"the feature {names[column]!r} is infinite in row {row}; NaN is missing")


def _check_whole(values: npt.NDArray[np.int64], name: str, *, lowest: int) -> None:
    if values.ndim != 1 or not np.issubdtype(values.dtype, np.integer):
        raise SettingError(f"{name} are whole numbers in one dimension, not {values.shape} {values.dtype}")
    if len(values) and (least := int(values.min())) < lowest:
        raise SettingError(f"{name} are from {lowest}, not {least}")


def _check_weights(weights: npt.NDArray[np.float64], rows: int) -> None:
    if weights.shape != (rows,):
        raise SettingError(f"weights of shape {weights.shape} for {rows} rows")
    if not (np.isfinite(weights) & (weights > 0)).all():
        raise SettingError("weights are finite and above 0")


def _numbers(queries: npt.NDArray[np.bool_] | npt.NDArray[np.int64], total: int) -> npt.NDArray[np.int64]:
    if queries.dtype == np.bool_:
        if queries.shape != (total,):
            raise SettingError(f"a mask of {queries.shape} for {total} queries")
        return np.flatnonzero(queries)
    chosen = queries.astype(np.int64)
    if chosen.size and not 0 <= chosen.min() <= chosen.max() < total:
        raise SettingError(f"queries are numbered 0 to {total - 1}, not {chosen.min()} to {chosen.max()}")
    return chosen


def mean_ndcg(scores: npt.NDArray[np.float64], data: TrainingData, cutoff: int = 10) -> float:
    """Return the mean nDCG of the queries when their candidates are ordered by score.

    scikit-learn's, with the grade itself as gain, as ir-measures has it. Equal scores keep the order of the
    rows; a query without a grade above 0 has 0.

    Args:
        scores: (M,) one a row.
        data: the grades, and which rows belong to one query.
        cutoff: how many products of a query count, from 1.

    Returns:
        From 0 to 1.
    """
    from sklearn.metrics import ndcg_score  # a second, which no search needs

    query = np.repeat(np.arange(len(data.sizes)), data.sizes)
    order = np.lexsort((-scores, query))
    position = np.arange(len(query)) - np.repeat(np.cumsum(data.sizes) - data.sizes, data.sizes)
    shape = (len(data.sizes), max(2, int(data.sizes.max())))  # shorter ones end with irrelevant products
    grades = np.zeros(shape)
    grades[query, position] = data.grades[order]
    by_rank = np.broadcast_to(-np.arange(shape[1]), shape)
    return float(ndcg_score(grades, by_rank, k=cutoff, ignore_ties=True))
