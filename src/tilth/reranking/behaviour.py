"""What users did with products, counted: the part of the features that no text holds."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from tilth.retrieval.analyzer import fold

PRIOR = 20.0  # impressions that the wider rate counts as: with fewer of its own, a rate says little


class Counts(NamedTuple):
    """How often a product was shown, and clicked."""

    impressions: float
    clicks: float


_NONE = Counts(0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Behaviour:
    """Counts by query and product, and by product; queries are known by their words, whatever the case."""

    by_query: Mapping[str, Mapping[str, Counts]] = field(default_factory=dict)
    by_product: Mapping[str, Counts] = field(default_factory=dict)
    rate: float = 0.0  # clicks an impression, over all

    @classmethod
    def of(cls, counts: Mapping[tuple[str, str], Counts]) -> "Behaviour":
        """Sum up counts.

        Args:
            counts: by the text of a query and the id of a product.

        Returns:
            The counts, looked up by `query_key`.
        """
        by_query: dict[str, dict[str, Counts]] = {}
        by_product: dict[str, Counts] = {}
        for (text, product_id), more in counts.items():
            of_query = by_query.setdefault(query_key(text), {})
            for known in (of_query, by_product):
                before = known.get(product_id, _NONE)
                known[product_id] = Counts(before.impressions + more.impressions, before.clicks + more.clicks)
        shown = sum(each.impressions for each in by_product.values())
        clicked = sum(each.clicks for each in by_product.values())
        return cls(by_query, by_product, clicked / shown if shown else 0.0)

    def of_query(self, text: str) -> Mapping[str, Counts]:
        """Return the counts of a query's products; empty for a query that nobody asked."""
        return self.by_query.get(query_key(text), {})

    def to_json(self) -> dict[str, object]:
        """Return the counts as plain data."""
        return {"by_query": {q: {p: list(c) for p, c in known.items()} for q, known in self.by_query.items()}}

    @classmethod
    def from_json(cls, data: Mapping[str, Mapping[str, Mapping[str, list[float]]]]) -> "Behaviour":
        """Return what `to_json` wrote."""
        counts = {(q, p): Counts(*c) for q, known in data["by_query"].items() for p, c in known.items()}
        return cls.of(counts)


NO_BEHAVIOUR = Behaviour()


def query_key(text: str) -> str:
    """Return what makes two queries one: their words, whatever the case."""
    return " ".join(fold(text).split())


def smoothed(counts: Counts, rate: float) -> float:
    """Return clicks an impression, drawn towards a wider rate by `PRIOR` impressions."""
    return (counts.clicks + PRIOR * rate) / (counts.impressions + PRIOR)
