"""Counts of impressions and clicks: summed by query and product, smoothed, kept as JSON."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilth.reranking.behaviour import NO_BEHAVIOUR, PRIOR, Behaviour, Counts, query_key, smoothed

counts = st.dictionaries(
    st.tuples(st.text(max_size=6), st.text("abc", min_size=1, max_size=2)),
    st.tuples(st.integers(0, 100), st.integers(0, 100)).map(lambda pair: Counts(sum(pair), pair[1])),
    max_size=8,
)


def test_queries_are_one_whatever_their_case_and_blanks() -> None:
    behaviour = Behaviour.of({
        ("Cow  manure", "m1"): Counts(10, 2),
        ("cow manure ", "m1"): Counts(5, 1),
        ("cow manure", "m2"): Counts(1, 0),
        ("hose", "m1"): Counts(4, 1),
        ("Ёлка", "m3"): Counts(20, 0),
    })  # fmt: skip
    assert behaviour.of_query("COW MANURE") == {"m1": Counts(15, 3), "m2": Counts(1, 0)}
    assert behaviour.of_query("елка") == {"m3": Counts(20, 0)}
    assert behaviour.of_query("manure cow") == {}
    assert behaviour.by_product == {"m1": Counts(19, 4), "m2": Counts(1, 0), "m3": Counts(20, 0)}
    assert behaviour.rate == 4 / 40


def test_nothing_known_is_a_rate_of_zero() -> None:
    assert NO_BEHAVIOUR.rate == Behaviour.of({}).rate == 0.0
    assert NO_BEHAVIOUR.of_query("hose") == {}
    assert Behaviour.of({("hose", "a"): Counts(0, 0)}).rate == 0.0


def test_a_rate_moves_from_the_wider_one_to_its_own() -> None:
    assert smoothed(Counts(0, 0), 0.1) == pytest.approx(0.1)
    assert smoothed(Counts(PRIOR, PRIOR), 0.0) == pytest.approx(0.5)
    assert smoothed(Counts(1e9, 3e8), 0.9) == pytest.approx(0.3, abs=1e-6)


@given(shown=st.integers(0, 1000), share=st.floats(0, 1), rate=st.floats(0, 1), more=st.integers(1, 1000))
def test_smoothing_stays_between_the_two_rates(shown: int, share: float, rate: float, more: int) -> None:
    own = Counts(shown, share * shown)
    between = smoothed(own, rate)
    low, high = min(share, rate), max(share, rate)
    assert low - 1e-9 <= between <= high + 1e-9
    grown = smoothed(Counts(shown + more, share * (shown + more)), rate)
    assert abs(grown - share) <= abs(between - share) + 1e-9  # the more impressions, the nearer to its own


@given(counts)
def test_a_round_trip_changes_nothing(known: dict[tuple[str, str], Counts]) -> None:
    behaviour = Behaviour.of(known)
    again = Behaviour.from_json(orjson.loads(orjson.dumps(behaviour.to_json())))
    assert again == behaviour
    for text, _ in known:
        assert again.of_query(text) == behaviour.of_query(text)


@given(counts)
def test_sums_are_the_same_by_query_and_by_product(known: dict[tuple[str, str], Counts]) -> None:
    behaviour = Behaviour.of(known)
    shown = sum(each.impressions for each in known.values())
    clicked = sum(each.clicks for each in known.values())
    by_query = [each for of_query in behaviour.by_query.values() for each in of_query.values()]
    for parts in (by_query, behaviour.by_product.values()):
        assert sum(each.impressions for each in parts) == shown
        assert sum(each.clicks for each in parts) == clicked
    assert behaviour.rate == (clicked / shown if shown else 0.0)


@given(st.text(max_size=20))
def test_a_key_is_its_own_key(text: str) -> None:
    assert query_key(query_key(text)) == query_key(text)
