"""`tilth backup` and `tilth restore` as a person or a program calls them."""

import os
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from commands import Command, runner
from fakes import kept_encoder
from postgres import PASSWORD, running_postgres
from shop import DEFAULTS, SHOP, index, quiet
from tilth.cli.backing_up import backup, restore
from tilth.retrieval.builder import build_index
from tilth.retrieval.index import open_store

app = typer.Typer()
app.command()(backup)
app.command()(restore)


@pytest.fixture
def tilth(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    monkeypatch.delenv("TILTH_STORE", raising=False)

    return runner(app, "tilth", capfd)


@pytest.fixture
def idx(tmp_path: Path) -> Path:
    index(SHOP, tmp_path / "idx", kept_encoder(["manure", "tomato"]))
    return tmp_path / "idx"


def test_an_index_is_saved_and_restored(tilth: Command, idx: Path, tmp_path: Path) -> None:
    saved = tilth("backup", idx, "--into", tmp_path / "monday")
    assert (saved.code, saved.err) == (0, "")
    assert saved.out.startswith(
        f"{tmp_path}/monday: saved: 8 products up to change 8, generation 1 up to change 8; "
    )
    assert saved.out.endswith(" MB are links\n")
    restored = tilth("restore", tmp_path / "monday", "--into", tmp_path / "again")
    assert restored.out.startswith(f"{tmp_path}/again: restored: 8 products up to change 8, generation 1")
    assert restored.out.endswith(" MB\n")
    with open_store(tmp_path / "again", create=False) as store:
        assert store.count() == len(SHOP)


def test_a_program_is_told_in_json(tilth: Command, idx: Path, tmp_path: Path) -> None:
    saved = tilth("backup", idx, "--into", tmp_path / "monday", "--json").json
    assert saved["folder"] == str(tmp_path / "monday")
    assert (saved["products"], saved["sequence"], saved["built_at"], saved["generation"]) == (8, 8, 8, 1)
    assert (saved["next"], saved["damaged"]) == (None, [])
    assert 0 < saved["linked"] < saved["bytes"]
    restored = tilth("restore", tmp_path / "monday", "--into", tmp_path / "again", "--json").json
    assert restored == {**saved, "folder": str(tmp_path / "again"), "linked": 0}


def test_damage_of_a_release_is_a_warning(tilth: Command, idx: Path, tmp_path: Path) -> None:
    (idx / "releases" / "r1").mkdir(parents=True)
    (idx / "releases" / "r1" / "release.json").write_text("{")
    saved = tilth("backup", idx, "--into", tmp_path / "monday")
    assert saved.code == 0
    assert saved.err.startswith(f"saved as it is: {idx}/releases/r1/release.json: the release is damaged")


def test_what_cannot_be_done_is_refused_with_a_reason(tilth: Command, idx: Path, tmp_path: Path) -> None:
    inside = tilth("backup", idx, "--into", idx / "backup")
    assert (inside.code, inside.out) == (1, "")
    assert inside.err.startswith(f"error: {idx}/backup: lies in the index folder")
    tilth("backup", idx, "--into", tmp_path / "monday")
    taken = tilth("restore", tmp_path / "monday", "--into", idx)
    assert taken.code == 1
    assert taken.err.startswith(f"error: {idx}: is not empty")
    (tmp_path / "monday" / "current").unlink()
    damaged = tilth("restore", tmp_path / "monday", "--into", tmp_path / "again")
    assert damaged.code == 1
    assert damaged.err.startswith(
        f"error: {tmp_path}/monday/current: the backup is damaged: the file is missing"
    )


# --- a store in PostgreSQL ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with running_postgres() as url:
        yield url


def test_the_commands_that_are_printed_save_and_restore_the_database(
    tilth: Command, server: str, tmp_path: Path
) -> None:
    def execute(command: str) -> None:
        programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
        path = os.pathsep.join([*map(str, programs), os.environ["PATH"]])
        subprocess.run(shlex.split(command), check=True, env={"PATH": path, "PGPASSWORD": PASSWORD})

    idx, monday, again = tmp_path / "idx", tmp_path / "monday", tmp_path / "again"
    with open_store(idx, server) as store:
        build_index(idx, store, kept_encoder(["manure"]), DEFAULTS, quiet, products=SHOP)
    saved = tilth("backup", idx, "--into", monday, "--store", server)
    assert PASSWORD not in saved.out
    assert "the store is apart: save it now, after the index:\n  pg_dump --format=custom" in saved.out
    execute(saved.out.splitlines()[-1])
    with open_store(idx, server) as store:
        store.delete(["m1"])
    restored = tilth("restore", monday, "--into", again, "--json")
    assert PASSWORD not in restored.out
    execute(restored.json["next"])
    with open_store(again, server, create=False) as store:
        assert store.count() == len(SHOP)
        assert store.last_sequence() == 8
