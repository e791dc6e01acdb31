"""The products of an index by row: typed columns, memory-mapped, and each product's whole record."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa

from tilth.catalog import Product, product_from_json, product_to_json
from tilth.protocols import Rows

_BATCH = 16_384  # products in a record batch

SCHEMA = pa.schema(
    [
        ("product_id", pa.string()),
        ("title", pa.string()),
        ("brand", pa.string()),
        ("product_type", pa.string()),
        ("price", pa.float64()),
        ("currency", pa.string()),
        ("sale_price", pa.float64()),
        ("availability", pa.string()),
        ("item_group_id", pa.string()),
        ("rating", pa.float64()),
        ("rating_count", pa.int64()),
        ("popularity", pa.float64()),
        ("clicks", pa.int64()),
        ("record", pa.binary()),
    ]
)
FILTERABLE = tuple(name for name in SCHEMA.names if name != "record")


def _values(product: Product) -> tuple[object, ...]:
    price, sale = product.price, product.sale_price
    return (
        product.id,
        product.title,
        product.brand,
        product.product_type,
        price.amount if price else None,
        price.currency if price else "",
        sale.amount if sale else None,
        product.availability,
        product.item_group_id,
        product.rating,
        product.rating_count,
        product.popularity,
        product.clicks,
        orjson.dumps(product_to_json(product)),
    )


class ColumnsWriter:
    """Writes products, in row order, into a new Arrow file, which is whole when its block ends."""

    def __init__(self, path: Path) -> None:
        self._writer = pa.ipc.new_file(str(path), SCHEMA)
        self._pending: list[tuple[object, ...]] = []

    def add(self, product: Product) -> None:
        """Add one product."""
        self._pending.append(_values(product))
        if len(self._pending) == _BATCH:
            self._flush()

    def _flush(self) -> None:
        if self._pending:
            arrays = [
                pa.array(column, type=kind)
                for column, kind in zip(zip(*self._pending, strict=True), SCHEMA.types, strict=True)
            ]
            self._writer.write_batch(pa.record_batch(arrays, schema=SCHEMA))
            self._pending = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Write what is pending and the footer."""
        self._flush()
        self._writer.close()


class Columns:
    """The columns of an opened index."""

    def __init__(self, path: Path) -> None:
        self.table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        self._ids = self.table["product_id"].combine_chunks()
        self._records = self.table["record"].chunks

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def ids(self, rows: Rows) -> Sequence[str]:
        """Return the product id of each row."""
        names: list[str] = self._ids.take(pa.array(rows)).to_pylist()
        return names

    def product(self, row: int) -> Product:
        """Return the whole product of a row."""
        record = self._records[row // _BATCH][row % _BATCH].as_py()
        return product_from_json(orjson.loads(record))

    def products(self) -> Iterator[Product]:
        """Yield all products in row order."""
        for chunk in self._records:
            for record in chunk:
                yield product_from_json(orjson.loads(record.as_py()))

    def rows_where(self, mask: npt.NDArray[np.bool_]) -> Rows:
        """Return the rows where a mask of all rows is true, ascending."""
        return np.flatnonzero(mask)
