"""Runs: ranked hits per query, and the files that hold them."""

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from tilth.errors import InputError
from tilth.files import read_rows, replacing


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
    """Read a run: TREC (`query_id Q0 product_id rank score name`) or TSV with the columns
    `query_id`, `product_id`, `score`.

    Order comes from the scores alone, as in trec_eval; ranks in the file are not read.

    Raises:
        InputError: a row is short, a score is no number, or a product repeats within a query.
    """  # noqa: D205
    scores: dict[str, dict[str, float]] = {}
    name = os.path.basename(path).split(".")[0]  # noqa: PTH119 - takes any path-like
    for line, cells in read_rows(path, delimiter=None):
        if line == 1 and "query_id" in cells:
            continue
        if len(cells) == 6:
            query_id, _, product_id, _, score, name = cells
        elif len(cells) == 3:
            query_id, product_id, score = cells
        else:
            raise InputError(
                "a run has 6 columns (TREC) or 3 (query_id, product_id, score)",
                path=path, line=line, value=" ".join(cells),
            )  # fmt: skip
        products = scores.setdefault(query_id, {})
        if product_id in products:
            raise InputError(f"product occurs twice for query {query_id!r}", path=path, line=line, value=product_id)
        try:
            products[product_id] = float(score)
        except ValueError as error:
            raise InputError("score is not a number", path=path, line=line, field="score", value=score) from error
    return make_run(name, scores)


def write_run(run: Run, path: str | os.PathLike[str]) -> None:
    """Write a run in TREC format, or as TSV if the name ends in `.tsv`; scores read back exactly."""
    tsv = str(path).endswith(".tsv")
    with replacing(path) as file:
        if tsv:
            file.write(b"query_id\tproduct_id\tscore\n")
        for query_id, hits in run.hits.items():
            for rank, hit in enumerate(hits, start=1):
                row = (
                    f"{query_id}\t{hit.product_id}\t{hit.score!r}\n"
                    if tsv
                    else f"{query_id} Q0 {hit.product_id} {rank} {hit.score!r} {run.name}\n"
                )
                file.write(row.encode())
