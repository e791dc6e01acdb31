"""`tilth train` and `tilth experiment`: from judged queries to a reranker, its report and its release."""

import os
import platform
import shlex
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from tilth.cli.indexing import StoreUrl
from tilth.cli.measuring import Index, Json, QrelsFile, Queries, Seed, print_evaluation
from tilth.cli.terminal import ERR, OUT, print_json, progress_bars
from tilth.errors import InputError, MissingExtraError, SettingError
from tilth.evaluation.findings import Findings, Origin
from tilth.evaluation.page import write_page
from tilth.feedback import read_impressions
from tilth.files import replacing
from tilth.pipeline import Pipeline, open_index
from tilth.qrels import read_qrels
from tilth.query import read_queries
from tilth.releases import Release, propose, releases
from tilth.reranking.behaviour import NO_BEHAVIOUR
from tilth.reranking.cross_encoder_training import check_extra
from tilth.reranking.models import KINDS
from tilth.reranking.reranker import DEPTH
from tilth.reranking.settings import Settings
from tilth.retrieval.sentence_encoder import DEFAULT_MODEL
from tilth.run import write_run
from tilth.training.cross_encoding import CrossEncoderPlan, with_cross_encoder
from tilth.training.experiment import Material, Trial, prepare
from tilth.training.fitting import Fitted
from tilth.training.outcomes import RESERVED, Outcome, cross_validated, trained
from tilth.training.pools import count_clicks

Kinds = Annotated[str, typer.Option(help="Kinds of model, separated by commas.")]
Depth = Annotated[int, typer.Option(min=10, max=1000, help="Candidates that are ordered anew.")]
Relevant = Annotated[int, typer.Option(min=1, help="Least grade that counts as relevant.")]
Clicks = Annotated[
    Path | None, typer.Option("--clicks", help="JSONL or TSV: a log of result pages, for features of clicks.")
]
_ALL = ",".join(KINDS)
_PAGE = "report.html"


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
    cross_encoder: Annotated[
        bool, typer.Option("--cross-encoder", help="Train a cross-encoder for the first products, too.")
    ] = False,
    cross_encoder_start: Annotated[
        str, typer.Option(help="Folder or name of a transformer to start from.")
    ] = DEFAULT_MODEL,
    top: Annotated[int, typer.Option(min=2, help="Products that the second stage may read.")] = 20,
    budget_ms: Annotated[float, typer.Option(help="Milliseconds a query that it may take.")] = 200.0,
) -> None:
    """Train a reranker on 70% of the judged queries, report on the others, propose a release.

    With --folds every query is measured by models that have not seen it, and nothing is proposed.
    """
    plan = CrossEncoderPlan(cross_encoder_start, top, budget_ms) if cross_encoder else None
    _check_plan(plan, folds)
    if folds is None:
        _check_name(index, name)
    trial = _trial(queries, qrels, kinds, depth, relevant, seed)
    opened, material = _prepare(index, trial, clicks, store)
    if folds is not None:
        outcome = _cross_validate(material, folds, curve=False)
        _keep(into, outcome)
        _show(outcome.report, as_json=as_json)
        return
    with progress_bars() as bars:
        fitted, outcome = trained(material, opened, bars)
    with tempfile.TemporaryDirectory(prefix="tilth-") as folder:
        if plan is not None:
            model = Path(folder) / "cross_encoder"  # until the release holds it
            fitted, outcome = with_cross_encoder(material, opened, fitted, outcome, model, plan)
        outcome = _signed(outcome, seed)
        _keep(into, outcome)
        release = _propose(index, material, fitted, outcome, name)
    _show({**outcome.report, "release": release.name}, as_json=as_json)
    if not as_json:
        kept = f"{fitted.held_out.kind} is kept as {release.name}"
        OUT.print(f"{kept}: tilth release promote {index} {release.name}", soft_wrap=True, markup=False)


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
    trial = _trial(queries, qrels, kinds, depth, relevant, seed)
    _, material = _prepare(index, trial, clicks, store)
    outcome = _cross_validate(material, folds, curve=curve)
    _keep(into, outcome)
    _show(outcome.report, as_json=as_json)
    if not as_json:
        OUT.print(f"report: {into / _PAGE}", soft_wrap=True, markup=False)


def _check_plan(plan: CrossEncoderPlan | None, folds: int | None) -> None:
    """Refuse a second stage that cannot be trained: before the training, not after it."""
    if plan is None:
        return
    if folds is not None:
        raise SettingError("--cross-encoder belongs to a release, and --folds proposes none: leave one out")
    check_extra()


def _check_name(index: Path, name: str | None) -> None:
    """Refuse a name that a release cannot have: before the training, not after it."""
    if name in RESERVED:
        raise InputError("a system has this name", field="--name", value=name, remedy="Use another")
    if any(release.name == name for release in releases(index)):
        raise InputError("a release has this name", field="--name", value=name, remedy="Use another")


def _trial(queries: Path, qrels: Path, kinds: str, depth: int, relevant: int, seed: int) -> Trial:
    wanted = tuple(dict.fromkeys(kind.strip() for kind in kinds.split(",")))
    if unknown := [kind for kind in wanted if kind not in KINDS]:
        raise SettingError(f"no kind {unknown[0]!r} of model; there are {', '.join(KINDS)}")
    return Trial(
        read_queries(queries),
        read_qrels(qrels),
        wanted,
        depth=depth,
        seed=seed,
        settings=Settings(threshold=relevant),
    )


def _prepare(index: Path, trial: Trial, clicks: Path | None, store: str | None) -> tuple[Pipeline, Material]:
    behaviour = NO_BEHAVIOUR if clicks is None else count_clicks(read_impressions(clicks))
    opened = open_index(index, store=store)
    with progress_bars() as bars:
        return opened, prepare(opened, trial, behaviour, bars)


def _cross_validate(material: Material, k: int, *, curve: bool) -> Outcome:
    with progress_bars() as bars:
        outcome = cross_validated(material, k, curve=curve, progress=bars)
    return _signed(outcome, material.trial.seed)


def _signed(outcome: Outcome, seed: int) -> Outcome:
    """Add what makes the outcome again."""
    origin = Origin(
        command=shlex.join(["tilth", *sys.argv[1:]]),
        commit=f"tilth {version('tilth')}",
        time=datetime.now(UTC),
        machine=f"{platform.machine()}, {os.cpu_count()} cores",
        seed=seed,
    )
    return replace(outcome, found=replace(outcome.found, origin=origin))


def _propose(index: Path, material: Material, fitted: Fitted, outcome: Outcome, name: str | None) -> Release:
    with tempfile.TemporaryDirectory(prefix="tilth-") as folder:
        model, page = Path(folder) / "reranker", Path(folder) / _PAGE
        fitted.reranker.save(model)
        return propose(
            index,
            name=name,
            fusion=material.pipeline.ranking.fusion,
            model_folder=model,
            calibration=fitted.reranker.calibration_json(),
            evidence=outcome.report,
            report=page if _write_page(outcome.found, page) else None,
        )


def _keep(into: Path | None, outcome: Outcome) -> None:
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
        ERR.print(f"no page is written. {error}", soft_wrap=True, markup=False)
        return False
    return True


def _show(report: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(report)
        return
    print_evaluation(report)
    for warning in report["warnings"]:
        OUT.print(f"note: {warning}", soft_wrap=True, markup=False)
