import json

import pytest

from tilth.evaluation.experiment import compare, evaluate
from tilth.evaluation.measures import parse_measures
from tilth.evaluation.report import comparison_report, evaluation_report
from tilth.qrels import Qrels
from tilth.query import Query
from tilth.run import make_run

QRELS = Qrels({"q1": {"a": 1}, "q2": {"a": 1, "b": 1}, "none": {"a": 0}})
QUERIES = [
    Query("q1", "pot", "type"),
    Query("q2", "clay pot", "type"),
    Query("none", "ski", "none"),
    Query("unjudged", "sledge", "new"),
]
RUNS = {
    "lexical": make_run("lexical", {"q1": {"a": 1.0}, "q2": {"x": 2.0, "b": 1.0}}),
    "dense": make_run("dense", {"q1": {"x": 2.0, "a": 1.0}}),
}
MEASURES = parse_measures(["RR@10", "P@1"])


def test_an_evaluation_as_plain_data():
    found = evaluate(RUNS, QRELS, queries=QUERIES, measures=MEASURES, baseline="lexical")
    report = json.loads(json.dumps(evaluation_report(found, per_query=True)))
    assert report["measures"] == ["RR@10", "P@1"]
    assert (report["queries"], report["queries_without_relevant"], report["queries_unjudged"]) == (3, 1, 1)
    assert report["unanswered"] == {"lexical": 1, "dense": 2}
    assert report["systems"]["lexical"] == pytest.approx({"RR@10": (1 + 0.5 + 0) / 3, "P@1": 1 / 3})
    assert report["systems"]["dense"] == pytest.approx({"RR@10": (0.5 + 0 + 0) / 3, "P@1": 0})
    assert report["intervals"]["dense"]["RR@10"] == [0.0, 0.5]
    assert report["differences"][0] == {
        "system": "dense", "baseline": "lexical", "measure": "RR@10", "difference": pytest.approx(-1 / 3),
        "low": -0.5, "high": 0.0, "p": 0.5, "won": 0, "lost": 2,
    }  # fmt: skip
    assert report["slices"]["kind"] == {  # the slice `new` has no measured query
        "type": {
            "queries": 2,
            "systems": {"lexical": {"RR@10": 0.75, "P@1": 0.5}, "dense": {"RR@10": 0.25, "P@1": 0.0}},
        },
        "none": {
            "queries": 1,
            "systems": {"lexical": {"RR@10": 0.0, "P@1": 0.0}, "dense": {"RR@10": 0.0, "P@1": 0.0}},
        },
    }
    assert report["slices"]["length"]["2"] == {
        "queries": 1,
        "systems": {"lexical": {"RR@10": 0.5, "P@1": 0.0}, "dense": {"RR@10": 0.0, "P@1": 0.0}},
    }
    assert report["per_query"]["dense"]["RR@10"] == {"q1": 0.5, "q2": 0.0, "none": 0.0}


def test_without_queries_there_are_no_slices_and_values_per_query_only_on_demand():
    report = evaluation_report(evaluate(RUNS, QRELS))
    assert report["slices"] == {}
    assert "per_query" not in report


def test_a_comparison_as_plain_data():
    found = compare(RUNS["lexical"], RUNS["dense"], QRELS, queries=QUERIES, measures=MEASURES)
    report = json.loads(json.dumps(comparison_report(found, most=1)))
    assert (report["measures"], report["queries"], report["ordered_by"]) == (["RR@10", "P@1"], 3, "RR@10")
    assert (report["baseline"]["RR@10"], report["system"]["RR@10"]) == pytest.approx((1.5 / 3, 0.5 / 3))
    assert report["differences"][0]["difference"] == pytest.approx(-1 / 3)
    assert report["won"] == []
    assert report["lost"] == [
        {"query_id": "q2", "text": "clay pot", "baseline": 0.5, "system": 0.0, "difference": -0.5}
    ]
