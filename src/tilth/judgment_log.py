"""The durable log of judgments in a store: what anybody ever said, in order, never changed.

Its numbers are its own: appending leaves the sequence numbers of products as they are. They ascend in the
order in which judgments become visible, with gaps where a judgment was in the log before.

A judgment that was withdrawn stays in its table, marked in another, and is not read any more: an earlier one
of the same judge on the same pair counts again. Who follows the numbers is not told; `state` tells that there
was a withdrawal.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, NamedTuple

from sqlalchemy import BindParameter, Connection, bindparam, exists, func, insert, select

from tilth.errors import SettingError
from tilth.judgments import KINDS, Judgment
from tilth.store import Store
from tilth.store_schema import JUDGMENTS, WITHDRAWN, begin_snapshot, read_meta, write_meta

_BATCH = 2_000  # judgments written or read at a time
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class LogState(NamedTuple):
    """How far a log has come: two equal ones mean that nothing was added or withdrawn between them."""

    number: int  # the last one given
    withdrawn: int  # how many judgments are


class JudgmentLog:
    """The judgments of a store; threads may share it. Methods raise StoreError if the database fails."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def append(self, judgments: Iterable[Judgment]) -> int:
        """Add judgments in one transaction; when this returns, they survive a power failure.

        Args:
            judgments: asked for while other writers wait. One that the log has with the same query, product,
                judge, kind, time and grade is passed over, also if it was withdrawn: a second import of a
                file brings nothing back. Who is of that opinion again says so at another time.

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

    def withdraw(
        self, judge: str, query_id: str, product_id: str, time: datetime, *, kind: str = "person"
    ) -> Judgment | None:
        """Take back the last opinion of a judge on a pair; when this returns, that is durable.

        The one before it, if there is one, counts again.

        Args:
            judge: whose.
            query_id: of the pair.
            product_id: of the pair.
            time: aware; when it was taken back.
            kind: of the judge.

        Returns:
            The judgment, the one that counted until now; None: there is none that is not withdrawn.

        Raises:
            SettingError: the time has no zone.
        """
        if time.utcoffset() is None:
            raise SettingError(f"{time} has no time zone. Add +00:00")
        whose = {"judge": judge, "query": query_id, "product": product_id, "kind": kind}
        with self._store.transaction() as connection:
            read_meta(connection, "judgments", lock=True)  # one withdrawal after another
            row = connection.execute(_LAST_ON_PAIR, whose).first()
            if row is None:
                return None
            connection.execute(insert(WITHDRAWN), {"number": row.number, "time": _microseconds(time)})
        return _judgment(row)

    # --- reading ----------------------------------------------------------------------------------

    def judgments(self, after: int = 0) -> Iterator[tuple[int, Judgment]]:
        """Yield judgments with their numbers, ascending; those that were withdrawn are left out.

        Args:
            after: the number of a judgment; 0 for all.

        Yields:
            (number, judgment), of the one state that the log had when the first was asked for.
        """
        with self._store.engine.connect() as connection:
            options = {"yield_per": _BATCH}
            for row in connection.execute(_AFTER, {"after": after}, execution_options=options):
                yield row.number, _judgment(row)

    def of_queries(self, query_ids: Collection[str], kinds: Collection[str] = KINDS) -> Iterator[Judgment]:
        """Yield the judgments of queries, those of one query in their order; withdrawn ones are left out.

        Args:
            query_ids: of the queries.
            kinds: of judges.

        Yields:
            The judgments, of the one state that the log had when the first was asked for.
        """
        rest, options = iter(query_ids), {"yield_per": _BATCH}
        with self._store.engine.connect() as connection:
            begin_snapshot(connection)
            while ids := list(islice(rest, _BATCH)):
                values: dict[str, Sequence[str]] = {"ids": ids, "kinds": list(kinds)}
                yield from map(_judgment, connection.execute(_OF_QUERIES, values, execution_options=options))

    def last_of(self, judge: str, *, kind: str = "person") -> Judgment | None:
        """Return what a judge said last, in the order of the log, and has not withdrawn."""
        with self._store.engine.connect() as connection:
            row = connection.execute(_LAST, {"judge": judge, "kind": kind}).first()
        return None if row is None else _judgment(row)

    def count(self) -> int:
        """Return the number of judgments that were not withdrawn."""
        with self._store.engine.connect() as connection:
            return int(connection.execute(_COUNT).scalar_one())

    def state(self) -> LogState:
        """Return how far the log has come: cheap enough to be asked at every look at it."""
        with self._store.engine.connect() as connection:
            begin_snapshot(connection)
            number = int(read_meta(connection, "judgments"))
            return LogState(number, int(connection.execute(_WITHDRAWALS).scalar_one()))


_J = JUDGMENTS.c
_COUNTING = ~exists().where(WITHDRAWN.c.number == _J.number)
_IDS: BindParameter[list[str]] = bindparam("ids", expanding=True)
_WANTED_KINDS: BindParameter[list[str]] = bindparam("kinds", expanding=True)
_AFTER = select(JUDGMENTS).where(_J.number > bindparam("after"), _COUNTING).order_by(_J.number)
_OF_QUERIES = (
    select(JUDGMENTS).where(_J.query_id.in_(_IDS), _J.kind.in_(_WANTED_KINDS), _COUNTING).order_by(_J.number)
)
_OF_JUDGE = select(JUDGMENTS).where(_J.judge == bindparam("judge"), _J.kind == bindparam("kind"), _COUNTING)
_LAST = _OF_JUDGE.order_by(_J.number.desc()).limit(1)
_LAST_ON_PAIR = (
    _OF_JUDGE.where(_J.query_id == bindparam("query"), _J.product_id == bindparam("product"))
    .order_by(_J.time.desc(), _J.number.desc())
    .limit(1)
)
_COUNT = select(func.count()).select_from(JUDGMENTS).where(_COUNTING)
_WITHDRAWALS = select(func.count()).select_from(WITHDRAWN)
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


def _microseconds(time: datetime) -> int:
    return (time - _EPOCH) // _MICROSECOND


def _row(number: int, judgment: Judgment) -> _Values:
    j, time = judgment, _microseconds(judgment.time)
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
