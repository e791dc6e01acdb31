"""CSV and TSV: a header, then one product a row."""

import csv
import os
from collections.abc import Iterator, Sequence

from tilth.errors import InputError
from tilth.readers.formats import MAX_LINE, decoded, read_lines, reading
from tilth.readers.rejections import Rejection, shown
from tilth.readers.rows import ColumnCheck, Row, Rows, refuse_repeats


def read_csv(path: str | os.PathLike[str], check_columns: ColumnCheck) -> Rows:
    """Yield the rows of a CSV file with a header; the separator is the header's commonest of `,` `;` tab `|`.

    Quoting follows RFC 4180; a quoted cell may hold line breaks, and the row has the line where it begins.
    """
    csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE))
    with reading(path) as file:
        lines = read_lines(file)
        first = _first_line(lines, path)
        texts = _Texts(first, lines)
        table = csv.reader(texts, delimiter=max(",;\t|", key=first.count), strict=True)
        try:
            header = _header(next(table), path)
        except csv.Error as error:
            raise InputError(f"broken header: {error}", path=path, line=1) from error
        check_columns(header)
        yield from _csv_rows(table, texts, header, str(path))


class _Texts:
    """The lines of a file as text, which know how far they were read and which of them were none."""

    def __init__(self, first: str, lines: Iterator[tuple[int, bytes]]) -> None:
        self.first, self.lines = first, lines
        self.number = 0
        self.faults: list[str] = []

    def __iter__(self) -> Iterator[str]:
        self.number = 1
        yield self.first
        for number, line in self.lines:
            self.number = number
            try:
                yield decoded(line)
            except InputError as error:
                self.faults.append(error.reason)
                yield line.decode(errors="replace")


def _csv_rows(table: Iterator[list[str]], texts: _Texts, header: Sequence[str], path: str) -> Rows:
    while True:
        texts.faults.clear()
        start = texts.number + 1
        try:
            cells = next(table)
        except StopIteration:
            return
        except csv.Error as error:
            yield Rejection(path, start, "", "", f"broken quoting: {error}")
            continue
        if texts.faults:
            yield Rejection(path, start, "", shown(",".join(cells)), texts.faults[0])
        elif cells:
            yield _row(path, start, header, cells)


def read_tsv(path: str | os.PathLike[str], check_columns: ColumnCheck) -> Rows:
    """Yield the rows of a file of tab-separated cells with a header, one product a line.

    A cell in double quotes, those inside it doubled, is unquoted; any other quote stands for itself.
    """
    with reading(path) as file:
        lines = read_lines(file)
        header = _header(_tsv_cells(_first_line(lines, path)), path)
        check_columns(header)
        for number, line in lines:
            if not line.strip(b"\r\n"):
                continue
            try:
                cells = _tsv_cells(decoded(line))
            except InputError as error:
                yield Rejection(str(path), number, "", shown(line), error.reason)
                continue
            yield _row(str(path), number, header, cells)


def _tsv_cells(text: str) -> list[str]:
    cells = text.rstrip("\r\n").split("\t")
    return [_unquoted(cell) for cell in cells] if '"' in text else cells


def _unquoted(cell: str) -> str:
    inner = cell[1:-1]
    quoted = len(cell) > 1 and cell[0] == cell[-1] == '"' and '"' not in inner.replace('""', "")
    return inner.replace('""', '"') if quoted else cell


def _first_line(lines: Iterator[tuple[int, bytes]], path: str | os.PathLike[str]) -> str:
    _, line = next(lines, (1, b""))
    try:
        text = decoded(line)
    except InputError as error:
        raise InputError(f"header {error.reason}", path=path, line=1, remedy="Save it as UTF-8") from error
    if not text.strip():
        raise InputError("has no header", path=path, line=1, remedy="Put the column names into line 1")
    return text


def _header(cells: Sequence[str], path: str | os.PathLike[str]) -> list[str]:
    names = [cell.strip() for cell in cells]
    refuse_repeats(names, path)
    return names


def _row(path: str, line: int, header: Sequence[str], cells: Sequence[str]) -> Row | Rejection:
    if len(cells) != len(header):
        reason = f"wrong number of cells: {len(cells)}, and {len(header)} in the header"
        return Rejection(path, line, "", shown(",".join(cells)), reason)
    return Row(line, dict(zip(header, cells, strict=True)))
