"""`tilth upsert`, `delete` and `compact`: what keeps an index with its shop."""

import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from tilth.cli.indexing import (
    Columns,
    Json,
    Memory,
    StoreUrl,
    Strict,
    Workers,
    column_map,
    encoded_in,
    print_counts,
    resources,
)
from tilth.cli.terminal import OUT, print_json, progress_bars
from tilth.errors import InputError
from tilth.files import open_binary
from tilth.readers.products import read_products
from tilth.readers.rejections import Summary, writing_rejections
from tilth.retrieval.builder import compact_index, told
from tilth.retrieval.generations import current_number, open_generation
from tilth.retrieval.index import check_store, open_store
from tilth.store import Store, Written

IndexFolder = Annotated[Path, typer.Argument(help="The index folder.")]


def upsert(
    index: IndexFolder,
    catalogue: Annotated[list[Path], typer.Argument(help="Whole records of new and changed products.")],
    columns: Columns = None,
    strict: Strict = False,
    store: StoreUrl = None,
    as_json: Json = False,
) -> None:
    """Store new and changed products: durable when the command ends, and found within a second."""
    summary = Summary()
    with (
        store_of(index, store) as opened,
        writing_rejections(index / "rejected.jsonl") as reject,
        progress_bars() as bars,
    ):
        products = read_products(
            catalogue, columns=column_map(columns or []), strict=strict, on_reject=reject, summary=summary
        )
        written = opened.upsert(told(products, bars))
        pending = written.sequence - _built_at(index)
    if as_json:
        print_json({**asdict(written), **summary.to_json(), "since_build": pending})
        return
    _print_written(written, pending, index)
    print_counts("rejected", summary.reasons, index / "rejected.jsonl")
    print_counts("left empty", summary.warnings, None)


def delete(
    index: IndexFolder,
    product_ids: Annotated[list[str] | None, typer.Argument(help="Ids of products.")] = None,
    file: Annotated[Path | None, typer.Option("--file", help="A file with one id a line.")] = None,
    store: StoreUrl = None,
    as_json: Json = False,
) -> None:
    """Remove products: durable when the command ends, and gone from every search within a second."""
    ids = [*(product_ids or []), *(_lines(file) if file else [])]
    if not ids:
        raise InputError("no product id was given", remedy="Name some, or a file of them: --file IDS")
    with store_of(index, store) as opened:
        written = opened.delete(ids)
        pending = written.sequence - _built_at(index)
    if as_json:
        print_json({**asdict(written), "since_build": pending})
    else:
        _print_written(written, pending, index)


def compact(
    index: IndexFolder,
    store: StoreUrl = None,
    workers: Workers = None,
    memory: Memory = None,
    as_json: Json = False,
) -> None:
    """Build the next generation from the store, beside the searches, and switch to it."""
    with store_of(index, store) as opened, progress_bars() as bars:
        before = current_number(index)
        manifest = compact_index(index, opened, resources(workers, memory), bars)
    if as_json:
        facts = {key: manifest[key] for key in ("catalogue", "passages", "legs", "store")}
        print_json({"index": str(index), **facts})
        return
    if current_number(index) == before:
        OUT.print(f"{index}: nothing has changed since generation {before} was built", soft_wrap=True)
        return
    OUT.print(
        f"{index}: {manifest['catalogue']['products']:,} products, "
        f"{manifest['passages']['count']:,} passages ({encoded_in(manifest)})",
        soft_wrap=True,
    )


def store_of(index: Path, url: str | None) -> Store:
    """Open the store of an index, which must exist and be of this store."""
    generation = open_generation(index, checksums=False)
    store = open_store(index, url, create=False)
    check_store(generation, store)
    return store


def _built_at(index: Path) -> int:
    return int(open_generation(index, checksums=False).manifest["store"]["sequence"])


def _lines(path: Path) -> list[str]:
    with open_binary(path) as file:
        lines = [line.decode("utf-8", "replace").strip() for line in file]
    return [line for line in lines if line]


def _print_written(written: Written, pending: int, index: Path) -> None:
    OUT.print(
        f"{written.changed:,} changed, {written.deleted:,} deleted, {written.unchanged:,} unchanged; "
        f"{pending:,} changes since the index was built"
        + (f" (tilth compact {os.fspath(index)})" if pending else ""),
        soft_wrap=True,
    )
