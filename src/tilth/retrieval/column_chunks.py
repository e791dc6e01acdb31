"""From products to typed columns, chunk by chunk, so that many processes can share the work.

Text is coded: a field holds its distinct values once, and a number into them for every row. An attribute is
coded and sparse: it holds only the rows that have it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa

from tilth.catalog import Product
from tilth.retrieval.vectors import Hashes, text_hashes

Mask = npt.NDArray[np.bool_]  # (N,), one a row
Codes = npt.NDArray[np.int32]  # places in a field's distinct values, -1 for none

TEXT_OF: Mapping[str, Callable[[Product], str]] = {
    "brand": attrgetter("brand"),
    "product_type": attrgetter("product_type"),
    "availability": attrgetter("availability"),
    "currency": lambda product: product.price.currency if product.price else "",
    "item_group_id": attrgetter("item_group_id"),
    "gtin": attrgetter("gtin"),
    "mpn": attrgetter("mpn"),
}
NUMBER_OF: Mapping[str, Callable[[Product], float | None]] = {
    "price": lambda product: product.price.amount if product.price else None,
    "sale_price": lambda product: product.sale_price.amount if product.sale_price else None,
    "rating": attrgetter("rating"),
    "rating_count": attrgetter("rating_count"),
    "popularity": attrgetter("popularity"),
    "clicks": attrgetter("clicks"),
}
TEXT_FIELDS = tuple(TEXT_OF)
NUMBER_FIELDS = tuple(NUMBER_OF)
PRESENCE_FIELDS = ("title", "description", "link", "image_link")
LONGEST_VALUE = 200  # characters; of a longer attribute only its presence is known
TEXT, NUMBER, BOOLEAN = range(3)  # what an attribute's value is in JSON

_FEWEST_TO_MERGE = 1_000_000  # distinct values that may wait to be merged
STRING = pa.large_string()  # 64-bit offsets: no bound on the sum of lengths


@dataclass(frozen=True, slots=True)
class ColumnChunk:
    """The columns of some products; distinct values are numbered inside the chunk."""

    product_ids: pa.LargeStringArray
    hashes: Hashes
    texts: Mapping[str, pa.DictionaryArray]
    numbers: Mapping[str, npt.NDArray[np.float64]]
    presence: Mapping[str, Mask]
    attribute_counts: npt.NDArray[np.int32]  # (n,) attributes of each product
    attributes: pa.DictionaryArray  # of the JSON texts `[name, value]`, one product's after the other's


def column_chunk(products: Sequence[Product]) -> ColumnChunk:
    """Return the columns of some products; it can be pickled, so that other processes can make it.

    Args:
        products: in row order; a few thousand at a time are quickest.

    Returns:
        What `ColumnsWriter.add` takes.
    """
    ids = [product.id for product in products]
    items = (item for product in products for item in product.attributes.items())
    return ColumnChunk(
        pa.array(ids, STRING),
        text_hashes(ids),
        {name: _coded([get(product) for product in products]) for name, get in TEXT_OF.items()},
        {name: np.array([get(p) for p in products], np.float64) for name, get in NUMBER_OF.items()},
        {name: np.array([bool(getattr(p, name)) for p in products], bool) for name in PRESENCE_FIELDS},
        np.array([len(product.attributes) for product in products], np.int32),
        _coded([_pair(name, value) for name, value in items]),
    )


def _coded(texts: Sequence[str | bytes]) -> pa.DictionaryArray:
    return pa.array([text or None for text in texts], STRING).dictionary_encode()


def _pair(name: str, value: object) -> bytes:
    if not isinstance(value, str):
        value = _canonical(value)
    elif len(value) > LONGEST_VALUE:
        value = None
    return orjson.dumps((name, value))


def _canonical(value: object) -> bool | float | None:
    """Return a number as a float, so that 1 and 1.0 are one value; None where it has no finite one."""
    if isinstance(value, bool):
        return value
    try:
        return float(value) + 0.0  # type: ignore[arg-type]
    except OverflowError:
        return None


class _Merged:
    """Coded chunks, one after the other, whose distinct values are merged before too many wait."""

    def __init__(self) -> None:
        self._parts, self._waiting, self._known = [_coded([])], 0, 0

    def add(self, part: pa.DictionaryArray) -> None:
        self._parts.append(part)
        self._waiting += len(part.dictionary)
        if self._waiting > max(_FEWEST_TO_MERGE, 2 * self._known):
            self.whole()

    def whole(self) -> tuple[Codes, pa.LargeStringArray]:
        """Return the code of every entry, and the distinct values in the order of appearance."""
        merged = pa.concat_arrays(self._parts)
        self._parts, self._waiting, self._known = [merged], 0, len(merged.dictionary)
        return np.array(merged.indices.fill_null(-1)), merged.dictionary  # a copy, that can be changed


@dataclass(frozen=True, slots=True)
class Tables:
    """All columns by file name: arrays (.npy) and texts (.arrow)."""

    arrays: dict[str, npt.NDArray[np.generic]]
    texts: dict[str, pa.LargeStringArray]


class Merger:
    """Collects chunks and makes one set of columns of them."""

    def __init__(self) -> None:
        self._chunks = [column_chunk([])]
        self._texts = {name: _Merged() for name in TEXT_FIELDS}
        self._pairs = _Merged()

    def add(self, chunk: ColumnChunk) -> None:
        """Add products behind those that were added before."""
        for name, merged in self._texts.items():
            merged.add(chunk.texts[name])
        self._pairs.add(chunk.attributes)
        empty = self._chunks[0]  # the codes are kept above
        self._chunks.append(replace(chunk, texts=empty.texts, attributes=empty.attributes))

    def tables(self) -> Tables:
        """Return the columns of all products; the merger is empty afterwards."""
        tables = Tables({}, {})
        self._put_rows(tables)
        for name in TEXT_FIELDS:
            tables.arrays[name], tables.texts[name] = self._texts.pop(name).whole()
        _put_attributes(tables, self._pairs, [chunk.attribute_counts for chunk in self._chunks])
        return tables

    def _put_rows(self, tables: Tables) -> None:
        hashes = np.concatenate([chunk.hashes for chunk in self._chunks])
        order = np.argsort(hashes, kind="stable")
        tables.texts["product_id"] = pa.concat_arrays([chunk.product_ids for chunk in self._chunks])
        tables.arrays["id_hashes"], tables.arrays["id_rows"] = hashes[order], order.astype(np.int32)
        for name in NUMBER_FIELDS:
            tables.arrays[name] = np.concatenate([chunk.numbers[name] for chunk in self._chunks])
        for name in PRESENCE_FIELDS:
            tables.arrays[name] = np.concatenate([chunk.presence[name] for chunk in self._chunks])


def _put_attributes(tables: Tables, merged: _Merged, counts: Sequence[npt.NDArray[np.int32]]) -> None:
    """Turn the attributes of each product into the products of each attribute."""
    pairs, keys = merged.whole()
    names, values, types = _decoded(keys)
    distinct, attribute = np.unique(np.array(names, object), return_inverse=True)
    attribute = attribute.astype(np.int16 if len(distinct) < 2**15 else np.int32)  # 16 bits sort by radix
    filterable = np.flatnonzero(types >= 0)
    filterable = filterable[np.argsort(attribute[filterable], kind="stable")]
    value_starts = _starts(attribute[filterable], len(distinct))
    codes = np.full(len(keys), -1, np.int32)
    codes[filterable] = np.arange(len(filterable)) - value_starts[attribute[filterable]]
    entry = attribute[pairs]
    order = np.argsort(entry, kind="stable")
    each = np.concatenate(counts)
    tables.arrays["attribute_starts"] = _starts(entry, len(distinct))
    tables.arrays["attribute_rows"] = np.repeat(np.arange(len(each), dtype=np.int32), each)[order]
    tables.arrays["attribute_codes"] = codes[pairs[order]]
    tables.arrays["attribute_value_starts"] = value_starts
    tables.arrays["attribute_value_types"] = types[filterable].astype(np.uint8)
    tables.texts["attribute_names"] = pa.array(distinct, STRING)
    tables.texts["attribute_values"] = pa.array(values, STRING).take(pa.array(filterable))


def _decoded(keys: pa.LargeStringArray) -> tuple[list[str], list[str | None], npt.NDArray[np.int8]]:
    """Return the name, the value as text, and the value's type (-1: not filterable) of each pair."""
    names: list[str] = []
    values: list[str | None] = []
    types = np.full(len(keys), -1, np.int8)
    for place, key in enumerate(keys):
        name, value = orjson.loads(key.as_py())
        names.append(name)
        values.append(None if value is None else value_text(value))
        if value is not None:
            types[place] = value_type(value)
    return names, values, types


def _starts(groups: npt.NDArray[np.signedinteger], count: int) -> npt.NDArray[np.int64]:
    """Return where each group begins once entries are sorted by group, and the end: (count + 1,)."""
    return np.concatenate(([0], np.cumsum(np.bincount(groups, minlength=count)))).astype(np.int64)


def value_type(value: object) -> int:
    """Return TEXT, NUMBER or BOOLEAN."""
    return TEXT if isinstance(value, str) else BOOLEAN if isinstance(value, bool) else NUMBER


def value_text(value: str | float) -> str:
    """Return the text under which a value is held: itself, `true`, or `60.0`."""
    return value if isinstance(value, str) else orjson.dumps(value).decode()
