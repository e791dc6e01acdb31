import gzip
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tilth.errors import InputError
from tilth.feedback import Impression, read_impressions, write_impressions

words = st.text(st.characters(codec="utf-8", exclude_categories=["Z", "C"]), min_size=1, max_size=6)
texts = st.lists(words, min_size=1, max_size=3).map(" ".join)


@st.composite
def impressions(draw):
    shown = tuple(draw(st.lists(words, min_size=1, max_size=5, unique=True)))
    clicked = tuple(sorted(draw(st.sets(st.integers(1, len(shown))))))
    times = st.datetimes(datetime(1970, 1, 2), datetime(2200, 1, 1), timezones=st.just(UTC))
    return Impression(
        draw(words), draw(texts), shown, clicked, draw(texts | st.just("")), draw(times | st.none())
    )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(log=st.lists(impressions(), min_size=1, max_size=4))
def test_what_is_written_reads_back(tmp_path, log):
    for name in ("log.jsonl", "log.tsv"):
        write_impressions(iter(log), tmp_path / name)
        assert list(read_impressions(tmp_path / name)) == log


def write(path, text):
    path.write_text(text)
    return path


PAGE = Impression("q1", "red rose", ("p1", "p2", "p3"), (1, 3))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "l.jsonl",
            '{"query_id":"q1","query":"red rose","shown":["p1","p2","p3"],"clicked":[3,1,3],"x":1}\n',
        ),
        ("l.jsonl", '{"query_id":\t"q1","query":"red rose",\t"shown":["p1","p2","p3"],"clicked":[1,3]}\n\n'),
        ("l.tsv", "q1\tred rose\tp1 p2 p3\t1 3\n"),
        ("l.tsv", "query\tquery_id\tnote\tclicked\tshown\nred rose\tq1\tno\t3 1\tp1 p2 p3\n"),
    ],
)
def test_every_form_gives_the_same_page(tmp_path, name, text):
    assert list(read_impressions(write(tmp_path / name, text))) == [PAGE]


def test_arm_time_and_a_page_without_clicks(tmp_path):
    rows = "query_id\tquery\tshown\tclicked\tarm\ttime\nq\trose\tp\t\tB\t2026-01-31T14:00:00+02:00\n"
    expected = Impression("q", "rose", ("p",), (), "B", datetime(2026, 1, 31, 12, tzinfo=UTC))
    assert list(read_impressions(write(tmp_path / "l.tsv", rows))) == [expected]


def test_gzip_is_unpacked(tmp_path):
    (tmp_path / "l.tsv.gz").write_bytes(gzip.compress(b"q1\tred rose\tp1 p2 p3\t1 3\n"))
    assert list(read_impressions(tmp_path / "l.tsv.gz")) == [PAGE]


def line(**changed):
    import orjson

    values = {"query_id": "q", "query": "rose", "shown": ["p"], "clicked": []} | changed
    return orjson.dumps({k: v for k, v in values.items() if v is not None}).decode() + "\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no impressions"),
        (line() + "{\n", ":2: invalid JSON"),
        ("[1]\n", ":1: not a JSON object"),
        (line(query_id=None), ":1, field 'query_id': must be a text"),
        (line(query_id=7), "field 'query_id': must be a text that is not empty \\(got 7\\)"),
        (line(query=""), "field 'query': must be a text"),
        (line(shown=[]), "field 'shown': must be the product ids"),
        (line(shown="p"), "field 'shown'"),
        (line(shown=["p", 1]), "field 'shown'"),
        (line(shown=["p", "p"]), "field 'shown': a product occurs twice"),
        (line(clicked=None), "field 'clicked': must be the ranks"),
        (line(clicked=[True]), "field 'clicked': must be the ranks"),
        (line() + line(clicked=[2]), ":2, field 'clicked': ranks of this page are from 1 to 1"),
        (line(clicked=[0]), "from 1 to 1"),
        (line(arm=3), "field 'arm': must be a text"),
        (line(time="yesterday"), "field 'time': must be ISO 8601"),
        (line(time="2026-01-31T12:00:00"), "field 'time'"),
        (line(time=5), "field 'time'"),
    ],
)
def test_broken_json_lines_are_named(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        list(read_impressions(write(tmp_path / "l.jsonl", text)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("query_id\tquery\tshown\tclicked\n", "holds no impressions"),
        ("query_id\tquery\tshown\n", ":1: the header needs one column 'clicked'"),
        ("q\trose\tp\n", ":1: a row of a log needs 4 cells"),
        ("q\trose\t\t\n", ":1, field 'shown'"),
        ("q\trose\tp\tone\n", ":1, field 'clicked': a clicked rank is not a whole number"),
        ("q\trose\tp\t99999999999999999999\n", "from 1 to 1"),
    ],
)
def test_broken_rows_are_named(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        list(read_impressions(write(tmp_path / "l.tsv", text)))


def test_reading_streams(tmp_path):
    log = read_impressions(write(tmp_path / "l.tsv", "q1\tred rose\tp1 p2 p3\t1 3\nbroken\n"))
    assert next(log) == PAGE
    with pytest.raises(InputError, match=":2"):
        next(log)


@pytest.mark.parametrize(
    ("page", "message"),
    [
        (Impression("q", "a\tb", ("p",)), "separator"),
        (Impression("q", "rose", ("big pot",)), "field 'shown': an id in a list cannot hold a blank"),
    ],
)
def test_tsv_refuses_what_it_cannot_hold_and_json_takes_it(tmp_path, page, message):
    with pytest.raises(InputError, match=message):
        write_impressions([page], tmp_path / "l.tsv")
    assert not (tmp_path / "l.tsv").exists()
    write_impressions([page], tmp_path / "l.jsonl")
    assert list(read_impressions(tmp_path / "l.jsonl")) == [page]
