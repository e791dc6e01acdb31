"""How much at once, and how much for each: never more than allowed, and nobody is forgotten."""

import asyncio
import itertools
import math
import selectors
import sys
import threading
from collections import defaultdict
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilth.errors import SettingError, TilthError
from tilth.serve import limits
from tilth.serve.limits import Admission, BusyError, OverloadedError, Rates, TooManyRequestsError

T = TypeVar("T")


class Timeless(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next moment when there is something to do."""

    def __init__(self) -> None:
        self.now = 1000.0
        selector = selectors.DefaultSelector()
        select = selector.select

        def jump(timeout: float | None = None) -> list[Any]:
            assert timeout is not None, "nothing will ever happen again"
            self.now += timeout
            return select(0)

        selector.select = jump  # type: ignore[method-assign]
        super().__init__(selector)

    def time(self) -> float:
        return self.now


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=Timeless) as runner:
        return runner.run(coroutine)


async def hold(admission: Admission, seconds: float, wait: float = 100.0) -> float:
    """Hold a place for some seconds; return how long was waited for it."""
    loop = asyncio.get_running_loop()
    asked = loop.time()
    async with admission.enter(wait):
        waited = loop.time() - asked
        await asyncio.sleep(seconds)
    return waited


# --- how much at once -----------------------------------------------------------------------------


def test_places_are_taken_at_once_and_the_queue_moves_in_order() -> None:
    async def scene() -> None:
        admission = Admission(running=2, waiting=3)
        tasks = [asyncio.create_task(hold(admission, seconds)) for seconds in (4, 6, 3, 3, 3)]
        await asyncio.sleep(1)
        assert (admission.running, admission.queued) == (2, 3)
        # The first leaves at 4, the second at 6, the third at 7.
        assert await asyncio.gather(*tasks) == [0, 0, 4, 6, 7]
        assert (admission.running, admission.queued) == (0, 0)

    run(scene())


def test_a_full_queue_refuses_at_once() -> None:
    async def scene() -> None:
        admission = Admission(running=1, waiting=1)
        tasks = [asyncio.create_task(hold(admission, 5)) for _ in range(2)]
        await asyncio.sleep(1)
        with pytest.raises(OverloadedError, match=r"Try again in 1 second$"):
            await hold(admission, 5)
        assert asyncio.get_running_loop().time() == 1001
        assert await asyncio.gather(*tasks) == [0, 5]

    run(scene())


def test_an_expected_wait_that_is_too_long_refuses_at_once() -> None:
    async def scene() -> None:
        admission = Admission(running=2, waiting=10)
        await hold(admission, 3)
        assert admission.mean_seconds == pytest.approx(3)
        tasks = [asyncio.create_task(hold(admission, 3)) for _ in range(3)]
        await asyncio.sleep(1)
        # One waits, so a newcomer needs two to leave: 2 * 3 / 2 s.
        with pytest.raises(OverloadedError) as refused:
            await hold(admission, 3, wait=2.9)
        assert refused.value.retry_after == 3
        assert asyncio.get_running_loop().time() == 1004
        assert await hold(admission, 3, wait=3) == 2
        assert await asyncio.gather(*tasks) == [0, 0, 3]

    run(scene())


def test_a_free_place_is_taken_whatever_the_mean_is() -> None:
    async def scene() -> None:
        admission = Admission(running=1, waiting=0)
        await hold(admission, 1000)
        assert await hold(admission, 1, wait=0) == 0
        assert admission.mean_seconds == pytest.approx(0.9 * 1000 + 0.1 * 1)

    run(scene())


def test_who_has_waited_too_long_is_refused_and_leaves_the_queue() -> None:
    async def scene() -> None:
        admission = Admission(running=1, waiting=2)
        first = asyncio.create_task(hold(admission, 10))
        await asyncio.sleep(0)
        second = asyncio.create_task(hold(admission, 1, wait=4))
        third = asyncio.create_task(hold(admission, 1, wait=20))
        with pytest.raises(OverloadedError):
            await second
        assert asyncio.get_running_loop().time() == 1004
        assert admission.queued == 1
        assert await asyncio.gather(first, third) == [0, 10]

    run(scene())


def test_who_is_cancelled_leaves_the_queue_or_gives_the_place_back() -> None:
    async def scene() -> None:
        admission = Admission(running=1, waiting=2)
        tasks = [asyncio.create_task(hold(admission, 10)) for _ in range(3)]
        await asyncio.sleep(1)
        tasks[1].cancel()
        await asyncio.sleep(0)
        assert (admission.running, admission.queued) == (1, 1)
        tasks[0].cancel()
        assert await tasks[2] == 1
        assert admission.running == 0
        assert tasks[0].cancelled()
        assert tasks[1].cancelled()

    run(scene())


def test_a_place_handed_to_one_who_is_cancelled_goes_to_the_next() -> None:
    async def scene() -> None:
        admission = Admission(running=1, waiting=2)
        left = asyncio.Event()

        async def first() -> None:
            async with admission.enter(0):
                await left.wait()
            tasks[0].cancel()  # it has the place, and does not know yet

        holder = asyncio.create_task(first())
        await asyncio.sleep(0)
        tasks = [asyncio.create_task(hold(admission, 1)) for _ in range(2)]
        await asyncio.sleep(1)
        left.set()
        await holder
        assert await tasks[1] == 1
        assert tasks[0].cancelled()
        assert (admission.running, admission.queued) == (0, 0)

    run(scene())


def test_a_cancellation_at_the_end_of_patience_gives_up_no_place() -> None:
    async def scene() -> None:
        admission = Admission(running=1, waiting=1)
        first = asyncio.create_task(hold(admission, 10))
        await asyncio.sleep(0)
        second = asyncio.create_task(hold(admission, 1, wait=4))
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_at(1004, second.cancel)  # after the timer of its patience
        await asyncio.sleep(5)
        assert second.cancelled()
        assert admission.running == 1
        assert await first == 0
        assert admission.running == 0

    run(scene())


def test_an_error_in_the_block_gives_the_place_back() -> None:
    async def scene() -> None:
        admission = Admission(running=1, waiting=0)
        with pytest.raises(KeyError):
            async with admission.enter(0):
                raise KeyError
        assert admission.running == 0

    run(scene())


@dataclass
class Visit:
    """One who comes, `after` the one before, and would wait and stay for so long; cancelled if impatient."""

    after: float
    wait: float
    stay: float
    patience: float | None
    outcome: str = ""
    waited: float = 0.0
    entered: float = field(default=math.nan)


TIMES = st.integers(0, 6).map(lambda quarter: quarter / 4)  # so that much happens at the same moment
VISITS = st.lists(
    st.builds(Visit, after=TIMES, wait=TIMES, stay=TIMES, patience=st.none() | TIMES), max_size=25
)


@settings(max_examples=300, deadline=None)
@given(VISITS, st.integers(1, 3), st.integers(0, 4))
def test_whatever_comes_the_limits_hold_and_nobody_is_forgotten(
    visits: list[Visit], running: int, waiting: int
) -> None:
    admission = Admission(running, waiting)
    inside: set[int] = set()

    def check() -> None:
        assert len(inside) <= admission.running <= running
        assert admission.queued <= waiting
        assert not admission.queued or admission.running == running  # no place is free while one waits

    async def visit(number: int, one: Visit) -> None:
        loop = asyncio.get_running_loop()
        asked = loop.time()
        try:
            async with admission.enter(one.wait):
                one.entered, one.waited, one.outcome = loop.time(), loop.time() - asked, "entered"
                inside.add(number)
                check()
                try:
                    await asyncio.sleep(one.stay)
                finally:
                    inside.remove(number)
        except OverloadedError as error:
            one.outcome, one.waited = "refused", loop.time() - asked
            assert error.retry_after >= 1
        finally:
            check()

    async def scene() -> None:
        loop, tasks = asyncio.get_running_loop(), []
        for number, one in enumerate(visits):
            await asyncio.sleep(one.after)
            tasks.append(asyncio.create_task(visit(number, one)))
            if one.patience is not None:
                loop.call_later(one.patience, tasks[-1].cancel)
        await asyncio.gather(*tasks, return_exceptions=True)
        for one, task in zip(visits, tasks, strict=True):
            assert one.outcome or task.cancelled()
            assert task.cancelled() or task.exception() is None

    run(scene())
    assert (admission.running, admission.queued, inside) == (0, 0, set())
    assert all(one.waited <= one.wait + 1e-6 for one in visits)
    entered = [one.entered for one in visits if one.outcome == "entered"]
    assert entered == sorted(entered)  # first come, first served


@pytest.mark.parametrize(("running", "waiting"), [(0, 1), (1, -1)])
def test_impossible_limits_are_refused(running: int, waiting: int) -> None:
    with pytest.raises(SettingError, match=f"got {running} and {waiting}"):
        Admission(running, waiting)


# --- how much for each ----------------------------------------------------------------------------


class Clock:
    """A clock that is put forward by hand."""

    def __init__(self) -> None:
        self.now = 1e6

    def __call__(self) -> float:
        return self.now


def spends(rates: Rates, key: str, amount: float = 1) -> bool:
    try:
        rates.spend(key, amount)
    except TooManyRequestsError:
        return False
    return True


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    clock = Clock()
    rates = Rates(per_minute=60, burst=5, clock=clock)
    assert [spends(rates, "a") for _ in range(7)] == [True] * 5 + [False] * 2
    assert spends(rates, "b")
    clock.now += 1
    assert [spends(rates, "a") for _ in range(2)] == [True, False]
    clock.now += 3600  # it holds no more than its burst
    assert [spends(rates, "a") for _ in range(7)] == [True] * 5 + [False] * 2


def test_a_refusal_says_when_there_will_be_enough_and_costs_nothing() -> None:
    clock = Clock()
    rates = Rates(per_minute=6, burst=3, clock=clock)
    rates.spend("a", 2)
    for _ in range(10):
        with pytest.raises(TooManyRequestsError, match=r"Try again in 20 seconds") as refused:
            rates.spend("a", 3)  # one is there, and each of the others takes 10 s
        assert refused.value.retry_after == 20
    clock.now += 19
    assert not spends(rates, "a", 3)
    clock.now += 1
    assert spends(rates, "a", 3)


def test_more_than_a_burst_needs_a_full_bucket_and_has_to_be_made_up_for() -> None:
    clock = Clock()
    rates = Rates(per_minute=60, burst=10, clock=clock)
    rates.spend("a", 30)
    with pytest.raises(TooManyRequestsError) as refused:
        rates.spend("a")
    assert refused.value.retry_after == 21
    clock.now += 29
    assert not spends(rates, "a", 30)
    clock.now += 1
    assert spends(rates, "a", 30)


def test_rounding_takes_nothing_away() -> None:
    clock = Clock()
    clock.now = 123456789.1
    rates = Rates(per_minute=7, burst=1000, clock=clock)
    assert all(spends(rates, "a", 0.1) for _ in range(10_000))
    assert not spends(rates, "a", 0.1)


def test_full_buckets_go_and_the_others_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MOST_KEYS", 3)
    clock = Clock()
    rates = Rates(per_minute=60, burst=5, clock=clock)
    rates.spend("empty", 5)
    rates.spend("used")
    rates.spend("other")
    clock.now += 2  # two are full again
    rates.spend("new")
    assert set(rates._full) == {"empty", "new"}
    assert [spends(rates, "empty") for _ in range(3)] == [True, True, False]


def test_without_room_newcomers_share_a_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MOST_KEYS", 2)
    clock = Clock()
    rates = Rates(per_minute=60, burst=5, clock=clock)
    rates.spend("a", 5)
    rates.spend("b", 2)
    assert [spends(rates, f"new {number}") for number in range(7)] == [True] * 5 + [False] * 2
    assert spends(rates, "b", 3)  # who has a bucket is not touched
    clock.now += 3
    assert [spends(rates, f"newer {number}") for number in range(4)] == [True] * 3 + [False]
    clock.now += 2  # both are full again, and dropped; c begins as empty as the shared one is
    assert [spends(rates, "c") for _ in range(3)] == [True, True, False]
    assert set(rates._full) == {"c"}


def test_however_many_keys_there_are_memory_is_bounded() -> None:
    clock = Clock()
    rates = Rates(per_minute=6000, burst=2, clock=clock)
    for number in range(3 * limits.MOST_KEYS):
        spends(rates, f"key {number}")
        clock.now += 0.0005
    assert len(rates._full) <= limits.MOST_KEYS


SPENDING = st.lists(
    st.tuples(st.integers(0, 7), st.floats(0, 4), st.sampled_from([0.5, 1, 1, 2, 5])), max_size=120
)


@settings(max_examples=300, deadline=None)
@given(SPENDING, st.integers(1, 4), st.integers(0, 3))
def test_no_key_gets_more_than_a_burst_and_its_rate(
    spending: list[tuple[int, float, float]], burst: int, most_keys: int
) -> None:
    """Keys that come and go, share a bucket and get one of their own: in no window is more given to one."""
    clock, given_to = Clock(), defaultdict[str, list[tuple[float, float]]](list)
    rates = Rates(per_minute=60, burst=burst, clock=clock)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(limits, "MOST_KEYS", most_keys)
        for key, pause, amount in spending:
            clock.now += pause
            if spends(rates, str(key), amount):
                given_to[str(key)].append((clock.now, amount))
            assert len(rates._full) <= most_keys
    for events in given_to.values():
        for first, last in itertools.combinations_with_replacement(range(len(events)), 2):
            window = events[last][0] - events[first][0]
            before_the_last = sum(amount for _, amount in events[first:last])
            # The last may go into debt, for which its successors pay.
            assert before_the_last + min(events[last][1], burst) <= burst + window + 1e-4
    everything = sum(amount for events in given_to.values() for _, amount in events)
    assert everything <= (most_keys + 1) * (burst + sum(pause for _, pause, _ in spending)) + 5 * (
        most_keys + 1
    )


def test_threads_together_get_no_more_than_one_would() -> None:
    clock = Clock()
    rates = Rates(per_minute=1, burst=1000, clock=clock)
    granted: list[int] = []
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [
            threading.Thread(target=lambda: granted.append(sum(spends(rates, "a") for _ in range(500))))
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert sum(granted) == 1000


@pytest.mark.parametrize(("per_minute", "burst"), [(0, 1), (-1, 1), (math.nan, 1), (60, 0)])
def test_impossible_rates_are_refused(per_minute: float, burst: int) -> None:
    with pytest.raises(SettingError, match=f"and {burst}"):
        Rates(per_minute, burst)


def test_errors_carry_whole_seconds_of_at_least_one() -> None:
    assert [OverloadedError(seconds).retry_after for seconds in (0, 0.2, 1, 1.01, 59.5)] == [1, 1, 1, 2, 60]
    assert issubclass(BusyError, TilthError)
    assert issubclass(TooManyRequestsError, BusyError)
