import numpy as np
import pytest

from tilth.errors import InputError, SettingError
from tilth.evaluation.measures import (
    DEFAULT,
    judged_only,
    measure,
    parse_measure,
    parse_measures,
    relevant_queries,
)
from tilth.qrels import Qrels
from tilth.run import make_run

QRELS = Qrels({"q1": {"a": 3, "b": 1, "c": 0}, "q2": {"a": 2}, "none": {"a": 0, "b": 0}})


def run_of(**queries):
    """A run whose hits stand in the order given."""
    return make_run("r", {q: {p: -float(n) for n, p in enumerate(ids)} for q, ids in queries.items()})


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("nDCG@10", "nDCG@10"),
        ("ndcg@10", "nDCG@10"),
        (" Recall@100 ", "R@100"),
        ("MRR@10", "RR@10"),
        ("RR", "RR"),
        ("map", "AP"),
        ("success@10", "Success@10"),
        ("P(rel=1)@5", "P@5"),
        ("P( rel = 2 , judged_only = True )@5", "P(rel=2,judged_only=True)@5"),
        ("nDCG(judged_only=False)@5", "nDCG@5"),
    ],
)
def test_names_have_one_canonical_form(name, canonical):
    assert str(parse_measure(name)) == canonical
    assert parse_measure(canonical) == parse_measure(name)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "not a known measure"),
        ("ERR@10", "not a known measure"),
        ("nDCG@ten", "not a known measure"),
        ("nDCG@0", "not a known measure"),
        ("nDCG@-1", "not a known measure"),
        ("__import__('os')", "not a known measure"),
        ("R", "R needs a cutoff, as in R@10"),
        ("nDCG(rel=2)@10", "nDCG has no such setting"),
        ("Judged(judged_only=True)@10", "Judged has no such setting"),
        ("P(rel=0)@5", "the settings are"),
        ("P(depth=3)@5", "the settings are"),
        ("P(judged_only)@5", "the settings are"),
    ],
)
def test_unknown_measures_are_named_with_examples(name, reason):
    with pytest.raises(SettingError, match=f"{reason}.*Write for example nDCG@10, R@100"):
        parse_measure(name)


def test_a_lowest_relevant_grade_becomes_part_of_the_name():
    names = [
        str(m) for m in parse_measures(["nDCG@10", "P@5", "P@5", "R(rel=3)@10", "Judged@10"], relevant=2)
    ]
    assert names == ["nDCG@10", "P(rel=2)@5", "R(rel=3)@10", "Judged@10"]
    with pytest.raises(SettingError, match="from 1, not 0"):
        parse_measures(["P@5"], relevant=0)


def test_judged_only_variants():
    assert [str(m) for m in judged_only(parse_measures(["nDCG@10", "Judged@10", "P(rel=2)@5"]))] == [
        "nDCG(judged_only=True)@10",
        "P(rel=2,judged_only=True)@5",
    ]


def test_values_by_hand():
    found = measure(run_of(q1=["x", "b", "a", "c"], q2=["a"], none=["a", "x"]), QRELS)
    ideal = 3 + 1 / np.log2(3)
    assert found.query_ids == ("q1", "q2", "none")
    assert found.by_query("nDCG@10") == pytest.approx(
        {"q1": (1 / np.log2(3) + 3 / 2) / ideal, "q2": 1, "none": 0}
    )
    assert found.by_query("R@100") == {"q1": 1, "q2": 1, "none": 0}
    assert found.by_query("RR@10") == {"q1": 0.5, "q2": 1, "none": 0}
    assert found.by_query("P@5") == pytest.approx({"q1": 2 / 5, "q2": 1 / 5, "none": 0})
    assert found.by_query("Judged@10") == {"q1": 0.75, "q2": 1, "none": 0.5}
    assert found.mean()["RR@10"] == (0.5 + 1 + 0) / 3


def test_judged_only_takes_unjudged_products_out_before_it_counts_ranks():
    ranking = run_of(q1=[*[f"x{n}" for n in range(200)], "b", "y", "a"], q2=["z"])
    measures = judged_only(parse_measures(["nDCG@2", "RR@1", "P@2", "R@1", "AP"]))
    alone = measure(run_of(q1=["b", "a"]), QRELS, parse_measures(["nDCG@2", "RR@1", "P@2", "R@1", "AP"]))
    assert np.array_equal(measure(ranking, QRELS, measures).values, alone.values)


def test_the_lowest_relevant_grade_counts():
    found = measure(
        run_of(q1=["b", "a"], q2=["a"]), QRELS, parse_measures(["RR@10", "P@1", "R@1"], relevant=3)
    )
    assert found.by_query("RR(rel=3)@10") == {"q1": 0.5, "q2": 0, "none": 0}
    assert found.mean() == pytest.approx({"RR(rel=3)@10": 0.5 / 3, "P(rel=3)@1": 0, "R(rel=3)@1": 0})


def test_a_query_that_the_run_lacks_or_leaves_empty_has_0():
    for run in (run_of(q1=["a"]), run_of(q1=["a"], q2=[], other=["a"])):
        found = measure(run, QRELS, DEFAULT + judged_only(DEFAULT))
        assert found.query_ids == ("q1", "q2", "none")
        assert not found.values[1:].any()
        assert found.values[0].all()


def test_a_query_without_a_relevant_product_has_0_in_all_but_judged():
    measures = parse_measures(["nDCG@10", "R@100", "RR", "P@5", "AP", "Success@10"])
    found = measure(run_of(none=["a", "b"]), QRELS, (*measures, *judged_only(measures)))
    assert not found.only(["none"]).values.any()
    judged = measure(run_of(none=["a", "b"]), QRELS, parse_measures(["Judged@10"]))
    assert judged.by_query("Judged@10") == {"q1": 0, "q2": 0, "none": 1}


def test_qrels_without_any_relevant_product_are_refused():
    assert relevant_queries(QRELS) == ("q1", "q2")
    with pytest.raises(InputError, match="no query of the qrels has a product of a grade above 0"):
        measure(run_of(none=["a"]), QRELS.only(["none"]))


def test_the_order_of_the_run_is_measured_where_scores_are_equal():
    qrels = Qrels({"q": {"a": 1}, "p": {"z": 1}})
    tied = make_run("tied", {"q": {"a": 1.0, "z": 1.0}, "p": {"a": 1.0, "z": 1.0}})
    measures = parse_measures(["nDCG@1", "RR", "RR@1", "P@1", "AP"])
    assert np.array_equal(measure(tied, qrels, measures).values, [[1, 1, 1, 1, 1], [0, 0.5, 0, 0, 0.5]])


def test_a_measure_without_cutoff_sees_the_whole_run():
    ranking = run_of(q1=[*[f"x{n}" for n in range(300)], "a"])
    found = measure(ranking, QRELS.only(["q1"]), parse_measures(["RR", "RR@10", "AP"]))
    assert found.mean() == pytest.approx({"RR": 1 / 301, "RR@10": 0, "AP": 1 / 301 / 2})


def test_some_queries_in_the_order_they_have():
    found = measure(run_of(q1=["a"], q2=["a"]), QRELS)
    assert found.only(["q2", "zz"]).by_query("RR@10") == {"q2": 1}
    assert found.only(["q2", "q1"]).query_ids == ("q1", "q2")
    with pytest.raises(ValueError, match="not in tuple"):
        found["nDCG@5"]
