"""Releases: whole or not at all, in force one at a time, and nothing between old and new after a kill."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import filelock
import orjson
import pytest

from tilth import promotions, releases
from tilth.errors import IndexFormatError, IndexLockedError, InputError, SettingError
from tilth.files import replacing
from tilth.promotions import history, promote, repair, rollback
from tilth.releases import Release, current, current_name, open_release, propose
from tilth.releases import releases as list_releases
from tilth.retrieval.fusion import Fusion
from tilth.retrieval.generations import current_number, new_generation, open_generation, write_manifest

FUSION = Fusion("rrf", (1.0, 0.5))


def build(into: Path) -> None:
    with new_generation(into) as folder:
        (folder / "data").write_text("rows")
        write_manifest(folder, {})


@pytest.fixture
def into(tmp_path: Path) -> Path:
    build(tmp_path / "idx")
    return tmp_path / "idx"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "encoder").mkdir(parents=True)
    (folder / "reranker.json").write_text('{"kind": "forest"}')
    (folder / "model.txt").write_text("tree")
    (folder / "encoder" / "tokenizer.json").write_text("{}")
    return folder


def keep(into: Path, name: str | None = None, **parts: Any) -> Release:
    return propose(into, name=name, fusion=FUSION, evidence={"queries": 41}, **parts)


def decision(in_force: str = "hybrid", *refusals: str) -> dict[str, Any]:
    return {"passed": not refusals, "refusals": list(refusals), "in_force": in_force}


def put_in_force(into: Path, *names: str) -> None:
    """Keep and promote releases, one after the other."""
    for name in names:
        keep(into, name)
        promote(into, name, decision(current_name(into) or "hybrid"))


# what a release holds


def test_a_release_holds_what_was_handed_in(into: Path, model: Path, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("<p>")
    kept = keep(into, model_folder=model, calibration={"a": 1.5}, report=tmp_path / "page.html")
    (model / "model.txt").write_text("another tree")
    release = open_release(into, "r1")
    assert release == kept
    assert release.fusion == FUSION
    assert release.generation == 1
    assert release.manifest == open_generation(into).checksum
    assert release.evidence() == {"queries": 41}
    assert release.calibration() == {"a": 1.5}
    assert release.report is not None
    assert release.report.read_text() == "<p>"
    assert release.reranker is not None
    assert (release.reranker / "model.txt").read_text() == "tree"
    assert (release.reranker / "encoder" / "tokenizer.json").read_text() == "{}"
    assert release.created.utcoffset() is not None


def test_a_release_may_be_a_fusion_alone(into: Path) -> None:
    release = keep(into)
    assert (release.reranker, release.calibration(), release.report) == (None, None, None)
    assert set(release.files) == {"evidence.json"}


def test_releases_are_numbered_and_listed_in_order(into: Path) -> None:
    assert [keep(into, name).name for name in (None, "spring", None, "r9", None)] == [
        "r1", "spring", "r2", "r9", "r10",
    ]  # fmt: skip
    assert [release.name for release in list_releases(into)] == ["r1", "spring", "r2", "r9", "r10"]


def test_an_index_without_releases_has_none(into: Path) -> None:
    assert list_releases(into) == []
    assert current_name(into) is None
    assert current(into) is None
    assert history(into) == []
    with pytest.raises(InputError, match="no release of this name; there are: none"):
        open_release(into, "r1")


@pytest.mark.parametrize(
    "name", ["", ".hidden", "a/b", "..", "hybrid", "lock", "history.jsonl", "a b", "x" * 65]
)
def test_a_name_that_cannot_be_is_refused(into: Path, name: str) -> None:
    with pytest.raises(InputError, match="cannot be the name of a release"):
        keep(into, name)
    assert list_releases(into) == []


def test_a_name_is_given_once(into: Path) -> None:
    keep(into, "spring")
    with pytest.raises(InputError, match="there is a release of this name already"):
        keep(into, "spring")


def test_a_release_needs_an_index_and_files_that_are_there(into: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for parts in ({"model_folder": tmp_path / "empty"}, {"model_folder": tmp_path / "nowhere"}):
        with pytest.raises(InputError, match="is not a folder with a reranker's files"):
            keep(into, **parts)
    with pytest.raises(InputError, match="is not a file"):
        keep(into, report=tmp_path / "nowhere")
    assert list_releases(into) == []
    with pytest.raises(IndexFormatError, match="no index there"):
        keep(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_a_failed_proposal_leaves_nothing(into: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(releases, "_write_release", interrupted)
    with pytest.raises(KeyboardInterrupt):
        keep(into, model_folder=model)
    assert [path.name for path in (into / "releases").iterdir()] == ["lock"]


# which one is in force


def test_promotion_and_rollback_go_up_and_down_again(into: Path) -> None:
    put_in_force(into, "r1", "r2", "r3")
    assert current_name(into) == "r3"
    assert rollback(into, why="slow", by="ann") == "r2"
    put_in_force(into, "r4")
    assert [rollback(into) for _ in range(3)] == ["r2", "r1", None]
    assert current(into) is None
    with pytest.raises(InputError, match="no release is in force"):
        rollback(into)
    lines = history(into)
    assert [(line["from"], line["release"]) for line in lines] == [
        (None, "r1"), ("r1", "r2"), ("r2", "r3"), ("r3", "r2"), ("r2", "r4"), ("r4", "r2"), ("r2", "r1"),
        ("r1", None),
    ]  # fmt: skip
    assert (lines[3]["action"], lines[3]["why"], lines[3]["by"]) == ("rollback", "slow", "ann")
    assert lines[0]["decision"] == decision()


def test_a_release_that_was_rolled_back_can_be_promoted_again(into: Path) -> None:
    put_in_force(into, "r1", "r2")
    rollback(into)
    promote(into, "r2", decision("r1"))
    promote(into, "r1", decision("r2"))
    assert [rollback(into) for _ in range(3)] == ["r2", "r1", None]


def test_what_is_in_force_is_not_promoted_again(into: Path) -> None:
    put_in_force(into, "r1")
    with pytest.raises(InputError, match="in force already"):
        promote(into, "r1", decision("r1"))


def test_the_gate_is_passed_or_forced_with_a_reason(into: Path) -> None:
    keep(into)
    refused = decision("hybrid", "Too slow.")
    with pytest.raises(InputError, match=r"the gate refuses the release r1: Too slow\. .*--force"):
        promote(into, "r1", refused)
    with pytest.raises(SettingError, match="--why"):
        promote(into, "r1", refused, force=True, why=" ")
    assert current_name(into) is None
    promote(into, "r1", refused, force=True, why="a new machine", by="ann")
    (line,) = history(into)
    assert (line["forced"], line["why"], line["by"]) == (True, "a new machine", "ann")
    assert line["decision"]["refusals"] == ["Too slow."]


def test_a_decision_that_was_overtaken_does_not_count(into: Path) -> None:
    keep(into, "r1")
    put_in_force(into, "r2")
    with pytest.raises(InputError, match="was compared with hybrid, and r2 is in force now"):
        promote(into, "r1", decision("hybrid"))
    assert current_name(into) == "r2"


def test_a_new_generation_leaves_the_release_in_force(into: Path) -> None:
    put_in_force(into, "r1")
    build(into)
    release = current(into)
    assert release is not None
    assert (current_number(into), release.generation) == (2, 1)


def test_another_process_is_waited_for_and_then_named(into: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_in_force(into, "r1")
    monkeypatch.setattr(releases, "_LOCK_SECONDS", 0.01)
    with filelock.FileLock(into / "releases" / "lock"):
        for change in (lambda: keep(into), lambda: rollback(into), lambda: repair(into)):
            with pytest.raises(IndexLockedError, match="another process"):
                change()
        assert current_name(into) == "r1"


def test_of_two_promotions_at_once_one_comes_into_force(into: Path) -> None:
    for name in ("r1", "r2", "r3"):
        keep(into, name)
    rivals = [
        subprocess.Popen([sys.executable, "-c", _RIVAL, str(into), name], stderr=subprocess.PIPE)
        for name in ("r1", "r2", "r3")
    ]
    errors = [rival.communicate()[1].decode() for rival in rivals]
    assert sorted(rival.returncode for rival in rivals) == [0, 1, 1]
    assert sum("InputError" in error and "is in force now" in error for error in errors) == 2
    (line,) = history(into)
    assert line["release"] == current_name(into)


_RIVAL = """
import sys
from pathlib import Path
from tilth.promotions import promote
decision = {"passed": True, "refusals": [], "in_force": "hybrid"}
promote(Path(sys.argv[1]), sys.argv[2], decision)
"""


# damage


def _edit(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        content = orjson.loads((folder / "release.json").read_bytes())
        change(content)
        (folder / "release.json").write_bytes(orjson.dumps(content))

    return damage


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda f: (f / "reranker" / "model.txt").unlink(),
            r"model\.txt: the release is damaged: is missing",
        ),
        (lambda f: (f / "reranker" / "model.txt").write_text("trees"), r"model\.txt: .* another size"),
        (lambda f: (f / "reranker" / "model.txt").write_text("treE"), r"model\.txt: .* or checksum"),
        (lambda f: (f / "evidence.json").write_text("{}"), r"evidence\.json"),
        (lambda f: (f / "release.json").unlink(), r"release\.json: .* cannot be read"),
        (lambda f: (f / "release.json").write_text("{"), r"release\.json: the release is damaged"),
        (lambda f: (f / "release.json").write_text("[]"), "no JSON object"),
        (_edit(lambda c: c["fusion"].update(rrf_k=61)), r"release\.json: .* wrong checksum"),
        (_edit(lambda c: c.pop("xxh3")), r"release\.json: .* wrong checksum"),
        (
            _edit(lambda c: c.update(format_version=2)),
            "format version 2, this program knows 1. Upgrade Tilth",
        ),
    ],
)
def test_the_damaged_file_is_named(
    into: Path, model: Path, damage: Callable[[Path], object], message: str
) -> None:
    keep(into, model_folder=model)
    promote(into, "r1", decision())
    damage(into / "releases" / "r1")
    with pytest.raises(IndexFormatError, match=message):
        current(into)
    assert current_name(into) == "r1"
    assert rollback(into) is None


def test_a_damaged_release_is_not_promoted_and_not_returned_to(into: Path) -> None:
    put_in_force(into, "r1", "r2", "r3")
    keep(into, "r4")
    for name in ("r2", "r4"):
        (into / "releases" / name / "evidence.json").write_text("")
    with pytest.raises(IndexFormatError, match=r"r4/evidence\.json"):
        promote(into, "r4", decision("r3"))
    assert rollback(into) == "r1"


def test_another_release_in_its_folder_is_damage(into: Path) -> None:
    put_in_force(into, "r1")
    (into / "releases" / "r1").rename(into / "releases" / "r2")
    with pytest.raises(IndexFormatError, match="another's name"):
        open_release(into, "r2")
    with pytest.raises(IndexFormatError, match=r"names the release r1, which is not there.*rollback"):
        current(into)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '"r1"', '{"release": "r1", "before": null}'])
def test_a_damaged_name_of_the_release_in_force_is_repaired(into: Path, content: str) -> None:
    put_in_force(into, "r1", "r2")
    (into / "released").write_text(content)
    with pytest.raises(IndexFormatError, match=r"released: is damaged.*tilth release repair"):
        current_name(into)
    with pytest.raises(IndexFormatError, match="tilth release repair"):
        promote(into, "r1", decision("r2"))
    assert repair(into) == "r2"
    assert repair(into) == "r2"
    assert len(history(into)) == 2
    assert [rollback(into), rollback(into)] == ["r1", None]


def test_without_a_history_the_plain_hybrid_is_restored(into: Path) -> None:
    (into / "released").write_text("")
    assert repair(into) is None
    assert current(into) is None


def test_who_removes_the_file_returns_to_the_plain_hybrid(into: Path) -> None:
    put_in_force(into, "r1")
    (into / "released").unlink()
    assert current_name(into) is None
    put_in_force(into, "r2")
    assert [line["release"] for line in history(into)] == ["r1", "r2"]
    assert rollback(into) is None


# a kill


def cut_short(into: Path, name: str, in_force: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Promote, and be interrupted where the history has its line and the switch is not made."""

    def interrupted(path: Path) -> Any:
        if path.name == "released" and len((into / "releases" / "history.jsonl").read_bytes()) > written:
            raise KeyboardInterrupt
        return replacing(path)

    (into / "releases" / "history.jsonl").touch()
    written = len((into / "releases" / "history.jsonl").read_bytes())
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(promotions, "replacing", interrupted)
        promote(into, name, decision(in_force))
    assert len((into / "releases" / "history.jsonl").read_bytes()) > written


def test_a_promotion_that_was_cut_short_never_happened(into: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("r1", "r2", "r3"):
        keep(into, name)
    cut_short(into, "r1", "hybrid", monkeypatch)
    assert current_name(into) is None
    assert history(into) == []
    promote(into, "r3", decision())
    cut_short(into, "r2", "r3", monkeypatch)
    assert current_name(into) == "r3"
    assert [line["release"] for line in history(into)] == ["r3"]
    assert rollback(into) is None
    assert [line["release"] for line in history(into)] == ["r3", None]


def test_a_line_that_was_cut_off_is_passed_over(into: Path) -> None:
    put_in_force(into, "r1")
    with (into / "releases" / "history.jsonl").open("ab") as file:
        file.write(b'{"number": 2, "rele')
    put_in_force(into, "r2")
    assert [line["release"] for line in history(into)] == ["r1", "r2"]


def test_what_killed_processes_left_is_removed(into: Path) -> None:
    keep(into)
    (into / "releases" / ".proposing-r2").mkdir()
    (into / "releases" / ".proposing-r2" / "evidence.json").write_text("{")
    (into / ".released.1.part").write_text("{")
    assert [release.name for release in list_releases(into)] == ["r1"]
    assert keep(into).name == "r2"
    assert not [*into.glob(".*"), *(into / "releases").glob(".*")]


@pytest.mark.parametrize(
    ("action", "old", "new"), [("propose", "r2", "r2"), ("promote", "r2", "r3"), ("rollback", "r2", "r1")]
)
def test_killed_at_any_step_old_or_new_is_there(
    into: Path, model: Path, tmp_path: Path, action: str, old: str, new: str
) -> None:
    """A process is killed before each step that it takes in the folder: the first, the second and so on."""
    put_in_force(into, "r1", "r2")
    keep(into, "r3")
    worker = [sys.executable, "-c", _DYING, str(into), str(model), str(tmp_path / "killed"), action]
    subprocess.run(worker, check=True)
    killed = sorted((tmp_path / "killed").iterdir(), key=lambda folder: int(folder.name))
    assert len(killed) > 10
    in_force = [str(current_name(folder)) for folder in killed]
    assert in_force == sorted(in_force, key=[old, new].index)  # old up to some step, new from then on
    assert set(in_force) == {old, new}
    whole = [[release.name for release in list_releases(folder)] for folder in killed]
    assert (["r1", "r2", "r3", "r4"] in whole) == (action == "propose")
    for folder in killed:
        check_everything(folder)
        if action == "propose":
            keep(folder, model_folder=model)
        elif current_name(folder) == old:
            _ = promote(folder, "r3", decision("r2")) if action == "promote" else rollback(folder)
        assert current_name(folder) == new
        keep(folder)  # whoever comes next removes what is left
        check_everything(folder)
        assert not [*folder.glob(".*"), *(folder / "releases").glob(".*")]


def check_everything(into: Path) -> None:
    """Check that whatever is there is whole, and that the history tells how it came about."""
    for release in list_releases(into):
        open_release(into, release.name)
    lines = history(into)
    assert [line["number"] for line in lines] == list(range(1, len(lines) + 1))
    assert [line["from"] for line in lines[1:]] == [line["release"] for line in lines[:-1]]
    assert current_name(into) == (lines[-1]["release"] if lines else None)


_DYING = """
import os, shutil, signal, sys
from pathlib import Path
from tilth.promotions import promote, rollback
from tilth.releases import propose
from tilth.retrieval.fusion import Fusion

template, model, killed = map(Path, sys.argv[1:4])

def act(into):
    if sys.argv[4] == "propose":
        propose(into, fusion=Fusion(), evidence={}, model_folder=model)
    elif sys.argv[4] == "promote":
        promote(into, "r3", {"passed": True, "refusals": [], "in_force": "r2"})
    else:
        rollback(into)

def die_at(step, into):
    taken = 0

    def count(event, arguments):
        nonlocal taken
        if event.startswith(("open", "os.")) and str(into) in str(arguments):
            taken += 1
            if taken == step:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)

for step in range(1, 1000):
    into = killed / str(step)
    shutil.copytree(template, into)
    child = os.fork()
    if child == 0:
        die_at(step, into)
        act(into)
        os._exit(0)
    if os.waitpid(child, 0)[1] == 0:
        break
"""
