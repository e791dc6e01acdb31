"""An experiment: every kind of reranker beside BM25 and hybrid, on queries held out of its training."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
import numpy.typing as npt
from ir_measures import Measure

from tilth.evaluation.correction import holm
from tilth.evaluation.experiment import Difference, Evaluation, compare, evaluate
from tilth.evaluation.findings import (
    Calibration,
    Dataset,
    Duel,
    Findings,
    Importance,
    LearningCurve,
    ModelFacts,
    Origin,
    PairedTest,
    SplitFacts,
    StageTime,
)
from tilth.evaluation.measures import DEFAULT as MEASURES
from tilth.evaluation.measures import judged_only
from tilth.evaluation.reliability import Refusals, measure_refusals, measure_reliability
from tilth.evaluation.splits import folds
from tilth.pipeline import Pipeline
from tilth.qrels import Qrels
from tilth.query import Query
from tilth.ranking import Ranking
from tilth.reranking.feature_names import FEATURES
from tilth.reranking.models import KINDS
from tilth.reranking.reranker import Reranker
from tilth.reranking.settings import DEFAULT, Settings
from tilth.run import Run
from tilth.training.fitting import calibrate, fit_answers, signals_of, try_kinds
from tilth.training.held_out import HeldOut
from tilth.training.pools import LabelledPool, as_run

BASELINES = ("lexical", "hybrid")
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
_FEW_QUERIES = 50
_FEW_JUDGED = 0.8
_IMPORTANT = 20  # features that the page shows
_WARM = 20  # searches before times are taken

Report = Callable[[str, int, int | None], None]


@dataclass(frozen=True, slots=True)
class Trial:
    """What is tried, and how: everything that decides the outcome."""

    queries: Sequence[Query]
    qrels: Qrels
    kinds: Sequence[str] = tuple(KINDS)
    measures: Sequence[Measure] = (*MEASURES, *judged_only(MEASURES[:1]))  # the first decides
    depth: int = 200
    seed: int = 0
    settings: Settings = DEFAULT
    threads: int = 0


@dataclass(frozen=True, slots=True)
class CrossValidated:
    """Every query scored by models that have not seen it."""

    evaluation: Evaluation
    runs: Mapping[str, Run]
    fitted: Mapping[str, HeldOut]
    failed: Mapping[str, str]
    pools: Sequence[LabelledPool] = field(repr=False)
    dealt: Sequence[Sequence[str]] = ()

    def best(self, by: str) -> str:
        """Return the kind of model with the highest mean."""
        means = {kind: self.evaluation.systems[kind].mean()[by] for kind in self.fitted}
        return max(means, key=means.__getitem__)


def baseline_runs(pipeline: Pipeline, queries: Sequence[Query], k: int) -> dict[str, Run]:
    """Return the runs of every retriever and of the plain hybrid.

    Args:
        pipeline: what retrieves.
        queries: texts with ids.
        k: hits a query.

    Returns:
        `tfidf`, `lexical`, `dense` and `hybrid`.
    """
    plain = Pipeline(pipeline.live, Ranking(pipeline.ranking.fusion))
    systems = {"tfidf": pipeline.tfidf(), **pipeline.retrievers(), "hybrid": plain}
    return {name: system.search(queries, k) for name, system in systems.items()}


def cross_validate_kinds(
    pipeline: Pipeline, trial: Trial, pools: Sequence[LabelledPool], k: int
) -> CrossValidated:
    """Measure every kind of model fold by fold, beside every retriever.

    Args:
        pipeline: what retrieved the pools.
        trial: what is tried.
        pools: of all queries.
        k: the number of folds, from 3.

    Returns:
        Values of all queries; differences are to the hybrid.

    Raises:
        SettingError: there are fewer queries than folds, or nothing could be trained.
    """
    dealt = folds(trial.queries, k, seed=trial.seed)
    fitted, failed = try_kinds(
        trial.kinds, pools, dealt, seed=trial.seed, settings=trial.settings, threads=trial.threads
    )
    runs = baseline_runs(pipeline, trial.queries, trial.depth)
    runs |= {kind: as_run(kind, pools, one.scores) for kind, one in fitted.items()}
    evaluation = evaluate(
        runs, trial.qrels, queries=trial.queries, measures=trial.measures, baseline="hybrid", seed=trial.seed
    )
    return CrossValidated(evaluation, runs, fitted, failed, pools, dealt)


def measured(runs: Mapping[str, Run], trial: Trial, query_ids: Iterable[str], baseline: str) -> Evaluation:
    """Measure runs on some of the queries."""
    wanted = set(query_ids)
    queries = [query for query in trial.queries if query.query_id in wanted]
    return evaluate(
        runs, trial.qrels, queries=queries, measures=trial.measures, baseline=baseline, seed=trial.seed
    )


# --- what the page shows --------------------------------------------------------------------------


def paired_tests(runs: Mapping[str, Run], trial: Trial, query_ids: Iterable[str]) -> tuple[PairedTest, ...]:
    """Test every system that is no baseline against both baselines in the deciding measure.

    Args:
        runs: by system; `lexical` and `hybrid` among them.
        trial: what is tried.
        query_ids: what to test on.

    Returns:
        The tests, their p after Holm's correction over all of them.
    """
    found: list[Difference] = []
    ids = list(query_ids)
    for baseline in BASELINES:
        evaluation = measured(runs, trial, ids, baseline)
        by = next(iter(evaluation.systems.values())).measures[0]
        found += [
            d for d in evaluation.differences
            if d.measure == by and (d.system == "hybrid" or d.system not in ("tfidf", "dense", *BASELINES))
        ]  # fmt: skip
    adjusted = holm([difference.p for difference in found]).tolist()
    return tuple(PairedTest(d, p) for d, p in zip(found, adjusted, strict=True))


def duel(system: Run, baseline: Run, trial: Trial, query_ids: Iterable[str]) -> Duel:
    """Compare two runs query by query."""
    wanted = set(query_ids)
    queries = [query for query in trial.queries if query.query_id in wanted]
    comparison = compare(
        baseline, system, trial.qrels, queries=queries, measures=trial.measures[:1], seed=trial.seed
    )
    return Duel(system.name, baseline.name, comparison)


def dataset_facts(pipeline: Pipeline, trial: Trial) -> Dataset:
    """Return the size of what is measured on."""
    grades = [grade for known in trial.qrels.grades.values() for grade in known.values()]
    values, counts = np.unique(grades, return_counts=True)
    source = pipeline.index.manifest["catalogue"].get("files", ["the store"])
    return Dataset(
        catalogue=", ".join(map(str, source)),
        products=len(pipeline),
        queries=len(trial.queries),
        judgments=len(grades),
        grades=dict(zip(values.tolist(), counts.tolist(), strict=True)),
    )


def importances(one: HeldOut) -> tuple[Importance, ...]:
    """Return the features that a kind of model leans on most."""
    about = {feature.name: feature.about for feature in FEATURES}
    ordered = sorted(one.importance().items(), key=lambda pair: -pair[1])[:_IMPORTANT]
    return tuple(Importance(name, share, about[name]) for name, share in ordered if share > 0)


def model_facts(fitted: Mapping[str, HeldOut], settings: Settings) -> tuple[ModelFacts, ...]:
    """Return how each kind of model came to be."""
    return tuple(
        ModelFacts(
            name=kind,
            kind="trees" if one.rounds is not None else "linear",
            loss=LOSSES[kind],
            settings={name: value for name, value in asdict(settings).items() if _matters(name, one)},
            rounds=one.rounds,
            seconds=round(one.seconds, 2),
        )
        for kind, one in fitted.items()
    )


def _matters(name: str, one: HeldOut) -> bool:
    linear = {"threshold", "c"}
    return name in linear if one.rounds is None else name not in {"c", "fixed_rounds"}


def calibration_held_out(
    pipeline: Pipeline,
    pools: Sequence[LabelledPool],
    one: HeldOut,
    dealt: Sequence[Sequence[str]],
    relevant: int,
) -> Calibration:
    """Measure probabilities and the decision 'nothing fits', each query by what was fitted on other folds.

    Args:
        pipeline: what retrieved the pools.
        pools: of all queries.
        one: held-out scores of a kind.
        dealt: the folds.
        relevant: the least grade that is relevant.

    Returns:
        What the page shows of it.

    Raises:
        InputError: there are too few labels.
    """
    chances: list[npt.NDArray[np.float64]] = []
    labels: list[npt.NDArray[np.bool_]] = []
    refused: list[bool] = []
    answerable: list[bool] = []
    for fold in dealt:
        held = set(fold)
        inside = [pool for pool in pools if pool.query.query_id in held]
        outside = [pool for pool in pools if pool.query.query_id not in held]
        calibration = calibrate(outside, one.scores, relevant)
        answers = fit_answers(pipeline, outside, one.scores, calibration)
        for pool in inside:
            scores = one.scores[pool.query.query_id]
            chances.append(calibration.probability(scores[pool.judged]))
            labels.append((pool.grades >= relevant)[pool.judged])
            if pool.answerable is not None:
                decision = answers.decide(signals_of(pipeline, pool, scores, calibration))
                refused.append(not decision.answered)
                answerable.append(pool.answerable)
    reliability = measure_reliability(np.concatenate(chances), np.concatenate(labels))
    found: dict[str, Refusals] = {"learned from other folds": measure_refusals(refused, answerable)}
    return Calibration(one.kind, reliability, found)


def stage_times(
    pipeline: Pipeline, reranker: Reranker, queries: Sequence[Query], k: int = 10
) -> tuple[StageTime, ...]:
    """Return the time of each stage of an answer, in this process, on the queries given.

    Args:
        pipeline: what answers.
        reranker: in force for the measurement.
        queries: asked once each, after some that are not counted.
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
    names = dict.fromkeys(name for one in stages for name in one)
    found = []
    for name in names:
        p50, p99 = np.percentile([one.get(name, 0.0) for one in stages], [50, 99]).tolist()
        found.append(StageTime(name, round(p50, 3), round(p99, 3)))
    return tuple(found)


def warn(evaluation: Evaluation, failed: Mapping[str, str]) -> tuple[str, ...]:
    """Say in plain sentences what speaks against believing the numbers."""
    values = next(iter(evaluation.systems.values()))
    warnings = [f"{kind} could not be trained: {why}" for kind, why in failed.items()]
    if len(values.query_ids) < _FEW_QUERIES:
        warnings.append(f"only {len(values.query_ids)} queries are measured: intervals are wide")
    if "Judged@10" in values.measures:
        for name, system in evaluation.systems.items():
            share = system.mean()["Judged@10"]
            if share < _FEW_JUDGED:
                warnings.append(
                    f"of the first ten hits of {name}, {share:.0%} are judged; the others count as irrelevant"
                )
    return tuple(warnings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What an experiment has to show beside its evaluation; any part may be missing."""

    split: SplitFacts
    curve: LearningCurve | None = None
    calibration: Calibration | None = None
    latency: tuple[StageTime, ...] = ()
    warnings: tuple[str, ...] = ()
    origin: Origin | None = None


def findings(
    title: str,
    pipeline: Pipeline,
    trial: Trial,
    evaluation: Evaluation,
    runs: Mapping[str, Run],
    fitted: Mapping[str, HeldOut],
    best: str,
    shown: Shown,
) -> Findings:
    """Put together everything that the page of an experiment shows.

    Args:
        title: of the page.
        pipeline: what was measured.
        trial: what was tried.
        evaluation: of all systems.
        runs: of all systems.
        fitted: the models by kind.
        best: the system that the experiment is about.
        shown: the rest.

    Returns:
        The findings.
    """
    tested = next(iter(evaluation.systems.values())).query_ids
    leaning = fitted.get(best) or next(iter(fitted.values()))
    return Findings(
        title=title,
        measure=str(trial.measures[0]),
        dataset=dataset_facts(pipeline, trial),
        split=shown.split,
        evaluation=evaluation,
        tests=paired_tests(runs, trial, tested),
        duel=duel(runs[best], runs["hybrid"], trial, tested),
        curve=shown.curve,
        importances=importances(leaning),
        calibration=shown.calibration,
        latency=shown.latency,
        models=model_facts(fitted, trial.settings),
        warnings=shown.warnings,
        origin=shown.origin,
    )
