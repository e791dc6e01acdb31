"""Labels from the agreement of rankers, and the judgments that choosing pairs saves, on a real catalogue.

    python benchmarks/labelling.py [--data ../shared/data/icecat] [--index DIR] [--depth 100] [--seed 0]

Everything is measured against real judgments, which no method here sees. Candidates for the labels are
compared on training and validation queries; what was chosen is reported on the test queries. Writes
benchmarks/results/labelling.jsonl.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from record import Figure, record
from tilth.evaluation.experiment import evaluate
from tilth.evaluation.measures import measure, parse_measure, relevant_queries
from tilth.evaluation.splits import RETRIEVAL, folds, queries_of, split
from tilth.labelling.bootstrap import Label, label, relevance, relevances, shares
from tilth.labelling.choosing import CUTOFF, STRATEGIES, expected_qrels, next_pairs
from tilth.labelling.pooling import NOT_FOUND, Pair, Pool, pool
from tilth.one_search import DEPTH
from tilth.pipeline import Pipeline, open_index
from tilth.qrels import Qrels, read_qrels
from tilth.query import Query, read_queries
from tilth.reranking.feature_names import FEATURES
from tilth.reranking.models import train
from tilth.reranking.training import TrainingData
from tilth.run import Run, make_run

NDCG = parse_measure("nDCG@10")
HIGHEST = 3
LEVELS = (0.5, 0.6, 0.7, 0.8, 0.9)  # of confidence
ROUNDS = (0, 1, 2, 5, 20)  # of `relevance`, compared
STEP = 25  # judgments between two points of a curve
SEEDS = 5  # of the order of pairs that are alike
TOLERANCE = 0.01  # of nDCG@10
RRF_K = 60


def main() -> None:
    """Measure and print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    data = Path(os.environ.get("TILTH_DATA", "../shared/data")) / "icecat"
    parser.add_argument("--data", type=Path, default=data, help="folder with products, queries and qrels")
    parser.add_argument("--index", type=Path, help="an index of these products; built if absent")
    parser.add_argument("--depth", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    queries = read_queries(arguments.data / "queries.tsv")
    qrels = read_qrels(arguments.data / "qrels.tsv")
    with tempfile.TemporaryDirectory() as scratch:
        pipeline = open_index(arguments.index or build(arguments.data, Path(scratch) / "index"))
        runs = {"tfidf": pipeline.tfidf().search(queries, DEPTH), **pipeline.found(queries)}
        hybrid = pipeline.search(queries, DEPTH)
        found = pool(runs, arguments.depth)
        labels = label(found, HIGHEST)
        figures = [
            *label_figures(found, labels, queries, qrels, arguments.seed),
            *choosing_figures(("lexical", "hybrid"), runs["lexical"], hybrid, qrels, relevances(labels)),
            *choosing_figures(
                ("lexical", "dense"), runs["lexical"], runs["dense"], qrels, relevances(labels)
            ),
            *reranking_figures(pipeline, hybrid, labels, queries, qrels, arguments.seed),
        ]
    about = {"dataset": arguments.data.name, "depth": arguments.depth, "encoder": form(pipeline)}
    record("labelling", [{**about, **figure} for figure in figures])
    for figure in figures:
        print(" ".join(f"{v:.4f}" if isinstance(v, float) else str(v) for v in figure.values()))


def build(data: Path, into: Path) -> Path:
    """Index the products with the defaults."""
    catalogue = data / "products.jsonl.gz"
    command = [sys.executable, "-m", "tilth.cli.main", "index", catalogue, "--into", into]
    subprocess.run(command, check=True)
    return into


def form(pipeline: Pipeline) -> str:
    """Return how the encoder of the index serves."""
    return str(pipeline.index.manifest["legs"]["dense"]["encoder"]["form"])


def figure(system: str, metric: str, value: float, unit: str = "", **about: object) -> Figure:
    """Return one figure."""
    return {"system": system, "metric": metric, "value": float(value), "unit": unit, **about}


# --- labels ---------------------------------------------------------------------------------------


def label_figures(
    found: Pool, labels: list[Label], queries: list[Query], qrels: Qrels, seed: int
) -> Iterator[Figure]:
    """Compare candidates on training and validation queries; measure the labels on these and on the rest."""
    parts = split(queries, RETRIEVAL, seed=seed)
    chosen_on, tested = queries_of(parts, ["train", "validation"]), queries_of(parts, ["test"])
    reciprocal = np.where(found.ranks == NOT_FOUND, 0.0, 1 / (RRF_K + found.ranks)).sum(axis=1)
    candidates = {f"{rounds} rounds": relevance(found, rounds) for rounds in ROUNDS}
    candidates |= {"rrf": reciprocal, "unweighted consensus": shares(found).mean(axis=1)}
    for name, scores in candidates.items():
        given = dict(zip(found.pairs, scores.tolist(), strict=True))
        yield from order_figures(name, given, qrels.only(chosen_on), "train+validation")
    for part, query_ids in (("train+validation", chosen_on), ("test", tested)):
        kept = [each for each in labels if each.query_id in set(query_ids)]
        if part == "test":
            yield from order_figures("bootstrap", relevances(kept), qrels.only(tested), part)
        yield from confidence_figures(kept, qrels.only(query_ids), part)


def order_figures(name: str, given: Mapping[Pair, float], qrels: Qrels, part: str) -> Iterator[Figure]:
    """Measure how well numbers tell relevant from irrelevant pairs, of those that have a judgment."""
    truth = {(q, p): grade > 0 for q in qrels for p, grade in qrels[q].items()}
    pairs = [pair for pair in given if pair in truth]
    scores, relevant = [given[pair] for pair in pairs], [truth[pair] for pair in pairs]
    yield figure(name, "ROC-AUC", roc_auc_score(relevant, scores), split=part, pairs=len(pairs))
    yield figure(name, "PR-AUC", average_precision_score(relevant, scores), split=part, pairs=len(pairs))
    if name != "rrf":  # which gives no probabilities
        yield figure(name, "Brier", brier_score_loss(relevant, scores), split=part, pairs=len(pairs))


def confidence_figures(labels: list[Label], qrels: Qrels, part: str) -> Iterator[Figure]:
    """Measure labels from each confidence upwards: how many are right, and how many of all are found."""
    truth = {(q, p): grade > 0 for q in qrels for p, grade in qrels[q].items()}
    for level in LEVELS:
        for relevant in (True, False):
            kept = {
                (each.query_id, each.product_id)
                for each in labels
                if each.confidence >= level and (each.grade > 0) == relevant
            }
            judged = [truth[pair] == relevant for pair in kept if pair in truth]
            about = {
                "split": part, "confidence": level, "labels": len(kept), "judged": len(judged),
                "side": "relevant" if relevant else "irrelevant",
            }  # fmt: skip
            if judged:
                yield figure("bootstrap", "precision", np.mean(judged), **about)
            total = sum(value == relevant for value in truth.values())
            yield figure("bootstrap", "recall", sum(judged) / total, **about)


# --- what to judge next ---------------------------------------------------------------------------


def choosing_figures(
    names: tuple[str, str], a: Run, b: Run, qrels: Qrels, given: Mapping[Pair, float]
) -> Iterator[Figure]:
    """Simulate judging: the qrels answer, one step of pairs after another, and the difference is measured.

    A pair without a judgment cannot be asked, and counts as irrelevant now and in the end. Of what is not
    judged yet, `alone` says nothing, so that it counts as irrelevant, and `expected` what the labels say.
    """
    runs = " and ".join(names)
    answers = {(q, p): grade for q in qrels for p, grade in qrels[q].items()}
    shown = pool(dict(zip(names, (a, b), strict=True)), CUTOFF).pairs
    closed = dict.fromkeys(pair for pair in shown if pair not in answers)
    askable = [pair for pair in shown if pair in answers]
    final = difference(a, b, expected_qrels(askable, answers, HIGHEST, {}), qrels)
    yield figure("all", "difference", final, judgments=len(askable), runs=runs)
    for strategy in STRATEGIES:
        orders = [next_pairs(a, b, closed, given, len(askable), strategy, seed) for seed in range(SEEDS)]
        for estimate in ("alone", "expected"):
            prior = given if estimate == "expected" else dict.fromkeys(askable, 0.0)
            about = {"runs": runs, "estimate": estimate}
            found = np.array([curve(order, a, b, answers, qrels, prior) for order in orders])
            yield from curve_figures(strategy, found, final, len(askable), about)


def curve_figures(
    strategy: str, found: np.ndarray, final: float, askable: int, about: Figure
) -> Iterator[Figure]:
    """Return the figures of the curves of one strategy, a row for each seed."""
    counts = [min(step * STEP, askable) for step in range(1, found.shape[1] + 1)]
    errors = np.abs(found - final)
    signs = (np.sign(found) == np.sign(final)).mean(axis=0)
    for count, error, sign in zip(counts, errors.mean(axis=0), signs, strict=True):
        yield figure(strategy, "error of the difference", error, judgments=count, **about)
        yield figure(strategy, "same sign", sign, judgments=count, **about)
    needed = np.mean([first_within(row, counts) for row in errors])
    yield figure(strategy, f"judgments to stay within {TOLERANCE}", needed, "judgments", **about)


def curve(
    order: list[Pair],
    a: Run,
    b: Run,
    answers: Mapping[Pair, int],
    qrels: Qrels,
    prior: Mapping[Pair, float],
) -> list[float]:
    """Return the difference of the runs after each step of judgments."""
    ends = [*range(STEP, len(order), STEP), len(order)]
    known = ({pair: answers[pair] for pair in order[:end]} for end in ends)
    return [difference(a, b, expected_qrels(order, judged, HIGHEST, prior), qrels) for judged in known]


def difference(a: Run, b: Run, so_far: Qrels, qrels: Qrels) -> float:
    """Return nDCG@10 of b less that of a, over all queries, with the judgments so far."""
    if not relevant_queries(so_far):
        return 0.0
    whole = Qrels({query_id: so_far.grades.get(query_id, {"": 0}) for query_id in qrels})
    return float((measure(b, whole, [NDCG]).values - measure(a, whole, [NDCG]).values).mean())


def first_within(errors: np.ndarray, counts: list[int]) -> int:
    """Return the number of judgments from which on no error is above the tolerance."""
    outside = np.flatnonzero(errors > TOLERANCE)
    return counts[outside[-1] + 1] if len(outside) else counts[0]


# --- reranking ------------------------------------------------------------------------------------


def reranking_figures(
    pipeline: Pipeline, hybrid: Run, labels: list[Label], queries: list[Query], qrels: Qrels, seed: int
) -> Iterator[Figure]:
    """Train a reranker on the labels alone, and measure it on queries of other folds with the real qrels.

    Beside it: the same trained on real judgments, the order of the bootstrap itself, and no reranker.
    """
    matrices = candidate_features(pipeline, queries)
    real = {(q, p): (grade, 1.0) for q in qrels for p, grade in qrels[q].items()}
    own = {(each.query_id, each.product_id): (each.grade, each.confidence) for each in labels}
    dealt = folds(queries, 5, seed=seed)
    orders: dict[str, dict[str, dict[str, float]]] = {"bootstrap order": bootstrap_order(hybrid, labels)}
    for name, known in (("trained on bootstrap labels", own), ("trained on judgments", real)):
        orders[name] = cross_scored(matrices, known, dealt, seed)
    runs = {"no reranker": hybrid, **{name: make_run(name, order) for name, order in orders.items()}}
    found = evaluate(runs, qrels, measures=[NDCG], baseline="no reranker", seed=seed)
    for name, values in found.systems.items():
        yield figure(name, str(NDCG), values.mean()[str(NDCG)], split="5-fold")
    for each in found.differences:
        about = {"split": "5-fold", "low": each.low, "high": each.high, "p": each.p}
        yield figure(each.system, f"{NDCG} - no reranker", each.difference, **about)


Matrices = Mapping[str, tuple[tuple[str, ...], np.ndarray]]  # query_id -> product ids, (M, F) features


def candidate_features(pipeline: Pipeline, queries: list[Query]) -> Matrices:
    """Return the products that a search fuses, in its order, and their features."""
    nothing = {query.query_id: ((), np.empty((0, len(FEATURES)), np.float32)) for query in queries}
    return nothing | {each.query_id: (each.product_ids, each.features) for each in pipeline.pools(queries)}


def bootstrap_order(hybrid: Run, labels: Iterable[Label]) -> dict[str, dict[str, float]]:
    """Return the probability of relevance as the score of each hit; what has no label comes last."""
    given = relevances(list(labels))
    return {q: {hit.product_id: given.get((q, hit.product_id), 0.0) for hit in hybrid[q]} for q in hybrid}


def cross_scored(
    matrices: Matrices, known: Mapping[Pair, tuple[int, float]], dealt: list[tuple[str, ...]], seed: int
) -> dict[str, dict[str, float]]:
    """Score the candidates of each fold with a model trained on the other folds."""
    scores = {}
    for held_out in dealt:
        others = [query_id for fold in dealt if fold is not held_out for query_id in fold]
        model = train("lambdarank", training_data(matrices, known, others), seed=seed, threads=1)
        for query_id in held_out:
            ids, features = matrices[query_id]
            predicted = model.predict(features).tolist() if len(ids) else []
            scores[query_id] = dict(zip(ids, predicted, strict=True))
    return scores


def training_data(
    matrices: Matrices, known: Mapping[Pair, tuple[int, float]], query_ids: Collection[str]
) -> TrainingData:
    """Return the candidates of some queries that have a grade, each weighing as much as its confidence."""
    features, grades, weights, sizes = [], [], [], []
    for query_id in query_ids:
        ids, matrix = matrices[query_id]
        rows = [row for row, product_id in enumerate(ids) if (query_id, product_id) in known]
        if rows:
            given = [known[query_id, ids[row]] for row in rows]
            features.append(matrix[rows])
            grades += [grade for grade, _ in given]
            weights += [confidence for _, confidence in given]
            sizes.append(len(rows))
    return TrainingData(
        np.concatenate(features),
        np.array(grades, np.int64),
        np.array(sizes, np.int64),
        tuple(feature.name for feature in FEATURES),
        np.array(weights),
    )


if __name__ == "__main__":
    main()
