"""`tilth key`: who may call the service, for what, and until when."""

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from tilth.cli.indexing import Json, StoreUrl
from tilth.cli.terminal import ERR, OUT, print_json
from tilth.key_log import SCOPES, Key, KeyLog
from tilth.retrieval.index import open_store

app = typer.Typer(help="Make, list and revoke the keys of the service.", no_args_is_help=True)

Index = Annotated[Path, typer.Argument(help="The index folder, whose store keeps the keys.")]

_MOST_DAYS = 36_500  # a hundred years


@app.command()
def create(
    index: Index,
    name: Annotated[str, typer.Option(help="Who or what uses it.")],
    scopes: Annotated[str, typer.Option(help=f"Separated by commas: {', '.join(SCOPES)} (which is all).")],
    days: Annotated[
        int | None,
        typer.Option(min=1, max=_MOST_DAYS, help="How long it is valid; without end if left out."),
    ] = None,
    store: StoreUrl = None,
    as_json: Json = False,
) -> None:
    """Make a key and print its token, alone on the standard output, this once."""
    expires = None if days is None else datetime.now(UTC) + timedelta(days=days)
    wanted = [scope.strip() for scope in scopes.split(",") if scope.strip()]
    with open_store(index, store, create=False) as opened:
        key, token = KeyLog(opened).create(name, wanted, expires)
    if as_json:
        print_json({"token": token, **_facts(key)})
        return
    sys.stdout.write(f"{token}\n")
    sys.stdout.flush()
    until = "it does not expire" if key.expires is None else f"it expires on {_day(key.expires)}"
    told = f"{key.key_id} is the key of {key.name} for {', '.join(key.ordered_scopes)}; {until}."
    ERR.print(Text(f"{told} Keep the token: it cannot be seen again"), soft_wrap=True)


@app.command("list")
def list_keys(index: Index, store: StoreUrl = None, as_json: Json = False) -> None:
    """List the keys, the revoked and expired ones too; no token can be seen again."""
    with open_store(index, store, create=False) as opened:
        keys = KeyLog(opened).keys()
    if as_json:
        print_json({"keys": [_facts(key) for key in keys]})
    elif keys:
        OUT.print(_table(keys))
    else:
        OUT.print("no key was ever created: the service asks for none, and listens on loopback only")


@app.command()
def revoke(
    index: Index,
    key_id: Annotated[str, typer.Argument(help="Of the key, as `tilth key list` shows it.")],
    store: StoreUrl = None,
    as_json: Json = False,
) -> None:
    """Revoke a key for good; running services refuse it within seconds."""
    with open_store(index, store, create=False) as opened:
        key = KeyLog(opened).revoke(key_id)
    if as_json:
        print_json(_facts(key))
    else:
        OUT.print(Text(f"{key.key_id}, the key of {key.name}, is revoked"), soft_wrap=True)


def _facts(key: Key) -> dict[str, Any]:
    return {
        "key_id": key.key_id,
        "name": key.name,
        "scopes": key.ordered_scopes,
        "created": key.created.isoformat(),
        "expires": None if key.expires is None else key.expires.isoformat(),
        "revoked": None if key.revoked is None else key.revoked.isoformat(),
    }


def _table(keys: list[Key]) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("id", "name", "scopes", "created", "expires", "revoked"):
        table.add_column(column, no_wrap=column == "id")
    for key in keys:
        days = [_day(time) if time else "" for time in (key.created, key.expires, key.revoked)]
        table.add_row(key.key_id, Text(key.name), ", ".join(key.ordered_scopes), *days)
    return table


def _day(time: datetime) -> str:
    return f"{time:%Y-%m-%d}"
