"""Slices: measures over the queries of one kind or of one length."""

from collections.abc import Mapping, Sequence

from tilth.evaluation.measures import PerQuery
from tilth.query import Query

Groups = dict[str, dict[str, tuple[str, ...]]]  # what is sliced by -> slice -> query ids
LONGEST = 3  # words; longer queries share a slice


def group_queries(queries: Sequence[Query]) -> Groups:
    """Group query ids by `kind`, where queries have one, and by `length` in words: 1, 2, 3+."""
    kinds = {query.query_id: query.kind for query in queries if query.kind}
    lengths = {query.query_id: _length(query.text) for query in queries}
    groups = {"kind": _invert(kinds), "length": _invert(lengths)}
    return {by: slices for by, slices in groups.items() if slices}


def _length(text: str) -> str:
    words = len(text.split())
    return str(words) if words < LONGEST else f"{LONGEST}+"


def _invert(labels: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    slices: dict[str, list[str]] = {}
    for query_id, label in sorted(labels.items(), key=lambda item: item[1]):
        slices.setdefault(label, []).append(query_id)
    return {label: tuple(query_ids) for label, query_ids in slices.items()}


def slice_means(values: PerQuery, groups: Groups) -> dict[str, dict[str, dict[str, float]]]:
    """Return the mean of each measure in each slice: [by][slice][measure].

    Args:
        values: the measured queries, those without a relevant product included.
        groups: slices; a query that was not measured is passed over, and so is a slice of such queries.

    Returns:
        The means, over the measured queries of each slice.
    """
    means: dict[str, dict[str, dict[str, float]]] = {}
    for by, slices in groups.items():
        kept = {label: values.only(query_ids) for label, query_ids in slices.items()}
        means[by] = {label: part.mean() for label, part in kept.items() if part.query_ids}
    return means
