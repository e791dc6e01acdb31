"""`tilth judge`: judgments into the log of a store, out of it as labels, and how far judges agree."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from tilth.cli.indexing import Json, StoreUrl
from tilth.cli.terminal import OUT, print_json, progress_bars
from tilth.errors import SettingError
from tilth.judgment_log import JudgmentLog
from tilth.judgments import (
    FORMATS,
    KINDS,
    Judgment,
    Mappings,
    Source,
    form_of,
    parse_mapping,
    read_judgments,
    write_judgments,
    write_quepid,
)
from tilth.labelling.aggregation import AGGREGATES, corrected, ratings
from tilth.labelling.agreement import agreement
from tilth.qrels import Qrels, write_qrels
from tilth.query import read_queries
from tilth.retrieval.index import open_store

app = typer.Typer(help="Keep judgments, and make labels of them.", no_args_is_help=True)

Index = Annotated[Path, typer.Argument(help="The index folder, whose store keeps the judgments.")]
Form = Annotated[str | None, typer.Option("--format", help="tsv, trec or quepid; by the name if not given.")]
Highest = Annotated[int | None, typer.Option(help="Top of the scale: 1, 3 or 5.")]
QueriesFile = Annotated[Path | None, typer.Option("--queries", help="TSV: query_id, query.")]
Kinds = Annotated[str, typer.Option(help="Kinds of judges to hear, separated by commas.")]

_ALL_KINDS = ",".join(KINDS)
_KAPPAS = ("kappa", "linear kappa", "squared kappa")
_ALPHAS = ("nominal alpha", "ordinal alpha", "interval alpha")
_ENDINGS = {"tsv": ".tsv", "trec": ".trec", "quepid": ".csv"}  # of the names of files, by format
_PROGRESS = 1_000  # judgments between two movements of the bar


@app.command("import")
def import_judgments(
    index: Index,
    files: Annotated[list[Path], typer.Argument(help="TSV, TREC qrels, or Quepid's CSV; each also gzipped.")],
    form: Form = None,
    judge: Annotated[str, typer.Option(help="Who judged, where the file does not say it.")] = "",
    kind: Annotated[str, typer.Option(help=f"Likewise: {', '.join(KINDS)}.")] = "person",
    highest: Highest = None,
    queries: QueriesFile = None,
    store: StoreUrl = None,
    as_json: Json = False,
) -> None:
    """Add judgments to the log: all of the files or none, and each judgment once."""
    texts = _texts(queries)
    sources = {
        file: Source(time=_time_of(file), judge=judge, kind=kind, highest=highest, queries=texts)
        for file in files
    }
    given = (each for file, source in sources.items() for each in read_judgments(file, source, form=form))
    with open_store(index, store, create=False) as opened, progress_bars() as bars:
        log, read = JudgmentLog(opened), 0

        def told() -> Iterator[Judgment]:
            nonlocal read
            for judgment in given:
                read += 1
                if read % _PROGRESS == 0:
                    bars("reading", read)
                yield judgment

        added, count = log.append(told()), log.count()
    if as_json:
        print_json({"read": read, "added": added, "known": read - added, "judgments": count})
        return
    OUT.print(
        f"{added:,} judgments added, {read - added:,} were known; the log holds {count:,}", soft_wrap=True
    )


def _texts(queries: Path | None) -> dict[str, str]:
    return {query.query_id: query.text for query in read_queries(queries)} if queries else {}


def _time_of(file: Path) -> datetime:
    """Return when a file was last changed, so that importing it again adds nothing; of a pipe, now."""
    return datetime.fromtimestamp(file.stat().st_mtime, UTC) if file.is_file() else datetime.now(UTC)


@app.command("export")
def export_judgments(
    index: Index,
    into: Annotated[Path, typer.Option(help="The file to write.")],
    form: Form = None,
    aggregate: Annotated[
        str | None,
        typer.Option(
            help=f"Write one grade a pair: {', '.join(AGGREGATES)}. Otherwise the log itself, as TSV."
        ),
    ] = None,
    highest: Highest = None,
    mapping: Annotated[
        list[str] | None,
        typer.Option("--map", help="What grades of another scale become: '0:0,1:0,2:1,3:1'. Repeatable."),
    ] = None,
    kinds: Kinds = _ALL_KINDS,
    least_confidence: Annotated[float, typer.Option(min=0, max=1, help="Leave out less sure ones.")] = 0,
    queries: QueriesFile = None,
    store: StoreUrl = None,
    as_json: Json = False,
) -> None:
    """Write the log, or the grades that its judgments come to."""
    form = _form(form, into, aggregate)
    declared = _mappings(mapping or [], highest)
    with open_store(index, store, create=False) as opened:
        judgments = (judgment for _, judgment in JudgmentLog(opened).judgments())
        if aggregate is None:
            written = write_judgments(judgments, into)
        else:
            texts: dict[str, str] = {}
            given = ratings(
                corrected(_noting_texts(judgments, texts), _kinds(kinds)),
                highest=highest,
                declared=declared,
                kinds=_kinds(kinds),
                least_confidence=least_confidence,
            )
            written = _write(AGGREGATES[aggregate](given), into, form, {**texts, **_texts(queries)})
    if as_json:
        print_json({"file": str(into), "format": form, "aggregate": aggregate, "written": written})
    else:
        OUT.print(f"{into}: {written:,} {'judgments' if aggregate is None else 'grades'}", soft_wrap=True)


def _form(form: str | None, into: Path, aggregate: str | None) -> str:
    """Return the format to write, which fits the name and what is written."""
    chosen = form or form_of(into)
    if chosen not in FORMATS:
        raise SettingError(f"no format {chosen!r}; there are {', '.join(FORMATS)}")
    if aggregate is not None and aggregate not in AGGREGATES:
        raise SettingError(f"no aggregate {aggregate!r}; there are {', '.join(AGGREGATES)}")
    if aggregate is None and chosen != "tsv":
        raise SettingError(f"the log is written as TSV only; for {chosen} choose an --aggregate")
    if (chosen == "tsv") != (into.suffix == ".tsv"):
        right = into.with_suffix(_ENDINGS[chosen])
        raise SettingError(
            f"{into}: TSV, and nothing else, is written to a name that ends in .tsv. Name it {right}"
        )
    return chosen


def _mappings(texts: Iterable[str], highest: int | None) -> Mappings:
    """Return the declared mappings by the top of the scale that each of them is for."""
    if texts and highest is None:
        raise SettingError("--map leads to a scale: name its top with --highest")
    parsed = [parse_mapping(text, highest or 0) for text in texts]
    return {len(grades) - 1: grades for grades in parsed}


def _kinds(names: str) -> list[str]:
    return [name.strip() for name in names.split(",")]


def _noting_texts(judgments: Iterable[Judgment], texts: dict[str, str]) -> Iterator[Judgment]:
    for judgment in judgments:
        if judgment.query:
            texts[judgment.query_id] = judgment.query
        yield judgment


def _write(qrels: Qrels, into: Path, form: str, texts: Mapping[str, str]) -> int:
    if form != "quepid":
        write_qrels(qrels, into)
        return sum(len(qrels[query_id]) for query_id in qrels)
    rows = (
        (texts.get(query_id, ""), product_id, grade)
        for query_id in qrels
        for product_id, grade in qrels[query_id].items()
    )
    return write_quepid(rows, into)


@app.command("agreement")
def show_agreement(
    index: Annotated[Path | None, typer.Argument(help="The index folder, for the log of its store.")] = None,
    file: Annotated[Path | None, typer.Option(help="A file of judgments instead of the log.")] = None,
    form: Form = None,
    highest: Highest = None,
    kinds: Kinds = _ALL_KINDS,
    store: StoreUrl = None,
    as_json: Json = False,
) -> None:
    """Measure how far judges agree: Cohen's kappa, Krippendorff's alpha, observed agreement."""
    if (index is None) == (file is None):
        raise SettingError("name an index folder, or a file of judgments (--file), and not both")
    if file is not None:
        source = Source(time=_time_of(file), highest=highest)
        found = ratings(read_judgments(file, source, form=form), highest=highest, kinds=_kinds(kinds))
    else:
        assert index is not None
        with open_store(index, store, create=False) as opened:
            judgments = (judgment for _, judgment in JudgmentLog(opened).judgments())
            found = ratings(judgments, highest=highest, kinds=_kinds(kinds))
    report = agreement(found).to_json()
    if as_json:
        print_json(report)
    else:
        _print_agreement(report)


def _print_agreement(report: Mapping[str, Any]) -> None:
    judged = ", ".join(f"{judge} {count:,}" for judge, count in report["judges"].items())
    OUT.print(f"scale 0-{report['highest']}; judgments: {judged}", soft_wrap=True)
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for column in ("shared", "equal", *_KAPPAS, *_ALPHAS):
        table.add_column(column.replace(" ", "\n"), justify="right")
    for pair in report["pairs"]:
        table.add_row(f"{pair['first']}, {pair['second']}", *_cells(pair, pair["kappa"].values()))
    table.add_row("all", *_cells(report, [None] * len(_KAPPAS)))
    OUT.print(table)


def _cells(row: Mapping[str, Any], kappas: Iterable[float | None]) -> Iterator[str]:
    yield f"{row['shared']:,}"
    for value in (row["observed"], *kappas, *row["alpha"].values()):
        yield "" if value is None else f"{value:.3f}"
