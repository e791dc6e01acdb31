"""Encoders on three catalogues: a general one in its three forms, and the shop's own; quality and costs.

    python benchmarks/encoders.py [--catalogues icecat,en,ru] [--products 10000] [--seed 0]
    python benchmarks/encoders.py --ablation | --samples 1000,3000,10000 | --dimensions 256,128,64 [--jobs 1]
    python benchmarks/encoders.py --table

Every encoder is measured alone, fused with BM25 and, where it is a static one, as the third list beside BM25
and MiniLM; each time with the default fusion, in an index that `build_index` made, and against BM25. Alone,
queries are as they were typed; BM25 and the fusions have their spelling corrected. A general encoder that
does not know the language of a catalogue is left out, and a figure says how many letters its tokens have.

On the sample shops an own encoder also learns from clicks. 70% of the queries are clicked on, by users who
are simulated on what the shop served before, as in clicks.py; the table "not clicked" is of the other 30%.

The second form trains the own encoder from scratch in variants, and compares them and BM25 with the first of
them: without each part of the training (or with it, where it is left out by default), on samples of the
catalogue, and cut to fewer dimensions. Each run replaces its own figures, and no others, in
benchmarks/results/encoders.jsonl; `--table` prints all of them in Markdown.
"""

import argparse
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from encoder_runs import (
    BM25,
    ICECAT,
    MEASURES,
    THREE_WAY,
    USES,
    WITH_BM25,
    Shop,
    Trained,
    clicked_pairs,
    costs,
    figure,
    kept_encoder,
    lexical_run,
    number,
    open_shop,
    quality,
    runs_of,
    train,
)
from encoder_variants import ablation, compared, dimensions, samples
from record import Figure, record, recorded
from tilth.encoder_training.settings import EncoderSettings
from tilth.evaluation.splits import queries_of, split
from tilth.one_search import DEPTH
from tilth.retrieval.encoder_build import ModelForBuild, build_encoder, for_build
from tilth.retrieval.encoder_kept import KeptEncoder
from tilth.retrieval.legs import LEAST_LETTERS
from tilth.run import Run

MINILM = "MiniLM float32"
OWN = "own"
TAUGHT = f"{OWN}, MiniLM teaching"
LETTERS = "letters a token"
ALL, NOT_CLICKED = "all queries", "not clicked"
QUICK_STEPS = 30


def main() -> None:
    """Measure, record and print."""
    options = parse_arguments()
    if options.table:
        print_tables(recorded("encoders"))
        return
    parts = chosen_parts(options)
    with ExitStack() as stack:
        folder = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for name in options.catalogues.split(","):
            shop = open_shop(name, options, folder)
            for part, measured in parts.items():
                about: Figure = {"dataset": shop.name, "part": part, "seed": options.seed}
                figures = [{**about, **each} for each in measured(shop, options)]
                print_tables(figures)
                if not options.quick:
                    record("encoders", figures, keep=partial(is_other, about))


def parse_arguments() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    data = Path(os.environ.get("TILTH_DATA", "../shared/data")) / ICECAT
    parser.add_argument("--catalogues", default=f"{ICECAT},en,ru", help="icecat; the sample shop in en or ru")
    parser.add_argument("--data", type=Path, default=data, help="folder of Icecat")
    parser.add_argument("--products", type=int, default=10_000, help="of the sample shops")
    parser.add_argument("--sessions", type=int, default=20_000, help="pages that simulated users see")
    parser.add_argument("--seed", type=int, default=0, help="of shops, trainings, clicks and intervals")
    parser.add_argument("--folder", type=Path, help="keeps the indexes, whose vectors the next run reuses")
    parser.add_argument("--steps", type=int, help="of each training, at most")
    parser.add_argument("--ablation", action="store_true", help="without each part of the training")
    parser.add_argument("--samples", type=numbers, default=[], help="products that are trained on")
    parser.add_argument("--dimensions", type=numbers, default=[], help="numbers of a vector")
    parser.add_argument("--jobs", type=int, default=1, help="trainings of variants at a time")
    parser.add_argument("--quick", action="store_true", help="few products and steps; nothing is recorded")
    parser.add_argument("--table", action="store_true", help="print what was recorded, in Markdown")
    return parser.parse_args()


def numbers(text: str) -> list[int]:
    """Return whole numbers that commas divide, the greatest first."""
    return sorted(map(int, text.split(",")), reverse=True)


Part = Callable[[Shop, argparse.Namespace], Iterable[Figure]]


def chosen_parts(options: argparse.Namespace) -> dict[str, Part]:
    """Return what is to be measured: variants of the own encoder, or else all encoders."""
    chosen = {"ablation": options.ablation, "samples": options.samples, "dimensions": options.dimensions}
    found = {name: partial(variants_of, name) for name, wanted in chosen.items() if wanted}
    return found or {"encoders": encoders}


def is_other(about: Mapping[str, object], found: Figure) -> bool:
    """Tell whether a figure is of another part or data set; one without a part is of an older script."""
    keys = ("dataset", "part")
    return "part" in found and any(found[key] != about[key] for key in keys)


def settings_of(options: argparse.Namespace) -> EncoderSettings:
    """Return the defaults of a training, but for the seed and the steps."""
    settings = EncoderSettings(seed=options.seed)
    steps = options.steps or (QUICK_STEPS if options.quick else settings.steps)
    return replace(settings, steps=steps)


# --- all encoders ---------------------------------------------------------------------------------


@dataclass(slots=True)
class Bench:
    """The encoders of one shop, indexed one after the other; what each finds and costs is kept."""

    shop: Shop
    lexical: Run | None = None  # of the first index: it is the same in all
    runs: dict[str, dict[str, Run]] = field(default_factory=lambda: {use: {} for use in USES})
    figures: list[Figure] = field(default_factory=list)
    general: KeptEncoder | None = None  # MiniLM, beside which others are the third

    def add(self, system: str, model: ModelForBuild) -> None:
        """Index the shop with an encoder, and where it is static a second time with it as the third."""
        print(f"{self.shop.name}: {system}", flush=True)
        queries, is_static = self.shop.queries, model.portable() is not None
        # In the folder of transformers, each generation takes MiniLM's vectors from the one before.
        pipeline = self.shop.index("static" if is_static else "general", model)
        if self.lexical is None:
            self.lexical = lexical_run(pipeline, queries)
        if system == MINILM:
            self.general = kept_encoder(pipeline)
        for use, run in runs_of(pipeline, queries).items():
            self.runs[use][system] = run
        self.figures += costs(system, pipeline, queries, model)
        pipeline.close()
        if is_static and self.general is not None:
            pipeline = self.shop.index("general", self.general, model)
            self.runs[THREE_WAY][system] = pipeline.search(queries, DEPTH)
            pipeline.close()

    def add_trained(self, system: str, trained: Trained, *, teacher: bool = False) -> None:
        """Add an own encoder; `teacher` says whether this training waited for a teacher."""
        self.figures.append(figure(system, "training", trained.seconds, "s"))
        if teacher:
            self.figures.append(figure(system, "teacher", trained.teacher_seconds, "s"))
        self.add(system, for_build(trained.encoder))

    def quality(self, asked: str, query_ids: Iterable[str]) -> Iterator[Figure]:
        """Compare all systems so far with BM25 on some of the queries."""
        if self.lexical is None:
            raise AssertionError("no encoder was added")
        wanted = set(query_ids)
        queries = [query for query in self.shop.queries if query.query_id in wanted]
        for use, found in self.runs.items():
            if found:
                about = {"use": use, "asked": asked, "queries": len(queries)}
                by_kind = self.shop.is_sample and use == WITH_BM25
                runs = {BM25: self.lexical, **found}
                yield from quality(self.shop, runs, BM25, queries, about, by_kind=by_kind)


def encoders(shop: Shop, options: argparse.Namespace) -> Iterator[Figure]:
    """Measure all encoders on one shop."""
    minilm, settings = build_encoder(), settings_of(options)
    letters = shop.letters_per_token(minilm)
    yield figure(MINILM, LETTERS, letters, "")
    general = minilm if letters >= LEAST_LETTERS else None
    bench = Bench(shop)
    if general is not None:
        bench.add(MINILM, general)
        bench.add("MiniLM int8", build_encoder(form="int8"))
        bench.add("MiniLM static", build_encoder(form="static"))
    bench.add_trained(OWN, train(shop, settings))
    if general is not None:
        bench.add_trained(TAUGHT, train(shop, settings, teacher=general), teacher=True)
    yield from bench.quality(ALL, [query.query_id for query in shop.queries])
    if shop.is_sample:
        served = bench.runs[WITH_BM25][OWN if general is None else MINILM]
        yield from learn_from_clicks(bench, shop, options, general, served)
    yield from bench.figures


def learn_from_clicks(
    bench: Bench, shop: Shop, options: argparse.Namespace, teacher: ModelForBuild | None, served: Run
) -> Iterator[Figure]:
    """Add an encoder that learned from clicks on what was served; measure all on the other queries."""
    parts = split(shop.queries, seed=options.seed)
    clicked = set(queries_of(parts, ["train"]))
    typed = [query for query in shop.queries if query.query_id in clicked]
    asked = clicked_pairs(shop, served, typed, options.sessions)
    system = f"{OWN if teacher is None else TAUGHT}, clicks"
    bench.add_trained(system, train(shop, settings_of(options), teacher=teacher, asked=asked))
    yield figure(system, "pairs learned from", len(asked), "", sessions=options.sessions)
    yield from bench.quality(NOT_CLICKED, queries_of(parts, ["validation", "test"]))


# --- variants of the own encoder ------------------------------------------------------------------


def variants_of(part: str, shop: Shop, options: argparse.Namespace) -> Iterator[Figure]:
    """Measure the variants of a part of the benchmark."""
    settings = settings_of(options)
    sizes = list(dict.fromkeys(min(size, shop.products) for size in options.samples))
    found = {
        "ablation": partial(ablation, settings),
        "samples": partial(samples, settings, sizes),
        "dimensions": partial(dimensions, settings, options.dimensions),
    }
    return compared(shop, list(found[part]()), ALL, options.jobs)


# --- tables ---------------------------------------------------------------------------------------

COSTS = {  # headings by metric
    "training": "training, s", "teacher": "teacher, s", "passages encoded": "passages/s",
    "query p50": "query p50, ms", "query p99": "p99, ms", "passage vectors": "vectors, bytes/product",
    "leg": "leg, bytes/product", "encoder": "encoder, MB",
}  # fmt: skip


def print_tables(figures: Sequence[Figure]) -> None:
    """Print figures in Markdown: for each data set and part the quality, by kind of query, and the costs."""
    for dataset, part in dict.fromkeys((each["dataset"], each["part"]) for each in figures):
        here = [each for each in figures if (each["dataset"], each["part"]) == (dataset, part)]
        for asked in dict.fromkeys(each["asked"] for each in here if "asked" in each):
            of_queries = [each for each in here if each.get("asked") == asked]
            print(f"\n{dataset}, {part}, {asked} ({of_queries[0]['queries']}):\n")
            print_quality([each for each in of_queries if "kind" not in each])
            print_kinds([each for each in of_queries if "kind" in each])
        print_costs([each for each in here if each["metric"] in COSTS])
        print_unknown(here)


def print_quality(figures: Sequence[Figure]) -> None:
    """Print the means of each system, and how nDCG differs from the baseline."""
    ndcg, recall = map(str, MEASURES)
    rows: dict[object, list[str]] = {each["system"]: [] for each in figures}
    headings = [""]
    for use in dict.fromkeys(each["use"] for each in figures):
        of_use = [each for each in figures if each["use"] == use]
        values = {(each["system"], each["metric"]): each for each in of_use}
        compared_in = next((str(m) for _, m in values if str(m).startswith(f"{ndcg} - ")), "")
        headings += [f"{use}: {ndcg}", compared_in.replace(f"{ndcg} ", ""), recall]
        for system, row in rows.items():
            row += [
                mean_cell(values.get((system, ndcg))),
                difference_cell(values.get((system, compared_in))),
                mean_cell(values.get((system, recall))),
            ]
    print_rows(headings, rows)


def print_unknown(figures: Sequence[Figure]) -> None:
    """Say which encoder was left out, since it does not know the language."""
    for each in figures:
        if each["metric"] == LETTERS and number(each) < LEAST_LETTERS:
            print(f"\nMiniLM does not know this language: {number(each):.1f} {LETTERS}.")


def print_kinds(figures: Sequence[Figure]) -> None:
    """Print nDCG by kind of query, with BM25."""
    ndcg = str(MEASURES[0])
    kinds = dict.fromkeys(str(each["kind"]) for each in figures)
    values = {(each["system"], each["kind"]): each for each in figures if each["metric"] == ndcg}
    systems = dict.fromkeys(each["system"] for each in figures)
    if kinds:
        print(f"\n{ndcg} with BM25 by kind of query:\n")
        rows = {system: [mean_cell(values.get((system, kind))) for kind in kinds] for system in systems}
        print_rows(["", *kinds], rows)


def print_costs(figures: Sequence[Figure]) -> None:
    """Print what each encoder costs."""
    if not figures:
        return
    values = {(each["system"], each["metric"]): number(each) for each in figures}
    metrics = [metric for metric in COSTS if any(metric == found for _, found in values)]
    systems = dict.fromkeys(each["system"] for each in figures)
    rows = {system: [cost_cell(values.get((system, metric))) for metric in metrics] for system in systems}
    print("\nCosts:\n")
    print_rows(["", *(COSTS[metric] for metric in metrics)], rows)


def print_rows(headings: Sequence[str], rows: Mapping[object, Sequence[str]]) -> None:
    """Print a table."""
    print("| " + " | ".join(headings) + " |")
    print("|---" * len(headings) + "|")
    for name, cells in rows.items():
        print("| " + " | ".join([str(name), *cells]) + " |")


def mean_cell(found: Figure | None) -> str:
    """Return a mean with three digits."""
    return "" if found is None else f"{number(found):.3f}"


def difference_cell(found: Figure | None) -> str:
    """Return a difference with its interval and p."""
    if found is None:
        return ""
    value, low, high, p = (number(found, key) for key in ("value", "low", "high", "p"))
    return f"{value:+.3f} [{low:+.3f}, {high:+.3f}], p {p:.2g}"


def cost_cell(value: float | None) -> str:
    """Return a cost with as many digits as it deserves."""
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}" if value < 10 else f"{value:.0f}"


if __name__ == "__main__":
    main()
