"""`tilth evaluate`, `tune`, `split` and `compare`: from an index or runs, with qrels, to numbers."""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from tilth.cli.indexing import StoreUrl
from tilth.cli.terminal import OUT, print_json, progress_bars
from tilth.errors import SettingError
from tilth.evaluation.experiment import compare as compare_runs
from tilth.evaluation.experiment import evaluate as evaluate_runs
from tilth.evaluation.measures import DEFAULT, judged_only, parse_measures
from tilth.evaluation.report import comparison_report, evaluation_report
from tilth.evaluation.selection import score_candidates
from tilth.evaluation.splits import RERANKING, RETRIEVAL, folds, queries_of, read_split, write_split
from tilth.evaluation.splits import split as split_queries
from tilth.one_search import DEPTH
from tilth.pipeline import Pipeline, open_index
from tilth.protocols import Retriever
from tilth.qrels import Qrels, read_qrels
from tilth.query import Query, read_queries
from tilth.ranking import Ranking
from tilth.releases import HYBRID, current_name
from tilth.retrieval.candidates import Candidates
from tilth.retrieval.fusion import Fusion, fitted, grid
from tilth.retrieval.index import read_fusion, write_fusion
from tilth.run import Run, read_run, write_run

_STEPS = {2: 20, 3: 10}  # of the weights that are tried, by the number of lists: 98 and 319 fusions

Index = Annotated[Path, typer.Argument(help="The index folder.")]
Queries = Annotated[Path, typer.Option(help="TSV: query_id, query and optionally kind.")]
QrelsFile = Annotated[Path, typer.Option("--qrels", help="TSV: query_id, product_id, grade; or TREC.")]
Measures = Annotated[str | None, typer.Option(help="Measures, separated by commas: 'nDCG@10,R@100'.")]
Relevant = Annotated[int, typer.Option(min=1, help="Least grade that counts as relevant in R, RR and P.")]
Seed = Annotated[int, typer.Option(help="Of everything random.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def evaluate(
    index: Index,
    queries: Queries,
    qrels: QrelsFile,
    systems: Annotated[
        str | None, typer.Option(help="Which, separated by commas; all, the release in force included.")
    ] = None,
    measures: Measures = None,
    relevant: Relevant = 1,
    k: Annotated[int, typer.Option("-k", min=1, help="Hits a query.")] = 100,
    baseline: Annotated[str, typer.Option(help="What the others are compared with.")] = "lexical",
    save_runs: Annotated[Path | None, typer.Option(help="Folder for the runs, in TREC format.")] = None,
    per_query: Annotated[bool, typer.Option(help="Add every query's values to the JSON.")] = False,
    store: StoreUrl = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Measure every retriever of an index against qrels."""
    texts, grades = read_queries(queries), read_qrels(qrels)
    pipeline = open_index(index, store=store)
    known = ["tfidf", *pipeline.lists, HYBRID, *filter(None, [pipeline.ranking.release])]
    wanted = known if systems is None else [name.strip() for name in systems.split(",")]
    if unknown := [name for name in wanted if name not in known]:
        raise SettingError(f"no system {unknown[0]!r}; there are {', '.join(known)}")
    with progress_bars() as bars:
        runs = {}
        for done, name in enumerate(wanted):
            bars("searching", done, len(wanted))
            runs[name] = _retriever(pipeline, name).search(texts, k)
        bars("searching", len(wanted), len(wanted))
    for name, run in runs.items() if save_runs else ():
        write_run(run, Path(str(save_runs)) / f"{name}.trec")
    evaluation = evaluate_runs(
        runs,
        grades,
        queries=texts,
        measures=_measures(measures, relevant),
        baseline=baseline if baseline in runs else None,
        seed=seed,
    )
    report = evaluation_report(evaluation, per_query=per_query)
    if as_json:
        print_json(report)
    else:
        print_evaluation(report)


def _retriever(pipeline: Pipeline, name: str) -> Retriever:
    if name == pipeline.ranking.release:
        return pipeline
    if name == HYBRID:
        return pipeline.plain()
    return pipeline.tfidf() if name == "tfidf" else pipeline.retrievers()[name]


def _measures(names: str | None, relevant: int) -> tuple[Any, ...]:
    if names is not None:
        return parse_measures(names.split(","), relevant)
    chosen = parse_measures([str(measure) for measure in DEFAULT], relevant)
    return (*chosen, *judged_only(chosen[:1]))


def print_evaluation(report: Mapping[str, Any]) -> None:
    """Print an `evaluation_report` as tables."""
    OUT.print(
        f"{report['queries']} queries measured; {report['queries_without_relevant']} of them without a "
        f"relevant product; {report['queries_unjudged']} have no judgment",
        soft_wrap=True,
    )
    _print_tables("", report["measures"], report["systems"])
    OUT.print(_differences_table(report["differences"], report["measures"][0]))
    for by, slices in report["slices"].items():
        rows = {
            f"{label} ({content['queries']})": {
                system: means[report["measures"][0]] for system, means in content["systems"].items()
            }
            for label, content in slices.items()
        }
        _print_tables(f"{report['measures'][0]} by {by}", list(report["systems"]), rows)


def _print_tables(title: str, columns: list[str], rows: Mapping[str, Mapping[str, float]]) -> None:
    """Print one table, or several where the columns do not fit beside each other."""
    width = OUT.width - max(map(len, rows))
    fitting: list[str] = []
    for column in columns:
        if fitting and sum(map(_width, [*fitting, column])) > width:
            OUT.print(_table(title, fitting, rows))
            fitting = []
        fitting.append(column)
    OUT.print(_table(title, fitting, rows))


def _width(column: str) -> int:
    """Return how wide a column of `_table` is, with the space before it."""
    return max(map(len, [*column.replace("(", "\n(").splitlines(), "0.000"])) + 2


def _table(title: str, columns: list[str], rows: Mapping[str, Mapping[str, float]]) -> Table:
    table = Table(box=None, pad_edge=False, title=title or None, title_justify="left", title_style="bold")
    table.add_column("")
    for column in columns:
        table.add_column(column.replace("(", "\n("), justify="right")
    for name, values in rows.items():
        table.add_row(name, *(f"{values[column]:.3f}" for column in columns))
    return table


def _differences_table(differences: list[dict[str, Any]], measure: str) -> Table:
    rows = [d for d in differences if d["measure"] == measure]
    title = f"{measure} minus {rows[0]['baseline']}'s" if rows else None
    table = Table(box=None, pad_edge=False, title=title, title_justify="left", title_style="bold")
    for column in ("", "difference", "95% interval", "p", "won", "lost"):
        table.add_column(column, justify="right" if column else "left")
    for d in rows:
        interval = f"{d['low']:+.3f} to {d['high']:+.3f}"
        table.add_row(
            d["system"], f"{d['difference']:+.3f}", interval, f"{d['p']:.4f}", str(d["won"]), str(d["lost"])
        )
    return table


def tune(
    index: Index,
    queries: Queries,
    qrels: QrelsFile,
    split_file: Annotated[
        Path | None, typer.Option("--split", help="A split with the parts train, validation and test.")
    ] = None,
    measure: Annotated[str, typer.Option(help="What to choose by.")] = "nDCG@10",
    apply: Annotated[
        bool, typer.Option(help="Search this index with the chosen fusion from now on.")
    ] = False,
    store: StoreUrl = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Choose method and weights of the fusion on training and validation queries, report on the test ones."""
    texts, grades = read_queries(queries), read_qrels(qrels)
    parts = read_split(split_file) if split_file else split_queries(texts, RETRIEVAL, seed=seed)
    chosen_on = queries_of(parts, [part for part in dict.fromkeys(parts.values()) if part != "test"])
    tested = queries_of(parts, ["test"])
    pipeline = open_index(index, store=store)
    candidates, lists = pipeline.candidates(_only(texts, chosen_on)), len(pipeline.lists)
    before = fitted(read_fusion(index, pipeline.index.default_fusion), lists)
    by_name = {str(fusion): fusion for fusion in (before, *grid(lists, _STEPS[lists]))}
    (by,) = parse_measures([measure])
    name = score_candidates(_fused(candidates, by_name), grades.only(chosen_on), by).select(chosen_on)
    test = _test_report(pipeline, by_name[name], _only(texts, tested), grades, seed)
    if apply:
        write_fusion(index, by_name[name])
    if as_json:
        print_json(
            {"fusion": by_name[name].to_dict(), "applied": apply, "queries": len(chosen_on), "test": test}
        )
        return
    OUT.print(f"chosen on {len(chosen_on)} training and validation queries: {name}")
    OUT.print(_outcome(apply, current_name(index)), soft_wrap=True)
    print_evaluation({**test, "slices": {}})


def _outcome(applied: bool, release: str | None) -> str:
    if not applied:
        return "not applied; --apply searches with it from now on"
    if release is None:
        return "applied"
    return (
        f"applied to the plain hybrid; release {release} is in force and has a fusion of its own. A release "
        "with this one: tilth train"
    )


def _only(queries: list[Query], query_ids: Collection[str]) -> list[Query]:
    wanted = set(query_ids)
    return [query for query in queries if query.query_id in wanted]


def _fused(found: Mapping[str, Candidates], fusions: Mapping[str, Fusion]) -> Iterator[tuple[str, Run]]:
    for name, fusion in fusions.items():
        yield name, Run(name, {query_id: each.fused_hits(fusion) for query_id, each in found.items()})


def _test_report(
    pipeline: Pipeline, tuned: Fusion, queries: list[Query], qrels: Qrels, seed: int
) -> dict[str, Any]:
    """Measure the retrievers, the fusion in force and the chosen one on the test queries."""
    systems: dict[str, Retriever] = {
        **pipeline.retrievers(),
        HYBRID: pipeline.plain(),
        "tuned": Pipeline(pipeline.live, Ranking(tuned)),
    }
    runs = {name: system.search(queries, DEPTH) for name, system in systems.items()}
    return evaluation_report(evaluate_runs(runs, qrels, queries=queries, baseline=HYBRID, seed=seed))


def split(
    queries: Queries,
    into: Annotated[Path, typer.Option(help="The TSV file to write: query_id, part.")],
    reranking: Annotated[
        bool, typer.Option("--reranking", help="70/30 (train, test) instead of 70/15/15.")
    ] = False,
    k: Annotated[
        int | None, typer.Option("--folds", help="So many parts of one size instead, named 1, 2 and so on.")
    ] = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Split queries at random: 70% train, 15% validation, 15% test; or into folds."""
    if reranking and k is not None:
        raise SettingError("--reranking and --folds exclude each other: a split is one or the other")
    texts = read_queries(queries)
    if k is None:
        parts = split_queries(texts, RERANKING if reranking else RETRIEVAL, seed=seed)
    else:
        dealt = enumerate(folds(texts, k, seed=seed), start=1)
        parts = {query_id: str(number) for number, fold in dealt for query_id in fold}
    write_split(parts, into)
    counts = {part: len(queries_of(parts, [part])) for part in dict.fromkeys(parts.values())}
    if as_json:
        print_json({"split": str(into), "seed": seed, "queries": counts})
        return
    OUT.print(f"{into}: " + ", ".join(f"{count} {part}" for part, count in counts.items()))


def compare(
    baseline: Annotated[Path, typer.Argument(help="A run: TREC, or TSV.")],
    system: Annotated[Path, typer.Argument(help="Another run.")],
    qrels: QrelsFile,
    queries: Annotated[Path | None, typer.Option(help="TSV with the texts of the queries.")] = None,
    measures: Measures = None,
    relevant: Relevant = 1,
    most: Annotated[int, typer.Option(min=0, help="Queries to list on each side.")] = 10,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Compare two runs: the differences, and the queries that won and lost most."""
    comparison = compare_runs(
        read_run(baseline),
        read_run(system),
        read_qrels(qrels),
        queries=read_queries(queries) if queries else None,
        measures=_measures(measures, relevant),
        seed=seed,
    )
    report = comparison_report(comparison, most=most)
    if as_json:
        print_json(report)
    else:
        _print_comparison(report)


def _print_comparison(report: Mapping[str, Any]) -> None:
    rows = {"baseline": report["baseline"], "system": report["system"]}
    OUT.print(f"{report['queries']} queries measured")
    OUT.print(_table("", report["measures"], rows))
    for measure in report["measures"]:
        OUT.print(_differences_table(report["differences"], measure))
    for side in ("won", "lost"):
        table = Table(
            box=None, pad_edge=False, title=f"{side} most in {report['ordered_by']}", title_justify="left"
        )
        for column in ("query_id", "query", "baseline", "system", "difference"):
            table.add_column(column, justify="left" if column.startswith("query") else "right")
        for change in report[side]:
            numbers = (change["baseline"], change["system"], change["difference"])
            table.add_row(change["query_id"], change["text"], *(f"{number:+.3f}" for number in numbers))
        OUT.print(table)
