"""Evaluations and comparisons as plain data for JSON; `docs/evaluation.md` lists the keys."""

from dataclasses import asdict

from tilth.evaluation.experiment import Change, Comparison, Evaluation
from tilth.evaluation.measures import PerQuery
from tilth.evaluation.slices import slice_means

Plain = dict[str, object]


def evaluation_report(evaluation: Evaluation, *, per_query: bool = False) -> Plain:
    """Return an evaluation as plain data: numbers are floats and ints, never arrays.

    Args:
        evaluation: what `evaluate` returned.
        per_query: whether to add the value of every measure for every query.

    Returns:
        The keys `measures`, `queries`, `queries_without_relevant`, `queries_unjudged`, `unanswered`,
        `systems`, `intervals`, `differences`, `slices` and, if wanted, `per_query`.
    """
    systems = evaluation.systems
    first = next(iter(systems.values()))
    report: Plain = {
        "measures": list(first.measures),
        "queries": len(first.query_ids),
        "queries_without_relevant": evaluation.without_relevant,
        "queries_unjudged": evaluation.unjudged,
        "unanswered": dict(evaluation.unanswered),
        "systems": {name: values.mean() for name, values in systems.items()},
        "intervals": {
            name: dict(zip(first.measures, bounds.tolist(), strict=True))
            for name, bounds in evaluation.intervals.items()
        },
        "differences": [asdict(difference) for difference in evaluation.differences],
        "slices": _slices(evaluation),
    }
    if per_query:
        report["per_query"] = {name: _per_query(values) for name, values in systems.items()}
    return report


def _slices(evaluation: Evaluation) -> Plain:
    """Return [by][slice] -> the number of measured queries, and the means of each system."""
    means = {name: slice_means(values, evaluation.groups) for name, values in evaluation.systems.items()}
    measured = set(next(iter(evaluation.systems.values())).query_ids)
    report: Plain = {}
    for by, slices in evaluation.groups.items():
        counts = {label: len(measured.intersection(query_ids)) for label, query_ids in slices.items()}
        report[by] = {
            label: {"queries": count, "systems": {name: means[name][by][label] for name in means}}
            for label, count in counts.items()
            if count
        }
    return report


def _per_query(values: PerQuery) -> dict[str, dict[str, float]]:
    return {measure: values.by_query(measure) for measure in values.measures}


def comparison_report(comparison: Comparison, *, most: int = 10) -> Plain:
    """Return a comparison as plain data.

    Args:
        comparison: what `compare` returned.
        most: how many queries to list on each side.

    Returns:
        The keys `measures`, `queries`, `baseline`, `system`, `differences`, `ordered_by`, `won` and `lost`.
    """
    return {
        "measures": list(comparison.system.measures),
        "queries": len(comparison.system.query_ids),
        "baseline": comparison.baseline.mean(),
        "system": comparison.system.mean(),
        "differences": [asdict(difference) for difference in comparison.differences],
        "ordered_by": comparison.measure,
        "won": [_change(change) for change in comparison.won(most)],
        "lost": [_change(change) for change in comparison.lost(most)],
    }


def _change(change: Change) -> Plain:
    return asdict(change) | {"difference": change.difference}
