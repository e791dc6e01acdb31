"""The durable store of products: every change has a number, and readers see one state while writers go on.

What the store holds is the catalogue; whatever is made of it, such as an index, can be made again. Numbers of
changes ascend in the order in which changes become visible: who has seen change S never meets a new one whose
number is not greater than S.
"""

import os
import threading
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import orjson
from sqlalchemy import BindParameter, Connection, Engine, Select, bindparam, func, select

from tilth.catalog import Product, product_from_json, product_to_json
from tilth.errors import InputError
from tilth.store_schema import PRODUCTS, begin_snapshot, begin_writing, open_engine, read_meta, write_meta

_BATCH = 2_000  # products looked up and written at a time; all of a batch are in memory


class Change(NamedTuple):
    """The last change of a product; `record` is its JSON in UTF-8, None if the product was deleted."""

    sequence: int
    product_id: str
    record: bytes | None


@dataclass(frozen=True, slots=True)
class Written:
    """What a transaction did, in products, and the number of the last change after it."""

    changed: int  # new ones included
    unchanged: int
    deleted: int
    sequence: int


class Store:
    """A store of products in SQLite or PostgreSQL; threads may share it."""

    def __init__(self, url_or_path: str | os.PathLike[str], *, create: bool) -> None:
        self._engine = open_engine(url_or_path, create=create)
        self._writer = threading.RLock()  # writers of this process wait here, however long it takes
        with self._engine.connect() as connection:
            self.store_id = read_meta(connection, "store_id")

    @classmethod
    def open(cls, url_or_path: str | os.PathLike[str], *, create: bool = True) -> Self:
        """Open a store.

        Args:
            url_or_path: a file, `sqlite:///FILE`, or `postgresql://USER:PASSWORD@HOST:PORT/DATABASE`.
            create: make the store, its file and folders, where there is none.

        Returns:
            The store, to be closed or used as a context manager.

        Raises:
            StoreError: there is no store and none is to be made, the database cannot be used, or it was
                written by a newer version. Every other method raises it when the database fails.
            MissingExtraError: PostgreSQL is asked for and its driver is not installed.
        """
        return cls(url_or_path, create=create)

    def close(self) -> None:
        """Close the connections to the database."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def engine(self) -> Engine:
        """The database, for reading tables beside the products."""
        return self._engine

    # --- reading ----------------------------------------------------------------------------------

    def last_sequence(self) -> int:
        """Return the number of the last change, 0 in a new store."""
        with self._engine.connect() as connection:
            return int(read_meta(connection, "sequence"))

    def count(self) -> int:
        """Return the number of products."""
        with self._engine.connect() as connection:
            return int(read_meta(connection, "live"))

    def products(self, product_ids: Sequence[str]) -> dict[str, Product]:
        """Return products by id, in the order of the ids; those that the store does not have are absent."""
        found: dict[str, bytes] = {}
        with self._engine.connect() as connection:
            for ids in _groups(product_ids):
                found.update((key, record) for key, record in connection.execute(_RECORDS, {"ids": ids}))
        return {key: product_from_json(orjson.loads(found[key])) for key in product_ids if key in found}

    def changes(self, after: int) -> Iterator[Change]:
        """Yield the last change of every product that changed later, deleted ones too, ascending.

        Args:
            after: the number of a change; 0 for all.

        Yields:
            Changes of the one state that the store had when the first was asked for.
        """
        with self._engine.connect() as connection:
            yield from map(Change._make, _stream(connection, _CHANGES, after=after))

    @contextmanager
    def snapshot(self) -> Iterator["Snapshot"]:
        """Hold one state of the store, which stays as it is while others write.

        Yields:
            The state; it ends with the block, and belongs to one thread.
        """
        with self._engine.connect() as connection:
            begin_snapshot(connection)
            sequence, live = read_meta(connection, "sequence"), read_meta(connection, "live")
            yield Snapshot(connection, int(sequence), int(live))

    # --- writing ----------------------------------------------------------------------------------

    def upsert(self, products: Iterable[Product]) -> Written:
        """Add or replace products in one transaction; when this returns, they survive a power failure.

        Args:
            products: of several with one id the last counts. A product that is stored as it is costs no
                write and gets no number.

        Returns:
            What was done. A product that comes twice, more than 2,000 products apart, may count twice.

        Raises:
            InputError: a value of a product does not exist in JSON. Nothing is written then, nor when
                `products` itself raises.
        """
        with self._writing() as writing:
            for records in _records(products):
                writing.put(records)
            return writing.finish()

    def delete(self, product_ids: Iterable[str]) -> Written:
        """Delete products in one transaction; ids that the store does not have count as unchanged."""
        with self._writing() as writing:
            for ids in _groups(dict.fromkeys(product_ids)):
                writing.put(dict.fromkeys(ids))
            return writing.finish()

    def replace_all(self, products: Iterable[Product]) -> Written:
        """Make these products the whole catalogue, in one transaction: absent ones are deleted.

        Memory is bounded but for some 30 bytes a product that the store had.

        Args:
            products: as for `upsert`; they are asked for while other writers wait.

        Returns:
            What was done.

        Raises:
            InputError: a value of a product does not exist in JSON. The store stays as it was then, and
                also when `products` itself raises.
        """
        met = array("q")
        with self._writing() as writing:
            for records in _records(products):
                met.extend(writing.put(records))
            writing.delete_others(np.array(met, np.int64))
            return writing.finish()

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Hold a transaction that writes to tables beside the products; it is undone if the block raises.

        Yields:
            The connection; what it wrote is durable when the block has ended.
        """
        with self._writer, self._engine.connect() as connection:
            begin_writing(connection)
            yield connection
            connection.commit()

    @contextmanager
    def _writing(self) -> Iterator["_Writing"]:
        with self.transaction() as connection:
            yield _Writing(connection)


class Snapshot:
    """One state of a store; `sequence` is the number of its last change, `count` of its products."""

    def __init__(self, connection: Connection, sequence: int, count: int) -> None:
        self._connection, self.sequence, self.count = connection, sequence, count

    def records(self) -> Iterator[tuple[str, bytes]]:
        """Yield (product id, record) of all products, the longest unchanged first."""
        return ((product_id, record) for product_id, record in _stream(self._connection, _LIVE))

    def products(self) -> Iterator[Product]:
        """Yield all products, in the order of their records."""
        return (product_from_json(orjson.loads(record)) for _, record in self.records())


_Values = tuple[int, str, int | None, bytes | None]  # of a row
_UNKNOWN: tuple[int, int | None] = (0, None)


class _Writing:
    """One transaction that writes, alone: its numbers, and what it has done so far."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._first = self._sequence = int(read_meta(connection, "sequence", lock=True))
        self._live_at_first = self._live = int(read_meta(connection, "live"))
        self._changed = self._unchanged = self._deleted = 0

    def put(self, records: Mapping[str, bytes | None]) -> list[int]:
        """Store records by product id, None to delete; return the numbers that the live ones had before."""
        known = self._known(records)
        rows: list[_Values] = []
        for product_id, record in records.items():
            digest = None if record is None else _hash(record)
            before = known.get(product_id, _UNKNOWN)[1]
            if digest == before:  # both are None where an unknown or deleted product is to be deleted
                self._unchanged += 1
                continue
            self._sequence += 1
            rows.append((self._sequence, product_id, digest, record))
            self._live += (digest is not None) - (before is not None)
            self._deleted += digest is None
        self._changed += len(rows)
        _write(self._connection, rows)
        return [sequence for sequence, digest in known.values() if digest is not None]

    def _known(self, product_ids: Iterable[str]) -> dict[str, tuple[int, int | None]]:
        if not self._first:
            return {}  # the first load of a store, which so takes less time: `finish` counts
        ids = list(product_ids)
        rows = self._connection.execute(_HASHES, {"ids": ids})
        return {product_id: (sequence, digest) for product_id, sequence, digest in rows}

    def delete_others(self, met: npt.NDArray[np.int64]) -> None:
        """Delete the products that the transaction has not met, given what `put` returned of those it has."""
        met = np.unique(met)
        met = met[met <= self._first]
        if len(met) == self._live_at_first:
            return  # sparing a walk through the whole table
        met, after = np.append(met, 0), 0  # the 0 is there to be found where all are smaller
        while page := self._page(after):
            after = page[-1][0]
            sequences = np.array([sequence for sequence, _ in page])
            kept = met[np.searchsorted(met[:-1], sequences)] == sequences
            self.put({page[place][1]: None for place in np.flatnonzero(~kept)})

    def _page(self, after: int) -> list[tuple[int, str]]:
        rows = self._connection.execute(_PAGE, {"after": after, "last": self._first})
        return [(sequence, product_id) for sequence, product_id in rows]

    def finish(self) -> Written:
        """Store the counters, and return what was done."""
        if not self._first:
            self._live = self._connection.execute(_COUNT).scalar_one()
        if self._sequence > self._first:
            write_meta(self._connection, {"sequence": self._sequence, "live": self._live})
        changed = self._changed - self._deleted
        return Written(changed, self._unchanged, self._deleted, self._sequence)


_P = PRODUCTS.c
_IDS: BindParameter[list[str]] = bindparam("ids", expanding=True)
_RECORDS = select(_P.product_id, _P.record).where(_P.product_id.in_(_IDS), _P.record.is_not(None))
_HASHES = select(_P.product_id, _P.sequence, _P.hash).where(_P.product_id.in_(_IDS))
_COUNT = select(func.count()).select_from(PRODUCTS)
_LIVE = select(_P.product_id, _P.record).where(_P.record.is_not(None)).order_by(_P.sequence)
_CHANGES = (
    select(_P.sequence, _P.product_id, _P.record)
    .where(_P.sequence > bindparam("after"))
    .order_by(_P.sequence)
)
_PAGE = (
    select(_P.sequence, _P.product_id)
    .where(_P.sequence > bindparam("after"), _P.sequence <= bindparam("last"), _P.hash.is_not(None))
    .order_by(_P.sequence)
    .limit(_BATCH)
)
# Rows go to the driver as they are: its own way for many rows is several times faster than one that fits all.
_WRITE_SQLITE = """
    INSERT INTO tilth_products (sequence, product_id, hash, record) VALUES (?, ?, ?, ?)
    ON CONFLICT (product_id) DO UPDATE
    SET sequence = excluded.sequence, hash = excluded.hash, record = excluded.record"""
_WRITE_POSTGRES = """
    INSERT INTO tilth_products (sequence, product_id, hash, record)
    SELECT * FROM unnest(%b::bigint[], %b::text[], %b::bigint[], %b::bytea[])
    ON CONFLICT (product_id) DO UPDATE
    SET sequence = excluded.sequence, hash = excluded.hash, record = excluded.record"""


def _write(connection: Connection, rows: list[_Values]) -> None:
    if not rows:
        return
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(_WRITE_SQLITE, rows)
    else:
        connection.exec_driver_sql(_WRITE_POSTGRES, tuple(map(list, zip(*rows, strict=True))))


def _stream(connection: Connection, query: Select[Any], **values: int) -> Iterator[Any]:
    yield from connection.execute(query, values, execution_options={"yield_per": _BATCH})


def _records(products: Iterable[Product]) -> Iterator[dict[str, bytes]]:
    """Yield the records of products by id, at most `_BATCH` at a time."""
    records: dict[str, bytes] = {}
    for product in products:
        records[product.id] = _record(product)
        if len(records) == _BATCH:
            yield records
            records = {}
    yield records


def _record(product: Product) -> bytes:
    try:
        return orjson.dumps(product_to_json(product))
    except TypeError as error:
        raise InputError(f"cannot be stored: {error}", field="id", value=product.id) from error


def _hash(record: bytes) -> int:
    return int.from_bytes(blake2b(record, digest_size=8).digest(), "big", signed=True)


def _groups(ids: Iterable[str]) -> Iterator[list[str]]:
    rest = iter(ids)
    while group := list(islice(rest, _BATCH)):
        yield group
