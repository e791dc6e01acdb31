"""The best hits of a sum of BM25 scores, without scoring every product that has one of the terms.

MaxScore (Turtle and Flood, "Query evaluation: strategies and optimizations", 1995), made of whole queries,
since the binding has no block-max search. If the terms that many products have could together not lift a
product among the best, then only products with one of the rarer terms need be looked at. What the best are
is learnt from a first search, among the products with the rarest terms. Both searches are exact in what they
look at, and so is the outcome: not one score differs from that of the plain sum.
"""

from collections.abc import Callable, Sequence
from math import log

import tantivy

from tilth.retrieval.rows import RowHits

_ENOUGH = 4  # products to look at first, as a multiple of the hits wanted
_SEEK = 2  # what it costs to seek a product among those that have a term, in products read one by one
_MOST = 2.2 * 1.0001  # of the inverse document frequency, that a term can score: k1 + 1, and rounding


def inverse_frequency(frequency: int, products: int) -> float:
    """Return the inverse document frequency of a term as tantivy has it: above 0, the rarer the higher.

    Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009, plus 1 inside the
    logarithm.
    """
    return log(1 + (products - frequency + 0.5) / (frequency + 0.5))


class Term:
    """One term of a query: how it is searched, how many products have it, and the most it can score."""

    __slots__ = ("bound", "frequency", "query")

    def __init__(self, query: tantivy.Query, frequency: int, products: int) -> None:
        self.query, self.frequency = query, frequency
        self.bound = _MOST * inverse_frequency(frequency, products)


def best_hits(fetch: Callable[[tantivy.Query, int], RowHits], terms: Sequence[Term], n: int) -> RowHits:
    """Return the `n` best hits of the sum of terms.

    Args:
        fetch: runs a query and returns its best hits.
        terms: the rarest first, at least one.
        n: how many hits are wanted; from 1.

    Returns:
        The hits, fewer only if fewer products have a term. Every score above the last is of a product found;
        of those that tie with the last, which are found is not said.
    """
    first = _worthwhile(terms, _first(terms, n))
    hits = fetch(_query(terms, first), n)
    if first == len(terms):
        return hits
    needed = len(terms) if len(hits.rows) < n else essential(terms, float(hits.scores[-1]))
    return hits if needed <= first else fetch(_query(terms, _worthwhile(terms, needed)), n)


def essential(terms: Sequence[Term], least: float) -> int:
    """Return how many of the rarest terms must be looked at.

    A product that has none of them scores below `least`.

    Args:
        terms: the rarest first.
        least: a score.

    Returns:
        How many, from 1.
    """
    count, others = len(terms), 0.0
    while count > 1 and others + terms[count - 1].bound < least:
        count -= 1
        others += terms[count].bound
    return count


def _first(terms: Sequence[Term], n: int) -> int:
    """Return how many of the rarest terms give enough products for a first look."""
    seen = 0
    for count, term in enumerate(terms, start=1):
        seen += term.frequency
        if seen >= _ENOUGH * n:
            return count
    return len(terms)


def _worthwhile(terms: Sequence[Term], count: int) -> int:
    """Return `count`, or all where to seek the other terms would cost more than to read them."""
    looked_at = sum(term.frequency for term in terms[:count])
    others = terms[count:]
    seeks = _SEEK * looked_at * len(others)
    return count if seeks < sum(term.frequency for term in others) else len(terms)


def _query(terms: Sequence[Term], count: int) -> tantivy.Query:
    """Build a query for products with one of the first `count` terms, which scores all terms.

    The others are nested one by one: tantivy then seeks in each, where a union would be scored as a whole.
    """
    build, must, should = tantivy.Query.boolean_query, tantivy.Occur.Must, tantivy.Occur.Should
    query = build([(should, term.query) for term in terms[:count]])
    for term in terms[count:]:
        query = build([(must, query), (should, term.query)])
    return query
