"""Two systems of an index by their names, the pairs that they show, and what is known of each pair."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from tilth.errors import SettingError, shorten
from tilth.interactions import query_id_of
from tilth.judgment_log import JudgmentLog
from tilth.judgments import SCALES, Judgment
from tilth.labelling.aggregation import BOOTSTRAP, last_opinions, majority, ratings
from tilth.labelling.bootstrap import Label, relevances
from tilth.labelling.choosing import CUTOFF, UNKNOWN, variances
from tilth.labelling.pooling import Pair, Pool
from tilth.pipeline import Pipeline
from tilth.protocols import Retriever
from tilth.query import Query
from tilth.ranking import ranking_of
from tilth.releases import HYBRID, open_release, releases
from tilth.run import Run
from tilth.store import Store

BETWEEN = "lexical,hybrid"


def two_systems(pipeline: Pipeline, text: str, setting: str) -> tuple[str, str]:
    """Read the names of two systems of an index.

    Args:
        pipeline: of the index.
        text: the names, separated by a comma: of retrievers, `tfidf`, `hybrid`, or releases.
        setting: where the text comes from, for the message.

    Returns:
        The names.

    Raises:
        SettingError: these are not two, or the index has no such system.
    """
    names = [name.strip() for name in text.split(",")]
    if len(names) != 2 or names[0] == names[1]:
        raise SettingError(f"{setting} names two systems, as in {BETWEEN}; not {','.join(names)}")
    known = ["tfidf", *pipeline.lists, HYBRID, *(release.name for release in releases(pipeline.live.path))]
    if unknown := [name for name in names if name not in known]:
        raise SettingError(f"no system {shorten(unknown[0])}; there are {', '.join(known)}")
    return names[0], names[1]


def first_hits(pipeline: Pipeline, name: str, asked: Sequence[Query]) -> Run:
    """Return what a system of an index shows first, down to rank `CUTOFF`; `tfidf` is fitted anew."""
    return Run(name, _retriever(pipeline, name).search(asked, CUTOFF).hits)


def _retriever(pipeline: Pipeline, name: str) -> Retriever:
    if name == "tfidf":
        return pipeline.tfidf()
    if name in pipeline.lists:
        return pipeline.retrievers()[name]
    if name == HYBRID:
        return pipeline.plain()
    return Pipeline(pipeline.live, ranking_of(open_release(pipeline.live.path, name)))


# --- what is known --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Known:
    """What the log says of pairs."""

    grades: Mapping[Pair, int]  # from 0 to `highest`
    highest: int  # the top of their scale
    likely: Mapping[Pair, float]  # the probability of being relevant, by the bootstrap


def known_of(log: JudgmentLog, asked: Sequence[Query], kinds: Collection[str]) -> Known:
    """Read what is known of the pairs of some queries.

    Args:
        log: the judgments.
        asked: the queries; a judgment of another text under the id of one does not count.
        kinds: of the judges whose grades are heard.

    Returns:
        The grades by majority, and the probabilities of the log's bootstrap, which may be none.
    """
    texts = {query.query_id: query.text for query in asked}
    opinions = last_opinions(each for each in log.of_queries(texts) if is_about(each, texts[each.query_id]))
    labels = [_label(each) for each in opinions if each.kind == BOOTSTRAP]
    grades, highest = _majority([each for each in opinions if each.kind in kinds])
    return Known(grades, highest, relevances(labels))


def is_about(judgment: Judgment, text: str) -> bool:
    """Tell whether a judgment is about a query of this text, whatever the case; without a text, it may be."""
    return judgment.query in ("", text) or query_id_of(judgment.query) == query_id_of(text)


def _label(judgment: Judgment) -> Label:
    sure = UNKNOWN if judgment.confidence is None else judgment.confidence
    return Label(judgment.query_id, judgment.product_id, judgment.grade, sure)


def _majority(opinions: Sequence[Judgment]) -> tuple[dict[Pair, int], int]:
    """Return the grade of each pair by majority, and the top of the scale: the finest of theirs."""
    if not opinions:
        return {}, SCALES[0]
    found = ratings(opinions, highest=max(each.highest for each in opinions))
    qrels = majority(found)
    grades = {(query_id, product_id): qrels[query_id][product_id] for query_id, product_id in found.pairs}
    return grades, found.highest


# --- the pairs ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Chosen:
    """A pair that is worth a judgment, and why."""

    query_id: str
    query: str
    product_id: str
    title: str  # empty where the store does not have the product any more
    ranks: Mapping[str, int | None]  # in each run, from 1; None: below the depth, or not at all
    relevance: float  # probability
    share: float  # of the variance that is left, 0 to 1

    @property
    def why(self) -> str:
        """The ranks and the share, in words."""
        ranks = (
            f"{name} rank {rank}" if rank else f"{name} below {CUTOFF}" for name, rank in self.ranks.items()
        )
        return f"{', '.join(ranks)}; {self.share:.1%} of the variance"


def described(
    pairs: Sequence[Pair], shown: Pool, known: Known, asked: Sequence[Query], store: Store
) -> list[Chosen]:
    """Attach to pairs what a person wants to know of them.

    Args:
        pairs: of `shown`, and without a grade.
        shown: what the two systems show.
        known: of the pairs.
        asked: the queries.
        store: of the products.

    Returns:
        The pairs, in their order.
    """
    texts = {query.query_id: query.text for query in asked}
    products = store.products(list(dict.fromkeys(product_id for _, product_id in pairs)))
    places, shares = {pair: place for place, pair in enumerate(shown.pairs)}, _shares(shown, known)
    chosen = []
    for pair in pairs:
        query_id, product_id = pair
        title = products[product_id].title if product_id in products else ""
        found = shown.found(places[pair])
        ranks = {ranker: found.get(ranker) for ranker in shown.rankers}
        likely = known.likely.get(pair, UNKNOWN)
        chosen.append(Chosen(query_id, texts[query_id], product_id, title, ranks, likely, shares[pair]))
    return chosen


def _shares(shown: Pool, known: Known) -> dict[Pair, float]:
    """Return, of the variance that unjudged pairs leave in the difference, what each of them holds."""
    values = zip(shown.pairs, variances(shown, known.likely).tolist(), strict=True)
    left = {pair: value for pair, value in values if pair not in known.grades}
    total = sum(left.values())
    return {pair: value / total if total else 0.0 for pair, value in left.items()}
