"""`tilth release`: proposing, comparing, promoting and rolling back what an index is searched with."""

from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.table import Table

from tilth.cli.terminal import OUT, print_json
from tilth.errors import InputError
from tilth.evaluation.experiment import Difference
from tilth.evaluation.gate import Decision, Evidence, Rules, decide
from tilth.files import open_binary
from tilth.promotions import promote as promote_release
from tilth.promotions import repair as repair_released
from tilth.promotions import rollback as roll_back
from tilth.releases import HYBRID, Release, current_name, open_release, releases
from tilth.releases import propose as propose_release
from tilth.retrieval.generations import open_generation
from tilth.retrieval.index import default_fusion, read_fusion
from tilth.serve.releasing import list_releases as list_of_releases
from tilth.serve.releasing import release_to_json

app = typer.Typer(
    help="Keep, compare, promote and roll back what an index is searched with.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)

RULES = Rules()

Index = Annotated[Path, typer.Argument(help="The index folder.")]
Why = Annotated[str, typer.Option(help="The reason, for the history.")]
By = Annotated[str, typer.Option(envvar="USER", help="Who does it, for the history.")]
MostFall = Annotated[float, typer.Option(help="Most that the measure may fall in a slice.")]
BudgetMs = Annotated[float, typer.Option(help="Most milliseconds that it may add to a search, at p99.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


@app.command()
def propose(
    index: Index,
    evidence: Annotated[Path, typer.Option(help="JSON: what was measured of it; see docs/releases.md.")],
    model: Annotated[
        Path | None, typer.Option(help="The folder of a reranker; without it, the fusion alone.")
    ] = None,
    calibration: Annotated[Path | None, typer.Option(help="JSON: the calibration of its scores.")] = None,
    report: Annotated[Path | None, typer.Option(help="HTML: a page about the training.")] = None,
    name: Annotated[str | None, typer.Option(help="Instead of r1, r2 and so on.")] = None,
    as_json: Json = False,
) -> None:
    """Keep a release, with the fusion of the index; it is searched with once it is promoted."""
    content = _read_object(evidence)
    _evidence_of(content, evidence)
    manifest = open_generation(index, checksums=False).manifest
    release = propose_release(
        index,
        name=name,
        fusion=read_fusion(index, default_fusion(manifest)),
        model_folder=model,
        calibration=None if calibration is None else _read_object(calibration),
        evidence=content,
        report=report,
    )
    if as_json:
        print_json(release_to_json(release))
    else:
        OUT.print(f"{release.name} is kept: tilth release promote {index} {release.name}", soft_wrap=True)


@app.command("list")
def list_releases(index: Index, as_json: Json = False) -> None:
    """List the releases with what they were measured at, and mark the one in force."""
    if as_json:
        print_json(list_of_releases(index))
        return
    in_force, kept = current_name(index), releases(index)
    OUT.print(f"in force: {in_force or f'no release, the plain {HYBRID}'}")
    if kept:
        OUT.print(_table(kept, in_force))


@app.command()
def promote(
    index: Index,
    name: Annotated[str, typer.Argument(help="Of the release.")],
    force: Annotated[bool, typer.Option("--force", help="Even if the gate refuses it; needs --why.")] = False,
    why: Why = "",
    by: By = "",
    most_fall: MostFall = RULES.most_fall,
    budget_ms: BudgetMs = RULES.budget_ms,
    as_json: Json = False,
) -> None:
    """Search with a release from now on, in running processes too, if the gate lets it in."""
    release = open_release(index, name)
    evidence = _evidence_of(release.evidence(), release.folder)
    rules = Rules(in_force=current_name(index) or HYBRID, most_fall=most_fall, budget_ms=budget_ms)
    decision = decide(evidence, rules)
    if as_json:
        print_json({"release": name, **decision.to_json(), "forced": force and not decision.passed})
    else:
        OUT.print(findings_table(decision))
    promote_release(index, name, decision.to_json(), force=force, why=why, by=by)
    if not as_json:
        OUT.print(f"{name} is in force" + ("" if decision.passed else ", against the gate"))


@app.command()
def rollback(index: Index, why: Why = "", by: By = "", as_json: Json = False) -> None:
    """Search with the release before, or, before the first one, with the plain hybrid."""
    _print_in_force(roll_back(index, why=why, by=by), as_json)


@app.command()
def repair(index: Index, as_json: Json = False) -> None:
    """Restore the file that names the release in force from the history, if it is damaged."""
    _print_in_force(repair_released(index), as_json)


def _print_in_force(name: str | None, as_json: bool) -> None:
    if as_json:
        print_json({"in_force": name})
    else:
        OUT.print(f"{name} is in force" if name else f"no release is in force; the plain {HYBRID} answers")


def _read_object(path: Path) -> dict[str, Any]:
    with open_binary(path) as file:
        text = file.read()
    try:
        content = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InputError(f"is not JSON: {error}", path=path) from error
    if not isinstance(content, dict):
        raise InputError("is not a JSON object", path=path)
    return content


def _evidence_of(content: dict[str, Any], path: Path) -> Evidence:
    try:
        return Evidence.from_json(content)
    except InputError as error:
        raise InputError(
            error.reason, path=path, field=error.field, value=error.value, remedy=error.remedy
        ) from error


def _table(kept: list[Release], in_force: str | None) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("", "release", "created", "measured", "difference, 95%", "to", "p99 ms"):
        table.add_column(column, justify="right" if column == "p99 ms" else "left")
    for release in kept:
        evidence = _evidence_of(release.evidence(), release.folder)
        differences = _differences(evidence)
        table.add_row(
            "*" if release.name == in_force else "",
            release.name,
            f"{release.created:%Y-%m-%d}",
            f"{evidence.measure} {evidence.systems[evidence.candidate][evidence.measure]:.3f}",
            "\n".join(f"{d.difference:+.3f} [{d.low:+.3f}, {d.high:+.3f}]" for d in differences),
            "\n".join(d.baseline for d in differences),
            f"{evidence.latency.p99_ms:.1f}",
        )
    return table


def _differences(evidence: Evidence) -> list[Difference]:
    """Return the candidate's differences in the measure that decides, one for each baseline."""
    wanted = (evidence.candidate, evidence.measure)
    return [d for d in evidence.differences if (d.system, d.measure) == wanted]


def findings_table(decision: Decision) -> Table:
    """Return a row for each finding of the gate, as it is printed."""
    table = Table(box=None, pad_edge=False, show_header=False)
    for finding in decision.findings:
        failed = "warning" if finding.warning else "refused"
        table.add_row("passed" if finding.passed else failed, finding.sentence)
    return table
