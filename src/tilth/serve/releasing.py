"""Releases as plain data, promoted and rolled back while the service runs."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tilth.errors import InputError
from tilth.evaluation.gate import Evidence, Rules, decide
from tilth.promotions import history, promote, rollback
from tilth.releases import HYBRID, Release, current_name, open_release, releases

if TYPE_CHECKING:  # the command line lists releases without the extra `serve`
    from tilth.serve.service import Service


def list_releases(index: Path) -> dict[str, Any]:
    """Return the releases of an index folder as plain data.

    Args:
        index: the folder.

    Returns:
        `in_force`, the `releases` with their evidence, the oldest first, and the `history`.

    Raises:
        IndexFormatError: a release is damaged.
    """
    return {
        "in_force": current_name(index),
        "releases": [{**release_to_json(each), "evidence": each.evidence()} for each in releases(index)],
        "history": history(index),
    }


def release_to_json(release: Release) -> dict[str, Any]:
    """Return what a release is, without its evidence."""
    return {
        "release": release.name,
        "created": release.created.isoformat(),
        "generation": release.generation,
        "fusion": release.fusion.to_dict(),
        "files": dict(release.files),
    }


def promote_release(service: "Service", name: str, *, why: str, force: bool, by: str) -> dict[str, Any]:
    """Put a release in force, if the gate lets it in.

    Args:
        service: takes it over before this returns.
        name: of the release.
        why: for the history; needed with `force`.
        force: even if the gate refuses it.
        by: who does it.

    Returns:
        `in_force`, now; `forced`; `compared_with`, what was in force; and what else the gate found.

    Raises:
        InputError: there is no such release, it is in force already, or the gate refuses it.
        SettingError: `force` without a reason.
        IndexFormatError: the release is damaged.
    """
    index = service.pipeline.live.path
    with _without_path(index):
        evidence = Evidence.from_json(open_release(index, name).evidence())
        decision = decide(evidence, Rules(in_force=current_name(index) or HYBRID))
        found = decision.to_json()
        promote(index, name, found, force=force, why=why, by=by)
    service.pipeline.refresh()
    forced = force and not decision.passed
    return {**found, "compared_with": found["in_force"], "in_force": name, "forced": forced}


def roll_back_release(service: "Service", *, why: str, by: str) -> dict[str, Any]:
    """Return to the release before.

    Args:
        service: takes it over before this returns.
        why: for the history.
        by: who does it.

    Returns:
        `in_force`, None for the plain hybrid.

    Raises:
        InputError: no release is in force.
    """
    with _without_path(service.pipeline.live.path):
        name = rollback(service.pipeline.live.path, why=why, by=by)
    service.pipeline.refresh()
    return {"in_force": name}


@contextmanager
def _without_path(index: Path) -> Iterator[None]:
    """Let errors say what is wrong, but not where the index lies: they leave this machine."""
    try:
        yield
    except InputError as error:
        reason = error.reason.removeprefix(f"{index}: ")
        field = error.field or "name"
        raise InputError(reason, field=field, value=error.value, remedy=error.remedy) from error
