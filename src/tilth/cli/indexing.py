"""`tilth sample` and `tilth index`: from nothing, or from a catalogue, to an index."""

import os
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from tilth.cli.terminal import ERR, OUT, print_json, progress_bars
from tilth.errors import InputError
from tilth.readers.products import read_products
from tilth.readers.rejections import Summary, writing_rejections
from tilth.retrieval.builder import BuildSettings, build_index
from tilth.retrieval.encoder_build import DEFAULT_MODEL, build_encoder
from tilth.retrieval.index import LEAST_LETTERS
from tilth.retrieval.passages import PassageSettings
from tilth.sample.shop import write_shop

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def sample(
    into: Annotated[Path, typer.Argument(help="Folder for products.jsonl, queries.tsv and qrels.tsv.")],
    products: Annotated[int, typer.Option(help="How many, up to 5,000,000.")] = 10_000,
    language: Annotated[str, typer.Option(help="en, ru or both.")] = "en",
    seed: Annotated[int, typer.Option(help="The same seed gives the same shop.")] = 0,
    as_json: Json = False,
) -> None:
    """Write a garden-supplies shop with queries and qrels."""
    with progress_bars() as bars:
        summary = write_shop(
            into,
            products=products,
            language=language,
            seed=seed,
            progress=lambda done: bars("writing", done, products),
        )
    if as_json:
        print_json(asdict(summary))
        return
    OUT.print(
        f"{into}: {summary.products:,} products, {summary.queries} queries, {summary.judgments:,} judgments"
    )


def index(
    catalogue: Annotated[
        list[Path], typer.Argument(help="JSONL, CSV, TSV, Parquet, RSS or Atom; each also gzipped.")
    ],
    into: Annotated[Path, typer.Option(help="The index folder.")],
    columns: Annotated[
        list[str] | None, typer.Option("--map", help="FIELD=COLUMN, for files that name things otherwise.")
    ] = None,
    strict: Annotated[bool, typer.Option(help="Stop at the first row that cannot be used.")] = False,
    encoder: Annotated[str, typer.Option(help="A model's name or folder.")] = DEFAULT_MODEL,
    form: Annotated[
        str, typer.Option(help="How it serves: float32, int8, or static (distilled; fastest on a CPU).")
    ] = "float32",
    query_prefix: Annotated[
        str | None, typer.Option(help="Instead of the model family's, such as E5's 'query: '.")
    ] = None,
    passage_prefix: Annotated[str | None, typer.Option(help="Likewise for passages.")] = None,
    passages: Annotated[int, typer.Option(help="Passages a product, at most.")] = PassageSettings().passages,
    max_tokens: Annotated[
        int, typer.Option(help="Tokens a passage, at most.")
    ] = PassageSettings().max_tokens,
    recall: Annotated[float, typer.Option(help="Of the exact nearest, where search is approximate.")] = 0.95,
    seed: Annotated[int, typer.Option(help="Of everything random in a build.")] = 0,
    as_json: Json = False,
) -> None:
    """Build an index from a catalogue, or a new generation of one."""
    settings = BuildSettings(
        passages=PassageSettings(passages, max_tokens, min(PassageSettings().head_tokens, max_tokens)),
        recall=recall,
        threads=os.cpu_count() or 1,
        seed=seed,
    )
    summary = Summary()
    with writing_rejections(into / "rejected.jsonl") as reject, progress_bars() as bars:
        products = read_products(
            catalogue, columns=_column_map(columns or []), strict=strict, on_reject=reject, summary=summary
        )
        model = build_encoder(encoder, form, query_prefix=query_prefix, passage_prefix=passage_prefix)
        source: dict[str, object] = {"files": [str(path) for path in catalogue]}
        manifest = build_index(products, into, model, settings, bars, source)
    if as_json:
        print_json({"index": str(into), **summary.to_json(), **_facts(manifest)})
    else:
        _print_summary(into, summary, manifest)


def _column_map(pairs: list[str]) -> dict[str, str]:
    columns = {}
    for pair in pairs:
        field, equals, column = pair.partition("=")
        if not (field and equals and column):
            raise InputError("is not of the form FIELD=COLUMN", field="--map", value=pair)
        columns[field] = column
    return columns


def _facts(manifest: dict[str, Any]) -> dict[str, Any]:
    return {key: manifest[key] for key in ("encoder", "passages", "dense")}


def _print_summary(into: Path, summary: Summary, manifest: dict[str, Any]) -> None:
    passages = manifest["passages"]
    OUT.print(f"{into}: {summary.kept:,} products kept, {summary.rejected:,} rejected", soft_wrap=True)
    OUT.print(
        f"{passages['count']:,} passages ({passages['encoded']:,} encoded, {passages['reused']:,} reused); "
        f"{passages['dropped_words']:,} words of {passages['cut_products']:,} products are in no passage"
    )
    if passages["letters_per_token"] < LEAST_LETTERS:
        ERR.print(
            f"the encoder {manifest['encoder']['name']} does not know the language of this catalogue "
            f"({passages['letters_per_token']} letters a token): queries whose words it does not know are "
            "answered by the lexical index alone. Name a multilingual model: --encoder "
            "intfloat/multilingual-e5-small",
            soft_wrap=True,
        )
    _print_counts("rejected", summary.reasons, into / "rejected.jsonl")
    _print_counts("left empty", summary.warnings, None)


def _print_counts(title: str, counts: Counter[str], file: Path | None) -> None:
    for reason, count in counts.most_common():
        ERR.print(f"  {title}: {count:,} x {reason}" + (f" (see {file})" if file else ""), soft_wrap=True)
