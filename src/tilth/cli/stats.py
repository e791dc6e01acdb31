"""`tilth stats`: what came of the answers that were served, by arm, release, day and kind."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from tilth.cli.indexing import Json, StoreUrl
from tilth.cli.terminal import OUT, print_json
from tilth.errors import shorten
from tilth.online.figures import BY, TOTAL, Figures, Group, compare, figures, read_moment
from tilth.online.proportions import Difference, Rate
from tilth.retrieval.index import open_store

_BESIDE = 3  # groups that stand beside each other with all figures; more are one row each
_RATES = {
    "ctr": "CTR",
    "conversion": "conversion",
    "cart": "cart",
    "zero_results": "zero results",
    "nothing_fits": "nothing fits",
    "rejected": "rejected",
    "cited": "cited",
    "thumbs_up": "thumbs up",
    "satisfied": "satisfied",
}
_NUMBERS = {
    "clicks_per_page": "clicks a page",
    "first_click_rr": "reciprocal rank",
    "csat_mean": "CSAT",
    "dwell_median_s": "dwell, s",
    "revenue": "revenue",
}
_COUNTS = {"first_click_rr": "first_click_n", "csat_mean": "csat_n", "dwell_median_s": "dwell_n"}
_QUANTILES = ("p50\nms", "p95\nms", "p99\nms")
_COLUMNS = ("answers", "CTR", "95%", "conv.", "CSAT", "zero\nresults", "nothing\nfits", *_QUANTILES)
_WARNING = "The intervals take answers for independent; those of one client are not: they should be wider."


def stats(
    index: Annotated[Path, typer.Argument(help="The index folder, whose store keeps the log.")],
    by: Annotated[str, typer.Option(help=f"Any of {', '.join(BY)}, with commas; '' for all in one.")] = "day",
    since: Annotated[
        str | None, typer.Option(help="Pages from then on: a day (UTC), or a time with its zone.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Pages before then.")] = None,
    store: StoreUrl = None,
    as_json: Json = False,
) -> None:
    """Show what came of the answers: clicks, purchases, opinions, latencies."""
    names = tuple(name.strip() for name in by.split(",") if name.strip())
    first = None if since is None else read_moment(since, "since")
    end = None if until is None else read_moment(until, "until")
    with open_store(index, store, create=False) as opened:
        counted = figures(opened, names, first, end)
    if as_json:
        print_json(counted.to_json())
    else:
        _print(counted)


def _print(counted: Figures) -> None:
    if not any(group.answers or group.further_pages for group in counted.groups):
        OUT.print("the log has no pages of this time")
    elif len(counted.groups) <= _BESIDE:
        OUT.print(_beside(counted.groups))
    else:
        OUT.print(_one_row_each(counted))
        OUT.print()
        OUT.print(_stages(counted))
    _print_comparison(counted)
    if counted.orphans:
        OUT.print(f"{counted.orphans:,} interactions are with pages that the log does not have")


# --- few groups: all figures ----------------------------------------------------------------------


def _beside(groups: tuple[Group, ...]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for group in groups:
        head = "\n".join(f"{name} {_shown(name, value)}" for name, value in group.group.items())
        table.add_column(Text(head or "all"), justify="right")
    for label, cells in _lines(groups):
        table.add_row(Text(label), *cells)
    return table


def _lines(groups: tuple[Group, ...]) -> Iterator[tuple[str, list[str]]]:
    """Yield the rows: a label, and a cell for each group."""
    yield "answers", [f"{group.answers:,}" for group in groups]
    yield "further pages", [f"{group.further_pages:,}" for group in groups]
    for name, label in _RATES.items():
        yield label, [_rate(group.rates[name]) for group in groups]
    for name, label in _NUMBERS.items():
        yield label, [_number(group, name) for group in groups]
    for reason in _names(group.reasons for group in groups):
        label = f"reason {shorten(_printable(reason), 30)}"
        yield label, [str(group.reasons.get(reason, 0)) for group in groups]
    for stage in _names(group.skipped for group in groups):
        yield f"skipped {_printable(stage)}", [_percent(group.skipped.get(stage, 0.0)) for group in groups]
    yield "p50, p95, p99 in ms", [""] * len(groups)
    for stage in _names(group.latency_ms for group in groups):
        yield f"  {_printable(stage)}", [_latency(group, stage) for group in groups]


def _names(parts: Iterable[Iterable[str]]) -> list[str]:
    return list(dict.fromkeys(name for part in parts for name in part))


def _rate(rate: Rate) -> str:
    if rate.value is None or rate.interval is None:
        return ""
    low, high = rate.interval
    return f"{_percent(rate.value)} ({100 * low:.1f} to {100 * high:.1f})"


def _number(group: Group, name: str) -> str:
    value = group.numbers[name]
    if value is None:
        return ""
    return f"{value:,.2f}" + (f" of {group.numbers[_COUNTS[name]]:,}" if name in _COUNTS else "")


def _latency(group: Group, stage: str) -> str:
    latency = group.latency_ms.get(stage)
    return f"{latency.p50:.1f}, {latency.p95:.1f}, {latency.p99:.1f}" if latency else ""


# --- many groups: a row each ----------------------------------------------------------------------


def _one_row_each(counted: Figures) -> Table:
    table = _table(counted.by, _COLUMNS)
    for group in counted.groups:
        csat, total = group.numbers["csat_mean"], group.latency_ms.get(TOTAL)
        table.add_row(
            *_heads(group),
            f"{group.answers:,}",
            _percent(group.rates["ctr"].value),
            _range(group.rates["ctr"]),
            _percent(group.rates["conversion"].value),
            "" if csat is None else f"{csat:.2f}",
            _percent(group.rates["zero_results"].value),
            _percent(group.rates["nothing_fits"].value),
            *(f"{each:.1f}" for each in ((total.p50, total.p95, total.p99) if total else ())),
        )
    return table


def _range(rate: Rate) -> str:
    if rate.interval is None:
        return ""
    low, high = rate.interval
    return f"{100 * low:.1f}-{100 * high:.1f}"


def _stages(counted: Figures) -> Table:
    stages = [name for name in _names(group.latency_ms for group in counted.groups) if name != TOTAL]
    table = _table(counted.by, [_printable(stage) for stage in stages])
    table.title, table.title_justify, table.title_style = "p95 of the stages, in ms", "left", "bold"
    for group in counted.groups:
        latencies = map(group.latency_ms.get, stages)
        table.add_row(*_heads(group), *(f"{latency.p95:.1f}" if latency else "" for latency in latencies))
    return table


def _table(by: Iterable[str], columns: Iterable[str]) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in by:
        table.add_column(name, overflow="fold")
    for column in columns:
        table.add_column(Text(column), justify="right", no_wrap=True)
    return table


def _heads(group: Group) -> list[Text]:
    return [Text(_shown(name, value)) for name, value in group.group.items()]


# --- two arms -------------------------------------------------------------------------------------


def _print_comparison(counted: Figures) -> None:
    arms = list(dict.fromkeys(group.group["arm"] for group in counted.groups if "arm" in counted.by))
    if len(arms) != 2:
        return
    first, second = (_shown("arm", arm) for arm in arms)
    for rate, difference in compare(counted, *arms).items():
        line = f"{_RATES[rate]} of {second} minus {first}: {_points(difference)}"
        OUT.print(Text(line), soft_wrap=True)
    OUT.print(f"[dim]{_WARNING}[/dim]", soft_wrap=True)


def _points(difference: Difference) -> str:
    if difference.value is None or difference.interval is None:
        return "nothing to compare"
    low, high = difference.interval
    return f"{100 * difference.value:+.2f} points (95%: {100 * low:+.2f} to {100 * high:+.2f})"


# --- texts ----------------------------------------------------------------------------------------


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"


def _shown(name: str, value: str) -> str:
    if value:
        return _printable(value)
    return "hybrid" if name == "release" else "none"


def _printable(text: str) -> str:
    """Return what callers sent without what a terminal would obey."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
