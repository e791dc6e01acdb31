"""UBI records: read, written, and refused with the path of the field."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedback_strategies import impressions, interactions
from tilth.errors import InputError
from tilth.interactions import Interaction, Served
from tilth.ubi import interaction_from_ubi, interaction_to_ubi, served_from_ubi, served_to_ubi

NOON = datetime(2026, 5, 31, 12, tzinfo=UTC)
CLICK = Interaction(
    event_id="e1", impression_id="i1", action="click", time=NOON, product_id="m2", rank=2, client_id="c1",
    session_id="s1",
)  # fmt: skip
# As a collector in a browser sends it, with much that Tilth does not keep.
EVENT: dict[str, Any] = {
    "application": "shop",
    "action_name": "click",
    "query_id": "i1",
    "session_id": "s1",
    "client_id": "c1",
    "event_id": "e1",
    "timestamp": "2026-05-31T14:00:00.000+02:00",
    "message_type": "INFO",
    "message": "clicked",
    "user_query": "rose food",
    "event_attributes": {
        "object": {"object_id": "m2", "object_id_field": "product_id", "name": "Manure"},
        "position": {"ordinal": 2, "x": 10.5, "y": 7, "trail": ["home"]},
        "browser": "Firefox",
        "session": None,
    },
}
SERVED = Served(
    impression_id="i1", query="Удобрение для роз", product_ids=("m2", "m1"), time=NOON, kind="context",
    first_rank=11, propensities=(0.5, 1.0), arm="b", release="r2", answered=False, skipped=("cross-encoder",),
    milliseconds={"lexical": 0.7}, application="shop", client_id="c1",
)  # fmt: skip
QUERY: dict[str, Any] = {
    "application": "shop",
    "client_id": "c1",
    "query_id": "i1",
    "query_response_id": "i1",
    "user_query": "Удобрение для роз",
    "timestamp": "2026-05-31T12:00:00.000000Z",
    "object_id_field": "product_id",
    "query_response_hit_ids": ["m2", "m1"],
    "query_attributes": {
        "kind": "context",
        "first_rank": 11,
        "propensities": [0.5, 1.0],
        "arm": "b",
        "release": "r2",
        "answered": False,
        "skipped": ["cross-encoder"],
        "milliseconds": {"lexical": 0.7},
    },
}


def put(record: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    """Return a copy of a record with another value at a path."""
    name, _, rest = path.partition(".")
    return {**record, name: put(record.get(name) or {}, rest, value) if rest else value}


# --- events ---------------------------------------------------------------------------------------


def test_an_event_of_a_collector_is_read() -> None:
    assert interaction_from_ubi(EVENT) == CLICK


def test_an_interaction_is_written_without_what_it_does_not_have() -> None:
    assert interaction_to_ubi(CLICK) == {
        "event_id": "e1",
        "action_name": "click",
        "query_id": "i1",
        "client_id": "c1",
        "session_id": "s1",
        "timestamp": "2026-05-31T12:00:00.000000Z",
        "event_attributes": {
            "object": {"object_id": "m2", "object_id_field": "product_id"},
            "position": {"ordinal": 2},
        },
    }
    view = Interaction(event_id="e2", impression_id="i1", action="view", time=NOON)
    assert interaction_to_ubi(view).keys() == {"event_id", "action_name", "query_id", "timestamp"}


def test_a_cart_is_called_add_to_cart() -> None:
    cart = replace(CLICK, action="cart")
    assert interaction_to_ubi(cart)["action_name"] == "add_to_cart"
    for name in ("add_to_cart", "cart"):
        assert interaction_from_ubi({**EVENT, "action_name": name}) == cart


def test_an_event_without_an_id_is_the_same_one_when_it_is_sent_again() -> None:
    bare = {name: value for name, value in EVENT.items() if name != "event_id"}
    made = interaction_from_ubi(bare).event_id
    assert len(made) == 32
    other_order = dict(reversed(bare.items()))
    same_instant = {**bare, "timestamp": "2026-05-31T12:00:00Z", "event_id": None, "message": "again"}
    assert {interaction_from_ubi(each).event_id for each in (other_order, same_instant)} == {made}
    differences = {
        "query_id": "i2", "action_name": "cited", "timestamp": "2026-05-31T12:00:00.000001Z",
        "event_attributes.object.object_id": "m3", "event_attributes.position.ordinal": 3,
        "event_attributes.reason": "too dear", "client_id": "c2", "session_id": None,
    }  # fmt: skip
    ids = {interaction_from_ubi(put(bare, path, value)).event_id for path, value in differences.items()}
    assert len(ids | {made}) == 9


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("action_name", None, "field 'action_name': is missing"),
        ("action_name", "hover", r"field 'action_name': is none of view, .* \(got 'hover'\)"),
        ("query_id", None, "field 'query_id': is missing"),
        ("query_id", "", "field 'query_id': cannot be empty"),
        ("query_id", 7, r"field 'query_id': is not a text \(got 7\)"),
        ("event_id", "x" * 201, "field 'event_id': is longer than 200 characters"),
        ("timestamp", None, "field 'timestamp': is missing"),
        ("timestamp", 1780000000000, "field 'timestamp': is not a text"),
        (
            "timestamp",
            "noon",
            r"field 'timestamp': is no time \(got 'noon'\). Write it like 2026-05-31T17:20",
        ),
        ("timestamp", "2026-05-31T12:00:00", "field 'timestamp': has no time zone"),
        ("timestamp", "0001-01-01T00:00:00+03:00", "field 'timestamp': is no time"),
        ("timestamp", "9999-01-01T00:00:00Z", "field 'timestamp': is in the future .*Set the clock"),
        ("event_attributes", [], r"field 'event_attributes': is no JSON object \(got \[\]\)"),
        ("event_attributes.object", "m2", "field 'event_attributes.object': is no JSON object"),
        (
            "event_attributes.object.object_id",
            42,
            r"field 'event_attributes.object.object_id': is not a text \(got 42\)",
        ),
        (
            "event_attributes.object.object_id",
            "x" * 201,
            "field 'event_attributes.object.object_id': is longer than 200",
        ),
        ("event_attributes.position.ordinal", 0, "field 'event_attributes.position.ordinal': is no rank"),
        (
            "event_attributes.position.ordinal",
            "2",
            "field 'event_attributes.position.ordinal': is not a whole number",
        ),
        ("event_attributes.position.ordinal", True, "ordinal': is not a whole number"),
        ("event_attributes.position.ordinal", 2.0, "ordinal': is not a whole number"),
        ("event_attributes.value", "5", "field 'event_attributes.value': is not a number"),
        ("event_attributes.value", False, "field 'event_attributes.value': is not a number"),
        ("event_attributes.value", 10**400, "field 'event_attributes.value': is not a number"),
        ("event_attributes.value", 5, "field 'event_attributes.value': means nothing for click"),
        ("event_attributes.reason", "x" * 1_001, "field 'event_attributes.reason': is longer than 1,000"),
        ("client_id", "\ud800", "field 'client_id': holds a NUL or half a character"),
        ("session_id", {}, "field 'session_id': is not a text"),
    ],
)
def test_what_is_no_event_is_refused_by_the_path_of_the_field(path: str, value: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        interaction_from_ubi(put(EVENT, path, value))


def test_half_characters_are_refused_also_where_the_id_is_made() -> None:
    with pytest.raises(InputError, match="field 'client_id': holds a NUL or half a character"):
        interaction_from_ubi({**EVENT, "event_id": None, "client_id": "\ud800"})


@pytest.mark.parametrize("record", [None, 1, "x", [EVENT]])
def test_what_is_no_object_is_refused(record: object) -> None:
    for read in (interaction_from_ubi, served_from_ubi):
        with pytest.raises(InputError, match="is no JSON object"):
            read(record)


def test_a_clock_may_be_a_little_fast() -> None:
    soon = datetime.now(UTC) + timedelta(hours=23)
    assert interaction_from_ubi({**EVENT, "timestamp": soon.isoformat()}).time == soon


# --- queries --------------------------------------------------------------------------------------


def test_an_impression_is_a_query_and_back() -> None:
    assert served_to_ubi(SERVED) == QUERY
    assert served_from_ubi(QUERY) == SERVED


def test_a_query_of_another_system_is_read() -> None:
    foreign = {
        "query_id": "i1",
        "user_query": "",
        "timestamp": "2026-05-31T12:00:00+00:00",
        "query_response_hit_ids": [],
        "object_id_field": "asin",
        "query_attributes": {"experiment": {"name": "x"}},
        "query": '{"match_all": {}}',
    }
    assert served_from_ubi(foreign) == Served(impression_id="i1", query="", product_ids=(), time=NOON)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("query_id", None, "field 'query_id': is missing"),
        ("user_query", None, "field 'user_query': is missing"),
        ("user_query", "a\0b", "field 'user_query': holds a NUL"),
        ("timestamp", "2026-05-31", "field 'timestamp': has no time zone"),
        ("query_response_hit_ids", None, "field 'query_response_hit_ids': is missing"),
        ("query_response_hit_ids", "m1", "field 'query_response_hit_ids': is not a list of texts"),
        ("query_response_hit_ids", ["m1", 2], r"'query_response_hit_ids': is not a list of texts \(got 2\)"),
        ("query_response_hit_ids", ["m1", "m1"], "'query_response_hit_ids': a product occurs twice"),
        ("query_attributes", "b", "field 'query_attributes': is no JSON object"),
        ("query_attributes.kind", "", "field 'query_attributes.kind': cannot be empty"),
        ("query_attributes.first_rank", 0, "field 'query_attributes.first_rank': is no rank"),
        ("query_attributes.propensities", [1], "field 'query_attributes.propensities': there are 2 products"),
        ("query_attributes.propensities", [1, "1"], "'query_attributes.propensities': is not a number"),
        ("query_attributes.arm", 1, "field 'query_attributes.arm': is not a text"),
        ("query_attributes.answered", 1, "field 'query_attributes.answered': is not true or false"),
        ("query_attributes.skipped", [None], "field 'query_attributes.skipped': is not a list of texts"),
        (
            "query_attributes.milliseconds",
            [1],
            "'query_attributes.milliseconds': is not an object of numbers",
        ),
        (
            "query_attributes.milliseconds.dense",
            -1,
            "field 'query_attributes.milliseconds': times are from 0",
        ),
    ],
)
def test_what_is_no_query_is_refused_by_the_path_of_the_field(path: str, value: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        served_from_ubi(put(QUERY, path, value))


# --- both ways, whatever they hold ----------------------------------------------------------------


@settings(deadline=None, max_examples=100)
@given(interaction=interactions(), served=impressions())
def test_what_is_written_as_json_reads_back(interaction: Interaction, served: Served) -> None:
    assert interaction_from_ubi(orjson.loads(orjson.dumps(interaction_to_ubi(interaction)))) == interaction
    assert served_from_ubi(orjson.loads(orjson.dumps(served_to_ubi(served)))) == served


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
paths = [
    "action_name", "query_id", "event_id", "timestamp", "client_id", "session_id", "event_attributes",
    "event_attributes.object", "event_attributes.object.object_id", "event_attributes.position",
    "event_attributes.position.ordinal", "event_attributes.value", "event_attributes.reason",
]  # fmt: skip


@settings(deadline=None, max_examples=200)
@given(path=st.sampled_from(paths), value=json_values)
def test_any_json_is_an_interaction_or_refused_by_a_path_of_its_own(path: str, value: object) -> None:
    try:
        interaction = interaction_from_ubi(put(EVENT, path, value))
    except InputError as error:
        assert error.field in paths
    else:
        assert interaction_from_ubi(interaction_to_ubi(interaction)) == interaction
