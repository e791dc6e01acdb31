"""Queries: what a user typed, and the files that hold them."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from tilth.errors import InputError
from tilth.files import read_rows


@dataclass(frozen=True, slots=True)
class Query:
    """One information need as a user typed it; `kind` is its slice (type, code, misspelt...), if known."""

    query_id: str
    text: str
    kind: str | None = None


def read_queries(path: str | os.PathLike[str]) -> list[Query]:
    """Read queries from a TSV file with the columns `query_id`, `query` and, optionally, `kind`.

    The header may be absent: the first column is then the id and the second the text.

    Raises:
        InputError: the file is empty, a row is short, an id repeats or a text is empty.
    """
    queries: dict[str, Query] = {}
    columns = ["query_id", "query", "kind"]
    for line, cells in read_rows(path):
        if not queries and "query_id" in cells:
            columns = cells
            continue
        row = dict(zip(columns, cells, strict=False))
        query_id, text = row.get("query_id", ""), row.get("query", "")
        if not query_id or not text:
            raise InputError(
                "a query needs an id and a text",
                path=path, line=line, value="\t".join(cells),
                remedy="Columns are query_id, query and optionally kind, separated by tabs",
            )  # fmt: skip
        if query_id in queries:
            raise InputError("query id occurs twice", path=path, line=line, field="query_id", value=query_id)
        queries[query_id] = Query(query_id, text, row.get("kind") or None)
    if not queries:
        raise InputError("holds no queries", path=path)
    return list(queries.values())


def as_queries(texts: Sequence[str | Query]) -> list[Query]:
    """Turn plain texts into queries with the ids `1`, `2`...; queries pass through."""
    return [t if isinstance(t, Query) else Query(str(n), t) for n, t in enumerate(texts, start=1)]
