"""The pages about trainings and experiments that a service shows: those of releases, and of named folders."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tilth.releases import open_release, releases

PAGE = "report.html"
_PREFIX = "experiment-"


@dataclass(frozen=True, slots=True)
class Report:
    """A page: the report of a release, or of an experiment."""

    name: str
    kind: str  # release or experiment
    created: str  # ISO 8601
    title: str
    path: Path

    def to_json(self) -> dict[str, Any]:
        """Return everything but where it lies."""
        facts = asdict(self)
        del facts["path"]
        return facts


def reports(index: Path, folders: Sequence[str]) -> list[Report]:
    """Return the pages that there are, the newest first.

    Args:
        index: the index folder, for its releases.
        folders: of experiments, each with a `report.html`; those without are passed over.

    Returns:
        The pages; an experiment's name is made of its place in `folders`, so that no path is ever taken from
        a request.
    """
    found = [
        Report(each.name, "release", each.created.isoformat(), f"Release {each.name}", each.report)
        for each in releases(index)
        if each.report is not None
    ]
    for number, folder in enumerate(folders, start=1):
        page = Path(folder) / PAGE
        if page.is_file():
            created = datetime.fromtimestamp(page.stat().st_mtime, UTC).isoformat()
            found.append(Report(f"{_PREFIX}{number}", "experiment", created, Path(folder).name, page))
    return sorted(found, key=lambda report: report.created, reverse=True)


def read_report(index: Path, folders: Sequence[str], name: str) -> bytes | None:
    """Return a page by its name, None where there is none; that of a release is verified."""
    for report in reports(index, folders):
        if report.name == name:
            if report.kind == "release":
                open_release(index, name)
            return report.path.read_bytes()
    return None
