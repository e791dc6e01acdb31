import numpy as np
import pytest

from tilth.errors import InputError, SettingError
from tilth.evaluation.experiment import compare, evaluate
from tilth.evaluation.measures import measure, parse_measures
from tilth.evaluation.significance import bootstrap_intervals, randomisation_test
from tilth.qrels import Qrels
from tilth.query import Query
from tilth.run import make_run

IDS = [f"q{n}" for n in range(8)]
QRELS = Qrels({q: {"a": 3, "b": 1} for q in IDS} | {"none": {"a": 0}})
QUERIES = [Query(q, f"text of {q}", "even" if n % 2 == 0 else "odd") for n, q in enumerate(IDS)]
MEASURES = parse_measures(["RR@10", "nDCG@10"])
GOOD = make_run("good", {q: {"a": 2.0, "b": 1.0} for q in IDS})
BAD = make_run("bad", {q: {"x": 2.0, "a": 1.0} for q in IDS[:6]} | {"q6": {"b": 1.0}, "q7": {}})


def test_every_system_has_values_and_intervals_of_its_own():
    found = evaluate({"good": GOOD, "bad": BAD}, QRELS, measures=MEASURES)
    for name, run in {"good": GOOD, "bad": BAD}.items():
        alone = measure(run, QRELS, MEASURES)
        assert np.array_equal(found.systems[name].values, alone.values)
        assert np.array_equal(found.intervals[name], bootstrap_intervals(alone.values, seed=0))
    assert found.differences == ()
    assert found.without_relevant == 1
    assert found.unanswered == {"good": 1, "bad": 2}  # neither has hits for `none`; bad has none for q7


def test_differences_are_system_minus_baseline():
    found = evaluate(
        {"bad": BAD, "good": GOOD, "same": BAD}, QRELS, measures=MEASURES, baseline="bad", seed=5
    )
    paired = found.systems["good"].values - found.systems["bad"].values
    first = found.differences[0]
    assert [(d.system, d.measure) for d in found.differences] == [
        ("good", "RR@10"), ("good", "nDCG@10"), ("same", "RR@10"), ("same", "nDCG@10"),
    ]  # fmt: skip
    assert first.difference == pytest.approx((6 * 0.5 + 1) / 9)  # 0 in q6 and `none`
    assert [first.low, first.high] == bootstrap_intervals(paired, seed=5)[0].tolist()
    assert first.p == randomisation_test(paired, seed=5)[0] == 2 / 2**7  # q0 to q5 and q7 differ
    assert (first.won, first.lost) == (7, 0)
    assert found.differences[2].p == 1


def test_queries_restrict_what_is_measured_and_name_the_slices():
    queries = [*QUERIES[:2], Query("none", "ski", "none"), Query("new", "sledge", "even")]
    found = evaluate({"good": GOOD}, QRELS, queries=queries, measures=MEASURES)
    assert found.systems["good"].query_ids == ("q0", "q1", "none")
    assert (found.without_relevant, found.unjudged) == (1, 1)
    assert found.groups["kind"]["even"] == ("q0", "new")


def test_what_cannot_be_evaluated_is_named():
    with pytest.raises(SettingError, match="at least one run"):
        evaluate({}, QRELS)
    with pytest.raises(SettingError, match="one run and one measure"):
        evaluate({"good": GOOD}, QRELS, measures=())
    with pytest.raises(SettingError, match="no system 'best' to compare with: there are good, bad"):
        evaluate({"good": GOOD, "bad": BAD}, QRELS, baseline="best")
    with pytest.raises(
        InputError, match="runs and qrels share no query: a run has 'Q0', the qrels have 'q0'"
    ):
        evaluate({"other": make_run("other", {"Q0": {"a": 1.0}})}, QRELS)
    with pytest.raises(InputError, match="queries and qrels share no query: a query has the id 'Q0'"):
        evaluate({"good": GOOD}, QRELS, queries=[Query("Q0", "pot")])
    with pytest.raises(InputError, match="no query of the qrels has a product of a grade above 0"):
        evaluate({"good": GOOD}, QRELS, queries=[Query("none", "ski")])


def test_runs_without_any_hit_are_measured_as_0():
    assert evaluate({"empty": make_run("empty", {})}, QRELS).systems["empty"].mean()["RR@10"] == 0


def test_a_comparison_lists_the_queries_that_won_and_lost_most():
    mixed = make_run("mixed", {q: dict(GOOD[q]) for q in IDS[:6]} | {"q6": {"x": 2.0, "b": 1.0}})
    found = compare(BAD, mixed, QRELS, queries=QUERIES, measures=MEASURES)
    assert found.measure == "RR@10"
    assert [(c.query_id, c.text, c.baseline, c.system) for c in found.won(2)] == [
        ("q0", "text of q0", 0.5, 1.0),
        ("q1", "text of q1", 0.5, 1.0),
    ]
    assert [(c.query_id, c.difference) for c in found.lost()] == [("q6", -0.5)]
    assert len(found.changes) == 7  # q7 is 0 under both
    assert (found.differences[0].won, found.differences[0].lost) == (6, 1)
    assert (found.differences[0].system, found.differences[0].baseline) == ("mixed", "bad")


def test_a_comparison_needs_measures_and_shared_queries():
    with pytest.raises(SettingError, match="at least one measure"):
        compare(BAD, GOOD, QRELS, measures=())
    with pytest.raises(InputError, match="share no query"):
        compare(make_run("o", {"Q0": {"a": 1.0}}), make_run("p", {}), QRELS)


def test_swapping_the_sides_swaps_the_signs():
    there, back = compare(BAD, GOOD, QRELS).differences[0], compare(GOOD, BAD, QRELS).differences[0]
    assert (there.difference, there.p, there.won, there.lost) == (
        -back.difference,
        back.p,
        back.lost,
        back.won,
    )
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low))
