"""What a search has time for: estimates that learn and forget, and deadlines that leave out what is dear."""

import math
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilth.retrieval.deadline import FINISH, Costs, Deadline

times = st.lists(st.floats(0.01, 10_000), min_size=1, max_size=60)


class Clock:
    """A clock that goes only when it is told to."""

    seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def costs_of(stage: str, *measured: float) -> Costs:
    costs = Costs()
    for milliseconds in measured:
        costs.took(stage, milliseconds)
    return costs


# --- costs ----------------------------------------------------------------------------------------


def test_what_was_never_measured_costs_nothing() -> None:
    costs = costs_of("dense", 20)
    assert costs.expected("rerank") == 0
    costs.left_out("rerank")
    assert costs.expected("rerank") == 0


def test_a_mean_and_twice_the_deviation_from_it() -> None:
    costs = costs_of("dense", 10)
    assert costs.expected("dense") == 10
    costs.took("dense", 20)  # off by 10: deviation 1, mean 11
    assert costs.expected("dense") == pytest.approx(11 + 2 * 1)
    costs.took("dense", 11)  # off by nothing: deviation 0.9
    assert costs.expected("dense") == pytest.approx(11 + 2 * 0.9)


def test_each_stage_has_an_estimate_of_its_own() -> None:
    costs = costs_of("dense", 10)
    costs.took("rerank", 3)
    assert (costs.expected("dense"), costs.expected("rerank")) == (10, 3)


@given(times)
def test_an_estimate_lies_among_what_was_measured(measured: list[float]) -> None:
    low, high = min(measured), max(measured)
    expected = costs_of("dense", *measured).expected("dense")
    assert low * (1 - 1e-9) <= expected <= (high + 2 * (high - low)) * (1 + 1e-9)


@given(times, st.floats(0.01, 10_000))
def test_a_new_state_is_learned_whatever_was_before(before: list[float], now: float) -> None:
    costs = costs_of("dense", *before, *[now] * 300)
    assert costs.expected("dense") == pytest.approx(now, rel=1e-3, abs=0.01)


@given(times, st.floats(0.01, 10_000))
def test_a_slower_one_never_lowers_the_estimate(before: list[float], more: float) -> None:
    costs = costs_of("dense", *before)
    mean = costs_of("dense", *before)._costs["dense"].mean
    costs.took("dense", mean + more)
    assert costs._costs["dense"].mean >= mean


@given(times, st.integers(1, 50))
def test_what_is_left_out_becomes_cheaper_each_time(measured: list[float], number: int) -> None:
    costs = costs_of("dense", *measured)
    before = costs.expected("dense")
    for _ in range(number):
        last = costs.expected("dense")
        costs.left_out("dense")
        assert costs.expected("dense") < last
    assert costs.expected("dense") >= before * 0.5**number


@given(st.floats(1, 1_000_000), st.floats(1, 3_000))
def test_a_stage_is_tried_again_some_day_however_dear_it_was(cost: float, milliseconds: float) -> None:
    costs, clock = costs_of("dense", cost), Clock()
    tries = 0
    while not Deadline(milliseconds, costs, clock).allows("dense"):
        tries += 1
        assert tries < 5_000


# --- deadlines ------------------------------------------------------------------------------------


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_without_a_deadline_nothing_is_left_out(clock: Clock) -> None:
    deadline = Deadline(costs=costs_of("dense", 1e12), clock=clock)
    assert deadline.allows("dense")
    clock.seconds += 1e9
    assert deadline.allows("dense")
    assert (deadline.skipped, deadline.left()) == ({}, math.inf)


def test_time_passes(clock: Clock) -> None:
    deadline = Deadline(50, clock=clock)
    assert deadline.left() == pytest.approx(50)
    clock.seconds += 0.02
    assert deadline.left() == pytest.approx(30)
    clock.seconds += 0.04
    assert deadline.left() == pytest.approx(-10)


def test_what_comes_in_the_end_is_set_aside(clock: Clock) -> None:
    deadline = Deadline(50, costs_of(FINISH, 15), clock)
    assert deadline.left() == pytest.approx(35)


def test_a_stage_is_left_out_where_it_does_not_fit(clock: Clock) -> None:
    costs = costs_of("dense", 30)
    deadline = Deadline(50, costs, clock)
    assert deadline.allows("dense")
    clock.seconds += 0.021
    assert not deadline.allows("dense")
    assert deadline.skipped == {"dense": "29 of 50 ms were left, and it takes 30 ms"}
    assert costs.expected("dense") < 30


def test_the_time_of_a_stage_to_come_is_not_spent(clock: Clock) -> None:
    costs = costs_of("dense", 30)
    costs.took("own", 5)
    deadline = Deadline(34, costs, clock)
    assert not deadline.allows("dense", sparing=["own"])
    assert deadline.skipped == {"dense": "29 of 34 ms were left, and it takes 30 ms"}
    assert deadline.allows("own")
    assert Deadline(36, costs_of("dense", 30), clock).allows("dense", sparing=["own", "never measured"])
    assert Deadline(34, costs_of("dense", 30), clock).allows("dense")


def test_a_stage_that_fits_at_another_try_was_not_left_out(clock: Clock) -> None:
    costs = costs_of("dense", 500)
    deadline = Deadline(50, costs, clock)
    assert not deadline.allows("dense")
    assert deadline.allows("rerank")
    assert deadline.skipped.keys() == {"dense"}
    for _ in range(100):
        costs.took("dense", 1)
    assert deadline.allows("dense")
    assert deadline.skipped == {}


@pytest.mark.parametrize("milliseconds", [0, -0.0, -1, 1e-9])
def test_without_time_even_what_was_never_measured_is_left_out(milliseconds: float, clock: Clock) -> None:
    deadline = Deadline(milliseconds, clock=clock)
    clock.seconds += 1e-6
    assert not deadline.allows("dense")
    assert deadline.skipped["dense"].startswith("0 of ")


def test_a_stage_is_measured_unless_it_fails(clock: Clock) -> None:
    costs = Costs()
    deadline = Deadline(50, costs, clock)
    with deadline.timed("dense"):
        clock.seconds += 0.012
    assert costs.expected("dense") == pytest.approx(12)
    with pytest.raises(KeyError), deadline.timed("dense"):
        clock.seconds += 5
        raise KeyError
    assert costs.expected("dense") == pytest.approx(12)


@given(st.floats(0, 3_000), st.floats(0, 3_000), st.floats(0, 3_000))
def test_a_stage_is_allowed_exactly_where_it_fits(milliseconds: float, gone: float, cost: float) -> None:
    clock, costs = Clock(), costs_of("dense", cost)
    deadline = Deadline(milliseconds, costs, clock)
    clock.seconds += gone / 1000
    left = deadline.left()
    allowed = deadline.allows("dense")
    assert allowed == (left > cost)
    assert ("dense" in deadline.skipped) != allowed


def test_threads_share_costs() -> None:
    costs = Costs()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: costs.took("dense", 5.0), range(2_000)))
    assert costs.expected("dense") == pytest.approx(5)
