"""Files as rows: one mapping of column to raw value a product, whatever the format.

Every reader takes a path and a function that is told the columns of the file: before the first row where the
format has a header, after the last where it has none. A row that cannot be taken apart is yielded as a
`Rejection` in its place.
"""

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from tilth.errors import InputError
from tilth.readers.rejections import Rejection

MAX_COLUMNS = 100_000  # columns remembered of a file without a header


class Row(NamedTuple):
    """One product as the file has it."""

    line: int
    values: Mapping[str, object]


Rows = Iterator[Row | Rejection]
ColumnCheck = Callable[[Collection[str]], None]


def refuse_repeats(names: Sequence[str], path: str | os.PathLike[str]) -> None:
    """Raise an InputError if a header names a column twice."""
    for name in names:
        if name and names.count(name) > 1:
            raise InputError(
                "column occurs twice", path=path, line=1, value=name, remedy="Rename one of them"
            )
