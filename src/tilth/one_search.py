"""One query on its way through a view: candidates, their order, and what was left out on the way."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from tilth.protocols import Allowed, Rows
from tilth.ranking import Ranking
from tilth.reranking.cross_encoder_stage import STAGE, Texts
from tilth.retrieval.candidates import NOTHING, Candidates, retrieve
from tilth.retrieval.deadline import Deadline
from tilth.retrieval.fusion import NO_PLACES, RankedPlaces
from tilth.retrieval.stopwatch import Stopwatch
from tilth.retrieval.view import View
from tilth.run import Hit

if TYPE_CHECKING:
    from tilth.reranking.answerability import Decision

DEPTH = 200  # candidates of each retriever that are fused, at least
RERANKER = "reranker"  # what the stage is called where it is left out


class OneSearch:
    """One query on its way through a view; for one thread."""

    def __init__(
        self,
        view: View,
        text: str,
        ranking: Ranking,
        texts: Texts,
        watch: Stopwatch | None = None,
        deadline: Deadline | None = None,
        *,
        typed: str | None = None,
    ) -> None:
        """Take a query.

        Args:
            view: what is searched.
            text: the query, its spelling corrected.
            ranking: how candidates are ordered.
            texts: what a cross-encoder reads of products.
            watch: is told where the time goes.
            deadline: the time that there is; None: as much as it takes.
            typed: the query as it was typed, which encoders read; None: `text`.
        """
        self._typed = typed
        self.view, self.text, self.ranking, self.texts = view, text, ranking, texts
        self.watch, self.deadline = watch or Stopwatch(), deadline or Deadline()
        self.found = NOTHING
        self.depth = DEPTH  # candidates asked of each retriever
        self.ordered = NO_PLACES  # all that was fused, before variants collapse
        self.chances: Mapping[str, float] = {}  # that a product is relevant, by its id
        self.decision: Decision | None = None
        self._partly: Mapping[str, str] = {}

    @property
    def skipped(self) -> dict[str, str]:
        """What was not asked, or not about all hits, and why."""
        return {**self.found.skipped, **self.deadline.skipped, **self._partly}

    @property
    def retrieved(self) -> Rows:
        """The rows of all products that were fused, ascending."""
        return np.sort(self.found.rows[self.ordered.places])

    def hits(self, k: int, allowed: Allowed | None, collapse: bool) -> tuple[Hit, ...]:
        """Return the best `k` with their ids."""
        best = self.best(k, allowed, collapse)
        return tuple(Hit(self.found.ids[place], score) for place, score in pairs(best))

    def best(self, k: int, allowed: Allowed | None, collapse: bool, depth: int = DEPTH) -> RankedPlaces:
        """Return the best `k`; where variants collapse, look deeper until there are as many groups.

        What was found before it looked deeper stays before all else, with its scores, so that a longer list
        only adds to a shorter one.

        Args:
            k: how many, from 0.
            allowed: a mask of the rows that may be returned; None allows all.
            collapse: of the variants of one group, keep the best.
            depth: candidates asked of each retriever, at least.

        Returns:
            Places in `found`, best first.
        """
        reranker = self.ranking.reranker
        self.depth = max(k, depth, DEPTH, reranker.depth if reranker else 0)
        self.found = self._retrieved(self.depth, allowed) if k > 0 else NOTHING
        self.ordered = self._ordered()
        best = self._collapsed(self.ordered) if collapse else self.ordered
        while collapse and len(best.places) < k and not self.found.whole and self.deadline.left() >= 0:
            if not self._looked_deeper(allowed):
                break
            best = self._collapsed(self.ordered)
        best = self._refined(best)
        return RankedPlaces(best.places[: max(k, 0)], best.scores[: max(k, 0)])

    def _looked_deeper(self, allowed: Allowed | None) -> bool:
        """Look four times as deep; False, with all as it was, if a list that was asked no longer fits."""
        skipped = dict(self.deadline.skipped)
        found = self._retrieved(4 * self.depth, allowed)
        if self.found.vectors.keys() - found.vectors.keys():
            self.deadline.skipped = skipped  # what stays was asked of all of them
            return False
        before = {self.found.ids[place]: score for place, score in pairs(self.ordered)}
        self.found, self.depth = found, 4 * self.depth
        self.ordered = self._after(before, self._ordered())
        return True

    def _retrieved(self, depth: int, allowed: Allowed | None) -> Candidates:
        return retrieve(
            self.view,
            self.text,
            depth,
            allowed,
            self.watch,
            self.deadline,
            typed=self._typed,
            complete=self.ranking.fusion.adds_scores,
        )

    def _ordered(self) -> RankedPlaces:
        fused = self.found.fused(self.ranking.fusion)
        self.watch.lap("fuse")
        if self.ranking.reranker is None or not len(fused.places) or not self.deadline.allows(RERANKER):
            return fused
        with self.deadline.timed(RERANKER):
            reranked = self.ranking.reranker.rerank(self.view, self.text, self.found, fused)
        self.watch.lap("rerank")
        ranked, chances, decision = reranked
        # Calibrated with all retrievers: without one for want of time, probabilities would be too low.
        if chances is not None and not self.deadline.skipped.keys() & self.view.legs.keys():
            names = (self.found.ids[place] for place in ranked.places.tolist())
            # As scores, what was said of a product before it looked deeper stays.
            self.chances = {**dict(zip(names, chances.tolist(), strict=False)), **self.chances}
            self.decision = self.decision or decision
        return ranked

    def _after(self, before: Mapping[str, float], ranked: RankedPlaces) -> RankedPlaces:
        """Put products that were found before, by their scores then, above all others of a ranking."""
        places = {name: place for place, name in enumerate(self.found.ids)}
        kept = {places[name]: score for name, score in before.items() if name in places}
        first, scores = np.array(list(kept), np.intp), np.array(list(kept.values()))
        rest = ~np.isin(ranked.places, first)
        others = ranked.scores[rest].astype(np.float64)
        lowest = scores.min(initial=0) - 1 - others.max(initial=0)
        return RankedPlaces(
            np.concatenate([first, ranked.places[rest]]), np.concatenate([scores, others + lowest])
        )

    def _refined(self, best: RankedPlaces) -> RankedPlaces:
        """Let a second stage order the first hits, once a query."""
        reranker = self.ranking.reranker
        if reranker is None or reranker.stage is None:
            return best
        if RERANKER in self.deadline.skipped:
            self._partly = {STAGE: self.deadline.skipped[RERANKER]}
            return best
        left = self.deadline.left()
        ranked, self._partly = reranker.refine(self.text, self.found, best, self.texts, left)
        self.watch.lap("rerank")
        return ranked

    def _collapsed(self, best: RankedPlaces) -> RankedPlaces:
        """Keep the first of each group of variants, and all products that belong to none."""
        groups = np.array(self.view.groups(self.found.rows[best.places]), object)
        first = np.zeros(len(groups), bool)
        first[np.unique(groups.astype(str), return_index=True)[1]] = True
        kept = first | (groups == "")
        return RankedPlaces(best.places[kept], best.scores[kept])


def pairs(ranked: RankedPlaces) -> Iterator[tuple[int, float]]:
    """Yield (place, score), best first."""
    return zip(ranked.places.tolist(), ranked.scores.tolist(), strict=True)
