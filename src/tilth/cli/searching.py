"""`tilth search`: one query, or many at a prompt."""

import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from tilth.catalog import product_to_json
from tilth.cli.terminal import ERR, OUT, print_json
from tilth.errors import InputError
from tilth.pipeline import Answer, Evidence, Pipeline, open_index


def search(
    index: Annotated[Path, typer.Argument(help="The index folder.")],
    query: Annotated[
        str | None, typer.Argument(help="What a customer types; without it, queries are read one a line.")
    ] = None,
    k: Annotated[int, typer.Option("-k", min=0, help="How many hits.")] = 10,
    filters: Annotated[
        str | None, typer.Option(help='Conditions as JSON: \'{"brand": "Terra", "price": {"lte": 20}}\'.')
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", "-e", help="Say why each hit is there.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON: an object, or one a line for many queries.")
    ] = False,
) -> None:
    """Search an index."""
    conditions = _conditions(filters)
    pipeline = open_index(index)
    for text in [query] if query is not None else _typed():
        answer = pipeline.answer(text, k, conditions)
        if as_json:
            print_json(answer_to_json(answer), indent=query is not None)
        else:
            _print_answer(answer, pipeline, explain)


def _conditions(text: str | None) -> dict[str, object] | None:
    if text is None:
        return None
    try:
        conditions = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InputError(f"is not JSON: {error}", field="--filters", value=text) from error
    if not isinstance(conditions, dict):
        raise InputError("is not a JSON object", field="--filters", value=text)
    return conditions


def _typed() -> Iterator[str]:
    """Yield queries from a prompt, or from the lines of the standard input."""
    if not sys.stdin.isatty():
        yield from (line.rstrip("\n") for line in sys.stdin)
        return
    ERR.print("Type a query; an empty line ends.")
    while True:
        try:
            text = input("> ")
        except EOFError:
            return
        if not text.strip():
            return
        yield text


def answer_to_json(answer: Answer) -> dict[str, Any]:
    """Return an answer as plain data: `query`, `read_as`, `skipped`, `hits` and `milliseconds`."""
    return {
        "query": answer.query,
        "read_as": answer.read_as,
        "skipped": dict(answer.skipped),
        "hits": [_hit_to_json(hit) for hit in answer.hits],
        "milliseconds": dict(answer.milliseconds),
    }


def _hit_to_json(hit: Evidence) -> dict[str, Any]:
    product = product_to_json(hit.product)
    return {
        "rank": hit.rank,
        "product_id": product.pop("id"),
        "score": hit.score,
        **product,
        "explanation": {
            "places": {name: asdict(place) for name, place in hit.places.items()},
            "matched": dict(hit.matched),
            "identified": hit.identified,
        },
    }


def _print_answer(answer: Answer, pipeline: Pipeline, explain: bool) -> None:
    if answer.read_as != answer.query:
        OUT.print(f"[dim]read as:[/dim] {escape(answer.read_as)}")
    for name, reason in answer.skipped.items() if explain else ():
        OUT.print(f"[dim]{name} skipped: {reason}[/dim]")
    if not answer.hits:
        OUT.print("nothing found")
    else:
        OUT.print(_hits_table(answer, explain))
    stages = ", ".join(f"{name} {value:.1f}" for name, value in answer.milliseconds.items())
    total = sum(answer.milliseconds.values())
    OUT.print(
        f"[dim]{len(answer.hits)} of {len(pipeline.index):,} products in {total:.1f} ms ({stages})[/dim]"
    )


def _hits_table(answer: Answer, explain: bool) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, expand=True)
    table.add_column(justify="right", style="dim", no_wrap=True)
    table.add_column(ratio=1)
    table.add_column(justify="right", no_wrap=True)
    for hit in answer.hits:
        table.add_row(str(hit.rank), _description(hit, explain), str(hit.product.price or ""))
    return table


def _description(hit: Evidence, explain: bool) -> Text:
    product = hit.product
    facts = [product.id, product.brand, product.product_type, product.availability.replace("_", " ")]
    text = Text(product.title).append("\n" + " · ".join(filter(None, facts)), style="dim")
    if explain:
        places = [f"{name} #{place.rank} ({place.score:.3g})" for name, place in hit.places.items()]
        terms = [f"{term} in {', '.join(fields)}" for term, fields in hit.matched.items()]
        places += ["the query is its identifier"] if hit.identified else []
        text.append(f"\n{'; '.join(places)}; fused {hit.score:.4g}", style="cyan")
        text.append(f"\n{'; '.join(terms) or 'no term matches'}", style="green")
    return text
