"""The durable log of feedback in a store: what was served, and what was done with it.

Impressions and interactions have numbers of their own, which ascend in the order in which they become
visible, with gaps where one was in the log before or was forgotten. The sequence numbers of products stay as
they are.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, NamedTuple

import orjson
from sqlalchemy import BindParameter, Connection, bindparam, delete, func, select

from tilth.errors import SettingError
from tilth.feedback import Impression
from tilth.interactions import Interaction, Served, query_id_of
from tilth.store import Store
from tilth.store_schema import IMPRESSIONS, INTERACTIONS, begin_snapshot, read_meta, write_meta

_BATCH = 2_000  # rows written or read at a time
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Appended(NamedTuple):
    """How many impressions and interactions were added; of `FeedbackLog.forget`, deleted."""

    impressions: int
    interactions: int


class FeedbackLog:
    """The feedback in a store; threads may share it. Methods raise StoreError if the database fails."""

    def __init__(self, store: Store) -> None:
        self._store = store

    # --- writing ----------------------------------------------------------------------------------

    def append(self, served: Iterable[Served], interactions: Iterable[Interaction]) -> Appended:
        """Add both in one transaction; when this returns, they survive a power failure.

        Args:
            served: asked for while other writers wait. One whose `impression_id` the log has is passed over.
            interactions: likewise, by `event_id`. Their impressions need not be in the log, or not yet.

        Returns:
            How many were added. Nothing is written when one of the two raises.
        """
        with self._store.transaction() as connection:
            return Appended(
                _add(connection, _SERVED, map(_served_row, served)),
                _add(connection, _DONE, map(_interaction_row, interactions)),
            )

    def forget(self, before: datetime) -> Appended:
        """Delete what is older, each by its own time, in one transaction.

        Args:
            before: aware; what has this time or a later one stays.

        Returns:
            How many were deleted. Their numbers are not given again.

        Raises:
            SettingError: the time has no zone.
        """
        if before.utcoffset() is None:
            raise SettingError(f"{before} has no time zone. Add +00:00")
        values = {"before": _microseconds(before)}
        with self._store.transaction() as connection:
            for kind in (_SERVED, _DONE):  # one writer after another, as when adding
                read_meta(connection, kind.counter, lock=True)
            return Appended(*(connection.execute(each, values).rowcount for each in _FORGETTING))

    # --- reading ----------------------------------------------------------------------------------

    def served(self, after: int = 0) -> Iterator[tuple[int, Served]]:
        """Yield impressions with their numbers, ascending.

        Args:
            after: the number of an impression; 0 for all.

        Yields:
            (number, impression), of the one state that the log had when the first was asked for.
        """
        with self._store.engine.connect() as connection:
            for row in connection.execute(_SERVED_AFTER, {"after": after}, execution_options=_STREAMING):
                yield row.number, _served(row)

    def interactions(self, after: int = 0) -> Iterator[tuple[int, Interaction]]:
        """Yield interactions with their numbers, as `served` does impressions."""
        with self._store.engine.connect() as connection:
            for row in connection.execute(_DONE_AFTER, {"after": after}, execution_options=_STREAMING):
                yield row.number, _interaction(row)

    def served_by_id(self, impression_ids: Sequence[str]) -> dict[str, Served]:
        """Return impressions by id, in the order of the ids; those that the log does not have are absent."""
        found: dict[str, Served] = {}
        rest = iter(impression_ids)
        with self._store.engine.connect() as connection:
            while ids := list(islice(rest, _BATCH)):
                rows = connection.execute(_BY_ID, {"ids": ids})
                found.update((row.impression_id, _served(row)) for row in rows)
        return {key: found[key] for key in impression_ids if key in found}

    def pages(self) -> Iterator[Impression]:
        """Yield the result pages of searches with the ranks that were clicked, for click models.

        Left out are later pages, since the ranks of a click model begin at 1; answers to what is no search,
        whose ranks nobody looks down; and pages without products. A click is an interaction `click`, `cart`
        or `purchase`; it is at the rank that its product had, whatever rank it says, and nowhere if the page
        did not have the product. The query's id is made from its text, see `query_id_of`.

        Yields:
            The pages in the order of their numbers, of the one state that the log had at the first.
        """
        with self._store.engine.connect() as connection:
            begin_snapshot(connection)
            rows = connection.execute(_PAGES, execution_options=_STREAMING)
            while batch := list(islice(rows, _BATCH)):
                clicks = _clicks(connection, [row.impression_id for row in batch])
                for row in batch:
                    yield _page(row, clicks.get(row.impression_id, []))

    def latest(self) -> datetime | None:
        """Return the time of what happened last, None if the log is empty."""
        with self._store.engine.connect() as connection:
            times = [connection.execute(each).scalar() for each in _LATEST]
        return max((_time(time) for time in times if time is not None), default=None)


_STREAMING = {"yield_per": _BATCH}
_S, _I = IMPRESSIONS.c, INTERACTIONS.c
_AFTER: BindParameter[int] = bindparam("after")
_BEFORE: BindParameter[int] = bindparam("before")
_IDS: BindParameter[list[str]] = bindparam("ids", expanding=True)
_SERVED_AFTER = select(IMPRESSIONS).where(_S.number > _AFTER).order_by(_S.number)
_DONE_AFTER = select(INTERACTIONS).where(_I.number > _AFTER).order_by(_I.number)
_BY_ID = select(IMPRESSIONS).where(_S.impression_id.in_(_IDS))
_PAGES = (
    select(_S.impression_id, _S.query, _S.product_ids, _S.arm, _S.time)
    .where(_S.kind == "search", _S.first_rank == 1, _S.product_ids != "[]")
    .order_by(_S.number)
)
_CLICKS = select(_I.impression_id, _I.product_id, _I.rank).where(
    _I.impression_id.in_(_IDS), _I.action.in_(("click", "cart", "purchase"))
)
_LATEST = (select(func.max(_S.time)), select(func.max(_I.time)))
_FORGETTING = (delete(IMPRESSIONS).where(_S.time < _BEFORE), delete(INTERACTIONS).where(_I.time < _BEFORE))

# --- rows -----------------------------------------------------------------------------------------


class _Kind(NamedTuple):
    """What is numbered by a counter, and how its rows are written: columns in the order of the table."""

    counter: str
    sqlite: str
    postgres: str


_SERVED = _Kind(
    "impressions",
    """
    INSERT INTO tilth_impressions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (impression_id) DO NOTHING""",
    """
    INSERT INTO tilth_impressions
    SELECT * FROM unnest(
        %b::bigint[], %b::text[], %b::bigint[], %b::text[], %b::text[], %b::text[], %b::int[], %b::text[],
        %b::text[], %b::text[], %b::int[], %b::text[], %b::text[], %b::text[], %b::text[])
    ON CONFLICT (impression_id) DO NOTHING""",
)
_DONE = _Kind(
    "interactions",
    """
    INSERT INTO tilth_interactions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (event_id) DO NOTHING""",
    """
    INSERT INTO tilth_interactions
    SELECT * FROM unnest(
        %b::bigint[], %b::text[], %b::text[], %b::bigint[], %b::text[], %b::text[], %b::int[],
        %b::double precision[], %b::text[], %b::text[], %b::text[])
    ON CONFLICT (event_id) DO NOTHING""",
)
_Values = tuple[str | int | float | None, ...]  # of a row, without its number


def _add(connection: Connection, kind: _Kind, rows: Iterator[_Values]) -> int:
    """Number and write rows, alone until the transaction ends; return how many were new."""
    added, number = 0, None
    while batch := list(islice(rows, _BATCH)):
        if number is None:
            number = int(read_meta(connection, kind.counter, lock=True))
        added += _write(connection, kind, [(n, *row) for n, row in enumerate(batch, start=number + 1)])
        number += len(batch)
    if added:
        write_meta(connection, {kind.counter: number})
    return added


def _write(connection: Connection, kind: _Kind, rows: list[_Values]) -> int:
    if connection.dialect.name == "sqlite":
        return connection.exec_driver_sql(kind.sqlite, rows).rowcount
    return connection.exec_driver_sql(kind.postgres, tuple(map(list, zip(*rows, strict=True)))).rowcount


def _microseconds(time: datetime) -> int:
    return (time - _EPOCH) // _MICROSECOND


def _time(microseconds: int) -> datetime:
    return _EPOCH + microseconds * _MICROSECOND


def _served_row(served: Served) -> _Values:
    s = served
    what = (
        s.impression_id,
        _microseconds(s.time),
        s.kind,
        s.query,
        _list(s.product_ids) or "[]",
        s.first_rank,
    )
    why = (_list(s.propensities), s.arm, s.release, int(s.answered), _list(s.skipped))
    return (*what, *why, orjson.dumps(dict(s.milliseconds)).decode(), s.application, s.client_id)


def _list(values: tuple[str, ...] | tuple[float, ...]) -> str:
    return orjson.dumps(values).decode() if values else ""


def _served(row: Any) -> Served:  # noqa: ANN401 - a row of the query
    values = {**row._mapping, "time": _time(row.time), "answered": bool(row.answered)}
    del values["number"]
    for name in ("product_ids", "propensities", "skipped"):
        values[name] = tuple(orjson.loads(values[name] or "[]"))
    values["milliseconds"] = orjson.loads(row.milliseconds)
    return Served(**values)


def _interaction_row(interaction: Interaction) -> _Values:
    i = interaction
    value = None if i.value is None else float(i.value)
    what = (i.event_id, i.impression_id, _microseconds(i.time), i.action, i.product_id, i.rank, value)
    return (*what, i.reason, i.client_id, i.session_id)


def _interaction(row: Any) -> Interaction:  # noqa: ANN401 - a row of the query
    values = {**row._mapping, "time": _time(row.time)}
    del values["number"]
    return Interaction(**values)


# --- pages ----------------------------------------------------------------------------------------

_Click = tuple[str, int | None]  # product_id, rank


def _clicks(connection: Connection, impression_ids: list[str]) -> Mapping[str, list[_Click]]:
    found: defaultdict[str, list[_Click]] = defaultdict(list)
    for impression_id, product_id, rank in connection.execute(_CLICKS, {"ids": impression_ids}):
        found[impression_id].append((product_id, rank))
    return found


def _page(row: Any, clicks: list[_Click]) -> Impression:  # noqa: ANN401 - a row of the query
    shown = tuple(orjson.loads(row.product_ids))
    ranks = {product_id: rank for rank, product_id in enumerate(shown, start=1)}
    clicked = {ranks.get(product_id) if product_id else rank for product_id, rank in clicks}
    return Impression(
        query_id_of(row.query),
        row.query,
        shown,
        tuple(sorted(rank for rank in clicked if rank is not None and rank <= len(shown))),
        row.arm,
        _time(row.time),
    )
