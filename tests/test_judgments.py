"""Judgments: what one may be, its scales, and the files that hold it."""

import gzip
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from itertools import product as every
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tilth.errors import InputError, SettingError
from tilth.judgments import (
    KINDS,
    SCALES,
    Judgment,
    Source,
    form_of,
    parse_mapping,
    read_judgments,
    rescaled,
    write_judgments,
    write_quepid,
)

NOON = datetime(2026, 5, 31, 12, tzinfo=UTC)
SOURCE = Source(time=NOON, judge="anna", highest=3)
ONE = Judgment(
    query_id="q1", query="", product_id="p1", grade=2, highest=3, judge="anna", kind="person", time=NOON
)


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


# --- one judgment ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"grade": 4}, r"field 'grade': is outside the scale 0-3 \(got 4\)"),
        ({"grade": -1}, "is outside the scale 0-3"),
        (
            {"highest": 4},
            r"field 'highest': is not the top of a scale \(got 4\). Scales are 0-1, 0-3 and 0-5",
        ),
        ({"kind": "robot"}, r"field 'kind': is none of person, model, clicks, bootstrap \(got 'robot'\)"),
        ({"time": datetime(2026, 5, 31)}, "field 'time': has no time zone"),
        ({"confidence": 1.5}, "field 'confidence': is not between 0 and 1"),
        ({"confidence": float("nan")}, "field 'confidence': is not between 0 and 1"),
        ({"judge": ""}, "field 'judge': cannot be empty"),
        ({"query_id": ""}, "field 'query_id': cannot be empty"),
        ({"product_id": ""}, "field 'product_id': cannot be empty"),
        ({"reason": "a\0b"}, "field 'reason': holds a NUL or half a character"),
        ({"query": "\ud800"}, "field 'query': holds a NUL or half a character"),
    ],
)
def test_what_is_no_judgment_is_refused(change: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        replace(ONE, **change)


# --- scales ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("highest", "to", "grades"),
    [
        (1, 3, [0, 3]),
        (1, 5, [0, 5]),
        (3, 1, [0, 0, 1, 1]),
        (3, 5, [0, 2, 3, 5]),
        (5, 1, [0, 0, 0, 1, 1, 1]),
        (5, 3, [0, 1, 1, 2, 2, 3]),
        (3, 3, [0, 1, 2, 3]),
    ],
)
def test_the_table_of_the_scales(highest: int, to: int, grades: list[int]) -> None:
    assert [rescaled(grade, highest, to) for grade in range(highest + 1)] == grades


def test_in_proportion_order_and_ends_are_kept_and_no_half_occurs() -> None:
    for highest, to in every(SCALES, SCALES):
        exact = [grade * to / highest for grade in range(highest + 1)]
        found = [rescaled(grade, highest, to) for grade in range(highest + 1)]
        assert all(abs(new - place) < 0.5 for new, place in zip(found, exact, strict=True))
        assert found == sorted(found)
        assert (found[0], found[-1]) == (0, to)
        if to >= highest:  # what a wider scale keeps apart comes back
            assert [rescaled(new, to, highest) for new in found] == list(range(highest + 1))


def test_a_declared_mapping_counts_for_its_scale_alone() -> None:
    declared = {3: parse_mapping("3:1, 0:0,1:1,2:1", 1)}
    assert [rescaled(grade, 3, 1, declared) for grade in range(4)] == [0, 1, 1, 1]
    assert rescaled(2, 5, 1, declared) == 0
    assert rescaled(2, 3, 3, declared) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0:0,1", "is no mapping of grades.*Write it like"),
        ("", "is no mapping of grades"),
        ("0:0:0,1:1", "is no mapping of grades"),
        ("0:0,1:-1", "is no mapping of grades"),
        ("0:0,1:0,2:1", "does not name every grade of a scale once"),
        ("0:0,1:0,1:0,3:1", "does not name every grade of a scale once"),
        ("0:0,2:1", "does not name every grade of a scale once"),
        ("0:0,1:2", r"leads out of the scale 0-1 \(got '0:0,1:2'\)"),
    ],
)
def test_a_mapping_that_cannot_be_used_is_named(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_mapping(text, 1)


# --- TSV ------------------------------------------------------------------------------------------


def test_three_columns_are_enough_and_the_rest_is_given(tmp_path: Path) -> None:
    path = written(tmp_path / "j.tsv", "grade\tproduct_id\tquery_id\tseen\n2\tp1\tq1\tyes\n")
    source = replace(SOURCE, kind="model", queries={"q1": "rose food"})
    assert list(read_judgments(path, source)) == [replace(ONE, kind="model", query="rose food")]


def test_a_list_that_is_half_judged_is_read_as_far_as_it_is(tmp_path: Path) -> None:
    path = written(tmp_path / "j.tsv", "query_id\tproduct_id\tgrade\nq1\tp0\t\nq1\tp1\t2\n")
    assert [each.product_id for each in read_judgments(path, SOURCE)] == ["p1"]


def test_what_the_file_says_counts(tmp_path: Path) -> None:
    header = "query_id\tquery\tproduct_id\tgrade\tjudge\tkind\ttime\treason\tprompt\tconfidence\thighest\n"
    row = 'q1\trose food\tp1\t4\tgpt\tmodel\t2026-05-31T14:00:00+02:00\tno "roses" in it\tab12\t0.75\t5\n'
    path = written(tmp_path / "j.tsv", header + row + "q1\t\tp2\t1\n")
    first, second = read_judgments(path, replace(SOURCE, queries={"q1": "roses"}))
    assert first == Judgment(
        query_id="q1", query="rose food", product_id="p1", grade=4, highest=5, judge="gpt", kind="model",
        time=NOON, reason='no "roses" in it', prompt="ab12", confidence=0.75,
    )  # fmt: skip
    assert second == replace(ONE, query="roses", product_id="p2", grade=1)


def test_a_rater_is_a_judge(tmp_path: Path) -> None:
    path = written(tmp_path / "ratings.tsv", "query_id\tproduct_id\trater\tgrade\nq1\tp1\trater-1\t2\n")
    assert list(read_judgments(path, SOURCE)) == [replace(ONE, judge="rater-1")]
    both = "query_id\tproduct_id\trater\tjudge\tgrade\nq1\tp1\trater-1\tbert\t2\n"
    assert next(read_judgments(written(path, both), SOURCE)).judge == "bert"


def test_files_are_read_as_they_are_asked_for(tmp_path: Path) -> None:
    path = written(tmp_path / "j.tsv", "query_id\tproduct_id\tgrade\nq1\tp1\t2\nq1\tp2\tgood\n")
    judgments = read_judgments(path, SOURCE)
    assert next(judgments) == ONE
    with pytest.raises(InputError, match=r"j.tsv:3, field 'grade'"):
        next(judgments)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("q1\tp1\tgood", r"j.tsv:2, field 'grade': is no whole number from 0 \(got 'good'\)"),
        ("q1\tp1", r":2, field 'grade': is no whole number from 0 \(got ''\)"),
        ("q1\tp1\t" + "1" * 5_000, ":2, field 'grade': is no whole number from 0"),
        ("q1\tp1\t4", r":2, field 'grade': is outside the scale 0-3 \(got 4\)"),
        ("q1\t\t1", ":2, field 'product_id': cannot be empty"),
        ("q1\tp1\t1\tyesterday", r":2, field 'time': is no time \(got 'yesterday'\). Write it like"),
        ("q1\tp1\t1\t0001-01-01T00:00:00+14:00", ":2, field 'time': is no time"),
        ("q1\tp1\t1\t2026-05-31", ":2, field 'time': has no time zone"),
        ("q1\tp1\t1\t\tsure", ":2, field 'confidence': is no number"),
        ("q1\tp1\t1\t\t-1", ":2, field 'confidence': is not between 0 and 1"),
        ("q1\tp1\t1\t\t\t7", ":2, field 'highest': is not the top of a scale"),
        ("q1\tp1\t1\t\t\t3\tx", ":2: the row has 7 cells, and there are 6 columns"),
    ],
)
def test_a_cell_that_cannot_be_used_is_named(tmp_path: Path, row: str, message: str) -> None:
    header = "query_id\tproduct_id\tgrade\ttime\tconfidence\thighest\n"
    with pytest.raises(InputError, match=message):
        list(read_judgments(written(tmp_path / "j.tsv", f"{header}{row}\n"), SOURCE))


def test_what_nobody_says_is_asked_for(tmp_path: Path) -> None:
    path = written(tmp_path / "j.tsv", "query_id\tproduct_id\tgrade\nq1\tp1\t1\n")
    with pytest.raises(InputError, match=r"j.tsv:2, field 'highest': is not known. Add the column, or name"):
        list(read_judgments(path, replace(SOURCE, highest=None)))
    with pytest.raises(InputError, match=r"j.tsv:2, field 'judge': cannot be empty"):
        list(read_judgments(path, replace(SOURCE, judge="")))


@pytest.mark.parametrize(
    "header", ["query_id\tproduct_id\tlabel", "query_id\tproduct_id\tgrade\tgrade", "q1\tp1\t2"]
)
def test_the_header_is_checked(tmp_path: Path, header: str) -> None:
    with pytest.raises(InputError, match=r":1: the header needs one column '(grade|query_id)'"):
        list(read_judgments(written(tmp_path / "j.tsv", f"{header}\n"), SOURCE))


texts = st.text(st.characters(codec="utf-8", exclude_categories=["Z", "C"]), max_size=8)
names = texts.filter(bool)
judgments = st.builds(
    lambda highest, share, zone, **values: Judgment(
        grade=round(share * highest),
        highest=highest,
        **{**values, "time": values["time"].replace(tzinfo=timezone(timedelta(hours=zone)))},
    ),
    highest=st.sampled_from(SCALES),
    share=st.floats(0, 1),
    zone=st.integers(-12, 12),
    query_id=names,
    query=texts,
    product_id=names,
    judge=names,
    kind=st.sampled_from(KINDS),
    time=st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1)),
    reason=texts,
    prompt=texts,
    confidence=st.none() | st.floats(0, 1),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(table=st.lists(judgments, max_size=5))
def test_what_is_written_reads_back(tmp_path: Path, table: list[Judgment]) -> None:
    path = tmp_path / "log.tsv"
    assert write_judgments(table, path) == len(table)
    assert list(read_judgments(path, SOURCE)) == table


def test_line_breaks_in_reasons_become_blanks_and_ids_with_them_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.tsv"
    write_judgments([replace(ONE, reason="no\troses\r\nat all", query="rose\nfood")], path)
    (found,) = read_judgments(path, SOURCE)
    assert (found.reason, found.query) == ("no roses  at all", "rose food")
    for name in ("query_id", "product_id", "judge"):
        with pytest.raises(InputError, match="cannot be empty or hold a separator"):
            write_judgments([replace(ONE, **{name: "a\tb"})], path)
    assert list(read_judgments(path, SOURCE)) == [found]
    with pytest.raises(InputError, match=r"log.txt: judgments are written as TSV. Let the name end in .tsv"):
        write_judgments([ONE], tmp_path / "log.txt")


# --- TREC and Quepid ------------------------------------------------------------------------------


def test_the_format_is_known_by_the_name() -> None:
    assert [form_of(name) for name in ("a.tsv", "b.csv.gz", Path("c.qrels"), "d.txt")] == [
        "tsv", "quepid", "trec", "trec",
    ]  # fmt: skip


def test_trec_has_its_judge_from_outside(tmp_path: Path) -> None:
    path = tmp_path / "qrels.txt.gz"
    path.write_bytes(gzip.compress(b"q1 0 p1 2\nq1\tQ0\tp2\t0\n"))
    assert list(read_judgments(path, SOURCE)) == [ONE, replace(ONE, product_id="p2", grade=0)]
    with pytest.raises(InputError, match=r":1, field 'grade': is no whole number from 0 \(got '-2'\)"):
        list(read_judgments(written(tmp_path / "a", "q1 0 p1 -2\n"), SOURCE))
    with pytest.raises(InputError, match=r":1: the row has 3 cells, and there are 4 columns"):
        list(read_judgments(written(tmp_path / "a", "q1 p1 2\n"), SOURCE))
    with pytest.raises(SettingError, match="no format 'xml'; there are tsv, trec, quepid"):
        read_judgments(path, SOURCE, form="xml")


def test_the_export_of_a_case(tmp_path: Path) -> None:
    text = 'query,docid,rating\r\n"garden hose, 1/2""",p1,2\r\n -5 C gloves,p2,0\r\nsnails,,\r\nroses,p3,\r\n'
    path = written(tmp_path / "case_1_judgements.csv", text)
    first, second = read_judgments(path, SOURCE)
    hose = 'garden hose, 1/2"'
    assert first == replace(ONE, query_id=hose, query=hose)
    assert (second.query_id, second.product_id, second.grade) == ("-5 C gloves", "p2", 0)
    queries = {"q7": hose, "q8": "-5 C gloves", "q9": hose}
    ids = [each.query_id for each in read_judgments(path, replace(SOURCE, queries=queries))]
    assert ids == ["q7", "q8"]
    with pytest.raises(
        InputError, match=r":3, field 'query': is not among the queries \(got '-5 C gloves'\)"
    ):
        list(read_judgments(path, replace(SOURCE, queries={"q7": hose})))


def test_the_export_of_a_book_names_its_judges(tmp_path: Path) -> None:
    path = written(tmp_path / "book.csv", "query,docid,Anna K.,Unknown\nroses,p1,2.0,\nroses,p2,,1\n")
    found = [(each.product_id, each.judge, each.grade) for each in read_judgments(path, SOURCE)]
    assert found == [("p1", "Anna K.", 2), ("p2", "Unknown", 1)]
    with pytest.raises(InputError, match=r":2, field 'grade': is no whole number from 0 \(got '1.5'\)"):
        list(read_judgments(written(path, "query,docid,Anna\nroses,p1,1.5\n"), SOURCE))


def test_the_detailed_export(tmp_path: Path) -> None:
    header = "Team Name,Case Name,Case ID,Query Text,Doc ID,Title,Rating,brand\n"
    path = written(tmp_path / "d.csv", header + "T,C,1,roses,p1,Food,3,Humus\nT,C,1,roses,p2,Feed,--,Humus\n")
    (found,) = read_judgments(path, SOURCE)
    assert (found.query, found.product_id, found.grade, found.judge) == ("roses", "p1", 3, "anna")


def test_other_csv_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r":1: the header is none of Quepid's"):
        list(read_judgments(written(tmp_path / "a.csv", "q,d,r\nroses,p1,1\n"), SOURCE))
    with pytest.raises(InputError, match=r":2: the row has 2 cells, and there are 3 columns"):
        list(read_judgments(written(tmp_path / "a.csv", "query,docid,rating\nroses,p1\n"), SOURCE))


def test_quepid_reads_what_is_written(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    rows = [('hose, 1/2"', "p1", 3), ("=1+1", "p2", 0)]
    assert write_quepid(rows, path) == 2
    assert path.read_text() == 'query,docid,rating\n"hose, 1/2""",p1,3\n =1+1,p2,0\n'
    found = [(each.query, each.product_id, each.grade) for each in read_judgments(path, SOURCE)]
    assert found == rows
    with pytest.raises(InputError, match=r"field 'docid': its query has no text \(got 'p3'\)"):
        write_quepid([("", "p3", 1)], path)
    assert path.read_text().startswith('query,docid,rating\n"hose')
