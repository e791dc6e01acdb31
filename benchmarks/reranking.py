"""Rerankers beside every retriever, each query scored by models that have not seen it.

    python benchmarks/reranking.py [PART...] [--data ../shared/data/icecat] [--index DIR] [--shops DIR]

quality  every kind of model on a real catalogue, 5 folds by query; what their scores say of single pairs
depth    the same with the first 300 candidates ordered anew instead of 200
labels   what labels buy: measured on 30% of the queries, by the number of labelled pairs learned from
shops    sample shops, whose true grades are known, in English and Russian: quality; and whether queries
         without an answer are told so, those of the shop and those of another trade

Without a PART all are measured. `chosen` is the kind that is best on the other folds: the best of eight kinds
on the queries that are reported would flatter itself. `hybrid` among the measures of pairs is the score of
the fusion, calibrated like the models'. Replaces the parts measured in benchmarks/results/reranking.jsonl.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.special import softmax

from record import Figure, record
from tilth.evaluation.classification import cheapest_threshold, measure_grades, measure_relevance
from tilth.evaluation.measures import measure, parse_measures
from tilth.evaluation.regression import measure_regression
from tilth.evaluation.reliability import measure_refusals, measure_reliability
from tilth.evaluation.selection import assemble, cross_validate, score_candidates
from tilth.evaluation.significance import bootstrap_intervals
from tilth.evaluation.splits import RERANKING, queries_of, split
from tilth.pipeline import open_index
from tilth.qrels import read_qrels
from tilth.query import Query, read_queries
from tilth.reranking.models import KINDS, Model, train
from tilth.run import Run
from tilth.sample.shop import write_shop
from tilth.training.experiment import (
    BASELINES,
    CrossValidated,
    Material,
    Trial,
    baseline_runs,
    cross_validate_kinds,
    measured,
    prepare,
)
from tilth.training.fitting import calibrate, fit_answers, signals_of
from tilth.training.held_out import HeldOut, deal
from tilth.training.pools import NO_ANSWER, LabelledPool, as_run, label_pools, training_data
from tilth.training.reporting import paired_tests

NDCG = "nDCG@10"
ORACLE = parse_measures([NDCG, "R@100"])
DEPTH, DEEP = 200, 300
RELEVANT = 1  # the least grade
COSTS = ((1.0, 1.0), (1.0, 4.0))  # of calling relevant what is not, and of not calling so what is
BUDGETS = (100, 200, 400, 700, 1_000, 2_000)  # labelled pairs to learn from
LABELS = 1_000  # of the protocol that splits the labels themselves
CURVES = ("lambdarank", "logistic")
LANGUAGES = ("en", "ru")
GRADED = ("multiclass", "regression", "logistic-ovr")  # the score of logistic-ovo never comes near 0 or 3
LEARNED = ("own", "own and other trade")  # the queries that the decision was fitted on
ASKED = ("own", "other trade")  # whose unanswerable queries; the answerable ones are the shop's in both
ERRORS = ("mse", "rmse", "mae", "mape", "r2")

Scores = Mapping[str, np.ndarray]  # (M,) of the candidates, by query id


@dataclass(frozen=True, slots=True)
class Task:
    """What is experimented on: a judged catalogue by its name, and how many folds its queries have."""

    name: str
    material: Material
    folds: int

    @property
    def trial(self) -> Trial:
        """What is tried."""
        return self.material.trial


def main() -> None:
    """Measure, print and record."""
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        found = [f for part in arguments.parts for f in measure_part(part, arguments, folder)]
    record("reranking", found, lambda figure: figure["part"] not in arguments.parts)


def parse_arguments() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    data = Path(os.environ.get("TILTH_DATA", "../shared/data")) / "icecat"
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--data", type=Path, default=data, help="folder with products, queries and qrels")
    parser.add_argument("--index", type=Path, help="an index of these products; built if absent")
    parser.add_argument("--shops", type=Path, help="where sample shops and their indexes are kept")
    parser.add_argument("--products", type=int, default=5_000, help="of a sample shop")
    parser.add_argument("--kinds", default=",".join(KINDS), help="of model, separated by commas")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--draws", type=int, default=20, help="of the queries that are learned from")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0, help="of LightGBM; 0: all cores")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"no part {min(unknown)!r}: there are {', '.join(PARTS)}")
    arguments.parts = arguments.parts or list(PARTS)
    return arguments


def measure_part(part: str, arguments: argparse.Namespace, scratch: Path) -> Iterator[Figure]:
    """Yield the figures of one part, and print them."""
    for figure in PARTS[part](arguments, scratch):
        about = {"part": part, **figure}
        print(" ".join(f"{v:.4f}" if isinstance(v, float) else str(v) for v in about.values()), flush=True)
        yield about


def open_catalogue(arguments: argparse.Namespace, scratch: Path, depth: int = DEPTH) -> Task:
    """Open the real catalogue, indexed with the defaults, and retrieve the pools of its queries."""
    index = arguments.index or scratch / "index"
    if not index.exists():
        run_tilth("index", arguments.data / "products.jsonl.gz", "--into", index)
    return open_task(arguments.data.name, index, arguments.data, arguments, depth)


def open_task(name: str, index: Path, data: Path, arguments: argparse.Namespace, depth: int = DEPTH) -> Task:
    """Open an index with its queries and qrels."""
    trial = Trial(
        read_queries(data / "queries.tsv"),
        read_qrels(data / "qrels.tsv"),
        arguments.kinds.split(","),
        depth=depth,
        seed=arguments.seed,
        threads=arguments.threads,
    )
    return Task(name, prepare(open_index(index), trial), arguments.folds)


def run_tilth(*words: object) -> None:
    """Run a command of the package."""
    subprocess.run([sys.executable, "-m", "tilth.cli.main", *map(str, words)], check=True)


# --- rankings -------------------------------------------------------------------------------------


def quality(arguments: argparse.Namespace, scratch: Path) -> Iterator[Figure]:
    """Every kind on every query of a real catalogue, and its scores of single pairs."""
    task = open_catalogue(arguments, scratch)
    done = cross_validate_kinds(task.material, task.folds)
    yield from ranking_figures(task, done)
    yield from oracle_figures(task)
    for one in (fusion_scores(task.material.pools), *done.fitted.values()):
        yield from pair_figures(task, one, done.dealt)
        yield from refusal_figures(task, (), one, done.dealt)


def depth(arguments: argparse.Namespace, scratch: Path) -> Iterator[Figure]:
    """The same rankings over more candidates."""
    task = open_catalogue(arguments, scratch, DEEP)
    yield from ranking_figures(task, cross_validate_kinds(task.material, task.folds))


def ranking_figures(task: Task, done: CrossValidated) -> Iterator[Figure]:
    """Yield means with their intervals, differences to both baselines, and p after Holm's correction."""
    trial = task.trial
    runs, picked = with_chosen(done, trial)
    queries = [query for query in trial.queries if query.kind != NO_ANSWER]
    about = {"split": f"{task.folds}-fold", "depth": trial.depth}
    adjusted = {
        (test.difference.system, test.difference.baseline): test.adjusted
        for test in paired_tests(runs, trial, queries, BASELINES)
    }
    for baseline in BASELINES:
        evaluation = measured(runs, trial, queries, baseline)
        if baseline == BASELINES[0]:
            for system, values in evaluation.systems.items():
                bounds = evaluation.intervals[system].tolist()
                for (metric, mean), (low, high) in zip(values.mean().items(), bounds, strict=True):
                    yield about_of(task, system, metric, mean, low=low, high=high, **about)
        for d in evaluation.differences:
            p = {"p": d.p, "won": d.won, "lost": d.lost}
            if d.measure == NDCG and (d.system, baseline) in adjusted:
                p["p_adjusted"] = adjusted[d.system, baseline]
            name = f"{d.measure} - {baseline}"
            yield about_of(task, d.system, name, d.difference, low=d.low, high=d.high, **p, **about)
    yield from slice_figures(task, runs, queries, picked)
    for one in done.fitted.values():
        rounds = [m.scorer.trees.rounds for m in one.models] if one.rounds else None
        yield about_of(task, one.kind, "training", one.seconds, unit="s", rounds=rounds, **about)


def with_chosen(done: CrossValidated, trial: Trial) -> tuple[dict[str, Run], tuple[str, ...]]:
    """Return all runs with `chosen` among them, and the kinds that were chosen in the folds."""
    candidates = {kind: done.runs[kind] for kind in done.fitted}
    scored = score_candidates(candidates.items(), trial.qrels, trial.measures[0])
    picked = cross_validate(scored, done.dealt)
    return {**done.runs, "chosen": assemble(picked.chosen, candidates, "chosen")}, picked.folds


def oracle_figures(task: Task) -> Iterator[Figure]:
    """Yield what the best possible order of the candidates would have."""
    pools = task.material.pools
    ideal = {pool.query.query_id: pool.grades.astype(np.float64) for pool in pools}
    for metric, mean in measure(as_run("oracle", pools, ideal), task.trial.qrels, ORACLE).mean().items():
        yield about_of(task, "oracle", metric, mean, depth=task.trial.depth)


def slice_figures(
    task: Task, runs: Mapping[str, Run], queries: Sequence[Query], picked: Sequence[str]
) -> Iterator[Figure]:
    """Yield the mean of `hybrid` and `chosen` by kind of query, where queries have one."""
    kinds = defaultdict(list)
    for query in queries:
        if query.kind:
            kinds[query.kind].append(query.query_id)
    for kind, members in kinds.items():
        for system in ("hybrid", "chosen"):
            mean = measure(runs[system], task.trial.qrels.only(members), task.trial.measures[:1]).mean()[NDCG]
            yield about_of(task, system, NDCG, mean, slice=kind, queries=len(members))
    for number, kind in enumerate(picked, start=1):
        yield about_of(task, "chosen", f"kind in fold {number}", None, kind=kind)


def about_of(task: Task, system: str, metric: str, value: float | None, **about: object) -> Figure:
    """Return one figure."""
    return {"dataset": task.name, "system": system, "metric": metric, "value": value, "unit": "", **about}


# --- single pairs ---------------------------------------------------------------------------------


def fusion_scores(pools: Iterable[LabelledPool]) -> HeldOut:
    """Return the scores of the fusion as if a model had given them."""
    return HeldOut("hybrid", {pool.query.query_id: pool.pool.fused for pool in pools}, (), 0.0)


def pair_figures(task: Task, one: HeldOut, dealt: Sequence[Sequence[str]]) -> Iterator[Figure]:
    """Measure judged pairs: calibration, thresholds from costs, and grades, all fitted on other folds."""
    chances, margins, predicted, guessed, grades, sizes = [], defaultdict(list), [], [], [], []
    for number, (inside, outside) in enumerate(parted(task.material.pools, dealt)):
        calibration = calibrate(outside, one.scores, RELEVANT)
        known = calibration.probability(judged_scores(outside, one.scores))
        truth = np.concatenate([pool.grades[pool.judged] for pool in outside]) >= RELEVANT
        scores = judged_scores(inside, one.scores)
        chances.append(calibration.probability(scores))
        for costs in COSTS:
            wrong, missed = costs
            cheapest = cheapest_threshold(known, truth, false_positive_cost=wrong, false_negative_cost=missed)
            margins[costs].append(chances[-1] - cheapest.threshold)
        predicted.append(scores)
        grades += [pool.grades[pool.judged] for pool in inside]
        sizes += [int(pool.judged.sum()) for pool in inside]
        if one.kind == "multiclass":
            guessed.append(likeliest_grades(one.models[number], inside))
    truth, sizes = np.concatenate(grades), [size for size in sizes if size]
    relevant, chance = truth >= RELEVANT, np.concatenate(chances)
    yield from order_figures(task, one.kind, chance, relevant, sizes)
    for costs, parts in margins.items():
        yield from call_figures(task, one.kind, costs, np.concatenate(parts), relevant, sizes)
    if guessed:
        yield from grade_figures(task, f"{one.kind}, likeliest", np.concatenate(guessed), truth, sizes)
    if one.kind in GRADED:
        scores = np.concatenate(predicted)
        rounded = np.rint(scores).astype(np.int64)
        yield from grade_figures(task, f"{one.kind}, rounded", rounded, truth, sizes)
        errors = measure_regression(scores, truth).to_json()
        for name in ERRORS:
            yield about_of(task, one.kind, name, errors[name], pairs=errors["pairs"])


def parted(
    pools: Sequence[LabelledPool], dealt: Sequence[Sequence[str]]
) -> Iterator[tuple[list[LabelledPool], list[LabelledPool]]]:
    """Yield the pools of each fold and those of all others."""
    for fold in dealt:
        held = set(fold)
        yield (
            [pool for pool in pools if pool.query.query_id in held],
            [pool for pool in pools if pool.query.query_id not in held],
        )


def judged_scores(pools: Iterable[LabelledPool], scores: Scores) -> np.ndarray:
    """Return the scores of the judged candidates, query by query."""
    return np.concatenate([scores[pool.query.query_id][pool.judged] for pool in pools])


def likeliest_grades(model: Model, pools: Iterable[LabelledPool]) -> np.ndarray:
    """Return the grade that a model of kind `multiclass` finds likeliest for each judged candidate."""
    features = np.concatenate([pool.pool.features[pool.judged] for pool in pools])
    return softmax(model.scorer.trees.scores(features), axis=1).argmax(axis=1)


def order_figures(
    task: Task, system: str, chances: np.ndarray, relevant: np.ndarray, sizes: Sequence[int]
) -> Iterator[Figure]:
    """Yield what needs no threshold."""
    order = measure_relevance(chances, relevant, threshold=0.5, sizes=sizes, seed=task.trial.seed)
    counts = {"pairs": order.pairs, "relevant": order.relevant}
    for name in ("roc_auc", "average_precision"):
        low, high = order.intervals[name]
        yield about_of(task, system, name, getattr(order, name), low=low, high=high, **counts)
    reliability = measure_reliability(chances, relevant)
    for name in ("brier", "ece", "ece_equal_mass"):
        yield about_of(task, system, name, getattr(reliability, name), **counts)


def call_figures(
    task: Task,
    system: str,
    costs: tuple[float, float],
    margins: np.ndarray,
    relevant: np.ndarray,
    sizes: Sequence[int],
) -> Iterator[Figure]:
    """Yield what calling relevant all pairs with a margin from 0 gives."""
    called = measure_relevance(margins, relevant, threshold=0.0, sizes=sizes, seed=task.trial.seed)
    cost = costs[0] * called.false_positives + costs[1] * called.false_negatives
    about = {"costs": f"{costs[0]:g}:{costs[1]:g}"}
    for name in ("accuracy", "balanced_accuracy", "precision", "recall", "f1"):
        low, high = called.intervals[name]
        yield about_of(task, system, name, getattr(called, name), low=low, high=high, **about)
    yield about_of(task, system, "cost a pair", cost / called.pairs, **about)


def grade_figures(
    task: Task, system: str, guesses: np.ndarray, grades: np.ndarray, sizes: Sequence[int]
) -> Iterator[Figure]:
    """Yield the averages over grades, and the values of each grade."""
    found = measure_grades(guesses, grades, sizes=sizes, seed=task.trial.seed)
    for average in ("micro", "macro"):
        for name in ("precision", "recall", "f1"):
            low, high = found.intervals[f"{average}_{name}"]
            value = getattr(found, f"{average}_{name}")
            yield about_of(task, system, f"{average}_{name}", value, low=low, high=high)
    for row in found.grades:
        counts = {"grade": row.grade, "pairs": row.pairs, "predicted": row.predicted}
        yield about_of(task, system, "f1", row.f1, **counts)


# --- what labels buy ------------------------------------------------------------------------------


def labels(arguments: argparse.Namespace, scratch: Path) -> Iterator[Figure]:
    """Learn from more and more labels; each draw splits the queries 70/30 anew."""
    task = open_catalogue(arguments, scratch)
    trial, pools = task.trial, task.material.pools
    hybrid = baseline_runs(task.material.pipeline, trial.known, trial.depth)["hybrid"]
    plain = measure(hybrid, trial.qrels, trial.measures[:1])
    base = dict(zip(plain.query_ids, plain.values[:, 0].tolist(), strict=True))
    for kind in CURVES:
        gained: dict[str, list[dict[str, float]]] = defaultdict(list)
        counts: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for draw in range(arguments.draws):
            for learned, tested in protocols(pools, (trial.seed, draw)):
                model = train(kind, training_data(learned), None, seed=trial.seed, threads=trial.threads)
                for name, pools_tested in tested.items():
                    values = values_of(model, pools_tested, trial)
                    gained[name].append({query_id: v - base[query_id] for query_id, v in values.items()})
                    counts[name].append((pairs_of(learned), len(pools_tested)))
        for name, draws in gained.items():
            yield from gain_figures(task, kind, name, draws, counts[name], base)


def protocols(
    pools: Sequence[LabelledPool], seed: tuple[int, int]
) -> Iterator[tuple[list[LabelledPool], dict[str, list[LabelledPool]]]]:
    """Yield what is learned from, and what is tested on by the name of the protocol.

    `N`: pairs to learn from, of 70% of the queries; tested on the others. `all`: every pair of the 70%.
    `1000, split`: 1,000 labelled pairs are all there is, and they are split 70/30 by query.
    `1000, split, others`: the same models on all queries without a label.
    """
    shuffled = [pools[n] for n in np.random.default_rng(seed).permutation(len(pools))]
    learned, tested = halves(shuffled, seed[1])
    for budget in BUDGETS:
        if budget < pairs_of(learned):
            yield filled(learned, budget), {str(budget): tested}
    yield learned, {"all": tested}
    labelled = filled(shuffled, LABELS)
    learned, tested = halves(labelled, seed[1])
    others = shuffled[len(labelled) :]
    yield learned, {f"{LABELS}, split": tested, f"{LABELS}, split, others": others}


def halves(pools: Sequence[LabelledPool], seed: int) -> tuple[list[LabelledPool], list[LabelledPool]]:
    """Split pools 70/30 by query, in the order given."""
    parts = split([pool.query for pool in pools], RERANKING, seed=seed)
    learned, tested = (set(queries_of(parts, [part])) for part in RERANKING)
    return (
        [pool for pool in pools if pool.query.query_id in learned],
        [pool for pool in pools if pool.query.query_id in tested],
    )


def pairs_of(pools: Iterable[LabelledPool]) -> int:
    """Return how many labelled pairs pools hold."""
    return sum(pool.labels for pool in pools)


def filled(pools: Sequence[LabelledPool], budget: int) -> list[LabelledPool]:
    """Return the first pools whose labelled pairs fill a budget; the last may exceed it."""
    total = np.cumsum([pool.labels for pool in pools])
    return list(pools[: int(np.searchsorted(total, budget)) + 1])


def values_of(model: Model, tested: Sequence[LabelledPool], trial: Trial) -> dict[str, float]:
    """Return nDCG@10 of each tested query."""
    scores = {pool.query.query_id: model.predict(pool.pool.features) for pool in tested}
    found = measure(as_run("model", tested, scores), trial.qrels.only(list(scores)), trial.measures[:1])
    return dict(zip(found.query_ids, found.values[:, 0].tolist(), strict=True))


def gain_figures(
    task: Task,
    kind: str,
    name: str,
    draws: Sequence[Mapping[str, float]],
    counts: Sequence[tuple[int, int]],
    base: Mapping[str, float],
) -> Iterator[Figure]:
    """Yield the mean gain over hybrid, and in how many draws there was one.

    The interval is over queries, each with its mean gain over the draws that tested it; `sd` is of the means
    of single draws, which is what one such experiment has to reckon with.
    """
    by_query: dict[str, list[float]] = defaultdict(list)
    for gains in draws:
        for query_id, gain in gains.items():
            by_query[query_id].append(gain)
    gains = np.array([np.mean(each) for each in by_query.values()])
    low, high = bootstrap_intervals(gains[:, None], seed=task.trial.seed)[0].tolist()
    single = np.array([np.mean(list(each.values())) for each in draws])
    pairs, tested = np.mean(counts, axis=0).tolist()
    about = {"labels": name, "pairs": round(pairs), "tested": round(tested), "draws": len(draws)}
    plain = float(np.mean([base[query_id] for query_id in by_query]))
    yield about_of(task, kind, NDCG, plain + float(gains.mean()), **about)
    more = {"low": low, "high": high, "sd": float(single.std()), "won": float((single > 0).mean())}
    yield about_of(task, kind, f"{NDCG} - hybrid", float(gains.mean()), **more, **about)


# --- sample shops ---------------------------------------------------------------------------------


def shops(arguments: argparse.Namespace, scratch: Path) -> Iterator[Figure]:
    """Rankings in each language, and the decision that nothing fits."""
    foreign = [
        Query(f"{arguments.data.name}-{query.query_id}", query.text, NO_ANSWER)
        for query in read_queries(arguments.data / "queries.tsv")
    ]
    for language in LANGUAGES:
        task = open_shop(language, arguments, arguments.shops or scratch)
        done = cross_validate_kinds(task.material, task.folds)
        yield from ranking_figures(task, done)
        others = foreign_pools(task, foreign)
        for one in (fusion_scores(task.material.pools), *done.fitted.values()):
            yield from refusal_figures(task, others, one, done.dealt)


def foreign_pools(task: Task, foreign: Sequence[Query]) -> list[LabelledPool]:
    """Return what a shop finds for queries of another trade, to which it has no answer."""
    judged = next(query for query in task.trial.known if query.kind != NO_ANSWER)
    pools = label_pools(task.material.pipeline, [judged, *foreign], task.trial.qrels, task.trial.depth)
    return pools[1:]


def open_shop(language: str, arguments: argparse.Namespace, folder: Path) -> Task:
    """Write a sample shop and index it with a static encoder, unless that is done."""
    data, index = folder / language, folder / f"{language}-index"
    if not data.exists():
        write_shop(data, products=arguments.products, language=language, seed=arguments.seed)
    if not index.exists():
        run_tilth("index", data / "products.jsonl", "--into", index, "--form", "static")
    name = f"sample shop {language}, {arguments.products:,}"
    return open_task(name, index, data, arguments)


def refusal_figures(
    task: Task, others: Sequence[LabelledPool], one: HeldOut, dealt: Sequence[Sequence[str]]
) -> Iterator[Figure]:
    """Yield how well queries without an answer are told so, by what was learned and who is asking."""
    refused: dict[tuple[str, str], list[tuple[bool, bool]]] = defaultdict(list)
    for learned in LEARNED if others else LEARNED[:1]:
        for asked, pair in decisions(task, others, one, dealt, with_others=learned == LEARNED[1]):
            refused[learned, asked].append(pair)
    for (learned, asked), pairs in refused.items():
        found = measure_refusals(*zip(*pairs, strict=True))
        about = {"learned": learned, "asked": asked, "unanswerable": found.unanswerable}
        for name in ("precision", "recall", "answerable_refused"):
            if found.unanswerable:
                yield about_of(task, one.kind, f"no answer: {name}", getattr(found, name), **about)


def decisions(
    task: Task,
    others: Sequence[LabelledPool],
    one: HeldOut,
    dealt: Sequence[Sequence[str]],
    *,
    with_others: bool,
) -> Iterator[tuple[str, tuple[bool, bool]]]:
    """Decide for every query, and every query of another trade, by what other folds gave.

    Yields by who is asking whether a query was refused and whether it has an answer. The decision is fitted
    on the shop's queries, and `with_others` on those of the other trade in other folds as well.
    """
    pipeline, pools = task.material.pipeline, task.material.pools
    foreign = deal([pool.query for pool in others], len(dealt), seed=task.trial.seed) if others else dealt
    scores = {**one.scores, **foreign_scores(others, one, foreign)}
    for own, other in zip(parted(pools, dealt), parted(others, foreign), strict=True):
        (inside, outside), (other_inside, other_outside) = own, other
        calibration = calibrate(outside, one.scores, RELEVANT)
        learned = [*outside, *other_outside] if with_others else outside
        answers = fit_answers(pipeline, learned, scores, calibration)
        for who, asking in zip(ASKED, (inside, other_inside), strict=True):
            for pool in asking:
                seen = signals_of(pipeline, pool, scores[pool.query.query_id], calibration)
                refused = not answers.decide(seen).answered
                for name in ASKED if pool.answerable else (who,):
                    yield name, (refused, pool.answerable)


def foreign_scores(
    others: Sequence[LabelledPool], one: HeldOut, dealt: Sequence[Sequence[str]]
) -> dict[str, np.ndarray]:
    """Return the scores of queries that no model has seen, each by the model of its fold."""
    if not one.models:
        return dict(fusion_scores(others).scores)
    return {
        pool.query.query_id: model.predict(pool.pool.features)
        for model, (inside, _) in zip(one.models, parted(others, dealt), strict=True)
        for pool in inside
    }


PARTS: dict[str, Callable[[argparse.Namespace, Path], Iterator[Figure]]] = {
    "quality": quality,
    "depth": depth,
    "labels": labels,
    "shops": shops,
}

if __name__ == "__main__":
    main()
