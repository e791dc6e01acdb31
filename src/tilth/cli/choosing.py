"""`tilth judge next`: which pairs to judge, so that few judgments tell which of two systems is better."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
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
from tilth.judgments import KINDS, SCALES, Judgment
from tilth.labelling.aggregation import last_opinions, majority, ratings
from tilth.labelling.bootstrap import Label, relevances
from tilth.labelling.choosing import CUTOFF, STRATEGIES, UNKNOWN, expected_qrels, next_pairs, variances
from tilth.labelling.pooling import Pair, Pool, pool
from tilth.pipeline import Pipeline, open_index
from tilth.protocols import Retriever
from tilth.query import Query, read_queries
from tilth.ranking import plain_ranking, ranking_of
from tilth.releases import HYBRID, open_release, releases
from tilth.run import Run, read_run
from tilth.store import Store

SYSTEMS = ("tfidf", "lexical", "dense", "hybrid")  # and every release, by its name
COLUMNS = ("query_id", "product_id", "query", "title", "why", "grade")  # `grade` is left to the judge
MEASURE = parse_measure(f"nDCG@{CUTOFF}")

Heard = Annotated[str, typer.Option(help="Kinds of judges whose pairs are not asked again.")]

_SEPARATORS = dict.fromkeys(map(ord, "\t\r\n"), " ")


def choose(
    index: Annotated[Path, typer.Argument(help="The index folder, whose store keeps the judgments.")],
    queries: Annotated[Path, typer.Option(help="TSV: query_id, query.")],
    between: Annotated[
        str | None,
        typer.Option(help="Two of tfidf, lexical, dense, hybrid and releases; lexical,hybrid if not given."),
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
    chosen = _described(pairs, shown, known, asked, pipeline.live.store)
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
    names = [name.strip() for name in (between or "lexical,hybrid").split(",")]
    if len(names) != 2 or names[0] == names[1]:
        raise SettingError(f"--between names two systems, as in lexical,hybrid; not {','.join(names)}")
    known = [*SYSTEMS, *(release.name for release in releases(pipeline.live.path))]
    if unknown := [name for name in names if name not in known]:
        raise SettingError(f"no system {unknown[0]!r}; there are {', '.join(known)}")
    runs = []
    with progress_bars() as bars:
        for done, name in enumerate(names):
            bars("searching", done, len(names))
            runs.append(Run(name, _retriever(pipeline, name).search(asked, CUTOFF).hits))
        bars("searching", len(names), len(names))
    return runs


def _retriever(pipeline: Pipeline, name: str) -> Retriever:
    if name == "tfidf":
        return pipeline.tfidf()
    if name in SYSTEMS and name != "hybrid":
        return pipeline.retrievers()[name]
    path = pipeline.live.path
    return Pipeline(
        pipeline.live, plain_ranking(path) if name == HYBRID else ranking_of(open_release(path, name))
    )


def _check_shown(shown: Pool) -> None:
    if not len(shown):
        raise InputError(
            f"{' and '.join(shown.rankers)} find nothing for these queries: there is nothing to judge",
            remedy="Check that the queries are of this shop",
        )


# --- what is known --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Known:
    grades: Mapping[Pair, int]  # from 0 to `highest`
    highest: int
    likely: Mapping[Pair, float]  # the probability of being relevant


def _known(pipeline: Pipeline, asked: list[Query], kinds: list[str]) -> _Known:
    """Return the grades of the log, and how likely pairs are relevant.

    The probabilities are those of the log's bootstrap. Without any, they are worked out here, which takes the
    time of `tilth judge bootstrap`.
    """
    texts = {query.query_id: query.text for query in asked}
    opinions = last_opinions(
        judgment
        for _, judgment in JudgmentLog(pipeline.live.store).judgments()
        if judgment.query_id in texts and judgment.query in ("", texts[judgment.query_id])
    )
    labels = [_label(each) for each in opinions if each.kind == "bootstrap"]
    grades, highest = _majority([each for each in opinions if each.kind in kinds])
    return _Known(grades, highest, relevances(labels or pooled_labels(pipeline, asked)[1]))


def _label(judgment: Judgment) -> Label:
    sure = UNKNOWN if judgment.confidence is None else judgment.confidence
    return Label(judgment.query_id, judgment.product_id, judgment.grade, sure)


def _majority(opinions: Sequence[Judgment]) -> tuple[dict[Pair, int], int]:
    """Return the grade of each pair by majority, and the top of the scale: the finest of theirs."""
    if not opinions:
        return {}, SCALES[0]
    found = ratings(opinions, highest=max(each.highest for each in opinions))
    qrels = majority(found)
    grades = {(query_id, product_id): qrels[query_id][product_id] for query_id, product_id in found.pairs}
    return grades, found.highest


# --- the pairs ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Chosen:
    query_id: str
    query: str
    product_id: str
    title: str
    ranks: Mapping[str, int | None]  # in each run, from 1; None: below the depth, or not at all
    relevance: float  # probability
    share: float  # of the variance that is left, 0 to 1

    @property
    def why(self) -> str:
        ranks = (
            f"{name} rank {rank}" if rank else f"{name} below {CUTOFF}" for name, rank in self.ranks.items()
        )
        return f"{', '.join(ranks)}; {self.share:.1%} of the variance"


def _described(
    pairs: Sequence[Pair], shown: Pool, known: _Known, asked: Sequence[Query], store: Store
) -> list[_Chosen]:
    """Attach to the pairs what a person wants to know of them."""
    texts = {query.query_id: query.text for query in asked}
    products = store.products(list(dict.fromkeys(product_id for _, product_id in pairs)))
    places, shares = {pair: place for place, pair in enumerate(shown.pairs)}, _shares(shown, known)
    chosen = []
    for pair in pairs:
        query_id, product_id = pair
        title = products[product_id].title if product_id in products else ""
        found = shown.found(places[pair])
        ranks = {ranker: found.get(ranker) for ranker in shown.rankers}
        likely = known.likely.get(pair, UNKNOWN)
        chosen.append(_Chosen(query_id, texts[query_id], product_id, title, ranks, likely, shares[pair]))
    return chosen


def _shares(shown: Pool, known: _Known) -> dict[Pair, float]:
    """Return, of the variance that unjudged pairs leave in the difference, what each of them holds."""
    values = zip(shown.pairs, variances(shown, known.likely).tolist(), strict=True)
    left = {pair: value for pair, value in values if pair not in known.grades}
    total = sum(left.values())
    return {pair: value / total if total else 0.0 for pair, value in left.items()}


def _expected(runs: Sequence[Run], shown: Pool, known: _Known) -> dict[str, float] | None:
    """Return nDCG of both runs as it may be expected by now; None where nothing seems relevant."""
    grades = expected_qrels(shown.pairs, known.grades, known.highest, known.likely)
    if not relevant_queries(grades):
        return None
    return {run.name: measure(run, grades, [MEASURE]).mean()[str(MEASURE)] for run in runs}


def _write(chosen: Sequence[_Chosen], into: Path) -> None:
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
