"""Promotion and rollback: which release is in force, changed in one step, with a history of who and why.

A line of the history is durable before the switch is made. One with a number that the switch has not reached
never came into force: its process was killed in between, and the next line takes the number again.
"""

import logging
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from tilth.errors import IndexFormatError, InputError, SettingError
from tilth.files import replacing, sync_folder
from tilth.releases import (
    HISTORY,
    HYBRID,
    RELEASED,
    RELEASES,
    InForce,
    Release,
    current_name,
    locked,
    open_release,
    read_released,
)
from tilth.retrieval.generations import explaining_faults

_STATE = {"release", "before", "number"}  # in a line of the history, as in the file that follows it

_log = logging.getLogger(__name__)


def promote(
    into: Path,
    name: str,
    decision: Mapping[str, Any],
    *,
    force: bool = False,
    why: str = "",
    by: str = "",
) -> Release:
    """Make a release the one in force; running processes take it over by `current_name`.

    Args:
        into: the index folder.
        name: of the release.
        decision: of the gate, as JSON has it: `passed`; `refusals`, a list of sentences; and `in_force`, the
            release that the evidence was compared with, or `HYBRID`. It is kept in the history.
        force: promote against a refusal, too; needs `why`.
        why: a reason for the history.
        by: who does it, for the history.

    Returns:
        The release, every file of which was verified.

    Raises:
        IndexFormatError: the release, or the file that names the one in force, is damaged.
        IndexLockedError: another process keeps the releases locked.
        IndexWriteError: the folder cannot be written to.
        InputError: there is no such release, it is in force already, the gate refuses it, or another came
            into force since the decision.
        SettingError: `force` without a reason.
    """
    _check_allowed(name, decision, force, why)
    release = open_release(into, name)
    with explaining_faults(into), locked(into):
        at = _in_force(into)
        _check_unchanged(into, at, name, str(decision["in_force"]))
        forced = not decision["passed"]
        facts = {"action": "promote", "by": by, "why": why, "forced": forced, "decision": decision}
        _switch(into, at, name, (*at.before, *([at.name] if at.name else [])), facts)
    return release


def _check_allowed(name: str, decision: Mapping[str, Any], force: bool, why: str) -> None:
    if force and not why.strip():
        raise SettingError("to promote against the gate needs a reason, which the history keeps: --why TEXT")
    if not decision["passed"] and not force:
        refusals = " ".join(decision["refusals"]).rstrip(".")
        raise InputError(
            f"the gate refuses the release {name}: {refusals}",
            remedy="Where people know better: --force --why TEXT, which the history keeps",
        )


def _check_unchanged(into: Path, at: InForce, name: str, decided_against: str) -> None:
    """Refuse a decision that another promotion has overtaken."""
    if at.name == name:
        raise InputError(f"{into}: this release is in force already", value=name)
    now = at.name or HYBRID
    if now != decided_against:
        raise InputError(
            f"{into}: the release was compared with {decided_against}, and {now} is in force now",
            value=name,
            remedy="Compare it with what is in force",
        )


def rollback(into: Path, *, why: str = "", by: str = "") -> str | None:
    """Return to the release that was in force before; a damaged one is logged and passed over.

    Args:
        into: the index folder.
        why: a reason for the history.
        by: who does it, for the history.

    Returns:
        The release in force from now on; None: the plain hybrid.

    Raises:
        IndexFormatError: the file that names the release in force is damaged.
        IndexLockedError: another process keeps the releases locked.
        IndexWriteError: the folder cannot be written to.
        InputError: no release is in force.
    """
    if current_name(into) is None:
        raise InputError(f"{into}: no release is in force, so there is nothing to return from")
    with explaining_faults(into), locked(into):
        at = _in_force(into)
        before = list(at.before)
        while before and not _is_sound(into, before[-1]):
            before.pop()
        name = before.pop() if before else None
        _switch(into, at, name, before, {"action": "rollback", "by": by, "why": why})
    return name


def _is_sound(into: Path, name: str) -> bool:
    try:
        open_release(into, name)
    except (IndexFormatError, InputError) as error:
        _log.warning("passed over: %s", error)
        return False
    return True


def repair(into: Path) -> str | None:
    """Write the file that names the release in force again, from the history, if it is damaged.

    Args:
        into: the index folder.

    Returns:
        The release in force; None: the plain hybrid.

    Raises:
        IndexLockedError: another process keeps the releases locked.
        IndexWriteError: the folder cannot be written to.
    """
    with explaining_faults(into), locked(into):
        try:
            return current_name(into)
        except IndexFormatError as error:
            _log.warning("%s", error)
        at = _last(into)
        _write_in_force(into, at)
    return at.name


def history(into: Path) -> list[dict[str, Any]]:
    """Return every promotion and rollback that came into force, the first one first.

    Args:
        into: the index folder.

    Returns:
        Objects with the keys `number`, `time`, `action`, `release`, `from`, `before`, `by`, `why` and, for
        promotions, `forced` and `decision`.

    Raises:
        IndexFormatError: the file that names the release in force is damaged.
    """
    reached = _in_force(into).number
    last_of = {line["number"]: line for line in _lines(into)}
    return [line for number, line in sorted(last_of.items()) if number <= reached]


def _in_force(into: Path) -> InForce:
    """Return what is in force; where the file is not there, nothing is, whatever the history says."""
    return read_released(into) or InForce(None, (), _last(into).number)


def _last(into: Path) -> InForce:
    """Return what the last line of the history put in force."""
    lines = _lines(into)
    if not lines:
        return InForce(None, (), 0)
    return InForce(lines[-1]["release"], tuple(lines[-1]["before"]), lines[-1]["number"])


def _lines(into: Path) -> list[dict[str, Any]]:
    """Return the lines of the history; one that a crash cut off is passed over."""
    file = into / RELEASES / HISTORY
    lines = []
    for text in file.read_bytes().splitlines() if file.is_file() else ():
        try:
            line = orjson.loads(text)
        except orjson.JSONDecodeError:
            continue
        if isinstance(line, dict) and line.keys() >= _STATE:
            lines.append(line)
    return lines


def _switch(
    into: Path, at: InForce, name: str | None, before: Sequence[str], facts: Mapping[str, Any]
) -> None:
    """Write the history, then the file that makes it come true."""
    if not (into / RELEASED).is_file():  # so that the line below can be told from one that came into force
        _write_in_force(into, at)
    after = InForce(name, tuple(before), at.number + 1)
    line = {
        "number": after.number,
        "time": datetime.now(UTC).isoformat(),
        "release": name,
        "from": at.name,
        "before": after.before,
        **facts,
    }
    _append(into / RELEASES / HISTORY, line)
    _write_in_force(into, after)


def _append(path: Path, line: Mapping[str, Any]) -> None:
    """Add a line durably; one that a crash cut off before it is ended first."""
    torn = path.is_file() and not path.read_bytes().endswith(b"\n")
    with path.open("ab") as file:
        file.write((b"\n" if torn else b"") + orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
        file.flush()
        os.fsync(file.fileno())
    sync_folder(path.parent)


def _write_in_force(into: Path, at: InForce) -> None:
    with replacing(into / RELEASED) as file:
        file.write(orjson.dumps({"release": at.name, "before": at.before, "number": at.number}))
