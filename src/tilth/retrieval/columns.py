"""The columns of an index: what is needed to filter, count, group and name its rows.

Everything is typed arrays, memory-mapped when opened from a folder, so that five million products cost no
memory until they are asked about.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from tilth.catalog import Product
from tilth.errors import IndexFormatError
from tilth.protocols import Rows
from tilth.retrieval.column_chunks import (
    NUMBER_FIELDS,
    NUMBER_OF,
    PRESENCE_FIELDS,
    STRING,
    TEXT,
    TEXT_FIELDS,
    TEXT_OF,
    Codes,
    ColumnChunk,
    Mask,
    Merger,
    Tables,
    column_chunk,
)
from tilth.retrieval.kinds import Kind, Numbers, meaning
from tilth.retrieval.vectors import text_hashes

_CHANGING = ("availability", "currency")  # text that `update` changes
_WHOLE = "columns.json"  # written last


class ColumnsWriter:
    """Writes the columns of a new folder, which are whole when its block ends without an error."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._merger, self._rows = folder, Merger(), 0

    def add(self, chunk: ColumnChunk) -> None:
        """Add products behind those that were added before."""
        self._merger.add(chunk)
        self._rows += len(chunk.product_ids)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Write the files, the one that says that they are whole last; none after an error."""
        if kind is not None:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        tables = self._merger.tables()
        for name, array in tables.arrays.items():
            np.save(self._folder / f"{name}.npy", array, allow_pickle=False)
        for name, texts in tables.texts.items():
            batch = pa.record_batch([texts], [name])
            with pa.ipc.new_file(str(self._folder / f"{name}.arrow"), batch.schema) as file:
                file.write_batch(batch)
        facts = {"rows": self._rows, "arrays": list(tables.arrays), "texts": list(tables.texts)}
        (self._folder / _WHOLE).write_bytes(orjson.dumps(facts))


def _read(folder: Path) -> Tables:
    try:
        facts = orjson.loads((folder / _WHOLE).read_bytes())
        arrays = {name: _mapped_array(folder / f"{name}.npy") for name in facts["arrays"]}
        texts = {name: _mapped_texts(folder / f"{name}.arrow") for name in facts["texts"]}
    except (OSError, ValueError, pa.ArrowException) as error:  # orjson's errors are ValueErrors
        raise IndexFormatError(
            f"{folder}: its columns are damaged ({error}). Build the index again"
        ) from error
    return Tables(arrays, texts)


def _mapped_array(path: Path) -> npt.NDArray[np.generic]:
    """Map a file so that what is changed is changed in this process alone."""
    return np.asarray(np.load(path, mmap_mode="c", allow_pickle=False))


def _mapped_texts(path: Path) -> pa.LargeStringArray:
    return pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0).column(0)


# --- reading --------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Coded:
    """A field of V distinct values."""

    texts: pa.LargeStringArray  # (V,) `value_text` of the values
    types: npt.NDArray[np.uint8]  # (V,) TEXT, NUMBER or BOOLEAN
    codes: Codes  # (N,), or (n,) where `rows` are given
    rows: npt.NDArray[np.int32] | None = None  # (n,) those that have the field, ascending

    @cached_property
    def folded(self) -> pa.LargeStringArray:
        """The texts without case (`str.casefold`), (V,)."""
        lower = pc.ascii_lower(self.texts)
        other = pc.invert(pc.string_is_ascii(self.texts))
        if not pc.any(other).as_py():
            return self.texts if lower.equals(self.texts) else lower  # digits need no second copy
        texts = [text.casefold() for text in self.texts.filter(other).to_pylist()]
        return pc.replace_with_mask(lower, other, pa.array(texts, STRING))

    @cached_property
    def meaning(self) -> tuple[Kind, Numbers]:
        """What the values are, and the number of each, (V,)."""
        return meaning(self.texts, self.types)

    def mask(self, chosen: Mask, size: int) -> Mask:
        """Return which of `size` rows have one of the chosen values, (V,)."""
        places = np.flatnonzero(chosen)
        if len(places) == 1:
            found = self.codes == places[0]
        else:
            found = np.append(chosen, False).take(self.codes, mode="wrap")  # -1 is the last
        return self._spread(found, size)

    def present(self, size: int) -> Mask:
        """Return which of `size` rows have the field at all."""
        return self._spread(self.codes >= 0 if self.rows is None else np.ones(len(self.codes), bool), size)

    def _spread(self, found: Mask, size: int) -> Mask:
        if self.rows is None:
            return found
        mask = np.zeros(size, bool)
        mask[self.rows[found]] = True
        return mask

    def counts(self, selected: Mask | None) -> npt.NDArray[np.int64]:
        """Return how many of the selected rows have each value, (V,)."""
        codes = self.codes
        if selected is not None:
            codes = codes[selected if self.rows is None else selected[self.rows]]
        return np.bincount(codes + 1, minlength=len(self.texts) + 1)[1:]


class Columns:
    """The columns of N rows, one a product."""

    def __init__(self, source: Path | Tables) -> None:
        """Open a folder that `ColumnsWriter` wrote.

        Args:
            source: the folder.

        Raises:
            IndexFormatError: the folder holds no whole columns.
        """
        tables = source if isinstance(source, Tables) else _read(source)
        self._tables, self._ids = tables, tables.texts["product_id"]
        self.numbers: Mapping[str, npt.NDArray[np.float64]] = {f: tables.arrays[f] for f in NUMBER_FIELDS}  # type: ignore[misc]
        self.presence: Mapping[str, Mask] = {f: tables.arrays[f] for f in PRESENCE_FIELDS}  # type: ignore[misc]
        self.texts = {name: _text_field(tables.texts[name], tables.arrays[name]) for name in TEXT_FIELDS}
        names = tables.texts["attribute_names"].to_pylist()
        self._attributes: dict[str, int] = {name: place for place, name in enumerate(names)}
        self._opened: dict[str, Coded] = {}

    @classmethod
    def of(cls, products: Sequence[Product]) -> Self:
        """Return the columns of products, in memory."""
        merger = Merger()
        merger.add(column_chunk(products))
        return cls(merger.tables())

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def attribute_names(self) -> Sequence[str]:
        """The attributes that some product has, in alphabetical order."""
        return list(self._attributes)

    def attribute(self, name: str) -> Coded | None:
        """Return an attribute; None if no product has it."""
        if name not in self._opened and name in self._attributes:
            self._opened[name] = self._open_attribute(self._attributes[name])
        return self._opened.get(name)

    def _open_attribute(self, place: int) -> Coded:
        arrays = self._tables.arrays
        entries = slice(*arrays["attribute_starts"][place : place + 2].tolist())
        values = slice(*arrays["attribute_value_starts"][place : place + 2].tolist())
        texts = self._tables.texts["attribute_values"][values]
        types, codes, rows = (arrays[f"attribute_{name}"] for name in ("value_types", "codes", "rows"))
        return Coded(texts, types[values], codes[entries], rows[entries])  # type: ignore[arg-type]

    def ids(self, rows: Rows) -> list[str]:
        """Return the product id of each row."""
        names: list[str] = self._ids.take(pa.array(rows)).to_pylist()
        return names

    def row_of(self, product_ids: Sequence[str]) -> Rows:
        """Return the row of each product id, -1 where there is none."""
        hashes, found = text_hashes(product_ids), np.full(len(product_ids), -1, np.int64)
        known, rows = self._tables.arrays["id_hashes"], self._tables.arrays["id_rows"]
        open_, place = np.arange(len(product_ids)), np.searchsorted(known, hashes)
        wanted = pa.array(product_ids, STRING)
        while len(open_):  # one turn, but where two ids share a hash
            inside = place < len(known)
            open_, place = open_[inside], place[inside]
            same = known[place] == hashes[open_]
            open_, place = open_[same], place[same]
            row = rows[place]
            right = np.asarray(pc.equal(self._ids.take(pa.array(row)), wanted.take(pa.array(open_))), bool)
            found[open_[right]] = row[right]
            open_, place = open_[~right], place[~right] + 1
        return found

    def groups(self, rows: Rows) -> list[str]:
        """Return the `item_group_id` of each row, empty where there is none."""
        return self.values("item_group_id", rows)

    def values(self, name: str, rows: Rows) -> list[str]:
        """Return a text field of each row, by its name in `TEXT_FIELDS`, empty where there is none."""
        field = self.texts[name]
        codes, places = np.unique(field.codes[rows], return_inverse=True)
        names = [""] * int(np.count_nonzero(codes < 0)) + field.texts.take(
            pa.array(codes[codes >= 0])
        ).to_pylist()
        return [names[place] for place in places.tolist()]

    def update(self, row: int, product: Product) -> None:
        """Take prices, ratings, counts, availability and currency of a row from a product.

        The change is private to this process: the files stay as they are.

        Args:
            row: 0 to N - 1.
            product: the product of that row as it is now.
        """
        for name, number in NUMBER_OF.items():
            value = number(product)
            self.numbers[name][row] = np.nan if value is None else value
        for name in _CHANGING:
            self._recode(name, row, TEXT_OF[name](product))

    def _recode(self, name: str, row: int, text: str) -> None:
        field = self.texts[name]
        code = pc.index(field.texts, text).as_py() if text else -1
        if text and code < 0:
            code = len(field.texts)  # whoever holds the field as it was must not meet the new code
            texts = pa.concat_arrays([field.texts, pa.array([text], STRING)])
            field = self.texts[name] = _text_field(texts, field.codes.copy())
        field.codes[row] = code


def _text_field(texts: pa.LargeStringArray, codes: npt.NDArray[np.generic]) -> Coded:
    types = np.broadcast_to(np.uint8(TEXT), len(texts))
    return Coded(texts, types, codes)  # type: ignore[arg-type]
