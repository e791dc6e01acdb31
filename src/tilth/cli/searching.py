"""`tilth search`: one query, or many at a prompt; `tilth fields`: what can be filtered by."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from tilth.cli.indexing import Json, StoreUrl
from tilth.cli.terminal import ERR, OUT, print_json
from tilth.errors import InputError
from tilth.pipeline import Answer, Evidence, open_index
from tilth.reranking.answerability import Decision
from tilth.serve.answers import answer_to_json

_SHOWN = 8  # values of a field


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
    collapse: Annotated[
        bool, typer.Option("--collapse", help="Of the variants with one item_group_id, show the best.")
    ] = False,
    facets: Annotated[
        str | None, typer.Option(help="Fields whose values are counted, separated by commas.")
    ] = None,
    store: StoreUrl = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON: an object, or one a line for many queries.")
    ] = False,
) -> None:
    """Search an index."""
    conditions = read_conditions(filters)
    counted = [name.strip() for name in facets.split(",")] if facets else []
    pipeline = open_index(index, store=store)
    for text in [query] if query is not None else _typed():
        pipeline.refresh()
        answer = pipeline.answer(text, k, conditions, collapse=collapse, facets=counted)
        if as_json:
            print_json(answer_to_json(answer), indent=query is not None)
        else:
            _print_answer(answer, explain)
    pipeline.close()


def fields(
    index: Annotated[Path, typer.Argument(help="The index folder.")],
    json_schema: Annotated[
        bool, typer.Option("--json-schema", help="Print the JSON Schema of the filters instead.")
    ] = False,
    store: StoreUrl = None,
    as_json: Json = False,
) -> None:
    """Show what can be filtered by: fields and attributes with their types, values and ranges."""
    pipeline = open_index(index, store=store)
    if json_schema:
        print_json(pipeline.live.view.filter_schema())
    elif as_json:
        print_json(pipeline.live.view.fields())
    else:
        OUT.print(_fields_table(pipeline.live.view.fields()))
    pipeline.close()


def _fields_table(described: Mapping[str, Mapping[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("field", "type", "products", "values"):
        table.add_column(column, justify="right" if column == "products" else "left")
    for name, facts in described.items():
        unit = f" ({facts['unit']})" if facts.get("unit") else ""
        table.add_row(name, f"{facts['type']}{unit}", f"{facts['products']:,}", _values(facts))
    return table


def _values(facts: Mapping[str, Any]) -> str:
    if "min" in facts:
        return f"{facts['min']} to {facts['max']}"
    shown = facts.get("values", [])[:_SHOWN]
    text = ", ".join(f"{value['value']} ({value['count']:,})" for value in shown)
    return text + (f", ... {facts['distinct']:,} in all" if facts.get("distinct", 0) > _SHOWN else "")


def read_conditions(text: str | None) -> dict[str, object] | None:
    """Read the option --filters; None where it is absent, InputError where it is no JSON object."""
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


def _print_answer(answer: Answer, explain: bool) -> None:
    if answer.read_as != answer.query:
        OUT.print(f"[dim]read as:[/dim] {escape(answer.read_as)}")
    for name, reason in answer.skipped.items() if explain else ():
        OUT.print(f"[dim]{name} skipped: {reason}[/dim]")
    if answer.decision is not None and not answer.decision.answered:
        OUT.print(_refusal(answer.decision))
    if not answer.hits:
        OUT.print("nothing found")
    else:
        OUT.print(_hits_table(answer, explain))
    for name, facet in answer.facets.items():
        values = ", ".join(f"{value} {count:,}" for value, count in list(facet.retrieved.items())[:_SHOWN])
        OUT.print(f"[dim]{escape(name)} of the retrieved:[/dim] {escape(values)}", soft_wrap=True)
    stages = ", ".join(f"{name} {value:.1f}" for name, value in answer.milliseconds.items())
    total = sum(answer.milliseconds.values())
    OUT.print(
        f"[dim]{len(answer.hits)} of {answer.totals.retrieved:,} retrieved, from {answer.totals.allowed:,} "
        f"products, in {total:.1f} ms ({stages})[/dim]"
    )
    if answer.release is not None:
        OUT.print(f"[dim]ordered by release {escape(answer.release)}[/dim]")


def _refusal(decision: Decision) -> str:
    chance, threshold = f"{decision.probability:.2g}", f"{decision.threshold:.2g}"
    return f"the shop seems to have nothing that fits: probability {chance}, below {threshold}"


def _hits_table(answer: Answer, explain: bool) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, expand=True)
    table.add_column(justify="right", style="dim", no_wrap=True)
    table.add_column(ratio=1)
    table.add_column(justify="right", no_wrap=True)
    how = "reranked" if "rerank" in answer.milliseconds else "fused"
    for hit in answer.hits:
        table.add_row(str(hit.rank), _description(hit, explain, how), str(hit.product.price or ""))
    return table


def _description(hit: Evidence, explain: bool, how: str) -> Text:
    product = hit.product
    facts = [product.id, product.brand, product.product_type, product.availability.replace("_", " ")]
    text = Text(product.title).append("\n" + " · ".join(filter(None, facts)), style="dim")
    if explain:
        places = [f"{name} #{place.rank} ({place.score:.3g})" for name, place in hit.places.items()]
        terms = [f"{term} in {', '.join(fields)}" for term, fields in hit.matched.items()]
        places += ["the query is its identifier"] if hit.identified else []
        places.append(f"{how} {hit.score:.4g}")
        places += [f"relevant with probability {hit.probability:.2f}"] if hit.probability is not None else []
        text.append(f"\n{'; '.join(places)}", style="cyan")
        text.append(f"\n{'; '.join(terms) or 'no term matches'}", style="green")
    return text
