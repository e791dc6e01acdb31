"""How far real raters agree, and which grade made of two of them is nearest to the third.

    python benchmarks/agreement.py [--data ../shared/data/icecat] [--seed 0]

Each rater in turn is held out; the other two give a grade, alone or together, which is compared with what the
third said. Shown is the mean over the turns (three; two for a rater alone), and the 95% bootstrap interval,
over queries, of the absolute error minus that of `majority`. `higher of two` is a majority whose ties go up.
Dawid and Skene's model sees the two raters alone. `mean, exact` is the mean before rounding, which has an
absolute error only. Writes benchmarks/results/agreement.jsonl.
"""

import argparse
import os
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt

from record import Figure, record
from tilth.evaluation.significance import bootstrap_intervals
from tilth.judgments import Judgment, Source, read_judgments
from tilth.labelling.aggregation import Ratings, dawid_skene, majority, mean, means, ratings
from tilth.labelling.agreement import Agreement, agreement, kappa
from tilth.qrels import Qrels

Numbers = npt.NDArray[np.float64]
Predictions = Mapping[str, Numbers]  # by name: (N,) of the pairs that all three graded
METRICS = ("accuracy", "mean absolute error", "quadratic kappa")


def main() -> None:
    """Measure and print both tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    data = Path(os.environ.get("TILTH_DATA", "../shared/data")) / "icecat"
    parser.add_argument("--data", type=Path, default=data, help="folder with ratings.tsv of three raters")
    parser.add_argument("--seed", type=int, default=0, help="of the intervals")
    arguments = parser.parse_args()
    source = Source(time=datetime(1970, 1, 1, tzinfo=UTC), highest=3)
    judgments = list(read_judgments(arguments.data / "ratings.tsv", source))
    found = agreement(ratings(judgments))
    show_agreement(found)
    turns = [turn(judgments, held_out) for held_out in found.judges]
    dataset = arguments.data.name
    predicted = prediction_figures(turns, dataset, arguments.seed)
    record("agreement", [*agreement_figures(found, dataset), *predicted])


def turn(judgments: list[Judgment], held_out: str) -> tuple[list[str], Numbers, Predictions]:
    """Return query ids, what the held-out rater said, and what is made of the other two."""
    two = ratings([each for each in judgments if each.judge != held_out])
    third = {(each.query_id, each.product_id): each.grade for each in judgments if each.judge == held_out}
    alone = [ratings([each for each in judgments if each.judge == judge]) for judge in two.judges]
    made = {
        "majority": of_qrels(majority(two)),
        "higher of two": of_qrels(majority(upside_down(two)), top=two.highest),
        "mean": of_qrels(mean(two)),
        "mean, exact": dict(zip(two.pairs, means(two), strict=True)),
        "dawid-skene": dict(zip(two.pairs, dawid_skene(two).posteriors.argmax(axis=1), strict=True)),
        **{each.judges[0]: of_qrels(majority(each)) for each in alone},
    }
    shared = [pair for pair in third if all(pair in grades for grades in made.values())]
    predictions = {name: np.array([grades[pair] for pair in shared], float) for name, grades in made.items()}
    return (
        [query_id for query_id, _ in shared],
        np.array([third[pair] for pair in shared], float),
        predictions,
    )


def upside_down(given: Ratings) -> Ratings:
    """Return ratings with the scale reversed, so that ties go the other way."""
    return replace(given, grade=given.highest - given.grade)


def of_qrels(qrels: Qrels, top: int | None = None) -> dict[tuple[str, str], float]:
    """Return grades by pair; with `top`, turned upside down again."""
    return {
        (query_id, product_id): grade if top is None else top - grade
        for query_id in qrels
        for product_id, grade in qrels[query_id].items()
    }


def prediction_figures(
    turns: list[tuple[list[str], Numbers, Predictions]], dataset: str, seed: int
) -> list[Figure]:
    """Print and return each way's mean over the turns, and its difference from the majority."""
    intervals = difference_intervals(turns, seed)
    figures: list[Figure] = []
    print(f"\n{'predicts the third rater':26}" + "".join(f"{metric:>22}" for metric in METRICS))
    for name in intervals:
        having = [(true, made[name]) for _, true, made in turns if name in made]
        row = [float(np.mean([score(metric, *pair) for pair in having])) for metric in METRICS]
        low, high = intervals[name]
        shown = "".join(f"{'' if np.isnan(value) else f'{value:.4f}':>22}" for value in row)
        print(f"{name:26}{shown}   error minus majority's: {low:+.4f} to {high:+.4f}")
        common = {"dataset": dataset, "system": name, "split": "one rater held out"}
        figures += [
            {**common, "metric": metric, "value": value, "unit": ""}
            for metric, value in zip(METRICS, row, strict=True)
            if not np.isnan(value)
        ]
        figures += [
            {**common, "metric": f"mean absolute error minus majority's, {end}", "value": value, "unit": ""}
            for end, value in (("low", low), ("high", high))
        ]
    return figures


def score(metric: str, true: Numbers, made: Numbers) -> float:
    """Return a metric of one turn; NaN where it needs whole grades and they are not."""
    if metric == "mean absolute error":
        return float(np.abs(true - made).mean())
    if (made % 1).any():
        return float("nan")
    if metric == "accuracy":
        return float((true == made).mean())
    return kappa(true.astype(int), made.astype(int), 3, "quadratic") or 0.0


def difference_intervals(
    turns: list[tuple[list[str], Numbers, Predictions]], seed: int
) -> dict[str, tuple[float, float]]:
    """Return the intervals of the mean over queries of error minus the majority's error."""
    queries = sorted({query_id for ids, _, _ in turns for query_id in ids})
    found = {}
    for name in dict.fromkeys(name for _, _, made in turns for name in made):
        totals, counts = np.zeros(len(queries)), np.zeros(len(queries))
        for ids, true, made in turns:
            if name in made:
                places = np.searchsorted(queries, ids)
                np.add.at(totals, places, np.abs(true - made[name]) - np.abs(true - made["majority"]))
                np.add.at(counts, places, 1)
        ((low, high),) = bootstrap_intervals((totals / counts)[:, None], seed=seed)
        found[name] = (float(low), float(high))
    return found


def show_agreement(found: Agreement) -> None:
    """Print the agreement of each two raters and of all."""
    print(f"{'':18}{'pairs':>7}{'observed':>10}{'kappa':>8}{'linear':>8}{'quadratic':>11}", end="")
    print(f"{'nominal':>9}{'ordinal':>9}{'interval':>9}")
    for pair in found.pairs:
        kappas, alphas = pair.kappa, pair.alpha
        print(f"{pair.first + ', ' + pair.second:18}{pair.shared:7}{pair.observed:10.3f}", end="")
        print(f"{kappas['none']:8.3f}{kappas['linear']:8.3f}{kappas['quadratic']:11.3f}", end="")
        print("".join(f"{alpha:9.3f}" for alpha in alphas.values()))
    print(f"{'all':18}{found.shared:7}{found.observed:10.3f}{'':27}", end="")
    print("".join(f"{alpha:9.3f}" for alpha in found.alpha.values()))


def agreement_figures(found: Agreement, dataset: str) -> list[Figure]:
    """Return one figure a measure and two raters, and of all together."""
    rows = [(f"{pair.first}, {pair.second}", pair.observed, pair.kappa, pair.alpha) for pair in found.pairs]
    rows.append(("all", found.observed, {}, found.alpha))
    return [
        {"dataset": dataset, "system": name, "metric": metric, "value": value, "unit": ""}
        for name, observed, kappas, alphas in rows
        for metric, value in {
            "observed agreement": observed,
            **{f"kappa, {weights}": value for weights, value in kappas.items()},
            **{f"alpha, {level}": value for level, value in alphas.items()},
        }.items()
    ]


if __name__ == "__main__":
    main()
