"""Runs: ranked hits per query, and the files that hold them."""

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tilth.errors import InputError
from tilth.files import check_ids, read_rows, replacing


class Hit(NamedTuple):
    """One product with its score; its rank is its place in the list, from 1."""

    product_id: str
    score: float


@dataclass(frozen=True, slots=True)
class Run:
    """Ranked hits per query, each list ordered by (-score, product_id)."""

    name: str
    hits: Mapping[str, tuple[Hit, ...]]

    def __getitem__(self, query_id: str) -> tuple[Hit, ...]:
        return self.hits[query_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self.hits)

    def __len__(self) -> int:
        return len(self.hits)

    def top(self, k: int) -> "Run":
        """Return the run cut to its first `k` hits a query."""
        return Run(self.name, {query_id: hits[:k] for query_id, hits in self.hits.items()})


def ranked(scores: Mapping[str, float]) -> tuple[Hit, ...]:
    """Order products by (-score, product_id).

    Args:
        scores: a score for each product_id.

    Returns:
        The hits, best first.

    Raises:
        InputError: a score is NaN, which has no place in an order.
    """
    for product_id, score in scores.items():
        if math.isnan(score):
            raise InputError("a score is not a number", field=product_id, value=score)
    return tuple(Hit(p, s) for p, s in sorted(scores.items(), key=lambda item: (-item[1], item[0])))


def make_run(name: str, scores: Mapping[str, Mapping[str, float]]) -> Run:
    """Make a run from scores[query_id][product_id]."""
    return Run(name, {query_id: ranked(products) for query_id, products in scores.items()})


def read_run(path: str | os.PathLike[str]) -> Run:
    """Read a run in TREC format or as TSV.

    Order comes from the scores alone, as in trec_eval; ranks in the file are not read.

    Args:
        path: rows of `query_id Q0 product_id rank score name` (TREC), or of `query_id`, `product_id` and
            `score`, with or without these as a header.

    Returns:
        The run, named as in the TREC rows, else after the file.

    Raises:
        InputError: the file is empty, a row is short, a score is no finite number, or a product repeats
            within a query.
    """
    scores: dict[str, dict[str, float]] = {}
    name, line = Path(path).name.split(".")[0], 0
    for line, cells in read_rows(path, delimiter=None):
        if not scores and cells == ["query_id", "product_id", "score"]:
            continue
        query_id, product_id, score, name = _parse_row(cells, name, path, line)
        products = scores.setdefault(query_id, {})
        if product_id in products:
            raise InputError(
                f"product occurs twice for query {query_id!r}", path=path, line=line, value=product_id
            )
        products[product_id] = score
    if not line:
        raise InputError("holds no hits", path=path)
    return make_run(name, scores)


def _parse_row(
    cells: list[str], name: str, path: str | os.PathLike[str], line: int
) -> tuple[str, str, float, str]:
    """Return query_id, product_id, score and the name of the run."""
    if len(cells) == 6:
        query_id, _, product_id, _, text, name = cells
    elif len(cells) == 3:
        query_id, product_id, text = cells
    else:
        query_id = product_id = text = ""
    if not query_id or not product_id:
        raise InputError(
            "a run has 6 columns (TREC) or 3 (query_id, product_id, score)",
            path=path, line=line, value=" ".join(cells),
        )  # fmt: skip
    try:
        score = float(text)
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        raise InputError("score is not a finite number", path=path, line=line, field="score", value=text)
    return query_id, product_id, score, name


def write_run(run: Run, path: str | os.PathLike[str]) -> None:
    """Write a run in TREC format, or as TSV if the name ends in `.tsv`; scores read back exactly.

    Args:
        run: the run; a query without hits leaves no row.
        path: the file to write or replace.

    Raises:
        InputError: an id holds a character that separates columns in this format.
    """
    tsv = str(path).endswith(".tsv")
    name = "_".join(run.name.split()) or "run"  # the last column of TREC is one word
    with replacing(path) as file:
        if tsv:
            file.write(b"query_id\tproduct_id\tscore\n")
        for query_id, hits in run.hits.items():
            for rank, (product_id, score) in enumerate(hits, start=1):
                check_ids(path, query_id, product_id)
                row = (
                    f"{query_id}\t{product_id}\t{float(score)!r}\n"
                    if tsv
                    else f"{query_id} Q0 {product_id} {rank} {float(score)!r} {name}\n"
                )
                file.write(row.encode())
