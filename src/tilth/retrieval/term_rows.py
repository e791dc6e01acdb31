"""The terms of every product, field by field and in the order of the text: what a reranker compares.

An inverted index says which products have a term; a reranker asks the reverse for a few hundred products, a
thousand times a second. So each row keeps its terms as 32-bit hashes, one field after the other, the longest
fields cut. Memory-mapped when opened from a folder: only the rows that are asked for are read.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt
import xxhash

from tilth.catalog import Product
from tilth.errors import IndexFormatError
from tilth.protocols import Rows
from tilth.retrieval.analyzer import index_terms
from tilth.retrieval.lexical import attribute_terms

TermHashes = npt.NDArray[np.uint32]
Lengths = npt.NDArray[np.uint16]  # (N, 5): how many terms each field of each row keeps

TERM_FIELDS = ("title", "brand", "type", "attributes", "description")
MOST_KEPT = (64, 16, 32, 256, 256)  # terms of each field; what a product says first matters most
_TERMS, _LENGTHS, _STARTS = "terms.u32", "lengths.npy", "starts.npy"


class TermChunk(NamedTuple):
    """The terms of some products, one after the other."""

    terms: TermHashes  # (T,)
    lengths: Lengths  # (n, 5)


@lru_cache(262_144)
def term_hash(term: str) -> int:
    """Return the 32 bits by which a term of the index is known here (XXH32)."""
    return xxhash.xxh32_intdigest(term.encode())


def term_chunk(products: Sequence[Product]) -> TermChunk:
    """Return the terms of products, in their order.

    Args:
        products: any number.

    Returns:
        The terms of every field, cut to `MOST_KEPT`.
    """
    terms: list[int] = []
    lengths = np.zeros((len(products), len(TERM_FIELDS)), np.uint16)
    for row, product in enumerate(products):
        for place, text in enumerate(_field_texts(product)):
            kept = text.split(maxsplit=MOST_KEPT[place])[: MOST_KEPT[place]]
            terms += map(term_hash, kept)
            lengths[row, place] = len(kept)
    return TermChunk(np.array(terms, np.uint32), lengths)


def _field_texts(product: Product) -> tuple[str, ...]:
    """Return the terms of each of `TERM_FIELDS`, separated by blanks."""
    return (
        index_terms(product.title),
        index_terms(product.brand),
        index_terms(product.product_type),
        attribute_terms(product),
        index_terms(product.description),
    )


class TermRowsWriter:
    """Writes the terms of a new folder, which are whole when its block ends without an error."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._folder, self._lengths = folder, [np.zeros((0, len(TERM_FIELDS)), np.uint16)]
        self._file = (folder / _TERMS).open("wb")

    def add(self, chunk: TermChunk) -> None:
        """Add products behind those that were added before."""
        self._file.write(chunk.terms.astype("<u4").tobytes())
        self._lengths.append(chunk.lengths)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Write where the terms of each row are; nothing after an error."""
        self._file.close()
        if kind is None:
            lengths = np.concatenate(self._lengths)
            np.save(self._folder / _LENGTHS, lengths, allow_pickle=False)
            np.save(self._folder / _STARTS, _starts(lengths), allow_pickle=False)


def _starts(lengths: Lengths) -> npt.NDArray[np.int64]:
    """Return (N + 1,) where the terms of each row begin."""
    starts = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths.sum(axis=1, dtype=np.int64), out=starts[1:])
    return starts


def _check_whole(terms: TermHashes, lengths: Lengths, starts: npt.NDArray[np.int64]) -> None:
    fit = lengths.shape[1:] == (len(TERM_FIELDS),) and starts.shape == (len(lengths) + 1,)
    if not fit or int(starts[-1]) != len(terms):
        raise ValueError("the files do not fit together")


class Terms(NamedTuple):
    """The terms of some rows, one after the other: three arrays of one length, (T,)."""

    terms: TermHashes
    places: npt.NDArray[np.intp]  # the place of the term's row among the rows that were asked for
    fields: npt.NDArray[np.intp]  # the place of its field in `TERM_FIELDS`


class TermRows:
    """The terms of N rows."""

    def __init__(self, terms: TermHashes, lengths: Lengths, starts: npt.NDArray[np.int64]) -> None:
        self._terms, self._lengths, self._starts = terms, lengths, starts

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Map a folder that `TermRowsWriter` wrote.

        Args:
            folder: the folder.

        Returns:
            The terms.

        Raises:
            IndexFormatError: the files are damaged.
        """
        try:
            lengths = np.asarray(np.load(folder / _LENGTHS, mmap_mode="r", allow_pickle=False))
            starts = np.asarray(np.load(folder / _STARTS, mmap_mode="r", allow_pickle=False))
            file = folder / _TERMS
            empty = not file.stat().st_size  # an empty file cannot be mapped
            terms = np.zeros(0, np.uint32) if empty else np.asarray(np.memmap(file, "<u4", "r"))
            _check_whole(terms, lengths, starts)
        except (OSError, EOFError, ValueError) as error:
            raise IndexFormatError(
                f"{folder}: its terms are damaged ({error}). Build the index again"
            ) from error
        return cls(terms, lengths, starts)

    @classmethod
    def of(cls, products: Sequence[Product]) -> Self:
        """Return the terms of products, in memory."""
        chunk = term_chunk(products)
        return cls(chunk.terms, chunk.lengths, _starts(chunk.lengths))

    def __len__(self) -> int:
        return len(self._lengths)

    def lengths(self, rows: Rows) -> Lengths:
        """Return how many terms each field of the rows keeps, (M, 5)."""
        return np.asarray(self._lengths[rows])

    def mean_lengths(self) -> npt.NDArray[np.float64]:
        """Return the mean length of each field over all rows, (5,); 0 where no row has it."""
        return self._lengths.mean(axis=0) if len(self._lengths) else np.zeros(len(TERM_FIELDS))

    def of_rows(self, rows: Rows) -> Terms:
        """Return the terms of rows.

        Args:
            rows: (M,), in any order.

        Returns:
            Their terms, in the order of the rows.
        """
        lengths = self._lengths[rows].astype(np.intp)
        counts = lengths.sum(axis=1)
        ends = np.cumsum(counts)
        where = np.repeat(self._starts[rows] - (ends - counts), counts) + np.arange(counts.sum())
        fields = np.repeat(np.tile(np.arange(len(TERM_FIELDS)), len(rows)), lengths.ravel())
        return Terms(np.asarray(self._terms[where]), np.repeat(np.arange(len(rows)), counts), fields)
