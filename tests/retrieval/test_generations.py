"""The index folder: atomic switches, one builder at a time, damage named."""

import gc
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import filelock
import orjson
import pytest

from tilth.errors import IndexFormatError, IndexLockedError, InputError
from tilth.retrieval import generations
from tilth.retrieval.generations import (
    MANIFEST,
    adopting,
    new_generation,
    open_generation,
    sweep,
    write_manifest,
)


def build(into: Path, content: str = "rows") -> None:
    with new_generation(into) as folder:
        (folder / "data").write_text(content)
        write_manifest(folder, {"content": content})


def test_a_generation_is_opened_with_its_facts(tmp_path: Path) -> None:
    build(tmp_path / "idx")
    generation = open_generation(tmp_path / "idx")
    assert generation.number == 1
    assert generation.manifest["content"] == "rows"
    assert (generation.folder / "data").read_text() == "rows"


def test_a_generation_that_nobody_refers_to_is_closed(tmp_path: Path) -> None:
    build(tmp_path)
    generation = open_generation(tmp_path)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        del generation
        gc.collect()
    assert [each for each in told if MANIFEST in str(each.message)] == []


def test_a_failed_build_leaves_the_index_as_it_was(tmp_path: Path) -> None:
    build(tmp_path)
    with pytest.raises(KeyboardInterrupt), new_generation(tmp_path) as folder:
        (folder / "data").write_text("half")
        raise KeyboardInterrupt
    assert open_generation(tmp_path).manifest["content"] == "rows"
    assert [p.name for p in (tmp_path / "generations").iterdir()] == ["1"]


def test_a_failed_first_build_leaves_no_index(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), new_generation(tmp_path / "idx"):
        raise ZeroDivisionError
    with pytest.raises(IndexFormatError, match="not an index"):
        open_generation(tmp_path / "idx")


def test_what_a_killed_build_left_is_removed(tmp_path: Path) -> None:
    build(tmp_path)
    (tmp_path / "generations" / ".building-2").mkdir()
    build(tmp_path)
    assert [p.name for p in (tmp_path / "generations").iterdir()] == ["2"]


def test_generations_that_nobody_reads_go(tmp_path: Path) -> None:
    build(tmp_path, "a")
    reader = open_generation(tmp_path)
    for content in ("b", "c"):
        build(tmp_path, content)
    assert sorted(p.name for p in (tmp_path / "generations").iterdir()) == ["1", "3"]
    assert (reader.folder / "data").read_text() == "a"
    assert open_generation(tmp_path).manifest["content"] == "c"
    del reader
    build(tmp_path, "d")
    assert [p.name for p in (tmp_path / "generations").iterdir()] == ["4"]


def test_sweeping_removes_what_nobody_reads_and_waits_for_builders(tmp_path: Path) -> None:
    build(tmp_path, "a")
    reader = open_generation(tmp_path)
    build(tmp_path, "b")
    assert not sweep(tmp_path)
    assert (reader.folder / "data").read_text() == "a"
    del reader
    with filelock.FileLock(tmp_path / "lock"):
        assert not sweep(tmp_path)
    assert sweep(tmp_path)
    assert [p.name for p in (tmp_path / "generations").iterdir()] == ["2"]
    assert open_generation(tmp_path).manifest["content"] == "b"


def test_a_reader_in_another_process_keeps_its_generation(tmp_path: Path) -> None:
    build(tmp_path)
    reading = subprocess.Popen([sys.executable, "-c", _READER, str(tmp_path)], stdout=subprocess.PIPE)
    assert reading.stdout is not None
    assert reading.stdout.readline() == b"1\n"
    build(tmp_path)
    assert sorted(p.name for p in (tmp_path / "generations").iterdir()) == ["1", "2"]
    reading.kill()
    reading.communicate()
    build(tmp_path)
    assert [p.name for p in (tmp_path / "generations").iterdir()] == ["3"]


_READER = """
import sys, time
from pathlib import Path
from tilth.retrieval.generations import open_generation
generation = open_generation(Path(sys.argv[1]))
print(generation.number, flush=True)
time.sleep(60)
"""


def test_of_two_builds_one_is_told(tmp_path: Path) -> None:
    tmp_path.joinpath("idx").mkdir()
    with (
        filelock.FileLock(tmp_path / "idx" / "lock"),
        pytest.raises(IndexLockedError, match="another process"),
    ):
        build(tmp_path / "idx")
    build(tmp_path / "idx")


def test_a_generation_is_adopted_from_another_folder(tmp_path: Path) -> None:
    build(tmp_path, "a")
    build(tmp_path / "candidate", "b")
    with adopting(tmp_path, tmp_path / "candidate") as now:
        assert (now.number, now.manifest["content"]) == (1, "a")
    adopted = open_generation(tmp_path)
    assert (adopted.number, adopted.manifest["content"]) == (2, "b")
    del now
    assert sweep(tmp_path)
    with pytest.raises(IndexFormatError):
        open_generation(tmp_path / "candidate")
    (tmp_path / "encoders" / "1").mkdir(parents=True)
    (tmp_path / "candidate.lock").touch()
    build(tmp_path, "c")
    assert open_generation(tmp_path).number == 3


def test_what_is_not_to_be_adopted_leaves_both_folders_as_they_were(tmp_path: Path) -> None:
    build(tmp_path, "a")
    build(tmp_path / "candidate", "b")
    with pytest.raises(InputError, match="other"), adopting(tmp_path, tmp_path / "candidate"):
        raise InputError("other settings")
    assert open_generation(tmp_path).manifest["content"] == "a"
    assert open_generation(tmp_path / "candidate").manifest["content"] == "b"
    (tmp_path / "candidate" / "generations" / "1" / "data").write_text("x")
    with (
        pytest.raises(IndexFormatError, match="wrong checksum"),
        adopting(tmp_path, tmp_path / "candidate"),
    ):
        raise AssertionError("what is damaged is not adopted")
    assert [path.name for path in (tmp_path / "generations").iterdir()] == ["1"]


def test_nobody_builds_while_a_generation_is_adopted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(tmp_path, "a")
    build(tmp_path / "candidate", "b")
    monkeypatch.setattr(generations, "_BUILD_SECONDS", 0.0)
    with (
        filelock.FileLock(tmp_path / "lock"),
        pytest.raises(IndexLockedError),
        adopting(tmp_path, tmp_path / "candidate"),
    ):
        raise AssertionError("the builder has the lock")
    with adopting(tmp_path, tmp_path / "candidate"), pytest.raises(IndexLockedError):
        build(tmp_path, "c")
    assert open_generation(tmp_path).manifest["content"] == "b"


def test_a_folder_with_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("dear")
    with pytest.raises(InputError, match=r"thesis\.txt"):
        build(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be made a folder"):
        build(tmp_path / "file")


def _edit(name: str, change: Callable[[dict[str, object]], object]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        content = orjson.loads((folder / name).read_bytes())
        change(content)
        (folder / name).write_bytes(orjson.dumps(content))

    return damage


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "data").unlink(), "data: the index is damaged: the file is missing"),
        (lambda f: (f / "data").write_text("ro"), "has 2 bytes instead of 4"),
        (lambda f: (f / "data").write_text("rowz"), "wrong checksum"),
        (lambda f: (f / "manifest.json").write_text("{"), "is damaged"),
        (lambda f: (f / "manifest.json").write_text("[]"), "no JSON object"),
        (lambda f: (f / "manifest.json").unlink(), "cannot be read"),
        (_edit("manifest.json", lambda m: m.update(format="other")), "not a Tilth index"),
        (
            _edit("manifest.json", lambda m: m.update(format_version=99)),
            "newer than this program's 4. Upgrade",
        ),
        (_edit("manifest.json", lambda m: m.update(format_version=0)), "older"),
        (_edit("manifest.json", lambda m: m.update(content="x")), "wrong checksum"),
        (lambda f: (f.parents[1] / "current").write_text("{}"), "names no generation"),
    ],
)
def test_damage_is_named(tmp_path: Path, damage: Callable[[Path], None], message: str) -> None:
    build(tmp_path)
    damage(tmp_path / "generations" / "1")
    with pytest.raises(IndexFormatError, match=message):
        open_generation(tmp_path)


def test_no_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(IndexFormatError, match="no index there"):
        open_generation(tmp_path / "nowhere")
