"""`tilth train` and `tilth experiment`: from judged queries to a reranker, its report and its release."""

import os
import platform
import shlex
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from tilth.cli.indexing import StoreUrl
from tilth.cli.measuring import Index, Json, QrelsFile, Queries, Seed, print_evaluation
from tilth.cli.terminal import ERR, OUT, Bars, print_json, progress_bars
from tilth.errors import InputError, MissingExtraError, SettingError
from tilth.evaluation.findings import Findings, LearningCurve, Origin, SplitFacts
from tilth.evaluation.page import write_page
from tilth.evaluation.report import evaluation_report
from tilth.evaluation.splits import RERANKING, queries_of
from tilth.evaluation.splits import split as split_queries
from tilth.feedback import read_impressions
from tilth.files import replacing
from tilth.pipeline import Pipeline, open_index
from tilth.qrels import read_qrels
from tilth.query import read_queries
from tilth.ranking import Ranking
from tilth.releases import HYBRID, Release, propose
from tilth.reranking.behaviour import NO_BEHAVIOUR, Behaviour, Counts
from tilth.reranking.models import KINDS
from tilth.reranking.reranker import DEPTH
from tilth.reranking.settings import Settings
from tilth.run import Run, write_run
from tilth.training.experiment import (
    Shown,
    Trial,
    baseline_runs,
    calibration_held_out,
    cross_validate_kinds,
    findings,
    measured,
    stage_times,
    warn,
)
from tilth.training.fitting import Fitted, fit_reranker
from tilth.training.learning_curve import learning_curve
from tilth.training.pools import LabelledPool, label_pools

Kinds = Annotated[str, typer.Option(help="Kinds of model, separated by commas.")]
Depth = Annotated[int, typer.Option(min=10, max=1000, help="Candidates that are ordered anew.")]
Relevant = Annotated[int, typer.Option(min=1, help="Least grade that counts as relevant.")]
Clicks = Annotated[
    Path | None, typer.Option("--clicks", help="JSONL or TSV: a log of result pages, for features of clicks.")
]
_ALL = ",".join(KINDS)
_PAGE = "report.html"
CANDIDATE = "reranked"  # what a new reranker is called among the systems


@dataclass(frozen=True, slots=True)
class _Work:
    """An opened index and the labelled pools of its queries."""

    pipeline: Pipeline
    trial: Trial
    pools: list[LabelledPool]
    behaviour: Behaviour


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What was measured: as JSON, for the page, and the runs by system."""

    report: dict[str, Any]
    found: Findings
    runs: Mapping[str, Run]


def train(
    index: Index,
    queries: Queries,
    qrels: QrelsFile,
    folds: Annotated[
        int | None, typer.Option(min=3, help="Cross-validate in so many folds, and propose nothing.")
    ] = None,
    kinds: Kinds = _ALL,
    depth: Depth = DEPTH,
    relevant: Relevant = 1,
    clicks: Clicks = None,
    into: Annotated[
        Path | None, typer.Option(help="Folder for the report, the findings and the runs.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Of the release, instead of r1, r2 and so on.")] = None,
    store: StoreUrl = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Train a reranker on 70% of the judged queries, report on the others, propose a release.

    With --folds every query is measured by models that have not seen it, and nothing is proposed.
    """
    work = _prepare(index, queries, qrels, kinds, depth, relevant, clicks, store, seed)
    if folds is not None:
        outcome = _cross_validated(work, folds, curve=False)
        _keep(into, outcome)
        _show(outcome.report, as_json=as_json)
        return
    fitted, outcome = _trained(work)
    _keep(into, outcome)
    release = _propose(index, work, fitted, outcome, name)
    _show({**outcome.report, "release": release.name}, as_json=as_json)
    if not as_json:
        kept = f"{fitted.held_out.kind} is kept as {release.name}"
        OUT.print(f"{kept}: tilth release promote {index} {release.name}", soft_wrap=True)


def experiment(
    index: Index,
    queries: Queries,
    qrels: QrelsFile,
    into: Annotated[Path, typer.Option(help="Folder for the report, the findings and the runs.")],
    folds: Annotated[int, typer.Option(min=3, help="How many.")] = 5,
    kinds: Kinds = _ALL,
    depth: Depth = DEPTH,
    relevant: Relevant = 1,
    clicks: Clicks = None,
    curve: Annotated[bool, typer.Option(help="Show what labels buy, too.")] = True,
    store: StoreUrl = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Compare all kinds of reranker with BM25 and hybrid, fold by fold, and write a page about it."""
    work = _prepare(index, queries, qrels, kinds, depth, relevant, clicks, store, seed)
    outcome = _cross_validated(work, folds, curve=curve)
    _keep(into, outcome)
    _show(outcome.report, as_json=as_json)
    if not as_json:
        OUT.print(f"report: {into / _PAGE}", soft_wrap=True)


def _prepare(
    index: Path,
    queries: Path,
    qrels: Path,
    kinds: str,
    depth: int,
    relevant: int,
    clicks: Path | None,
    store: str | None,
    seed: int,
) -> _Work:
    wanted = tuple(dict.fromkeys(kind.strip() for kind in kinds.split(",")))
    if unknown := [kind for kind in wanted if kind not in KINDS]:
        raise SettingError(f"no kind {unknown[0]!r} of model; there are {', '.join(KINDS)}")
    texts, grades = read_queries(queries), read_qrels(qrels)
    behaviour = _behaviour(clicks)
    pipeline = open_index(index, store=store)
    trial = Trial(texts, grades, wanted, depth=depth, seed=seed, settings=Settings(threshold=relevant))
    with progress_bars() as bars:
        bars("searching", 0, len(texts))
        pools = label_pools(pipeline, texts, grades, depth, behaviour, relevant=relevant)
        bars("searching", len(texts), len(texts))
    return _Work(pipeline, trial, pools, behaviour)


def _behaviour(clicks: Path | None) -> Behaviour:
    if clicks is None:
        return NO_BEHAVIOUR
    counts: dict[tuple[str, str], Counts] = {}
    for page in read_impressions(clicks):
        for rank, product_id in enumerate(page.shown, start=1):
            shown, clicked = counts.get((page.query, product_id), (0.0, 0.0))
            counts[page.query, product_id] = Counts(shown + 1, clicked + (rank in page.clicked))
    return Behaviour.of(counts)


# --- cross-validation -----------------------------------------------------------------------------


def _cross_validated(work: _Work, k: int, *, curve: bool) -> _Outcome:
    trial, pipeline = work.trial, work.pipeline
    with progress_bars() as bars:
        bars("training", 0, len(trial.kinds))
        done = cross_validate_kinds(pipeline, trial, work.pools, k)
        bars("training", len(trial.kinds), len(trial.kinds))
        best = done.best(str(trial.measures[0]))
        warnings = list(warn(done.evaluation, done.failed))
        calibration = None
        try:
            calibration = calibration_held_out(
                pipeline, work.pools, done.fitted[best], done.dealt, trial.settings.threshold
            )
        except InputError as error:
            warnings.append(f"no calibration: {error}")
        bars("calibrating", 1, 1)
        learned = _curve(work, best, bars) if curve else None
    sizes = {str(number): len(fold) for number, fold in enumerate(done.dealt, start=1)}
    shown = Shown(
        split=SplitFacts(kind=f"{k} folds", parts=sizes, seed=trial.seed),
        curve=learned,
        calibration=calibration,
        warnings=tuple(warnings),
        origin=_origin(trial.seed),
    )
    title = f"Rerankers, {k} folds by query"
    found = findings(title, pipeline, trial, done.evaluation, done.runs, done.fitted, best, shown)
    report = evaluation_report(done.evaluation) | {"best": best, "folds": k, "warnings": warnings}
    return _Outcome(report, found, done.runs)


def _curve(work: _Work, kind: str, bars: Bars) -> LearningCurve:
    """Learn from more and more of 70% of the queries, and measure on the others."""
    trial = work.trial
    bars("learning curve", 0, 1)
    learned, tested = _parted(work)
    query_ids = [pool.query.query_id for pool in tested]
    runs = baseline_runs(work.pipeline, [pool.query for pool in tested], trial.depth)
    means = {
        name: values.mean()[str(trial.measures[0])]
        for name, values in measured(runs, trial, query_ids, HYBRID).systems.items()
        if name in ("lexical", HYBRID)
    }
    curve = learning_curve(
        kind, learned, tested, trial.qrels, trial.measures[0], means, seed=trial.seed, settings=trial.settings
    )
    bars("learning curve", 1, 1)
    return curve


def _parted(work: _Work) -> tuple[list[LabelledPool], list[LabelledPool]]:
    """Return the pools of 70% of the queries and those of the others."""
    parts = split_queries(work.trial.queries, RERANKING, seed=work.trial.seed)
    learned, tested = (set(queries_of(parts, [part])) for part in ("train", "test"))
    return (
        [pool for pool in work.pools if pool.query.query_id in learned],
        [pool for pool in work.pools if pool.query.query_id in tested],
    )


# --- a release ------------------------------------------------------------------------------------


def _trained(work: _Work) -> tuple[Fitted, _Outcome]:
    """Fit on 70% of the queries, and measure the reranker on the others as it will serve."""
    trial, pipeline = work.trial, work.pipeline
    learned, tested = _parted(work)
    with progress_bars() as bars:
        bars("training", 0, len(trial.kinds))
        fitted = fit_reranker(
            pipeline,
            learned,
            trial.qrels,
            trial.kinds,
            trial.measures[0],
            depth=trial.depth,
            seed=trial.seed,
            settings=trial.settings,
            behaviour=work.behaviour,
        )
        bars("training", len(trial.kinds), len(trial.kinds))
    texts = [pool.query for pool in tested]
    runs = baseline_runs(pipeline, texts, trial.depth)
    candidate = Pipeline(pipeline.live, Ranking(pipeline.ranking.fusion, fitted.reranker))
    runs[CANDIDATE] = replace(candidate.search(texts, trial.depth), name=CANDIDATE)
    in_force = pipeline.ranking.release
    if in_force is not None:
        runs[in_force] = replace(pipeline.search(texts, trial.depth), name=in_force)
    evaluation = measured(runs, trial, [query.query_id for query in texts], in_force or HYBRID)
    latency = stage_times(pipeline, fitted.reranker, texts)
    warnings = (*fitted.warnings, *warn(evaluation, fitted.failed))
    shown = Shown(
        split=SplitFacts(
            kind="70/30 by query", parts={"train": len(learned), "test": len(tested)}, seed=trial.seed
        ),
        latency=latency,
        warnings=warnings,
        origin=_origin(trial.seed),
    )
    title = f"A reranker by {fitted.held_out.kind}"
    models = {fitted.held_out.kind: fitted.held_out}
    found = findings(title, pipeline, trial, evaluation, runs, models, CANDIDATE, shown)
    added = next(stage for stage in latency if stage.stage == "rerank")
    report = evaluation_report(evaluation) | {
        "candidate": CANDIDATE,
        "measure": str(trial.measures[0]),
        "part": "test",
        "latency": {"p50_ms": added.p50, "p99_ms": added.p99},
        "kind": fitted.held_out.kind,
        "held_out": dict(fitted.means),
        "warnings": list(warnings),
    }
    return fitted, _Outcome(report, found, runs)


def _propose(index: Path, work: _Work, fitted: Fitted, outcome: _Outcome, name: str | None) -> Release:
    with tempfile.TemporaryDirectory(prefix="tilth-") as folder:
        model, page = Path(folder) / "reranker", Path(folder) / _PAGE
        fitted.reranker.save(model)
        return propose(
            index,
            name=name,
            fusion=work.pipeline.ranking.fusion,
            model_folder=model,
            calibration=fitted.reranker.calibration_json(),
            evidence=outcome.report,
            report=page if _write_page(outcome.found, page) else None,
        )


# --- what is kept ---------------------------------------------------------------------------------


def _keep(into: Path | None, outcome: _Outcome) -> None:
    """Write the folder of an experiment: the page, what it shows as JSON, and the runs."""
    if into is None:
        return
    with replacing(into / "findings.json") as file:
        file.write(
            orjson.dumps(outcome.found.to_json(), option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY)
        )
    for name, run in outcome.runs.items():
        write_run(run, into / "runs" / f"{name}.trec")
    _write_page(outcome.found, into / _PAGE)


def _write_page(found: Findings, path: Path) -> bool:
    """Write the page where its plots can be drawn; say what is missing where not."""
    try:
        write_page(found, path)
    except MissingExtraError as error:
        ERR.print(f"no page is written. {error}", soft_wrap=True)
        return False
    return True


def _origin(seed: int) -> Origin:
    return Origin(
        command=shlex.join(["tilth", *sys.argv[1:]]),
        commit=f"tilth {version('tilth')}",
        time=datetime.now(UTC),
        machine=f"{platform.machine()}, {os.cpu_count()} cores",
        seed=seed,
    )


def _show(report: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(report)
        return
    print_evaluation(report)
    for warning in report["warnings"]:
        OUT.print(f"note: {warning}", soft_wrap=True)
