"""BM25 over the fields of a product, in tantivy.

Each query term scores a product by its best field (a disjunction maximum with a small share of the other
fields), and the terms add up. The field `text` holds everything a product says in prose, its title twice,
so that a term's weight is that of the term in the product; the narrow fields then lift products that carry
the term where it matters. Summing the fields instead counts one word up to six times, at six unrelated
document frequencies: on real queries that costs 5 to 9 points of nDCG@10 (docs/log.md).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
import tantivy

from tilth.catalog import Product
from tilth.errors import SettingError
from tilth.protocols import Rows
from tilth.query import Query
from tilth.retrieval.analyzer import analyze, build_analyzer, compact, expand, stem
from tilth.retrieval.rows import NO_HITS, ProductIds, RowHits, fetch_with_ties, named
from tilth.run import Hit, Run

FIELDS = ("identifiers", "title", "brand", "type", "attributes", "text")
MOST_TERMS = 128  # distinct terms of a query that are looked up; more is a pasted page, not a query
_MOST_IDENTIFIED = 100  # products that one identifier may name
_ROW = "row"
_EXACT = "exact"  # whole identifiers, which are looked up and not scored
_ANALYZER_NAME = "tilth"
_FEW_ALLOWED = 10_000  # rows; fewer are handed to tantivy as a set, more are found by reading on
_NEGATIVE = frozenset({"", "false", "no", "n", "none", "n/a", "not available", "not supported", "нет", "-"})


def _default_boosts() -> dict[str, float]:
    return {"identifiers": 0.5, "title": 0.5, "brand": 0.5, "type": 0.5, "attributes": 0.5, "text": 1.0}


@dataclass(frozen=True, slots=True)
class LexicalSettings:
    """Boost of each field, from 0 (not searched), and the share (0 to 1) of fields other than the best."""

    boosts: Mapping[str, float] = field(default_factory=_default_boosts)
    tie: float = 0.1

    def __post_init__(self) -> None:
        for name, boost in self.boosts.items():
            if name not in FIELDS:
                raise SettingError(f"no lexical field {name!r}; there are {', '.join(FIELDS)}")
            if not 0 <= boost < float("inf"):
                raise SettingError(f"the boost of {name!r} is {boost}; it must be a number from 0")
        if not 0 <= self.tie <= 1:
            raise SettingError(f"tie is {self.tie}; it must lie between 0 and 1")

    def to_json(self) -> dict[str, object]:
        """Return the settings as plain data, for the manifest."""
        return asdict(self)


def is_negative(value: object) -> bool:
    """Tell whether an attribute's value says that the product lacks it: `bluetooth: no`."""
    return value is False or str(value).strip().lower() in _NEGATIVE


def field_terms(product: Product) -> dict[str, str]:
    """Return the expanded text of each field; an attribute that says 'no' is left out, with its name."""
    attributes = (
        name if value is True else f"{name} {value}"
        for name, value in product.attributes.items()
        if not is_negative(value)
    )
    identifiers = _identifiers(product)
    title, brand, kind = expand(product.title), expand(product.brand), expand(product.product_type)
    return {
        "identifiers": expand(" ".join([*identifiers, *map(compact, identifiers)])),
        "title": title,
        "brand": brand,
        "type": kind,
        "attributes": expand(" ; ".join(attributes).replace("_", " ")),
        "text": f"{title} {title} {brand} {kind} {expand(product.description)}",
    }


def _identifiers(product: Product) -> list[str]:
    return [known for known in (product.id, product.mpn, product.gtin) if known]


def _schema() -> tantivy.Schema:
    builder = tantivy.SchemaBuilder()
    builder.add_unsigned_field(_ROW, indexed=True, fast=True)
    builder.add_text_field(_EXACT, tokenizer_name="raw", index_option="basic")
    for name in FIELDS:
        builder.add_text_field(name, tokenizer_name=_ANALYZER_NAME, index_option="freq")
    return builder.build()


class LexicalWriter:
    """Writes products, in row order, into a new lexical index, which is whole when its block ends well."""

    def __init__(self, folder: Path, *, memory: int = 256_000_000, threads: int = 1) -> None:
        folder.mkdir(parents=True)
        index = tantivy.Index(_schema(), path=str(folder))
        index.register_tokenizer(_ANALYZER_NAME, build_analyzer())
        self._writer = index.writer(memory, threads)

    def add(self, row: int, product: Product) -> None:
        """Add one product."""
        document = tantivy.Document()
        document.add_unsigned(_ROW, row)
        for identifier in filter(None, map(compact, _identifiers(product))):
            document.add_text(_EXACT, identifier)
        for name, terms in field_terms(product).items():
            if terms:
                document.add_text(name, terms)
        self._writer.add_document(document)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        """Commit, or after an error drop everything; wait until no thread writes into the folder any more."""
        if error is None:
            self._writer.commit()
        else:
            self._writer.rollback()
        self._writer.wait_merging_threads()


class LexicalIndex:
    """An opened lexical index; safe to share between threads."""

    def __init__(self, folder: Path, settings: LexicalSettings | None = None) -> None:
        index = tantivy.Index.open(str(folder))
        index.register_tokenizer(_ANALYZER_NAME, build_analyzer())
        self.settings = settings or LexicalSettings()
        self._fields = [(name, boost) for name, boost in self.settings.boosts.items() if boost > 0]
        self._schema = index.schema
        self._searcher = index.searcher()

    def __len__(self) -> int:
        return self._searcher.num_docs

    def knows(self, word: str) -> bool:
        """Tell whether some product has every term of a word in a searched field."""
        return all(
            any(self._searcher.doc_freq(name, term) for name, _ in self._fields) for term in analyze(word)
        )

    def identified_rows(self, text: str) -> Rows:
        """Return the rows of the products whose id, mpn or gtin is the whole query, however it is spelt."""
        identifier = compact(text)
        if not identifier or not len(self):
            return NO_HITS.rows
        query = tantivy.Query.term_query(self._schema, _EXACT, identifier, "basic")
        return self._fetch(query, _MOST_IDENTIFIED).rows

    def search_rows(self, text: str, k: int, allowed: Rows | None = None) -> RowHits:
        """Return the rows with the best scores, `k` and those that tie with the last, best first.

        Args:
            text: what the user typed; any characters.
            k: how many; 0 gives none.
            allowed: the only rows that may be returned, ascending; None allows all.

        Returns:
            Rows and BM25 scores; every score is above 0.
        """
        query = self._query(query_terms(text))
        if query is None or k <= 0 or (allowed is not None and not len(allowed)):
            return NO_HITS
        if allowed is None:
            return fetch_with_ties(lambda n: self._fetch(query, n), k)
        if len(allowed) <= _FEW_ALLOWED:
            only = self._only(query, allowed)
            return fetch_with_ties(lambda n: self._fetch(only, n), k)
        return fetch_with_ties(lambda n: self._fetch_allowed(query, n, allowed), k)

    def _query(self, terms: Sequence[str]) -> tantivy.Query | None:
        if not terms or not self._fields or not len(self):
            return None
        return tantivy.Query.boolean_query([(tantivy.Occur.Should, self._term(term)) for term in terms])

    def _term(self, term: str) -> tantivy.Query:
        build = tantivy.Query
        fields = [
            build.boost_query(build.term_query(self._schema, name, term, "freq"), float(boost))
            for name, boost in self._fields
        ]
        return build.disjunction_max_query(fields, float(self.settings.tie))

    def _only(self, query: tantivy.Query, allowed: Rows) -> tantivy.Query:
        rows = tantivy.Query.term_set_query(self._schema, _ROW, allowed.tolist())
        must = tantivy.Occur.Must
        return tantivy.Query.boolean_query(
            [(must, query), (must, tantivy.Query.const_score_query(rows, 0.0))]
        )

    def _fetch(self, query: tantivy.Query, n: int) -> RowHits:
        hits = self._searcher.search(query, min(n, len(self)), count=False).hits
        rows = self._searcher.fast_field_values(_ROW, [address for _, address in hits])
        return RowHits(np.array(rows, np.int64), np.array([score for score, _ in hits], np.float32))

    def _fetch_allowed(self, query: tantivy.Query, n: int, allowed: Rows) -> RowHits:
        """Read on in the ranking until `n` allowed rows are found or it ends: exact, whatever is allowed."""
        depth = n
        while True:
            depth = min(4 * depth, len(self))
            rows, scores = self._fetch(query, depth)
            keep = np.isin(rows, allowed, assume_unique=True)
            if keep.sum() >= n or len(rows) < depth or depth == len(self):
                return RowHits(rows[keep][:n], scores[keep][:n])


def query_terms(text: str) -> list[str]:
    """Return the distinct terms of a query, at most `MOST_TERMS`, and last itself as an identifier."""
    terms = list(dict.fromkeys(analyze(text)))[:MOST_TERMS]
    return list(dict.fromkeys([*terms, *analyze(compact(text))[:1]]))


def matched_terms(text: str, product: Product) -> dict[str, list[str]]:
    """Return, for each query term that a product holds, the fields that hold it."""
    holds = {name: set(stem(terms)) for name, terms in field_terms(product).items()}
    found = {term: [name for name in FIELDS if term in holds[name]] for term in query_terms(text)}
    return {term: fields for term, fields in found.items() if fields}


class LexicalRetriever:
    """The lexical index as a `Retriever`."""

    def __init__(self, index: LexicalIndex, ids: ProductIds, correct: Callable[[str], str]) -> None:
        """Wrap an index.

        Args:
            index: answers in rows.
            ids: names of rows.
            correct: replaces words that no product has.
        """
        self._index, self._ids, self._correct = index, ids, correct

    def search(self, queries: Iterable[Query], k: int) -> Run:
        """Return at most `k` hits a query, scored by BM25."""
        return Run("lexical", {q.query_id: self._hits(q.text, k) for q in queries})

    def _hits(self, text: str, k: int) -> tuple[Hit, ...]:
        return named(self._index.search_rows(self._correct(text), k), self._ids, k)
