import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tilth.errors import InputError
from tilth.qrels import Qrels, read_qrels, write_qrels

ids = st.text(st.characters(codec="utf-8", exclude_categories=["Z", "C"]), min_size=1, max_size=8)
grades = st.dictionaries(ids, st.integers(0, 5), min_size=1, max_size=5)


def write(path, text):
    path.write_text(text)
    return path


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(table=st.dictionaries(ids, grades, min_size=1, max_size=4))
def test_what_is_written_reads_back(tmp_path, table):
    for name in ("qrels.tsv", "qrels.trec"):
        write_qrels(Qrels(table), tmp_path / name)
        assert read_qrels(tmp_path / name) == Qrels(table)


@pytest.mark.parametrize(
    "text",
    [
        "q1\tp1\t3\nq1\tp2\t0\n",
        "query_id\tproduct_id\tgrade\nq1\tp1\t3\nq1\tp2\t0\n",
        "query_id product_id grade\nq1 p1 3\nq1 p2 0\n",
        "product_id\tjudge\tgrade\tquery_id\np1\t\t3\tq1\np2\tsomebody\t0\tq1\n",
        "q1 0 p1 3\nq1 0 p2 0\n",
        "q1\tQ0\tp1\t3\n\nq1\tQ0\tp2\t0\nq1\tQ0\tp2\t0\n",
    ],
)
def test_every_form_gives_the_same_qrels(tmp_path, text):
    assert read_qrels(write(tmp_path / "q", text)) == Qrels({"q1": {"p1": 3, "p2": 0}})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no judgments"),
        ("query_id\tproduct_id\tgrade\n", "holds no judgments"),
        ("query_id\tproduct_id\tlabel\nq\tp\t1\n", ":1: the header needs one column 'grade'"),
        ("query_id\tproduct_id\tgrade\nq\tp\n", ":2: a row of qrels needs 3 cells"),
        ("q\tp\n", ":1: a row of qrels needs 3 cells"),
        ("q\t\t3\n", ":1: a row of qrels needs 3 cells"),
        ("q p 1.5\n", ":1, field 'grade': grade is not a whole number from 0 to 100"),
        ("q p -1\n", "grade is not a whole number"),
        ("q p 1698000000\n", "grade is not a whole number"),
        ("q p 1\nq p 2\n", ":2, field 'grade': query 'q' and product 'p' have the grade 1 above"),
    ],
)
def test_broken_rows_are_named(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        read_qrels(write(tmp_path / "q", text))


def test_only_some_queries():
    qrels = Qrels({"a": {"p": 1}, "b": {"p": 0}})
    assert list(qrels.only(["b", "zz"])) == ["b"]
    assert (len(qrels), qrels["a"]) == (2, {"p": 1})
