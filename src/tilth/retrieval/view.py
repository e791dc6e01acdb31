"""What one search sees: a generation and the products after it, as they were at one sequence number.

Rows of the generation come first, then those of later products. A view never changes, but for prices and
the like, which are put in place; whoever holds one may finish with it whatever happens meanwhile.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import orjson

from tilth.catalog import Product
from tilth.protocols import Allowed, Retriever, Rows, Vectors
from tilth.retrieval.columns import Columns
from tilth.retrieval.dense import DenseIndex, ExactVectors, RowPassages
from tilth.retrieval.facets import facet_counts, json_schema, schema
from tilth.retrieval.filters import Filters, allowed_in
from tilth.retrieval.index import Index
from tilth.retrieval.legs import DenseRetriever
from tilth.retrieval.lexical import LexicalIndex, LexicalRetriever
from tilth.retrieval.rows import RowHits, best_per_row
from tilth.retrieval.spelling import Speller
from tilth.retrieval.term_rows import TermRows, Terms

LEXICAL = "lexical"  # the list that every index has, and that no deadline leaves out
_MASKS_KEPT = 8  # of the latest filters, a byte a product each


class Segment(NamedTuple):
    """Consecutive rows, their columns and their terms."""

    first: int
    columns: Columns
    terms: TermRows

    @classmethod
    def of(cls, first: int, products: Sequence[Product]) -> Self:
        """Return a segment of products, in memory; `first` is the row of the first."""
        return cls(first, Columns.of(products), TermRows.of(products))


@dataclass(frozen=True, slots=True)
class LiveDense:
    """Dense search over a generation and the products after it; `alive` leaves out what is no more."""

    base: DenseIndex
    added: ExactVectors | None = None
    alive: Allowed | None = None

    def search_rows(self, vector: Vectors, k: int, allowed: Allowed | None = None) -> RowHits:
        """Return the best `k` rows and those that tie with the last, best first.

        Args:
            vector: (D,) of the query.
            k: how many; 0 gives none.
            allowed: a mask of all rows that may be returned; None allows all that are alive.

        Returns:
            Rows and cosines (-1 to 1).
        """
        allowed = self.alive if allowed is None else allowed
        base = self.base.search_rows(vector, k, allowed)
        if self.added is None:
            return base
        added = self.added.search_rows(vector, k, allowed)
        return best_per_row(
            np.concatenate([base.rows, added.rows]), np.concatenate([base.scores, added.scores])
        )

    def passages_of(self, rows: Rows) -> RowPassages:
        """Return the passages of rows, each row's head first.

        Args:
            rows: (M,), in any order.

        Returns:
            Their codes and places.
        """
        base = self.base.passages_of(rows)
        if self.added is None:
            return base
        added = self.added.passages_of(rows)
        places = np.concatenate([base.places, added.places])
        order = np.argsort(places, kind="stable")
        return RowPassages(np.concatenate([base.codes, added.codes])[order], places[order])


@dataclass(frozen=True, slots=True)
class View:
    """An immutable state of a live index; safe to share between threads."""

    index: Index
    lexical: LexicalIndex
    legs: Mapping[str, LiveDense]  # by name, in the order of `LEGS`
    speller: Speller
    segments: tuple[Segment, ...]
    alive: Allowed | None  # None: every row is
    sequence: int  # of the last change of the store that it holds
    _masks: "OrderedDict[bytes, Allowed]" = field(default_factory=OrderedDict)

    def __len__(self) -> int:
        """Return the number of products."""
        return self.rows if self.alive is None else int(np.count_nonzero(self.alive))

    @property
    def lists(self) -> tuple[str, ...]:
        """The names of the ranked lists that are fused, in the order of the fusion's weights."""
        return (LEXICAL, *self.legs)

    @property
    def rows(self) -> int:
        """The number of rows, those of products that are no more included."""
        last = self.segments[-1]
        return last.first + len(last.columns)

    def allowed(self, filters: Filters | None) -> Allowed | None:
        """Return which rows satisfy conditions and are alive; None if there are no conditions.

        Args:
            filters: see `tilth.retrieval.filters`.

        Returns:
            A mask of all rows.

        Raises:
            InputError: an unknown field, a value of the wrong type, or a condition that nothing can satisfy.
        """
        if not filters:
            return None
        key = orjson.dumps(filters, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS)
        mask = self._masks.get(key)
        if mask is None:
            mask = self._masks[key] = self._mask(filters)
            while len(self._masks) > _MASKS_KEPT:
                self._masks.popitem(last=False)
        return mask

    def _mask(self, filters: Filters) -> Allowed:
        parts = allowed_in(self._columns(), filters)
        mask = np.concatenate(parts) if parts else np.ones(self.rows, bool)
        return mask if self.alive is None else mask & self.alive

    def _columns(self) -> list[Columns]:
        return [segment.columns for segment in self.segments]

    def _split(self, mask: Allowed | None) -> list[Allowed | None]:
        """Divide a mask of all rows by segment."""
        if mask is None:
            return [None] * len(self.segments)
        return [mask[first : first + len(columns)] for first, columns, _ in self.segments]

    def ids(self, rows: Rows) -> Sequence[str]:
        """Return the product id of each row."""
        return self._texts(rows, lambda columns, local: columns.ids(local))

    def groups(self, rows: Rows) -> Sequence[str]:
        """Return the `item_group_id` of each row, empty where there is none."""
        return self._texts(rows, lambda columns, local: columns.groups(local))

    def _texts(self, rows: Rows, texts: Callable[[Columns, Rows], Sequence[str]]) -> Sequence[str]:
        if len(self.segments) == 1:
            return texts(self.segments[0].columns, rows)
        found = np.empty(len(rows), object)
        for places, columns, local in self._parts(rows):
            found[places] = texts(columns, local)
        return found.tolist()

    def _parts(self, rows: Rows) -> Iterator[tuple[npt.NDArray[np.intp], Columns, Rows]]:
        """Yield, for each segment that has some of the rows, their places, its columns and its own rows."""
        for first, columns, _ in self.segments:
            places = np.flatnonzero((rows >= first) & (rows < first + len(columns)))
            if len(places):
                yield places, columns, rows[places] - first

    def values(self, name: str, rows: Rows) -> Sequence[str]:
        """Return a text field of each row, such as its brand, empty where there is none."""
        return self._texts(rows, lambda columns, local: columns.values(name, local))

    def numbers(self, name: str, rows: Rows) -> npt.NDArray[np.float64]:
        """Return a numeric field of each row, such as its price, NaN where there is none."""
        found = np.empty(len(rows))
        for places, columns, local in self._parts(rows):
            found[places] = columns.numbers[name][local]
        return found

    def terms(self, rows: Rows) -> Terms:
        """Return the terms of rows, those of one row side by side, in no order of the rows.

        Args:
            rows: (M,), in any order.

        Returns:
            Their terms; `places` are among `rows`.
        """
        parts = []
        for first, columns, terms in self.segments:
            places = np.flatnonzero((rows >= first) & (rows < first + len(columns)))
            found = terms.of_rows(rows[places] - first)
            parts.append(found._replace(places=places[found.places]))
        return parts[0] if len(parts) == 1 else Terms(*map(np.concatenate, zip(*parts, strict=True)))

    def facet(
        self, name: str, allowed: Allowed | None, retrieved: Rows
    ) -> tuple[dict[str, object], dict[str, object]]:
        """Count a field's values among the allowed rows, and among the retrieved ones.

        Args:
            name: a field or attribute.
            allowed: a mask of all rows; None allows all that are alive.
            retrieved: rows, ascending.

        Returns:
            Two times a value's count by value, the most frequent first; for numbers, count, min and max.

        Raises:
            InputError: no product has such a field.
        """
        mask = np.zeros(self.rows, bool)
        mask[retrieved] = True
        allowed = self.alive if allowed is None else allowed
        counts = [facet_counts(self._columns(), self._split(chosen), name) for chosen in (allowed, mask)]
        return counts[0], counts[1]

    def fields(self) -> dict[str, dict[str, Any]]:
        """Return what can be filtered by: each field's type, unit, products, values and range.

        Reads every column, which takes seconds at millions of products: once a session, not once a query.
        """
        return schema(self._columns(), self._split(self.alive))

    def filter_schema(self) -> dict[str, Any]:
        """Return the JSON Schema of the filters that this catalogue knows."""
        return json_schema(self.fields())

    def retrievers(self) -> dict[str, Retriever]:
        """Return the single retrievers by name, one a list; they share how they read a query, once."""
        read = cache(self.speller.read)
        dense = {
            name: DenseRetriever(name, self.index.legs[name], leg, self.ids, read)
            for name, leg in self.legs.items()
        }
        lexical = LexicalRetriever(self.lexical, self.ids, lambda text: read(text).corrected)
        return {LEXICAL: lexical, **dense}
