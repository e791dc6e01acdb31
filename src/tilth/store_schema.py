"""The database below the store: opened by its URL, its schema brought up to date, its faults explained."""

import os
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from sqlalchemy import (
    URL,
    BigInteger,
    Column,
    Connection,
    Double,
    Engine,
    ExceptionContext,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    bindparam,
    create_engine,
    event,
    insert,
    inspect,
    make_url,
    select,
    update,
)
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import NullPool

from tilth.errors import MissingExtraError, StoreError

_SCHEMA = MetaData()
_NUMBER = BigInteger().with_variant(Integer, "sqlite")
_ID = Text().with_variant(Text(collation="C"), "postgresql")
# In the order of the last changes, so that SQLite keeps the table itself in that order: a new change is
# appended, and reading what changed is reading the end. The prefix is for databases shared with others.
PRODUCTS = Table(
    "tilth_products",
    _SCHEMA,
    Column("sequence", _NUMBER, primary_key=True, autoincrement=False),
    Column("product_id", _ID, nullable=False, unique=True),
    Column("hash", BigInteger),  # 64 bits of BLAKE2b of the record
    Column("record", LargeBinary),  # JSON; hash and record are NULL once the product is deleted
)
# Rows are only ever added, numbered in the order in which they become visible.
JUDGMENTS = Table(
    "tilth_judgments",
    _SCHEMA,
    Column("number", _NUMBER, primary_key=True, autoincrement=False),
    Column("query_id", _ID, nullable=False),
    Column("query", Text, nullable=False),
    Column("product_id", _ID, nullable=False),
    Column("grade", Integer, nullable=False),
    Column("highest", Integer, nullable=False),
    Column("judge", _ID, nullable=False),
    Column("kind", _ID, nullable=False),
    Column("time", BigInteger, nullable=False),  # microseconds since 1970, UTC
    Column("reason", Text, nullable=False),
    Column("prompt", Text, nullable=False),
    Column("confidence", Double),
    # Its index also finds the judgments of a query.
    UniqueConstraint("query_id", "product_id", "judge", "kind", "time", "grade", name="tilth_judgments_once"),
)
# Judgments that their judge took back; the judgments themselves stay in the log.
WITHDRAWN = Table(
    "tilth_withdrawn_judgments",
    _SCHEMA,
    Column("number", _NUMBER, primary_key=True, autoincrement=False),  # of the judgment
    Column("time", BigInteger, nullable=False),
)
# What was served, and what was done with it; both are only added to, and forgotten from their beginning.
IMPRESSIONS = Table(
    "tilth_impressions",
    _SCHEMA,
    Column("number", _NUMBER, primary_key=True, autoincrement=False),
    Column("impression_id", _ID, nullable=False, unique=True),
    Column("time", BigInteger, nullable=False, index=True),
    Column("kind", _ID, nullable=False),
    Column("query", Text, nullable=False),
    Column("product_ids", Text, nullable=False),  # a JSON list, by rank
    Column("first_rank", Integer, nullable=False),
    Column("propensities", Text, nullable=False),  # a JSON list, or empty
    Column("arm", _ID, nullable=False),
    Column("release", _ID, nullable=False),
    Column("answered", Integer, nullable=False),  # 0 or 1
    Column("skipped", Text, nullable=False),  # a JSON list of stages, or empty
    Column("milliseconds", Text, nullable=False),  # a JSON object by stage
    Column("application", _ID, nullable=False),
    Column("client_id", _ID, nullable=False),
)
INTERACTIONS = Table(
    "tilth_interactions",
    _SCHEMA,
    Column("number", _NUMBER, primary_key=True, autoincrement=False),
    Column("event_id", _ID, nullable=False, unique=True),
    Column("impression_id", _ID, nullable=False, index=True),
    Column("time", BigInteger, nullable=False, index=True),
    Column("action", _ID, nullable=False),
    Column("product_id", _ID, nullable=False),
    Column("rank", Integer),
    Column("value", Double),
    Column("reason", Text, nullable=False),
    Column("client_id", _ID, nullable=False),
    Column("session_id", _ID, nullable=False),
)
KEYS = Table(
    "tilth_keys",
    _SCHEMA,
    Column("key_id", _ID, primary_key=True),
    Column("name", _ID, nullable=False),
    Column("hash", LargeBinary, nullable=False),  # SHA-256 of the secret
    Column("scopes", Text, nullable=False),  # separated by blanks
    Column("created", BigInteger, nullable=False),
    Column("expires", BigInteger),
    Column("revoked", BigInteger),
)
META = Table(
    "tilth_meta", _SCHEMA, Column("key", Text, primary_key=True), Column("value", Text, nullable=False)
)
# `judgments`, `impressions`, `interactions`: the last number given.
_COUNTERS = {"sequence": 0, "live": 0, "judgments": 0, "impressions": 0, "interactions": 0}


def _add_judgments(connection: Connection) -> None:
    JUDGMENTS.create(connection)
    connection.execute(insert(META), {"key": "judgments", "value": "0"})


def _add_service(connection: Connection) -> None:
    for table in (WITHDRAWN, IMPRESSIONS, INTERACTIONS, KEYS):
        table.create(connection)
    counters = [{"key": key, "value": "0"} for key in ("impressions", "interactions")]
    connection.execute(insert(META), counters)


Migration = Callable[[Connection], None]
MIGRATIONS: tuple[Migration, ...] = (_add_judgments, _add_service)  # the n-th leads from version n to n + 1
SCHEMA_VERSION = 1 + len(MIGRATIONS)

_WAIT = 60  # seconds that a writer waits for another one
_PRAGMAS = (
    f"busy_timeout={_WAIT * 1000}",
    "page_size=8192",  # of a new file; wastes less at the end of a page than 4096
    "journal_mode=WAL",  # readers and one writer do not wait for each other
    "synchronous=FULL",  # the log is synced at every commit: what is acknowledged survives a power failure
    "cache_size=-65536",  # KiB, a connection
    "journal_size_limit=67108864",  # bytes; a log that a large change made long is cut again
)
_READING = (_PRAGMAS[0], _PRAGMAS[-2])  # those that write nothing
_CREATION_LOCK = 0x7469_6C74_6800  # any number that nobody else uses


# --- opening --------------------------------------------------------------------------------------


def open_engine(url_or_path: str | os.PathLike[str], *, create: bool) -> Engine:
    """Open the database of a store, and bring its schema to the version of this program.

    Args:
        url_or_path: a file, `sqlite:///FILE`, or `postgresql://USER:PASSWORD@HOST:PORT/DATABASE`.
        create: make the store, its file and folders, where there is none.

    Returns:
        The engine; any fault that the database reports through it is raised as a StoreError.

    Raises:
        StoreError: there is no store and none is to be made, the database cannot be used, or it is of a
            newer version.
        MissingExtraError: PostgreSQL is asked for and its driver is not installed.
    """
    url = _read_url(url_or_path)
    engine = _sqlite(url, create) if url.get_backend_name() == "sqlite" else _postgres(url)
    try:
        with engine.connect() as connection:
            _bring_up_to_date(connection, _place(url), create, MIGRATIONS)
    except BaseException:
        engine.dispose()
        raise
    return engine


def _read_url(url_or_path: str | os.PathLike[str]) -> URL:
    text = os.fspath(url_or_path)
    if "://" not in text:
        return URL.create("sqlite", database=str(Path(text).absolute()))
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):  # neither text is shown: it may hold a password
        raise StoreError("the URL of the store cannot be read. " + _FORMS) from None
    if url.drivername == "sqlite" and url.database and url.database != ":memory:":
        return url.set(database=str(Path(url.database).absolute()))
    if url.drivername in ("postgresql", "postgresql+psycopg") and url.database:
        return url.set(drivername="postgresql+psycopg")
    raise StoreError(f"{url.drivername!r} with this database keeps no store. {_FORMS}")


_FORMS = "Write FILE, sqlite:///FILE or postgresql://USER:PASSWORD@HOST:PORT/DATABASE"


def _place(url: URL) -> str:
    """Return the database as messages name it: without its password, or a query that may hold one."""
    if url.get_backend_name() == "sqlite":
        return str(url.database)
    return url.set(drivername="postgresql", query={}).render_as_string()


def _sqlite(url: URL, create: bool) -> Engine:
    path = Path(str(url.database))
    if not create and not path.exists():
        raise _no_store(str(path))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{path}: its folder cannot be made: {error.strerror}. Name another") from error
    if os.statvfs(path.parent).f_flag & os.ST_RDONLY:
        engine = create_engine("sqlite://", creator=lambda: _connect_reading(path), poolclass=NullPool)
    else:
        # Without an isolation level the driver begins no transaction by itself: we do, each of its kind.
        engine = create_engine(url, max_overflow=-1, connect_args={"isolation_level": None})
        event.listen(engine, "connect", _set_pragmas)
    event.listen(engine, "handle_error", _explaining(str(path), _sqlite_fault))
    return engine


def _set_pragmas(connection: Any, _: object) -> None:  # noqa: ANN401 - a connection of the driver
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")


def _connect_reading(path: Path) -> sqlite3.Connection:
    """Connect on a file system that is mounted read-only, where SQLite cannot make the files of its log.

    Those of somebody who writes through another mount are read; while nobody does, there are none. Each
    connection looks anew, and is not kept.
    """
    log = path.with_name(f"{path.name}-wal")
    mode = "mode=ro" if log.exists() else "immutable=1"
    place = f"file:{quote(str(path))}?{mode}"
    connection = sqlite3.connect(place, uri=True, isolation_level=None, check_same_thread=False)
    for pragma in _READING:
        connection.execute(f"PRAGMA {pragma}")
    return connection


def _postgres(url: URL) -> Engine:
    try:
        engine = create_engine(url, max_overflow=-1, pool_pre_ping=True, isolation_level="READ COMMITTED")
    except ImportError as error:
        raise MissingExtraError("PostgreSQL", "postgres") from error
    event.listen(engine, "handle_error", _explaining(_place(url), _postgres_fault))
    return engine


# --- faults ---------------------------------------------------------------------------------------

_DISK_FULL = "the disk is full. Free some space; the last change was not kept"
_LOCKED = f"somebody else has been writing for {_WAIT} seconds. Try again when that has ended"
_READ_ONLY = "cannot be written to. Check the permissions of this user"
_SQLITE_FAULTS = {
    sqlite3.SQLITE_NOTADB: "is no SQLite database. Name another file",
    sqlite3.SQLITE_CORRUPT: "is damaged. Restore a copy, or load the catalogue into a new store",
    sqlite3.SQLITE_FULL: _DISK_FULL,
    sqlite3.SQLITE_BUSY: _LOCKED,
    sqlite3.SQLITE_READONLY: _READ_ONLY,
    sqlite3.SQLITE_PERM: _READ_ONLY,
    sqlite3.SQLITE_CANTOPEN: "cannot be opened. Check that this user may write in its folder",
}
_POSTGRES_FAULTS = {
    "53100": _DISK_FULL,
    "55P03": _LOCKED,
    "25006": _READ_ONLY,
    "42501": _READ_ONLY,
}


def _sqlite_fault(error: BaseException) -> str:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # without its extension
    return _SQLITE_FAULTS.get(code, f"SQLite reports: {error}. Check the disk and the file")


def _postgres_fault(error: BaseException) -> str:
    first = next(iter(str(error).splitlines()), type(error).__name__)
    known = _POSTGRES_FAULTS.get(getattr(error, "sqlstate", None) or "")
    return known or f"PostgreSQL reports: {first}. Check that the server runs, and the URL"


def _explaining(
    place: str, fault: Callable[[BaseException], str]
) -> Callable[[ExceptionContext], StoreError | None]:
    def explain(context: ExceptionContext) -> StoreError | None:
        known = context.sqlalchemy_exception is not None  # else it is no error of the database
        return StoreError(f"{place}: {fault(context.original_exception)}") if known else None

    return explain


def _no_store(place: str) -> StoreError:
    return StoreError(f"{place}: there is no store. Load a catalogue into it first, or name another")


# --- transactions ---------------------------------------------------------------------------------


def begin_writing(connection: Connection) -> None:
    """Begin a transaction that writes; in SQLite it waits for others now, in PostgreSQL at a lock."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{_WAIT}s'")


def begin_snapshot(connection: Connection) -> None:
    """Begin a transaction that sees one state of the database: that of its first query."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN")
    else:
        connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)


# --- schema ---------------------------------------------------------------------------------------

_VALUE = select(META.c.value).where(META.c.key == bindparam("key"))
_LOCKED_VALUE = _VALUE.with_for_update()
_SET_VALUE = update(META).where(META.c.key == bindparam("name")).values(value=bindparam("new"))


def read_meta(connection: Connection, key: str, *, lock: bool = False) -> str:
    """Return a value; with `lock`, other transactions in PostgreSQL that lock it wait for the end of this."""
    return str(connection.execute(_LOCKED_VALUE if lock else _VALUE, {"key": key}).scalar_one())


def write_meta(connection: Connection, values: dict[str, object]) -> None:
    """Replace values of the store."""
    connection.execute(_SET_VALUE, [{"name": key, "new": str(value)} for key, value in values.items()])


def _bring_up_to_date(
    connection: Connection, place: str, create: bool, migrations: Sequence[Migration]
) -> None:
    newest = 1 + len(migrations)
    version = _version(connection)
    connection.rollback()
    if version != newest:
        begin_writing(connection)
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_CREATION_LOCK})")
        version = _version(connection)  # another process may have been faster
        if version is None:
            _create(connection, place, create, newest)
        elif version > newest:
            raise StoreError(
                f"{place}: has version {version} of the store, and this program knows versions up to "
                f"{newest}. Upgrade Tilth"
            )
        else:
            for migrate in migrations[version - 1 :]:
                migrate(connection)
            write_meta(connection, {"schema_version": newest})
        connection.commit()


def _version(connection: Connection) -> int | None:
    if not inspect(connection).has_table(META.name):
        return None
    return int(read_meta(connection, "schema_version"))


def _create(connection: Connection, place: str, create: bool, version: int) -> None:
    if not create:
        raise _no_store(place)
    if connection.dialect.name == "sqlite" and inspect(connection).get_table_names():
        raise StoreError(f"{place}: is a database of another program. Name another file")
    _SCHEMA.create_all(connection)
    values = {"schema_version": version, "store_id": uuid4(), **_COUNTERS}
    connection.execute(insert(META), [{"key": key, "value": str(value)} for key, value in values.items()])
