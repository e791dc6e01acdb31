"""Judgments: single opinions on how well a product answers a query, their scales and their files."""

import csv
import os
from codecs import getwriter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from tilth.errors import InputError, SettingError
from tilth.files import check_ids, read_rows, replacing

KINDS = ("person", "model", "clicks", "bootstrap")
SCALES = (1, 3, 5)  # their highest grades; the lowest is 0
FORMATS = ("tsv", "trec", "quepid")

COLUMNS = (
    "query_id", "query", "product_id", "grade", "judge", "kind", "time", "reason", "prompt", "confidence",
    "highest",
)  # fmt: skip
_REQUIRED = ("query_id", "product_id", "grade")
_TREC_COLUMNS = ("query_id", "iteration", "product_id", "grade")
_SEPARATORS = dict.fromkeys(map(ord, "\t\r\n"), " ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgment:
    """One opinion of one judge; a later one of the same judge on the same pair replaces it in labels.

    Raises:
        InputError: an id or the judge is empty, a text cannot be stored, there is no such scale, grade or
            kind, the time has no zone, or the confidence is outside 0 to 1.
    """

    query_id: str
    query: str  # the text; empty if it is not known
    product_id: str
    grade: int  # from 0 (irrelevant) to `highest`
    highest: int  # top of the scale: 1, 3 or 5
    judge: str  # a person, a model, a method
    kind: str  # of the judge: person, model, clicks or bootstrap
    time: datetime  # aware
    reason: str = ""
    prompt: str = ""  # hash of the prompt's version
    confidence: float | None = None  # 0 to 1

    def __post_init__(self) -> None:
        self._check_texts()
        if self.highest not in SCALES:
            raise InputError(
                "is not the top of a scale",
                field="highest", value=self.highest, remedy="Scales are 0-1, 0-3 and 0-5",
            )  # fmt: skip
        if not 0 <= self.grade <= self.highest:
            raise InputError(f"is outside the scale 0-{self.highest}", field="grade", value=self.grade)
        if self.kind not in KINDS:
            raise InputError(f"is none of {', '.join(KINDS)}", field="kind", value=self.kind)
        if self.time.utcoffset() is None:
            raise InputError("has no time zone", field="time", value=str(self.time), remedy="Add +00:00")
        if self.confidence is not None and not 0 <= self.confidence <= 1:
            raise InputError("is not between 0 and 1", field="confidence", value=self.confidence)

    def _check_texts(self) -> None:
        for name in ("query_id", "product_id", "judge"):
            if not getattr(self, name):
                raise InputError("cannot be empty", field=name)
        for name in ("query_id", "query", "product_id", "judge", "reason", "prompt"):
            text = getattr(self, name)
            if "\0" in text or not (text.isascii() or _is_unicode(text)):
                raise InputError("holds a NUL or half a character", field=name, value=text)


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


# --- scales ---------------------------------------------------------------------------------------

Mappings = Mapping[int, Sequence[int]]  # by the top of a scale: what each of its grades becomes
_PROPORTIONAL: Mappings = {}


def rescaled(grade: int, highest: int, to: int, declared: Mappings = _PROPORTIONAL) -> int:
    """Return a grade on another scale: what was declared for its scale, else in proportion.

    In proportion: round(grade * to / highest). The tops of the scales are odd, so that no half ever occurs.

    Args:
        grade: from 0 to `highest`.
        highest: the top of its scale.
        to: the top of the other scale; the grade stays as it is if that is the same one.
        declared: what grades become, by the top of their scale (see `parse_mapping`).

    Returns:
        The grade, from 0 to `to`; 0 and the top keep their places.
    """
    if highest == to:
        return grade
    if highest in declared:
        return declared[highest][grade]
    return (2 * grade * to + highest) // (2 * highest)


def parse_mapping(text: str, to: int) -> tuple[int, ...]:
    """Read a mapping such as `0:0,1:0,2:1,3:1`: what each grade of a scale becomes.

    Args:
        text: one pair for every grade of the scale that is mapped.
        to: the top of the scale that is mapped to.

    Returns:
        The new grade of each grade; one more of them than the top of their scale.

    Raises:
        InputError: a pair is no pair of grades, or grades are missing, repeated or outside their scale.
    """
    pairs = [pair.split(":") for pair in text.split(",")]
    if not all(len(pair) == 2 and all(_is_number(grade.strip()) for grade in pair) for pair in pairs):
        raise InputError("is no mapping of grades", value=text, remedy="Write it like 0:0,1:0,2:1,3:1")
    mapping = {int(old): int(new) for old, new in pairs}
    if len(pairs) - 1 not in SCALES or sorted(mapping) != list(range(len(pairs))):
        raise InputError(
            "does not name every grade of a scale once", value=text, remedy="Scales are 0-1, 0-3 and 0-5"
        )
    if max(mapping.values()) > to:
        raise InputError(f"leads out of the scale 0-{to}", value=text)
    return tuple(mapping[grade] for grade in sorted(mapping))


# --- reading --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What is known of the judgments in a file where it does not say it itself."""

    time: datetime
    judge: str = ""
    kind: str = "person"
    highest: int | None = None
    queries: Mapping[str, str] = field(default_factory=dict)  # text by query_id


def read_judgments(
    path: str | os.PathLike[str], source: Source, *, form: str | None = None
) -> Iterator[Judgment]:
    """Read judgments from a file, row by row.

    `tsv` has a header and the columns of `COLUMNS`, of which `query_id`, `product_id` and `grade` must be
    there; `rater` is read as `judge`, and other columns are not read. `trec` has the four columns of qrels.
    `quepid` is what Quepid exports as CSV: `query,docid,rating`; a book, with one column a rater; or the
    detailed export with `Query Text`, `Doc ID` and `Rating`. Pairs without a grade are passed over.

    Args:
        path: the file, plain or gzipped.
        source: what stands for empty cells and absent columns. Quepid names queries by their text: the ids
            come from `source.queries` (the first of equal texts), or are the texts where that is empty.
        form: `tsv`, `trec` or `quepid`; None: by the ending of the name, see `form_of`.

    Returns:
        The judgments in the order of the file.

    Raises:
        InputError: the file cannot be read, its header lacks a column, or a cell cannot be used.
        SettingError: there is no such form.
    """
    form = form or form_of(path)
    if form not in FORMATS:
        raise SettingError(f"no format {form!r}; there are {', '.join(FORMATS)}")
    return _READERS[form](path, source)


def form_of(path: str | os.PathLike[str]) -> str:
    """Return the format that the ending of a name stands for: `.tsv` tsv, `.csv` quepid, others trec."""
    ending = Path(str(path).removesuffix(".gz")).suffix
    return {".tsv": "tsv", ".csv": "quepid"}.get(ending, "trec")


def _read_tsv(path: str | os.PathLike[str], source: Source) -> Iterator[Judgment]:
    header: list[str] | None = None
    for line, cells in read_rows(path):
        if header is None:
            header = _header(cells, path, line)
            continue
        if len(cells) > len(header):
            raise _wrong_length(cells, header, path, line)
        row = dict(zip(header, cells, strict=False))
        if row.get("grade") != "":  # a list of what is to be judged may be half done
            yield _judgment(row, source, path, line)


def _header(cells: list[str], path: str | os.PathLike[str], line: int) -> list[str]:
    names = ["judge" if name == "rater" and "judge" not in cells else name for name in cells]
    wrong = [name for name in _REQUIRED if names.count(name) != 1]
    wrong += [name for name in COLUMNS if names.count(name) > 1]
    if wrong:
        raise InputError(
            f"the header needs one column {wrong[0]!r}",
            path=path, line=line, value=" ".join(cells), remedy=f"Name the columns {' '.join(_REQUIRED)}",
        )  # fmt: skip
    return names


def _read_trec(path: str | os.PathLike[str], source: Source) -> Iterator[Judgment]:
    for line, cells in read_rows(path, delimiter=None):
        if len(cells) != len(_TREC_COLUMNS):
            raise _wrong_length(cells, _TREC_COLUMNS, path, line)
        yield _judgment(dict(zip(_TREC_COLUMNS, cells, strict=True)), source, path, line)


def _wrong_length(
    cells: Sequence[str], header: Sequence[str], path: str | os.PathLike[str], line: int
) -> InputError:
    return InputError(
        f"the row has {len(cells)} cells, and there are {len(header)} columns ({' '.join(header)})",
        path=path, line=line, value=" | ".join(cells), remedy="No cell may hold a line break",
    )  # fmt: skip


def _judgment(row: Mapping[str, str], source: Source, path: str | os.PathLike[str], line: int) -> Judgment:
    query_id = row.get("query_id", "")
    try:
        return Judgment(
            query_id=query_id,
            query=row.get("query") or source.queries.get(query_id, ""),
            product_id=row.get("product_id", ""),
            grade=_whole(row, "grade"),
            highest=_whole(row, "highest") if row.get("highest") else _known(source.highest),
            judge=row.get("judge") or source.judge,
            kind=row.get("kind") or source.kind,
            time=_time(row["time"]) if row.get("time") else source.time,
            reason=row.get("reason", ""),
            prompt=row.get("prompt", ""),
            confidence=_fraction(row["confidence"]) if row.get("confidence") else None,
        )
    except InputError as error:
        raise InputError(
            error.reason,
            path=path, line=line, field=error.field, value=error.value, remedy=error.remedy,
        ) from error  # fmt: skip


def _whole(row: Mapping[str, str], name: str) -> int:
    text = row.get(name, "")
    if not _is_number(text):
        raise InputError("is no whole number from 0", field=name, value=text)
    return int(text)


def _is_number(text: str) -> bool:
    return text.isdecimal() and len(text) < 10  # more digits than any grade needs, and few enough to parse


def _known(highest: int | None) -> int:
    if highest is None:
        raise InputError(
            "is not known", field="highest", remedy="Add the column, or name the top of the scale: 1, 3 or 5"
        )
    return highest


def _time(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
        return time if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise InputError(
            "is no time", field="time", value=text, remedy="Write it like 2026-05-31T17:20:00+00:00"
        ) from error


def _fraction(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise InputError("is no number", field="confidence", value=text) from error


# --- Quepid ---------------------------------------------------------------------------------------

_BASIC = (["query", "docid"], ["query", "doc_id"])
_DETAILED = ("Query Text", "Doc ID", "Rating")
_UNRATED = ("", "--")
_FORMULA = ("-", "=", "+", "@")  # what a spreadsheet would run; Quepid, too, puts a blank before it


def _read_quepid(path: str | os.PathLike[str], source: Source) -> Iterator[Judgment]:
    ids: dict[str, str] = {}
    for query_id, query_text in source.queries.items():
        ids.setdefault(query_text, query_id)
    header: list[str] | None = None
    for line, cells in read_rows(path, delimiter=","):
        if header is None:
            header = cells
            query, product, raters = _quepid_columns(cells, path, line)
            continue
        if len(cells) != len(header):
            raise _wrong_length(cells, header, path, line)
        text = cells[query]
        for place, judge in raters.items():
            if cells[place] not in _UNRATED:
                row = {
                    "query_id": _id_of(text, ids, path, line),
                    "query": text,
                    "product_id": cells[product],
                    "grade": cells[place].removesuffix(".0"),  # ratings in books are decimal numbers
                    "judge": judge,
                }
                yield _judgment(row, source, path, line)


def _quepid_columns(
    cells: list[str], path: str | os.PathLike[str], line: int
) -> tuple[int, int, dict[int, str]]:
    """Return the places of query and product, and the judge, if named, by the place of the ratings."""
    if cells[:2] in _BASIC and len(cells) > 2:
        return 0, 1, {n: "" if name == "rating" else name for n, name in enumerate(cells) if n > 1}
    if all(cells.count(name) == 1 for name in _DETAILED):
        query, product, rating = map(cells.index, _DETAILED)
        return query, product, {rating: ""}
    raise InputError(
        "the header is none of Quepid's",
        path=path, line=line, value=",".join(cells),
        remedy=f"It begins with query,docid or names {', '.join(_DETAILED)}",
    )  # fmt: skip


def _id_of(text: str, ids: Mapping[str, str], path: str | os.PathLike[str], line: int) -> str:
    if ids and text not in ids:
        raise InputError("is not among the queries", path=path, line=line, field="query", value=text)
    return ids.get(text, text)


_READERS: dict[str, Callable[[str | os.PathLike[str], Source], Iterator[Judgment]]] = {
    "tsv": _read_tsv,
    "trec": _read_trec,
    "quepid": _read_quepid,
}

# --- writing --------------------------------------------------------------------------------------


def write_judgments(judgments: Iterable[Judgment], path: str | os.PathLike[str]) -> int:
    """Write judgments as TSV with every column; tabs and line breaks in queries and reasons become blanks.

    Args:
        judgments: written in their order, one at a time.
        path: the file to write or replace; its name ends in `.tsv`.

    Returns:
        How many were written.

    Raises:
        InputError: the name ends otherwise, or an id or a judge holds a tab or a line break.
    """
    if not str(path).endswith(".tsv"):
        raise InputError("judgments are written as TSV", path=path, remedy="Let the name end in .tsv")
    count = 0
    with replacing(path) as file:
        file.write(("\t".join(COLUMNS) + "\n").encode())
        for judgment in judgments:
            check_ids(path, judgment.query_id, judgment.product_id, judgment.judge)
            count += 1
            file.write(("\t".join(_cells(judgment)) + "\n").encode())
    return count


def _cells(judgment: Judgment) -> Iterator[str]:
    time, confidence = judgment.time.astimezone(UTC).isoformat(), judgment.confidence
    texts = {"time": time, "confidence": "" if confidence is None else str(confidence)}
    for name in COLUMNS:
        yield texts.get(name, str(getattr(judgment, name))).translate(_SEPARATORS)


def write_quepid(rows: Iterable[tuple[str, str, int]], path: str | os.PathLike[str]) -> int:
    """Write grades as the CSV that Quepid imports: `query,docid,rating`.

    Args:
        rows: (text of the query, product_id, grade).
        path: the file to write or replace.

    Returns:
        How many rows were written.

    Raises:
        InputError: a query has no text.
    """
    count = 0
    with replacing(path) as file:
        writer = csv.writer(getwriter("utf-8")(file), lineterminator="\n")
        writer.writerow(("query", "docid", "rating"))
        for query, product_id, grade in rows:
            if not query:
                raise InputError(
                    "its query has no text",
                    field="docid", value=product_id, remedy="Name a file with the texts of the queries",
                )  # fmt: skip
            safe = f" {query}" if query.startswith(_FORMULA) else query
            writer.writerow((safe.translate(_SEPARATORS), product_id, grade))
            count += 1
    return count
