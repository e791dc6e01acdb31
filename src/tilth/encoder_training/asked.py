"""Queries that were really asked: from judgments of people, models and clicks to weighted pairs."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from tilth.judgments import Judgment

LEAST_SHARE = 0.5  # of the highest grade; what is graded lower is no positive


class Asked(NamedTuple):
    """One query and a product that answers it."""

    query: str
    product_id: str
    weight: float  # above 0, up to 1; those of one query sum to 1


def asked_of(judgments: Iterable[Judgment], texts: Mapping[str, str]) -> list[Asked]:
    """Return a pair for each query and product that were judged relevant.

    What a judgment says is its grade over the highest, times its confidence if it has one. Of several on one
    pair the mean counts, and a pair whose mean is below `LEAST_SHARE` is none.

    Args:
        judgments: of any kinds and scales.
        texts: of the queries that may be learned from, by query_id; judgments of others are passed over.

    Returns:
        The pairs, in the order of query and product ids.
    """
    said: dict[tuple[str, str], list[float]] = {}
    for judgment in judgments:
        if judgment.query_id in texts:
            confidence = 1.0 if judgment.confidence is None else judgment.confidence
            pair = judgment.query_id, judgment.product_id
            said.setdefault(pair, []).append(confidence * judgment.grade / judgment.highest)
    means = {pair: sum(values) / len(values) for pair, values in sorted(said.items())}
    kept = {pair: mean for pair, mean in means.items() if mean >= LEAST_SHARE}
    totals: dict[str, float] = {}
    for (query_id, _), mean in kept.items():
        totals[query_id] = totals.get(query_id, 0.0) + mean
    return [
        Asked(texts[query_id], product_id, mean / totals[query_id])
        for (query_id, product_id), mean in kept.items()
    ]
