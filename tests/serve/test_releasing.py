"""Releases while the service runs: listed, promoted through the gate or past it, rolled back."""

from pathlib import Path
from typing import Any

import pytest

from tilth.errors import IndexFormatError, InputError, SettingError
from tilth.releases import propose
from tilth.retrieval.fusion import Fusion
from tilth.serve.releasing import list_releases, promote_release, roll_back_release
from tilth.serve.service import Service


def evidence(gain: float = 0.1, part: str = "test") -> dict[str, Any]:
    return {
        "candidate": "better", "measure": "nDCG@10", "part": part, "queries": 50,
        "systems": {"better": {"nDCG@10": 0.6 + gain}, "hybrid": {"nDCG@10": 0.6}}, "slices": {},
        "differences": [{"system": "better", "baseline": "hybrid", "measure": "nDCG@10", "difference": gain,
                         "low": gain - 0.01, "high": gain + 0.01, "p": 0.001, "won": 30, "lost": 5}],
        "latency": {"p50_ms": 1.0, "p99_ms": 2.0},
    }  # fmt: skip


@pytest.fixture
def proposed(folder: Path, service: Service) -> Service:
    propose(folder, fusion=Fusion(weights=(1.0, 0.2)), evidence=evidence(), name="good")
    propose(folder, fusion=Fusion(), evidence=evidence(-0.1), name="bad")
    return service


def test_releases_are_listed_with_their_evidence(folder: Path, proposed: Service) -> None:
    found = list_releases(folder)
    assert found["in_force"] is None
    assert [release["release"] for release in found["releases"]] == ["good", "bad"]
    assert found["releases"][0]["evidence"] == evidence()
    assert found["releases"][0]["fusion"]["weights"] == [1.0, 0.2]
    assert found["history"] == []


def test_one_that_passes_the_gate_is_in_force_when_this_returns(folder: Path, proposed: Service) -> None:
    answer = promote_release(proposed, "good", why="better", force=False, by="ann")
    assert (answer["in_force"], answer["compared_with"]) == ("good", "hybrid")
    assert (answer["passed"], answer["forced"]) == (True, False)
    assert proposed.pipeline.ranking.release == "good"
    assert proposed.health()["release"] == "good"
    (line,) = list_releases(folder)["history"]
    assert (line["action"], line["by"], line["why"]) == ("promote", "ann", "better")


def test_one_that_does_not_pass_needs_force_and_a_reason(folder: Path, proposed: Service) -> None:
    with pytest.raises(InputError, match="the gate refuses the release bad") as caught:
        promote_release(proposed, "bad", why="", force=False, by="ann")
    assert str(folder) not in str(caught.value)
    with pytest.raises(SettingError, match="needs a reason"):
        promote_release(proposed, "bad", why=" ", force=True, by="ann")
    assert proposed.pipeline.ranking.release is None
    answer = promote_release(proposed, "bad", why="a test", force=True, by="ann")
    assert (answer["in_force"], answer["forced"], answer["passed"]) == ("bad", True, False)


def test_back_to_the_one_before(folder: Path, proposed: Service) -> None:
    promote_release(proposed, "good", why="", force=False, by="ann")
    promote_release(proposed, "bad", why="a test", force=True, by="ann")
    assert roll_back_release(proposed, why="worse", by="bob") == {"in_force": "good"}
    assert proposed.pipeline.ranking.release == "good"
    assert roll_back_release(proposed, why="worse", by="bob") == {"in_force": None}
    with pytest.raises(InputError, match="no release is in force"):
        roll_back_release(proposed, why="worse", by="bob")
    assert [line["by"] for line in list_releases(folder)["history"]] == ["ann", "ann", "bob", "bob"]


@pytest.mark.parametrize("name", ["none", "", "..", "../good", "/etc", "good/", "GOOD", "lock", "good\0"])
def test_one_that_is_not_there(folder: Path, proposed: Service, name: str) -> None:
    with pytest.raises(InputError) as caught:
        promote_release(proposed, name, why="x", force=True, by="ann")
    assert str(folder) not in str(caught.value)


def test_one_that_is_in_force_already(folder: Path, proposed: Service) -> None:
    promote_release(proposed, "good", why="", force=False, by="ann")
    with pytest.raises(InputError, match="in force already") as caught:
        promote_release(proposed, "good", why="x", force=True, by="ann")
    assert str(folder) not in str(caught.value)


def test_one_without_evidence(folder: Path, service: Service) -> None:
    propose(folder, fusion=Fusion(), evidence={}, name="bare")
    with pytest.raises(InputError):
        promote_release(service, "bare", why="x", force=True, by="ann")
    assert service.pipeline.ranking.release is None


def test_one_that_was_changed(folder: Path, proposed: Service) -> None:
    (folder / "releases" / "good" / "evidence.json").write_text("{}")
    with pytest.raises(IndexFormatError):
        promote_release(proposed, "good", why="", force=False, by="ann")
    assert proposed.pipeline.ranking.release is None
