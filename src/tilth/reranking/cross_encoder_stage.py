"""The second stage of a reranker: a cross-encoder reads the first products, as many as the time allows.

What one pair costs is measured at opening and with every query, so that the stage keeps its budget on a slow
machine and under load: it then reads fewer products, or none.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple, Protocol, Self

import numpy as np
import numpy.typing as npt

from tilth.errors import IndexFormatError, SettingError
from tilth.reranking.calibration import Stored
from tilth.reranking.cross_encoder import CrossEncoderModel, Scores
from tilth.reranking.model_files import read_facts, write_facts
from tilth.retrieval.fusion import z_scores

STAGE = "cross-encoder"  # what the stage is called where it says what it left out
STAGES = "stages.json"
CROSS_ENCODER = "cross_encoder"
_FORMAT = "tilth-stages"
_FORMAT_VERSION = 1
_LEAST = 2  # products: one alone has no order
_MEMORY = 0.8  # of the mean so far, in the new one
_FORGETTING = 0.99  # of a cost too high for any pair, a query: what was slow once is tried again
_PROBES = 4  # pairs of a warm-up
_PROBE = "cow manure 20 kg " * 300  # longer than any model reads: the first cost is the highest

Texts = Callable[[Sequence[str]], list[str]]  # of products, by their ids
Clock = Callable[[], float]  # seconds


class PairScorer(Protocol):
    """What scores texts for a query: a `CrossEncoderModel`."""

    def scores(self, query: str, texts: Sequence[str], /) -> Scores:
        """Return a score for each text, (M,), the higher the better."""

    def save(self, folder: Path, /) -> None:
        """Write the files that `CrossEncoderModel.open` opens."""


@dataclass(frozen=True, slots=True)
class StageSettings:
    """How the stage is used.

    Attributes:
        top: how many products of the model's order it may read, from 2.
        budget_ms: milliseconds that a query may take in it, above 0.
        weight: of its scores beside the model's, above 0, up to 1.
    """

    top: int = 20
    budget_ms: float = 200.0
    weight: float = 0.5

    def __post_init__(self) -> None:
        if self.top < _LEAST:
            raise SettingError(f"top must be from {_LEAST}, not {self.top}")
        if not 0 < self.budget_ms < float("inf"):
            raise SettingError(f"budget_ms must be a number of milliseconds above 0, not {self.budget_ms}")
        if not 0 < self.weight <= 1:
            raise SettingError(f"weight must be above 0, up to 1, not {self.weight}")


class PairCost:
    """What one pair costs in this process: an exponential mean over queries."""

    def __init__(self, milliseconds: float) -> None:
        """Start with a first measurement, in milliseconds a pair."""
        self.milliseconds = milliseconds

    def pairs_within(self, budget_ms: float, wanted: int) -> int:
        """Return how many pairs fit into a budget.

        Args:
            budget_ms: milliseconds.
            wanted: the most.

        Returns:
            From 2 to `wanted`, or 0: the cost is then believed a little less, so that it is measured again
            some day.
        """
        if wanted < _LEAST:
            return 0
        if self.milliseconds * _LEAST > budget_ms:
            self.milliseconds *= _FORGETTING
            return 0
        return wanted if self.milliseconds * wanted <= budget_ms else int(budget_ms / self.milliseconds)

    def measured(self, milliseconds: float, pairs: int) -> None:
        """Take a measurement of so many pairs into the mean."""
        self.milliseconds = _MEMORY * self.milliseconds + (1 - _MEMORY) * milliseconds / pairs


class Refined(NamedTuple):
    """New scores of the first products, higher than those of all others; and what was left out, and why."""

    scores: Scores  # (N,) of the first N products, in the order that they had
    skipped: str  # empty: all that could be read was


class CrossEncoderStage:
    """A cross-encoder over the first products of a model's order; safe to share between threads."""

    def __init__(
        self, model: PairScorer, settings: StageSettings, *, clock: Clock = time.perf_counter
    ) -> None:
        """Make one and measure what a pair costs.

        Args:
            model: what scores.
            settings: how it is used.
            clock: tells the time.
        """
        self.model, self.settings = model, settings
        self._clock = clock
        self.cost = PairCost(self._warm_up())

    def _warm_up(self) -> float:
        self.model.scores("cow manure", [_PROBE])  # the first call makes room in memory
        start = self._clock()
        self.model.scores("cow manure", [_PROBE] * _PROBES)
        return (self._clock() - start) * 1000 / _PROBES

    def refine(
        self,
        query: str,
        product_ids: Sequence[str],
        scores: Scores,
        texts: Texts,
        left_ms: float = math.inf,
    ) -> Refined:
        """Score the first products anew, as many as the budget allows.

        Args:
            query: as it was searched.
            product_ids: in the model's order.
            scores: (M,) of the model, descending.
            texts: gives what is read of products.
            left_ms: milliseconds that the search has left, which may be fewer than the budget.

        Returns:
            Scores of the first N, N up to M; none where there is no time for two.
        """
        wanted = min(self.settings.top, len(product_ids))
        cost, budget = self.cost.milliseconds, max(min(self.settings.budget_ms, left_ms), 0.0)
        count = self.cost.pairs_within(budget, wanted)
        skipped = self._left_out(count, wanted, cost, budget)
        if not count:
            return Refined(np.empty(0), skipped)
        start = self._clock()
        logits = self.model.scores(query, texts(product_ids[:count]))
        self.cost.measured((self._clock() - start) * 1000, count)
        return Refined(blended(scores[:count], logits, self.settings.weight), skipped)

    def _left_out(self, count: int, wanted: int, cost: float, budget: float) -> str:
        if count == wanted or wanted < _LEAST:
            return ""
        read = f"read {count} of the first {wanted} products" if count else "read nothing"
        return f"{read}: one takes {cost:.3g} ms, and {budget:.6g} ms are allowed"

    def save(self, folder: Path) -> None:
        """Write the settings and the cross-encoder.

        Args:
            folder: of the reranker.

        Raises:
            InputError: the folder cannot be written to, or the model's own files are no longer there.
        """
        self.model.save(folder / CROSS_ENCODER)
        facts = {"format": _FORMAT, "format_version": _FORMAT_VERSION, STAGE: asdict(self.settings)}
        write_facts(folder / STAGES, facts)

    @classmethod
    def open(cls, folder: Path) -> Self | None:
        """Open what `save` wrote.

        Args:
            folder: of the reranker.

        Returns:
            The stage; None where the reranker has none.

        Raises:
            IndexFormatError: a file is missing, damaged, or of a newer format.
        """
        if not (folder / STAGES).exists() and not (folder / CROSS_ENCODER).exists():
            return None
        facts = read_facts(folder / STAGES, _FORMAT, _FORMAT_VERSION)
        stored = Stored("second stage", facts.get(STAGE))
        top, budget, weight = stored.count("top"), stored.number("budget_ms"), stored.number("weight")
        try:
            settings = StageSettings(top, budget, weight)
        except SettingError as error:
            raise IndexFormatError(f"{folder / STAGES}: is damaged: {error}. Train it again") from error
        return cls(CrossEncoderModel.open(folder / CROSS_ENCODER), settings)


def blended(scores: npt.NDArray[np.floating], logits: Scores, weight: float) -> Scores:
    """Blend the scores of a model and of a cross-encoder: a weighted mean of the z-scores of both.

    Args:
        scores: (N,) of the model.
        logits: (N,) of the cross-encoder for the same products.
        weight: of the cross-encoder, from 0 to 1.

    Returns:
        (N,) without a unit, all of them above the lowest of the model's, so that those who come next stay
        below.
    """
    mixed = weight * z_scores(logits).values + (1 - weight) * z_scores(scores).values
    raised: Scores = mixed - mixed.min() + float(scores.min()) + 1
    return raised
