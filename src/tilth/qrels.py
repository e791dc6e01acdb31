"""Qrels: graded relevance of products to queries, and the files that hold it."""

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tilth.errors import InputError
from tilth.files import check_ids, read_rows, replacing

COLUMNS = ("query_id", "product_id", "grade")
TREC_COLUMNS = ("query_id", "iteration", "product_id", "grade")
HIGHEST_GRADE = 100  # a larger number is another column; measures keep a table as long as the largest


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
    """Read qrels as TSV or in TREC format.

    Args:
        path: rows of `query_id product_id grade`; a header may name these columns in another order and
            among others. Without a header, rows of four cells are TREC (`query_id 0 product_id grade`).

    Returns:
        The qrels, in the order of the file.

    Raises:
        InputError: the file is empty, the header lacks a column, a row is short, a grade is no whole number
            from 0 to 100, or a pair repeats with another grade.
    """
    grades: dict[str, dict[str, int]] = {}
    header: Sequence[str] | None = None
    for line, cells in read_rows(path, delimiter=None):
        if not grades and header is None and "query_id" in cells:
            header = _check_header(cells, path, line)
            continue
        query_id, product_id, text = _select(cells, header, path, line)
        grade = _parse_grade(text, path, line)
        known = grades.setdefault(query_id, {}).setdefault(product_id, grade)
        if known != grade:
            raise InputError(
                f"query {query_id!r} and product {product_id!r} have the grade {known} above",
                path=path, line=line, field="grade", value=grade,
            )  # fmt: skip
    if not grades:
        raise InputError("holds no judgments", path=path)
    return Qrels(grades)


def _check_header(cells: list[str], path: str | os.PathLike[str], line: int) -> list[str]:
    for name in COLUMNS:
        if cells.count(name) != 1:
            raise InputError(
                f"the header needs one column {name!r}",
                path=path, line=line, value=" ".join(cells), remedy=f"Name the columns {' '.join(COLUMNS)}",
            )  # fmt: skip
    return cells


def _select(
    cells: list[str], header: Sequence[str] | None, path: str | os.PathLike[str], line: int
) -> tuple[str, str, str]:
    """Return query_id, product_id and grade of a row."""
    columns: Sequence[str] = header or (TREC_COLUMNS if len(cells) == 4 else COLUMNS)
    row = dict(zip(columns, cells, strict=False))
    if len(cells) != len(columns) or not all(row[name] for name in COLUMNS):
        raise InputError(
            f"a row of qrels needs {len(columns)} cells ({' '.join(columns)})",
            path=path, line=line, value=" ".join(cells),
        )  # fmt: skip
    return row["query_id"], row["product_id"], row["grade"]


def _parse_grade(text: str, path: str | os.PathLike[str], line: int) -> int:
    if not text.isdecimal() or int(text) > HIGHEST_GRADE:
        raise InputError(
            f"grade is not a whole number from 0 to {HIGHEST_GRADE}",
            path=path, line=line, field="grade", value=text,
        )  # fmt: skip
    return int(text)


def write_qrels(qrels: Qrels, path: str | os.PathLike[str]) -> None:
    """Write qrels as TSV if the name ends in `.tsv`, else in TREC format.

    Args:
        qrels: the qrels; a query without judgments leaves no row.
        path: the file to write or replace.

    Raises:
        InputError: an id holds a character that separates columns in this format.
    """
    tsv = str(path).endswith(".tsv")
    template = "{}\t{}\t{}\n" if tsv else "{} 0 {} {}\n"
    with replacing(path) as file:
        if tsv:
            file.write(b"query_id\tproduct_id\tgrade\n")
        for query_id, products in qrels.grades.items():
            for product_id, grade in products.items():
                check_ids(path, query_id, product_id)
                file.write(template.format(query_id, product_id, grade).encode())
