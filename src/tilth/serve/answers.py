"""Answers and contexts as plain data: what the command line, HTTP and tools print alike."""

from dataclasses import asdict
from typing import Any

from tilth.catalog import product_to_json
from tilth.context import Context
from tilth.context_text import Source
from tilth.pipeline import Answer, Evidence


def answer_to_json(answer: Answer, *, explain: bool = True) -> dict[str, Any]:
    """Return an answer as plain data, with the names of `Answer`; what is not known is None.

    Args:
        answer: of a pipeline.
        explain: say why each hit is there.

    Returns:
        What JSON can hold.
    """
    return {
        "query": answer.query,
        "read_as": answer.read_as,
        "release": answer.release,
        "decision": None if answer.decision is None else asdict(answer.decision),
        "skipped": dict(answer.skipped),
        "totals": asdict(answer.totals),
        "facets": {name: asdict(facet) for name, facet in answer.facets.items()},
        "hits": [_hit_to_json(hit, explain) for hit in answer.hits],
        "milliseconds": dict(answer.milliseconds),
    }


def _hit_to_json(hit: Evidence, explain: bool) -> dict[str, Any]:
    product = product_to_json(hit.product)
    facts = {
        "rank": hit.rank,
        "product_id": product.pop("id"),
        "score": hit.score,
        "probability": hit.probability,
        **product,
    }
    return facts | {"explanation": _explanation(hit)} if explain else facts


def _explanation(hit: Evidence) -> dict[str, Any]:
    return {
        "places": {name: asdict(place) for name, place in hit.places.items()},
        "matched": dict(hit.matched),
        "identified": hit.identified,
    }


def context_to_json(made: Context) -> dict[str, Any]:
    """Return a context as plain data: its text, and passages and variants with facts of their products."""
    return {
        "query": made.query,
        "language": made.language,
        "tokens": made.tokens,
        "nearest": made.nearest,
        "decision": None if made.decision is None else asdict(made.decision),
        "passages": [each for source in made.sources for each in _passages(source)],
        "variants": [
            {"label": source.label, **asdict(variant.offer), "differences": dict(variant.differences)}
            for source in made.sources
            for variant in source.variants
        ],
        "left_out": list(made.left_out),
        "text": made.text,
    }


def _passages(source: Source) -> list[dict[str, Any]]:
    facts = {"label": source.label, **asdict(source.offer)}
    return [facts | asdict(passage) for passage in source.passages]
