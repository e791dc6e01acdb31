"""Qrels: graded relevance of products to queries, and the files that hold it."""

import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from tilth.errors import InputError
from tilth.files import read_rows, replacing


@dataclass(frozen=True, slots=True)
class Qrels:
    """grades[query_id][product_id], integers from 0 (irrelevant) upwards; a pair not in it is unjudged."""

    grades: Mapping[str, Mapping[str, int]]

    def __getitem__(self, query_id: str) -> Mapping[str, int]:
        return self.grades[query_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self.grades)

    def __len__(self) -> int:
        return len(self.grades)

    def only(self, query_ids: Collection[str]) -> "Qrels":
        """Return the qrels of these queries alone."""
        keep = set(query_ids)
        return Qrels({q: g for q, g in self.grades.items() if q in keep})


def read_qrels(path: str | os.PathLike[str]) -> Qrels:
    """Read qrels: TSV with the columns `query_id product_id grade`, or TREC (`query_id 0 product_id grade`).

    Raises:
        InputError: the file is empty, a row is short, a grade is no whole number from 0, or a pair repeats
            with another grade.
    """
    grades: dict[str, dict[str, int]] = {}
    for line, cells in read_rows(path, delimiter=None):
        if line == 1 and "query_id" in cells:
            continue
        if len(cells) not in (3, 4):
            raise InputError(
                "qrels have 3 columns (query_id, product_id, grade) or 4 (TREC)",
                path=path, line=line, value=" ".join(cells),
            )  # fmt: skip
        query_id, product_id, grade = cells[0], cells[-2], cells[-1]
        if not grade.isdecimal():
            raise InputError(
                "grade is not a whole number from 0", path=path, line=line, field="grade", value=grade
            )
        known = grades.setdefault(query_id, {}).setdefault(product_id, int(grade))
        if known != int(grade):
            raise InputError(
                f"query {query_id!r} and product {product_id!r} have the grade {known} above",
                path=path, line=line, field="grade", value=grade,
            )  # fmt: skip
    if not grades:
        raise InputError("holds no judgments", path=path)
    return Qrels(grades)


def write_qrels(qrels: Qrels, path: str | os.PathLike[str]) -> None:
    """Write qrels as TSV, or in TREC format unless the name ends in `.tsv`."""
    tsv = str(path).endswith(".tsv")
    with replacing(path) as file:
        if tsv:
            file.write(b"query_id\tproduct_id\tgrade\n")
        for query_id, products in qrels.grades.items():
            for product_id, grade in products.items():
                row = f"{query_id}\t{product_id}\t{grade}\n" if tsv else f"{query_id} 0 {product_id} {grade}\n"
                file.write(row.encode())
