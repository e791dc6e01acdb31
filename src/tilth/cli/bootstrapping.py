"""`tilth judge bootstrap`: labels without people, from the agreement of an index's rankers."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from tilth.cli.indexing import Json, StoreUrl
from tilth.cli.terminal import OUT, print_json, progress_bars
from tilth.errors import SettingError
from tilth.judgment_log import JudgmentLog
from tilth.judgments import SCALES, Judgment, write_judgments
from tilth.labelling.bootstrap import Label, label
from tilth.labelling.pooling import Pool, pool
from tilth.one_search import DEPTH
from tilth.pipeline import Pipeline, open_index
from tilth.query import Query, read_queries
from tilth.run import Run

JUDGE = "bootstrap"
POOL_DEPTH = 100  # hits of each ranker
BANDS = (0.9, 0.8, 0.7, 0.6, 0.5)  # least confidence of each row of the table


def bootstrap(
    index: Annotated[Path, typer.Argument(help="The index folder, whose store keeps the judgments.")],
    queries: Annotated[Path, typer.Option(help="TSV: query_id, query.")],
    depth: Annotated[
        int, typer.Option(min=1, max=DEPTH, help="Hits of each ranker that are graded.")
    ] = POOL_DEPTH,
    highest: Annotated[int, typer.Option(help="Top of the scale: 1, 3 or 5.")] = 3,
    into: Annotated[Path | None, typer.Option(help="Write a TSV file; the log stays as it is.")] = None,
    store: StoreUrl = None,
    as_json: Json = False,
) -> None:
    """Grade what TF-IDF, BM25 and the encoder find, each grade with a confidence, from their agreement."""
    if highest not in SCALES:
        raise SettingError(f"--highest is {highest}; scales are 0-1, 0-3 and 0-5")
    asked, pipeline = read_queries(queries), open_index(index, store=store)
    found, labels = pooled_labels(pipeline, asked, depth, highest)
    judgments = _judgments(labels, found, asked, highest)
    if into is not None:
        written = write_judgments(judgments, into)
    else:
        written = JudgmentLog(pipeline.live.store).append(judgments)
    pipeline.close()
    report = _report(labels, len(asked), highest)
    if as_json:
        print_json({"into": None if into is None else str(into), "written": written, **report})
        return
    _print(report, f"{written:,} judgments written to {into or 'the log'}")


def pooled_labels(
    pipeline: Pipeline, queries: list[Query], depth: int = POOL_DEPTH, highest: int = 3
) -> tuple[Pool, list[Label]]:
    """Pool what TF-IDF, BM25 and the encoder find, and grade it.

    Args:
        pipeline: the index.
        queries: texts with ids.
        depth: hits of each ranker that are pooled, from 1.
        highest: the top of the scale, from 1.

    Returns:
        The pool, and a label for each pair of it.
    """
    found = pool(_runs(pipeline, queries), depth)
    return found, label(found, highest, _identified(pipeline, queries))


def _runs(pipeline: Pipeline, queries: list[Query]) -> dict[str, Run]:
    """Return the run of TF-IDF and those that a search fuses: none of an encoder that knows no word."""
    with progress_bars() as bars:
        bars("searching", 0, 2)
        runs = pipeline.found(queries)
        bars("searching", 1, 2)
        runs = {"tfidf": pipeline.tfidf().search(queries, DEPTH), **runs}
        bars("searching", 2, 2)
    return runs


def _identified(pipeline: Pipeline, queries: list[Query]) -> dict[str, set[str]]:
    """Return the products whose identifier is the query, by query_id."""
    view = pipeline.live.view
    return {query.query_id: set(view.ids(view.lexical.identified_rows(query.text))) for query in queries}


def _judgments(labels: list[Label], found: Pool, queries: list[Query], highest: int) -> Iterator[Judgment]:
    texts, now = {query.query_id: query.text for query in queries}, datetime.now(UTC)
    for place, each in enumerate(labels):
        ranks = ", ".join(f"{ranker} {rank}" for ranker, rank in found.found(place).items())
        yield Judgment(
            query_id=each.query_id,
            query=texts[each.query_id],
            product_id=each.product_id,
            grade=each.grade,
            highest=highest,
            judge=JUDGE,
            kind="bootstrap",
            time=now,
            reason=f"ranks: {ranks}",
            confidence=each.confidence,
        )


def _report(labels: Sequence[Label], queries: int, highest: int) -> dict[str, Any]:
    """Count labels by grade, and by grade in each band of confidence."""
    counts = Counter((each.grade, _band(each.confidence)) for each in labels)
    grades = range(highest + 1)
    return {
        "queries": queries,
        "labels": len(labels),
        "grades": {str(grade): sum(counts[grade, band] for band in BANDS) for grade in grades},
        "confidence": {
            str(band): {str(grade): counts[grade, band] for grade in grades} for band in BANDS
        },
    }  # fmt: skip


def _band(confidence: float) -> float:
    return next((band for band in BANDS if confidence >= band), BANDS[-1])


def _print(report: Mapping[str, Any], written: str) -> None:
    OUT.print(f"{report['queries']:,} queries, {report['labels']:,} labels; {written}", soft_wrap=True)
    table = Table(box=None, pad_edge=False)
    for column in ("confidence from", *(f"grade {grade}" for grade in report["grades"])):
        table.add_column(column, justify="right")
    for band, counts in report["confidence"].items():
        table.add_row(band, *(f"{count:,}" for count in counts.values()))
    table.add_row("all", *(f"{count:,}" for count in report["grades"].values()))
    OUT.print(table)
