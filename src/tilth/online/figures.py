"""Live figures: what came of the answers that were served, group by group. See docs/figures.md."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import orjson
from sqlalchemy import Connection

from tilth.errors import InputError, SettingError, shorten
from tilth.online.log_counts import (
    GROUPINGS,
    Row,
    Span,
    count_opinions,
    count_orphans,
    count_pages,
    count_reasons,
    count_skipped,
    stream_dwell,
    stream_milliseconds,
)
from tilth.online.proportions import Difference, Rate
from tilth.online.quantiles import Quantiles, Summary
from tilth.store import Store
from tilth.store_schema import begin_snapshot

BY = tuple(GROUPINGS)
COMPARED = ("ctr", "conversion")
MOST_GROUPS = 10_000
TOTAL = "total"  # the sum of the stages of a page, beside them
_SHARES = (0.5, 0.95, 0.99)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

Key = tuple[Any, ...]  # of a group, as the database has it


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds of pages, each quantile within 1%; `n` counts the pages."""

    p50: float
    p95: float
    p99: float
    n: int


@dataclass(frozen=True, slots=True)
class Group:
    """The figures of one group of pages; docs/figures.md defines each."""

    group: Mapping[str, str]  # a text for each name in `by`
    answers: int  # first pages
    further_pages: int
    rates: Mapping[str, Rate]
    numbers: Mapping[str, float | int | None]  # None: of nothing
    reasons: Mapping[str, int]  # the most frequent reasons of rejections
    skipped: Mapping[str, float]  # the share of answers, by stage
    latency_ms: Mapping[str, Latency]  # by stage, and `total`

    def to_json(self) -> dict[str, Any]:
        """Return the group as JSON has it."""
        return {
            "group": dict(self.group),
            "answers": self.answers,
            "further_pages": self.further_pages,
            "rates": {name: rate.to_json() for name, rate in self.rates.items()},
            "numbers": dict(self.numbers),
            "reasons": dict(self.reasons),
            "skipped": dict(self.skipped),
            "latency_ms": {
                stage: {"p50": each.p50, "p95": each.p95, "p99": each.p99, "n": each.n}
                for stage, each in self.latency_ms.items()
            },
        }


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of a log; `orphans` are interactions whose page is not in it, which nothing else counts."""

    by: tuple[str, ...]
    since: datetime | None  # included
    until: datetime | None  # excluded
    orphans: int
    groups: tuple[Group, ...]  # ascending

    def to_json(self) -> dict[str, Any]:
        """Return the figures as JSON has them; times in ISO 8601, UTC."""
        return {
            "by": list(self.by),
            "since": _text_of(self.since),
            "until": _text_of(self.until),
            "orphans": self.orphans,
            "groups": [group.to_json() for group in self.groups],
        }


def figures(
    store: Store,
    by: Sequence[str] = ("day",),
    since: datetime | None = None,
    until: datetime | None = None,
) -> Figures:
    """Count what came of the pages that a store's log holds; of one state of it, in bounded memory.

    Args:
        store: whose log is read.
        by: any of arm, release, day (UTC) and kind, each once; none: all pages are one group.
        since: pages served from then on, aware.
        until: pages served before then, aware.

    Returns:
        A group for each combination that has pages. Interactions count for the group of their page, also
        those that came after `until`.

    Raises:
        SettingError: `by` names something else or one thing twice, a time is without a zone, or there are
            more than 10,000 groups.
        StoreError: the database fails.
    """
    _check(by, since, until)
    span = (_number_of(since), _number_of(until))
    with store.engine.connect() as connection:
        begin_snapshot(connection)
        pages = count_pages(connection, by, span, MOST_GROUPS + 1)
        if len(pages) > MOST_GROUPS:
            raise SettingError(
                f"more than {MOST_GROUPS:,} groups by {', '.join(by)}: choose a shorter time or group by less"
            )
        parts = _Parts(connection, by, span)
        groups = [parts.group(row) for row in sorted(pages, key=lambda row: tuple(row[: len(by)]))]
        return Figures(tuple(by), since, until, count_orphans(connection, span), tuple(groups))


def compare(figures: Figures, a: str, b: str) -> dict[str, Difference]:
    """Compare two arms by click-through and conversion.

    The intervals take answers for independent. Those of one client are not: the truth is less certain.

    Args:
        figures: by arm, and possibly more: the groups of an arm are added up.
        a: an arm.
        b: another one.

    Returns:
        For `ctr` and `conversion`, the rate of `b` minus that of `a`.

    Raises:
        SettingError: the figures are not by arm.
        InputError: an arm has no pages.
    """
    if "arm" not in figures.by:
        raise SettingError("only figures by arm compare arms: add 'arm' to `by`")
    return {name: Difference(_rate_of(figures, a, name), _rate_of(figures, b, name)) for name in COMPARED}


def _rate_of(figures: Figures, arm: str, name: str) -> Rate:
    rates = [group.rates[name] for group in figures.groups if group.group["arm"] == arm]
    if not rates:
        arms = ", ".join(dict.fromkeys(shorten(group.group["arm"]) for group in figures.groups))
        raise InputError(
            "no page has this arm", field="arm", value=arm, remedy=f"There are: {arms or 'none'}"
        )
    return sum(rates, Rate(0, 0))


def read_moment(text: str, field: str) -> datetime:
    """Read a time that a person typed.

    Args:
        text: ISO 8601, a day (its beginning in UTC) or a time with its zone.
        field: what it is, for the message.

    Returns:
        The time, in UTC.

    Raises:
        InputError: it is neither.
    """
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = datetime.combine(date.fromisoformat(text), time.min, UTC)
        return moment.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise InputError(
            "is no time", field=field, value=text,
            remedy="Write a day, as in 2026-01-31, or a time with its zone, as in 2026-01-31T12:00:00Z",
        ) from error  # fmt: skip


# --- groups ---------------------------------------------------------------------------------------


class _Parts:
    """What there is of each group beside its pages, read once."""

    def __init__(self, connection: Connection, by: Sequence[str], span: Span) -> None:
        self._by, width = by, len(by)
        self._opinions = {row[:width]: row for row in count_opinions(connection, by, span)}
        self._reasons = _gathered(count_reasons(connection, by, span), width)
        self._skipped = _gathered(count_skipped(connection, by, span), width)
        self._dwell = _dwell(stream_dwell(connection, by, span))
        self._latency = _latency(stream_milliseconds(connection, by, span))

    def group(self, page: Row) -> Group:
        """Return the group of a row of pages."""
        key = page[: len(self._by)]
        opinion = self._opinions.get(key)
        return Group(
            {name: _name_of(name, value) for name, value in zip(self._by, key, strict=True)},
            page.answers,
            page.further_pages,
            _rates(page, opinion),
            _numbers(page, opinion, self._dwell.get(key)),
            {row.reason: row.times for row in self._reasons.get(key, ())},
            _shares_skipped(self._skipped.get(key, ()), page.answers),
            self._latency.get(key, {}),
        )


def _gathered(rows: Iterable[Row], width: int) -> dict[Key, list[Row]]:
    gathered: dict[Key, list[Row]] = {}
    for row in rows:
        gathered.setdefault(row[:width], []).append(row)
    return gathered


def _dwell(rows: Iterable[Row]) -> dict[Key, Summary]:
    seconds: Quantiles[Key] = Quantiles()
    for *key, value in rows:
        seconds.add(tuple(key), {"dwell": value})
    return {key: summaries["dwell"] for key, summaries in seconds.at(_SHARES[:1]).items()}


def _latency(rows: Iterable[Row]) -> dict[Key, dict[str, Latency]]:
    milliseconds: Quantiles[Key] = Quantiles()
    for *key, text in rows:
        if stages := orjson.loads(text):
            milliseconds.add(tuple(key), {TOTAL: sum(stages.values()), **stages})
    return {
        key: {stage: _latency_of(summary) for stage, summary in summaries.items()}
        for key, summaries in milliseconds.at(_SHARES).items()
    }


def _latency_of(summary: Summary) -> Latency:
    p50, p95, p99 = summary.quantiles
    return Latency(p50, p95, p99, summary.n)


def _rates(page: Row, opinion: Row | None) -> dict[str, Rate]:
    answers = page.answers
    return {
        "ctr": Rate(page.clicked, page.with_hits),
        "conversion": Rate(page.bought, answers),
        "cart": Rate(page.carted, answers),
        "zero_results": Rate(page.no_hits, answers),
        "nothing_fits": Rate(page.no_answer, answers),
        "rejected": Rate(page.rejected, answers),
        "cited": Rate(page.cited, page.sourced),
        "thumbs_up": Rate(opinion.up, opinion.thumbs) if opinion else Rate(0, 0),
        "satisfied": Rate(opinion.satisfied, opinion.csat) if opinion else Rate(0, 0),
    }


def _numbers(page: Row, opinion: Row | None, dwell: Summary | None) -> dict[str, float | int | None]:
    csat = opinion.csat if opinion else 0
    return {
        "clicks_per_page": int(page.clicks) / page.with_hits if page.with_hits else None,
        "first_click_rr": page.reciprocal / page.ranked if page.ranked else None,
        "first_click_n": page.ranked,
        "csat_mean": opinion.stars / csat if opinion and csat else None,
        "csat_n": csat,
        "dwell_median_s": dwell.quantiles[0] if dwell else None,
        "dwell_n": dwell.n if dwell else 0,
        "revenue": page.revenue,
    }


def _shares_skipped(rows: Iterable[Row], answers: int) -> dict[str, float]:
    counts: Counter[str] = Counter()
    for row in rows:
        for stage in orjson.loads(row.skipped):
            counts[stage] += row.answers
    return {stage: count / answers for stage, count in sorted(counts.items())}


def _name_of(name: str, value: object) -> str:
    if name != "day":
        return str(value)
    return (_EPOCH + timedelta(days=value)).date().isoformat() if isinstance(value, int) else ""


# --- times ----------------------------------------------------------------------------------------


def _check(by: Sequence[str], since: datetime | None, until: datetime | None) -> None:
    if unknown := [name for name in by if name not in BY]:
        raise SettingError(f"figures are not by {unknown[0]!r}: choose of {', '.join(BY)}")
    if len(set(by)) < len(by):
        raise SettingError(f"figures by {', '.join(by)}: name each once")
    for name, moment in (("since", since), ("until", until)):
        if moment is not None and moment.tzinfo is None:
            raise SettingError(f"{name}: {moment.isoformat()} has no zone. Add one, as in datetime.now(UTC)")


def _number_of(moment: datetime | None) -> int | None:
    return None if moment is None else (moment - _EPOCH) // _MICROSECOND


def _text_of(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat()
