"""The pairs that people judge: what two systems show, the most telling pair first, and who said what."""

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import func, select

from tilth.errors import InputError, TilthError
from tilth.interactions import query_id_of
from tilth.judgment_log import JudgmentLog, LogState
from tilth.judgments import Judgment, rescaled
from tilth.labelling.agreement import kappa
from tilth.labelling.choosing import CUTOFF, next_pairs
from tilth.labelling.pooling import Pair, pool
from tilth.pipeline import Pipeline
from tilth.query import Query, read_queries
from tilth.serve.systems import Chosen, described, first_hits, is_about, known_of
from tilth.store import Store
from tilth.store_schema import IMPRESSIONS, read_meta

PEOPLE = ("person",)  # the kind of judges whose judgments count here
MOST_QUERIES = 200  # both systems search for each of them
MOST_CHARACTERS = 500  # of a served query
LOOKED_BACK = 200_000  # impressions
ENOUGH = 50  # people who graded a pair: nobody else is asked
MINUTES = 30  # before the pairs are made anew
NONE: Mapping[str, "Given"] = {}

_log = logging.getLogger(__name__)


class Given(NamedTuple):
    """A grade from 0 to `highest`, and when it was given, in seconds since 1970."""

    grade: int
    highest: int
    time: float


class JudgingPool:
    """Pairs in the order in which they are worth a judgment; one thread at a time may use it."""

    def __init__(self, queries: Sequence[Query], chosen: Iterable[Chosen]) -> None:
        self.texts = {query.query_id: query.text for query in queries}
        self.pairs = {(each.query_id, each.product_id): each for each in chosen}
        self._said: dict[Pair, dict[str, Given]] = {}  # last opinions, by judge
        self._state: LogState | None = None  # of the log that they were read from

    @classmethod
    def of(
        cls, pipeline: Pipeline, log: JudgmentLog, queries: Sequence[Query], between: Sequence[str]
    ) -> "JudgingPool":
        """Search with both systems, and order what they show.

        Args:
            pipeline: of the index.
            log: with the labels of the bootstrap, if any; of other pairs it is not known whether they are
                relevant.
            queries: at most `MOST_QUERIES` are searched for.
            between: the names of the two systems.

        Returns:
            The pairs.
        """
        asked = queries[:MOST_QUERIES]
        if len(queries) > len(asked):
            _log.warning("of %d queries to judge for, the first %d are taken", len(queries), len(asked))
        a, b = (first_hits(pipeline, name, asked) for name in between)
        shown, known = pool({a.name: a, b.name: b}, CUTOFF), known_of(log, asked, ())
        order = next_pairs(a, b, {}, known.likely, len(shown))
        return cls(asked, described(order, shown, known, asked, pipeline.live.store))

    # --- what people said -------------------------------------------------------------------------

    def follow(self, log: JudgmentLog) -> None:
        """Take note of what was said and withdrawn since the last look at the log."""
        state = log.state()
        if self._state is None or state.withdrawn != self._state.withdrawn:
            self._said = {}
            self._note(log.of_queries(self.texts, PEOPLE))
        elif state.number != self._state.number:
            self._note(judgment for _, judgment in log.judgments(self._state.number))
        self._state = state  # read first: what came since then is noted twice, and nothing is missed

    def _note(self, judgments: Iterable[Judgment]) -> None:
        for each in judgments:
            pair = each.query_id, each.product_id
            if each.kind in PEOPLE and pair in self.pairs and is_about(each, self.texts[each.query_id]):
                said, now = self._said.setdefault(pair, {}), each.time.timestamp()
                known = said.get(each.judge)
                if (known is None and len(said) < ENOUGH) or (known is not None and known.time <= now):
                    said[each.judge] = Given(each.grade, each.highest, now)

    def grades(self, pair: Pair) -> Mapping[str, Given]:
        """Return the last grade of a pair by each judge."""
        return self._said.get(pair, NONE)

    # --- what is left -----------------------------------------------------------------------------

    def left(self, judge: str, skipped: Collection[Pair]) -> Iterator[Pair]:
        """Yield the pairs that a judge has neither graded nor skipped, the most telling first."""
        for pair in self.pairs:
            said = self.grades(pair)
            if judge not in said and len(said) < ENOUGH and pair not in skipped:
                yield pair

    def drop(self, pair: Pair) -> None:
        """Forget a pair whose product the shop does not have any more."""
        self.pairs.pop(pair, None)

    def progress(self, judge: str, skipped: Collection[Pair]) -> dict[str, int]:
        """Count pairs: graded by the judge (`mine`), by anybody, all, and those left for the judge."""
        said = [self.grades(pair) for pair in self.pairs]
        return {
            "mine": sum(judge in each for each in said),
            "judged": sum(map(bool, said)),
            "shown": len(said),
            "left": sum(1 for _ in self.left(judge, skipped)),
        }

    def agreement(self, judge: str, highest: int) -> dict[str, Any]:
        """Compare a judge with the others, on the pairs that both graded.

        Args:
            judge: who is compared.
            highest: the top of the scale that all grades are brought to.

        Returns:
            `pairs`, how many; `exact`, the share on which the judge says what most others say (of equally
            many the lower grade), None without pairs; `kappa`, Cohen's with squared weights, None where all
            grades are one.
        """
        own, theirs = [], []
        for pair in self.pairs:
            said = self.grades(pair)
            if judge in said and len(said) > 1:
                grades = {name: rescaled(each.grade, each.highest, highest) for name, each in said.items()}
                own.append(grades.pop(judge))
                theirs.append(_most_frequent(grades.values()))
        a, b = np.array(own, np.int64), np.array(theirs, np.int64)
        return {
            "pairs": len(own),
            "exact": float((a == b).mean()) if own else None,
            "kappa": kappa(a, b, highest, "quadratic") if own else None,
        }


def _most_frequent(grades: Collection[int]) -> int:
    """Return the grade that most gave, of equally frequent ones the lowest."""
    return min(grades, key=lambda grade: (-sum(each == grade for each in grades), grade))


# --- the queries ----------------------------------------------------------------------------------


def queries_to_judge(path: str, store: Store) -> list[Query]:
    """Return the queries whose answers are judged.

    Args:
        path: of a TSV file; empty: the most frequent ones that were served.
        store: with the log of what was served.

    Returns:
        At least one.

    Raises:
        InputError: there is none, or the file cannot be used.
    """
    queries = read_queries(path) if path else frequent_queries(store)
    if not queries:
        raise InputError(
            "is empty, and no search was served yet whose answers could be judged",
            field="judging.queries", remedy="Name a TSV file there, with the columns query_id and query",
        )  # fmt: skip
    return queries


_SERVED = (
    select(IMPRESSIONS.c.query, func.count().label("times"))
    .where(IMPRESSIONS.c.first_rank == 1, func.length(IMPRESSIONS.c.query) <= MOST_CHARACTERS)
    .group_by(IMPRESSIONS.c.query)
    .order_by(func.count().desc(), IMPRESSIONS.c.query)
    .limit(5 * MOST_QUERIES)  # spellings; those of one query are put together
)


def frequent_queries(store: Store, most: int = MOST_QUERIES) -> list[Query]:
    """Return the most frequent of the queries that were served, whatever their case and white space.

    Args:
        store: with the log; its last `LOOKED_BACK` impressions count.
        most: how many.

    Returns:
        The queries in their most frequent spelling, the most frequent first, with the ids of `query_id_of`.
    """
    with store.engine.connect() as connection:
        first = int(read_meta(connection, "impressions")) - LOOKED_BACK
        rows = connection.execute(_SERVED.where(IMPRESSIONS.c.number > first)).all()
    times: dict[str, int] = {}
    queries: dict[str, Query] = {}
    for text, count in rows:
        words = " ".join(text.split())
        if words:
            query_id = query_id_of(words)
            queries.setdefault(query_id, Query(query_id, words))
            times[query_id] = times.get(query_id, 0) + count
    return sorted(queries.values(), key=lambda query: -times[query.query_id])[:most]


# --- keeping them ---------------------------------------------------------------------------------


class PoolKeeper:
    """The pairs as they were made last; threads may share it.

    They are made at the first call, which so takes the time of up to 400 searches, and again by the first
    call after `MINUTES`, while others go on with those before.
    """

    def __init__(self, make: Callable[[], JudgingPool], clock: Callable[[], float] = time.monotonic) -> None:
        self._make, self._clock = make, clock
        self._making = threading.Lock()
        self._due = 0.0
        self.last: JudgingPool | None = None  # None before the first call

    def pool(self) -> JudgingPool:
        """Return the pairs; TilthError where they cannot be made and there are none from before."""
        pool = self.last
        if pool is None:
            with self._making:
                return self.last or self._made()
        if self._clock() < self._due or not self._making.acquire(blocking=False):
            return pool
        try:
            return self._renewed(self.last or pool)
        finally:
            self._making.release()

    def _made(self) -> JudgingPool:
        self.last = made = self._make()
        self._due = self._clock() + 60 * MINUTES
        return made

    def _renewed(self, before: JudgingPool) -> JudgingPool:
        if self._clock() < self._due:  # another thread has just done it
            return before
        try:
            return self._made()
        except TilthError as error:
            _log.error("the pairs to judge stay as they were: %s", error)
            self._due = self._clock() + 60 * MINUTES
            return before
