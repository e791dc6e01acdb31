"""Impressions and interactions of every kind, for Hypothesis."""

from datetime import UTC, datetime

from hypothesis import strategies as st

from tilth.interactions import Interaction, Served

texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
names = texts.filter(bool)
times = st.datetimes(datetime(1900, 1, 1), datetime(2026, 1, 1), timezones=st.just(UTC))
values = {
    "dwell": st.floats(0, 1e9),
    "purchase": st.none() | st.floats(0, 1e9),
    "csat": st.sampled_from([1.0, 5.0]),
    "thumbs": st.sampled_from([1.0, -1.0]),
}


@st.composite
def interactions(draw: st.DrawFn) -> Interaction:
    action = draw(st.sampled_from(["view", "click", "cart", "cited", "rejected", *values]))
    return Interaction(
        event_id=draw(names),
        impression_id=draw(names),
        action=action,
        time=draw(times),
        product_id=draw(names if action in ("click", "cart", "cited") else texts),
        rank=draw(st.none() | st.integers(1, 1_000_000)),
        value=draw(values.get(action, st.none())),
        reason=draw(texts),
        client_id=draw(texts),
        session_id=draw(texts),
    )


@st.composite
def impressions(draw: st.DrawFn) -> Served:
    product_ids = tuple(draw(st.lists(names, unique=True, max_size=5)))
    some = st.lists(st.floats(0, 1, exclude_min=True), min_size=len(product_ids), max_size=len(product_ids))
    return Served(
        impression_id=draw(names),
        query=draw(texts),
        product_ids=product_ids,
        time=draw(times),
        kind=draw(names),
        first_rank=draw(st.integers(1, 1_000_000)),
        propensities=tuple(draw(st.just([]) | some)),
        arm=draw(texts),
        release=draw(texts),
        answered=draw(st.booleans()),
        skipped=tuple(draw(st.lists(names, max_size=3))),
        milliseconds=draw(st.dictionaries(names, st.floats(0, 1e6), max_size=3)),
        application=draw(texts),
        client_id=draw(texts),
    )
