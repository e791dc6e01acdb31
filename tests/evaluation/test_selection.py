import numpy as np
import pytest

from tilth.errors import InputError, SettingError
from tilth.evaluation.measures import measure, parse_measure
from tilth.evaluation.selection import Candidates, assemble, cross_validate, score_candidates
from tilth.qrels import Qrels
from tilth.run import make_run

IDS = ("q0", "q1", "q2", "q3")
QRELS = Qrels({q: {"a": 1} for q in IDS} | {"none": {"a": 0}})
RR = parse_measure("RR@10")
TABLE = Candidates(
    ("plain", "left", "right"),
    IDS,
    np.array([[0.5, 0.5, 0.5, 0.5], [0.9, 0.8, 0.0, 0.1], [0.0, 0.1, 0.9, 0.9]]),
)


def run_with_rank(name, ranks):
    hits = {
        q: {f"x{n}": -float(n) for n in range(1, rank)} | {"a": -float(rank)} for q, rank in ranks.items()
    }
    return make_run(name, hits)


def test_candidates_are_measured_as_any_run():
    runs = {
        "one": run_with_rank("one", dict.fromkeys(IDS, 2)),
        "two": run_with_rank("two", {"q0": 1, "q3": 4}),
    }
    found = score_candidates(iter(runs.items()), QRELS, RR)
    assert (found.names, found.query_ids) == (("one", "two"), (*IDS, "none"))
    assert np.array_equal(found.values, [measure(run, QRELS, [RR]).values[:, 0] for run in runs.values()])


def test_no_candidate_or_one_twice_is_refused():
    run = run_with_rank("r", {"q0": 1})
    with pytest.raises(SettingError, match="no candidate"):
        score_candidates([], QRELS, RR)
    with pytest.raises(SettingError, match="candidate 'r' occurs twice"):
        score_candidates([("r", run), ("r", run)], QRELS, RR)


@pytest.mark.parametrize(
    ("query_ids", "best"), [(IDS, "plain"), (("q0", "q1"), "left"), (("q2", "q3", "unjudged"), "right")]
)
def test_the_best_mean_on_the_given_queries_is_chosen(query_ids, best):
    assert TABLE.select(query_ids) == best


def test_the_first_of_equals_is_chosen_even_if_sums_differ_in_their_last_bits():
    values = np.array([[0.1, 0.2, 0.3], [0.3, 0.2, 0.1], [0.2, 0.2, 0.2 + 1e-15]])
    assert Candidates(("first", "second", "third"), ("a", "b", "c"), values).select("abc") == "first"


def test_choosing_on_nothing_is_refused():
    with pytest.raises(InputError, match="none of the queries to choose on is in the qrels"):
        TABLE.select(["unjudged"])


def test_a_query_without_a_relevant_product_lowers_all_means_alike_and_decides_nothing():
    runs = {
        "one": run_with_rank("one", {"q0": 2, "none": 1}),
        "two": run_with_rank("two", {"q0": 1}),
    }
    found = score_candidates(runs.items(), QRELS, RR)
    assert found.mean(["q0"]).tolist() == [0.5, 1]
    assert found.mean(["q0", "none"]).tolist() == [0.25, 0.5]
    assert found.select(["q0"]) == found.select(["q0", "none"]) == "two"
    assert found.select(["none"]) == "one"  # 0 under both: the first


def test_a_fold_is_answered_by_what_the_other_folds_chose():
    found = cross_validate(TABLE, [("q0", "q1"), ("q2", "unjudged"), ("q3",)])
    assert found.folds == ("right", "left", "left")  # without q2: 0.5, 0.6, 0.33; without q3: 0.5, 0.57, 0.33
    assert found.chosen == {"q0": "right", "q1": "right", "q2": "left", "q3": "left"}
    assert found.values == {"q0": 0.0, "q1": 0.1, "q2": 0.0, "q3": 0.1}
    assert found.mean() == pytest.approx(0.05)


def test_the_assembled_run_measures_as_the_cross_validation_says():
    runs = {
        "one": run_with_rank("one", {"q0": 1, "q1": 3, "q2": 2, "q3": 5}),
        "two": run_with_rank("two", {"q0": 2, "q1": 1, "q2": 9}),
    }
    found = cross_validate(score_candidates(runs.items(), QRELS, RR), [("q0", "q2"), ("q1", "q3", "none")])
    held_out = assemble(found.chosen, runs, "tuned")
    assert held_out.name == "tuned"
    assert measure(held_out, QRELS, [RR]).by_query("RR@10") == pytest.approx(dict(found.values))
