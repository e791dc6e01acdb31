"""The durable log of judgments in a store: what anybody ever said, in order, never changed.

Its numbers are its own: appending leaves the sequence numbers of products as they are. They ascend in the
order in which judgments become visible, with gaps where a judgment was in the log before.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

from sqlalchemy import Connection, bindparam, func, select

from tilth.judgments import Judgment
from tilth.store import Store
from tilth.store_schema import JUDGMENTS, read_meta, write_meta

_BATCH = 2_000  # judgments written or read at a time
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class JudgmentLog:
    """The judgments of a store; threads may share it. Methods raise StoreError if the database fails."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def append(self, judgments: Iterable[Judgment]) -> int:
        """Add judgments in one transaction; when this returns, they survive a power failure.

        Args:
            judgments: asked for while other writers wait. One that the log has with the same query, product,
                judge, kind, time and grade is passed over.

        Returns:
            How many were added. Nothing is written when `judgments` itself raises.
        """
        added, rest = 0, iter(judgments)
        with self._store.transaction() as connection:
            number = int(read_meta(connection, "judgments", lock=True))
            while batch := list(islice(rest, _BATCH)):
                rows = [_row(n, judgment) for n, judgment in enumerate(batch, start=number + 1)]
                added += _write(connection, rows)
                number += len(batch)
            if added:
                write_meta(connection, {"judgments": number})
        return added

    def judgments(self, after: int = 0) -> Iterator[tuple[int, Judgment]]:
        """Yield judgments with their numbers, ascending.

        Args:
            after: the number of a judgment; 0 for all.

        Yields:
            (number, judgment), of the one state that the log had when the first was asked for.
        """
        with self._store.engine.connect() as connection:
            options = {"yield_per": _BATCH}
            for row in connection.execute(_AFTER, {"after": after}, execution_options=options):
                yield row.number, _judgment(row)

    def count(self) -> int:
        """Return the number of judgments."""
        with self._store.engine.connect() as connection:
            return int(connection.execute(_COUNT).scalar_one())


_AFTER = select(JUDGMENTS).where(JUDGMENTS.c.number > bindparam("after")).order_by(JUDGMENTS.c.number)
_COUNT = select(func.count()).select_from(JUDGMENTS)
# The columns are given in the order of the table.
_WRITE_SQLITE = """
    INSERT INTO tilth_judgments VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (query_id, product_id, judge, kind, time, grade) DO NOTHING"""
_WRITE_POSTGRES = """
    INSERT INTO tilth_judgments
    SELECT * FROM unnest(
        %b::bigint[], %b::text[], %b::text[], %b::text[], %b::int[], %b::int[], %b::text[], %b::text[],
        %b::bigint[], %b::text[], %b::text[], %b::double precision[])
    ON CONFLICT (query_id, product_id, judge, kind, time, grade) DO NOTHING"""

_Values = tuple[int, str, str, str, int, int, str, str, int, str, str, float | None]  # of a row


def _row(number: int, judgment: Judgment) -> _Values:
    j = judgment
    time = (j.time - _EPOCH) // _MICROSECOND
    what = (j.query_id, j.query, j.product_id, j.grade, j.highest)
    return (number, *what, j.judge, j.kind, time, j.reason, j.prompt, j.confidence)


def _write(connection: Connection, rows: list[_Values]) -> int:
    """Write rows and return how many were new."""
    if connection.dialect.name == "sqlite":
        return connection.exec_driver_sql(_WRITE_SQLITE, rows).rowcount
    return connection.exec_driver_sql(_WRITE_POSTGRES, tuple(map(list, zip(*rows, strict=True)))).rowcount


def _judgment(row: Any) -> Judgment:  # noqa: ANN401 - a row of the query
    values = {**row._mapping, "time": _EPOCH + row.time * _MICROSECOND}
    del values["number"]
    return Judgment(**values)
