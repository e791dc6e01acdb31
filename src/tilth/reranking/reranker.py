"""A trained order of one query's candidates, with the probability that each is relevant."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson

from tilth.errors import IndexFormatError
from tilth.files import replacing
from tilth.reranking.answerability import Answerability, Decision, query_signals
from tilth.reranking.behaviour import NO_BEHAVIOUR, Behaviour
from tilth.reranking.calibration import Calibration, Stored
from tilth.reranking.cross_encoder_stage import STAGE, CrossEncoderStage, Texts
from tilth.reranking.feature_names import NAMES
from tilth.reranking.features import feature_matrix
from tilth.reranking.models import Model, open_model
from tilth.reranking.training import Features
from tilth.retrieval.analyzer import words
from tilth.retrieval.candidates import Candidates
from tilth.retrieval.fusion import RankedPlaces
from tilth.retrieval.view import View

DEPTH = 200  # fused candidates that are ordered anew
_BEHAVIOUR = "behaviour.json"
_COVERAGE = NAMES.index("any_rare_coverage")
_COSINE = NAMES.index("cosine_best")


class Reranked(NamedTuple):
    """A new order of the fused candidates, the best first."""

    ranked: RankedPlaces
    probabilities: npt.NDArray[np.float64] | None  # of those that were ordered anew, in the new order
    decision: Decision | None  # whether the shop has an answer


class Refined(NamedTuple):
    """A ranking whose first products were ordered by the second stage, and what that left out, and why."""

    ranked: RankedPlaces
    skipped: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Reranker:
    """A model over the features of candidates, with its calibration; safe to share between threads.

    `stage`, if there is one, orders the first products of the model's order anew.
    """

    model: Model
    depth: int = DEPTH
    behaviour: Behaviour = NO_BEHAVIOUR
    calibration: Calibration | None = None
    answerability: Answerability | None = None
    stage: CrossEncoderStage | None = None

    def rerank(self, view: View, text: str, candidates: Candidates, fused: RankedPlaces) -> Reranked:
        """Order the first `depth` fused candidates by the model; the others keep their order below them.

        Args:
            view: what the candidates were found in.
            text: the query as it was searched.
            candidates: what the retrievers found.
            fused: all candidates in the order of the fusion.

        Returns:
            The same candidates. Products whose identifier was typed stay first.
        """
        top = RankedPlaces(fused.places[: self.depth], fused.scores[: self.depth])
        if not len(top.places):
            return Reranked(fused, None, None)
        features = feature_matrix(view, text, candidates, top, self.behaviour)
        scores = self.model.predict(features)
        order = np.lexsort((top.places, -scores))
        ranked = candidates.identified_first(
            RankedPlaces(
                np.concatenate([top.places[order], fused.places[self.depth :]]),
                np.concatenate([scores[order], _below(scores, fused.scores[self.depth :])]),
            )
        )
        if self.calibration is None:
            return Reranked(ranked, None, None)
        chances = self.calibration.probability(scores)
        decision = self._decided(view, text, features, chances)
        of_place = dict(zip(top.places.tolist(), chances.tolist(), strict=True))
        inside = ranked.places[: len(top.places)].tolist()
        return Reranked(ranked, np.array([of_place[place] for place in inside]), decision)

    def _decided(
        self, view: View, text: str, features: Features, chances: npt.NDArray[np.float64]
    ) -> Decision | None:
        if self.answerability is None:
            return None
        return self.answerability.decide(signals(view, text, features, chances))

    def refine(
        self,
        text: str,
        candidates: Candidates,
        ranked: RankedPlaces,
        texts: Texts,
        left_ms: float = math.inf,
    ) -> Refined:
        """Let the second stage order the first products; without one, nothing changes.

        Probabilities are the model's own, whatever the second stage says: they need not descend any more.

        Args:
            text: the query as it was searched.
            candidates: what the retrievers found.
            ranked: some of them in the model's order, those whose identifier was typed first.
            texts: gives what is read of products.
            left_ms: milliseconds that the search has left.

        Returns:
            The same products. Those whose identifier was typed stay first, and are not read.
        """
        known = np.isin(ranked.places, list(candidates.identified))
        places, scores = ranked.places[~known], ranked.scores[~known].astype(np.float64)
        if self.stage is None or not len(places):
            return Refined(ranked, {})
        ids = [candidates.ids[place] for place in places[: self.depth].tolist()]
        first, left_out = self.stage.refine(text, ids, scores, texts, left_ms)
        skipped = {STAGE: left_out} if left_out else {}
        if not len(first):
            return Refined(ranked, skipped)
        scores[: len(first)] = first
        order = np.lexsort((places, -scores))
        above = ranked.scores[known] - ranked.scores[known].min(initial=np.inf) + scores.max() + 1
        refined = RankedPlaces(
            np.concatenate([ranked.places[known], places[order]]), np.concatenate([above, scores[order]])
        )
        return Refined(refined, skipped)

    def save(self, folder: Path) -> None:
        """Write the models and what is known of behaviour; calibrations are the release's own.

        Args:
            folder: made if it is not there.

        Raises:
            InputError: the folder cannot be written to, or the files of the second stage cannot be read.
        """
        with replacing(folder / _BEHAVIOUR) as file:
            file.write(orjson.dumps(self.behaviour.to_json()))
        if self.stage is not None:
            self.stage.save(folder)
        self.model.save(folder)  # last: a folder half written is refused

    def calibration_json(self) -> dict[str, Any]:
        """Return depth and calibrations as plain data, for `open_reranker`."""
        return {
            "depth": self.depth,
            "probability": self.calibration and self.calibration.to_json(),
            "answer": self.answerability and self.answerability.to_json(),
        }


def signals(
    view: View, text: str, features: Features, chances: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return what the decision 'nothing fits' is made on, in the order of `answerability.SIGNALS`.

    Args:
        view: what the candidates were found in.
        text: the query as it was searched.
        features: (M, F) of its candidates, at least one.
        chances: (M,) probabilities that they are relevant.

    Returns:
        (6,), NaN for missing.
    """
    asked = words(text)
    unknown = np.mean([not view.lexical.knows(word) for word in asked]) if asked else np.nan
    best = int(np.argmax(chances))
    return query_signals(
        chances,
        lexical=float(features[best, _COVERAGE]),
        cosine=float(features[best, _COSINE]),
        unknown_words=float(unknown),
    )


def _below(scores: npt.NDArray[np.float64], rest: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Return scores for what was not ordered anew: below all that was, in the order of the fusion."""
    if not len(rest):
        return np.empty(0)
    lowest = float(scores.min()) - 1 - float(rest[0])
    return rest.astype(np.float64) + lowest


def open_reranker(folder: Path, calibration: Mapping[str, Any] | None) -> Reranker:
    """Open what `Reranker.save` wrote.

    Args:
        folder: of the model.
        calibration: what `calibration_json` returned.

    Returns:
        The reranker.

    Raises:
        IndexFormatError: it is damaged, or was trained with other features than this program has.
    """
    model = open_model(folder, NAMES)
    try:
        behaviour = Behaviour.from_json(orjson.loads((folder / _BEHAVIOUR).read_bytes()))
    except FileNotFoundError:
        behaviour = NO_BEHAVIOUR
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise IndexFormatError(
            f"{folder / _BEHAVIOUR}: is damaged ({error}). Propose the release anew"
        ) from error
    stage = CrossEncoderStage.open(folder)
    if calibration is None:
        return Reranker(model, behaviour=behaviour, stage=stage)
    stored = Stored("calibration", calibration)
    chances, answer = stored.value("probability"), stored.value("answer")
    return Reranker(
        model,
        stored.count("depth"),
        behaviour,
        None if chances is None else Calibration.from_json(chances),
        None if answer is None else Answerability.from_json(answer),
        stage,
    )
