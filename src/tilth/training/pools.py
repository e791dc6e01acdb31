"""Pools with their grades: where the features of the system meet the labels of the science."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tilth.errors import InputError, SettingError
from tilth.feedback import Impression
from tilth.pipeline import Pipeline, Pool
from tilth.qrels import Qrels
from tilth.query import Query
from tilth.reranking.behaviour import NO_BEHAVIOUR, Behaviour, Counts
from tilth.reranking.feature_names import NAMES
from tilth.reranking.training import TrainingData
from tilth.retrieval.build_settings import Progress
from tilth.run import Hit, Run

NO_ANSWER = "none"  # the kind of queries of which it is known that the shop has no answer
_IDENTIFIED = NAMES.index("identified")


@dataclass(frozen=True, slots=True)
class LabelledPool:
    """The candidates of one query, M products, with what is known of their grades."""

    query: Query
    pool: Pool
    grades: npt.NDArray[np.int64]  # (M,) 0 where unjudged, as measures read it
    judged: npt.NDArray[np.bool_]  # (M,) all true where the query is known to have no answer
    answerable: bool  # whether the shop has an answer, as far as was judged
    labels: int  # judgments of candidates that were made; 1 where only the lack of an answer is known

    def identified_first(self, scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Lift the products whose identifier was typed above all others, as serving does."""
        known = self.pool.features[:, _IDENTIFIED] == 1
        return np.where(known, scores + 1 + np.ptp(scores), scores)


def untold(stage: str, done: int, total: int | None = None, /) -> None:
    """Report progress to nobody."""


def known_queries(queries: Iterable[Query], qrels: Qrels) -> list[Query]:
    """Return the queries that say something: those that are judged or known to have no answer."""
    return [query for query in queries if query.query_id in qrels.grades or query.kind == NO_ANSWER]


def count_clicks(pages: Iterable[Impression]) -> Behaviour:
    """Return how often each product was shown and clicked after each query, as the features need it.

    Args:
        pages: a log of result pages.

    Returns:
        The counts; positions are not corrected for.
    """
    counts: dict[tuple[str, str], Counts] = {}
    for page in pages:
        for rank, product_id in enumerate(page.shown, start=1):
            shown, clicked = counts.get((page.query, product_id), (0.0, 0.0))
            counts[page.query, product_id] = Counts(shown + 1, clicked + (rank in page.clicked))
    return Behaviour.of(counts)


def label_pools(
    pipeline: Pipeline,
    queries: Sequence[Query],
    qrels: Qrels,
    depth: int,
    behaviour: Behaviour = NO_BEHAVIOUR,
    *,
    relevant: int = 1,
    progress: Progress = untold,
) -> list[LabelledPool]:
    """Retrieve the pools of queries and join the grades.

    Args:
        pipeline: what retrieves; its fusion orders the pools.
        queries: those of `known_queries` are kept.
        qrels: the grades.
        depth: candidates a query.
        behaviour: clicks, for the features.
        relevant: the least grade of an answer.
        progress: is told of every query.

    Returns:
        The pools, in the order of the queries; a query without candidates has none.

    Raises:
        InputError: no query has both a judgment and candidates.
    """
    wanted = {query.query_id: query for query in known_queries(queries, qrels)}
    labelled = []
    for pool in pipeline.pools(list(wanted.values()), depth, behaviour):
        labelled.append(_label(wanted[pool.query_id], pool, qrels, relevant))
        progress("searching", len(labelled), len(wanted))
    if not any(pool.judged.any() for pool in labelled if pool.query.query_id in qrels.grades):
        raise InputError(
            "no query has a judged product among its candidates",
            remedy="Queries and qrels need the same query ids, and qrels the product ids of the catalogue",
        )
    return labelled


def _label(query: Query, pool: Pool, qrels: Qrels, relevant: int) -> LabelledPool:
    known = qrels.grades.get(query.query_id)
    if known is None:
        size = len(pool.product_ids)
        return LabelledPool(query, pool, np.zeros(size, np.int64), np.ones(size, bool), False, labels=1)
    grades = np.array([known.get(product_id, 0) for product_id in pool.product_ids], np.int64)
    judged = np.array([product_id in known for product_id in pool.product_ids], bool)
    answerable = any(grade >= relevant for grade in known.values())
    return LabelledPool(query, pool, grades, judged, answerable, labels=int(judged.sum()))


def training_data(pools: Iterable[LabelledPool]) -> TrainingData:
    """Return the rows of pools as a trainer takes them; unjudged candidates count as irrelevant.

    Trained on judged rows alone, a model is never shown what the judges did not bother to look at, and ranks
    such products high: nDCG@10 on Icecat falls from 0.70 to 0.61 (docs/log.md).

    Args:
        pools: at least one.

    Returns:
        The rows, query by query.

    Raises:
        SettingError: there is no pool.
    """
    kept = list(pools)
    if not kept:
        raise SettingError("no query to learn from has candidates: nothing can be learnt")
    return TrainingData(
        np.concatenate([pool.pool.features for pool in kept]),
        np.concatenate([pool.grades for pool in kept]),
        np.array([len(pool.grades) for pool in kept], np.int64),
        NAMES,
    )


def as_run(name: str, pools: Iterable[LabelledPool], scores: Mapping[str, npt.NDArray[np.float64]]) -> Run:
    """Return the run of a model's scores.

    Args:
        name: of the run.
        pools: of the queries.
        scores: (M,) by query; a query without scores is left out.

    Returns:
        The run; products whose identifier was typed stand first.
    """
    hits = {}
    for pool in pools:
        query_id, ids = pool.query.query_id, pool.pool.product_ids
        if query_id in scores:
            lifted = pool.identified_first(scores[query_id]).tolist()
            order = sorted(zip(ids, lifted, strict=True), key=lambda pair: (-pair[1], pair[0]))
            hits[query_id] = tuple(Hit(*pair) for pair in order)
    return Run(name, hits)
