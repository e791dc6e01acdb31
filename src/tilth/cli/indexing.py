"""`tilth sample` and `tilth index`: from nothing, or from a catalogue, to an index."""

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from tilth.cli.encoder_choice import AUTO, EncoderChoice
from tilth.cli.terminal import ERR, OUT, print_json, progress_bars
from tilth.encoder_training.of_index import keep_replaced
from tilth.encoder_training.settings import MOST_SEED
from tilth.errors import InputError, SettingError
from tilth.readers.products import read_products
from tilth.readers.rejections import Summary, writing_rejections
from tilth.releases import current_name
from tilth.retrieval.build_settings import BuildSettings, Resources
from tilth.retrieval.builder import build_index, encode_shard, store_catalogue
from tilth.retrieval.encoder import OWN
from tilth.retrieval.encoder_build import DEFAULT_MODEL, ModelForBuild, build_encoder
from tilth.retrieval.index import open_store
from tilth.retrieval.legs import LEAST_LETTERS, LEGS, OWN_LEAST_LETTERS
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


_DEFAULT = PassageSettings()

Columns = Annotated[
    list[str] | None, typer.Option("--map", help="FIELD=COLUMN, for files that name things otherwise.")
]
Strict = Annotated[bool, typer.Option(help="Stop at the first row that cannot be used.")]
StoreUrl = Annotated[
    str | None,
    typer.Option(
        "--store", envvar="TILTH_STORE", help="URL of the store; otherwise SQLite in the index folder."
    ),
]
Into = Annotated[Path, typer.Option(help="The index folder.")]
ModelName = Annotated[str, typer.Option("--encoder", help="A model's name or folder.")]
EncoderName = Annotated[
    str,
    typer.Option(
        "--encoder",
        help="A model's name or folder; own: trained on this catalogue alone; auto: "
        f"{DEFAULT_MODEL} where it knows the words, else own.",
    ),
]
Form = Annotated[
    str, typer.Option(help="How it serves: float32, int8, or static (distilled; fastest on a CPU).")
]
QueryPrefix = Annotated[
    str | None, typer.Option(help="Instead of the model family's, such as E5's 'query: '.")
]
PassagePrefix = Annotated[str | None, typer.Option(help="Likewise for passages.")]
Passages = Annotated[int, typer.Option(help="Passages a product, at most.")]
MaxTokens = Annotated[int, typer.Option(help="Tokens a passage, at most.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Processes that prepare products; one a core.")]
Memory = Annotated[
    float | None,
    typer.Option(min=0.1, help="GB for terms until they are written; a sixteenth of the machine."),
]


def index(
    catalogue: Annotated[
        list[Path] | None,
        typer.Argument(
            help="JSONL, CSV, TSV, Parquet, RSS or Atom; each also gzipped. Without it, the store as it is."
        ),
    ] = None,
    *,
    into: Into,
    columns: Columns = None,
    strict: Strict = False,
    store: StoreUrl = None,
    store_only: Annotated[
        bool, typer.Option("--store-only", help="Store the catalogue; build later.")
    ] = False,
    encoder: EncoderName = AUTO,
    third: Annotated[
        str | None,
        typer.Option(help="A further encoder, for a third list: own, or the folder of a static one."),
    ] = None,
    form: Form = "float32",
    query_prefix: QueryPrefix = None,
    passage_prefix: PassagePrefix = None,
    teacher: Annotated[
        str | None, typer.Option(help="A model whose similarities an own encoder learns, too.")
    ] = None,
    dimension: Annotated[
        int | None, typer.Option(min=1, help="Numbers of a vector of an own or a static encoder.")
    ] = None,
    passages: Passages = _DEFAULT.passages,
    max_tokens: MaxTokens = _DEFAULT.max_tokens,
    recall: Annotated[float, typer.Option(help="Of the exact nearest, where search is approximate.")] = 0.95,
    seed: Annotated[
        int | None, typer.Option(min=0, max=MOST_SEED, help="Of everything random in a build; 0.")
    ] = None,
    workers: Workers = None,
    memory: Memory = None,
    as_json: Json = False,
) -> None:
    """Make the catalogue exactly these products, and build an index of it, or its next generation."""
    if store_only and not catalogue:
        raise InputError("no catalogue file was given", remedy="Name what to store")
    choice = EncoderChoice(
        encoder=encoder,
        third=third,
        form=form,
        query_prefix=query_prefix,
        passage_prefix=passage_prefix,
        teacher=teacher,
        dimension=dimension,
        seed=seed,
    )
    choice.check(into)
    if passed_over := choice.passed_over(into):
        ERR.print(
            f"{into} keeps its own encoder, which was trained without {' and '.join(passed_over)} as given "
            f"here. Train it anew: tilth encoder retrain {into} --queries QUERIES --qrels QRELS",
            soft_wrap=True,
        )
    settings = BuildSettings(
        passages=_passage_settings(passages, max_tokens),
        recall=recall,
        seed=seed or 0,
        resources=resources(workers, memory),
    )
    summary, manifest = Summary(), None
    with open_store(into, store) as opened, progress_bars() as bars:
        if catalogue:
            with writing_rejections(into / "rejected.jsonl") as reject:
                products = read_products(
                    catalogue,
                    columns=column_map(columns or []),
                    strict=strict,
                    on_reject=reject,
                    summary=summary,
                )
                store_catalogue(products, opened, bars)
        if not store_only:
            model, own = choice.open(into, opened, bars)
            _keep_replaced(into, [model, own] if own else [model])
            source: dict[str, object] = {"files": [str(path) for path in catalogue or []]}
            manifest = build_index(into, opened, model, settings, bars, own=own, source=source)
    if as_json:
        facts = _facts(manifest) if manifest else {}
        print_json({"index": str(into), **summary.to_json(), **facts})
    else:
        _print_summary(into, summary, manifest)


def _keep_replaced(into: Path, models: list[ModelForBuild]) -> None:
    """Keep and name an own encoder that the index had and is not built with."""
    kept = keep_replaced(into, models)
    if kept is None:
        return
    release = current_name(into)
    made = f", with which release {release}, in force, was measured," if release else ""
    ERR.print(
        f"{into} had another own encoder{made} that is kept in {kept}. With it again: tilth index --into "
        f"{into} --encoder {kept}, or --third {kept}",
        soft_wrap=True,
    )


def encode(
    into: Annotated[Path, typer.Argument(help="The index folder, whose store holds the catalogue.")],
    shard: Annotated[str, typer.Option(help="Which part: 1/4 is the first of four.")] = "1/1",
    store: StoreUrl = None,
    encoder: ModelName = DEFAULT_MODEL,
    form: Form = "float32",
    query_prefix: QueryPrefix = None,
    passage_prefix: PassagePrefix = None,
    passages: Passages = _DEFAULT.passages,
    max_tokens: MaxTokens = _DEFAULT.max_tokens,
    as_json: Json = False,
) -> None:
    """Encode a part of what the next build needs; every process, machine or GPU takes a part of its own."""
    part = _shard(shard)
    settings = BuildSettings(passages=_passage_settings(passages, max_tokens))
    with open_store(into, store, create=False) as opened, progress_bars() as bars:
        model = build_encoder(encoder, form, query_prefix=query_prefix, passage_prefix=passage_prefix)
        encoded = encode_shard(into, opened, model, settings, part, bars)
    if as_json:
        print_json({"index": str(into), "shard": shard, "encoded": encoded})
    else:
        OUT.print(f"{into}: {encoded:,} passages encoded for the next build")


def _shard(text: str) -> tuple[int, int]:
    part, slash, parts = text.partition("/")
    if not (slash and part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts)):
        raise SettingError(f"--shard is {text!r}; it must be of the form 1/4, from 1/4 to 4/4")
    return int(part), int(parts)


def _passage_settings(passages: int, max_tokens: int) -> PassageSettings:
    return PassageSettings(passages, max_tokens, min(_DEFAULT.head_tokens, max_tokens))


def resources(workers: int | None, memory: float | None) -> Resources:
    """Return what a build may use: what is named, else what the machine has."""
    whole = Resources.of_machine()
    return Resources(whole.threads, workers or whole.workers, int(memory * 1e9) if memory else whole.memory)


def column_map(pairs: list[str]) -> dict[str, str]:
    """Return the columns that fields are read from; each pair is FIELD=COLUMN."""
    columns = {}
    for pair in pairs:
        field, equals, column = pair.partition("=")
        if not (field and equals and column):
            raise InputError("is not of the form FIELD=COLUMN", field="--map", value=pair)
        columns[field] = column
    return columns


def _facts(manifest: dict[str, Any]) -> dict[str, Any]:
    return {key: manifest[key] for key in ("passages", "legs")}


def _print_summary(into: Path, summary: Summary, manifest: dict[str, Any] | None) -> None:
    if summary.kept or not manifest:
        OUT.print(f"{into}: {summary.kept:,} products kept, {summary.rejected:,} rejected", soft_wrap=True)
    else:
        OUT.print(f"{into}: {manifest['catalogue']['products']:,} products in the store", soft_wrap=True)
    if manifest:
        _print_passages(manifest)
    print_counts("rejected", summary.reasons, into / "rejected.jsonl")
    print_counts("left empty", summary.warnings, None)


def _print_passages(manifest: dict[str, Any]) -> None:
    passages, leg = manifest["passages"], manifest["legs"][LEGS[0]]
    OUT.print(
        f"{passages['count']:,} passages ({encoded_in(manifest)}); "
        f"{passages['dropped_words']:,} words of {passages['cut_products']:,} products are in no passage",
        soft_wrap=True,
    )
    name, letters = leg["encoder"]["name"], leg["letters_per_token"]
    if letters < (OWN_LEAST_LETTERS if name == OWN else LEAST_LETTERS):
        remedy = "" if name == OWN else ". Train the shop's own: --encoder own"
        ERR.print(
            f"the encoder {name} has few words of this catalogue's titles ({letters} letters a token): "
            f"queries of such words are answered by the lexical index alone{remedy}",
            soft_wrap=True,
        )


def encoded_in(manifest: dict[str, Any]) -> str:
    """Return how many passages each leg encoded and reused, in words."""
    counts = {
        name: f"{leg['encoded']:,} encoded, {leg['reused']:,} reused"
        for name, leg in manifest["legs"].items()
    }
    first = counts.pop(LEGS[0])
    return "; ".join([first, *(f"{name}: {text}" for name, text in counts.items())])


def print_counts(title: str, counts: Counter[str], file: Path | None) -> None:
    """Print, as warnings, how often each reason was met."""
    for reason, count in counts.most_common():
        ERR.print(f"  {title}: {count:,} x {reason}" + (f" (see {file})" if file else ""), soft_wrap=True)
