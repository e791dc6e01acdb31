"""A trained order of one query's candidates, with the probability that each is relevant."""

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


@dataclass(frozen=True, slots=True)
class Reranker:
    """A model over the features of candidates, with its calibration; safe to share between threads."""

    model: Model
    depth: int = DEPTH
    behaviour: Behaviour = NO_BEHAVIOUR
    calibration: Calibration | None = None
    answerability: Answerability | None = None

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

    def save(self, folder: Path) -> None:
        """Write the model and what it knows of behaviour; calibrations are the release's own.

        Args:
            folder: made if it is not there.

        Raises:
            InputError: the folder cannot be written to.
        """
        with replacing(folder / _BEHAVIOUR) as file:
            file.write(orjson.dumps(self.behaviour.to_json()))
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
    if calibration is None:
        return Reranker(model, behaviour=behaviour)
    stored = Stored("calibration", calibration)
    chances, answer = stored.value("probability"), stored.value("answer")
    return Reranker(
        model,
        stored.count("depth"),
        behaviour,
        None if chances is None else Calibration.from_json(chances),
        None if answer is None else Answerability.from_json(answer),
    )
