"""Pages about trainings and experiments: found by name, never by a path."""

import os
from pathlib import Path

import pytest

from tilth.errors import IndexFormatError
from tilth.releases import propose
from tilth.retrieval.fusion import Fusion
from tilth.serve.reports import read_report, reports


@pytest.fixture
def page(tmp_path: Path) -> Path:
    (tmp_path / "report.html").write_text("<p>Ж</p>", "utf-8")
    return tmp_path / "report.html"


def experiment(folder: Path, text: str, seconds: int) -> str:
    folder.mkdir()
    (folder / "report.html").write_text(text, "utf-8")
    os.utime(folder / "report.html", (seconds, seconds))
    return str(folder)


def test_without_releases_and_folders_there_are_none(folder: Path) -> None:
    assert reports(folder, []) == []
    assert read_report(folder, [], "r1") is None


def test_releases_with_a_report_and_folders_with_one_the_newest_first(
    folder: Path, page: Path, tmp_path: Path
) -> None:
    propose(folder, fusion=Fusion(), evidence={}, report=page)
    propose(folder, fusion=Fusion(), evidence={})
    folders = [experiment(tmp_path / "old", "old", 1), experiment(tmp_path / "future", "future", 2**32)]
    found = reports(folder, [folders[0], str(tmp_path / "none"), folders[1]])
    assert [(each.name, each.kind) for each in found] == [
        ("experiment-3", "experiment"), ("r1", "release"), ("experiment-1", "experiment"),
    ]  # fmt: skip
    assert found[0].to_json().keys() == {"name", "kind", "created", "title"}
    assert str(tmp_path) not in str([each.to_json() for each in found])
    at = [folders[0], "x", folders[1]]
    assert read_report(folder, at, "r1") == "<p>Ж</p>".encode()
    assert read_report(folder, at, "experiment-3") == b"future"


@pytest.mark.parametrize(
    "name", ["", ".", "..", "report.html", "../report.html", "/etc/passwd", "experiment-2", "experiment-0",
             "r2", "R1", "r1/report.html", "experiment-1\0", "experiment-١"]
)  # fmt: skip
def test_nothing_else_is_read(folder: Path, page: Path, tmp_path: Path, name: str) -> None:
    propose(folder, fusion=Fusion(), evidence={}, report=page)
    assert read_report(folder, [experiment(tmp_path / "one", "one", 1)], name) is None


def test_a_report_that_was_changed_is_not_shown(folder: Path, page: Path) -> None:
    release = propose(folder, fusion=Fusion(), evidence={}, report=page)
    assert release.report is not None
    release.report.write_text("<p>better</p>", "utf-8")
    with pytest.raises(IndexFormatError):
        read_report(folder, [], "r1")


def test_a_folder_may_be_a_link_that_leads_nowhere(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    assert reports(folder, [str(tmp_path / "link")]) == []
