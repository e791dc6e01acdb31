"""People judge pairs over the network: which pair comes next, how far one is, skipping and taking back."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from heapq import nsmallest
from typing import Any, NamedTuple

from tilth.catalog import product_to_json
from tilth.errors import InputError, SettingError
from tilth.judgment_log import JudgmentLog
from tilth.judgments import SCALES, Judgment, rescaled
from tilth.labelling.aggregation import last_opinions
from tilth.labelling.pooling import Pair
from tilth.pipeline import Pipeline
from tilth.serve.judging_pool import PEOPLE, JudgingPool, PoolKeeper, queries_to_judge
from tilth.serve.judgment_json import checked_id, judge_name, read_judgment
from tilth.serve.systems import BETWEEN, Chosen, is_about, two_systems

SECOND_OPINION = 5  # of every so many pairs of a judge, one that somebody else has graded
SHOWN_MINUTES = 5  # for which a pair is put back for others once it was given to one
MOST_JUDGES = 100  # whose open and skipped pairs are remembered
MOST_SKIPPED = 5_000  # pairs a judge
MOST_TAKEN_BACK = 100  # pairs a judge, not yet graded again
MOST_JUDGMENTS = 1_000  # at once

_LOOK = 20  # pairs whose products are looked up at once
_MICROSECOND = timedelta(microseconds=1)


class _Waiting(NamedTuple):
    """A pair that a judge was given and has not answered; with a grade, if that was taken back."""

    query_id: str
    query: str
    product_id: str
    why: str
    since: float  # seconds of the clock
    given: tuple[int, int] | None = None  # the grade, and the top of its scale

    @property
    def pair(self) -> Pair:
        return self.query_id, self.product_id


@dataclass(slots=True)
class _Session:
    """What is remembered of a judge while the process runs."""

    waiting: list[_Waiting] = field(default_factory=list)  # the last one is shown
    skipped: dict[Pair, datetime] = field(default_factory=dict)  # in the order of time
    chosen: int = 0

    def settle(self, pair: Pair) -> None:
        self.waiting = [each for each in self.waiting if each.pair != pair]

    def wait(self, waiting: _Waiting) -> None:
        self.settle(waiting.pair)
        self.waiting = [*self.waiting, waiting][-MOST_TAKEN_BACK:]

    def skip(self, pair: Pair, now: datetime) -> None:
        self.skipped.pop(pair, None)
        self.skipped[pair] = now
        if len(self.skipped) > MOST_SKIPPED:
            del self.skipped[next(iter(self.skipped))]


class Judging:
    """The pairs that people judge, and their judgments; threads may share it.

    Judgments are in the log when a method returns. What a judge was given and skipped is in memory only:
    after a restart, and for all but the last `MOST_JUDGES` judges, skipped pairs come again.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        log: JudgmentLog,
        *,
        queries: str = "",
        between: str = BETWEEN,
        highest: int = 3,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Check the settings; the pairs are made at the first call that needs them.

        Args:
            pipeline: of the index.
            log: where judgments go.
            queries: a TSV file of queries; empty: the most frequent ones that were served.
            between: two systems, as in `lexical,hybrid`: their difference is what the judgments are to show.
            highest: the top of the scale where a request names none: 1, 3 or 5.
            clock: seconds that never go back.

        Raises:
            SettingError: there are no such systems, or there is no such scale.
        """
        names = two_systems(pipeline, between, "judging.between")
        if highest not in SCALES:
            raise SettingError(f"judging.highest is {highest}; scales are 0-1, 0-3 and 0-5")
        store = self._store = pipeline.live.store
        self._log, self._highest, self._clock = log, highest, clock
        self._keeper = PoolKeeper(
            lambda: JudgingPool.of(pipeline, log, queries_to_judge(queries, store), names), clock
        )
        self._lock = threading.Lock()  # of the sessions, and of the pairs
        self._undoing = threading.Lock()
        self._sessions: OrderedDict[str, _Session] = OrderedDict()
        self._last_time = datetime.min.replace(tzinfo=UTC)

    # --- the next pair ----------------------------------------------------------------------------

    def next(self, judge: str, highest: int | None = None) -> dict[str, Any]:
        """Return the pair that a judge is to grade, the same one until it is graded or skipped.

        Args:
            judge: a name.
            highest: the top of the judge's scale: 1, 3 or 5; None: that of the settings.

        Returns:
            JSON: `pair` with `query_id`, `query`, `product`, `why` and `given` (a grade that was taken back),
            or None where nothing is left; `highest`; `progress` and `agreement` as in `JudgingPool`.

        Raises:
            InputError: the name cannot be one, there is no such scale, or there are no queries.
        """
        name, top = judge_name(judge), self._top(highest)
        pool = self._keeper.pool()
        with self._lock:
            pool.follow(self._log)
            session = self._session(name)
            pair = self._shown(name, session, pool, top)
            if pair is None and self._choose(name, session, pool):
                pair = self._shown(name, session, pool, top)
            return {
                "pair": pair,
                "highest": top,
                "progress": pool.progress(name, session.skipped),
                "agreement": pool.agreement(name, top),
            }

    def _shown(self, judge: str, session: _Session, pool: JudgingPool, top: int) -> dict[str, Any] | None:
        """Return the pair that waits for the judge, if its product is still there."""
        while session.waiting:
            last = session.waiting[-1]
            answered = last.given is None and judge in pool.grades(last.pair)
            product = None if answered else self._product(last.product_id)
            if product is not None:
                return _pair_json(last, product, None if last.given is None else rescaled(*last.given, top))
            session.waiting.pop()
        return None

    def _choose(self, judge: str, session: _Session, pool: JudgingPool) -> bool:
        """Let the best pair for a judge wait, and tell whether there is one.

        Pairs that others were given a moment ago come last, so that two people do not grade one pair without
        need; among the rest, pairs that nobody has graded come first, or at every `SECOND_OPINION`th turn
        those that somebody has.
        """
        busy, second = self._busy(judge), session.chosen % SECOND_OPINION == SECOND_OPINION - 1

        def order(pair: Pair) -> tuple[bool, bool]:
            return pair in busy, bool(pool.grades(pair)) != second

        while found := nsmallest(_LOOK, pool.left(judge, session.skipped), key=order):
            products = self._store.products([product_id for _, product_id in found])
            for pair in found:
                if pair[1] in products:
                    chosen = pool.pairs[pair]
                    why = f"{chosen.why}; a second opinion" if pool.grades(pair) else chosen.why
                    session.wait(_Waiting(pair[0], chosen.query, pair[1], why, self._clock()))
                    session.chosen += 1
                    return True
                pool.drop(pair)
        return False

    def _busy(self, judge: str) -> set[Pair]:
        """Return the pairs that others were given within the last minutes and have not answered."""
        since = self._clock() - 60 * SHOWN_MINUTES
        others = (session for name, session in self._sessions.items() if name != judge)
        return {each.pair for session in others for each in session.waiting if each.since > since}

    def skip(self, judge: str, query_id: str, product_id: str) -> None:
        """Leave a pair out for a judge, while the process runs.

        Args:
            judge: a name.
            query_id: of the pair.
            product_id: of the pair; one that is not to be judged any more is passed over.

        Raises:
            InputError: a value is no such text, or there are no queries.
        """
        name = judge_name(judge)
        pair = checked_id("query_id", query_id), checked_id("product_id", product_id)
        pool = self._keeper.pool()
        with self._lock:
            session = self._session(name)
            session.settle(pair)
            if pair in pool.pairs:
                session.skip(pair, self._now())

    # --- judgments --------------------------------------------------------------------------------

    def judge(self, judgments: list[dict[str, Any]]) -> int:
        """Add people's judgments to the log; when this returns, they survive a power failure.

        Args:
            judgments: JSON objects as `read_judgment` takes them. Neither query nor product need be known.
                One that only repeats what its judge said of the pair last is passed over: whoever got no
                answer may send it again.

        Returns:
            How many were added.

        Raises:
            InputError: one cannot be used, or there are too many; nothing is added then.
        """
        if not isinstance(judgments, list) or len(judgments) > MOST_JUDGMENTS:
            raise InputError(f"is no list of at most {MOST_JUDGMENTS:,} judgments", field="judgments")
        said = [self._judgment(place, values) for place, values in enumerate(judgments)]
        added = self._log.append(list(self._news(said)))
        with self._lock:
            for each in said:
                if session := self._sessions.get(each.judge):
                    session.settle((each.query_id, each.product_id))
                    session.skipped.pop((each.query_id, each.product_id), None)
        return added

    def _judgment(self, place: int, values: object) -> Judgment:
        with self._lock:
            now = self._now()
        try:
            judgment = read_judgment(values, self._highest, now)
        except InputError as error:
            where = f"judgments[{place}]" + (f".{error.field}" if error.field else "")
            raise InputError(error.reason, field=where, value=error.value, remedy=error.remedy) from error
        pool = self._keeper.last
        known = "" if pool is None else pool.texts.get(judgment.query_id, "")
        return judgment if judgment.query else replace(judgment, query=known)

    def _news(self, said: list[Judgment]) -> Iterator[Judgment]:
        """Yield what differs from the last opinion of the judge on the pair, or answers a pair that waits."""
        before = self._log.of_queries({each.query_id for each in said}, PEOPLE)
        last = {_whose(each): each for each in last_opinions(before)}
        for each in said:
            known = last.get(_whose(each))
            if known is None or not _says(each, known) or self._waits(each):
                yield each
            last[_whose(each)] = each

    def _waits(self, judgment: Judgment) -> bool:
        pair = judgment.query_id, judgment.product_id
        with self._lock:
            session = self._sessions.get(judgment.judge)
            return session is not None and any(each.pair == pair for each in session.waiting)

    def undo(self, judge: str) -> dict[str, Any]:
        """Take back what a judge did last: the judgment is withdrawn, or the skipped pair waits again.

        Args:
            judge: a name.

        Returns:
            JSON: `pair` as of `next`, which gives it now, with the grade that was taken back in `given` (None
            of a skipped one), and its scale in `highest`; `pair` is None if there is nothing to take back.

        Raises:
            InputError: the name cannot be one.
        """
        name = judge_name(judge)
        with self._undoing:  # two at once take back two judgments
            last = self._log.last_of(name)
            waiting = self._unskipped(name, last)
            if waiting is None and last is not None:
                waiting = self._withdrawn(last)
            if waiting is None:
                return {"pair": None}
            with self._lock:
                self._session(name).wait(waiting)
        grade, highest = waiting.given or (None, self._highest)
        product = self._product(waiting.product_id) or {"id": waiting.product_id, "title": ""}
        return {"pair": _pair_json(waiting, product, grade), "highest": highest}

    def _unskipped(self, judge: str, last: Judgment | None) -> _Waiting | None:
        """Let the pair be asked again that was skipped last, if that was after the last judgment."""
        with self._lock:
            skipped, pairs = self._session(judge).skipped, self._pairs()
            pair = next(reversed(skipped), None)
            if pair is None or pair not in pairs or (last is not None and skipped[pair] < last.time):
                return None
            del skipped[pair]
            chosen = pairs[pair]
            return _Waiting(chosen.query_id, chosen.query, chosen.product_id, chosen.why, self._clock())

    def _withdrawn(self, last: Judgment) -> _Waiting | None:
        with self._lock:
            now = self._now()
        taken = self._log.withdraw(last.judge, last.query_id, last.product_id, now)
        if taken is None:  # another process was faster
            return None
        chosen = self._pairs().get((taken.query_id, taken.product_id))
        why, given = chosen.why if chosen else "", (taken.grade, taken.highest)
        return _Waiting(taken.query_id, taken.query, taken.product_id, why, self._clock(), given)

    # --- what is remembered -----------------------------------------------------------------------

    def _session(self, judge: str) -> _Session:
        """Return what is remembered of a judge; whoever was away longest is forgotten."""
        session = self._sessions.setdefault(judge, _Session())
        self._sessions.move_to_end(judge)
        if len(self._sessions) > MOST_JUDGES:
            self._sessions.popitem(last=False)
        return session

    def _pairs(self) -> Mapping[Pair, Chosen]:
        return {} if self._keeper.last is None else self._keeper.last.pairs

    def _product(self, product_id: str) -> dict[str, object] | None:
        product = self._store.products([product_id]).get(product_id)
        return None if product is None else product_to_json(product)

    def _now(self) -> datetime:
        """Return a time after all those before it, so that a judgment is never taken for an earlier one."""
        self._last_time = max(datetime.now(UTC), self._last_time + _MICROSECOND)
        return self._last_time

    def _top(self, highest: int | None) -> int:
        if highest is None:
            return self._highest
        if highest not in SCALES:
            raise InputError(
                "is not the top of a scale",
                field="highest", value=highest, remedy="Scales are 0-1, 0-3 and 0-5",
            )  # fmt: skip
        return highest


def _whose(judgment: Judgment) -> tuple[str, str, str]:
    return judgment.judge, judgment.query_id, judgment.product_id


def _says(judgment: Judgment, known: Judgment) -> bool:
    """Tell whether a judgment only repeats what is known."""
    return judgment == replace(known, time=judgment.time, query=judgment.query) and (
        is_about(known, judgment.query) or not judgment.query
    )


def _pair_json(waiting: _Waiting, product: dict[str, object], given: int | None) -> dict[str, Any]:
    named = {"query_id": waiting.query_id, "query": waiting.query, "product": product}
    return {**named, "why": waiting.why, "given": given}
