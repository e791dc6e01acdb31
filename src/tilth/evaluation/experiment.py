"""Several runs against one set of qrels: a table with intervals, differences with their tests, slices."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from ir_measures import Measure

from tilth.errors import InputError, SettingError, shorten
from tilth.evaluation.measures import DEFAULT, PerQuery, Values, measure, relevant_queries
from tilth.evaluation.significance import bootstrap_intervals, randomisation_test
from tilth.evaluation.slices import Groups, group_queries
from tilth.qrels import Qrels
from tilth.query import Query
from tilth.run import Run


@dataclass(frozen=True, slots=True)
class Difference:
    """The mean of system minus baseline in one measure, its 95% interval, p, and queries won and lost."""

    system: str
    baseline: str
    measure: str
    difference: float
    low: float
    high: float
    p: float
    won: int
    lost: int


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What `evaluate` found: values per query, and what they say about means and differences."""

    systems: Mapping[str, PerQuery]
    intervals: Mapping[str, Values]  # (M, 2) for each system: low and high
    differences: tuple[Difference, ...]
    groups: Groups
    without_relevant: int  # measured queries without a product of a grade above 0: 0 under any system
    unjudged: int  # queries without a row in the qrels, which are not measured
    unanswered: Mapping[str, int]  # measured queries for which a system has no hits


@dataclass(frozen=True, slots=True)
class Change:
    """One query under two systems."""

    query_id: str
    text: str
    baseline: float
    system: float

    @property
    def difference(self) -> float:
        """How much the query won, or lost if below 0."""
        return self.system - self.baseline


@dataclass(frozen=True, slots=True)
class Comparison:
    """What `compare` found; `changes` are the queries that differ in `measure`, most won first."""

    baseline: PerQuery
    system: PerQuery
    differences: tuple[Difference, ...]
    measure: str
    changes: tuple[Change, ...]

    def won(self, most: int = 10) -> tuple[Change, ...]:
        """Return the queries that won most, the largest gain first."""
        return tuple(change for change in self.changes if change.difference > 0)[:most]

    def lost(self, most: int = 10) -> tuple[Change, ...]:
        """Return the queries that lost most, the largest loss first."""
        return tuple(change for change in reversed(self.changes) if change.difference < 0)[:most]


def evaluate(
    runs: Mapping[str, Run],
    qrels: Qrels,
    *,
    queries: Sequence[Query] | None = None,
    measures: Sequence[Measure] = DEFAULT,
    baseline: str | None = None,
    seed: int = 0,
) -> Evaluation:
    """Measure runs and, against a baseline, their differences.

    Args:
        runs: a run for each system.
        qrels: the grades.
        queries: what to measure on, with texts and kinds for slices; without them, all queries of the qrels.
        measures: measures of `parse_measures`.
        baseline: the system that the others are compared with.
        seed: of the bootstrap and the randomisation test.

    Returns:
        The evaluation.

    Raises:
        InputError: no query of the qrels has a relevant product, or queries, qrels and runs share no query.
        SettingError: there is no run or no measure, or the baseline is not among the systems.
    """
    if not runs or not measures:
        raise SettingError("nothing to evaluate: give at least one run and one measure")
    if baseline is not None and baseline not in runs:
        raise SettingError(f"no system {shorten(baseline)} to compare with: there are {', '.join(runs)}")
    qrels = _restrict(qrels, queries)
    systems = {name: measure(run, qrels, measures) for name, run in runs.items()}
    query_ids = next(iter(systems.values())).query_ids
    _check_same_queries(runs.values(), query_ids)
    return Evaluation(
        systems=systems,
        intervals={name: bootstrap_intervals(s.values, seed=seed) for name, s in systems.items()},
        differences=() if baseline is None else _differences_to(baseline, systems, seed),
        groups=group_queries(queries or ()),
        without_relevant=len(qrels) - len(relevant_queries(qrels)),
        unjudged=sum(query.query_id not in qrels.grades for query in queries or ()),
        unanswered={name: sum(not run.hits.get(q) for q in query_ids) for name, run in runs.items()},
    )


def _restrict(qrels: Qrels, queries: Sequence[Query] | None) -> Qrels:
    """Return the qrels of the queries that are to be measured on."""
    if queries is None:
        return qrels
    kept = qrels.only([query.query_id for query in queries])
    if queries and not len(kept):
        raise InputError(
            f"queries and qrels share no query: a query has the id {shorten(queries[0].query_id)}, the qrels "
            f"have {shorten(next(iter(qrels), None))}",
            remedy="Both need the same query ids",
        )
    return kept


def _check_same_queries(runs: Iterable[Run], query_ids: Sequence[str]) -> None:
    """Raise InputError where runs and qrels speak of different queries: a table of zeros helps nobody."""
    held = [query_id for run in runs for query_id in run]
    if held and not set(held) & set(query_ids):
        raise InputError(
            f"runs and qrels share no query: a run has {shorten(held[0])}, the qrels have "
            f"{shorten(query_ids[0])}",
            remedy="Both need the same query ids",
        )


def _differences_to(baseline: str, systems: Mapping[str, PerQuery], seed: int) -> tuple[Difference, ...]:
    return tuple(
        difference
        for name, system in systems.items()
        if name != baseline
        for difference in _differences(name, system, baseline, systems[baseline], seed)
    )


def _differences(
    name: str, system: PerQuery, baseline_name: str, baseline: PerQuery, seed: int
) -> tuple[Difference, ...]:
    """Return the difference in each measure, over the same queries."""
    paired = system.values - baseline.values
    columns = zip(
        system.measures,
        paired.mean(axis=0).tolist(),
        bootstrap_intervals(paired, seed=seed).tolist(),
        randomisation_test(paired, seed=seed).tolist(),
        np.count_nonzero(paired > 0, axis=0).tolist(),
        np.count_nonzero(paired < 0, axis=0).tolist(),
        strict=True,
    )
    return tuple(
        Difference(name, baseline_name, measured, mean, low, high, p, won, lost)
        for measured, mean, (low, high), p, won, lost in columns
    )


def compare(
    baseline: Run,
    system: Run,
    qrels: Qrels,
    *,
    queries: Sequence[Query] | None = None,
    measures: Sequence[Measure] = DEFAULT,
    seed: int = 0,
) -> Comparison:
    """Compare a system's run with a baseline's; every difference is system minus baseline.

    Args:
        baseline: the run to be beaten.
        system: the run that tries.
        qrels: the grades.
        queries: what to measure on, with texts; without them, all queries of the qrels.
        measures: measures of `parse_measures`; queries are ordered by the first.
        seed: of the bootstrap and the randomisation test.

    Returns:
        The comparison.

    Raises:
        InputError: no query of the qrels has a relevant product, or queries, qrels and runs share no query.
        SettingError: there is no measure.
    """
    if not measures:
        raise SettingError("nothing to compare: give at least one measure")
    qrels = _restrict(qrels, queries)
    before, after = measure(baseline, qrels, measures), measure(system, qrels, measures)
    _check_same_queries((baseline, system), before.query_ids)
    texts = {query.query_id: query.text for query in queries or ()}
    rows = zip(before.query_ids, before.values[:, 0].tolist(), after.values[:, 0].tolist(), strict=True)
    changes = [Change(query_id, texts.get(query_id, ""), a, b) for query_id, a, b in rows if a != b]
    return Comparison(
        baseline=before,
        system=after,
        differences=_differences(system.name, after, baseline.name, before, seed),
        measure=before.measures[0],
        changes=tuple(sorted(changes, key=lambda change: (-change.difference, change.query_id))),
    )
