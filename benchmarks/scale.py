"""How every cost grows with the catalogue: building, opening, searching, filtering and changing it.

    python benchmarks/scale.py --products 1000000 [--folder DIR] [--only search] [--peers] [--rounds 3]

The sample shop of that size, one passage a product, the shop's own encoder, trained on a sample of it. `index
apart from encoding` is the wall time of `tilth index --store-only` and `tilth index --encoder own`, less the
training and the encoding. Peak memory is
the greatest sum over the process tree, files in memory included. Searches give the 100 best, query encoding
included, in a process pinned to one core; the throughput is that of threads sharing one pipeline on as many
cores. Filters are ranges of price and popularity: `first` takes another of 64 for each query, `repeated` four
in turn that were asked before. Recall is against comparing the float32 vectors of all products, or the 8-bit
codes that the index holds of them, which shows what the codes cost and what probing does; above a million
products the codes alone. Changes go to a
copy of the store: titles, which make new terms and vectors, and prices, which do not. Each size is a run of
its own; the figures of the others stay. Writes benchmarks/results/scale.jsonl, and prints all of it.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import cycle, islice
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from record import Figure, record, recorded
from scale_peers import PEERS, WARM_UP, measure_peer
from scale_tables import show_growth, show_peers
from scale_workload import (
    RECALL_DEPTH,
    REPEATED,
    Range,
    Values,
    Workload,
    floors,
    in_process,
    megabytes,
    memory,
    milliseconds,
    own_encoder,
    percentiles,
    recall,
    run_measured,
)
from tilth.catalog import Price, Product
from tilth.pipeline import Pipeline, open_index
from tilth.retrieval.quantisation import code_step

HITS = RECALL_DEPTH
BATCHES, BATCH, SINGLE = 20, 500, 300  # of changed products; and changes one by one
SIGHTINGS = 10  # changes that another process is to find
THROUGHPUT_SECONDS = 10
PEER_SECONDS = 3_600  # for building, and again for searching
UNITS = {  # by the beginning of a metric
    "ingest": "products/s", "index": "s", "training": "s", "encoding": "s", "stage": "ms", "build": "s",
    "peak": "GiB",
    "disk": "MB", "open": "s", "resident": "GiB", "hybrid": "ms", "filtered": "ms", "encode": "ms",
    "gave up": "s",
    "throughput": "queries/s", "recall": "", "changes": "products/s", "found elsewhere": "s",
}  # fmt: skip


def main() -> None:
    """Measure, record and print."""
    arguments = parse_arguments()
    workload = Workload(arguments.folder, arguments.products)
    workload.folder.mkdir(parents=True, exist_ok=True)
    workload.write_shop()
    parts = [*(arguments.only or PARTS), *(PEERS if arguments.peers else [])]
    for part in dict.fromkeys(parts):
        print(f"{part}, {workload.products:,} products")
        figures = measure(part, workload, arguments.rounds)
        record("scale", figures, keep=partial(is_other, part, workload.products))
    figures = recorded("scale")
    show_growth(figures)
    show_peers(figures)


def parse_arguments() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    folder = Path(tempfile.gettempdir()) / "tilth-scale"
    parser.add_argument("--products", type=int, required=True, help="the size of the shop, up to 5,000,000")
    parser.add_argument("--folder", type=Path, default=folder, help="for shops, vectors and indexes")
    parser.add_argument(
        "--only", nargs="*", choices=[*PARTS, *PEERS], help="what to measure; `build` makes what others need"
    )
    parser.add_argument("--peers", action="store_true", help="other libraries too")
    parser.add_argument("--rounds", type=int, default=3, help="how often all queries are asked")
    return parser.parse_args()


def is_other(part: str, products: int, figure: Figure) -> bool:
    """Tell whether a figure is of another part or size."""
    return (figure["part"], figure["products"]) != (part, products)


def measure(part: str, workload: Workload, rounds: int) -> list[Figure]:
    """Measure one part; of a peer that does not get there, the figure is when it gave up, and why."""
    if part in PARTS:
        return figures_of("Tilth", part, workload, PARTS[part](workload, rounds))
    in_process(Workload.write_vectors, workload)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=workload.folder) as folder:
        try:
            found = measure_peer(part, workload, Path(folder), rounds, PEER_SECONDS)
        except (TimeoutError, EOFError) as error:
            seconds, why = time.perf_counter() - start, str(error) or "its process died"
            return figures_of(part, part, workload, {"gave up after": seconds}, why=why)
    return figures_of(part, part, workload, found.values, **found.effort)


def figures_of(system: str, part: str, workload: Workload, values: Values, **more: object) -> list[Figure]:
    """Return one figure a metric."""
    about = {"dataset": "sample shop", "system": system, "products": workload.products, "part": part, **more}
    return [{**about, "metric": name, "value": value, "unit": unit(name)} for name, value in values.items()]


def unit(metric: str) -> str:
    """Return the unit of a metric."""
    if metric.endswith("allowed"):
        return "products"
    return next(unit for beginning, unit in UNITS.items() if metric.startswith(beginning))


# --- building -------------------------------------------------------------------------------------


def build(workload: Workload, rounds: int) -> Values:  # noqa: ARG001 - nothing is repeated
    """Store and index the catalogue with the commands that a user types."""
    shutil.rmtree(workload.index, ignore_errors=True)
    workload.forget_vectors()
    tilth = [sys.executable, "-m", "tilth.cli.main", "index"]
    into = ["--into", str(workload.index)]
    storing, peak_storing = run_measured([*tilth, str(workload.catalogue), *into, "--store-only"])
    building, peak = run_measured([*tilth, *into, "--encoder", "own", "--passages", "1"])
    values = {name: max(size, peak_storing[name]) for name, size in peak.items()}
    stages, sizes = in_process(stages_and_sizes, workload)
    training = stages.pop("training")
    return {
        "ingest": workload.products / storing,
        "training": training,
        "index apart from encoding": storing + building - training - stages["encode"],
        "encoding": stages["encode"],
        **{f"build, {name}": seconds for name, seconds in stages.items() if name != "encode"},
        "build, start and sampling": building - training - sum(stages.values()),
        **values,
        "disk": sum(sizes.values()),
        **{f"disk, {name}": size for name, size in sizes.items()},
    }


def stages_and_sizes(workload: Workload) -> tuple[Values, Values]:
    """Return the seconds of training and of each stage of the build, and the MB of each part of the index."""
    index = open_index(workload.index).live.view.index
    sizes = {file.name: megabytes(file) for file in sorted(index.folder.iterdir())}
    training = own_encoder(workload.index).training or {}
    return {"training": training["seconds"], **index.manifest["seconds"]}, sizes


# --- searching ------------------------------------------------------------------------------------


def search(workload: Workload, rounds: int) -> Values:
    """Open the index and search it, in a process of its own for each kind of measurement."""
    in_process(Workload.write_vectors, workload)
    values = in_process(opened, workload, cores=1)
    values |= in_process(latencies, workload, rounds, cores=1)
    for threads in (1, 2):
        values[f"throughput, {threads} threads"] = in_process(throughput, workload, threads, cores=threads)
    return values | in_process(dense_recall, workload)


def opened(workload: Workload) -> Values:
    """Return the seconds of opening, imports apart, and the memory after some queries."""
    texts = workload.queries
    start = time.perf_counter()
    pipeline = open_index(workload.index)
    seconds = time.perf_counter() - start
    for text in islice(cycle(texts), WARM_UP):
        pipeline.search([text], HITS)
    resident, anonymous = memory()
    return {"open": seconds, "resident memory": resident, "resident memory, anonymous": anonymous}


def latencies(workload: Workload, rounds: int) -> Values:
    """Return the times of searches, of searches with filters, of encoding, and of the stages of an answer."""
    pipeline, texts = open_index(workload.index), workload.queries * rounds

    def ask(text: str, filter_: Range | None = None) -> None:
        pipeline.search([text], HITS, filter_.as_json() if filter_ else None)

    encoder = pipeline.live.view.index.legs["dense"].encoder
    milliseconds(ask, texts)
    whole, encoding = (
        milliseconds(ask, texts),
        milliseconds(lambda text: encoder.encode_queries([text]), texts),
    )
    values = percentiles("hybrid", whole)
    values |= percentiles("hybrid without encoding", whole - encoding) | percentiles("encode", encoding)
    for share, filters in workload.filters().items():
        values[f"filtered {share} allowed"] = allowed_by(pipeline, filters)
        values |= percentiles(f"filtered {share} first", milliseconds(ask, texts, filters))
        milliseconds(ask, texts[:REPEATED], filters)
        values |= percentiles(f"filtered {share} repeated", milliseconds(ask, texts, filters[:REPEATED]))
    return values | stage_times(pipeline, workload.queries)


def allowed_by(pipeline: Pipeline, filters: Sequence[Range]) -> float:
    """Return how many products a filter allows, in the mean."""
    view = pipeline.live.view
    return float(np.mean([np.count_nonzero(view.allowed(each.as_json())) for each in filters]))


def stage_times(pipeline: Pipeline, texts: Sequence[str]) -> Values:
    """Return the median of each stage of an explained answer."""
    answers = [pipeline.answer(text, HITS).milliseconds for text in texts]
    names = dict.fromkeys(name for answer in answers for name in answer)
    return {f"stage {name} p50": float(np.median([a.get(name, 0.0) for a in answers])) for name in names}


def throughput(workload: Workload, threads: int) -> float:
    """Return the queries a second that threads get from one pipeline."""
    pipeline, texts = open_index(workload.index), workload.queries
    for text in texts:
        pipeline.search([text], HITS)
    end = time.perf_counter() + THROUGHPUT_SECONDS

    def ask(first: int) -> int:
        for done, text in enumerate(cycle([*texts[first:], *texts[:first]])):
            if time.perf_counter() > end:
                return done
            pipeline.search([text], HITS)
        raise AssertionError("a cycle does not end")

    with ThreadPoolExecutor(threads) as pool:
        return sum(pool.map(ask, range(0, len(texts), len(texts) // threads))) / THROUGHPUT_SECONDS


def dense_recall(workload: Workload) -> Values:
    """Return the share of the exact nearest that the dense side finds: by float32, and by its codes."""
    view, queries = open_index(workload.index).live.view, workload.query_vectors
    rows = [view.legs["dense"].search_rows(query, HITS).rows[:HITS] for query in queries]
    leg = view.index.legs["dense"].index
    codes = leg.codes(np.arange(view.rows))  # one passage a product, in the order of the rows
    scaled = queries * np.float32(code_step(codes.shape[1]))
    values = {"recall@100 by codes": recall(codes, scaled, floors(codes, scaled), rows)}
    if workload.has_floats:
        places = catalogue_places(view.ids(np.arange(view.rows)), workload)
        exact = floors(workload.vectors, queries)
        values["recall@100"] = recall(workload.vectors, queries, exact, [places[found] for found in rows])
    return values


def catalogue_places(ids: Sequence[str], workload: Workload) -> np.ndarray:
    """Return (rows,) the place in the catalogue of the product of each row."""
    products = (record["id"] for records in workload.records() for record in records)
    places = {product_id: place for place, product_id in enumerate(products)}
    return np.array([places[product_id] for product_id in ids])


# --- changing -------------------------------------------------------------------------------------


def update(workload: Workload, rounds: int) -> Values:  # noqa: ARG001 - nothing is repeated
    """Change products of a copy of the index."""
    with tempfile.TemporaryDirectory(dir=workload.folder) as folder:
        copy = Path(folder) / "index"
        shutil.copytree(workload.index, copy, copy_function=linked)
        return in_process(changes, copy) | in_process(sightings, copy)


def linked(source: str, target: str) -> None:
    """Link what never changes, the files of a generation, and copy the rest."""
    if "generations" in Path(source).parts:
        os.link(source, target)
    else:
        shutil.copy2(source, target)


def changes(index: Path) -> Values:
    """Return the products a second that can be changed, durably and visibly in this process."""
    pipeline = open_index(index)
    count = BATCH * BATCHES + SINGLE
    ids = pipeline.live.view.ids(np.random.default_rng(0).choice(len(pipeline), count, replace=False))
    products = list(pipeline.live.store.products(ids).values())
    batched = range(0, BATCH * BATCHES, BATCH)
    batches = [products[start : start + BATCH] for start in batched]
    single = [[product] for product in products[-SINGLE:]]
    pipeline.upsert(map(cheaper, products[:1]))  # the first change makes what later ones write to
    return {
        "changes in batches": rate(pipeline, retitled, batches),
        "changes in batches, price": rate(pipeline, cheaper, batches),
        "changes one by one": rate(pipeline, retitled, single),
        "changes one by one, price": rate(pipeline, cheaper, single),
    }


def rate(pipeline: Pipeline, change: Callable[[Product], Product], batches: Iterable[list[Product]]) -> float:
    """Return how many products a second are changed."""
    changed = [list(map(change, batch)) for batch in batches]
    start = time.perf_counter()
    written = sum(pipeline.upsert(batch).changed for batch in changed)
    return written / (time.perf_counter() - start)


def retitled(product: Product) -> Product:
    """Return a product with another title."""
    return replace(product, title=f"{product.title} new")


def cheaper(product: Product) -> Product:
    """Return a retitled product with another price."""
    return replace(
        retitled(product), price=Price(0.5 + product.price.amount if product.price else 1.0, "EUR")
    )


def sightings(index: Path) -> Values:
    """Return the seconds from the end of a change to the moment at which another process finds it."""
    pipeline = open_index(index)
    ids = pipeline.live.view.ids(np.arange(0, len(pipeline), len(pipeline) // SIGHTINGS))
    here, there = get_context("spawn").Pipe()
    process = get_context("spawn").Process(target=follow, args=(index, there))
    process.start()
    here.recv()  # it has opened the index
    seconds = []
    for number, product in enumerate(pipeline.live.store.products(ids).values()):
        word = f"qzx{number}wvk"
        here.send((word, product.id))
        pipeline.upsert([replace(product, title=f"{word} {product.title}")])
        written = time.monotonic()  # the same clock in every process
        seconds.append(max(0.0, here.recv() - written))
    here.send(None)
    process.join()
    return {"found elsewhere p50": float(np.median(seconds)), "found elsewhere, slowest": max(seconds)}


def follow(index: Path, there: Connection) -> None:
    """Follow the store; for each word that is sent, say when the product is found by it."""
    pipeline = open_index(index)
    with pipeline.live.following():
        there.send(None)
        while message := there.recv():
            word, product_id = message
            while all(hit.product_id != product_id for hit in pipeline.search([word], 1)["1"]):
                time.sleep(0.01)
            there.send(time.monotonic())


PARTS: dict[str, Callable[[Workload, int], Values]] = {"build": build, "search": search, "update": update}


if __name__ == "__main__":
    main()
