"""An index folder: immutable generations, the manifest of each, and the switch from one to the next.

DIR/current                 {"generation": 3, "manifest": XXH3-128}: replaced in one step, the switch
DIR/generations/3/          manifest.json and the files that it lists with their checksums
DIR/lock                    held while a generation is being built or adopted

Who reads a generation holds a shared lock on its manifest; a generation that is not the current one is
removed as soon as nobody holds one. The system releases locks when a process ends, however it ends.
"""

import errno
import fcntl
import logging
import os
import re
import shutil
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import filelock
import orjson
import xxhash

from tilth.errors import IndexFormatError, IndexLockedError, IndexWriteError, InputError, TilthError
from tilth.files import move_durably, replacing

FORMAT = "tilth-index"
FORMAT_VERSION = 4
MANIFEST = "manifest.json"
_CURRENT = "current"
_GENERATIONS = "generations"
_ASIDE = ".building-"
_NUMBER = re.compile(r"\d+$")
_OURS = frozenset(
    {_CURRENT, _GENERATIONS, "lock", "rejected.jsonl", "fusion.json", "vectors", "released", "releases"}
    | {"feedback", "store.sqlite", "store.sqlite-wal", "store.sqlite-shm", "store.sqlite-journal"}
    | {"training", "candidate", "candidate.lock", "encoders"}
)
_LOCK_SECONDS = 1.0  # that a builder waits for a sweep
_BUILD_SECONDS = 3_600.0  # that who adopts a generation, which took as long to make, waits for a builder
_BLOCK = 1 << 22  # bytes hashed at a time

_FULL = "the disk is full. Free some space, then try again"
_REFUSED = "cannot be written to. Check the permissions of this user, and how the disk is mounted"
# By what the system calls the fault: every library passes these words on, few the number.
_FAULTS = {
    os.strerror(errno.ENOSPC): _FULL,
    os.strerror(errno.EDQUOT): "this user's share of the disk is full. Free some space, then try again",
    os.strerror(errno.EROFS): _REFUSED,
    os.strerror(errno.EACCES): _REFUSED,
    os.strerror(errno.EPERM): _REFUSED,
    os.strerror(errno.EIO): "the disk reports an error. Check it",
    " requested and ": _FULL,  # numpy: how much it wanted to write and could
    "index writer was killed": "tantivy cannot write, most likely because " + _FULL,
}

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Generation:
    """One generation: its folder, number and manifest, and the checksum that the manifest must have.

    `held` keeps it from being removed while the object lives.
    """

    folder: Path
    number: int
    manifest: dict[str, Any]
    checksum: str
    held: "Held"


class Held:
    """A file that is open, and so locked, until `close` or as long as this object lives."""

    def __init__(self, file: IO[bytes]) -> None:
        self.close = weakref.finalize(self, file.close)


@contextmanager
def new_generation(into: Path) -> Iterator[Path]:
    """Give an empty folder to build in; when the block ends well, seal it and switch to it.

    If the block raises, Ctrl-C included, the folder is removed and the index stays as it was.

    Args:
        into: the index folder; created if it is not there.

    Yields:
        The folder. It must hold `manifest.json` fields written by `write_manifest` at the end of the block.

    Raises:
        InputError: `into` is a file, or a folder that holds something else.
        IndexLockedError: another process builds into it.
        IndexWriteError: it cannot be written to.
    """
    claim(into)
    with _next_generation(into, _LOCK_SECONDS) as aside:
        aside.mkdir(parents=True)
        yield aside


@contextmanager
def adopting(into: Path, other: Path) -> Iterator[Generation]:
    """Make the generation of another index folder the next one here: moved and switched to as the block ends.

    The block runs while nobody builds here. If it raises, the index stays as it was, and so it does if the
    process is killed before the switch; the other folder is of no use then.

    Args:
        into: an index folder with a generation.
        other: the other one, on the same disk; nobody else uses it.

    Yields:
        The current generation, which nobody replaces meanwhile.

    Raises:
        IndexFormatError: there is no generation here, or that of the other folder is damaged.
        IndexLockedError: another process builds into the folder, and does not end.
        IndexWriteError: it cannot be written to.
    """
    generation = open_generation(other)
    with _next_generation(into, _BUILD_SECONDS) as aside:
        yield open_generation(into, checksums=False)
        generation.folder.rename(aside)


@contextmanager
def _next_generation(into: Path, patience: float) -> Iterator[Path]:
    """Name the folder that is switched to if the block ends well, and that is removed if it does not."""
    with explaining_faults(into), _locked(into, patience):
        number = max(_numbers(into), default=0) + 1
        _remove_left_overs(into)
        aside = into / _GENERATIONS / f"{_ASIDE}{number}"
        try:
            yield aside
            _switch(into, aside, number)
        finally:
            shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def _locked(into: Path, patience: float) -> Iterator[None]:
    lock = filelock.FileLock(into / "lock")
    try:
        lock.acquire(timeout=patience)
    except filelock.Timeout as error:
        raise IndexLockedError(
            f"{into}: another process is building into this folder. Wait for it, or build into another"
        ) from error
    try:
        yield
    finally:
        lock.release()


def is_being_built(into: Path) -> bool:
    """Tell whether a generation is being built into an index folder at this moment."""
    try:
        with filelock.FileLock(into / "lock", timeout=0):
            return False
    except filelock.Timeout:
        return True
    except OSError:  # read-only: nobody builds through this mount
        return False


@contextmanager
def explaining_faults(into: Path) -> Iterator[None]:
    """Raise what goes wrong while a block writes into an index folder as an error for the user.

    Args:
        into: the index folder.

    Yields:
        Nothing.

    Raises:
        IndexWriteError: the disk is full, read-only or broken, whichever library has met it.
    """
    try:
        yield
    except TilthError:
        raise
    except Exception as error:  # tantivy raises ValueErrors, faiss RuntimeErrors, safetensors its own
        fault = next((fault for words, fault in _FAULTS.items() if words in str(error)), None)
        if fault is None or _is_of_another(into, error):
            raise
        raise IndexWriteError(f"{into}: {fault}") from error


def _is_of_another(into: Path, error: Exception) -> bool:
    """Tell whether an error names files, and none of them in the folder."""
    names = (error.filename, error.filename2) if isinstance(error, OSError) else ()
    named = [Path(str(name)) for name in names if name]
    return bool(named) and not any(path.is_relative_to(into) for path in named)


def claim(into: Path) -> None:
    """Make sure that a folder is an index folder or empty: nobody's files are ever mixed with an index.

    Args:
        into: the folder; created if it is not there.

    Raises:
        InputError: it is a file, holds something else, or cannot be made.
    """
    if into.is_dir():
        names = (entry.name for entry in into.iterdir())
        strange = sorted(name for name in names if name not in _OURS and not name.endswith(".part"))
        if strange:
            raise InputError(
                f"is not an index folder: it holds {', '.join(strange[:3])}",
                path=into,
                remedy="Name an empty or a new folder",
            )
        return
    try:
        into.mkdir(parents=True)
    except OSError as error:
        raise InputError(f"cannot be made a folder: {error.strerror}", path=into) from error


def _numbers(into: Path) -> list[int]:
    folder = into / _GENERATIONS
    names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    return sorted(int(name) for name in names if _NUMBER.match(name))


def _remove_left_overs(into: Path) -> None:
    """Remove what a killed build left; the lock says that nobody is at it."""
    for folder in (into / _GENERATIONS).glob(f"{_ASIDE}*"):
        shutil.rmtree(folder)
    for file in into.glob(f".{_CURRENT}.*.part"):
        file.unlink()


def _switch(into: Path, aside: Path, number: int) -> None:
    """Make the new generation durable, then the current one; remove those that nobody reads."""
    manifest = _checksum(aside / MANIFEST)
    move_durably(aside, into / _GENERATIONS / str(number))
    with replacing(into / _CURRENT) as file:
        file.write(orjson.dumps({"generation": number, "manifest": manifest}))
    remove_unread(into, keep=number)


def sweep(into: Path) -> bool:
    """Remove generations that were replaced and that no process reads any more; do nothing beside a build.

    Args:
        into: the index folder.

    Returns:
        Whether the current generation is the only one left.
    """
    if len(_numbers(into)) < 2:
        return True
    try:
        with filelock.FileLock(into / "lock", timeout=0):
            remove_unread(into, keep=current_number(into))
    except (filelock.Timeout, OSError):  # somebody builds, or the folder is read-only
        return False
    return len(_numbers(into)) < 2


def remove_unread(into: Path, *, keep: int) -> None:
    """Remove every generation but one that no process reads.

    A folder is renamed before its files go, so that what a kill leaves is removed by the next build.

    Args:
        into: the index folder, whose lock the caller holds.
        keep: the current generation.
    """
    for number in _numbers(into):
        folder = into / _GENERATIONS / str(number)
        if number != keep and _set_aside(folder):
            shutil.rmtree(folder.with_name(f"{_ASIDE}{number}"))


def _set_aside(folder: Path) -> bool:
    """Rename the folder of a generation that nobody reads; tell whether it was one."""
    with (folder / MANIFEST).open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        folder.rename(folder.with_name(f"{_ASIDE}{folder.name}"))
    return True


def write_manifest(folder: Path, facts: dict[str, Any]) -> dict[str, Any]:
    """Write the manifest: the facts, the format and the size and XXH3-128 of every file in the folder."""
    files = {
        str(path.relative_to(folder)): {"bytes": path.stat().st_size, "xxh3": _checksum(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith(".lock")
    }
    manifest = {"format": FORMAT, "format_version": FORMAT_VERSION, **facts, "files": files}
    (folder / MANIFEST).write_bytes(orjson.dumps(manifest, option=orjson.OPT_INDENT_2))
    return manifest


def _checksum(path: Path) -> str:
    """Return XXH3-128 of a file: against damage, not against forgery, and as fast as it can be read."""
    checksum = xxhash.xxh3_128()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            checksum.update(block)
    return checksum.hexdigest()


def current_number(path: Path) -> int:
    """Return the number of the current generation: cheap enough to be asked several times a second."""
    return _current(path)[0]


def _current(path: Path) -> tuple[int, str]:
    current = _read_json(path / _CURRENT)
    number = current.get("generation")
    if not isinstance(number, int):
        raise IndexFormatError(f"{path / _CURRENT}: names no generation. Build the index again")
    return number, str(current.get("manifest"))


def open_generation(path: Path, *, checksums: bool = True) -> Generation:
    """Return the current generation after verifying format, version, sizes and checksums.

    Args:
        path: the index folder.
        checksums: read every file; without it, only the manifest is verified.

    Returns:
        The generation, held against removal as long as the object lives.

    Raises:
        IndexFormatError: no index is there, or it is foreign, newer, older or damaged; names the file.
    """
    if not path.is_dir():
        raise IndexFormatError(f"{path}: no index there. Build one: tilth index CATALOGUE --into {path}")
    generation = _hold_current(path)
    manifest = generation.manifest
    if manifest.get("format") != FORMAT:
        raise IndexFormatError(f"{generation.folder}: not a Tilth index (format {manifest.get('format')!r})")
    version = manifest.get("format_version")
    if version != FORMAT_VERSION:
        age = "newer" if isinstance(version, int) and version > FORMAT_VERSION else "older"
        raise IndexFormatError(
            f"{generation.folder}: format version {version}, {age} than this program's {FORMAT_VERSION}. "
            + ("Upgrade Tilth" if age == "newer" else "Build the index again")
        )
    if _checksum(generation.folder / MANIFEST) != generation.checksum:
        raise IndexFormatError(f"{generation.folder / MANIFEST}: has a wrong checksum. Build the index again")
    if checksums:
        verify_files(generation)
    return generation


def verify_files(generation: Generation, *beginnings: str) -> None:
    """Verify the size and checksum of files.

    Args:
        generation: an opened one.
        *beginnings: of the names of the files, as the manifest lists them; none verifies every file.

    Raises:
        IndexFormatError: one is damaged; names it.
    """
    for name, facts in generation.manifest["files"].items():
        if name.startswith(beginnings or ("",)):
            _verify(generation.folder / name, facts)


def is_sound(generation: Generation, *beginnings: str) -> bool:
    """Tell whether `verify_files` finds no damage; it is logged, for whoever goes on without the files."""
    try:
        verify_files(generation, *beginnings)
    except IndexFormatError as error:
        _log.warning("%s", error)
        return False
    return True


def _hold_current(path: Path) -> Generation:
    """Hold the current generation; where another replaces it in this very moment, that one."""
    while True:
        if not (path / _CURRENT).is_file():
            raise IndexFormatError(
                f"{path}: not an index (no file 'current'), or its first build did not end"
            )
        number, checksum = _current(path)
        folder = path / _GENERATIONS / str(number)
        held = _shared_lock(folder / MANIFEST)
        if held is not None:
            return Generation(folder, number, _read_json(folder / MANIFEST), checksum, held)
        if number == current_number(path):
            raise IndexFormatError(f"{folder / MANIFEST}: cannot be read. Build the index again")


def _shared_lock(manifest: Path) -> Held | None:
    """Return what holds the opened and locked file; None if it is gone, or about to go."""
    try:
        file = manifest.open("rb")
    except OSError:
        return None
    held = Held(file)
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return None
    return held if manifest.is_file() else None


def _verify(path: Path, facts: dict[str, Any]) -> None:
    damage = None
    if not path.is_file():
        damage = "is missing"
    elif path.stat().st_size != facts["bytes"]:
        damage = f"has {path.stat().st_size} bytes instead of {facts['bytes']}"
    elif _checksum(path) != facts["xxh3"]:
        damage = "has a wrong checksum"
    if damage:
        raise IndexFormatError(f"{path}: the index is damaged: the file {damage}. Build the index again")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = orjson.loads(path.read_bytes())
    except OSError as error:
        raise IndexFormatError(f"{path}: cannot be read: {error.strerror}. Build the index again") from error
    except orjson.JSONDecodeError as error:
        raise IndexFormatError(f"{path}: is damaged ({error}). Build the index again") from error
    if not isinstance(content, dict):
        raise IndexFormatError(f"{path}: is damaged (no JSON object). Build the index again")
    return content
