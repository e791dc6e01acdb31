"""Queries: what a user typed, and the files that hold them."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from tilth.errors import InputError
from tilth.files import read_rows

COLUMNS = ("query_id", "query", "kind")
_REMEDY = "The columns are query_id, query and, optionally, kind, separated by tabs"


@dataclass(frozen=True, slots=True)
class Query:
    """One information need as a user typed it; `kind` is its slice (type, code, misspelt...), if known."""

    query_id: str
    text: str
    kind: str | None = None


def read_queries(path: str | os.PathLike[str]) -> list[Query]:
    """Read queries from a TSV file.

    Args:
        path: rows of `query_id`, `query` and, optionally, `kind`; a header may name these columns in another
            order and among others.

    Returns:
        The queries in the order of the file.

    Raises:
        InputError: the file is empty, the header lacks a column, a row is short, an id repeats or a text is
            empty.
    """
    queries: dict[str, Query] = {}
    columns: Sequence[str] | None = None
    for line, cells in read_rows(path):
        if columns is None:
            columns = cells if "query_id" in cells else COLUMNS
            if columns is cells:
                _check_header(cells, path, line)
                continue
        row = dict(zip(columns, cells, strict=False))
        query_id, text = row.get("query_id", ""), row.get("query", "")
        if not query_id or not text:
            raise InputError(
                "a query needs an id and a text",
                path=path, line=line, value=" | ".join(cells), remedy=_REMEDY,
            )  # fmt: skip
        if query_id in queries:
            raise InputError("query id occurs twice", path=path, line=line, field="query_id", value=query_id)
        queries[query_id] = Query(query_id, text, row.get("kind") or None)
    if not queries:
        raise InputError("holds no queries", path=path)
    return list(queries.values())


def _check_header(cells: list[str], path: str | os.PathLike[str], line: int) -> None:
    if "query" not in cells:
        raise InputError(
            "the header needs a column 'query'", path=path, line=line, value=" | ".join(cells), remedy=_REMEDY
        )


def as_queries(texts: Sequence[str | Query]) -> list[Query]:
    """Turn plain texts into queries with the ids `1`, `2`...; queries pass through."""
    return [t if isinstance(t, Query) else Query(str(n), t) for n, t in enumerate(texts, start=1)]
