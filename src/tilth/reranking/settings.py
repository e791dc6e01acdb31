"""How models are trained: defaults for a few hundred labelled queries, and what a search tries."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from tilth.errors import SettingError

MOST_LEAVES = 64  # a leaf is a bit of a 64-bit number when a model serves


@dataclass(frozen=True, slots=True)
class Settings:
    """What training depends on besides the data and the seed.

    Attributes:
        num_leaves: of a tree, 2 to 64.
        learning_rate: how much of a tree's advice is taken, above 0 up to 1.
        min_data_in_leaf: candidates, from 1.
        feature_fraction: of the features that a tree may look at, above 0 up to 1.
        bagging_fraction: of the queries that a tree learns from, above 0 up to 1.
        lambda_l2: how much leaves are drawn to 0, from 0.
        rounds: the most rounds of boosting, where validation queries say when to stop.
        patience: rounds without a better validation nDCG@10 before it stops, from 1.
        fixed_rounds: the rounds without validation queries.
        threshold: the lowest grade that is relevant to a binary kind, from 1.
        c: of logistic regression, the inverse of regularisation, above 0.

    Raises:
        SettingError: one of them is outside its range.
    """

    num_leaves: int = 15
    learning_rate: float = 0.05
    min_data_in_leaf: int = 20
    feature_fraction: float = 0.8
    bagging_fraction: float = 0.8
    lambda_l2: float = 1.0
    rounds: int = 400
    patience: int = 50
    fixed_rounds: int = 100
    threshold: int = 1
    c: float = 1.0

    def __post_init__(self) -> None:
        for name in ("learning_rate", "feature_fraction", "bagging_fraction"):
            self._check(name, 0 < getattr(self, name) <= 1, "above 0 and at most 1")
        for name in ("min_data_in_leaf", "rounds", "patience", "fixed_rounds", "threshold"):
            self._check(name, getattr(self, name) >= 1, "from 1")
        self._check("num_leaves", 2 <= self.num_leaves <= MOST_LEAVES, f"2 to {MOST_LEAVES}")
        self._check("lambda_l2", 0 <= self.lambda_l2 < float("inf"), "a finite number from 0")
        self._check("c", 0 < self.c < float("inf"), "a finite number above 0")

    def _check(self, name: str, holds: bool, wanted: str) -> None:
        if not holds:
            raise SettingError(f"{name} must be {wanted}, not {getattr(self, name)!r}")


DEFAULT = Settings()

Grid = Mapping[str, Sequence[float]]  # values to try, by the name of the setting

TREE_GRID: Grid = MappingProxyType(
    {"num_leaves": (7, 15, 31), "min_data_in_leaf": (20, 50), "feature_fraction": (0.5, 0.8)}
)
LINEAR_GRID: Grid = MappingProxyType({"c": (0.01, 0.1, 1.0, 10.0)})
