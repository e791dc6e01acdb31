"""Releases: immutable bundles of a fusion, a reranker and the numbers that speak for it; which is in force.

DIR/released                 {"release": "r2", "before": ["r1"], "number": 2}: replaced in one step
DIR/releases/r2/             release.json, with the checksums of the files beside it: evidence.json and, where
                             they were handed in, reranker/, calibration.json and report.html
DIR/releases/history.jsonl   a line for each promotion and rollback: see `tilth.promotions`
DIR/releases/lock            held while a release is written or switched to

A release is written aside and renamed, so a killed process leaves none or all of it.
"""

import hashlib
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import filelock
import orjson
import xxhash

from tilth.errors import IndexFormatError, IndexLockedError, InputError, shorten
from tilth.files import replacing, sync_folder
from tilth.retrieval.fusion import Fusion
from tilth.retrieval.generations import Generation, explaining_faults, open_generation

HYBRID = "hybrid"  # what is in force where no release is
RELEASED = "released"
RELEASES = "releases"
HISTORY = "history.jsonl"
_FORMAT = "tilth-release"
_FORMAT_VERSION = 1
_RERANKER = "reranker"
_RELEASE_FILE = "release.json"
_CALIBRATION = "calibration.json"
_EVIDENCE = "evidence.json"
_REPORT = "report.html"
_ASIDE = ".proposing-"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_NUMBERED = re.compile(r"r(\d+)")
_TAKEN = frozenset({HYBRID, "lock", HISTORY})
_LOCK_SECONDS = 10.0  # longer than any process holds it


@dataclass(frozen=True, slots=True)
class Release:
    """One release: what it is made of, and the generation of the index that it was measured on."""

    folder: Path
    name: str
    created: datetime
    generation: int
    manifest: str  # XXH3-128 of that generation's manifest
    fusion: Fusion
    files: Mapping[str, Mapping[str, Any]]  # name -> bytes and xxh3

    @property
    def reranker(self) -> Path | None:
        """The folder of the reranker's files; None: the fusion alone."""
        found = any(name.startswith(f"{_RERANKER}/") for name in self.files)
        return self.folder / _RERANKER if found else None

    @property
    def report(self) -> Path | None:
        """The page about the training, if one was handed in."""
        return self.folder / _REPORT if _REPORT in self.files else None

    def calibration(self) -> dict[str, Any] | None:
        """Return the calibration, if one was handed in."""
        return _read_json(self.folder / _CALIBRATION) if _CALIBRATION in self.files else None

    def evidence(self) -> dict[str, Any]:
        """Return the evaluation that the release was proposed with."""
        return _read_json(self.folder / _EVIDENCE)


@dataclass(frozen=True, slots=True)
class InForce:
    """The release in force and the number of the switch to it.

    `before` are the releases that rollbacks return to, the next one last; below them is the plain hybrid.
    """

    name: str | None
    before: tuple[str, ...]
    number: int


def current_name(into: Path) -> str | None:
    """Return the name of the release in force: cheap enough to be asked several times a second.

    Args:
        into: the index folder.

    Returns:
        The name; None: no release is in force, and the plain hybrid answers.

    Raises:
        IndexFormatError: the file that names it is damaged.
    """
    at = read_released(into)
    return None if at is None else at.name


def current(into: Path) -> Release | None:
    """Return the release in force after verifying every file of it.

    Args:
        into: the index folder.

    Returns:
        The release; None: the plain hybrid answers.

    Raises:
        IndexFormatError: the release, or the file that names it, is damaged, or it is not there.
    """
    name = current_name(into)
    if name is not None and name not in _names(into):
        raise IndexFormatError(
            f"{into / RELEASED}: names the release {name}, which is not there. Return to the one before: "
            f"tilth release rollback {into}"
        )
    return None if name is None else open_release(into, name)


def read_released(into: Path) -> InForce | None:
    """Return what the file that names the release in force says; None: there is no such file.

    Args:
        into: the index folder.

    Returns:
        The release in force, and those before it.

    Raises:
        IndexFormatError: the file is damaged.
    """
    file = into / RELEASED
    try:
        content = orjson.loads(file.read_bytes())
        name = content["release"]
        at = InForce(name if name is None else str(name), tuple(content["before"]), int(content["number"]))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise IndexFormatError(f"{file}: cannot be read: {error.strerror}. Check its permissions") from error
    except (ValueError, TypeError, KeyError) as error:
        raise IndexFormatError(
            f"{file}: is damaged. Restore it from the history: tilth release repair {into}"
        ) from error
    return at


def releases(into: Path) -> list[Release]:
    """Return all releases of an index folder, the oldest first; their other files are not verified.

    Args:
        into: the index folder.

    Returns:
        The releases; those that are being written are not among them.

    Raises:
        IndexFormatError: the `release.json` of one is damaged.
    """
    found = [_read_release(into / RELEASES / name) for name in _names(into)]
    return sorted(found, key=lambda release: (release.created, release.name))


def _names(into: Path) -> list[str]:
    folder = into / RELEASES
    entries = folder.iterdir() if folder.is_dir() else ()
    return sorted(entry.name for entry in entries if _NAME.fullmatch(entry.name) and entry.is_dir())


def open_release(into: Path, name: str) -> Release:
    """Return a release after verifying its format and the size and checksum of every file.

    Args:
        into: the index folder.
        name: of the release.

    Returns:
        The release.

    Raises:
        IndexFormatError: a file is damaged or of a newer version; names it.
        InputError: there is no such release.
    """
    if name not in _names(into):
        raise InputError(
            f"{into}: no release of this name; there are: {', '.join(_names(into)) or 'none'}", value=name
        )
    release = _read_release(into / RELEASES / name)
    for file, facts in release.files.items():
        path = release.folder / file
        if not path.is_file():
            raise _damaged(path, "is missing")
        if _facts(path) != facts:
            raise _damaged(path, "has another size or checksum than when it was proposed")
    return release


def _read_release(folder: Path) -> Release:
    file = folder / _RELEASE_FILE
    content = _read_json(file)
    if content.get("format") == _FORMAT and content.get("format_version") != _FORMAT_VERSION:
        raise IndexFormatError(
            f"{file}: format version {shorten(content.get('format_version'))}, this program knows "
            f"{_FORMAT_VERSION}. Upgrade Tilth"
        )
    seal = content.pop("xxh3", None)
    if seal != _seal(content) or content["name"] != folder.name:
        raise _damaged(file, "has a wrong checksum or another's name")
    return Release(
        folder,
        content["name"],
        datetime.fromisoformat(content["created"]),
        content["generation"]["number"],
        content["generation"]["manifest"],
        Fusion.from_dict(content["fusion"]),
        content["files"],
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = orjson.loads(path.read_bytes())
    except OSError as error:
        raise _damaged(path, f"cannot be read: {error.strerror}") from error
    except orjson.JSONDecodeError as error:
        raise _damaged(path, str(error)) from error
    if not isinstance(content, dict):
        raise _damaged(path, "no JSON object")
    return content


def _damaged(path: Path, damage: str) -> IndexFormatError:
    return IndexFormatError(
        f"{path}: the release is damaged: {damage}. Propose it anew under another name; where it is in "
        "force, tilth release rollback returns to the one before"
    )


def _seal(content: Mapping[str, Any]) -> str:
    return xxhash.xxh3_128(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _facts(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        checksum = hashlib.file_digest(file, xxhash.xxh3_128).hexdigest()
    return {"bytes": path.stat().st_size, "xxh3": checksum}


def propose(
    into: Path,
    *,
    fusion: Fusion,
    evidence: Mapping[str, Any],
    name: str | None = None,
    model_folder: Path | None = None,
    calibration: Mapping[str, Any] | None = None,
    report: Path | None = None,
) -> Release:
    """Keep a release: whole under its name, or not at all; it comes into force when it is promoted.

    Args:
        into: the index folder, with a generation: the one that the release was measured on.
        fusion: of the lists that are re-ranked.
        evidence: the evaluation, as JSON has it.
        name: letters, digits, '.', '_' and '-'; None: the next of r1, r2 and so on.
        model_folder: whatever files the reranker consists of; None: the fusion alone.
        calibration: of the scores, as JSON has it.
        report: a page about the training.

    Returns:
        The release.

    Raises:
        IndexFormatError: no index is there.
        IndexLockedError: another process keeps the releases locked.
        IndexWriteError: the folder cannot be written to.
        InputError: the name is taken or cannot be one, or there is no reranker or report where one is named.
    """
    generation = open_generation(into, checksums=False)
    with explaining_faults(into), locked(into):
        named = _free_name(into, name)
        aside = into / RELEASES / f"{_ASIDE}{named}"
        aside.mkdir()
        try:
            _copy_files(aside, model_folder, report)
            _write_json(aside / _EVIDENCE, evidence)
            if calibration is not None:
                _write_json(aside / _CALIBRATION, calibration)
            _write_release(aside, named, generation, fusion)
            aside.rename(into / RELEASES / named)
            sync_folder(into / RELEASES)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return _read_release(into / RELEASES / named)


def _free_name(into: Path, name: str | None) -> str:
    """Check a name, or find the next number."""
    taken = _names(into)
    if name is None:
        numbers = [int(match[1]) for match in map(_NUMBERED.fullmatch, taken) if match]
        return f"r{max(numbers, default=0) + 1}"
    if not _NAME.fullmatch(name) or name in _TAKEN:
        raise InputError(
            "cannot be the name of a release",
            value=name,
            remedy="Use up to 64 letters, digits, '.', '_' and '-', or leave it to be numbered",
        )
    if name in taken:
        raise InputError(f"{into}: there is a release of this name already", value=name, remedy="Use another")
    return name


def _copy_files(aside: Path, model_folder: Path | None, report: Path | None) -> None:
    if model_folder is not None:
        sources = sorted(path for path in model_folder.rglob("*") if path.is_file())
        if not sources:
            raise InputError("is not a folder with a reranker's files", path=model_folder)
        for source in sources:
            _copy(source, aside / _RERANKER / source.relative_to(model_folder))
    if report is not None:
        if not report.is_file():
            raise InputError("is not a file", path=report)
        _copy(report, aside / _REPORT)


def _copy(source: Path, target: Path) -> None:
    try:
        original = source.open("rb")
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", path=source) from error
    with original, replacing(target) as file:
        shutil.copyfileobj(original, file)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    with replacing(path) as file:
        file.write(orjson.dumps(content, option=orjson.OPT_INDENT_2))


def _write_release(aside: Path, name: str, generation: Generation, fusion: Fusion) -> None:
    """Write `release.json`, the last file of a release, which seals it."""
    paths = sorted(aside.rglob("*"))
    for folder in filter(Path.is_dir, paths):
        sync_folder(folder)
    content = {
        "format": _FORMAT,
        "format_version": _FORMAT_VERSION,
        "name": name,
        "created": datetime.now(UTC).isoformat(),
        "generation": {"number": generation.number, "manifest": generation.checksum},
        "fusion": fusion.to_dict(),
        "files": {str(path.relative_to(aside)): _facts(path) for path in paths if path.is_file()},
    }
    _write_json(aside / _RELEASE_FILE, {**content, "xxh3": _seal(content)})


@contextmanager
def locked(into: Path) -> Iterator[None]:
    """Let one process at a time change the releases; it first removes what a killed one left.

    Args:
        into: the index folder.

    Yields:
        Nothing.

    Raises:
        IndexLockedError: another process does not let go.
    """
    folder = into / RELEASES
    folder.mkdir(exist_ok=True)
    lock = filelock.FileLock(folder / "lock")
    try:
        lock.acquire(timeout=_LOCK_SECONDS)
    except filelock.Timeout as error:
        raise IndexLockedError(
            f"{folder}: another process proposes or promotes a release. Wait for it, then try again"
        ) from error
    try:
        for left in folder.glob(f"{_ASIDE}*"):
            shutil.rmtree(left)
        for file in into.glob(f".{RELEASED}.*.part"):
            file.unlink()
        yield
    finally:
        lock.release()
