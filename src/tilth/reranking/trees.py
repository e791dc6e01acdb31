"""Boosted trees as they serve: read from LightGBM's text, scored with numpy alone.

A tree's leaves are numbered from left to right, each a bit. A condition that fails rules out the leaves to
its left, and the lowest bit that is left is the leaf reached (Lucchese et al., "QuickScorer", SIGIR 2015).
What all conditions on one feature rule out depends only on where its value lies among their thresholds, so it
is tabled: scoring is one look-up and one AND a feature, for all trees at once. Scores are LightGBM's own, but
for the order of addition.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tilth.reranking.training import Features

Scores = npt.NDArray[np.float64]
_Bits = npt.NDArray[np.unsignedinteger]
_Tree = dict[str, list[str]]
_KNOWN = "v4"  # the version of LightGBM's text
_DEFAULT_LEFT, _MISSING, _MISSING_IS_NAN = 2, 0b1100, 0b1000  # bits of a decision type
_ROWS = 512  # scored at a time, so that masks stay in the cache


@dataclass(frozen=True, slots=True)
class _Condition:
    """At most `threshold` goes left; else the leaves in `left` are ruled out."""

    tree: int
    feature: int
    threshold: float
    missing_left: bool
    left: int  # as bits
    gain: float


@dataclass(frozen=True, slots=True)
class _Table:
    """What a feature rules out: masks (trees,) by the place of its value among thresholds; last, missing."""

    feature: int
    thresholds: npt.NDArray[np.float64]
    masks: _Bits

    def look_up(self, values: npt.NDArray[np.float32]) -> _Bits:
        places = np.searchsorted(self.thresholds, values.astype(np.float64), side="left")
        places[np.isnan(values)] = len(self.masks) - 1
        found: _Bits = self.masks.take(places, axis=0)
        return found


class Trees:
    """An ensemble; `text` is what LightGBM writes and reads."""

    def __init__(self, text: str) -> None:
        """Read it.

        Args:
            text: what `Booster.model_to_string` gave.

        Raises:
            ValueError: the text is damaged, or of another version or form.
        """
        head, *blocks = text.split("\n\n\nend of trees")[0].split("\nTree=")
        facts = _values(head)
        if facts.get("version") != [_KNOWN]:
            raise ValueError(f"version {facts.get('version')} of LightGBM's text, not {_KNOWN}")
        trees = [_values(block) for block in blocks]
        if any(tree["num_cat"] != ["0"] or tree["is_linear"] != ["0"] for tree in trees):
            raise ValueError("trees with categories or linear leaves")
        self.text = text
        self.outputs = int(facts["num_tree_per_iteration"][0])
        self._features = int(facts["max_feature_idx"][0]) + 1
        self._count = len(trees)
        self._compile(trees)

    def _compile(self, trees: list[_Tree]) -> None:
        width = max((int(tree["num_leaves"][0]) for tree in trees), default=1)
        self._bits = np.dtype(np.uint16 if width <= 16 else np.uint32 if width <= 32 else np.uint64)
        self._leaves = np.zeros((len(trees), width))
        self._gains = np.zeros(self._features)
        by_feature: dict[int, list[_Condition]] = defaultdict(list)
        for number, tree in enumerate(trees):
            order, conditions = _unfold(tree, number)
            self._leaves[number, : len(order)] = np.array(tree["leaf_value"], np.float64)[order]
            for condition in conditions:
                by_feature[condition.feature].append(condition)
                self._gains[condition.feature] += condition.gain
        self._tables = [self._table(feature, each) for feature, each in sorted(by_feature.items())]
        self._first_leaf = np.arange(len(trees)) * width

    def _table(self, feature: int, conditions: list[_Condition]) -> _Table:
        thresholds = np.unique([each.threshold for each in conditions])
        masks = np.full((len(thresholds) + 2, self._count), ~self._bits.type(0))
        for each in conditions:
            kept = ~self._bits.type(each.left)
            masks[np.searchsorted(thresholds, each.threshold) + 1 : -1, each.tree] &= kept
            if not each.missing_left:
                masks[-1, each.tree] &= kept
        return _Table(feature, thresholds, masks)

    @property
    def rounds(self) -> int:
        """How many rounds of boosting it has."""
        return self._count // self.outputs

    def gains(self) -> Scores:
        """Return (F,) how much each feature's conditions lowered the loss in training."""
        return self._gains.copy()

    def scores(self, features: Features) -> Scores:
        """Return (M, outputs) raw scores of (M, F) features."""
        scores = np.empty((len(features), self.outputs))
        for start in range(0, len(features), _ROWS):
            scores[start : start + _ROWS] = self._scores(features[start : start + _ROWS])
        return scores

    def _scores(self, features: Features) -> Scores:
        alive = np.full((len(features), self._count), ~self._bits.type(0))
        for table in self._tables:
            alive &= table.look_up(features[:, table.feature])
        below = ~alive & (alive - self._bits.type(1))  # the zeros under the lowest bit
        values = self._leaves.ravel().take(np.bitwise_count(below) + self._first_leaf)
        summed: Scores = values.reshape(len(features), -1, self.outputs).sum(axis=1)
        return summed


def _values(block: str) -> _Tree:
    lines = (line.partition("=") for line in block.splitlines())
    return {name: value.split(" ") for name, _, value in lines}


def _unfold(tree: _Tree, number: int) -> tuple[list[int], list[_Condition]]:
    """Return the leaves from left to right, and the conditions with the bits of the leaves to their left."""
    if tree["num_leaves"] == ["1"]:
        return [0], []
    left, right = ([int(child) for child in tree[side]] for side in ("left_child", "right_child"))
    leaves: list[int] = []
    spans: dict[int, tuple[int, int]] = {}

    def walk(node: int) -> None:
        if node < 0:
            leaves.append(~node)
            return
        first = len(leaves)
        walk(left[node])
        spans[node] = (first, len(leaves))
        walk(right[node])

    walk(0)
    return leaves, list(_conditions(tree, number, spans))


def _conditions(tree: _Tree, number: int, spans: dict[int, tuple[int, int]]) -> Iterator[_Condition]:
    for node, (first, end) in spans.items():
        threshold, kind = float(tree["threshold"][node]), int(tree["decision_type"][node])
        missing_left = bool(kind & _DEFAULT_LEFT)
        if kind & _MISSING != _MISSING_IS_NAN:  # none was missing in training: LightGBM takes 0 for it
            missing_left = threshold >= 0
        yield _Condition(
            number,
            int(tree["split_feature"][node]),
            threshold,
            missing_left,
            (1 << end) - (1 << first),
            float(tree["split_gain"][node]),
        )
