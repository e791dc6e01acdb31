"""`tilth judge clicks`: from a log of impressions to judgments, with the bias of the ranks taken out."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from tilth.cli.indexing import Json, StoreUrl
from tilth.cli.terminal import OUT, Bars, print_json, progress_bars
from tilth.errors import InputError, SettingError
from tilth.feedback import Impression, read_impressions
from tilth.feedback_log import FeedbackLog
from tilth.judgment_log import JudgmentLog
from tilth.judgments import Judgment, write_judgments
from tilth.online.click_counts import ClickCounts, Values, count_clicks
from tilth.online.click_models import fit_position_model
from tilth.online.counterfactual import (
    ClickLabels,
    model_labels,
    naive_labels,
    to_judgments,
    weighted_labels,
)
from tilth.online.propensities import harvest_propensities
from tilth.retrieval.index import open_store

METHODS = ("pbm", "ipw", "naive")
_PROGRESS = 1_000  # impressions between two movements of the bar


def clicks(
    index: Annotated[Path, typer.Argument(help="The index folder, whose store keeps the judgments.")],
    log: Annotated[
        Path | None,
        typer.Option(help="Impressions: JSON lines, or TSV; otherwise the pages that the store logged."),
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            help="pbm (position-based model), ipw (inverse propensities), naive (click-through rate)."
        ),
    ] = METHODS[0],
    into: Annotated[
        Path | None, typer.Option(help="Write a TSV file; the log of judgments stays as it is.")
    ] = None,
    store: StoreUrl = None,
    as_json: Json = False,
) -> None:
    """Grade what was shown by what was clicked, each grade with a confidence."""
    if model not in METHODS:
        raise SettingError(f"no model {model!r}; there are {', '.join(METHODS)}")
    with _impressions(index, log, store) as (impressions, time), progress_bars() as bars:
        counts = count_clicks(_told(impressions, bars))
    labels, propensities = _labels(counts, model)
    judgments = to_judgments(labels, counts.texts, judge=f"clicks-{model}", time=time)
    report = {
        "model": model,
        **_ranks(counts, propensities),
        "pairs": len(counts.pairs),
        "into": None if into is None else str(into),
        "written": _write(judgments, index, into, store),
    }
    if as_json:
        print_json(report)
    else:
        _print(report)


@contextmanager
def _impressions(
    index: Path, log: Path | None, store: str | None
) -> Iterator[tuple[Iterable[Impression], datetime]]:
    """Yield a log and the time of what is in it, by which reading it again adds nothing."""
    if log is not None:
        yield read_impressions(log), _time_of(log)
        return
    with open_store(index, store, create=False) as opened:
        feedback = FeedbackLog(opened)
        time, pages = feedback.latest(), feedback.pages()
        first = next(pages, None)
        if first is None or time is None:
            raise InputError(
                "the store has logged no first page of a search",
                remedy="Let a service log what it serves, or name a file with --log",
            )
        yield chain([first], pages), time


def _told(impressions: Iterable[Impression], bars: Bars) -> Iterator[Impression]:
    for number, impression in enumerate(impressions, start=1):
        if number % _PROGRESS == 0:
            bars("reading", number)
        yield impression


def _labels(counts: ClickCounts, model: str) -> tuple[ClickLabels, Values | None]:
    """Return the labels, and the propensities that they were corrected by, if any."""
    if model == "naive":
        return naive_labels(counts), None
    if model == "ipw":
        propensities = harvest_propensities(counts)
        return weighted_labels(counts, propensities), propensities
    fitted = fit_position_model(counts)
    return model_labels(counts, fitted), fitted.examination


def _time_of(log: Path) -> datetime:
    """Return when a log was last changed; of a pipe, now."""
    return datetime.fromtimestamp(log.stat().st_mtime, UTC) if log.is_file() else datetime.now(UTC)


def _write(judgments: Iterable[Judgment], index: Path, into: Path | None, store: str | None) -> int:
    if into is not None:
        return write_judgments(judgments, into)
    with open_store(index, store, create=False) as opened:
        return JudgmentLog(opened).append(judgments)


def _ranks(counts: ClickCounts, propensities: Values | None) -> dict[str, Any]:
    shown, clicked = counts.by_rank(counts.impressions), counts.by_rank(counts.clicks)
    return {
        "impressions": int(shown[0]),
        "ranks": [
            {
                "rank": rank + 1,
                "shown": int(shown[rank]),
                "clicked": int(clicked[rank]),
                "propensity": None if propensities is None else float(propensities[rank]),
            }
            for rank in range(counts.depth)
        ],
    }


def _print(report: dict[str, Any]) -> None:
    OUT.print(f"{report['impressions']:,} impressions, {report['pairs']:,} pairs of query and product")
    table = Table(box=None, pad_edge=False)
    for column in ("rank", "shown", "clicked", "rate", "propensity"):
        table.add_column(column, justify="right")
    for row in report["ranks"]:
        propensity = "" if row["propensity"] is None else f"{row['propensity']:.3f}"
        rate = f"{row['clicked'] / row['shown']:.4f}"
        table.add_row(str(row["rank"]), f"{row['shown']:,}", f"{row['clicked']:,}", rate, propensity)
    OUT.print(table)
    where = report["into"] or "the log"
    OUT.print(f"{report['written']:,} judgments written to {where}", soft_wrap=True)
