"""`tilth backup` and `tilth restore`: an index folder with its store, saved and brought back."""

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from tilth.backup import Report, back_up
from tilth.backup import restore as restore_backup
from tilth.cli.indexing import Json, StoreUrl
from tilth.cli.terminal import ERR, OUT, print_json

_TABLES = "tilth_*"  # those of a store, in a database that others may share


def backup(
    index: Annotated[Path, typer.Argument(help="The index folder.")],
    into: Annotated[Path, typer.Option(help="A new folder, outside the index folder.")],
    store: StoreUrl = None,
    as_json: Json = False,
) -> None:
    """Save an index with its store, while it is searched, written and built."""
    report = back_up(index, into, store)
    dump = ["pg_dump", "--format=custom", f"--table={_TABLES}", f"--file={into}.dump", report.database]
    _print(report, "saved", "the store is apart: save it now, after the index", dump, as_json)


def restore(
    backup: Annotated[Path, typer.Argument(help="The folder of a backup.")],
    into: Annotated[Path, typer.Option(help="A new folder, which becomes an index folder.")],
    as_json: Json = False,
) -> None:
    """Make an index folder of a backup, once every byte of it was verified."""
    report = restore_backup(backup, into)
    load = ["pg_restore", "--clean", "--if-exists", f"--dbname={report.database}", f"{backup}.dump"]
    _print(report, "restored", "the store is apart: restore its dump, too", load, as_json)


def _print(report: Report, done: str, apart: str, command: list[str], as_json: bool) -> None:
    """Print what there is now and, where the store is apart, the command that is left to be run."""
    if as_json:
        facts = {**asdict(report), "folder": str(report.folder)}
        print_json({**facts, "next": shlex.join(command) if report.database else None})
        return
    OUT.print(
        f"{report.folder}: {done}: {report.products:,} products up to change {report.sequence:,}, "
        f"generation {report.generation} up to change {report.built_at:,}; {report.files:,} files, "
        f"{report.bytes / 1e6:,.1f} MB"
        + (f", of which {report.linked / 1e6:,.1f} MB are links" if report.linked else ""),
        soft_wrap=True,
    )
    for damage in report.damaged:
        ERR.print(f"saved as it is: {damage}", soft_wrap=True)
    if report.database:
        OUT.print(f"{apart}:\n  {shlex.join(command)}", soft_wrap=True)
