"""One query on its way: what a deadline leaves out, stage by stage, and that words are always found."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from fakes import kept_encoder
from shop import index
from tilth.catalog import Price, Product
from tilth.one_search import DEPTH, RERANKER, OneSearch
from tilth.pipeline import Pipeline, open_index
from tilth.ranking import Ranking
from tilth.reranking.calibration import Calibration, Platt
from tilth.reranking.cross_encoder_stage import STAGE, CrossEncoderStage, StageSettings
from tilth.reranking.feature_names import NAMES
from tilth.reranking.features import Matrix
from tilth.reranking.reranker import Reranker
from tilth.retrieval.deadline import FINISH, Costs, Deadline
from tilth.retrieval.fusion import Fusion

WORDS = ["spade", "steel", "hose"]
PRODUCTS = [
    Product(
        id=f"p{n:03}", title=" ".join(["steel", "spade"][: 1 + n % 2]), price=Price(float(n), "EUR"),
        item_group_id=f"g{n // 5}", popularity=float(n),
    )
    for n in range(60)
]  # fmt: skip


class Clock:
    """A clock that goes only when it is told to."""

    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


class Slow:
    """A model by price and a cross-encoder, each of which takes its time on the clock."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.asked = clock, list[str]()
        self.milliseconds = 0.0

    def predict(self, features: Matrix) -> np.ndarray:
        self.asked.append(RERANKER)
        self.clock.seconds += self.milliseconds / 1000
        return features[:, NAMES.index("price")].astype(np.float64)

    def scores(self, query: str, texts: Sequence[str]) -> np.ndarray:
        self.asked.append(STAGE)
        self.clock.seconds += 0.001 * len(texts)
        return np.zeros(len(texts))

    def save(self, folder: Path) -> None:
        """Nothing of it can be kept."""


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    into = tmp_path_factory.mktemp("one") / "index"
    index(PRODUCTS, into, kept_encoder(WORDS))
    opened = open_index(into)
    yield opened
    opened.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def slow(clock: Clock) -> Slow:
    return Slow(clock)


Start = Callable[..., OneSearch]


@pytest.fixture
def start(plain: Pipeline, slow: Slow, clock: Clock) -> Start:
    """Begin a search by a reranker with a second stage."""
    stage = CrossEncoderStage(slow, StageSettings(top=10, budget_ms=20.0), clock=clock)
    reranker = Reranker(slow, 50, calibration=Calibration(Platt(1.0, -1.0), 10, 10), stage=stage)
    slow.asked.clear()

    def begin(milliseconds: float, costs: Costs | None = None, text: str = "steel spade") -> OneSearch:
        deadline = Deadline(milliseconds, costs, clock)
        return OneSearch(
            plain.live.view, text, Ranking(Fusion(), reranker, "r1"), plain.texts, None, deadline
        )

    return begin


def costs_of(**measured: float) -> Costs:
    costs = Costs()
    for stage, milliseconds in measured.items():
        costs.took(stage, milliseconds)
    return costs


# --- what is left out -----------------------------------------------------------------------------


def test_with_enough_time_everything_is_asked(start: Start, slow: Slow) -> None:
    search = start(1_000)
    hits = search.hits(5, None, False)
    assert slow.asked == [RERANKER, STAGE]
    assert search.skipped == {}
    assert len(search.chances) == 50
    assert len(hits) == 5


def test_without_time_words_alone_are_found(start: Start, slow: Slow) -> None:
    search = start(0)
    hits = search.hits(5, None, False)
    assert len(hits) == 5
    assert slow.asked == []
    assert search.skipped.keys() == {"dense", RERANKER, STAGE}
    assert all(" ms were left" in reason for reason in search.skipped.values())
    assert search.found.lists["lexical"].places.size
    assert not search.found.lists["dense"].places.size
    assert (search.chances, search.decision) == ({}, None)


def test_the_dearest_is_left_out_first(start: Start, slow: Slow) -> None:
    costs = costs_of(dense=10, reranker=500)
    search = start(100, costs)
    search.hits(5, None, False)
    assert search.skipped.keys() == {RERANKER, STAGE}
    assert search.found.lists["dense"].places.size
    assert slow.asked == []


def test_the_second_stage_gets_what_is_left(start: Start, slow: Slow) -> None:
    slow.milliseconds = 95
    search = start(100, costs_of(reranker=90))
    search.hits(5, None, False)
    assert slow.asked[0] == RERANKER
    assert search.skipped.keys() == {STAGE}
    assert "5 ms are allowed" in search.skipped[STAGE]


def test_the_second_stage_is_not_asked_when_time_is_over(start: Start, slow: Slow) -> None:
    slow.milliseconds = 200
    search = start(100, costs_of(reranker=90))
    search.hits(5, None, False)
    assert slow.asked == [RERANKER]
    assert search.skipped[STAGE].startswith("read nothing")


def test_probabilities_need_both_retrievers(start: Start, slow: Slow) -> None:
    search = start(100, costs_of(dense=500, reranker=1))
    search.hits(5, None, False)
    assert RERANKER in slow.asked
    assert search.skipped.keys() == {"dense"}
    assert (search.chances, search.decision) == ({}, None)


def test_what_was_measured_decides_the_next_search(start: Start, slow: Slow) -> None:
    costs = Costs()
    slow.milliseconds = 80
    start(1_000, costs).hits(5, None, False)
    assert costs.expected(RERANKER) == pytest.approx(80)
    search = start(60, costs)
    search.hits(5, None, False)
    assert RERANKER in search.skipped
    assert costs.expected(RERANKER) < 80


def test_variants_are_not_looked_for_longer_than_there_is_time(start: Start) -> None:
    search = start(0)
    assert 0 < len(search.hits(50, None, True)) <= 12
    assert search.depth == DEPTH


# --- looking deeper -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def variants(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    """More variants of one product than a first look finds, and worse products, whose ids come first."""
    many = [
        Product(id=f"m{n:03}", title="steel spade steel spade", price=Price(float(n % 7), "EUR"),
                item_group_id="m", brand="Terra")
        for n in range(260)
    ]  # fmt: skip
    others = [
        Product(id=f"a{n:03}", title="steel long handled spade", price=Price(100.0 + n, "EUR"),
                item_group_id=f"a{n // 2}")
        for n in range(100)
    ]  # fmt: skip
    into = tmp_path_factory.mktemp("variants") / "index"
    index([*many, *others], into, kept_encoder([*WORDS, "long"]))
    opened = open_index(into)
    yield opened
    opened.close()


class Growing(Slow):
    """A model whose scores are larger each time that it is asked."""

    def predict(self, features: Matrix) -> np.ndarray:
        return super().predict(features) + 10 * len(self.asked)


CALIBRATION = Calibration(Platt(0.02, -1.0), 10, 10)


def looking(
    variants: Pipeline, clock: Clock, model: Slow, milliseconds: float = 1e9, **costs: float
) -> OneSearch:
    """Begin a search for the variants by a reranker without a second stage."""
    ranking = Ranking(Fusion(), Reranker(model, DEPTH, calibration=CALIBRATION), "r1")
    deadline = Deadline(milliseconds, costs_of(**costs), clock)
    return OneSearch(variants.live.view, "steel spade", ranking, variants.texts, None, deadline)


def test_probabilities_stay_with_their_products_when_a_deeper_look_is_not_reranked(
    variants: Pipeline, clock: Clock, slow: Slow
) -> None:
    slow.milliseconds = 30
    search = looking(variants, clock, slow, 50)
    hits = search.hits(5, None, True)
    assert slow.asked == [RERANKER]
    assert search.skipped.keys() == {RERANKER}
    assert search.depth == 4 * DEPTH
    assert [hit.product_id for hit in hits] == ["m006", "a000", "a002", "a004", "a006"]
    assert search.chances.keys() == {f"m{n:03}" for n in range(DEPTH)}
    for product, chance in search.chances.items():
        price = float(int(product[1:]) % 7)
        assert chance == pytest.approx(CALIBRATION.probability(np.array([price]))[0])


def test_the_probability_of_a_hit_belongs_to_its_score(variants: Pipeline, clock: Clock) -> None:
    model = Growing(clock)
    search = looking(variants, clock, model)
    hits = search.hits(5, None, True)
    assert model.asked == [RERANKER] * 2
    assert hits[0] == ("m006", 16.0)  # as the first look had it
    assert search.chances["m006"] == pytest.approx(CALIBRATION.probability(np.array([16.0]))[0])


def test_an_answer_shows_the_probability_of_each_product(variants: Pipeline, clock: Clock) -> None:
    reranker = Reranker(Slow(clock), 300, calibration=CALIBRATION)
    pipeline = Pipeline(variants.live, Ranking(Fusion(), reranker, "r1"))
    answer = pipeline.answer("steel spade", 300)
    assert len(answer.hits) == 300
    prices = np.array([hit.product.price.amount for hit in answer.hits if hit.product.price])
    assert [hit.probability for hit in answer.hits] == pytest.approx(CALIBRATION.probability(prices).tolist())


def test_a_deeper_look_without_a_list_is_not_taken(variants: Pipeline, clock: Clock, slow: Slow) -> None:
    slow.milliseconds = 30  # of 50: enough for the encoder once
    search = looking(variants, clock, slow, 50, dense=25)
    hits = search.hits(5, None, True)
    assert [hit.product_id for hit in hits] == ["m006"]
    assert search.skipped == {}
    assert search.depth == DEPTH
    assert len(search.found.lists["dense"].places) == DEPTH
    assert search.chances.keys() == {f"m{n:03}" for n in range(DEPTH)}


def test_a_list_that_was_left_out_from_the_start_does_not_end_the_search(
    variants: Pipeline, clock: Clock, slow: Slow
) -> None:
    search = looking(variants, clock, slow, 50, dense=500)
    assert len(search.hits(5, None, True)) == 5
    assert search.skipped.keys() == {"dense"}
    assert search.depth == 4 * DEPTH


@pytest.mark.parametrize("collapse", [False, True])
def test_what_was_fused_is_what_was_retrieved(variants: Pipeline, collapse: bool) -> None:
    pipeline = Pipeline(variants.live, Ranking(Fusion()))
    answer = pipeline.answer("steel spade", 5, collapse=collapse, facets=["brand"])
    # The first look finds 200 of 260 equal products, whether by words or by cosine.
    terra, others = (260, 100) if collapse else (DEPTH, 0)
    assert answer.totals.retrieved == terra + others
    assert answer.facets["brand"].retrieved == {"Terra": terra}
    assert (answer.totals.allowed, answer.facets["brand"].allowed) == (360, {"Terra": 260})


@pytest.mark.parametrize(("fusion", "known"), [(Fusion(), False), (Fusion("minmax"), True)])
def test_scores_beyond_the_lists_are_asked_for_where_they_are_added(
    variants: Pipeline, fusion: Fusion, known: bool
) -> None:
    search = OneSearch(variants.live.view, "steel spade", Ranking(fusion), variants.texts)
    assert search.hits(5, None, False)
    assert ("dense" in search.found.scores) == known


def test_as_many_are_asked_of_each_retriever_as_the_reranker_orders(variants: Pipeline, slow: Slow) -> None:
    ranking = Ranking(Fusion(), Reranker(slow, 300, calibration=CALIBRATION), "r1")
    search = OneSearch(variants.live.view, "steel spade", ranking, variants.texts)
    assert search.hits(5, None, False)
    assert search.depth == len(search.found.lists["lexical"].places) == len(search.chances) == 300


# --- through the pipeline -------------------------------------------------------------------------


def test_an_answer_without_time(plain: Pipeline) -> None:
    answer = plain.answer("steel spade", 5, deadline_ms=0)
    assert len(answer.hits) == 5
    assert answer.skipped.keys() == {"dense"}
    assert "dense" not in answer.milliseconds
    assert all(hit.places.keys() == {"lexical"} for hit in answer.hits)


def test_an_answer_without_a_deadline_leaves_nothing_out(plain: Pipeline) -> None:
    for _ in range(3):
        assert plain.answer("steel spade", 5).skipped == {}
    assert plain._costs.expected("dense") > 0
    assert plain._costs.expected(FINISH) > 0


def test_a_page_leaves_out_those_before_it(plain: Pipeline) -> None:
    whole = [hit.product.id for hit in plain.answer("steel spade", 100).hits]
    assert len(whole) == len(PRODUCTS)
    for offset in (0, 1, 10, 55, 60, 100):
        page = plain.answer("steel spade", 10, offset=offset)
        assert [hit.product.id for hit in page.hits] == whole[offset : offset + 10]
        assert [hit.rank for hit in page.hits] == list(range(offset + 1, offset + 1 + len(page.hits)))
        assert page.totals == plain.answer("steel spade", 1).totals


def test_no_hits_are_asked_for(plain: Pipeline) -> None:
    answer = plain.answer("steel spade", 0, offset=5)
    assert (answer.hits, answer.totals.retrieved) == ((), 0)


@pytest.mark.parametrize("depth", [1, DEPTH, 5_000])
def test_at_least_so_many_are_asked_of_each_retriever(plain: Pipeline, depth: int) -> None:
    assert plain.answer("steel spade", 5, depth=depth).depth == max(depth, DEPTH)
    assert plain.answer("steel spade", 700, depth=depth).depth == max(depth, 700)
