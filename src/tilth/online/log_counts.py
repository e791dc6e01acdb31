"""What a log holds of pages and interactions, counted by the database: a few rows a group.

Interactions count for the group of the page that they belong to, whenever they came.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    FromClause,
    Label,
    Select,
    and_,
    func,
    literal_column,
    select,
)

from tilth.store_schema import IMPRESSIONS, INTERACTIONS

REASONS = 5  # the most frequent ones of a group
SOURCED = ("context", "ask")  # kinds of answers that have sources to cite
_BATCH = 10_000  # rows read at a time

_I, _X = IMPRESSIONS.c, INTERACTIONS.c
# Written out and not bound: PostgreSQL compares the expressions of SELECT and GROUP BY as texts.
_DAY: ColumnElement[int] = literal_column("86400000000", BigInteger())  # microseconds
GROUPINGS: dict[str, ColumnElement[Any]] = {
    "arm": _I.arm,
    "release": _I.release,
    "day": (_I.time - ((_I.time % _DAY) + _DAY) % _DAY) // _DAY,  # since 1970; division rounds towards 0
    "kind": _I.kind,
}
_FIRST = _I.first_rank == 1
_HITS = _I.product_ids != "[]"
_JOINED = IMPRESSIONS.join(INTERACTIONS, _X.impression_id == _I.impression_id)

Span = tuple[int | None, int | None]  # since and until, microseconds
Row = Any  # of a result; its first cells are the group


def count_pages(connection: Connection, by: Sequence[str], span: Span, most: int) -> list[Row]:
    """Count the pages of each group, and those with which something was done.

    Args:
        connection: of the store.
        by: of `GROUPINGS`.
        span: of the times of pages.
        most: groups that are returned at most.

    Returns:
        Rows of the group, answers, further_pages, with_hits, no_hits, no_answer, clicked, carted, bought,
        rejected, sourced, cited, ranked, clicks, reciprocal, revenue.
    """
    page = (
        select(
            *_keys(by),
            *(_FIRST.label("first"), _HITS.label("hits"), _I.answered, _I.kind.in_(SOURCED).label("sourced")),
            *(func.count().filter(_X.action == action).label(action) for action in _DONE),
            func.min(_X.rank).filter(_X.action == "click").label("highest"),  # clicked rank
            func.sum(_X.value).filter(_X.action == "purchase").label("paid"),
        )
        .select_from(IMPRESSIONS.outerjoin(INTERACTIONS, _X.impression_id == _I.impression_id))
        .where(*_within(_I.time, span))
        .group_by(_I.number)
        .subquery()
    )
    keys = [page.c[name] for name in by]
    return list(connection.execute(select(*keys, *_sums(page)).group_by(*keys).limit(most)))


_DONE = ("click", "cart", "purchase", "rejected", "cited")


def _sums(page: FromClause) -> list[Label[Any]]:
    """Return the sums over pages, each a column of `page` or a condition on its columns."""
    p = page.c
    hits, sourced = and_(p.first, p.hits), and_(p.first, p.sourced)
    counted = {
        "answers": p.first,
        "further_pages": ~p.first,
        "with_hits": hits,
        "no_hits": and_(p.first, ~p.hits),
        "no_answer": and_(p.first, p.answered == 0),
        "clicked": and_(hits, p.click > 0),
        "carted": and_(p.first, p.cart > 0),
        "bought": and_(p.first, p.purchase > 0),
        "rejected": and_(p.first, p.rejected > 0),
        "sourced": sourced,
        "cited": and_(sourced, p.cited > 0),
        "ranked": and_(hits, p.highest.is_not(None)),
    }
    return [
        *(func.count().filter(condition).label(name) for name, condition in counted.items()),
        func.coalesce(func.sum(p.click).filter(hits), 0).label("clicks"),
        func.coalesce(func.sum(1.0 / p.highest).filter(hits), 0.0).label("reciprocal"),
        func.coalesce(func.sum(p.paid), 0.0).label("revenue"),
    ]


def count_opinions(connection: Connection, by: Sequence[str], span: Span) -> list[Row]:
    """Sum opinions on whole pages; of several on a page the last counts.

    Args:
        connection: of the store.
        by: of `GROUPINGS`.
        span: of the times of pages.

    Returns:
        Rows of the group, csat, stars, satisfied, thumbs, up.
    """
    latest = (_X.time.desc(), _X.number.desc())
    place = func.row_number().over(partition_by=(_I.number, _X.action), order_by=latest)
    one = (
        select(*_keys(by), _X.action, _X.value, place.label("place"))
        .select_from(_JOINED)
        .where(_X.action.in_(("csat", "thumbs")), *_of_pages(span))
        .subquery()
    )
    keys, c = [one.c[name] for name in by], one.c
    csat, thumbs = c.action == "csat", c.action == "thumbs"
    sums = (
        func.count().filter(csat).label("csat"),
        func.coalesce(func.sum(c.value).filter(csat), 0.0).label("stars"),
        func.count().filter(csat, c.value >= 4).label("satisfied"),
        func.count().filter(thumbs).label("thumbs"),
        func.count().filter(thumbs, c.value > 0).label("up"),
    )
    return list(connection.execute(select(*keys, *sums).where(c.place == 1).group_by(*keys)))


def count_reasons(connection: Connection, by: Sequence[str], span: Span) -> list[Row]:
    """Count the most frequent reasons of rejections.

    Args:
        connection: of the store.
        by: of `GROUPINGS`.
        span: of the times of pages.

    Returns:
        Rows of the group, reason, times; the most frequent first, of equally frequent ones the older.
    """
    keys, times, first = _keys(by), func.count(), func.min(_X.number)
    place = func.row_number().over(partition_by=keys or None, order_by=(times.desc(), first))
    counted = (
        select(*keys, _X.reason, times.label("times"), place.label("place"))
        .select_from(_JOINED)
        .where(_X.action == "rejected", _X.reason != "", *_of_pages(span))
        .group_by(*keys, _X.reason)
        .subquery()
    )
    columns = (*(counted.c[name] for name in by), counted.c.reason, counted.c.times)
    frequent = select(*columns).where(counted.c.place <= REASONS).order_by(counted.c.place)
    return list(connection.execute(frequent))


def count_skipped(connection: Connection, by: Sequence[str], span: Span) -> list[Row]:
    """Count the answers that had the same stages skipped: rows of the group, a JSON list, answers."""
    keys, which = _keys(by), (_FIRST, _I.skipped.not_in(("", "[]")), *_within(_I.time, span))
    skipped = select(*keys, _I.skipped, func.count().label("answers")).where(*which)
    return list(connection.execute(skipped.group_by(*keys, _I.skipped)))


def count_orphans(connection: Connection, span: Span) -> int:
    """Count the interactions of a span, by their own time, whose page the log does not have."""
    known = select(_I.number).where(_I.impression_id == _X.impression_id).exists()
    orphans = select(func.count()).select_from(INTERACTIONS).where(~known, *_within(_X.time, span))
    return int(connection.execute(orphans).scalar_one())


def stream_milliseconds(connection: Connection, by: Sequence[str], span: Span) -> Iterator[Row]:
    """Yield the group of every page and its milliseconds, a JSON object by stage."""
    return _stream(connection, select(*_keys(by), _I.milliseconds).where(*_within(_I.time, span)))


def stream_dwell(connection: Connection, by: Sequence[str], span: Span) -> Iterator[Row]:
    """Yield the group of every dwell and its seconds."""
    query = select(*_keys(by), _X.value).select_from(_JOINED)
    return _stream(connection, query.where(_X.action == "dwell", *_of_pages(span)))


def _keys(by: Sequence[str]) -> list[Label[Any]]:
    return [GROUPINGS[name].label(name) for name in by]


def _within(time: ColumnElement[int], span: Span) -> list[ColumnElement[bool]]:
    since, until = span
    return [
        *([] if since is None else [time >= since]),
        *([] if until is None else [time < until]),
    ]


def _of_pages(span: Span) -> list[ColumnElement[bool]]:
    """Return what interactions and their pages must meet, said so that SQLite begins with the few pages."""
    if not (within := _within(_I.time, span)):
        return []
    pages = IMPRESSIONS.alias()
    ids = select(pages.c.impression_id).where(*_within(pages.c.time, span))
    return [*within, _X.impression_id.in_(ids)]


def _stream(connection: Connection, query: Select[Any]) -> Iterator[Row]:
    for rows in connection.execute(query, execution_options={"yield_per": _BATCH}).partitions():
        yield from rows
