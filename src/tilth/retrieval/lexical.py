"""BM25 over the terms of a product, in tantivy.

A product is one text: its title counts six times, brand, type and description four times, attributes and
identifiers once. So a term has one document frequency, whatever field it stands in, and a query is a sum of
one score a term. Separate fields give one word up to six unrelated frequencies, and to sum them costs 5 to 9
points of nDCG@10 on real queries; their disjunction maximum is no better than this and four times as slow
(docs/log.md). Which products a query need not look at is decided in `pruning`.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import orjson
import tantivy

from tilth.catalog import Product
from tilth.errors import SettingError
from tilth.protocols import Allowed, Rows
from tilth.query import Query
from tilth.retrieval.analyzer import analyze, compact, index_terms
from tilth.retrieval.pruning import Term, best_hits, inverse_frequency
from tilth.retrieval.rows import NO_HITS, ProductIds, RowHits, named, read_on, through_ties
from tilth.run import Hit, Run

FIELDS = ("identifiers", "title", "brand", "type", "attributes", "text")
MOST_TERMS = 128  # distinct terms of a query that are looked up; more is a pasted page, not a query
_MOST_IDENTIFIED = 100  # products that one identifier may name
_ROW = "row"  # the number, to be read
_KEY = "key"  # the number, to be looked up: hexadecimal digits are found three times as fast as integers
_EXACT = "exact"  # whole identifiers, which are looked up and not scored
_EVERY = "*"  # stands among the identifiers of every product, and so counts the deleted ones too
_TEXT = "text"
_SET_COST = 3  # what looking up one allowed row costs, in hits read
_NEGATIVE = frozenset({"", "false", "no", "n", "none", "n/a", "not available", "not supported", "нет", "-"})

LexicalDocument = str  # JSON, as tantivy reads it


@dataclass(frozen=True, slots=True)
class LexicalSettings:
    """How often a title counts, and brand, type and description; attributes and identifiers count once."""

    title: int = 6
    prose: int = 4

    def __post_init__(self) -> None:
        for name, times in (("title", self.title), ("prose", self.prose)):
            if not 1 <= times <= 20:
                raise SettingError(f"the {name} is to count {times} times; it must be 1 to 20")

    def to_json(self) -> dict[str, object]:
        """Return the settings as plain data, for the manifest."""
        return asdict(self)


_DEFAULT = LexicalSettings()


def is_negative(value: object) -> bool:
    """Tell whether an attribute's value says that the product lacks it: `bluetooth: no`."""
    return value is False or str(value).strip().lower() in _NEGATIVE


def lexical_document(row: int, product: Product, settings: LexicalSettings = _DEFAULT) -> LexicalDocument:
    """Return what a lexical index holds of a product; made in any process, added by the one that writes.

    Args:
        row: the number of the product in the index.
        product: the product.
        settings: how often each part counts.

    Returns:
        For `LexicalWriter.add` and `LexicalUpdater.add`.
    """
    title = index_terms(product.title)
    prose = (index_terms(text) for text in (product.brand, product.product_type, product.description))
    identifiers = _identifiers(product)
    exact = [joined for joined in map(compact, identifiers) if joined]
    parts = [title] * settings.title + [" ".join(prose)] * settings.prose
    parts += dict.fromkeys(attribute_terms(product).split())  # a list of sizes is not about each of them
    parts += dict.fromkeys(chain(" ".join(map(index_terms, identifiers)).split(), exact))
    document = {_ROW: row, _KEY: _key(row), _EXACT: [_EVERY, *exact], _TEXT: " ".join(parts)}
    return orjson.dumps(document).decode()


def field_terms(product: Product) -> dict[str, set[str]]:
    """Return the terms of each field of `FIELDS`; an attribute that says 'no' is left out, with its name."""
    identifiers = _identifiers(product)
    title, brand, kind, description = (
        analyze(text) for text in (product.title, product.brand, product.product_type, product.description)
    )
    return {
        "identifiers": {*chain(*map(analyze, identifiers)), *filter(None, map(compact, identifiers))},
        "title": set(title),
        "brand": set(brand),
        "type": set(kind),
        "attributes": set(attribute_terms(product).split()),
        "text": {*title, *brand, *kind, *description},
    }


def attribute_terms(product: Product) -> str:
    """Return the terms of all attributes; one that says 'no' is left out, with its name."""
    return " ".join(
        _pair_terms(name if value is True else f"{name} {value}")
        for name, value in product.attributes.items()
        if not is_negative(value)
    )


@lru_cache(65_536)
def _pair_terms(pair: str) -> str:
    return index_terms(pair.replace("_", " "))


def _identifiers(product: Product) -> list[str]:
    return [known for known in (product.id, product.mpn, product.gtin) if known]


def _key(row: int) -> str:
    return f"{row:08x}"


def _schema() -> tantivy.Schema:
    builder = tantivy.SchemaBuilder()
    builder.add_unsigned_field(_ROW, fast=True)
    builder.add_text_field(_KEY, tokenizer_name="raw", index_option="basic")
    builder.add_text_field(_EXACT, tokenizer_name="raw", index_option="basic")
    builder.add_text_field(_TEXT, tokenizer_name="whitespace", index_option="freq")
    return builder.build()


class LexicalWriter:
    """Writes a new lexical index, which is whole when its block ends well."""

    def __init__(self, folder: Path, *, memory: int = 256_000_000, threads: int = 1) -> None:
        folder.mkdir(parents=True)
        self._writer = tantivy.Index(_schema(), path=str(folder)).writer(memory, threads)

    def add(self, document: LexicalDocument) -> None:
        """Add one product."""
        self._writer.add_json(document)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        """Commit, or after an error drop everything; wait until no thread writes into the folder any more."""
        if error is None:
            self._writer.commit()
        else:
            self._writer.rollback()
        self._writer.wait_merging_threads()


class LexicalUpdater:
    """Changes an existing lexical index, best a `clone` of it: one at a time, and none beside a writer."""

    def __init__(self, folder: Path, *, memory: int = 32_000_000, threads: int = 1) -> None:
        """Open a folder.

        Args:
            folder: of a lexical index.
            memory: bytes for changes that are not committed, from 15,000,000 a thread.
            threads: how many write.
        """
        self._writer = tantivy.Index.open(str(folder)).writer(memory, threads)

    def add(self, document: LexicalDocument) -> None:
        """Add one product, whose row the index does not hold."""
        self._writer.add_json(document)

    def delete(self, row: int) -> None:
        """Delete the product of a row, if the index holds one."""
        self._writer.delete_documents_by_term(_KEY, _key(row))

    def commit(self) -> None:
        """Make the changes so far durable, and visible to `LexicalIndex.refreshed`."""
        self._writer.commit()

    def close(self) -> None:
        """Drop what was not committed, and wait until no thread writes into the folder any more."""
        self._writer.rollback()
        self._writer.wait_merging_threads()


def clone(folder: Path, to: Path) -> None:
    """Make a lexical index that can be changed without changing the one that it starts from.

    Nothing is ever written into an existing file of a segment, so symbolic links are enough. What is left
    of a clone whose process was killed keeps no space.

    Args:
        folder: a lexical index that nobody writes, and that stays as long as the clone.
        to: a folder that does not exist.
    """
    to.mkdir(parents=True)
    for file in folder.iterdir():
        if file.suffix == ".json":
            shutil.copyfile(file, to / file.name)
        elif file.suffix != ".lock":
            (to / file.name).symlink_to(file.resolve())


class LexicalIndex:
    """An opened lexical index, as it was when opened or refreshed; safe to share between threads."""

    def __init__(self, folder: Path, settings: LexicalSettings | None = None) -> None:
        self.settings = settings or LexicalSettings()
        if not os.access(folder, os.W_OK):  # tantivy reads only where it can make a lock file
            self._links = tempfile.TemporaryDirectory(prefix="tilth-", ignore_cleanup_errors=True)
            clone(folder, folder := Path(self._links.name) / "lexical")
        self._index = tantivy.Index.open(str(folder))
        self._index.config_reader("manual")
        self._read()

    def _read(self) -> None:
        self._index.reload()
        self._schema = self._index.schema
        self._searcher = self._index.searcher()
        self._ever = self._searcher.doc_freq(_EXACT, _EVERY)

    def __len__(self) -> int:
        return self._searcher.num_docs

    def refreshed(self) -> "LexicalIndex":
        """Return the index with all that was committed since; this one stays as it is."""
        fresh = copy(self)
        fresh._read()
        return fresh

    def knows(self, word: str) -> bool:
        """Tell whether some product has every term of a word."""
        return all(self._searcher.doc_freq(_TEXT, term) for term in analyze(word))

    def rarity(self, terms: Sequence[str]) -> npt.NDArray[np.float64]:
        """Return the inverse document frequency of terms of the index, (T,): the rarer, the higher."""
        return np.array([inverse_frequency(self._searcher.doc_freq(_TEXT, t), self._ever) for t in terms])

    def identified_rows(self, text: str) -> Rows:
        """Return the rows of the products whose id, mpn or gtin is the whole query, however it is spelt."""
        identifier = compact(text)
        if not identifier or not len(self):
            return NO_HITS.rows
        query = tantivy.Query.term_query(self._schema, _EXACT, identifier, "basic")
        return self._fetch(query, _MOST_IDENTIFIED).rows

    def search_rows(self, text: str, k: int, allowed: Allowed | None = None) -> RowHits:
        """Return the rows with the best scores, `k` and those that tie with the last, best first.

        Args:
            text: what the user typed; any characters.
            k: how many; 0 gives none.
            allowed: for each row whether it may be returned; None allows all.

        Returns:
            Rows and BM25 scores; every score is above 0.
        """
        terms = self._terms(text)
        if not terms or k <= 0 or not len(self):
            return NO_HITS
        if allowed is None:
            return through_ties(lambda n: best_hits(self._fetch, terms, n), k)
        count = int(np.count_nonzero(allowed))
        if not count:
            return NO_HITS
        looking_up = _SET_COST * count  # as hits read; reading on takes k * len / count, if they lie evenly
        if looking_up * count > k * len(self):
            hits = read_on(lambda n: best_hits(self._fetch, terms, n), k, allowed, looking_up)
            if hits is not None:
                return hits
        query = _both(self._only(np.flatnonzero(allowed)), terms)
        return through_ties(lambda n: self._fetch(query, n), k)

    def _terms(self, text: str) -> list[Term]:
        """Return the terms of a query that some product has, the rarest first."""
        counted = [(self._searcher.doc_freq(_TEXT, term), term) for term in query_terms(text)]
        build = tantivy.Query.term_query
        return [
            Term(build(self._schema, _TEXT, term, "freq"), frequency, self._ever)
            for frequency, term in sorted(counted)
            if frequency
        ]

    def _only(self, rows: Rows) -> tantivy.Query:
        keys = tantivy.Query.term_set_query(self._schema, _KEY, list(map(_key, rows.tolist())))
        return tantivy.Query.const_score_query(keys, 0.0)

    def _fetch(self, query: tantivy.Query, n: int) -> RowHits:
        hits = self._searcher.search(query, min(n, len(self)), count=False).hits
        rows = self._searcher.fast_field_values(_ROW, [address for _, address in hits])
        return RowHits(np.array(rows, np.int64), np.array([score for score, _ in hits], np.float32))


def _both(only: tantivy.Query, terms: list[Term]) -> tantivy.Query:
    build, must, should = tantivy.Query.boolean_query, tantivy.Occur.Must, tantivy.Occur.Should
    return build([(must, only), (must, build([(should, term.query) for term in terms]))])


def query_terms(text: str) -> list[str]:
    """Return the distinct terms of a query, at most `MOST_TERMS`, and last itself as an identifier."""
    terms = list(dict.fromkeys(analyze(text)))[:MOST_TERMS]
    return list(dict.fromkeys([*terms, *analyze(compact(text))[:1]]))


def matched_terms(text: str, product: Product) -> dict[str, list[str]]:
    """Return, for each query term that a product holds, the fields that hold it."""
    holds = field_terms(product)
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
