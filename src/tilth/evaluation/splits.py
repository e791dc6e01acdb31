"""Splits by query: which queries are learned from, which are chosen on, which are reported.

A query stands in the part that its text and the seed give it: the order of a file changes nothing, a query
typed twice under two ids never stands on both sides, and one query more moves few others.
"""

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, pairwise
from types import MappingProxyType

from tilth.errors import InputError, SettingError
from tilth.files import check_ids, read_rows, replacing
from tilth.query import Query

RETRIEVAL: Mapping[str, float] = MappingProxyType({"train": 0.7, "validation": 0.15, "test": 0.15})
RERANKING: Mapping[str, float] = MappingProxyType({"train": 0.7, "test": 0.3})
_HEADER = ["query_id", "part"]

Split = dict[str, str]  # query_id -> part


def split(queries: Sequence[Query], shares: Mapping[str, float] = RETRIEVAL, *, seed: int) -> Split:
    """Split queries at random into parts.

    Args:
        queries: the queries, in any order.
        shares: the share of each part; they sum to 1.
        seed: another seed gives another split.

    Returns:
        The part of each query, in the order of the queries.

    Raises:
        SettingError: a share is not above 0, the shares do not sum to 1, or a part is left without a query.
    """
    if not shares or min(shares.values()) <= 0 or abs(sum(shares.values()) - 1) > 1e-9:
        raise SettingError(f"shares of a split must be above 0 and sum to 1, not {dict(shares)}")
    keys = _shuffled(queries, seed)
    bounds = [round(len(keys) * total) for total in accumulate(shares.values(), initial=0.0)]
    part_of: dict[str, str] = {}
    for part, (start, end) in zip(shares, pairwise(bounds), strict=True):
        if start == end:
            raise SettingError(f"{len(keys)} different queries are too few for a part {part!r} of the split")
        part_of.update(dict.fromkeys(keys[start:end], part))
    return {query.query_id: part_of[_key(query)] for query in queries}


def folds(queries: Sequence[Query], k: int = 5, *, seed: int) -> list[tuple[str, ...]]:
    """Deal queries at random into `k` folds of the same size, give or take one text.

    Args:
        queries: the queries, in any order.
        k: the number of folds, from 2.
        seed: another seed gives other folds.

    Returns:
        The query ids of each fold, each query in one of them.

    Raises:
        SettingError: `k` is below 2 or above the number of different queries.
    """
    keys = _shuffled(queries, seed)
    if not 2 <= k <= len(keys):
        raise SettingError(f"the number of folds must be from 2 to {len(keys)} (different queries), not {k}")
    fold_of = {key: place * k // len(keys) for place, key in enumerate(keys)}
    dealt: list[list[str]] = [[] for _ in range(k)]
    for query in queries:
        dealt[fold_of[_key(query)]].append(query.query_id)
    return [tuple(fold) for fold in dealt]


def queries_of(split: Split, parts: Iterable[str]) -> tuple[str, ...]:
    """Return the query ids of these parts, in the order of the split.

    Args:
        split: the split.
        parts: names of its parts.

    Returns:
        At least one query id.

    Raises:
        SettingError: the split has no part of such a name.
    """
    wanted, known = set(parts), set(split.values())
    if not wanted <= known:
        unknown = min(wanted - known)
        raise SettingError(f"the split has no part {unknown!r}: it has {', '.join(sorted(known))}")
    return tuple(query_id for query_id, part in split.items() if part in wanted)


def _key(query: Query) -> str:
    """Return what makes two queries the same: their words, whatever the case."""
    return " ".join(query.text.casefold().split())


def _shuffled(queries: Sequence[Query], seed: int) -> list[str]:
    """Return the different keys in an order that only they and the seed decide."""
    keys = {_key(query) for query in queries}
    return sorted(keys, key=lambda key: hashlib.blake2b(f"{seed}\t{key}".encode()).digest())


def read_split(path: str | os.PathLike[str]) -> Split:
    """Read a split from a TSV file.

    Args:
        path: rows of `query_id` and `part`, with or without these as a header.

    Returns:
        The part of each query, in the order of the file.

    Raises:
        InputError: the file is empty, a row does not have two cells, or a query occurs twice.
    """
    parts: Split = {}
    for line, cells in read_rows(path):
        if not parts and cells == _HEADER:
            continue
        if len(cells) != 2 or not all(cells):
            raise InputError(
                "a row of a split is a query_id and a part, separated by a tab",
                path=path, line=line, value=" | ".join(cells),
            )  # fmt: skip
        query_id, part = cells
        if query_id in parts:
            raise InputError("query id occurs twice", path=path, line=line, field="query_id", value=query_id)
        parts[query_id] = part
    if not parts:
        raise InputError("holds no queries", path=path)
    return parts


def write_split(split: Split, path: str | os.PathLike[str]) -> None:
    """Write a split as a TSV file with the columns `query_id` and `part`.

    Args:
        split: the part of each query.
        path: the file to write or replace; its name ends in `.tsv`.

    Raises:
        InputError: an id or the name of a part cannot stand in such a file.
    """
    with replacing(path) as file:
        file.write(("\t".join(_HEADER) + "\n").encode())
        for query_id, part in split.items():
            check_ids(path, query_id, part)
            file.write(f"{query_id}\t{part}\n".encode())
