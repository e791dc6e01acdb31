"""Live figures: by hand and against plain Python, over SQLite and a real PostgreSQL server."""

import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from itertools import count
from typing import Any
from unittest import mock

import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tilth.errors import InputError, SettingError
from tilth.feedback_log import FeedbackLog
from tilth.interactions import ACTIONS, Interaction, Served
from tilth.online import figures as module
from tilth.online.figures import BY, Figures, Group, compare, figures, read_moment
from tilth.online.proportions import Rate, wilson_interval
from tilth.store import Store
from tilth.store_schema import IMPRESSIONS, INTERACTIONS

NewUrl = Callable[[], str]
NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
def store(new_url: NewUrl) -> Iterator[Store]:
    with Store.open(new_url()) as opened:
        yield opened


def page(impression_id: str, *, hits: int = 2, **changes: Any) -> Served:
    shown = tuple(f"p{rank}" for rank in range(1, hits + 1))
    values = {"query": "rose", "product_ids": shown, "time": NOON, **changes}
    return Served(impression_id=impression_id, **values)


_EVENTS = count(1)


def done(impression_id: str, action: str, **changes: Any) -> Interaction:
    if action in ("click", "cart", "cited"):
        changes = {"product_id": "p1", **changes}
    values = {"time": NOON + timedelta(minutes=1), **changes}
    return Interaction(event_id=f"e{next(_EVENTS)}", impression_id=impression_id, action=action, **values)


# Day 26: s1 to s3 and c1 are answers of arm a, s4 its second page. Day 27: one answer of arm b.
SERVED = [
    page("s1", arm="a", milliseconds={"lexical": 10, "fuse": 1}, skipped=("rerank",)),
    page("s2", arm="a", milliseconds={"lexical": 30, "fuse": 3}),
    page("s3", arm="a", hits=0, answered=False),
    page("c1", arm="a", kind="context", answered=False, milliseconds={"lexical": 20, "total": 50}),
    page("s4", arm="a", first_rank=3, skipped=("dense",), milliseconds={"lexical": 1000}),
    page("s5", arm="b", kind="ask", time=NOON + DAY),
]
DONE = [
    done("s1", "view"),
    done("s1", "click", rank=2),
    done("s1", "click", rank=4),
    done("s1", "cart"),
    done("s1", "purchase", value=20.5),
    done("s1", "purchase", value=9.5, time=NOON + 3 * DAY),
    done("s1", "csat", value=1, time=NOON + timedelta(minutes=3)),
    done("s1", "csat", value=5, time=NOON + timedelta(minutes=2)),  # came late; the later one in time counts
    done("s1", "dwell", value=10),
    done("s2", "dwell", value=40),
    done("s2", "dwell", value=20),
    done("s2", "click"),  # a click that does not say its rank
    done("s2", "csat", value=4),
    done("s2", "thumbs", value=-1),
    done("s2", "rejected", product_id="p1", reason="too dear"),
    done("s2", "rejected", product_id="p2", reason="too dear"),
    done("s3", "click", rank=1),  # on nothing: it counts nowhere
    done("c1", "rejected", reason="wrong size"),
    done("c1", "rejected"),
    done("c1", "cited"),
    done("s4", "click", rank=1),
    done("s4", "purchase", value=100),
    done("s4", "thumbs", value=1),
    done("lost", "click", rank=1),
    done("lost", "csat", value=1, time=NOON + DAY),
]


def test_the_figures_of_a_log_worked_by_hand(store: Store) -> None:
    FeedbackLog(store).append(SERVED, DONE)
    counted = figures(store, ("arm", "day"))
    assert (counted.by, counted.since, counted.until, counted.orphans) == (("arm", "day"), None, None, 2)
    first, second = counted.groups
    assert first.group == {"arm": "a", "day": "2026-11-26"}
    assert (first.answers, first.further_pages) == (4, 1)
    assert first.rates == {
        "ctr": Rate(2, 3),
        "conversion": Rate(1, 4),
        "cart": Rate(1, 4),
        "zero_results": Rate(1, 4),
        "nothing_fits": Rate(2, 4),
        "rejected": Rate(2, 4),
        "cited": Rate(1, 1),
        "thumbs_up": Rate(1, 2),
        "satisfied": Rate(1, 2),
    }
    assert first.numbers == {
        "clicks_per_page": pytest.approx(3 / 3),
        "first_click_rr": 0.5,
        "first_click_n": 1,
        "csat_mean": pytest.approx(2.5),
        "csat_n": 2,
        "dwell_median_s": pytest.approx(20, rel=0.01),
        "dwell_n": 3,
        "revenue": pytest.approx(130),
    }
    assert list(first.reasons.items()) == [("too dear", 2), ("wrong size", 1)]
    assert first.skipped == {"rerank": 0.25}
    total, lexical = first.latency_ms["total"], first.latency_ms["lexical"]
    assert next(iter(first.latency_ms)) == "total"
    assert (total.p50, total.p99, total.n) == (pytest.approx(33, rel=0.01), pytest.approx(1000, rel=0.01), 4)
    assert (lexical.p50, lexical.p95) == (pytest.approx(20, rel=0.01), pytest.approx(1000, rel=0.01))
    assert first.latency_ms["fuse"].n == 2
    assert second.group == {"arm": "b", "day": "2026-11-27"}
    assert (second.answers, second.rates["cited"]) == (1, Rate(0, 1))
    assert (second.reasons, second.skipped, second.latency_ms) == ({}, {}, {})


def test_the_json_of_the_figures(store: Store) -> None:
    FeedbackLog(store).append(SERVED, DONE)
    since = datetime(2026, 11, 26, 3, tzinfo=timezone(timedelta(hours=3)))
    counted = orjson.loads(orjson.dumps(figures(store, ("day",), since, NOON + DAY).to_json()))
    assert (counted["by"], counted["orphans"]) == (["day"], 1)
    assert (counted["since"], counted["until"]) == ("2026-11-26T00:00:00+00:00", "2026-11-27T12:00:00+00:00")
    (group,) = counted["groups"]
    low, high = wilson_interval(2, 3)
    assert group["group"] == {"day": "2026-11-26"}
    assert group["rates"]["ctr"] == {"value": 2 / 3, "low": low, "high": high, "of": 3, "count": 2}
    assert set(group) == {
        "group", "answers", "further_pages", "rates", "numbers", "reasons", "skipped", "latency_ms",
    }  # fmt: skip
    assert set(group["latency_ms"]["total"]) == {"p50", "p95", "p99", "n"}


def test_an_empty_log_divides_nothing_by_nothing(store: Store) -> None:
    assert figures(store) == Figures(("day",), None, None, 0, ())
    (everything,) = figures(store, ()).groups
    assert (everything.group, everything.answers) == ({}, 0)
    assert set(everything.rates.values()) == {Rate(0, 0)}
    assert [rate.to_json()["value"] for rate in everything.rates.values()] == [None] * 9
    assert everything.numbers["clicks_per_page"] is None
    assert everything.numbers["revenue"] == 0


def test_a_log_of_interactions_alone_has_only_orphans(store: Store) -> None:
    FeedbackLog(store).append([], DONE)
    counted = figures(store)
    assert (counted.orphans, counted.groups) == (len(DONE), ())


def test_days_are_those_of_utc_and_of_the_page(store: Store) -> None:
    midnight = datetime(2026, 11, 27, tzinfo=UTC)
    moment = timedelta(microseconds=1)
    times = [datetime(1969, 12, 31, 23, 59, tzinfo=UTC), midnight - moment, midnight, midnight + DAY - moment]
    served = [page(f"s{n}", time=time) for n, time in enumerate(times)]
    clicks = [done(f"s{n}", "click", rank=1, time=midnight + 5 * DAY) for n in range(4)]
    FeedbackLog(store).append(served, clicks)
    found = {group.group["day"]: group.rates["ctr"] for group in figures(store).groups}
    assert found == {"1969-12-31": Rate(1, 1), "2026-11-26": Rate(1, 1), "2026-11-27": Rate(2, 2)}
    (bounded,) = figures(store, (), since=midnight - moment, until=midnight + DAY - moment).groups
    assert bounded.rates["ctr"] == Rate(2, 2)


ODD = ["", " ", "İ😀 ' \\ %s", "x'\"%b:c", "[bold]", "А/Б", "a\tb", "Ā", "z", "%(arm)s"]


def test_arms_and_reasons_may_hold_any_characters(store: Store) -> None:
    served = [page(f"s{n}", arm=arm, release=arm, kind=arm or "-") for n, arm in enumerate(ODD)]
    rejected = [done(f"s{n}", "rejected", reason=arm) for n, arm in enumerate(ODD)]
    skipped = page("s", arm="skips", skipped=('"]', "\\"), milliseconds={'"]': 1.0})
    FeedbackLog(store).append([*served, skipped], rejected)
    counted = figures(store, ("release", "arm", "kind"))
    groups = {group.group["arm"]: group for group in counted.groups}
    assert groups.pop("skips").skipped == {'"]': 1.0, "\\": 1.0}
    assert list(groups) == sorted(ODD)
    for arm, group in groups.items():
        assert group.group == {"release": arm, "arm": arm, "kind": arm or "-"}
        assert group.reasons == ({arm: 1} if arm else {})


def test_only_the_most_frequent_reasons_are_named_the_older_first(store: Store) -> None:
    reasons = ["once", "twice", "f", "e", "d", "c", "b", "twice"]
    FeedbackLog(store).append([page("s1")], [done("s1", "rejected", reason=reason) for reason in reasons])
    (group,) = figures(store).groups
    assert list(group.reasons.items()) == [("twice", 2), ("once", 1), ("f", 1), ("e", 1), ("d", 1)]


def test_too_many_groups_are_refused(store: Store) -> None:
    FeedbackLog(store).append([page(f"s{n}", arm=f"{n}") for n in range(4)], [])
    with mock.patch.object(module, "MOST_GROUPS", 3), pytest.raises(SettingError, match="more than 3 groups"):
        figures(store, ("arm", "day"))
    with mock.patch.object(module, "MOST_GROUPS", 4):
        assert len(figures(store, ("arm",)).groups) == 4


def test_settings_that_mean_nothing_are_refused(store: Store) -> None:
    with pytest.raises(SettingError, match="not by 'client': choose of arm, release, day, kind"):
        figures(store, ("arm", "client"))
    with pytest.raises(SettingError, match="by arm, arm: name each once"):
        figures(store, ("arm", "arm"))
    with pytest.raises(SettingError, match="until: 2026-11-26T12:00:00 has no zone"):
        figures(store, until=NOON.replace(tzinfo=None))


# --- two arms -------------------------------------------------------------------------------------


def group_of(arm: str, day: str, clicked: int, bought: int, pages: int) -> Group:
    rates = {"ctr": Rate(clicked, pages), "conversion": Rate(bought, pages)}
    return Group({"arm": arm, "day": day}, pages, 0, rates, {}, {}, {}, {})


def test_two_arms_are_compared_over_all_their_groups() -> None:
    groups = (group_of("a", "1", 20, 0, 30), group_of("a", "2", 28, 0, 50), group_of("b", "1", 56, 0, 70))
    found = compare(Figures(("arm", "day"), None, None, 0, groups), "a", "b")
    assert list(found) == ["ctr", "conversion"]
    assert (found["ctr"].first, found["ctr"].second) == (Rate(48, 80), Rate(56, 70))
    assert found["ctr"].value == pytest.approx(0.2)
    assert found["ctr"].interval == pytest.approx((0.0524, 0.3339), abs=5e-5)  # Newcombe's example
    assert found["conversion"].value == 0


def test_an_arm_without_pages_cannot_be_compared() -> None:
    counted = Figures(("arm",), None, None, 0, (group_of("a", "1", 1, 1, 2),))
    with pytest.raises(InputError, match=r"field 'arm': no page has this arm \(got 'b'\)\. There are: 'a'"):
        compare(counted, "a", "b")
    with pytest.raises(SettingError, match="only figures by arm"):
        compare(replace(counted, by=("day",)), "a", "b")


# --- times that a person types --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-26", datetime(2026, 11, 26, tzinfo=UTC)),
        ("2026-11-26T12:00:00Z", NOON),
        ("2026-11-26T15:00+03:00", NOON),
    ],
)
def test_a_day_or_a_time_with_its_zone_is_read(text: str, expected: datetime) -> None:
    assert read_moment(text, "since") == expected


@pytest.mark.parametrize(
    "text", ["", "yesterday", "2026-11-26T12:00", "2026-02-30", "0001-01-01T00:00+12:00"]
)
def test_other_times_are_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"field 'since': is no time .* Write a day, as in 2026-01-31, or"):
        read_moment(text, "since")


# --- against plain Python -------------------------------------------------------------------------

HOURS = st.integers(-40, 40).map(lambda hours: NOON + timedelta(hours=hours))
STAGES = st.dictionaries(st.sampled_from(["lexical", "dense", "total"]), st.floats(0, 1e4), max_size=3)
PAGES = st.builds(
    page,
    st.sampled_from([f"s{n}" for n in range(5)]),
    hits=st.integers(0, 2),
    time=HOURS,
    kind=st.sampled_from(["search", "context", "ask"]),
    first_rank=st.sampled_from([1, 1, 1, 11]),
    arm=st.sampled_from(["", "a", "b"]),
    release=st.sampled_from(["", "r1"]),
    answered=st.booleans(),
    skipped=st.sampled_from([(), ("rerank",), ("rerank", "dense")]),
    milliseconds=STAGES,
)
VALUES = {
    "dwell": st.floats(0, 1e4),
    "purchase": st.none() | st.floats(0, 1e3),
    "csat": st.integers(1, 5),
    "thumbs": st.sampled_from([1, -1]),
}


@st.composite
def interactions(draw: st.DrawFn) -> Interaction:
    action = draw(st.sampled_from(ACTIONS))
    changes: dict[str, Any] = {"rank": draw(st.none() | st.integers(1, 5)), "time": draw(HOURS)}
    changes["value"] = draw(VALUES.get(action, st.none()))
    if action == "rejected":
        changes["reason"] = draw(st.sampled_from(["", "dear", "size"]))
    return done(f"s{draw(st.integers(0, 5))}", action, **changes)


LOGS = st.tuples(
    st.lists(PAGES, max_size=5, unique_by=lambda served: served.impression_id),
    st.lists(interactions(), max_size=25),
)


def expected_groups(
    served: Iterable[Served], interactions: Sequence[Interaction], by: Sequence[str]
) -> dict[tuple[str, ...], dict[str, Any]]:
    """Return what each group should hold, one page after another."""
    with_page = defaultdict(list)
    for each in interactions:
        with_page[each.impression_id].append(each)
    groups = defaultdict(list)
    for each in served:
        names = {"arm": each.arm, "release": each.release, "kind": each.kind, "day": f"{each.time:%Y-%m-%d}"}
        groups[tuple(names[name] for name in by)].append((each, with_page[each.impression_id]))
    return {key: expected_group(pages) for key, pages in groups.items()}


def expected_group(pages: list[tuple[Served, list[Interaction]]]) -> dict[str, Any]:
    answers = [(served, each) for served, each in pages if served.first_rank == 1]
    hits = [(served, each) for served, each in answers if served.product_ids]
    sources = [(served, each) for served, each in answers if served.kind in ("context", "ask")]
    ranks = [[i.rank for i in each if i.action == "click" and i.rank] for _, each in hits]
    best = [1 / min(clicked) for clicked in ranks if clicked]
    stars, thumbs = last_values(pages, "csat"), last_values(pages, "thumbs")
    everything = [i for _, each in pages for i in each]
    dwell = [i.value for i in everything if i.action == "dwell"]
    return {
        "answers": len(answers),
        "further_pages": len(pages) - len(answers),
        "rates": {
            "ctr": having(hits, "click"),
            "conversion": having(answers, "purchase"),
            "cart": having(answers, "cart"),
            "zero_results": Rate(len(answers) - len(hits), len(answers)),
            "nothing_fits": Rate(sum(not served.answered for served, _ in answers), len(answers)),
            "rejected": having(answers, "rejected"),
            "cited": having(sources, "cited"),
            "thumbs_up": Rate(thumbs.count(1), len(thumbs)),
            "satisfied": Rate(sum(value >= 4 for value in stars), len(stars)),
        },
        "numbers": {
            "clicks_per_page": sum(i.action == "click" for _, each in hits for i in each) / len(hits)
            if hits
            else None,
            "first_click_rr": pytest.approx(statistics.mean(best)) if best else None,
            "first_click_n": len(best),
            "csat_mean": pytest.approx(statistics.mean(stars)) if stars else None,
            "csat_n": len(stars),
            "dwell_median_s": near(dwell, 0.5) if dwell else None,
            "dwell_n": len(dwell),
            "revenue": pytest.approx(sum(i.value or 0 for i in everything if i.action == "purchase")),
        },
        "reasons": Counter(i.reason for i in everything if i.action == "rejected" and i.reason),
        "skipped": {
            stage: pytest.approx(n / len(answers))
            for stage, n in Counter(stage for served, _ in answers for stage in served.skipped).items()
        },
        "latency_ms": expected_latency([served.milliseconds for served, _ in pages if served.milliseconds]),
    }


def having(pages: list[tuple[Served, list[Interaction]]], action: str) -> Rate:
    return Rate(sum(any(i.action == action for i in each) for _, each in pages), len(pages))


def last_values(pages: list[tuple[Served, list[Interaction]]], action: str) -> list[float]:
    given = [
        [(i.time, place, i.value) for place, i in enumerate(each) if i.action == action] for _, each in pages
    ]
    return [max(values)[2] for values in given if values]


def expected_latency(milliseconds: list[Any]) -> dict[str, Any]:
    stages = defaultdict(list)
    for each in milliseconds:
        for stage, value in {"total": sum(each.values()), **each}.items():
            stages[stage].append(value)
    return {stage: tuple(near(values, p) for p in (0.5, 0.95, 0.99)) for stage, values in stages.items()}


def near(values: list[Any], share: float) -> Any:
    return pytest.approx(float(np.quantile(values, share, method="inverted_cdf")), rel=0.0101, abs=1e-6)


def clear(store: Store) -> None:
    with store.transaction() as connection:
        connection.execute(IMPRESSIONS.delete())
        connection.execute(INTERACTIONS.delete())


BOUNDS = st.none() | HOURS
GROUPED = st.lists(st.sampled_from(BY), unique=True)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(log=LOGS, by=GROUPED, since=BOUNDS, until=BOUNDS)
def test_figures_agree_with_plain_python(
    store: Store,
    log: tuple[list[Served], list[Interaction]],
    by: list[str],
    since: datetime | None,
    until: datetime | None,
) -> None:
    served, interactions = log
    clear(store)
    FeedbackLog(store).append(served, interactions)

    def within(time: datetime) -> bool:
        return (since is None or since <= time) and (until is None or time < until)

    counted = figures(store, by, since, until)
    known = {each.impression_id for each in served}
    assert counted.orphans == sum(i.impression_id not in known and within(i.time) for i in interactions)
    expected = expected_groups([each for each in served if within(each.time)], interactions, by)
    keys = [tuple(group.group.values()) for group in counted.groups]
    assert keys == (sorted(expected) if by else [()])
    for key, group in zip(keys, counted.groups, strict=True):
        wanted = expected.get(key) or expected_group([])
        latency = {stage: (each.p50, each.p95, each.p99) for stage, each in group.latency_ms.items()}
        assert {**{name: getattr(group, name) for name in wanted}, "latency_ms": latency} == wanted
