"""The three forms of an encoder, float32, int8 and static: quality alone and fused, speed and size.

    python benchmarks/encoders.py [--data ../shared/data/icecat] [--index DIR] [--seed 0]

Measures the forms in indexes of the defaults. float32 and int8 share one index but for its encoder: passages
are encoded by the model itself, int8 is how queries are. Writes benchmarks/results/encoders.jsonl.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np

from record import Figure, record
from tilth.evaluation.experiment import evaluate
from tilth.evaluation.measures import parse_measures
from tilth.evaluation.report import evaluation_report
from tilth.one_search import DEPTH
from tilth.pipeline import Pipeline, open_index
from tilth.protocols import Encoder
from tilth.qrels import Qrels, read_qrels
from tilth.query import Query, read_queries
from tilth.retrieval.encoder import open_encoder
from tilth.retrieval.encoder_build import build_encoder
from tilth.retrieval.encoder_export import quantise
from tilth.retrieval.live import LiveIndex

MEASURES = parse_measures(["nDCG@10", "R@100"])
SAMPLE = 1_024  # passages on which encoding with a transformer is timed


def main() -> None:
    """Measure and print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    data = Path(os.environ.get("TILTH_DATA", "../shared/data")) / "icecat"
    parser.add_argument("--data", type=Path, default=data, help="folder with products, queries and qrels")
    parser.add_argument("--index", type=Path, help="an index of these products; built if absent")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    queries = read_queries(arguments.data / "queries.tsv")
    qrels = read_qrels(arguments.data / "qrels.tsv")
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as scratch:
        pipelines = open_forms(arguments.data / "products.jsonl.gz", arguments.index, Path(scratch))
        for retriever in ("dense", "hybrid"):
            figures += quality(pipelines, retriever, queries, qrels, arguments.seed)
        for form, pipeline in pipelines.items():
            figures += query_speed(form, pipeline.index.encoder, queries)
            figures += [figure(form, "encoder", folder_size(encoder_folder(form, pipeline, scratch)), "MB")]
            figures += [figure(form, "passage vector", 2 * pipeline.index.encoder.dimension, "bytes")]
        figures += passage_speed(pipelines["float32"])
    for each in figures:
        print(" ".join(f"{value:.4f}" if isinstance(value, float) else str(value) for value in each.values()))
    record("encoders", [{"dataset": arguments.data.name, **each} for each in figures])


def open_forms(catalogue: Path, given: Path | None, scratch: Path) -> dict[str, Pipeline]:
    """Return an opened index for each form."""
    plain = given or build(catalogue, scratch / "float32")
    float32 = open_index(plain)
    quantised = copytree(float32.index.folder / "encoder", scratch / "int8")
    quantise(quantised)
    return {
        "float32": float32,
        "int8": Pipeline(
            LiveIndex(plain, replace(float32.index, encoder=open_encoder(quantised)), float32.live.store)
        ),
        "static": open_index(build(catalogue, scratch / "static", "--form", "static")),
    }


def build(catalogue: Path, into: Path, *options: str) -> Path:
    """Build an index as a user would."""
    command = [sys.executable, "-m", "tilth.cli.main", "index", catalogue, "--into", into, *options]
    subprocess.run(command, check=True)
    return into


def quality(
    pipelines: dict[str, Pipeline], retriever: str, queries: list[Query], qrels: Qrels, seed: int
) -> list[Figure]:
    """Return the measures of each form, and the differences to float32 with 95% intervals."""
    runs = {
        form: pipeline.search(queries, DEPTH)
        if retriever == "hybrid"
        else pipeline.retrievers()[retriever].search(queries, DEPTH)
        for form, pipeline in pipelines.items()
    }
    report = evaluation_report(
        evaluate(runs, qrels, queries=queries, measures=MEASURES, baseline="float32", seed=seed)
    )
    values = [
        {**figure(form, name, value, ""), "retriever": retriever}
        for form, values in report["systems"].items()
        for name, value in values.items()
    ]
    return values + [difference(each, retriever) for each in report["differences"]]


def difference(found: dict[str, Any], retriever: str) -> Figure:
    """Return a difference to float32 as a figure."""
    interval = {key: found[key] for key in ("low", "high", "p")}
    name = f"{found['measure']} - float32"
    return {**figure(found["system"], name, found["difference"], ""), "retriever": retriever, **interval}


def query_speed(form: str, encoder: Encoder, queries: Sequence[Query]) -> list[Figure]:
    """Time queries one by one, on one thread."""
    texts = [query.text for query in queries]
    encoder.encode_queries(texts)
    times = [seconds(lambda text=text: encoder.encode_queries([text])) * 1e3 for text in texts * 3]
    return [figure(form, f"query p{share}", float(np.percentile(times, share)), "ms") for share in (50, 99)]


def passage_speed(pipeline: Pipeline) -> list[Figure]:
    """Time the encoding of passages for an index, in the order of their lengths as it is done there."""
    index = pipeline.index
    with pipeline.live.store.snapshot() as snapshot:
        cuts = index.cutter.cut(list(snapshot.products()))
    texts = [passage for cut in cuts for passage in cut.passages]
    found = []
    for form, step in (("float32", max(1, len(texts) // SAMPLE)), ("static", 1)):
        sample = sorted(texts[::step], key=len)
        model = build_encoder(form=form)
        model.encode_passages(sample[:64])
        rate = len(sample) / seconds(lambda model=model, sample=sample: model.encode_passages(sample))
        found.append(figure(form, "passages encoded", rate, "1/s"))
    return found


def encoder_folder(form: str, pipeline: Pipeline, scratch: str) -> Path:
    """Return the folder that a form serves from."""
    return Path(scratch) / "int8" if form == "int8" else pipeline.index.folder / "encoder"


def folder_size(folder: Path) -> float:
    """Return the megabytes of a folder."""
    return sum(file.stat().st_size for file in folder.iterdir()) / 1e6


def figure(form: str, metric: str, value: float, unit: str) -> Figure:
    """Return one figure."""
    return {"system": form, "metric": metric, "value": value, "unit": unit}


def seconds(call: Callable[[], object]) -> float:
    """Return the seconds that a call took."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
