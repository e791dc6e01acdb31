import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tilth.errors import InputError
from tilth.run import Hit, Run, make_run, ranked, read_run, write_run

ids = st.text(st.characters(codec="utf-8", exclude_categories=["Z", "C"]), min_size=1, max_size=8)
scores = st.floats(allow_nan=False, allow_infinity=False)


def test_hits_are_ordered_by_score_then_product_id():
    assert [hit.product_id for hit in ranked({"b": 1.0, "a": 1.0, "c": 2.0, "d": -math.inf})] == list("cabd")


def test_a_nan_score_has_no_rank():
    with pytest.raises(InputError, match="field 'p7': a score is not a number"):
        ranked({"p1": 1.0, "p7": math.nan})


def test_a_run_is_a_mapping_of_queries():
    run = make_run("r", {"q1": {"a": 1.0, "b": 2.0, "c": 0.5}, "q2": {}})
    assert (list(run), len(run), run["q2"]) == (["q1", "q2"], 2, ())
    assert run.top(2)["q1"] == (Hit("b", 2.0), Hit("a", 1.0))
    assert run.top(0)["q1"] == ()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(table=st.dictionaries(ids, st.dictionaries(ids, scores, min_size=1, max_size=5), max_size=4))
def test_what_is_written_reads_back_exactly(tmp_path, table):
    run = make_run("mine", table)
    for name in ("mine.trec", "mine.tsv"):
        write_run(run, tmp_path / name)
        if table or name.endswith(".tsv"):
            assert read_run(tmp_path / name) == run


def test_trec_form(tmp_path):
    write_run(Run("two words", {"q": (Hit("b", np.float32(0.5)), Hit("a", 0.25))}), tmp_path / "r")
    assert (tmp_path / "r").read_text() == "q Q0 b 1 0.5 two_words\nq Q0 a 2 0.25 two_words\n"


def test_tsv_keeps_ids_with_blanks_and_trec_refuses_them(tmp_path):
    run = make_run("r", {"q 1": {"big pot": 1.0}})
    write_run(run, tmp_path / "r.tsv")
    assert read_run(tmp_path / "r.tsv") == run
    with pytest.raises(InputError, match="got 'q 1'"):
        write_run(run, tmp_path / "r.trec")
    assert not (tmp_path / "r.trec").exists()


def test_order_comes_from_scores_not_from_ranks_in_the_file(tmp_path):
    path = tmp_path / "r"
    path.write_text("q Q0 a 1 0.1 bm25\nq Q0 b 2 9 bm25\n")
    assert read_run(path) == make_run("bm25", {"q": {"a": 0.1, "b": 9.0}})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no hits"),
        ("q a\n", r":1: a run has 6 columns \(TREC\) or 3"),
        ("q\t\t3\n", r":1: a run has 6 columns"),
        ("q a 1\nq a 2\n", ":2: product occurs twice for query 'q'"),
        ("q a 1\nq b high\n", ":2, field 'score': score is not a finite number"),
        ("q a nan\n", ":1, field 'score': score is not a finite number"),
        ("q Q0 a 1 inf x\n", "score is not a finite number"),
    ],
)
def test_broken_rows_are_named(tmp_path, text, message):
    path = tmp_path / "r"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_run(path)
