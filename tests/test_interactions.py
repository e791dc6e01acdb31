"""Impressions and interactions: what one may be, and the ids of queries."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from tilth.errors import InputError
from tilth.interactions import ACTIONS, Interaction, Served, query_id_of

NOON = datetime(2026, 5, 31, 12, tzinfo=UTC)
SERVED = Served(impression_id="i1", query="rose food", product_ids=("m2", "m1"), time=NOON)
VIEW = Interaction(event_id="e1", impression_id="i1", action="view", time=NOON)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"impression_id": ""}, "field 'impression_id': cannot be empty"),
        ({"impression_id": "x" * 201}, "field 'impression_id': is longer than 200 characters"),
        ({"kind": ""}, "field 'kind': cannot be empty"),
        ({"arm": "x" * 201}, "field 'arm': is longer than 200 characters"),
        ({"client_id": "x" * 201}, "field 'client_id': is longer than 200 characters"),
        ({"release": "r\0"}, "field 'release': holds a NUL or half a character"),
        ({"query": "rose\ud83c"}, "field 'query': holds a NUL or half a character"),
        ({"product_ids": ("m1", "")}, "field 'product_ids': cannot hold an empty id"),
        ({"product_ids": ("m\0",)}, "field 'product_ids': holds a NUL"),
        ({"product_ids": ("m1", "m2", "m1")}, "field 'product_ids': a product occurs twice"),
        ({"time": datetime(2026, 5, 31)}, "field 'time': has no time zone .*Add \\+00:00"),
        (
            {"time": datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=3)))},
            "field 'time': is outside the years 1 to 9999",
        ),
        ({"first_rank": 0}, r"field 'first_rank': is no rank \(got 0\). Ranks are from 1 to 1,000,000"),
        ({"propensities": (0.5,)}, "field 'propensities': there are 2 products .*Give one for each product"),
        ({"propensities": (1.0, 0.0)}, "field 'propensities': a probability is above 0 and at most 1"),
        ({"propensities": (1.1, 1.0)}, "field 'propensities': a probability"),
        ({"propensities": (float("nan"), 1.0)}, "field 'propensities': a probability"),
        ({"skipped": ("",)}, "field 'skipped': cannot be empty"),
        ({"milliseconds": {"lexical": float("inf")}}, "field 'milliseconds': times are from 0"),
        ({"milliseconds": {"lexical": -0.1}}, "field 'milliseconds': times are from 0"),
    ],
)
def test_what_is_no_impression_is_refused(change: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        replace(SERVED, **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"event_id": ""}, "field 'event_id': cannot be empty"),
        ({"event_id": "x" * 201}, "field 'event_id': is longer than 200 characters"),
        ({"impression_id": ""}, "field 'impression_id': cannot be empty"),
        ({"product_id": "x" * 201}, "field 'product_id': is longer than 200 characters"),
        ({"session_id": "\udc00"}, "field 'session_id': holds a NUL or half a character"),
        ({"reason": "x" * 1_001}, "field 'reason': is longer than 1,000 characters"),
        (
            {"action": "stare"},
            r"field 'action': is none of view, click, cart, purchase, .*thumbs \(got 'stare'\)",
        ),
        ({"time": datetime(2026, 5, 31)}, "field 'time': has no time zone"),
        ({"rank": 0}, r"field 'rank': is no rank \(got 0\)"),
        ({"rank": 2**40}, "field 'rank': is no rank"),
        ({"action": "click"}, "field 'product_id': is missing for click. Name the product, or its rank"),
        ({"action": "dwell"}, "field 'value': is missing for dwell. Give the seconds, from 0"),
        ({"action": "csat"}, "field 'value': is missing for csat. Give a whole number from 1"),
        (
            {"action": "view", "value": 1.0},
            r"field 'value': means nothing for view \(got 1.0\). Leave it out",
        ),
    ],
)
def test_what_is_no_interaction_is_refused(change: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        replace(VIEW, **change)


VALUES = {
    "dwell": [0, 12.5],
    "purchase": [None, 0, 49.95],
    "csat": [1, 2.0, 3, 4, 5],
    "thumbs": [1, -1],
}


@pytest.mark.parametrize("action", ACTIONS)
def test_each_action_has_its_values(action: str) -> None:
    tried = [None, -1, 0, 1, 2, 2.0, 2.5, 3, 4, 5, 6, 12.5, 49.95, 1e13, 10**400, float("nan"), float("inf")]
    allowed = VALUES.get(action, [None])
    for value in tried:
        change = {"action": action, "value": value, "product_id": "m1"}
        fits = value in allowed or (
            action in ("dwell", "purchase") and value is not None and 0 <= value <= 50
        )
        if fits:
            assert replace(VIEW, **change).value == value
        else:
            with pytest.raises(InputError, match="field 'value'"):
                replace(VIEW, **change)


def test_a_click_names_its_product_or_its_rank() -> None:
    for action in ("click", "cart", "cited"):
        assert replace(VIEW, action=action, rank=3).product_id == ""
        assert replace(VIEW, action=action, product_id="m1").rank is None


def test_ids_as_long_as_they_may_be() -> None:
    long = "ж" * 200
    assert replace(VIEW, event_id=long, reason="ж" * 1_000).event_id == long
    assert replace(SERVED, product_ids=("p" * 5_000,)).product_ids == ("p" * 5_000,)  # as the store has it


def test_a_query_has_one_id_whatever_its_case_and_white_space() -> None:
    assert query_id_of("Rose  food ") == query_id_of("rose\tFOOD") == "q0be8554c72c5a032"
    assert query_id_of("Удобрение для роз") == query_id_of("удобрение для РОЗ")
    assert query_id_of("rose food") != query_id_of("rosefood")
