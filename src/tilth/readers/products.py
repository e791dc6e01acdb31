"""Catalogue files as products: rows that can be used are kept, the others rejected one by one."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

from tilth.catalog import Price, Product, parse_availability, parse_currency, parse_price
from tilth.errors import InputError
from tilth.readers.columns import ColumnMap
from tilth.readers.delimited import read_csv, read_tsv
from tilth.readers.feed import read_feed
from tilth.readers.formats import Format, detect_format
from tilth.readers.jsonl import read_jsonl
from tilth.readers.parquet import read_parquet
from tilth.readers.rejections import Rejection, Summary, shown
from tilth.readers.rows import ColumnCheck, Row, Rows
from tilth.readers.values import (
    as_attributes,
    as_category,
    as_count,
    as_description,
    as_id,
    as_number,
    as_rating,
    as_text,
)

_READERS: Mapping[Format, Callable[[str | os.PathLike[str], ColumnCheck], Rows]] = {
    "jsonl": read_jsonl,
    "csv": read_csv,
    "tsv": read_tsv,
    "parquet": read_parquet,
    "xml": read_feed,
}
_PARSERS: Mapping[str, Callable[[Any], object]] = {
    "id": as_id,
    "title": as_text,
    "description": as_description,
    "brand": as_text,
    "product_type": as_category,
    "price": parse_price,
    "sale_price": parse_price,
    "currency": parse_currency,
    "availability": parse_availability,
    "gtin": as_text,
    "mpn": as_text,
    "item_group_id": as_text,
    "link": as_text,
    "image_link": as_text,
    "rating": as_rating,
    "rating_count": as_count,
    "popularity": as_number,
    "clicks": as_count,
}
_NO_COLUMNS: Mapping[str, str] = MappingProxyType({})


def read_products(
    paths: Sequence[str | os.PathLike[str]],
    *,
    columns: Mapping[str, str] = _NO_COLUMNS,
    strict: bool = False,
    on_reject: Callable[[Rejection], None] | None = None,
    summary: Summary | None = None,
) -> Iterator[Product]:
    """Read the products of one or more catalogue files, one file after the other.

    Files are read as the products are asked for, in constant memory but for the ids, which are kept to find
    duplicates (about 100 bytes a product). A file that is damaged half-way gives the products before the
    damage, and then the error: whoever stores them should commit only when the reading has ended.

    Args:
        paths: JSONL, CSV, TSV, Parquet, RSS or Atom, each also gzipped.
        columns: product field to the column that fills it, for files that name things otherwise.
        strict: stop at the first row that cannot be used.
        on_reject: called with every row that is left out, as it is met.
        summary: is kept up to date with the counts.

    Returns:
        The products, in the order of the files.

    Raises:
        InputError: a file cannot be read, has no known format, no rows, or lacks a column; or, if strict, a
            row cannot be used. Damage inside a file is raised when the reading comes to it.
        SettingError: `columns` names a field that products do not have.
    """
    formats = [detect_format(path) for path in paths]
    if not paths:
        raise InputError("no catalogue file was given")
    reading = _Reading(ColumnMap(columns), strict, on_reject, summary or Summary())
    return (p for path, form in zip(paths, formats, strict=True) for p in reading.products(path, form))


def products_of(records: Iterable[object], where: str) -> tuple[list[Product], list[Rejection]]:
    """Make products of records that are in memory already, as JSON has them.

    Args:
        records: objects with the names of a file's columns; anything else is rejected.
        where: what they came from, for rejections.

    Returns:
        The products, and the records that could not be used, numbered from 1.
    """
    rejected: list[Rejection] = []
    reading = _Reading(ColumnMap(_NO_COLUMNS), False, rejected.append, Summary())
    made: list[Product] = []
    for number, record in enumerate(records, start=1):
        if isinstance(record, dict):
            product = reading.product(Row(number, record), where)
        else:
            product = Rejection(where, number, "", shown(record), "not an object")
        if isinstance(product, Rejection):
            rejected.append(product)
        else:
            made.append(product)
    return made, rejected


class _Reading:
    """One pass over some files: what is shared between them are the ids and the counts."""

    def __init__(
        self,
        columns: ColumnMap,
        strict: bool,
        on_reject: Callable[[Rejection], None] | None,
        summary: Summary,
    ) -> None:
        self.columns, self.strict, self.on_reject, self.summary = columns, strict, on_reject, summary
        self.ids: set[str] = set()

    def products(self, path: str | os.PathLike[str], form: Format) -> Iterator[Product]:
        """Yield the products of one file."""
        before = self.summary.kept + self.summary.rejected
        for row in _READERS[form](path, partial(self.columns.check, path=path)):
            made = row if isinstance(row, Rejection) else self.product(row, str(path))
            if isinstance(made, Rejection):
                self._reject(made)
            else:
                self.summary.kept += 1
                yield made
        if self.summary.kept + self.summary.rejected == before:
            raise InputError("holds no products", path=path)

    def product(self, row: Row, path: str) -> Product | Rejection:
        """Make a product of a row, or say why there is none."""
        fields, rest = self.columns.sort(row.values)
        try:
            product = make_product(fields, rest)
        except InputError as error:
            name = error.field or ""
            return Rejection(path, row.line, name, shown(fields.get(name, rest.get(name))), error.reason)
        if product.id in self.ids:
            return Rejection(path, row.line, "id", shown(product.id), "duplicate id")
        self.ids.add(product.id)
        if not product.availability and "availability" in fields:
            self.summary.warnings["unknown availability"] += 1
        return product

    def _reject(self, rejection: Rejection) -> None:
        self.summary.rejected += 1
        self.summary.reasons[rejection.reason.partition(":")[0]] += 1
        if self.on_reject is not None:
            self.on_reject(rejection)
        if self.strict:
            raise rejection.as_error()


def make_product(fields: Mapping[str, object], rest: Mapping[str, object]) -> Product:
    """Make a product of raw values.

    Args:
        fields: product field (or `currency`) to raw value; blank ones are absent.
        rest: other columns to raw value: they become attributes.

    Returns:
        The product.

    Raises:
        InputError: a value cannot be used; its `field` says which.
    """
    made: dict[str, Any] = {}
    for name, value in fields.items():
        if name == "attributes":
            continue
        try:
            made[name] = _PARSERS[name](value)
        except InputError as error:
            raise InputError(error.reason, field=name) from error
    for name in ("id", "title"):
        if not made.get(name):
            raise InputError(f"no {name}", field=name)
    if currency := made.pop("currency", ""):
        _complete_prices(made, currency)
    made["attributes"] = as_attributes(fields.get("attributes"), rest)
    return Product(**made)


def _complete_prices(made: dict[str, Any], currency: str) -> None:
    for name in ("price", "sale_price"):
        price = made.get(name)
        if price is not None and not price.currency:
            made[name] = Price(price.amount, currency)
