"""Backups of an index folder with its store, made beside searches, writes and builds; and their return.

BACKUP/backup.json   time, sequence numbers, size and XXH3-128 of each other file, and a checksum of all this
BACKUP/...           the files of an index folder, under their names there

The generation is held first, as a reader holds it, and the store is copied last: so the store of a backup is
never behind its index, and a restored index catches up as any other does. A backup and a restored folder are
made aside and renamed, so a killed process leaves none or all of it.
"""

import fcntl
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any

import orjson
import xxhash
from sqlalchemy import URL

from tilth.errors import IndexFormatError, IndexWriteError, InputError, StoreError, TilthError, shorten
from tilth.files import sync_folder
from tilth.releases import HISTORY, RELEASED, RELEASES, open_release
from tilth.retrieval.generations import MANIFEST, Generation, explaining_faults, open_generation, sweep
from tilth.retrieval.index import check_store, open_store
from tilth.store import Store

_FORMAT = "tilth-backup"
_FORMAT_VERSION = 1
_BACKUP_FILE = "backup.json"
_STORE_FILE = "store.sqlite"
_ASIDE = ".tilth-part"
_BLOCK = 1 << 22  # bytes read at a time
Facts = Mapping[str, Any]  # of a file: bytes and xxh3


@dataclass(frozen=True, slots=True)
class Report:
    """What a backup holds.

    `database` is empty where the store is in the backup; else it names the PostgreSQL database, without its
    password, that has to be saved after the index.
    """

    folder: Path
    created: datetime
    generation: int
    built_at: int  # the last change that the generation holds
    store_id: str
    sequence: int  # the last change that the store held
    products: int
    database: str
    files: int
    bytes: int
    linked: int  # of the bytes: in files that the index folder has, too
    damaged: tuple[str, ...]  # what is wrong with releases, which were saved as they are


def back_up(index: Path, into: Path, store_url: str | None = None) -> Report:
    """Save an index folder and its store; whoever searches, writes or builds goes on meanwhile.

    Every change that was acknowledged before the call is in the backup. Files that never change are linked
    where the file system allows it: such a backup needs little space, and helps against a broken disk only
    once it has been copied to another.

    Args:
        index: the index folder.
        into: a folder that does not exist or is empty; it is there, whole, at the end.
        store_url: of the store; None: the SQLite file in the index folder. PostgreSQL is left to pg_dump.

    Returns:
        What was saved.

    Raises:
        IndexFormatError: there is no index, its generation is damaged, or the store is another's.
        IndexWriteError: the folder cannot be written to.
        InputError: `into` holds something, lies in the index folder, or cannot be made.
        StoreError: the store cannot be read or is damaged.
    """
    if into.resolve().is_relative_to(index.resolve()):
        raise InputError("lies in the index folder", path=into, remedy="Name a folder outside it")
    generation = open_generation(index, checksums=False)
    with closing(generation.held), open_store(index, store_url, create=False) as store:
        check_store(generation, store)
        with _appearing(into) as aside:
            copy = _Copy(aside)
            built, damaged = _save_generation(copy, generation), _save_releases(copy, index)
            _save_feedback(copy, index)
            state = {"index": built, "store": _save_store(copy, store), "damaged": damaged}
            content = {"created": datetime.now(UTC).isoformat(), **state, "files": dict(copy.files)}
            copy.write(_BACKUP_FILE, [_manifest(content)])
    sweep(index)  # it may have been replaced, and held by this process alone
    return _report(into, content, copy.linked)


def restore(backup: Path, into: Path) -> Report:
    """Make an index folder of a backup, which stays as it is; nothing is shared between them.

    Args:
        backup: the folder of a backup.
        into: a folder that does not exist or is empty; it is there, whole, once every byte was verified.

    Returns:
        What was restored.

    Raises:
        IndexFormatError: the backup is damaged, of a newer version, or none; names the file.
        IndexWriteError: the folder cannot be written to.
        InputError: `into` holds something or cannot be made.
    """
    content = _read_manifest(backup)
    files: Mapping[str, Facts] = content["files"]
    for path, facts in ((backup / name, facts) for name, facts in files.items()):
        if not path.is_file() or path.stat().st_size != facts["bytes"]:
            raise _damaged(path, f"is missing, or has not its {facts['bytes']} bytes")
    with _appearing(into) as aside:
        copy = _Copy(aside)
        for name, facts in files.items():
            if copy.write(name, _blocks(backup / name)) != facts:
                raise _damaged(backup / name, "has a wrong checksum")
    return _report(into, content, linked=0)


# --- what is saved --------------------------------------------------------------------------------


class _Copy:
    """Fills a folder that nobody sees yet; keeps the size and checksum of each file."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.files, self.linked = folder, dict[str, Facts](), 0

    def write(self, name: str, blocks: Iterable[bytes]) -> Facts:
        """Write a file durably."""
        checksum = xxhash.xxh3_128()
        with self._new(name).open("xb") as file:
            for block in blocks:
                checksum.update(block)
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
            self.files[name] = {"bytes": file.tell(), "xxh3": checksum.hexdigest()}
        return self.files[name]

    def link(self, name: str, source: Path) -> Facts:
        """Link a file that never changes, or copy it where it cannot be linked: to another disk, for one."""
        try:
            os.link(source, self._new(name))
        except OSError:
            return self.write(name, _blocks(source))
        facts = self.add(name)
        self.linked += facts["bytes"]
        return facts

    def add(self, name: str) -> Facts:
        """Take note of a file that is in the folder, and make it durable."""
        path, checksum = self.folder / name, xxhash.xxh3_128()
        for block in _blocks(path):
            checksum.update(block)
        with path.open("rb") as file:
            os.fsync(file.fileno())
        self.files[name] = {"bytes": path.stat().st_size, "xxh3": checksum.hexdigest()}
        return self.files[name]

    def _new(self, name: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


def _blocks(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                yield block
    except OSError as error:
        raise IndexFormatError(f"{path}: cannot be read: {error.strerror}. Check its permissions") from error


def _content(path: Path) -> bytes | None:
    """Return what is in a file; None: it is not there."""
    return b"".join(_blocks(path)) if path.is_file() else None


def _save_generation(copy: _Copy, generation: Generation) -> dict[str, int]:
    """Save the generation, and verify it on the way; its manifest is copied, since readers lock it."""
    place = f"generations/{generation.number}"
    for name, facts in generation.manifest["files"].items():
        if copy.link(f"{place}/{name}", generation.folder / name) != facts:
            raise IndexFormatError(
                f"{generation.folder / name}: the index is damaged: the file has another size or checksum. "
                "Replace the generation first: tilth compact"
            )
    copy.write(f"{place}/{MANIFEST}", _blocks(generation.folder / MANIFEST))
    current = {"generation": generation.number, "manifest": generation.checksum}
    copy.write("current", [orjson.dumps(current)])
    return {"generation": generation.number, "built_at": generation.manifest["store"]["sequence"]}


def _save_releases(copy: _Copy, index: Path) -> tuple[str, ...]:
    """Save what is in force before the releases, so that the one in force is among them."""
    released, history = _in_force(index)
    if released is not None:
        copy.write(RELEASED, [released])
    if history is not None:
        copy.write(f"{RELEASES}/{HISTORY}", [history])
    damage = []
    for folder in sorted(path for path in (index / RELEASES).glob("[!.]*") if path.is_dir()):
        try:
            open_release(index, folder.name)
        except TilthError as error:
            damage.append(str(error))
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            copy.link(str(path.relative_to(index)), path)
    for name in ("fusion.json", "rejected.jsonl"):
        if (index / name).is_file():
            copy.write(name, _blocks(index / name))
    return tuple(damage)


def _in_force(index: Path) -> tuple[bytes | None, bytes | None]:
    """Return what names the release in force, and the history, as they were at one moment."""
    while True:
        released = _content(index / RELEASED)
        history = _content(index / RELEASES / HISTORY)
        if released == _content(index / RELEASED):
            return released, history


def _save_feedback(copy: _Copy, index: Path) -> None:
    """Save what waits for the store; what is gone before it was read is in the store, which comes after."""
    for path in sorted((index / "feedback").glob("*.jsonl")):
        with suppress(FileNotFoundError):
            copy.write(str(path.relative_to(index)), [path.read_bytes()])


def _save_store(copy: _Copy, store: Store) -> dict[str, Any]:
    """Save an SQLite store; of another, return what there is to be known."""
    if store.engine.dialect.name == "sqlite":
        _copy_sqlite(store, copy.folder / _STORE_FILE)
        copy.add(_STORE_FILE)
        with closing(sqlite3.connect(copy.folder / _STORE_FILE)) as connection:
            meta = dict(connection.execute("SELECT key, value FROM tilth_meta"))
        database, sequence, products = "", int(meta["sequence"]), int(meta["live"])
    else:
        url = store.engine.url
        place = URL.create("postgresql", url.username, None, url.host, url.port, url.database)
        with store.snapshot() as snapshot:
            database, sequence, products = str(place), snapshot.sequence, snapshot.count
    return {"database": database, "store_id": store.store_id, "sequence": sequence, "products": products}


def _copy_sqlite(store: Store, to: Path) -> None:
    """Copy a SQLite store as it is at one moment, without holding up its writers.

    `VACUUM INTO` reads one state; copying some pages at a time begins again at each write, and beside a
    busy writer never ends. Nor does it copy pages of what was deleted, such as forgotten feedback.
    """
    try:
        with store.engine.connect() as connection:
            driver: Any = connection.connection.driver_connection
            driver.execute("VACUUM INTO ?", (str(to),))
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL:
            raise IndexWriteError(f"{to.parent.parent}: the disk is full. Free some space") from error
        place = store.engine.url.database
        raise StoreError(f"{place}: cannot be saved: SQLite reports: {error}. Check the disk") from error


# --- the manifest ---------------------------------------------------------------------------------


def _manifest(content: Mapping[str, Any]) -> bytes:
    program = {"format": _FORMAT, "format_version": _FORMAT_VERSION, "tilth": version("tilth")}
    sealed = {**program, **content}
    return orjson.dumps({**sealed, "xxh3": _seal(sealed)}, option=orjson.OPT_INDENT_2)


def _read_manifest(backup: Path) -> dict[str, Any]:
    file = backup / _BACKUP_FILE
    text = _content(file)
    if text is None:
        raise IndexFormatError(f"{backup}: not a backup (no file {_BACKUP_FILE}). Name another folder")
    try:
        content = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise _damaged(file, str(error)) from error
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise _damaged(file, "is none of a backup")
    if content.pop("xxh3", None) != _seal(content):
        raise _damaged(file, "has a wrong checksum")
    if content["format_version"] != _FORMAT_VERSION:
        raise IndexFormatError(
            f"{file}: format version {shorten(content['format_version'])}, this program restores "
            f"{_FORMAT_VERSION}. Upgrade Tilth"
        )
    for path in map(PurePosixPath, content["files"]):
        if path.is_absolute() or ".." in path.parts or not path.parts:
            raise _damaged(file, f"names {shorten(str(path))}, outside the backup")
    return content


def _seal(content: Mapping[str, Any]) -> str:
    return xxhash.xxh3_128(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _damaged(path: Path, damage: str) -> IndexFormatError:
    return IndexFormatError(f"{path}: the backup is damaged: the file {damage}. Restore another backup")


def _report(folder: Path, content: Mapping[str, Any], linked: int) -> Report:
    files = content["files"].values()
    return Report(
        folder=folder,
        created=datetime.fromisoformat(content["created"]),
        **content["index"],
        **content["store"],
        files=len(files),
        bytes=sum(facts["bytes"] for facts in files),
        linked=linked,
        damaged=tuple(content["damaged"]),
    )


# --- a folder that appears at once ----------------------------------------------------------------


@contextmanager
def _appearing(into: Path) -> Iterator[Path]:
    """Give a folder to fill, which becomes `into` in one step when the block ends well."""
    target = into.resolve()
    _check_free(target, into)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot be made a folder: {error.strerror}", path=into) from error
    with explaining_faults(target.parent), _aside(target) as aside:
        yield aside
        for folder in filter(Path.is_dir, aside.rglob("*")):
            sync_folder(folder)
        sync_folder(aside)
        _check_free(target, into)
        aside.rename(target)
        sync_folder(target.parent)


def _check_free(target: Path, into: Path) -> None:
    """Refuse a folder that holds something; an empty one is replaced."""
    if target.exists() and not target.is_dir():
        raise InputError("is a file", path=into, remedy="Name a folder that does not exist")
    if target.is_mount():
        raise InputError("is a file system of its own", path=into, remedy="Name a new folder in it")
    if target.is_dir() and any(target.iterdir()):
        raise InputError("is not empty", path=into, remedy="Name a folder that does not exist or is empty")


@contextmanager
def _aside(target: Path) -> Iterator[Path]:
    """Make a folder beside another, locked while this process lives; remove what killed ones left there."""
    with ExitStack() as stack:
        with _locked(target.parent, fcntl.LOCK_EX):
            for left in target.parent.glob(f".*{_ASIDE}"):
                _remove_left_over(left)
            aside = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=_ASIDE, dir=target.parent))
            stack.callback(shutil.rmtree, aside, ignore_errors=True)
            stack.enter_context(_locked(aside))
        yield aside


def _remove_left_over(folder: Path) -> None:
    with suppress(FileNotFoundError), _locked(folder) as nobody_fills_it:
        if nobody_fills_it:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _locked(folder: Path, how: int = fcntl.LOCK_EX | fcntl.LOCK_NB) -> Iterator[bool]:
    """Lock a folder during a block; give whether it could be: some network file systems have no locks."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, how)
        locked = True
    except OSError:
        locked = False
    try:
        yield locked
    finally:
        os.close(handle)
