"""`tilth context`: what a language model is given to answer a query from."""

from pathlib import Path
from typing import Annotated

import typer

from tilth.cli.indexing import Json, StoreUrl
from tilth.cli.searching import read_conditions
from tilth.cli.terminal import print_json
from tilth.context import build_context
from tilth.pipeline import open_index
from tilth.serve.answers import context_to_json


def context(
    index: Annotated[Path, typer.Argument(help="The index folder.")],
    query: Annotated[str, typer.Argument(help="What a customer types.")],
    budget: Annotated[int, typer.Option(min=1, help="Tokens of the whole text, at most.")] = 1500,
    template: Annotated[str, typer.Option(help="markdown, json or xml.")] = "markdown",
    filters: Annotated[
        str | None, typer.Option(help='Conditions as JSON: \'{"brand": "Terra", "price": {"lte": 20}}\'.')
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="How many hits are looked at.")] = 20,
    passages: Annotated[int, typer.Option(min=1, help="Passages a product, at most.")] = 2,
    tokenizer: Annotated[
        str, typer.Option(help="What counts tokens: encoder, or characters (one token for four).")
    ] = "encoder",
    store: StoreUrl = None,
    as_json: Json = False,
) -> None:
    """Write the products that answer a query as text for a language model, under a budget of tokens."""
    pipeline = open_index(index, store=store)
    made = build_context(
        pipeline,
        query,
        budget_tokens=budget,
        filters=read_conditions(filters),
        k=k,
        passages_per_product=passages,
        template=template,
        tokenizer=tokenizer,
    )
    pipeline.close()
    if as_json:
        print_json(context_to_json(made))
    else:
        typer.echo(made.text, nl=False)
