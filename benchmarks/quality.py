"""Quality on a real catalogue: every retriever, plain RRF and the tuned hybrid, cross-validated by query.

    python benchmarks/quality.py [--data ../shared/data/icecat] [--folds 5] [--seed 0]

Indexes the catalogue with the defaults, runs every retriever over all queries, then chooses the fusion of
each fold on the other folds alone (`tuned`). The settings of the single retrievers are the package's
defaults; none is fitted to these queries here. Writes benchmarks/results/quality.jsonl.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from record import Figure, record
from tilth.evaluation.experiment import evaluate
from tilth.evaluation.measures import DEFAULT, judged_only
from tilth.evaluation.report import evaluation_report
from tilth.evaluation.selection import assemble, cross_validate, score_candidates
from tilth.evaluation.splits import folds
from tilth.one_search import DEPTH
from tilth.pipeline import open_index
from tilth.qrels import Qrels, read_qrels
from tilth.query import Query, read_queries
from tilth.retrieval.candidates import Candidates
from tilth.retrieval.fusion import Fusion, grid
from tilth.run import Run

MEASURES = (*DEFAULT, *judged_only(DEFAULT[:1]))


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    data = Path(os.environ.get("TILTH_DATA", "../shared/data")) / "icecat"
    parser.add_argument("--data", type=Path, default=data, help="folder with products, queries and qrels")
    parser.add_argument(
        "--index", type=Path, help="an index of these products; built with the defaults if absent"
    )
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    queries = read_queries(arguments.data / "queries.tsv")
    qrels = read_qrels(arguments.data / "qrels.tsv")
    with tempfile.TemporaryDirectory() as scratch:
        index = arguments.index or Path(scratch) / "index"
        if not index.exists():
            catalogue = arguments.data / "products.jsonl.gz"
            subprocess.run(
                [sys.executable, "-m", "tilth.cli.main", "index", catalogue, "--into", index], check=True
            )
        runs = make_runs(index, queries, qrels, arguments.folds, arguments.seed)
    report = evaluation_report(
        evaluate(runs, qrels, queries=queries, measures=MEASURES, baseline="lexical", seed=arguments.seed)
    )
    show(report)
    record("quality", figures(report, arguments.data.name, arguments.folds))


def make_runs(index: Path, queries: list[Query], qrels: Qrels, k: int, seed: int) -> dict[str, Run]:
    """Return a run for each system over all queries."""
    pipeline = open_index(index)
    single = {"tfidf": pipeline.tfidf(), **pipeline.retrievers()}
    runs = {name: retriever.search(queries, DEPTH) for name, retriever in single.items()}
    found = pipeline.candidates(queries)
    runs["rrf"] = fused(found, Fusion())
    runs["hybrid"] = pipeline.search(queries, DEPTH)
    candidates = {str(fusion): fused(found, fusion) for fusion in grid()}
    scores = score_candidates(candidates.items(), qrels, DEFAULT[0])
    chosen = cross_validate(scores, folds(queries, k, seed=seed))
    print("chosen in the folds:", ", ".join(chosen.folds))
    runs["tuned"] = assemble(chosen.chosen, candidates, "tuned")
    return runs


def fused(found: Mapping[str, Candidates], fusion: Fusion) -> Run:
    """Fuse the candidates of each query, as a search does."""
    return Run(str(fusion), {query_id: each.fused_hits(fusion) for query_id, each in found.items()})


def show(report: Mapping[str, object]) -> None:
    """Print the table with 95% intervals of the first measure."""
    measures = report["measures"]
    print(f"{'':10}" + "".join(f"{name:>20}" for name in measures))
    for system, values in report["systems"].items():
        print(f"{system:10}" + "".join(f"{values[name]:20.4f}" for name in measures))
    for difference in report["differences"]:
        if difference["measure"] == measures[0]:
            d = difference
            interval = f"[{d['low']:+.4f}, {d['high']:+.4f}]"
            print(f"{d['system']} - {d['baseline']}: {d['difference']:+.4f} {interval} p={d['p']:.4f}")


def figures(report: Mapping[str, object], dataset: str, k: int) -> list[Figure]:
    """Return one figure a system and measure."""
    return [
        {
            "dataset": dataset,
            "system": system,
            "metric": name,
            "value": value,
            "unit": "",
            "split": f"{k}-fold",
        }
        for system, values in report["systems"].items()
        for name, value in values.items()
    ]


if __name__ == "__main__":
    main()
