"""What a reranker knows of a candidate: one ordered, named matrix, the same for training and for serving.

Everything is computed for all candidates of a query at once, from arrays that the index keeps: the terms of
each row, the codes of its passages, its columns. `docs/features.md` lists every feature with its meaning.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tilth.protocols import Rows, Vectors
from tilth.reranking.behaviour import NO_BEHAVIOUR, Behaviour, Counts, smoothed
from tilth.reranking.feature_names import FEATURES
from tilth.retrieval.analyzer import UNITS, analyze, stem
from tilth.retrieval.candidates import Candidates
from tilth.retrieval.dense import RowPassages
from tilth.retrieval.fusion import NO_PLACES, RankedPlaces
from tilth.retrieval.legs import LEGS
from tilth.retrieval.nearness import Nearness, firsts, nearness
from tilth.retrieval.term_rows import TERM_FIELDS, Terms, term_hash
from tilth.retrieval.view import LEXICAL, View

Matrix = npt.NDArray[np.float32]  # (M, F), NaN for missing
Column = npt.NDArray[np.float64]  # (M,)
Columns = dict[str, Column]

_K1, _B = 1.2, 0.75
_MOST_TERMS = 32  # of a query that are compared
_TOP = 10  # fused candidates that stand for what the query is about
_PRIOR_RATINGS = 10.0  # ratings that the mean of the candidates counts as
_MEASURE = re.compile(r"\d[\d.]*([^\W\d].*)")  # a number and its unit, as the analyzer joins them
_NUMBER = re.compile(r"\d")
_UNITS = frozenset(term for unit in UNITS.values() for term in stem(unit))
_LARGEST = float(np.finfo(np.float32).max)
_AVAILABILITY = {"in_stock": 1.0, "preorder": 0.5, "backorder": 0.5, "out_of_stock": 0.0}


def feature_matrix(
    view: View,
    text: str,
    candidates: Candidates,
    fused: RankedPlaces,
    behaviour: Behaviour = NO_BEHAVIOUR,
) -> Matrix:
    """Return the features of all candidates of a query.

    Args:
        view: what the candidates were found in.
        text: the query as it was searched.
        candidates: what the retrievers found.
        fused: the M products to be ordered, in the order of the fusion.
        behaviour: clicks.

    Returns:
        (M, F), in the order of `fused` and of `FEATURES`.
    """
    rows = candidates.rows[fused.places]
    columns = _retrieval(candidates, fused)
    columns |= _nearness(view, candidates.vectors, rows)
    query = _Query.of(view, text)
    columns |= _text(view, query, rows)
    columns |= _kinship(view, query, rows)
    columns |= _commerce(view, rows)
    columns |= _behaviour(text, [candidates.ids[place] for place in fused.places.tolist()], behaviour)
    columns |= _of_query(query, text, len(rows))
    values = np.array([columns.pop(feature.name) for feature in FEATURES])
    if columns:
        raise AssertionError(f"features without a name in the list: {', '.join(columns)}")
    return np.ascontiguousarray(values.clip(-_LARGEST, _LARGEST).T, np.float32)


# --- what the retrievers said ---------------------------------------------------------------------


def _retrieval(candidates: Candidates, fused: RankedPlaces) -> Columns:
    columns: Columns = {}
    lists = {name: candidates.lists.get(name, NO_PLACES) for name in (LEXICAL, *LEGS)}
    for name, ranked in (*lists.items(), ("fused", fused)):
        score, rank = np.full((2, len(candidates.ids)), np.nan)
        score[ranked.places] = ranked.scores
        rank[ranked.places] = np.arange(1, len(ranked.places) + 1)
        score, rank = score[fused.places], rank[fused.places]
        best = float(ranked.scores[0]) if len(ranked.scores) else 0.0
        share = score / best if best > 0 else score * 0  # of nothing, nobody has a part
        columns |= {f"{name}_score": score, f"{name}_rank": rank, f"{name}_share": share}
    known = np.isin(fused.places, list(candidates.identified))
    return columns | {"identified": known.astype(np.float64)}


def _nearness(view: View, vectors: Mapping[str, Vectors], rows: Rows) -> Columns:
    """Compare the passages of all candidates with the query in each leg, and with the mean of the best."""
    dense, own = LEGS
    passages = {name: leg.passages_of(rows) for name, leg in view.legs.items()}
    return {
        **_cosines("cosine", passages[dense], vectors.get(dense), len(rows)),
        **_cosines("own_cosine", passages.get(own), vectors.get(own), len(rows)),
        "cosine_to_top": _to_top(passages[dense], len(rows)),
    }


def _cosines(prefix: str, passages: RowPassages | None, vector: Vectors | None, size: int) -> Columns:
    """Return the cosines of the query and each row's first passage, and its nearest one."""
    found = Nearness(*np.full((2, size), np.nan, np.float32))
    if passages is not None and vector is not None:
        found = nearness(passages, vector, size)
    return {f"{prefix}_{name}": cosines.astype(np.float64) for name, cosines in found._asdict().items()}


def _to_top(passages: RowPassages, size: int) -> Column:
    """Return the cosine of each row's first passage and the mean of the best candidates' first ones."""
    column = np.full(size, np.nan)
    first = firsts(passages.places)
    heads, has = passages.codes[first], passages.places[first]
    lengths = np.maximum(np.sqrt(np.einsum("ij,ij->i", heads, heads)), 1e-9)
    top = has < _TOP
    centre = (heads[top] / lengths[top, None]).sum(axis=0)
    centre /= max(float(np.linalg.norm(centre)), 1e-9)
    column[has] = np.einsum("ij,j->i", heads, centre) / lengths
    return column


# --- terms ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Query:
    """The terms of a query: T different ones, and the pairs of neighbours among them."""

    hashes: npt.NDArray[np.uint32]  # (T,) ascending
    rarity: Column  # (T,)
    numeric: npt.NDArray[np.bool_]  # (T,) whether the term holds a digit
    pairs: npt.NDArray[np.intp]  # T * place + place of the next, each once
    measures: tuple[tuple[int, int], ...]  # the places of a measure, `16gb`, and of its unit, `gb`

    @classmethod
    def of(cls, view: View, text: str) -> "_Query":
        """Analyze a query."""
        sequence = analyze(text)
        terms = list(dict.fromkeys(sequence))[:_MOST_TERMS]
        hashes = np.array(list(map(term_hash, terms)), np.uint32)
        order = np.argsort(hashes)
        terms = [terms[place] for place in order.tolist()]
        place_of = {term: place for place, term in enumerate(terms)}
        known = [pair for pair in pairwise(sequence) if pair[0] in place_of and pair[1] in place_of]
        pairs = {place_of[one] * len(terms) + place_of[next_] for one, next_ in known}
        return cls(
            hashes[order],
            view.lexical.rarity(terms),
            np.array([bool(_NUMBER.search(term)) for term in terms], bool),
            np.array(sorted(pairs), np.intp),
            tuple(_measures(text, place_of)),
        )


def _measures(text: str, place_of: Mapping[str, int]) -> set[tuple[int, int]]:
    found = set()
    for term in analyze(text):
        match = _MEASURE.fullmatch(term)
        if match and match[1] in _UNITS and match[1] in place_of and term in place_of:
            found.add((place_of[term], place_of[match[1]]))
    return found


class _Met(NamedTuple):
    """Where the terms of a query are met among those of the candidates: (H,) each, in their order."""

    at: npt.NDArray[np.intp]  # the place among the terms
    terms: npt.NDArray[np.intp]  # the place of the term in the query
    rows: npt.NDArray[np.intp]
    cells: npt.NDArray[np.intp]  # row and field as one number

    @classmethod
    def of(cls, query: _Query, terms: Terms, cells: npt.NDArray[np.intp]) -> "_Met":
        """Look up tens of thousands of terms: a table of 16 bits of the hashes leaves few to be compared."""
        table = np.zeros(1 << 16, bool)
        table[query.hashes.astype(np.uint16)] = True
        at = np.flatnonzero(table[terms.terms.astype(np.uint16)])
        hashes = terms.terms[at]
        places = np.searchsorted(query.hashes, hashes).clip(max=len(query.hashes) - 1)
        right = query.hashes[places] == hashes
        at = at[right]
        return cls(at, places[right], terms.places[at], cells[at])


def _text(view: View, query: _Query, rows: Rows) -> Columns:
    """Compare the terms of every field with those of the query."""
    size, count, fields = len(rows), len(query.hashes), len(TERM_FIELDS)
    terms = view.terms(rows)
    cells = terms.places * fields + terms.fields
    lengths = np.bincount(cells, minlength=size * fields).reshape(size, fields)
    columns = {f"{name}_length": lengths[:, n].astype(np.float64) for n, name in enumerate(TERM_FIELDS)}
    if not count:
        return columns | dict.fromkeys(_TEXT_NAMES, np.full(size, np.nan))
    met = _Met.of(query, terms, cells)
    times = np.bincount(met.cells * count + met.terms, minlength=size * fields * count)
    times = times.reshape(size, fields, count)
    columns |= _coverage(times, lengths, query, view.index.mean_lengths)
    columns |= _phrases(met, query, size)
    columns |= _title(terms, met, lengths[:, 0], size)
    has = times > 0
    return columns | _numbers(has.max(axis=1), has[:, 0], query)


def _coverage(
    times: npt.NDArray[np.intp], lengths: npt.NDArray[np.intp], query: _Query, means: Column
) -> Columns:
    """Return how much of the query each field has, plain, weighted by rarity, and as BM25 of the field."""
    weights = query.rarity / query.rarity.sum()
    norms = _K1 * (1 - _B + _B * lengths / np.where(means > 0, means, 1))
    has = (times > 0).astype(np.float64)
    plain, rare = has.mean(axis=2), np.einsum("mft,t->mf", has, weights)
    bm25 = np.einsum("mft,t->mf", times * (_K1 + 1) / (times + norms[:, :, None]), query.rarity)
    columns: Columns = {}
    for n, name in enumerate(TERM_FIELDS):
        columns[f"{name}_coverage"] = plain[:, n]
        columns[f"{name}_rare_coverage"] = rare[:, n]
        columns[f"{name}_bm25"] = bm25[:, n]
    anywhere = has.max(axis=1)
    rare = np.einsum("mt,t->m", anywhere, weights)
    return columns | {"any_coverage": anywhere.mean(axis=1), "any_rare_coverage": rare}


def _phrases(met: _Met, query: _Query, size: int) -> Columns:
    """Return the share of the query's neighbours that are neighbours in the title, and in any field."""
    if not len(query.pairs):
        return {"title_phrase": np.full(size, np.nan), "any_phrase": np.full(size, np.nan)}
    side_by_side = (np.diff(met.at) == 1) & (np.diff(met.cells) == 0)
    first = np.flatnonzero(side_by_side)
    pairs = met.terms[first] * len(query.hashes) + met.terms[first + 1]
    known = np.searchsorted(query.pairs, pairs).clip(max=len(query.pairs) - 1)
    right = query.pairs[known] == pairs
    first, known = first[right], known[right]
    found = np.zeros((2, size, len(query.pairs)), bool)
    found[1, met.rows[first], known] = True
    title = met.cells[first] % len(TERM_FIELDS) == 0
    found[0, met.rows[first[title]], known[title]] = True
    return {"title_phrase": found[0].mean(axis=1), "any_phrase": found[1].mean(axis=1)}


def _title(terms: Terms, met: _Met, lengths: npt.NDArray[np.intp], size: int) -> Columns:
    """Return where in the title the query is met first and last, and how much of the title is the query."""
    starts = np.zeros(size, np.intp)
    begins = firsts(terms.places)  # of a row, and so of its title
    starts[terms.places[begins]] = begins
    inside = met.cells % len(TERM_FIELDS) == 0
    at, rows = met.at[inside], met.rows[inside]
    first = firsts(rows)
    counts, rows = np.diff(first, append=len(rows)), rows[first]
    before, after, share = np.full(size, np.nan), np.full(size, np.nan), np.zeros(size)
    before[rows] = at[first] - starts[rows]
    after[rows] = lengths[rows] - 1 - (at[first + counts - 1] - starts[rows])
    share[rows] = counts / lengths[rows]
    return {"title_first": before, "title_last": after, "title_share": share}


def _numbers(anywhere: npt.NDArray[np.bool_], in_title: npt.NDArray[np.bool_], query: _Query) -> Columns:
    """Return how many of the query's numbers and measures a product has, and how many it contradicts."""
    size = len(anywhere)
    none = np.full(size, np.nan)
    numeric = query.numeric
    columns = {
        "number_coverage": anywhere[:, numeric].mean(axis=1) if numeric.any() else none,
        "title_number_coverage": in_title[:, numeric].mean(axis=1) if numeric.any() else none,
    }
    if not query.measures:
        return columns | {"measure_match": none, "measure_conflict": none}
    measures, units = (np.array(places) for places in zip(*query.measures, strict=True))
    match = anywhere[:, measures]
    conflict = anywhere[:, units] & ~match
    return columns | {"measure_match": match.mean(axis=1), "measure_conflict": conflict.mean(axis=1)}


_TEXT_NAMES = (
    *(f"{name}_{what}" for name in TERM_FIELDS for what in ("coverage", "rare_coverage", "bm25")),
    "any_coverage", "any_rare_coverage", "title_phrase", "any_phrase", "title_first", "title_last",
    "title_share", "number_coverage", "title_number_coverage", "measure_match", "measure_conflict",
)  # fmt: skip


# --- brands and types -----------------------------------------------------------------------------


def _kinship(view: View, query: _Query, rows: Rows) -> Columns:
    """Compare brands and types with the query, and with those of the best candidates."""
    columns: Columns = {}
    asked = frozenset(query.hashes.tolist())
    for name, field in (("brand", "brand"), ("type", "product_type")):
        values = view.values(field, rows)
        texts = list(dict.fromkeys(values))
        code_of = {text: code for code, text in enumerate(texts)}
        codes = np.array([code_of[value] for value in values], np.intp)
        named = np.array([_is_named(_last_part(text), asked) for text in texts], bool)
        has = np.array([text != "" for text in texts], bool)[codes]
        columns[f"{name}_named"] = np.where(has, named[codes], np.nan)
        columns[f"{name}_other_named"] = np.where(has, named.any() & ~named[codes], np.nan)
        shares = np.bincount(codes[:_TOP], minlength=len(texts)) / min(len(rows), _TOP)
        columns[f"{name}_top_share"] = np.where(has, shares[codes], np.nan)
    return columns


def _last_part(text: str) -> str:
    """Return the narrowest part of a type; a brand has one part."""
    return text.rsplit(" > ", 1)[-1]


def _is_named(text: str, asked: frozenset[int]) -> bool:
    """Tell whether a query has every term of a text."""
    hashes = _hashes(text)
    return bool(hashes) and hashes <= asked


@lru_cache(65_536)
def _hashes(text: str) -> frozenset[int]:
    return frozenset(map(term_hash, analyze(text)))


# --- commerce and behaviour -----------------------------------------------------------------------


def _commerce(view: View, rows: Rows) -> Columns:
    price, sale = view.numbers("price", rows), view.numbers("sale_price", rows)
    asked = np.where(np.isnan(sale), price, sale)
    rating, ratings = view.numbers("rating", rows), view.numbers("rating_count", rows)
    known = ~np.isnan(rating)
    weight = np.where(np.isnan(ratings), 1.0, ratings)
    total = float(weight[known].sum())
    mean = float((rating * weight)[known].sum()) / total if total else np.nan
    popularity, clicks = view.numbers("popularity", rows), view.numbers("clicks", rows)
    stock = [_AVAILABILITY.get(each, np.nan) for each in view.values("availability", rows)]
    paid = asked[asked > 0]
    return {
        "price": asked,
        "price_to_median": asked / (np.median(paid) if len(paid) else np.nan),
        "price_place": _percentile(asked),
        "discount": 1 - sale / np.where(price > 0, price, np.nan),
        "availability": np.array(stock, np.float64),
        "rating": rating,
        "rating_count": ratings,
        "rating_smoothed": (rating * weight + _PRIOR_RATINGS * mean) / (weight + _PRIOR_RATINGS),
        "popularity": popularity,
        "popularity_place": _percentile(popularity),
        "clicks": clicks,
        "clicks_place": _percentile(clicks),
    }


def _percentile(values: Column) -> Column:
    """Return the share of the known values that are smaller, NaN where the value is missing."""
    known = np.sort(values[~np.isnan(values)])
    if not len(known):
        return values
    return np.where(np.isnan(values), np.nan, np.searchsorted(known, values) / len(known))


def _behaviour(text: str, ids: Sequence[str], behaviour: Behaviour) -> Columns:
    columns = {name: np.full(len(ids), np.nan) for name in ("query_clicks", "query_ctr", "ctr")}
    if not behaviour.by_product:
        return columns
    of_query = behaviour.of_query(text)
    for place, product_id in enumerate(ids):
        everywhere = behaviour.by_product.get(product_id)
        if everywhere is None:
            continue
        rate = smoothed(everywhere, behaviour.rate)
        here = of_query.get(product_id, Counts(0.0, 0.0))
        columns["ctr"][place] = rate
        columns["query_clicks"][place] = here.clicks
        columns["query_ctr"][place] = smoothed(here, rate)
    return columns


def _of_query(query: _Query, text: str, size: int) -> Columns:
    rarity = query.rarity if len(query.rarity) else np.array([np.nan])
    values = {
        "query_terms": float(len(query.hashes)),
        "query_letters": float(len(text)),
        "query_numbers": float(np.count_nonzero(query.numeric)),
        "query_measures": float(len(query.measures)),
        "query_rarity_mean": float(rarity.mean()),
        "query_rarity_max": float(rarity.max()),
    }
    return {name: np.full(size, value) for name, value in values.items()}
