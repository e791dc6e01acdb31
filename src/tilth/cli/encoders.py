"""`tilth encoder`: the shop's own encoder, trained from its catalogue, and kept up to date."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from filelock import FileLock, Timeout

from tilth.cli.encoder_choice import print_trained
from tilth.cli.indexing import (
    Columns,
    Json,
    StoreUrl,
    Strict,
    Workers,
    column_map,
    print_counts,
    resources,
)
from tilth.cli.measuring import Index, QrelsFile, Queries
from tilth.cli.releasing import RULES, BudgetMs, By, MostFall, Why, findings_table
from tilth.cli.terminal import OUT, print_json, progress_bars
from tilth.cli.updating import store_of
from tilth.encoder_training.asked import Asked, asked_of
from tilth.encoder_training.drift import MOST_FALL, drift
from tilth.encoder_training.of_index import check_extra
from tilth.encoder_training.retraining import Plan, Retrained, retrain
from tilth.encoder_training.settings import SHARES, EncoderSettings
from tilth.encoder_training.texts import sampled
from tilth.errors import InputError, SettingError
from tilth.evaluation.gate import Rules
from tilth.files import move_durably
from tilth.judgment_log import JudgmentLog
from tilth.qrels import read_qrels
from tilth.query import read_queries
from tilth.readers.products import read_products
from tilth.readers.rejections import Summary, writing_rejections
from tilth.retrieval.encoder import StaticEncoder
from tilth.retrieval.encoder_build import build_encoder, open_static
from tilth.retrieval.generations import explaining_faults
from tilth.retrieval.index import open_store

app = typer.Typer(
    help="Train the shop's own encoder, and keep it up to date.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)

_DEFAULT = EncoderSettings()
_LOCK = "lock"

Teacher = Annotated[
    str | None, typer.Option(help="A model's name or folder, whose similarities are learned, too.")
]
Dimension = Annotated[int, typer.Option(help="Numbers of a vector: 64, 128, 256 or 384.")]
Sample = Annotated[int, typer.Option(min=1, help="Products that are trained on, at most.")]
Vocabulary = Annotated[int, typer.Option(min=100, help="Tokens, at most.")]
Steps = Annotated[int, typer.Option(min=1, help="Steps of the training, at most.")]
Shares = Annotated[
    str,
    typer.Option(
        help=f"SOURCE:SHARE,... of the pairs, instead of the default; sources: {', '.join(SHARES)}."
    ),
]
Seed = Annotated[int, typer.Option(help="Of everything random in a training.")]
Judged = Annotated[
    Path | None, typer.Option(help="An index folder whose store has judgments; needs --queries.")
]
LearnedQueries = Annotated[
    Path | None, typer.Option("--queries", help="TSV: the queries whose judgments are learned from.")
]


@app.command()
def train(
    catalogue: Annotated[list[Path], typer.Argument(help="As for `tilth index`.")],
    into: Annotated[Path, typer.Option(help="The folder of the encoder; it must not be there yet.")],
    teacher: Teacher = None,
    dimension: Dimension = _DEFAULT.dimension,
    sample: Sample = _DEFAULT.sample,
    vocabulary: Vocabulary = _DEFAULT.vocabulary,
    steps: Steps = _DEFAULT.steps,
    shares: Shares = "",
    judged: Judged = None,
    queries: LearnedQueries = None,
    columns: Columns = None,
    strict: Strict = False,
    store: StoreUrl = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Train an encoder on a catalogue alone, on a CPU; begun again after an interruption, it goes on."""
    settings = EncoderSettings(
        dimension=dimension,
        vocabulary=vocabulary,
        sample=sample,
        steps=steps,
        shares=parse_shares(shares),
        seed=seed,
    )
    _check_into(into)
    check_extra()
    from tilth.encoder_training.trainer import train_encoder

    asked = read_asked(judged, queries, store)
    taught_by = build_encoder(teacher) if teacher is not None else None
    summary, rejected = Summary(), into.with_name(f"{into.name}.rejected.jsonl")
    with _work_of(into) as work, explaining_faults(work), progress_bars() as bars:
        with writing_rejections(work / rejected.name) as reject:
            products = read_products(
                catalogue, columns=column_map(columns or []), strict=strict, on_reject=reject, summary=summary
            )
            chosen = sampled(products, sample, seed, always={pair.product_id for pair in asked})
        if summary.rejected:
            (work / rejected.name).replace(rejected)
            print_counts("rejected", summary.reasons, rejected)
        (work / rejected.name).unlink(missing_ok=True)
        encoder = train_encoder(chosen, work, settings, bars, teacher=taught_by, asked=asked)
        shutil.rmtree(work / "encoder", ignore_errors=True)  # of a training that was stopped while it saved
        encoder.save(work / "encoder")
        move_durably(work / "encoder", into)
    if as_json:
        print_json({"encoder": str(into), **summary.to_json(), **facts_of(encoder)})
        return
    print_trained(encoder)
    OUT.print(f"{into} is ready: tilth index CATALOGUE --into DIR --encoder {into}/", soft_wrap=True)


def _check_into(into: Path) -> None:
    if os.path.lexists(into):
        raise InputError("is there already", path=into, remedy="Name a new folder, or remove this one")


@contextmanager
def _work_of(into: Path) -> Iterator[Path]:
    """Give the folder of a training, for this process alone; it goes when the block ends well.

    After an error it stays for the next training to go on from, if there is anything in it.
    """
    work = into.with_name(f"{into.name}.training")
    try:
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot be made a folder: {error.strerror}", path=work, remedy="Name another one with --into"
        ) from error
    try:
        with FileLock(work / _LOCK, timeout=0):
            _check_into(into)  # which another process may have made meanwhile
            try:
                yield work
            except BaseException:
                if [path.name for path in work.iterdir()] == [_LOCK]:
                    shutil.rmtree(work)
                raise
            shutil.rmtree(work)
    except Timeout as error:
        raise InputError(
            "another process is training this encoder",
            path=into,
            remedy="Wait for it, or name another folder",
        ) from error


def parse_shares(text: str) -> dict[str, float]:
    """Return the shares of the sources of pairs, those that are not named from the default.

    Args:
        text: `title:0.5,kin:0.1`; empty: all from the default.

    Returns:
        A share for each source.

    Raises:
        SettingError: it is not of this form.
    """
    shares = dict(SHARES)
    for part in filter(None, text.split(",")):
        name, _, share = part.partition(":")
        try:
            shares[name.strip()] = float(share)
        except ValueError as error:
            raise SettingError(f"{part!r} is not of the form SOURCE:SHARE, such as title:0.5") from error
    return shares


def read_asked(judged: Path | None, queries: Path | None, store: str | None) -> list[Asked]:
    """Return the queries of a file with the products that were judged to answer them.

    Args:
        judged: an index folder; None: nothing is learned from judgments.
        queries: the queries that may be learned from: no others, so that these can be measured on.
        store: URL of the store, if it is not in the folder.

    Returns:
        The pairs.

    Raises:
        SettingError: one of the two is not given.
        InputError: the file cannot be read, or none of its queries has a product that answers it.
    """
    if (judged is None) != (queries is None):
        raise SettingError("judgments are learned from with both: --judged INDEX and --queries TSV")
    if judged is None or queries is None:
        return []
    texts = {query.query_id: query.text for query in read_queries(queries)}
    with open_store(judged, store, create=False) as opened:
        asked = asked_of(JudgmentLog(opened).of_queries(texts), texts)
    if not asked:
        raise InputError(
            "none of these queries has a product that was judged relevant",
            path=queries,
            remedy=f"See what there is: tilth judge export {judged} --into judgments.tsv",
        )
    return asked


def facts_of(encoder: StaticEncoder) -> dict[str, Any]:
    """Return what is printed of a trained encoder as JSON."""
    return {"facts": encoder.facts.to_json(), "training": encoder.training}


@app.command("drift")
def show_drift(index: Index, store: StoreUrl = None, as_json: Json = False) -> None:
    """Say how far the products have moved from those that the own encoder of an index was trained on."""
    with store_of(index, store) as opened:
        found = drift(index, opened)
    remedy = f"tilth encoder retrain {index} --queries QUERIES --qrels QRELS"
    if as_json:
        print_json({"index": str(index), **found.to_json(), "remedy": remedy if found.drifted else None})
        return
    OUT.print(
        f"{index}: {found.products:,} products now; its own encoder was trained on {found.trained_on:,}\n"
        f"{found.whole_now:.1%} of the words of titles have a token of their own (of {found.looked_at:,} "
        f"products); {found.whole_then:.1%} had one then",
        soft_wrap=True,
    )
    if found.drifted:
        OUT.print(f"drifted: more than {MOST_FALL * 100:g} points fewer. Retrain: {remedy}", soft_wrap=True)
    else:
        OUT.print(f"not drifted: no more than {MOST_FALL * 100:g} points fewer", soft_wrap=True)


@app.command("retrain")
def retrain_encoder(
    index: Index,
    queries: Queries,
    qrels: QrelsFile,
    teacher: Teacher = None,
    encoder: Annotated[
        Path | None, typer.Option(help="The folder of an own encoder, instead of training one.")
    ] = None,
    dimension: Annotated[
        int | None,
        typer.Option(help="Numbers of a vector: 64, 128, 256 or 384; as many as now, or all of --encoder."),
    ] = None,
    steps: Steps = _DEFAULT.steps,
    seed: Seed = 0,
    force: Annotated[bool, typer.Option("--force", help="Even if the gate refuses it; needs --why.")] = False,
    why: Why = "",
    by: By = "",
    most_fall: MostFall = RULES.most_fall,
    budget_ms: BudgetMs = RULES.budget_ms,
    store: StoreUrl = None,
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """Train the own encoder of an index anew, beside the searches; in force if the gate lets it in."""
    if encoder is None:
        check_extra()
    elif teacher is not None:
        raise SettingError("--teacher is for an encoder that is trained: leave out --encoder or --teacher")
    plan = Plan(
        queries=read_queries(queries),
        qrels=read_qrels(qrels),
        encoder=None if encoder is None else open_static(encoder),
        teacher=None if teacher is None else build_encoder(teacher),
        dimension=dimension,
        steps=steps,
        seed=seed,
        rules=Rules(most_fall=most_fall, budget_ms=budget_ms),
        force=force,
        why=why,
        by=by,
    )
    with store_of(index, store) as opened, progress_bars() as bars:
        done = retrain(index, opened, plan, resources(workers, None), bars)
    if as_json:
        print_json(_outcome(index, done))
    else:
        OUT.print(findings_table(done.decision))
    if done.release is None:
        raise InputError(
            f"the gate refuses the retrained encoder: {' '.join(done.decision.refusals).rstrip('.')}",
            path=index,
            remedy="Nothing has changed. Where people know better: "
            + (f"--encoder {done.refused} " if done.refused else "")
            + "--force --why TEXT",
        )
    if not as_json:
        print_trained(done.encoder)
        OUT.print(_sentence(index, done, done.release.name), soft_wrap=True)


def _outcome(index: Path, done: Retrained) -> dict[str, Any]:
    return {
        "index": str(index),
        "release": done.release and done.release.name,
        "former": done.former and str(done.former),
        "refused": done.refused and str(done.refused),
        "forced": done.release is not None and not done.decision.passed,
        **done.decision.to_json(),
        "encoder": facts_of(done.encoder),
    }


def _sentence(index: Path, done: Retrained, release: str) -> str:
    return (
        f"{release} is in force, with this encoder{'' if done.decision.passed else ', against the gate'}\n"
        f"the former is kept, and comes back with: tilth encoder retrain {index} --queries QUERIES "
        f"--qrels QRELS --encoder {done.former} --force --why TEXT"
    )
