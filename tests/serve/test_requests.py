"""What can be asked: limits of texts, numbers and filters, whoever asks."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilth.errors import InputError
from tilth.serve.requests import check_filters, check_range, check_text
from tilth.serve.settings import Limits

LIMITS = Limits()


def refused(filters: object, limits: Limits = LIMITS) -> InputError:
    with pytest.raises(InputError) as caught:
        check_filters(filters, limits)
    assert caught.value.field == "filters"
    return caught.value


@pytest.mark.parametrize("text", ["", "a", "лопата", "🪴", "\u202e\u200b\ufeff\n\t\x7f", "a" * 10])
def test_texts_that_are_taken(text: str) -> None:
    check_text(text, 10, "query")


@pytest.mark.parametrize("text", ["a\0b", "\ud800", "\udfff", "a" * 11])
def test_texts_that_are_not(text: str) -> None:
    with pytest.raises(InputError) as caught:
        check_text(text, 10, "query")
    assert caught.value.field == "query"


@pytest.mark.parametrize("value", [0, 10, 0.5, -0.0, True])
def test_numbers_within_a_range(value: float) -> None:
    check_range(value, 0, 10, "k")


@pytest.mark.parametrize("value", [-1, 10.001, float("nan"), float("inf"), -1e-9, 10**400])
def test_numbers_outside_of_it(value: float) -> None:
    with pytest.raises(InputError, match="must be from 0 to 10"):
        check_range(value, 0, 10, "k")


# --- filters --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "filters",
    [None, {}, {"brand": "Terra"}, {"price": {"gte": 1, "lt": 2.5}},
     {"and": [{"or": [{"a": 1}, {"not": {"b": True}}]}]},
     {"id": [str(n) for n in range(LIMITS.batch)]}, {f"a{n}": n for n in range(LIMITS.filter_conditions)}],
)  # fmt: skip
def test_filters_that_are_taken(filters: Any) -> None:
    check_filters(filters, LIMITS)


def nested(depth: int, inner: object, wrap: Any) -> Any:
    for _ in range(depth):
        inner = wrap(inner)
    return inner


def test_filters_have_so_many_levels() -> None:
    for wrap in (lambda inner: {"and": [inner]}, lambda inner: {"not": inner}, lambda inner: [inner]):
        check_filters(nested(LIMITS.filter_depth, {}, wrap), LIMITS)
        assert "deeper than 8 levels" in refused(nested(2 * LIMITS.filter_depth + 1, {}, wrap)).reason
        refused(nested(100_000, {}, wrap))


def test_filters_have_so_many_conditions_and_values() -> None:
    few = Limits(filter_conditions=3, batch=5)
    check_filters({f"a{n}": {"gt": 1} for n in range(3)}, few)
    assert "more than 3 conditions" in refused({f"a{n}": {"gt": 1} for n in range(4)}, few).reason
    check_filters({"a": list(range(5))}, few)
    assert "more than 5 values" in refused({"a": list(range(6))}, few).reason
    assert "more than 5 values" in refused({"and": [{"a": [1, 2]}, {"b": [3, 4]}]}, few).reason
    refused({"a": [[{}] * 1_000_000]}, few)


@pytest.mark.parametrize(
    "filters",
    [{"price": 10**30}, {"price": {"gt": -(2**70)}}, {"brand": "\ud800"}, {"\udfff": 1}, {"a\0": 1},
     {"a" * 1_001: 1}, {"brand": ["x", "\ud800"]}],
)  # fmt: skip
def test_filters_hold_what_json_holds(filters: Any) -> None:
    """Those that came in another way than as JSON, too."""
    refused(filters)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=5), inner, max_size=6),
    max_leaves=60,
)


@settings(max_examples=50)
@given(st.dictionaries(st.text(max_size=5), values, max_size=8))
def test_any_filters_are_taken_or_refused(filters: dict[str, Any]) -> None:
    try:
        check_filters(filters, Limits(filter_depth=2, filter_conditions=4, batch=6))
    except InputError as error:
        assert error.field == "filters"
