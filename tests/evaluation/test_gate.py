"""The gate: each rule at, below and above its limit, and evidence that cannot be used."""

from dataclasses import asdict, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilth.errors import InputError, SettingError
from tilth.evaluation.experiment import Difference, evaluate
from tilth.evaluation.gate import Evidence, Finding, Latency, Rules, Slice, decide
from tilth.evaluation.measures import parse_measures
from tilth.evaluation.report import evaluation_report
from tilth.qrels import Qrels
from tilth.query import Query
from tilth.run import Hit, Run

NDCG, JUDGED = "nDCG@10", "Judged@10"


def means(ndcg: float, judged: float = 0.9) -> dict[str, float]:
    return {NDCG: ndcg, JUDGED: judged}


def difference(
    mean: float, low: float, high: float, *, to: str = "hybrid", measure: str = NDCG
) -> Difference:
    return Difference("forest", to, measure, mean, low, high, 0.04, 20, 10)


def part(before: float, after: float, queries: int = 10) -> Slice:
    return Slice(queries, {"hybrid": means(before), "forest": means(after)})


GOOD = Evidence(
    candidate="forest",
    measure=NDCG,
    part="test",
    queries=41,
    systems={"hybrid": means(0.60), "forest": means(0.63)},
    differences=(difference(0.03, 0.01, 0.05),),
    slices={"length": {"1": part(0.50, 0.55), "2": part(0.70, 0.69)}},
    latency=Latency(2.0, 9.0),
)


def finding(evidence: Evidence, rule: str, rules: Rules | None = None) -> Finding:
    (found,) = [f for f in decide(evidence, rules or Rules()).findings if f.rule == rule]
    return found


def test_good_evidence_passes_every_rule() -> None:
    decision = decide(GOOD, Rules())
    assert decision.passed
    assert decision.clear
    assert [f.rule for f in decision.findings] == [
        "held out", "difference", "slice length 1", "slice length 2", "latency", "judged", "judged alike",
    ]  # fmt: skip
    assert all(f.passed for f in decision.findings)
    assert (decision.refusals, decision.warnings) == ((), ())


@pytest.mark.parametrize(
    ("low", "high", "passed", "clear", "words"),
    [
        (0.01, 0.05, True, True, "clearly better"),
        (-0.01, 0.05, True, False, "no difference that these queries can tell"),
        (-0.09, 0.001, True, False, "no difference that these queries can tell"),
        (0.0, 0.05, True, False, "no difference that these queries can tell"),
        (-0.05, 0.0, True, False, "no difference that these queries can tell"),
        (-0.05, -0.001, False, False, "clearly worse"),
    ],
)
def test_the_whole_interval_below_zero_refuses(
    low: float, high: float, passed: bool, clear: bool, words: str
) -> None:
    evidence = replace(GOOD, differences=(difference((low + high) / 2, low, high),))
    decision = decide(evidence, Rules())
    assert (decision.passed, decision.clear) == (passed, clear)
    assert words in finding(evidence, "difference").sentence
    assert decision.refusals == (() if passed else (finding(evidence, "difference").sentence,))


def test_the_difference_is_to_what_is_in_force() -> None:
    differences = (difference(0.03, 0.01, 0.05), difference(-0.03, -0.05, -0.01, to="r2"))
    evidence = replace(GOOD, differences=differences, slices={})
    assert decide(evidence, Rules()).passed
    assert not decide(evidence, Rules(in_force="r2")).passed
    sentence = finding(evidence, "difference", Rules(in_force="r3")).sentence
    assert "does not compare forest with r3, which is in force" in sentence
    assert not decide(evidence, Rules(in_force="r3")).clear


def test_another_measure_does_not_decide() -> None:
    evidence = replace(GOOD, differences=(difference(0.03, 0.01, 0.05, measure="R@100"),))
    assert not finding(evidence, "difference").passed


@pytest.mark.parametrize(
    ("before", "after", "queries", "passed"),
    [
        (0.62, 0.60, 10, True),  # exactly the amount, whatever floats make of it
        (0.62, 0.599, 10, False),
        (0.62, 0.10, 9, True),  # too few queries to say
        (0.62, 0.70, 10, True),
    ],
)
def test_no_slice_with_enough_queries_falls_by_more(
    before: float, after: float, queries: int, passed: bool
) -> None:
    evidence = replace(
        GOOD, slices={"kind": {"misspelt": part(before, after, queries), "plain": part(0.5, 0.6)}}
    )
    decision = decide(evidence, Rules())
    assert decision.passed is passed
    if not passed:
        (sentence,) = decision.refusals
        assert sentence.startswith("nDCG@10 of 10 queries (kind misspelt) changes by -0.021: a fall of more")
    assert decide(evidence, Rules(most_fall=0.03)).passed


def test_a_slice_without_one_of_the_systems_refuses() -> None:
    evidence = replace(GOOD, differences=(difference(0.03, 0.01, 0.05, to="r1"),))
    decision = decide(evidence, Rules(in_force="r1"))
    assert len(decision.refusals) == 2
    assert "was not measured of both forest and r1" in decision.refusals[0]


def test_no_slice_to_look_at_is_a_warning() -> None:
    decision = decide(GOOD, Rules(least_queries=11))
    assert decision.passed
    assert decision.warnings == ("No slice has 11 queries, so none was looked at.",)


def test_the_budget_may_be_reached_and_not_exceeded() -> None:
    evidence = replace(GOOD, latency=Latency(2.0, 15.0))
    assert decide(evidence, Rules()).passed
    slow = replace(GOOD, latency=Latency(2.0, 15.5))
    assert decide(slow, Rules()).refusals == (
        "It adds 15.5 ms at p99 (2.0 ms at p50), more than the budget of 15 ms.",
    )
    assert decide(slow, Rules(budget_ms=16)).passed


@pytest.mark.parametrize(("part", "passed"), [("test", True), ("folds", True), ("train", False)])
def test_queries_that_were_trained_on_prove_nothing(part: str, passed: bool) -> None:
    assert decide(replace(GOOD, part=part), Rules()).passed is passed


@pytest.mark.parametrize(
    ("candidate", "hybrid", "warnings"),
    [
        (0.9, 0.9, []),
        (0.5, 0.55, []),
        (0.49, 0.49, ["judged"]),
        (0.6, 0.7, ["judged alike"]),
        (0.4, 0.7, ["judged", "judged alike"]),
    ],
)
def test_few_or_unevenly_judged_hits_are_a_warning(
    candidate: float, hybrid: float, warnings: list[str]
) -> None:
    evidence = replace(GOOD, systems={"hybrid": means(0.6, hybrid), "forest": means(0.63, candidate)})
    decision = decide(evidence, Rules())
    assert decision.passed
    assert [f.rule for f in decision.findings if f.warning and not f.passed] == warnings
    assert len(decision.warnings) == len(warnings)


def test_that_nobody_measured_judgments_is_a_warning() -> None:
    evidence = replace(GOOD, systems={"forest": {NDCG: 0.63}})
    assert decide(evidence, Rules()).warnings == ("Nobody measured how many of the hits are judged.",)


def test_a_decision_says_everything_as_json() -> None:
    evidence = replace(GOOD, latency=Latency(2.0, 99.0))
    content = decide(evidence, Rules()).to_json()
    assert content["passed"] is False
    assert content["in_force"] == "hybrid"
    assert content["clear"] is True
    assert len(content["refusals"]) == 1
    (latency,) = [f for f in content["findings"] if f["rule"] == "latency"]
    assert (latency["value"], latency["limit"], latency["passed"]) == (99.0, 15.0, False)


@given(
    st.floats(-1, 1), st.floats(0, 1), st.floats(0, 1), st.integers(1, 30), st.floats(0, 30), st.booleans()
)
def test_a_candidate_passes_when_and_only_when_each_rule_does(
    low: float, width: float, after: float, queries: int, p99: float, held_out: bool
) -> None:
    evidence = replace(
        GOOD,
        part="test" if held_out else "train",
        differences=(difference(low, low, low + width),),
        slices={"kind": {"misspelt": part(0.5, after, queries)}},
        latency=Latency(0, p99),
    )
    falls = queries >= 10 and round(after - 0.5, 9) < -0.02
    decision = decide(evidence, Rules())
    assert decision.passed == (held_out and low + width >= 0 and not falls and p99 <= 15)
    assert decision.clear == (low > 0)
    assert decision.passed or decision.refusals


# evidence as a file


def test_evidence_is_read_back_as_it_was() -> None:
    assert Evidence.from_json(GOOD.to_json()) == GOOD


def test_the_report_of_an_evaluation_is_evidence() -> None:
    """Ten queries whose one relevant product the candidate puts first, and the hybrid second."""
    queries = [Query(str(n), "roses", "plain") for n in range(10)]
    first, second = (Hit("p", 2.0), Hit("q", 1.0)), (Hit("q", 2.0), Hit("p", 1.0))
    runs = {
        "hybrid": Run("hybrid", {query.query_id: second for query in queries}),
        "forest": Run("forest", {query.query_id: first for query in queries}),
    }
    qrels = Qrels({query.query_id: {"p": 1, "q": 0} for query in queries})
    evaluation = evaluate(
        runs, qrels, queries=queries, measures=parse_measures([NDCG, JUDGED]), baseline="hybrid"
    )
    report = evaluation_report(evaluation)
    facts = {"candidate": "forest", "measure": NDCG, "part": "test", "latency": {"p50_ms": 1, "p99_ms": 2}}
    evidence = Evidence.from_json({**report, **facts})
    assert evidence.queries == 10
    assert evidence.slices["kind"]["plain"].queries == 10
    decision = decide(evidence, Rules())
    assert decision.clear
    assert decision.warnings == ()
    assert finding(evidence, "slice kind plain").value == pytest.approx(1 - 0.63093, abs=1e-5)


def damaged(change: dict[str, Any]) -> dict[str, Any]:
    return {**GOOD.to_json(), **change}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "field 'evidence': is not an object"),
        (damaged({"candidate": ""}), "field 'candidate': is not a text"),
        (damaged({"measure": None}), "field 'measure': is not a text"),
        (damaged({"measure": "R@5"}), "no R@5 of the candidate"),
        (damaged({"candidate": "tree"}), "of the candidate .got 'tree'"),
        (damaged({"queries": 0}), "no query was measured"),
        (damaged({"queries": True}), "field 'queries': is not a whole number"),
        (damaged({"systems": {"forest": {NDCG: float("nan")}}}), "field 'nDCG@10': is not a finite number"),
        (damaged({"systems": {"forest": 1}}), "field 'forest': is not an object"),
        (damaged({"differences": {}}), "field 'differences': is not a list"),
        (damaged({"differences": [{"system": "forest"}]}), "field 'baseline': is not a text"),
        (damaged({"differences": [asdict(difference(0, 0.1, -0.1))]}), "no interval"),
        (damaged({"slices": None}), "field 'slices': is not an object"),
        (damaged({"slices": {"kind": {"plain": {"queries": -1}}}}), "field 'queries': is not a whole number"),
        (damaged({"latency": {"p50_ms": 3, "p99_ms": "9"}}), "field 'p99_ms': is not a finite number"),
        (damaged({"latency": {"p50_ms": 3, "p99_ms": 2}}), "must ascend from 0"),
    ],
)
def test_what_is_wrong_with_evidence_is_named(content: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Evidence.from_json(content)


@pytest.mark.parametrize(
    "rules", [{"most_fall": -0.1}, {"budget_ms": float("nan")}, {"least_queries": 0}, {"budget_ms": -1}]
)
def test_limits_are_checked(rules: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match=next(iter(rules))):
        Rules(**rules)
