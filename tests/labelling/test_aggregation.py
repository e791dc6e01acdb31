"""From judgments to one grade a pair: worked by hand, against plain Python, and what always holds."""

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilth.errors import InputError, SettingError
from tilth.judgments import Judgment
from tilth.labelling.aggregation import (
    AGGREGATES,
    Ratings,
    corrected,
    dawid_skene,
    majority,
    mean,
    means,
    most_likely,
    ratings,
)
from tilth.qrels import Qrels

NOON = datetime(2026, 5, 31, 12, tzinfo=UTC)
ONE = Judgment(
    query_id="q1", query="", product_id="p1", grade=2, highest=3, judge="anna", kind="person", time=NOON
)


def table(*rows: str) -> Ratings:
    """Ratings on the scale 0-3: a row a pair, a column a judge, `.` where there is none."""
    return ratings(
        replace(ONE, product_id=f"p{pair}", judge=f"j{judge}", grade=int(cell))
        for pair, row in enumerate(rows, start=1)
        for judge, cell in enumerate(row, start=1)
        if cell != "."
    )


# --- collecting -----------------------------------------------------------------------------------


def test_ratings_are_numbered_as_they_are_met() -> None:
    found = ratings([ONE, replace(ONE, judge="bert", grade=0), replace(ONE, query_id="q2", judge="bert")])
    assert found.pairs == (("q1", "p1"), ("q2", "p1"))
    assert (found.judges, found.highest) == (("anna", "bert"), 3)
    assert (found.pair.tolist(), found.judge.tolist(), found.grade.tolist()) == (
        [0, 0, 1],
        [0, 1, 1],
        [2, 0, 2],
    )
    assert found.counts().tolist() == [[1, 0, 1, 0], [0, 0, 1, 0]]


def test_the_last_opinion_of_a_judge_counts_whatever_the_order() -> None:
    later = replace(ONE, grade=0, time=NOON + timedelta(seconds=1))
    for order in ([ONE, later], [later, ONE]):
        assert majority(ratings(order)) == Qrels({"q1": {"p1": 0}})
    assert majority(ratings([ONE, replace(ONE, grade=1)])) == Qrels({"q1": {"p1": 1}})


def test_a_last_opinion_that_is_not_heard_does_not_bring_back_an_earlier_one() -> None:
    unsure = replace(ONE, grade=0, time=NOON + timedelta(seconds=1), confidence=0.4)
    other = replace(ONE, product_id="p2")
    assert majority(ratings([ONE, unsure, other], least_confidence=0.5)) == Qrels({"q1": {"p2": 2}})
    assert majority(ratings([ONE, unsure, other], least_confidence=0.4))["q1"] == {"p1": 0, "p2": 2}


def test_kinds_are_chosen() -> None:
    both = [ONE, replace(ONE, judge="gpt", kind="model", grade=0)]
    assert ratings(both, kinds=["model"]).judges == ("gpt",)
    with pytest.raises(SettingError, match="no kind of judge 'robot'; there are person, model, clicks"):
        ratings(both, kinds=["robot"])
    with pytest.raises(InputError, match=r"no judgment is left\. Import judgments, or allow more kinds"):
        ratings(both, kinds=["clicks"])


def test_a_bootstrap_label_counts_only_where_nobody_else_judged() -> None:
    bootstrap = replace(ONE, judge="bootstrap", kind="bootstrap", grade=0)
    elsewhere = replace(bootstrap, product_id="p2")
    assert majority(ratings(corrected([ONE, bootstrap, elsewhere]))).grades == {"q1": {"p1": 2, "p2": 0}}
    assert majority(ratings(corrected([ONE, bootstrap], ["bootstrap"]))).grades == {"q1": {"p1": 0}}


def test_scales_are_brought_to_one() -> None:
    mixed = [ONE, replace(ONE, judge="bert", grade=4, highest=5)]
    assert ratings(mixed, highest=5).grade.tolist() == [3, 4]
    assert ratings(mixed, highest=3, declared={5: (0, 0, 1, 1, 1, 3)}).grade.tolist() == [2, 1]
    with pytest.raises(SettingError, match=r"the scales 0-3 and 0-5\. Name the top of the one you want"):
        ratings(mixed)
    assert ratings(mixed[1:]).highest == 5


# --- counting -------------------------------------------------------------------------------------


def test_ties_go_to_the_lower_grade() -> None:
    given = table("13.", "331", "320", "2..", "0123")
    grades = {"p1": 1, "p2": 3, "p3": 0, "p4": 2, "p5": 0}
    assert majority(given) == Qrels({"q1": grades})


def test_halves_of_means_go_down() -> None:
    given = table("12.", "23.", "331", "003", "0033", "3..")
    assert means(given).tolist() == [1.5, 2.5, 7 / 3, 1.0, 1.5, 3.0]
    assert mean(given) == Qrels({"q1": {"p1": 1, "p2": 2, "p3": 2, "p4": 1, "p5": 1, "p6": 3}})


# --- Dawid and Skene ------------------------------------------------------------------------------


def test_one_iteration_by_hand() -> None:
    """Two judges on three pairs, graded 0 or 1: they agree on two, and differ on the third."""
    two = [
        replace(ONE, product_id=f"p{pair}", judge=judge, grade=int(grade), highest=1)
        for pair, row in enumerate(("11", "00", "10"))
        for judge, grade in zip(("a", "b"), row, strict=True)
    ]
    found = dawid_skene(ratings(two), iterations=1)
    assert found.prior == pytest.approx([1 / 2, 1 / 2])
    assert found.confusions[0] == pytest.approx(np.array([[2 / 3, 1 / 3], [0, 1]]))
    assert found.confusions[1] == pytest.approx(np.array([[1, 0], [1 / 3, 2 / 3]]))
    assert found.posteriors == pytest.approx(np.array([[0, 1], [1, 0], [1 / 2, 1 / 2]]))
    assert found.log_likelihoods == pytest.approx([3 * math.log(1 / 3)])


def test_who_contradicts_all_others_is_found_out() -> None:
    """The third judge says the opposite; a majority of two against one does not need that, this one does."""
    given = table(*["003"] * 20, *["330"] * 20, "0.3", "3.0", "..0", "..3")
    found = most_likely(given)["q1"]
    assert [found[f"p{pair}"] for pair in (1, 21, 41, 42, 43, 44)] == [0, 3, 0, 3, 3, 0]
    assert majority(given)["q1"]["p43"] == 0


ITERATIONS = 7


def plain(rows: list[list[int]], highest: int) -> tuple[list[list[float]], list[float]]:
    """Dawid and Skene's equations over rows of (pair, judge, grade), with nothing but loops."""
    grades = range(highest + 1)
    pairs = range(1 + max(pair for pair, _, _ in rows))
    judges = range(1 + max(judge for _, judge, _ in rows))
    sure = [[0.0 for _ in grades] for _ in pairs]
    for pair in pairs:
        said = [grade for each, _, grade in rows if each == pair]
        sure[pair] = [said.count(grade) / len(said) for grade in grades]
    history = []
    for _ in range(ITERATIONS):
        shares = [sum(sure[pair][k] for pair in pairs) / len(pairs) for k in grades]
        errors = {}
        for judge in judges:
            mine = [(pair, grade) for pair, each, grade in rows if each == judge]
            for k in grades:
                met = sum(sure[pair][k] for pair, _ in mine)
                for said in grades:
                    agreed = sum(sure[pair][k] for pair, grade in mine if grade == said)
                    errors[judge, k, said] = agreed / met if met else 0.0
        likelihood = 0.0
        for pair in pairs:
            joint = []
            for k in grades:
                product = shares[k]
                for each, judge, said in rows:
                    if each == pair:
                        product *= errors[judge, k, said]
                joint.append(product)
            likelihood += math.log(sum(joint))
            sure[pair] = [value / sum(joint) for value in joint]
        history.append(likelihood)
    return sure, history


cells = st.lists(st.lists(st.sampled_from("0123."), min_size=3, max_size=3), min_size=1, max_size=12)
rows = cells.map(lambda found: [f"{n % 4}" + "".join(row) for n, row in enumerate(found)])


@settings(max_examples=60, deadline=None)
@given(rows=rows)
def test_the_model_is_that_of_plain_python(rows: list[str]) -> None:
    given = table(*rows)
    triples = np.column_stack([given.pair, given.judge, given.grade]).tolist()
    posteriors, history = plain(triples, 3)
    found = dawid_skene(given, iterations=ITERATIONS, tolerance=-math.inf)
    assert found.posteriors == pytest.approx(np.array(posteriors), abs=1e-9)
    assert found.log_likelihoods == pytest.approx(history, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(rows=rows)
def test_the_likelihood_never_falls_and_all_are_probabilities(rows: list[str]) -> None:
    found = dawid_skene(table(*rows), iterations=200)
    assert np.diff(found.log_likelihoods).min(initial=0) >= -1e-9
    assert found.posteriors.sum(axis=1) == pytest.approx(1)
    assert found.confusions.sum(axis=2) == pytest.approx(1)
    assert found.prior.sum() == pytest.approx(1)


@settings(max_examples=60, deadline=None)
@given(rows=rows)
def test_what_is_counted_lies_between_the_lowest_and_the_highest_grade_given(rows: list[str]) -> None:
    given = table(*rows)
    for name, aggregate in AGGREGATES.items():
        qrels = aggregate(given)
        grades = np.array([qrels[query_id][product_id] for query_id, product_id in given.pairs])
        assert sum(map(len, qrels.grades.values())) == len(given.pairs)
        for pair, grade in enumerate(grades):
            said = given.grade[given.pair == pair]
            if name != "dawid-skene":  # which may find that a judge always errs
                assert said.min() <= grade <= said.max()
            if name != "mean":
                assert grade in (said if name == "majority" else given.grade)
