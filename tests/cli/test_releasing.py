"""`tilth release` as a person or a program calls it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from commands import Command, runner
from tilth.cli.releasing import app
from tilth.evaluation.experiment import Difference
from tilth.evaluation.gate import Evidence, Latency, Slice
from tilth.retrieval.fusion import Fusion
from tilth.retrieval.generations import new_generation, write_manifest
from tilth.retrieval.index import write_fusion

TUNED = Fusion("minmax", (0.7, 0.3))
SYSTEMS = {"hybrid": {"nDCG@10": 0.6, "Judged@10": 0.9}, "forest": {"nDCG@10": 0.63, "Judged@10": 0.9}}
GOOD = Evidence(
    candidate="forest",
    measure="nDCG@10",
    part="test",
    queries=41,
    systems=SYSTEMS,
    differences=(Difference("forest", "hybrid", "nDCG@10", 0.03, 0.01, 0.05, 0.04, 20, 10),),
    slices={"length": {"2": Slice(20, SYSTEMS)}},
    latency=Latency(2.0, 9.0),
)


@pytest.fixture
def release(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("USER", "ann")

    return runner(app, "tilth release", capfd)


@pytest.fixture
def index(tmp_path: Path) -> Path:
    with new_generation(tmp_path / "idx") as folder:
        write_manifest(folder, {"legs": {"dense": {"encoder": {"name": "any"}}}})
    write_fusion(tmp_path / "idx", TUNED)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.txt").write_text("tree")
    return tmp_path / "idx"


def evidence(index: Path, **changes: Any) -> tuple[object, ...]:
    file = index.parent / "evidence.json"
    file.write_bytes(orjson.dumps(replace(GOOD, **changes).to_json()))
    return "--evidence", file, "--model", index.parent / "model"


def test_a_release_is_proposed_promoted_and_rolled_back(release: Command, index: Path) -> None:
    assert release("list", index).out == "in force: no release, the plain hybrid\n"
    proposed = release("propose", index, *evidence(index), "--json").json
    assert proposed["release"] == "r1"
    assert proposed["fusion"] == TUNED.to_dict()
    assert set(proposed["files"]) == {"evidence.json", "reranker/model.txt"}
    promoted = release("promote", index, "r1")
    assert promoted.code == 0
    assert "clearly better" in promoted.out
    assert promoted.out.endswith("r1 is in force\n")
    assert (
        release("rollback", index, "--why", "slow").out
        == "no release is in force; the plain hybrid answers\n"
    )
    listed = release("list", index, "--json").json
    assert listed["in_force"] is None
    assert [(line["action"], line["by"], line["why"]) for line in listed["history"]] == [
        ("promote", "ann", ""), ("rollback", "ann", "slow"),
    ]  # fmt: skip


def test_releases_are_listed_with_their_numbers(release: Command, index: Path) -> None:
    for name in ("r1", "spring"):
        assert release("propose", index, *evidence(index), "--name", name).code == 0
    release("promote", index, "spring")
    outcome = release("list", index)
    assert max(map(len, outcome.out.splitlines())) <= 80
    assert outcome.out.startswith("in force: spring\n")
    first, second = outcome.out.splitlines()[-2:]
    assert first.strip().startswith("r1 ")
    assert second.split()[:2] == ["*", "spring"]
    assert first.split()[2:] == ["nDCG@10", "0.630", "+0.030", "[+0.010,", "+0.050]", "hybrid", "9.0"]
    listed = release("list", index, "--json").json["releases"]
    assert [kept["release"] for kept in listed] == ["r1", "spring"]
    assert Evidence.from_json(listed[0]["evidence"]) == GOOD


def test_the_gate_refuses_unless_it_is_forced_with_a_reason(release: Command, index: Path) -> None:
    release("propose", index, *evidence(index, latency=Latency(9.0, 20.0)))
    refused = release("promote", index, "r1")
    assert refused.code == 1
    assert "refused" in refused.out
    assert "the gate refuses the release r1: It adds 20.0 ms at p99" in refused.err
    assert release("promote", index, "r1", "--force").err.startswith(
        "error: to promote against the gate needs"
    )
    assert release("list", index, "--json").json["in_force"] is None
    assert release("promote", index, "r1", "--budget-ms", 20).code == 0
    release("rollback", index)
    forced = release("promote", index, "r1", "--force", "--why", "a faster machine", "--json")
    assert forced.code == 0
    assert forced.json["forced"] is True
    assert forced.json["refusals"] == [
        "It adds 20.0 ms at p99 (9.0 ms at p50), more than the budget of 15 ms."
    ]
    assert release("list", index, "--json").json["history"][-1]["why"] == "a faster machine"


def test_a_release_is_compared_with_the_one_in_force(release: Command, index: Path) -> None:
    for _ in range(2):
        release("propose", index, *evidence(index))
    release("promote", index, "r1")
    refused = release("promote", index, "r2", "--json")
    assert refused.code == 1
    assert refused.json["in_force"] == "r1"
    assert "does not compare forest with r1" in refused.json["refusals"][0]


def test_the_fall_of_a_slice_is_configured(release: Command, index: Path) -> None:
    fallen = {"hybrid": {"nDCG@10": 0.7}, "forest": {"nDCG@10": 0.65}}
    release("propose", index, *evidence(index, slices={"kind": {"misspelt": Slice(12, fallen)}}))
    assert "kind misspelt" in release("promote", index, "r1").err
    assert release("promote", index, "r1", "--most-fall", 0.06).code == 0


def test_a_damaged_pointer_is_repaired(release: Command, index: Path) -> None:
    release("propose", index, *evidence(index))
    release("promote", index, "r1")
    (index / "released").write_text("{")
    assert "tilth release repair" in release("list", index).err
    assert release("repair", index, "--json").json == {"in_force": "r1"}
    assert release("list", index).code == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "evidence.json: is not JSON"),
        ("[]", "evidence.json: is not a JSON object"),
        ("{}", "evidence.json, field 'latency': is not an object"),
    ],
)
def test_evidence_that_cannot_be_used_is_named(
    release: Command, index: Path, content: str, message: str
) -> None:
    options = evidence(index)
    (index.parent / "evidence.json").write_text(content)
    outcome = release("propose", index, *options)
    assert outcome.code == 1
    assert message in outcome.err
    assert release("list", index, "--json").json["releases"] == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("promote", "r7"), "no release of this name; there are: none (got 'r7')"),
        (("rollback",), "no release is in force"),
    ],
)
def test_what_is_not_there_is_named(
    release: Command, index: Path, arguments: tuple[str, ...], message: str
) -> None:
    command, *others = arguments
    outcome = release(command, index, *others)
    assert outcome.code == 1
    assert message in outcome.err
