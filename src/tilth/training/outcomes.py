"""From material to an outcome: kinds compared fold by fold, or a reranker that can be released."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from tilth.errors import InputError, SettingError
from tilth.evaluation.findings import Findings, LearningCurve, SplitFacts
from tilth.evaluation.measures import measure
from tilth.evaluation.report import evaluation_report
from tilth.evaluation.splits import RERANKING, queries_of, split
from tilth.pipeline import Pipeline
from tilth.query import Query
from tilth.ranking import Ranking
from tilth.releases import HYBRID
from tilth.retrieval.build_settings import Progress
from tilth.run import Run
from tilth.training.experiment import (
    BASELINES,
    SYSTEMS,
    Material,
    Trial,
    baseline_runs,
    cross_validate_kinds,
    measured,
)
from tilth.training.fitting import Fitted, fit_reranker
from tilth.training.learning_curve import learning_curve
from tilth.training.pools import LabelledPool, untold
from tilth.training.reporting import (
    Measurements,
    calibration_held_out,
    findings,
    importances,
    stage_times,
    warn,
)

CANDIDATE = "reranked"  # what a new reranker is called among the systems
WITHOUT = "without-cross-encoder"  # the same without its second stage
RESERVED = (*SYSTEMS, CANDIDATE, WITHOUT)  # what no release can be called
_RERANK = "rerank"  # the stage of an answer that a reranker adds


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was measured: as JSON, for the page, and the runs by system."""

    report: dict[str, Any]
    found: Findings
    runs: Mapping[str, Run]


# --- cross-validation -----------------------------------------------------------------------------


def cross_validated(material: Material, k: int, *, curve: bool, progress: Progress = untold) -> Outcome:
    """Measure every query by models that have not seen it.

    Args:
        material: what is tried, on what.
        k: the number of folds, from 3.
        curve: show what labels buy, too.
        progress: is told of every fold of every kind.

    Returns:
        The outcome; its report has `best`, `folds` and `warnings` beside the keys of `evaluation_report`.

    Raises:
        InputError: there are fewer queries than folds.
        SettingError: nothing could be trained.
    """
    trial = material.trial
    done = cross_validate_kinds(material, k, progress)
    best = done.best(str(trial.measures[0]))
    calibration, lacking = calibration_held_out(material, done.fitted[best], done.dealt)
    learned, uncurved = _curve(material, best, progress) if curve else (None, ())
    warnings = (*warn(done.evaluation, done.failed), *lacking, *uncurved)
    sizes = {str(number): len(fold) for number, fold in enumerate(done.dealt, start=1)}
    measurements = Measurements(
        title=f"Rerankers, {k} folds by query",
        subject=best,
        queries=trial.queries,
        split=SplitFacts(kind=f"{k} folds", parts=sizes, seed=trial.seed),
        evaluation=done.evaluation,
        runs=done.runs,
        baselines=BASELINES,
        fitted=done.fitted,
        importances=importances(done.fitted[best]),
        curve=learned,
        calibration=calibration,
        warnings=warnings,
    )
    report = evaluation_report(done.evaluation) | {"best": best, "folds": k, "warnings": list(warnings)}
    return Outcome(report, findings(material, measurements), done.runs)


def _curve(material: Material, kind: str, progress: Progress) -> tuple[LearningCurve | None, tuple[str, ...]]:
    """Learn from more and more of 70% of the queries, and measure on the others."""
    trial = material.trial
    try:
        learned, others = parted(material)
        tested = material.pools_of([query.query_id for query in others])
        curve = learning_curve(
            kind,
            learned,
            tested,
            trial.qrels,
            trial.measures[0],
            _means(material, [pool.query for pool in tested]),
            seed=trial.seed,
            settings=trial.settings,
            threads=trial.threads,
            progress=progress,
        )
    except (InputError, SettingError) as error:
        return None, (f"no learning curve: {error}",)
    return curve, ()


def _means(material: Material, queries: list[Query]) -> dict[str, float]:
    """Return what the systems that learn nothing have in the deciding measure."""
    trial, hybrid = material.trial, material.pipeline
    qrels = trial.qrels.only([query.query_id for query in queries])
    runs = {
        "lexical": hybrid.retrievers()["lexical"].search(queries, trial.depth),
        HYBRID: hybrid.search(queries, trial.depth),
    }
    return {name: float(measure(run, qrels, trial.measures[:1]).values.mean()) for name, run in runs.items()}


def parted(material: Material) -> tuple[list[LabelledPool], list[Query]]:
    """Return the pools of 70% of the known queries, and the other queries.

    Args:
        material: what is tried, on what.

    Returns:
        What to learn from, and what to report on: queries without candidates are among these.

    Raises:
        SettingError: there are too few queries for two parts.
    """
    known = material.trial.known
    parts = split(known, RERANKING, seed=material.trial.seed)
    tested = [query for query in known if parts[query.query_id] == "test"]
    return material.pools_of(queries_of(parts, ["train"])), tested


# --- a candidate for a release --------------------------------------------------------------------


def trained(material: Material, opened: Pipeline, progress: Progress = untold) -> tuple[Fitted, Outcome]:
    """Fit a reranker on 70% of the queries, and measure it on the others as it will serve.

    Args:
        material: what is tried, on what.
        opened: what answers now; the new reranker is compared with it.
        progress: is told of every fold of every kind.

    Returns:
        The reranker, and the outcome, whose report is the evidence for the gate.

    Raises:
        InputError: there are too few queries to learn from.
        SettingError: nothing could be trained, or the release in force is named as a system is.
    """
    _check_name(opened.ranking.release)
    trial = material.trial
    learned, tested = parted(material)
    fitted = fit_reranker(
        material.pipeline,
        learned,
        trial.qrels,
        trial.kinds,
        trial.measures[0],
        depth=trial.depth,
        seed=trial.seed,
        settings=trial.settings,
        behaviour=material.behaviour,
        threads=trial.threads,
        progress=progress,
    )
    parts = {"train": len(learned), "test": len(tested)}
    done = _candidate_measured(material, opened, fitted, tested, parts)
    return fitted, Outcome(_evidence(fitted, done, trial), findings(material, done), done.runs)


def _check_name(release: str | None) -> None:
    if release in RESERVED:
        raise SettingError(
            f"the release in force is named {release}, as a system is: return to the one before with tilth "
            "release rollback, and propose it under another name"
        )


def _candidate_measured(
    material: Material, opened: Pipeline, fitted: Fitted, tested: list[Query], parts: Mapping[str, int]
) -> Measurements:
    trial, kind, release = material.trial, fitted.held_out.kind, opened.ranking.release
    runs = _candidate_runs(material, opened, fitted, tested)
    evaluation = measured(runs, trial, tested, release or HYBRID)
    return Measurements(
        title=f"A reranker by {kind}",
        subject=CANDIDATE,
        queries=tested,
        split=SplitFacts(kind="70/30 by query", parts=parts, seed=trial.seed),
        evaluation=evaluation,
        runs=runs,
        baselines=(*BASELINES, *filter(None, [release])),
        fitted={kind: fitted.held_out},
        importances=importances(fitted.held_out),
        latency=stage_times(material.pipeline, fitted.reranker, tested),
        warnings=(*fitted.warnings, *warn(evaluation, fitted.failed)),
    )


def _candidate_runs(
    material: Material, opened: Pipeline, fitted: Fitted, tested: list[Query]
) -> dict[str, Run]:
    """Return the runs of the baselines, of the new reranker and of the release in force, if there is one."""
    plain, depth, release = material.pipeline, material.trial.depth, opened.ranking.release
    reranked = Pipeline(plain.live, Ranking(plain.ranking.fusion, fitted.reranker))
    runs = baseline_runs(plain, tested, depth)
    runs[CANDIDATE] = replace(reranked.search(tested, depth), name=CANDIDATE)
    if release is not None:
        runs[release] = replace(opened.search(tested, depth), name=release)
    return runs


def _evidence(fitted: Fitted, done: Measurements, trial: Trial) -> dict[str, Any]:
    """Return what the gate asks for, and how the reranker was chosen."""
    added = next(stage for stage in done.latency if stage.stage == _RERANK)
    return evaluation_report(done.evaluation) | {
        "candidate": CANDIDATE,
        "measure": str(trial.measures[0]),
        "part": "test",
        "latency": {"p50_ms": added.p50, "p99_ms": added.p99},
        "kind": fitted.held_out.kind,
        "held_out": dict(fitted.means),
        "warnings": list(done.warnings),
    }
