"""The three forms of an encoder, float32, int8 and static: quality alone, and speed.

    python benchmarks/encoders.py [--data ../shared/data/icecat] [--seed 0]

Encodes the head passage of every product as an index would, encodes the queries as a search would, and ranks
by exact cosine. float32 and int8 share the vectors of passages, which the model makes before it is exported:
int8 is how queries are encoded. Writes benchmarks/results/encoders.jsonl.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from record import Figure, record
from tilth.evaluation.experiment import evaluate
from tilth.evaluation.measures import parse_measures
from tilth.evaluation.report import evaluation_report
from tilth.protocols import Encoder, Vectors
from tilth.qrels import read_qrels
from tilth.query import Query, read_queries
from tilth.readers.products import read_products
from tilth.retrieval.encoder import FORMS, open_encoder
from tilth.retrieval.encoder_build import ModelForBuild, build_encoder
from tilth.retrieval.passages import PassageSettings
from tilth.run import Run, make_run

DEPTH = 100
MEASURES = parse_measures(["nDCG@10", "R@100"])
SAMPLE = 512  # passages on which a served encoder's speed is measured


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    data = Path(os.environ.get("TILTH_DATA", "../shared/data")) / "icecat"
    parser.add_argument("--data", type=Path, default=data, help="folder with products, queries and qrels")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    queries = read_queries(arguments.data / "queries.tsv")
    qrels = read_qrels(arguments.data / "qrels.tsv")
    runs, speeds = measure_forms(arguments.data / "products.jsonl.gz", queries)
    report = evaluation_report(
        evaluate(runs, qrels, queries=queries, measures=MEASURES, baseline="float32", seed=arguments.seed)
    )
    dataset = arguments.data.name
    quality = [
        {"dataset": dataset, "system": system, "metric": name, "value": value, "unit": ""}
        for system, values in report["systems"].items()
        for name, value in values.items()
    ]
    figures = [*quality, *differences(report, dataset), *({"dataset": dataset, **speed} for speed in speeds)]
    for figure in figures:
        print(f"{figure['system']:10}{figure['metric']:44}{figure['value']:12.4f} {figure['unit']}")
    record("encoders", figures)


def measure_forms(catalogue: Path, queries: Sequence[Query]) -> tuple[dict[str, Run], list[Figure]]:
    """Return a run and the speeds of each form."""
    runs: dict[str, Run] = {}
    speeds: list[Figure] = []
    ids, heads = head_passages(catalogue, build_encoder())
    print(f"{len(heads):,} head passages", flush=True)
    for form in FORMS:
        model = build_encoder(form=form)
        if form != "int8":
            vectors, seconds = timed(lambda model=model: encode_by_length(model, heads))
            speeds.append(figure(form, "passages encoded for the index", len(heads) / seconds, "1/s"))
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / form
            model.save(folder)
            speeds += served_speeds(form, folder, heads, queries)
            encoded = open_encoder(folder).encode_queries([query.text for query in queries])
        runs[form] = search(form, encoded, vectors, queries, ids)
        print(f"{form} done", flush=True)
    return runs, speeds


def head_passages(catalogue: Path, model: ModelForBuild) -> tuple[list[str], list[str]]:
    """Return product ids and their first passages: title, brand, type and leading attributes."""
    products = list(read_products([catalogue]))
    cuts = model.cutter(PassageSettings()).cut(products)
    pairs = [
        (product.id, cut.passages[0]) for product, cut in zip(products, cuts, strict=True) if cut.passages
    ]
    return [product_id for product_id, _ in pairs], [passage for _, passage in pairs]


def encode_by_length(encoder: Encoder, texts: Sequence[str]) -> Vectors:
    """Encode passages in the order of their lengths, as an index is built."""
    order = np.argsort([len(text) for text in texts], kind="stable")
    vectors = np.empty((len(texts), encoder.dimension), np.float32)
    vectors[order] = encoder.encode_passages([texts[place] for place in order])
    return vectors


def served_speeds(form: str, folder: Path, heads: Sequence[str], queries: Sequence[Query]) -> list[Figure]:
    """Time the encoder as it serves: queries one by one on one thread, passages on all of them."""
    encoder = open_encoder(folder)
    texts = [query.text for query in queries]
    encoder.encode_queries(texts)
    times = sorted(timed(lambda text=text: encoder.encode_queries([text]))[1] for text in texts * 3)
    sample = heads[:: max(1, len(heads) // SAMPLE)]
    wide = open_encoder(folder, threads=os.cpu_count() or 1)
    seconds = timed(lambda: wide.encode_passages(sample))[1]
    size = sum(file.stat().st_size for file in folder.iterdir())
    return [
        figure(form, "query p50", median(times) * 1e3, "ms"),
        figure(form, "query p99", times[int(0.99 * len(times))] * 1e3, "ms"),
        figure(form, "passages encoded by the served encoder", len(sample) / seconds, "1/s"),
        figure(form, "size", size / 1e6, "MB"),
    ]


def search(name: str, encoded: Vectors, vectors: Vectors, queries: Sequence[Query], ids: list[str]) -> Run:
    """Rank products by the exact cosine of their passages with the queries."""
    cosines = encoded @ vectors.T
    best = np.argpartition(-cosines, DEPTH, axis=1)[:, :DEPTH]
    return make_run(
        name,
        {
            query.query_id: {ids[row]: float(cosines[number, row]) for row in best[number]}
            for number, query in enumerate(queries)
        },
    )


def differences(report: dict[str, Any], dataset: str) -> list[Figure]:
    """Return the differences to float32 with their intervals and p."""
    return [
        {
            **figure(d["system"], f"{d['measure']} - float32", d["difference"], ""),
            "dataset": dataset,
            **{key: d[key] for key in ("low", "high", "p")},
        }
        for d in report["differences"]
    ]


def figure(system: str, metric: str, value: float, unit: str) -> Figure:
    """Return one figure."""
    return {"system": system, "metric": metric, "value": value, "unit": unit}


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """Return a call's result and the seconds that it took."""
    start = time.perf_counter()
    return call(), time.perf_counter() - start


if __name__ == "__main__":
    main()
