"""A cross-encoder behind a fitted reranker: trained, weighed on held-out queries, measured as it serves."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tilth.evaluation.findings import SplitFacts
from tilth.evaluation.measures import measure
from tilth.evaluation.report import evaluation_report
from tilth.pipeline import Pipeline
from tilth.query import Query
from tilth.ranking import Ranking
from tilth.releases import HYBRID
from tilth.reranking.cross_encoder import CrossEncoderModel, Scores
from tilth.reranking.cross_encoder_stage import CrossEncoderStage, StageSettings, Texts, blended
from tilth.reranking.cross_encoder_training import DEFAULT, CrossEncoderSettings, train_cross_encoder
from tilth.reranking.feature_names import NAMES
from tilth.reranking.reranker import Reranker
from tilth.retrieval.sentence_encoder import DEFAULT_MODEL
from tilth.run import Run
from tilth.training.experiment import BASELINES, Material, measured
from tilth.training.fitting import Fitted
from tilth.training.held_out import deal
from tilth.training.outcomes import CANDIDATE, WITHOUT, Outcome, parted
from tilth.training.pools import LabelledPool, as_run
from tilth.training.reporting import Measurements, findings, stage_times, warn

WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
_FOLDS = 5  # the first of which weighs, the others teach
_IDENTIFIED = NAMES.index("identified")

BlendedScores = Mapping[float, Mapping[str, npt.NDArray[np.float64]]]  # by weight and query_id


@dataclass(frozen=True, slots=True)
class CrossEncoderPlan:
    """What a second stage is to be: `start` and `settings` of its training, and its limits in serving."""

    start: str = DEFAULT_MODEL
    top: int = 20
    budget_ms: float = 200.0
    settings: CrossEncoderSettings = DEFAULT

    def __post_init__(self) -> None:
        StageSettings(self.top, self.budget_ms)  # refuses what no stage can have


def with_cross_encoder(
    material: Material,
    opened: Pipeline,
    fitted: Fitted,
    outcome: Outcome,
    into: Path,
    plan: CrossEncoderPlan,
) -> tuple[Fitted, Outcome]:
    """Train a cross-encoder on the queries that the reranker learned from, and put it behind the reranker.

    Four fifths of these queries teach; on the others, which no model that scores them has seen, the weight of
    its scores is chosen. Where the reranker alone is best there, the cross-encoder is left out.

    Args:
        material: what is tried, on what.
        opened: what answers now.
        fitted: the reranker.
        outcome: what it gave on the queries that are reported on.
        into: the folder to make, for the cross-encoder; it must be there until the reranker is saved.
        plan: what the stage is to be.

    Returns:
        The reranker with its second stage, and the outcome measured anew, in which the reranker alone is the
        system `without-cross-encoder`; or both as they were, with a warning.

    Raises:
        MissingExtraError: the extra `build` is not installed.
        InputError: the starting weights cannot be loaded, or there are too few queries.
        SettingError: there is nothing to learn from.
    """
    learned, tested = parted(material)
    teaching, weighing = _parted(learned, material.trial.seed)
    texts = material.pipeline.texts
    pairs, grades, groups = _judged_pairs(teaching, texts)
    seed = material.trial.seed
    train_cross_encoder(pairs, grades, groups, into, start=plan.start, settings=plan.settings, seed=seed)
    model = CrossEncoderModel.open(into)
    means = _means(material, weighing, _weighed(model, weighing, fitted.held_out.scores, texts, plan.top))
    weight = max(means, key=means.__getitem__)  # of equal ones the lowest
    if weight == 0:
        return fitted, _left_out(outcome, means)
    stage = CrossEncoderStage(model, StageSettings(plan.top, plan.budget_ms, weight))
    staged = replace(fitted, reranker=replace(fitted.reranker, stage=stage))
    return staged, _measured_anew(material, opened, staged, outcome, tested, means)


def _parted(pools: Sequence[LabelledPool], seed: int) -> tuple[list[LabelledPool], list[LabelledPool]]:
    """Return the pools to learn from, and those to choose the weight on."""
    held = set(deal([pool.query for pool in pools], _FOLDS, seed=seed)[0])
    teaching = [pool for pool in pools if pool.query.query_id not in held]
    return teaching, [pool for pool in pools if pool.query.query_id in held]


def _judged_pairs(
    pools: Sequence[LabelledPool], texts: Texts
) -> tuple[list[tuple[str, str]], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return query and text of each judged candidate, its grade, and how many each query has."""
    kept = [pool for pool in pools if pool.answerable and pool.judged.any()]
    pairs = [
        (pool.pool.text, text)
        for pool in kept
        for text in texts([pool.pool.product_ids[row] for row in np.flatnonzero(pool.judged).tolist()])
    ]
    grades = np.concatenate([np.empty(0, np.int64), *(pool.grades[pool.judged] for pool in kept)])
    return pairs, grades, np.array([int(pool.judged.sum()) for pool in kept], np.int64)


def _weighed(
    model: CrossEncoderModel,
    pools: Sequence[LabelledPool],
    scores: Mapping[str, Scores],
    texts: Texts,
    top: int,
) -> BlendedScores:
    """Return the scores of each query with each weight, as if there were time for all of the top."""
    weighed: dict[float, dict[str, Scores]] = {weight: {} for weight in WEIGHTS}
    for pool in pools:
        query_id, own = pool.query.query_id, scores[pool.query.query_id]
        open_to_it = np.flatnonzero(pool.pool.features[:, _IDENTIFIED] != 1)
        first = open_to_it[np.argsort(-own[open_to_it], kind="stable")][:top]
        read = texts([pool.pool.product_ids[row] for row in first.tolist()])
        logits = model.scores(pool.pool.text, read)
        for weight in WEIGHTS:
            weighed[weight][query_id] = own.copy()
            if weight and len(first) > 1:
                weighed[weight][query_id][first] = blended(own[first], logits, weight)
    return weighed


def _means(material: Material, pools: Sequence[LabelledPool], weighed: BlendedScores) -> dict[float, float]:
    """Return the mean of the deciding measure with each weight."""
    by = material.trial.measures[0]
    qrels = material.trial.qrels.only([pool.query.query_id for pool in pools])
    return {
        weight: float(measure(as_run(f"{weight:g}", pools, scores), qrels, [by]).values.mean())
        for weight, scores in weighed.items()
    }


def _left_out(outcome: Outcome, means: Mapping[float, float]) -> Outcome:
    """Say that the cross-encoder was not worth its time, and by which numbers."""
    warning = "no cross-encoder: the reranker alone is best on held-out queries"
    facts = {"settings": None, "held_out": _named(means)}
    report = outcome.report | {
        "cross_encoder": facts,
        "warnings": [*outcome.report["warnings"], warning],
    }
    found = replace(outcome.found, warnings=(*outcome.found.warnings, warning))
    return replace(outcome, report=report, found=found)


def _named(means: Mapping[float, float]) -> dict[str, float]:
    return {f"{weight:g}": mean for weight, mean in means.items()}


def _measured_anew(
    material: Material,
    opened: Pipeline,
    fitted: Fitted,
    before: Outcome,
    tested: list[Query],
    means: Mapping[float, float],
) -> Outcome:
    """Measure the reranker with its second stage, within its budget, beside the reranker alone."""
    trial, release, kind = material.trial, opened.ranking.release, fitted.held_out.kind
    parts = {"train": len(material.trial.known) - len(tested), "test": len(tested)}
    runs = _runs(material, fitted.reranker, before, tested)
    evaluation = measured(runs, trial, tested, release or HYBRID)
    latency = stage_times(material.pipeline, fitted.reranker, tested)
    done = Measurements(
        title=f"A reranker by {kind} with a cross-encoder",
        subject=CANDIDATE,
        queries=tested,
        split=SplitFacts(kind="70/30 by query", parts=parts, seed=trial.seed),
        evaluation=evaluation,
        runs=runs,
        baselines=(*BASELINES, *filter(None, [release]), WITHOUT),
        fitted={kind: fitted.held_out},
        importances=before.found.importances,
        latency=latency,
        warnings=(*fitted.warnings, *warn(evaluation, fitted.failed)),
    )
    return Outcome(_report(before, done, fitted.reranker, means), findings(material, done), runs)


def _runs(material: Material, reranker: Reranker, before: Outcome, tested: Sequence[Query]) -> dict[str, Run]:
    plain = material.pipeline
    staged = Pipeline(plain.live, Ranking(plain.ranking.fusion, reranker))
    alone = replace(before.runs[CANDIDATE], name=WITHOUT)
    run = replace(staged.search(tested, material.trial.depth), name=CANDIDATE)
    return {**before.runs, WITHOUT: alone, CANDIDATE: run}


def _report(
    before: Outcome, done: Measurements, reranker: Reranker, means: Mapping[float, float]
) -> dict[str, Any]:
    """Return the evidence of the reranker alone, with what its second stage changes."""
    added = next(stage for stage in done.latency if stage.stage == "rerank")
    facts = reranker.stage and {
        "settings": asdict(reranker.stage.settings),
        "pair_ms": round(reranker.stage.cost.milliseconds, 3),
        "held_out": _named(means),
    }
    return (
        before.report
        | evaluation_report(done.evaluation)
        | {
            "latency": {"p50_ms": added.p50, "p99_ms": added.p99},
            "cross_encoder": facts,
            "warnings": list(done.warnings),
        }
    )
