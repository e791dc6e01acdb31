"""`tilth judge next`: which pairs to judge, so that few judgments tell which of two systems is better."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from tilth.cli.bootstrapping import pooled_labels
from tilth.cli.indexing import Json, StoreUrl
from tilth.cli.terminal import OUT, print_json, progress_bars
from tilth.errors import InputError, SettingError
from tilth.evaluation.measures import measure, parse_measure, relevant_queries
from tilth.files import check_ids, replacing
from tilth.judgment_log import JudgmentLog
from tilth.judgments import KINDS
from tilth.labelling.bootstrap import relevances
from tilth.labelling.choosing import CUTOFF, STRATEGIES, expected_qrels, next_pairs
from tilth.labelling.pooling import Pool, pool
from tilth.pipeline import Pipeline, open_index
from tilth.query import Query, read_queries
from tilth.run import Run, read_run
from tilth.serve.systems import BETWEEN, Chosen, Known, described, first_hits, known_of, two_systems

COLUMNS = ("query_id", "product_id", "query", "title", "why", "grade")  # `grade` is left to the judge
MEASURE = parse_measure(f"nDCG@{CUTOFF}")

Heard = Annotated[str, typer.Option(help="Kinds of judges whose pairs are not asked again.")]

_SEPARATORS = dict.fromkeys(map(ord, "\t\r\n"), " ")


def choose(
    index: Annotated[Path, typer.Argument(help="The index folder, whose store keeps the judgments.")],
    queries: Annotated[Path, typer.Option(help="TSV: query_id, query.")],
    between: Annotated[
        str | None,
        typer.Option(
            help="Two of tfidf, lexical, dense, own, hybrid and releases; lexical,hybrid if not given."
        ),
    ] = None,
    run: Annotated[
        list[Path] | None, typer.Option(help="Instead: a run, TREC or TSV; twice, for two.")
    ] = None,
    strategy: Annotated[
        str,
        typer.Option(help="difference (what tells the two apart), depth (the first hits first), random."),
    ] = "difference",
    n: Annotated[int, typer.Option("-n", min=1, help="How many pairs, at most.")] = 20,
    kinds: Heard = "person,model",
    into: Annotated[
        Path | None, typer.Option(help="Write a TSV file, for people and for judge llm --pairs.")
    ] = None,
    store: StoreUrl = None,
    seed: Annotated[int, typer.Option(help="Of the order of pairs that are alike.")] = 0,
    as_json: Json = False,
) -> None:
    """Say which pairs to judge next, so that few judgments tell which of two systems is better."""
    heard = _checked(strategy, kinds, into)
    asked, pipeline = read_queries(queries), open_index(index, store=store)
    a, b = _given(between, run, asked) or _searched(pipeline, between, asked)
    shown = pool({a.name: a, b.name: b}, CUTOFF)
    _check_shown(shown)
    known = _known(pipeline, asked, heard)
    pairs = next_pairs(a, b, known.grades, known.likely, n, strategy, seed)
    chosen = described(pairs, shown, known, asked, pipeline.live.store)
    report = {
        "between": list(shown.rankers),
        "strategy": strategy,
        "depth": CUTOFF,
        "shown": len(shown),
        "judged": sum(pair in known.grades for pair in shown.pairs),
        "expected": _expected([a, b], shown, known),
        "into": None if into is None else str(into),
        "pairs": [asdict(each) for each in chosen],
    }
    pipeline.close()
    if into is not None:
        _write(chosen, into)
    if as_json:
        print_json(report)
    else:
        _print(report)


def _checked(strategy: str, kinds: str, into: Path | None) -> list[str]:
    """Return the kinds of judges, after refusing what could not be done in the end."""
    if strategy not in STRATEGIES:
        raise SettingError(f"no strategy {strategy!r}; there are {', '.join(STRATEGIES)}")
    heard = [kind.strip() for kind in kinds.split(",")]
    if unknown := [kind for kind in heard if kind not in KINDS]:
        raise SettingError(f"no kind of judge {unknown[0]!r}; there are {', '.join(KINDS)}")
    if into is not None and into.suffix != ".tsv":
        raise InputError("pairs are written as TSV", path=into, remedy="Let the name end in .tsv")
    return heard


# --- the two runs ---------------------------------------------------------------------------------


def _given(between: str | None, paths: Sequence[Path] | None, asked: Sequence[Query]) -> list[Run] | None:
    """Return the runs of two files, for the queries that are asked; None: no files are named."""
    if not paths:
        return None
    if between is not None:
        raise SettingError("name either two systems (--between) or two runs (--run), and not both")
    if len(set(paths)) != 2:
        raise SettingError(f"two runs are compared, not {len(set(paths))}: give --run twice")
    names = [path.name for path in paths]
    if names[0] == names[1]:
        names = [str(path) for path in paths]
    ids = {query.query_id for query in asked}
    return [_only(read_run(path), name, ids, path) for path, name in zip(paths, names, strict=True)]


def _only(run: Run, name: str, ids: set[str], path: Path) -> Run:
    hits = {query_id: run[query_id] for query_id in run if query_id in ids}
    if not hits:
        raise InputError(
            "has none of the queries", path=path, remedy="Name the file of its queries with --queries"
        )
    return Run(name, hits)


def _searched(pipeline: Pipeline, between: str | None, asked: Sequence[Query]) -> list[Run]:
    """Return the first hits of two systems of the index."""
    names = two_systems(pipeline, between or BETWEEN, "--between")
    runs = []
    with progress_bars() as bars:
        for done, name in enumerate(names):
            bars("searching", done, len(names))
            runs.append(first_hits(pipeline, name, asked))
        bars("searching", len(names), len(names))
    return runs


def _check_shown(shown: Pool) -> None:
    if not len(shown):
        raise InputError(
            f"{' and '.join(shown.rankers)} find nothing for these queries: there is nothing to judge",
            remedy="Check that the queries are of this shop",
        )


# --- what is known --------------------------------------------------------------------------------


def _known(pipeline: Pipeline, asked: list[Query], kinds: list[str]) -> Known:
    """Return the grades of the log, and how likely pairs are relevant.

    The probabilities are those of the log's bootstrap. Without any, they are worked out here, which takes the
    time of `tilth judge bootstrap`.
    """
    known = known_of(JudgmentLog(pipeline.live.store), asked, kinds)
    return known if known.likely else replace(known, likely=relevances(pooled_labels(pipeline, asked)[1]))


# --- the pairs ------------------------------------------------------------------------------------


def _expected(runs: Sequence[Run], shown: Pool, known: Known) -> dict[str, float] | None:
    """Return nDCG of both runs as it may be expected by now; None where nothing seems relevant."""
    grades = expected_qrels(shown.pairs, known.grades, known.highest, known.likely)
    if not relevant_queries(grades):
        return None
    return {run.name: measure(run, grades, [MEASURE]).mean()[str(MEASURE)] for run in runs}


def _write(chosen: Sequence[Chosen], into: Path) -> None:
    with replacing(into) as file:
        file.write(("\t".join(COLUMNS) + "\n").encode())
        for each in chosen:
            check_ids(into, each.query_id, each.product_id)
            texts = (text.translate(_SEPARATORS) for text in (each.query, each.title, each.why))
            file.write(("\t".join((each.query_id, each.product_id, *texts, "")) + "\n").encode())


def _print(report: Mapping[str, Any]) -> None:
    a, b = report["between"]
    OUT.print(
        f"{a} and {b} down to rank {report['depth']}: {report['shown']:,} pairs, "
        f"{report['judged']:,} of them judged",
        soft_wrap=True, markup=False,
    )  # fmt: skip
    if (expected := report["expected"]) is not None:
        OUT.print(
            f"{MEASURE} to be expected: {expected[a]:.3f} and {expected[b]:.3f}, "
            f"difference {expected[b] - expected[a]:+.3f}",
            soft_wrap=True,
        )
    if not report["pairs"]:
        OUT.print("nothing is left to be judged")
        return
    OUT.print(_table(report["pairs"], [a, b]))
    OUT.print(_left(sum(pair["share"] for pair in report["pairs"])), soft_wrap=True)
    if report["into"] is not None:
        OUT.print(f"{report['into']}: fill in the grades, then tilth judge import", soft_wrap=True)


def _left(share: float) -> str:
    if share == 0:
        return "none of these pairs tells the two apart"
    return f"judging these pairs leaves {1 - share:.1%} of the variance of the difference"


def _table(pairs: Sequence[Mapping[str, Any]], runs: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("query", "product", "title"):
        table.add_column(column)
    for column in (*map(escape, runs), "relevant", "variance"):
        table.add_column(column, justify="right")
    for pair in pairs:
        ranks = ("-" if rank is None else str(rank) for rank in pair["ranks"].values())
        texts = (escape(pair[name]) for name in ("query", "product_id", "title"))
        table.add_row(*texts, *ranks, f"{pair['relevance']:.2f}", f"{pair['share']:.1%}")
    return table
