"""The features of a reranker: names, order, units, ranges, and what a missing value means.

A model remembers the names that it was trained on, and is refused where they differ from these.
"""

from typing import NamedTuple

from tilth.retrieval.term_rows import TERM_FIELDS


class Feature(NamedTuple):
    """One column of the matrix; a missing value is NaN."""

    name: str
    unit: str
    span: str  # the range
    missing: str  # what NaN means; empty if there is none
    about: str


_NOT_FOUND = "the retriever did not find the product among its candidates"
_NO_VECTOR = "the query was not encoded"
_NO_OWN = "the index has no own encoder, or {}"
_NO_TERM = "the query has no term"
_NOT_KNOWN = "the catalogue does not say"
_NO_CLICKS = "nothing is known of the product's clicks"


def _retriever(name: str, score: str, missing: str = _NOT_FOUND) -> tuple[Feature, ...]:
    return (
        Feature(f"{name}_score", score, "any", missing, f"score of the {name} ranking"),
        Feature(f"{name}_rank", "rank", "1 upwards", missing, f"rank in the {name} ranking"),
        Feature(f"{name}_share", "ratio", "up to 1", missing, f"{name} score over the best {name} score"),
    )


def _field(name: str) -> tuple[Feature, ...]:
    return (
        Feature(f"{name}_length", "terms", "0 upwards", "", f"terms that the {name} keeps"),
        Feature(f"{name}_coverage", "share", "0 to 1", _NO_TERM, f"query terms that the {name} has"),
        Feature(
            f"{name}_rare_coverage", "share", "0 to 1", _NO_TERM, "the same, each term by its rarity (idf)"
        ),
        Feature(f"{name}_bm25", "BM25", "0 upwards", _NO_TERM, f"BM25 of the {name} alone, k1 1.2, b 0.75"),
    )


FEATURES: tuple[Feature, ...] = (
    *_retriever("lexical", "BM25"),
    *_retriever("dense", "cosine"),
    *_retriever("own", "cosine", _NO_OWN.format(_NOT_FOUND)),
    *_retriever("fused", "RRF or weighted score"),
    Feature("identified", "flag", "0 or 1", "", "the query is the product's id, mpn or gtin"),
    Feature("cosine_head", "cosine", "-1 to 1", _NO_VECTOR, "query and the product's first passage"),
    Feature("cosine_best", "cosine", "-1 to 1", _NO_VECTOR, "query and the product's nearest passage"),
    Feature(
        "cosine_to_top",
        "cosine",
        "-1 to 1",
        "the product has no passage",
        "first passage and the mean of the ten best fused candidates",
    ),
    Feature(
        "own_cosine_head",
        "cosine",
        "-1 to 1",
        _NO_OWN.format(_NO_VECTOR),
        "the same as `cosine_head`, by the own encoder",
    ),
    Feature(
        "own_cosine_best",
        "cosine",
        "-1 to 1",
        _NO_OWN.format(_NO_VECTOR),
        "the same as `cosine_best`, by the own encoder",
    ),
    *(feature for name in TERM_FIELDS for feature in _field(name)),
    Feature("any_coverage", "share", "0 to 1", _NO_TERM, "query terms that some field has"),
    Feature("any_rare_coverage", "share", "0 to 1", _NO_TERM, "the same, each term by its rarity (idf)"),
    Feature(
        "title_phrase",
        "share",
        "0 to 1",
        "the query has one term",
        "neighbouring query terms that are neighbours in the title",
    ),
    Feature("any_phrase", "share", "0 to 1", "the query has one term", "the same in any one field"),
    Feature(
        "title_first",
        "terms",
        "0 upwards",
        "no query term in the title",
        "terms before the first query term in the title",
    ),
    Feature(
        "title_last",
        "terms",
        "0 upwards",
        "no query term in the title",
        "terms after the last query term in the title",
    ),
    Feature("title_share", "share", "0 to 1", _NO_TERM, "terms of the title that are in the query"),
    Feature(
        "number_coverage",
        "share",
        "0 to 1",
        "the query has no number",
        "query terms with digits that some field has",
    ),
    Feature(
        "title_number_coverage",
        "share",
        "0 to 1",
        "the query has no number",
        "query terms with digits that the title has",
    ),
    Feature(
        "measure_match",
        "share",
        "0 to 1",
        "the query has no measure",
        "measures of the query, such as 16 gb, that some field has",
    ),
    Feature(
        "measure_conflict",
        "share",
        "0 to 1",
        "the query has no measure",
        "measures of the query whose unit the product has with other numbers only",
    ),
    Feature("brand_named", "flag", "0 or 1", "the product has no brand", "the query has the whole brand"),
    Feature(
        "brand_other_named",
        "flag",
        "0 or 1",
        "the product has no brand",
        "the query has the brand of another candidate, not this one",
    ),
    Feature(
        "brand_top_share",
        "share",
        "0 to 1",
        "the product has no brand",
        "of the ten best fused candidates, those of the same brand",
    ),
    Feature(
        "type_named",
        "flag",
        "0 or 1",
        "the product has no type",
        "the query has the whole last part of the type",
    ),
    Feature(
        "type_other_named",
        "flag",
        "0 or 1",
        "the product has no type",
        "the query has the type of another candidate, not this one",
    ),
    Feature(
        "type_top_share",
        "share",
        "0 to 1",
        "the product has no type",
        "of the ten best fused candidates, those of the same type",
    ),
    Feature("price", "the shop's currency", "0 upwards", _NOT_KNOWN, "sale price, or else price"),
    Feature("price_to_median", "ratio", "0 upwards", _NOT_KNOWN, "price over the median of the candidates"),
    Feature("price_place", "share", "0 to 1", _NOT_KNOWN, "candidates that are cheaper"),
    Feature("discount", "share", "up to 1", "no sale price", "what the sale price saves"),
    Feature("availability", "flag", "0, 0.5 or 1", _NOT_KNOWN, "out of stock, to be ordered, in stock"),
    Feature("rating", "the shop's scale", "any", _NOT_KNOWN, "mean rating"),
    Feature("rating_count", "ratings", "0 upwards", _NOT_KNOWN, "how many ratings"),
    Feature(
        "rating_smoothed",
        "the shop's scale",
        "any",
        _NOT_KNOWN,
        "rating drawn to the candidates' mean by 10 ratings",
    ),
    Feature("popularity", "the shop's scale", "any", _NOT_KNOWN, "popularity"),
    Feature("popularity_place", "share", "0 to 1", _NOT_KNOWN, "candidates that are less popular"),
    Feature("clicks", "clicks", "0 upwards", _NOT_KNOWN, "clicks that the catalogue reports"),
    Feature("clicks_place", "share", "0 to 1", _NOT_KNOWN, "candidates with fewer clicks"),
    Feature("query_clicks", "clicks", "0 upwards", _NO_CLICKS, "clicks on the product after this query"),
    Feature(
        "query_ctr",
        "ratio",
        "0 to 1",
        _NO_CLICKS,
        "clicks an impression after this query, drawn to `ctr` by 20 impressions",
    ),
    Feature(
        "ctr",
        "ratio",
        "0 to 1",
        _NO_CLICKS,
        "clicks an impression after any query, drawn to the mean of all products by 20",
    ),
    Feature("query_terms", "terms", "0 upwards", "", "different terms of the query"),
    Feature("query_letters", "characters", "1 upwards", "", "length of the query"),
    Feature("query_numbers", "terms", "0 upwards", "", "terms of the query with digits"),
    Feature("query_measures", "measures", "0 upwards", "", "numbers of the query with a unit"),
    Feature("query_rarity_mean", "idf", "0 upwards", _NO_TERM, "mean rarity of the query's terms"),
    Feature("query_rarity_max", "idf", "0 upwards", _NO_TERM, "rarity of its rarest term"),
)
NAMES = tuple(feature.name for feature in FEATURES)
