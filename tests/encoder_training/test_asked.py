"""Judgments as weighted pairs, against means made by hand."""

from datetime import UTC, datetime

import pytest

from tilth.encoder_training.asked import LEAST_SHARE, Asked, asked_of
from tilth.judgments import Judgment

TEXTS = {"q1": "hosepipe", "q2": "лейка"}


def judged(
    query: str, product: str, grade: int, highest: int = 1, confidence: float | None = None
) -> Judgment:
    return Judgment(
        query_id=query,
        query="",
        product_id=product,
        grade=grade,
        highest=highest,
        judge="ann",
        kind="person",
        time=datetime(2024, 1, 1, tzinfo=UTC),
        confidence=confidence,
    )


def test_a_relevant_product_is_a_pair() -> None:
    assert asked_of([judged("q1", "h1", 1)], TEXTS) == [Asked("hosepipe", "h1", 1.0)]
    assert asked_of([judged("q1", "h1", 0)], TEXTS) == []
    assert asked_of([], TEXTS) == []


def test_scales_are_shares_of_their_tops() -> None:
    pairs = asked_of([judged("q1", "a", 1, 1), judged("q1", "b", 3, 3), judged("q1", "c", 4, 5)], TEXTS)
    total = 1 + 1 + 0.8
    assert [pair.product_id for pair in pairs] == ["a", "b", "c"]
    assert [pair.weight for pair in pairs] == pytest.approx([1 / total, 1 / total, 0.8 / total])


def test_several_judgments_on_one_pair_count_by_their_mean() -> None:
    judgments = [judged("q1", "a", 3, 3), judged("q1", "a", 0, 1), judged("q1", "a", 5, 5)]
    judgments += [judged("q1", "b", 1, 1)]
    a, b = asked_of(judgments, TEXTS)
    assert (a.weight, b.weight) == pytest.approx(((2 / 3) / (5 / 3), 1 / (5 / 3)))


def test_confidence_takes_away_from_what_is_said() -> None:
    pairs = asked_of([judged("q1", "a", 3, 3, confidence=0.6), judged("q1", "b", 3, 3)], TEXTS)
    assert [pair.weight for pair in pairs] == pytest.approx([0.6 / 1.6, 1 / 1.6])
    assert asked_of([judged("q1", "a", 1, 1, confidence=0.0)], TEXTS) == []


def test_what_is_below_the_least_share_is_no_pair() -> None:
    at, below = judged("q1", "at", 1, 1, LEAST_SHARE), judged("q1", "below", 1, 1, LEAST_SHARE - 0.01)
    assert [pair.product_id for pair in asked_of([below, at], TEXTS)] == ["at"]
    none_of_two = [judged("q1", "a", 1, 1, LEAST_SHARE), judged("q1", "a", 0, 1)]
    assert asked_of(none_of_two, TEXTS) == []


def test_the_weights_of_each_query_sum_to_one() -> None:
    judgments = [judged("q1", "a", 3, 3), judged("q1", "b", 2, 3), judged("q1", "c", 1, 3)]
    judgments += [judged("q2", "a", 4, 5), judged("q2", "d", 3, 5)]
    pairs = asked_of(judgments, TEXTS)
    assert [(pair.query, pair.product_id) for pair in pairs] == [
        ("hosepipe", "a"),
        ("hosepipe", "b"),
        ("лейка", "a"),
        ("лейка", "d"),
    ]
    assert [pair.weight for pair in pairs] == pytest.approx([3 / 5, 2 / 5, 4 / 7, 3 / 7])


def test_judgments_of_other_queries_are_passed_over() -> None:
    pairs = asked_of([judged("q9", "a", 1), judged("q2", "b", 1)], TEXTS)
    assert pairs == [Asked("лейка", "b", 1.0)]


def test_the_order_is_that_of_the_ids() -> None:
    judgments = [judged("q2", "b", 1), judged("q2", "a", 1), judged("q1", "z", 1)]
    expected = [("hosepipe", "z"), ("лейка", "a"), ("лейка", "b")]
    for given in (judgments, judgments[::-1]):
        assert [(pair.query, pair.product_id) for pair in asked_of(given, TEXTS)] == expected
