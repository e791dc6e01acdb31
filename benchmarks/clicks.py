"""Learning from clicks with and without correction for position, where the truth is known.

    python benchmarks/clicks.py [--products 4000] [--sessions 5000,20000] [--seeds 3] [--folds 3]

Users are simulated on the sample shop: they are shown the first 20 products of a ranker, examine rank k with
probability 1 / k and click by the grade. A tenth of the pages has two products swapped. LightGBM (lambdarank)
learns from the clicks on the queries of all folds but one, and orders the same 20 products of the queries of
that fold anew; nDCG@10 is measured against grades that no training saw. `truth` learns from the grades of
its training queries instead: the ceiling. The ranker that users saw is the lexical one, which is good, or the
dense one, which here is poor. Every seed has its own folds, logs and models.

Writes benchmarks/results/clicks.jsonl.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from record import Figure, record
from tilth.evaluation.measures import measure, parse_measures, relevant_queries
from tilth.evaluation.splits import folds
from tilth.one_search import DEPTH
from tilth.online.click_counts import Pair, count_clicks
from tilth.online.click_models import fit_position_model, perplexity
from tilth.online.counterfactual import (
    ClickLabels,
    model_labels,
    naive_labels,
    thresholds_by_share,
    to_grades,
    weighted_labels,
)
from tilth.online.propensities import harvest_propensities
from tilth.online.simulation import (
    PositionUsers,
    Traffic,
    attractions,
    examination,
    make_pages,
    simulate,
)
from tilth.pipeline import Pipeline, open_index
from tilth.qrels import Qrels, read_qrels
from tilth.query import Query, read_queries
from tilth.reranking.feature_names import FEATURES
from tilth.reranking.models import train
from tilth.reranking.training import TrainingData
from tilth.run import make_run

PAGE = 20  # products that users see, and that are ordered anew
SPREAD = 0.5  # of the log-odds of attraction within a grade
SWAPPED = 0.1
RANKERS = ("lexical", "dense")
HELD_OUT = 5_000  # sessions for the perplexity
NDCG = parse_measures(["nDCG@10"])
NAMES = tuple(feature.name for feature in FEATURES)

Rows = Mapping[Pair, npt.NDArray[np.float32]]  # features by query and product
Labelled = Mapping[Pair, tuple[int, float]]  # grade and weight
Found = Iterator[tuple[str, str, float]]  # system, metric, value


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--products", type=int, default=4000)
    parser.add_argument("--sessions", default="5000,20000")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        shop, index = Path(scratch) / "shop", Path(scratch) / "index"
        tilth("sample", shop, "--products", arguments.products, "--language", "en")
        tilth("index", shop / "products.jsonl", "--into", index, "--form", "static")
        bench = Bench(open_index(index), read_queries(shop / "queries.tsv"), read_qrels(shop / "qrels.tsv"))
    figures: list[Figure] = []
    for ranker in RANKERS:
        for sessions in map(int, arguments.sessions.split(",")):
            about = {"dataset": f"sample-en-{arguments.products}", "shown": ranker, "sessions": sessions}
            values = collect(bench, ranker, sessions, arguments.seeds, arguments.folds)
            figures += [{**about, "seeds": arguments.seeds, **figure} for figure in summarised(values)]
            show(ranker, sessions, figures[-len(values) :])
    record("clicks", figures)


def tilth(*arguments: object) -> None:
    """Run a command of Tilth's."""
    subprocess.run([sys.executable, "-m", "tilth.cli.main", *map(str, arguments)], check=True)


class Bench:
    """Runs and features of all queries that have a relevant product, made once."""

    def __init__(self, pipeline: Pipeline, queries: Sequence[Query], qrels: Qrels) -> None:
        answered = set(relevant_queries(qrels))
        self.queries = [query for query in queries if query.query_id in answered]
        self.qrels = qrels.only(answered)
        self.runs = {**pipeline.found(self.queries), "hybrid": pipeline.search(self.queries, DEPTH)}
        self.rows: Rows = {
            (pool.query_id, product_id): row
            for pool in pipeline.pools(self.queries, 2 * DEPTH)  # all of both rankers
            for product_id, row in zip(pool.product_ids, pool.features, strict=True)
        }


def collect(
    bench: Bench, ranker: str, sessions: int, seeds: int, parts: int
) -> dict[tuple[str, str], list[float]]:
    """Return the value of each figure for each seed."""
    values: dict[tuple[str, str], list[float]] = {}
    for seed in range(seeds):
        of_folds: dict[tuple[str, str], list[float]] = {}
        scores: dict[str, dict[str, dict[str, float]]] = {}
        for tested in folds(bench.queries, parts, seed=seed):
            logged = Logged(bench, ranker, sessions, set(tested), np.random.default_rng(seed))
            for system, metric, value in logged.estimates():
                of_folds.setdefault((system, metric), []).append(value)
            for system, labelled in logged.labelled.items():
                scores.setdefault(system, {}).update(ordered(bench, ranker, labelled, tested, seed))
        for key, each in of_folds.items():
            values.setdefault(key, []).append(float(np.mean(each)))
        runs = {name: bench.runs[name] for name in dict.fromkeys((ranker, "lexical", "hybrid"))}
        runs |= {system: make_run(system, each) for system, each in scores.items()}
        for system, run in runs.items():
            mean = measure(run, bench.qrels, NDCG).mean()["nDCG@10"]
            values.setdefault((system, "nDCG@10"), []).append(mean)
    return values


class Logged:
    """A simulated log of the queries that are not tested, and what each method makes of it."""

    def __init__(
        self, bench: Bench, ranker: str, sessions: int, tested: set[str], rng: np.random.Generator
    ) -> None:
        queries = [query for query in bench.queries if query.query_id not in tested]
        pages = make_pages(bench.runs[ranker], queries, PAGE)
        attraction = attractions(pages, bench.qrels, rng, spread=SPREAD)
        self.users = PositionUsers(examination(PAGE))
        self.log, self.later = (
            count_clicks(simulate(pages, attraction, Traffic(count, swapped=SWAPPED), self.users, rng))
            for count in (sessions, HELD_OUT)
        )
        self.attraction = {
            (query.query_id, product_id): float(attraction[q, rank])
            for q, query in enumerate(pages.queries)
            for rank, product_id in enumerate(pages.shown[q])
        }
        self.model = fit_position_model(self.log)
        self.harvested = harvest_propensities(self.log)
        self.labels = {
            "naive": naive_labels(self.log),
            "ipw": weighted_labels(self.log, self.harvested),
            "ipw, true propensities": weighted_labels(self.log, self.users.examination),
            "pbm": model_labels(self.log, self.model),
        }
        self.labelled: dict[str, Labelled] = {name: graded(each) for name, each in self.labels.items()}
        self.labelled["truth"] = {
            (query_id, product_id): (bench.qrels[query_id].get(product_id, 0), 1.0)
            for query_id, product_id in self.attraction
        }

    def estimates(self) -> Found:
        """Compare what was estimated with the truth."""
        truth = self.users.examination
        for name, estimate in (("pbm", self.model.examination), ("ipw", self.harvested)):
            yield name, "propensity error", float(np.abs(estimate / truth - 1).mean())
        usual = float(np.mean(list(self.model.attraction.values())))
        predicted = self.model.click_probabilities(self.later, usual)
        yield "pbm", "perplexity", float(perplexity(self.later, predicted).mean())
        pair, rank = self.later.pair, self.later.rank
        known = np.array([self.attraction[key] for key in self.later.pairs])
        yield "truth", "perplexity", float(perplexity(self.later, known[pair] * truth[rank]).mean())
        for name, labels in self.labels.items():
            attraction = [self.attraction[key] for key in labels.pairs]
            yield name, "label correlation", float(np.corrcoef(labels.label, attraction)[0, 1])


def graded(labels: ClickLabels) -> Labelled:
    """Return grade and weight of each pair; every method has thresholds of its own, by the same shares."""
    grades = to_grades(labels.label, thresholds_by_share(labels.label)).tolist()
    return dict(zip(labels.pairs, zip(grades, labels.weight.tolist(), strict=True), strict=True))


def ordered(
    bench: Bench, ranker: str, labelled: Labelled, tested: Sequence[str], seed: int
) -> dict[str, dict[str, float]]:
    """Train on labels, and score the products of the ranker's pages for the tested queries."""
    pairs = sorted(labelled)
    grades, weights = (np.array(column) for column in zip(*(labelled[pair] for pair in pairs), strict=True))
    _, sizes = np.unique([query_id for query_id, _ in pairs], return_counts=True)
    rows = np.stack([bench.rows[pair] for pair in pairs])
    model = train("lambdarank", TrainingData(rows, grades, sizes, NAMES, weights), seed=seed, threads=1)
    scores = {}
    for query_id in tested:
        ids = [hit.product_id for hit in bench.runs[ranker][query_id][:PAGE]]
        if ids:
            predicted = model.predict(np.stack([bench.rows[query_id, product_id] for product_id in ids]))
            scores[query_id] = dict(zip(ids, predicted.tolist(), strict=True))
    return scores


def summarised(values: Mapping[tuple[str, str], Sequence[float]]) -> list[Figure]:
    """Return mean and standard deviation over the seeds of every figure."""
    return [
        {
            "system": system,
            "metric": metric,
            "value": float(np.mean(each)),
            "unit": "",
            "deviation": float(np.std(each, ddof=1)) if len(each) > 1 else None,
        }
        for (system, metric), each in values.items()
    ]


def show(ranker: str, sessions: int, figures: Sequence[Figure]) -> None:
    """Print a table."""
    print(f"\n{sessions} sessions on the {ranker} ranking")
    for figure in sorted(figures, key=lambda each: str(each["metric"])):
        deviation = "" if figure["deviation"] is None else f" ± {figure['deviation']:.4f}"
        print(f"  {figure['metric']:18} {figure['system']:24} {figure['value']:.4f}{deviation}")


if __name__ == "__main__":
    main()
