"""Choosing one of many candidates on some queries, to be reported on others.

Each candidate is measured once, per query. Choosing on any set of queries is then a mean over columns.
A query without a relevant product has 0 under every candidate: it lowers all means alike and decides nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from ir_measures import Measure

from tilth.errors import InputError, SettingError
from tilth.evaluation.measures import Values, measure
from tilth.qrels import Qrels
from tilth.run import Run

_TIE = 1e-12  # sums of the same numbers may differ in their last bits


@dataclass(frozen=True, slots=True)
class Candidates:
    """One measure of every candidate on every query: `values[candidate, query]`, float64 of shape (C, Q)."""

    names: tuple[str, ...]
    query_ids: tuple[str, ...]
    values: Values

    def mean(self, query_ids: Iterable[str]) -> Values:
        """Return the mean of each candidate over those of these queries that were measured.

        Args:
            query_ids: queries; those that the qrels lack are passed over.

        Returns:
            Shape (C,).

        Raises:
            InputError: none of the queries was measured.
        """
        wanted = set(query_ids)
        columns = [column for column, query_id in enumerate(self.query_ids) if query_id in wanted]
        if not columns:
            raise InputError("none of the queries to choose on is in the qrels")
        means: Values = self.values[:, columns].mean(axis=1)
        return means

    def select(self, query_ids: Iterable[str]) -> str:
        """Return the candidate with the highest mean over these queries, the first of equals.

        Args:
            query_ids: queries; those that the qrels lack are passed over.

        Returns:
            A name.

        Raises:
            InputError: none of the queries was measured.
        """
        means = self.mean(query_ids)
        return self.names[int(np.argmax(means >= means.max() - _TIE))]


@dataclass(frozen=True, slots=True)
class CrossValidation:
    """For each query, the candidate chosen without looking at its fold, and that candidate's value."""

    chosen: Mapping[str, str]  # query_id -> candidate
    values: Mapping[str, float]  # query_id -> value of the measure
    folds: tuple[str, ...]  # the candidate of each fold

    def mean(self) -> float:
        """Return the mean over all held-out queries."""
        return float(np.mean(list(self.values.values())))


def score_candidates(candidates: Iterable[tuple[str, Run]], qrels: Qrels, by: Measure) -> Candidates:
    """Measure candidates one after another, so that only one run need be in memory.

    Args:
        candidates: name and run, the simplest first: it wins ties.
        qrels: the grades.
        by: the measure to choose by.

    Returns:
        The values.

    Raises:
        InputError: no query of the qrels has a relevant product.
        SettingError: there is no candidate, or a name occurs twice.
    """
    rows: dict[str, Values] = {}
    query_ids: tuple[str, ...] = ()
    for name, run in candidates:
        if name in rows:
            raise SettingError(f"candidate {name!r} occurs twice")
        measured = measure(run, qrels, [by])
        rows[name], query_ids = measured.values[:, 0], measured.query_ids
    if not rows:
        raise SettingError("there is no candidate to choose from")
    return Candidates(tuple(rows), query_ids, np.stack(list(rows.values())))


def cross_validate(candidates: Candidates, folds: Sequence[Sequence[str]]) -> CrossValidation:
    """Choose for each fold on all the others, and keep the chosen one's values on the fold.

    Args:
        candidates: measured candidates.
        folds: query ids, each query in one fold.

    Returns:
        The choice and the value for each measured query of the folds.

    Raises:
        InputError: the other folds of a fold hold no measured query.
    """
    column = {query_id: place for place, query_id in enumerate(candidates.query_ids)}
    chosen: dict[str, str] = {}
    values: dict[str, float] = {}
    picked = []
    for held_out in folds:
        name = candidates.select(query_id for fold in folds if fold is not held_out for query_id in fold)
        row = candidates.values[candidates.names.index(name)]
        measured = [query_id for query_id in held_out if query_id in column]
        chosen.update(dict.fromkeys(measured, name))
        values.update((query_id, float(row[column[query_id]])) for query_id in measured)
        picked.append(name)
    return CrossValidation(chosen, values, tuple(picked))


def assemble(chosen: Mapping[str, str], runs: Mapping[str, Run], name: str) -> Run:
    """Return one run that answers each query with the hits of its chosen candidate.

    Args:
        chosen: the candidate of each query.
        runs: the runs of at least the candidates that were chosen.
        name: of the new run.

    Returns:
        The run; a query that its candidate lacks has no hits.
    """
    return Run(name, {query_id: runs[of].hits.get(query_id, ()) for query_id, of in chosen.items()})
