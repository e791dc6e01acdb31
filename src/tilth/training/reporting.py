"""From what was measured to what the page of an experiment shows."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain

import numpy as np

from tilth.errors import InputError
from tilth.evaluation.correction import holm
from tilth.evaluation.experiment import Difference, Evaluation, compare
from tilth.evaluation.findings import (
    Calibration,
    Dataset,
    Duel,
    Findings,
    Importance,
    LearningCurve,
    ModelFacts,
    PairedTest,
    SplitFacts,
    StageTime,
)
from tilth.evaluation.reliability import Refusals, measure_refusals, measure_reliability
from tilth.pipeline import Pipeline
from tilth.query import Query
from tilth.ranking import Ranking
from tilth.releases import HYBRID
from tilth.reranking.calibration import Calibration as Probability
from tilth.reranking.feature_names import FEATURES
from tilth.reranking.reranker import Reranker
from tilth.reranking.settings import Settings
from tilth.retrieval.legs import LEGS
from tilth.run import Run
from tilth.training.experiment import Material, Trial, measured
from tilth.training.fitting import calibrate, fit_answers, signals_of
from tilth.training.held_out import HeldOut
from tilth.training.pools import LabelledPool

LOSSES = {
    "lambdarank": "pairwise, weighted by nDCG",
    "rank_xendcg": "listwise cross-entropy",
    "binary": "cross-entropy, relevant or not",
    "multiclass": "cross-entropy of grades",
    "regression": "squared error of grades",
    "logistic": "cross-entropy, relevant or not",
    "logistic-ovr": "cross-entropy, a grade against the rest",
    "logistic-ovo": "cross-entropy, grade against grade",
}
_LINEAR_SETTINGS = {"threshold", "c"}
_TREES_LACK = {"c", "fixed_rounds"}
_JUDGED = "Judged@10"
_FEW_QUERIES = 50
_FEW_JUDGED = 0.8
_IMPORTANT = 20  # features that the page shows
_WARM = 20  # searches before times are taken


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurements:
    """What was measured of a trial; the parts with a default may be missing."""

    title: str
    subject: str  # the system that it is about
    queries: Sequence[Query]  # that were measured
    split: SplitFacts
    evaluation: Evaluation
    runs: Mapping[str, Run]
    baselines: Sequence[str]  # systems that are tested against, the weakest claim first
    fitted: Mapping[str, HeldOut]  # by kind
    importances: tuple[Importance, ...]
    curve: LearningCurve | None = None
    calibration: Calibration | None = None
    latency: tuple[StageTime, ...] = ()
    warnings: tuple[str, ...] = ()


def findings(material: Material, done: Measurements) -> Findings:
    """Put together everything that the page shows.

    Args:
        material: what was tried, on what.
        done: what was measured.

    Returns:
        The findings, but for their origin.
    """
    trial = material.trial
    subject, hybrid = done.runs[done.subject], done.runs[HYBRID]
    comparison = compare(
        hybrid, subject, trial.qrels, queries=done.queries, measures=trial.measures[:1], seed=trial.seed
    )
    return Findings(
        title=done.title,
        measure=str(trial.measures[0]),
        dataset=dataset_facts(material),
        split=done.split,
        evaluation=done.evaluation,
        tests=paired_tests(done.runs, trial, done.queries, done.baselines),
        duel=Duel(done.subject, HYBRID, comparison),
        curve=done.curve,
        importances=done.importances,
        calibration=done.calibration,
        latency=done.latency,
        models=model_facts(done.fitted, trial.settings),
        warnings=done.warnings,
    )


def dataset_facts(material: Material) -> Dataset:
    """Return the size of what is measured on."""
    trial, pipeline = material.trial, material.pipeline
    grades = [grade for known in trial.qrels.grades.values() for grade in known.values()]
    values, counts = np.unique(grades, return_counts=True)
    source = pipeline.index.manifest["catalogue"].get("files", ["the store"])
    return Dataset(
        catalogue=", ".join(map(str, source)),
        products=len(pipeline),
        queries=len(trial.known),
        judgments=len(grades),
        grades=dict(zip(values.tolist(), counts.tolist(), strict=True)),
    )


def paired_tests(
    runs: Mapping[str, Run], trial: Trial, queries: Sequence[Query], baselines: Sequence[str]
) -> tuple[PairedTest, ...]:
    """Test systems against baselines in the deciding measure; a baseline against those before it only.

    Args:
        runs: by system; `tfidf` and the dense retrievers are not tested.
        trial: what is tried.
        queries: what to test on.
        baselines: names of systems.

    Returns:
        The tests, their p after Holm's correction over all of them.
    """
    found: list[Difference] = []
    for place, baseline in enumerate(baselines):
        skipped = {"tfidf", *LEGS, *baselines[:place]}
        evaluation = measured(
            {name: run for name, run in runs.items() if name not in skipped}, trial, queries, baseline
        )
        found += [d for d in evaluation.differences if d.measure == str(trial.measures[0])]
    adjusted = holm([difference.p for difference in found]).tolist()
    return tuple(PairedTest(d, p) for d, p in zip(found, adjusted, strict=True))


def importances(one: HeldOut) -> tuple[Importance, ...]:
    """Return the features that a kind of model leans on most, the first ones first; at most 20."""
    about = {feature.name: feature.about for feature in FEATURES}
    ordered = sorted(one.importance().items(), key=lambda pair: -pair[1])[:_IMPORTANT]
    return tuple(Importance(name, share, about[name]) for name, share in ordered if share > 0)


def model_facts(fitted: Mapping[str, HeldOut], settings: Settings) -> tuple[ModelFacts, ...]:
    """Return how each kind of model came to be."""
    return tuple(
        ModelFacts(
            name=kind,
            kind="linear" if one.rounds is None else "trees",
            loss=LOSSES[kind],
            settings={name: value for name, value in asdict(settings).items() if _matters(name, one)},
            rounds=one.rounds,
            seconds=round(one.seconds, 2),
        )
        for kind, one in fitted.items()
    )


def _matters(setting: str, one: HeldOut) -> bool:
    return setting in _LINEAR_SETTINGS if one.rounds is None else setting not in _TREES_LACK


def calibration_held_out(
    material: Material, one: HeldOut, dealt: Sequence[Sequence[str]]
) -> tuple[Calibration | None, tuple[str, ...]]:
    """Measure probabilities and the decision 'nothing fits', each query by what was fitted on other folds.

    Args:
        material: what was tried, on what.
        one: held-out scores of a kind.
        dealt: the folds.

    Returns:
        What the page shows of it, and a warning for each part that lacks labels.
    """
    relevant = material.trial.settings.threshold
    parts = [_parted(material.pools, fold) for fold in dealt]
    try:
        fitted = [calibrate(others, one.scores, relevant) for _, others in parts]
    except InputError as error:
        return None, (f"no calibration: {error}",)
    chances, labels = [], []
    for (held, _), calibration in zip(parts, fitted, strict=True):
        for pool in held:
            chances.append(calibration.probability(one.scores[pool.query.query_id][pool.judged]))
            labels.append((pool.grades >= relevant)[pool.judged])
    reliability = measure_reliability(np.concatenate(chances), np.concatenate(labels))
    try:
        refusals = _refusals(material.pipeline, one, parts, fitted)
    except InputError as error:
        return Calibration(one.kind, reliability, {}), (f"no decision that nothing fits: {error}",)
    return Calibration(one.kind, reliability, {"learned from other folds": refusals}), ()


def _parted(
    pools: Sequence[LabelledPool], fold: Sequence[str]
) -> tuple[list[LabelledPool], list[LabelledPool]]:
    """Return the pools of a fold, and those of the others."""
    inside = set(fold)
    held = [pool for pool in pools if pool.query.query_id in inside]
    return held, [pool for pool in pools if pool.query.query_id not in inside]


def _refusals(
    pipeline: Pipeline,
    one: HeldOut,
    parts: Sequence[tuple[list[LabelledPool], list[LabelledPool]]],
    fitted: Sequence[Probability],
) -> Refusals:
    refused: list[bool] = []
    for (held, others), calibration in zip(parts, fitted, strict=True):
        answers = fit_answers(pipeline, others, one.scores, calibration)
        for pool in held:
            signals = signals_of(pipeline, pool, one.scores[pool.query.query_id], calibration)
            refused.append(not answers.decide(signals).answered)
    return measure_refusals(refused, [pool.answerable for held, _ in parts for pool in held])


def stage_times(
    pipeline: Pipeline, reranker: Reranker, queries: Sequence[Query], k: int = 10
) -> tuple[StageTime, ...]:
    """Return the time of each stage of an answer, in this process, on the queries given.

    Args:
        pipeline: what answers.
        reranker: in force for the measurement.
        queries: at least one; asked once each, after some that are not counted.
        k: hits a query.

    Returns:
        Median and 99th percentile of each stage, and of all of them together as `whole`.
    """
    timed = Pipeline(pipeline.live, Ranking(pipeline.ranking.fusion, reranker))
    for query in queries[:_WARM]:
        timed.answer(query.text, k)
    stages: list[Mapping[str, float]] = []
    for query in queries:
        start = time.perf_counter()
        answer = timed.answer(query.text, k)
        stages.append({**answer.milliseconds, "whole": (time.perf_counter() - start) * 1000})
    names = dict.fromkeys(chain.from_iterable(stages))
    times = {name: [one.get(name, 0.0) for one in stages] for name in names}
    return tuple(
        StageTime(name, *np.percentile(taken, [50, 99]).round(3).tolist()) for name, taken in times.items()
    )


def warn(evaluation: Evaluation, failed: Mapping[str, str]) -> tuple[str, ...]:
    """Say in plain sentences what speaks against believing the numbers."""
    return tuple(_warnings(evaluation, failed))


def _warnings(evaluation: Evaluation, failed: Mapping[str, str]) -> Iterator[str]:
    for kind, why in failed.items():
        yield f"{kind} could not be trained: {why}"
    queries = len(next(iter(evaluation.systems.values())).query_ids)
    if queries < _FEW_QUERIES:
        yield f"only {queries} queries are measured: intervals are wide"
    judged = {name: values.mean()[_JUDGED] for name, values in evaluation.systems.items()}
    few = [f"{name} {share:.0%}" for name, share in judged.items() if share < _FEW_JUDGED]
    if few:
        yield f"few of the first ten hits are judged, and the others count as irrelevant: {', '.join(few)}"
