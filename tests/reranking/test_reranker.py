"""A reranker: the model's order above the tail, identified products first, probabilities, saving, opening."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes import kept_encoder
from shop import index
from tilth.catalog import Price, Product
from tilth.errors import IndexFormatError
from tilth.pipeline import Pipeline, open_index
from tilth.query import Query
from tilth.ranking import Ranking
from tilth.reranking.answerability import SIGNALS, Answerability
from tilth.reranking.behaviour import Behaviour, Counts
from tilth.reranking.calibration import Calibration, Isotonic, Platt
from tilth.reranking.feature_names import NAMES
from tilth.reranking.features import Matrix, feature_matrix
from tilth.reranking.models import Model, train
from tilth.reranking.reranker import Reranked, Reranker, open_reranker, signals
from tilth.reranking.settings import Settings
from tilth.reranking.training import TrainingData
from tilth.retrieval.candidates import NOTHING, Candidates, retrieve
from tilth.retrieval.fusion import Fusion, RankedPlaces
from tilth.retrieval.view import View

WORDS = ["spade", "steel", "hose", "basket"]
FUSION = Fusion("rrf", (1.0, 0.5))
PRODUCTS = [
    Product(
        id=f"p{number:02}", title=" ".join([WORDS[number % 4], WORDS[number % 3]]), mpn=f"XK-9{number:02}",
        price=Price(float((number * 7) % 5 + 1)), brand=["", "Terra"][number % 2],
    )
    for number in range(20)
]  # fmt: skip
PRICES = {product.id: product.price.amount for product in PRODUCTS if product.price}
CALIBRATION = Calibration(Platt(0.5, -1.0), 30, 70)
ANSWERABILITY = Answerability(0.4, (0.5,) * 6, (), 0.0, 40, 3)


@dataclass
class ByFeature:
    """A model that scores by one feature."""

    name: str = "price"
    sign: float = 1.0

    def predict(self, features: Matrix) -> np.ndarray:
        return self.sign * features[:, NAMES.index(self.name)].astype(np.float64)


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    into = tmp_path_factory.mktemp("reranker") / "idx"
    index(PRODUCTS, into, kept_encoder(WORDS))
    opened = open_index(into)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def view(pipeline: Pipeline) -> View:
    return pipeline.live.view


def rerank(reranker: Reranker, view: View, text: str) -> tuple[Candidates, RankedPlaces, Reranked]:
    found = retrieve(view, text, 200)
    fused = found.fused(FUSION)
    return found, fused, reranker.rerank(view, text, found, fused)


def names(found: Candidates, ranked: RankedPlaces) -> list[str]:
    return [found.ids[place] for place in ranked.places.tolist()]


@given(text=st.sampled_from(["steel spade", "hose", "basket steel hose"]), depth=st.integers(1, 30))
@settings(max_examples=30, deadline=None)
def test_the_model_orders_the_top_and_the_tail_stays_below(view: View, text: str, depth: int) -> None:
    found, fused, (ranked, chances, decision) = rerank(Reranker(ByFeature(), depth), view, text)
    before, after = names(found, fused), names(found, ranked)
    assert after[:depth] == sorted(before[:depth], key=lambda name: (-PRICES[name], name))  # ties by id
    assert after[depth:] == before[depth:]
    assert ranked.scores.tolist() == sorted(ranked.scores.tolist(), reverse=True)
    assert ranked.scores[:depth].tolist() == [PRICES[name] for name in after[:depth]]
    if depth < len(before):
        assert ranked.scores[depth] < ranked.scores[depth - 1]
        np.testing.assert_allclose(np.diff(ranked.scores[depth:]), np.diff(fused.scores[depth:]), atol=1e-9)
    assert (chances, decision) == (None, None)


@pytest.mark.parametrize("depth", [1, 5, 200])
def test_an_identified_product_stays_first(view: View, depth: int) -> None:
    worst = min(PRICES, key=lambda name: (PRICES[name], name))
    reranker = Reranker(ByFeature(), depth, calibration=CALIBRATION)
    found, _, (ranked, chances, _) = rerank(reranker, view, f"XK-9{worst[1:]}")
    assert names(found, ranked)[0] == worst
    assert ranked.scores[0] > ranked.scores[1]
    assert chances is not None
    assert chances[0] == pytest.approx(CALIBRATION.probability(np.array([PRICES[worst]]))[0])  # its own


def test_probabilities_and_the_decision_go_with_the_hits(pipeline: Pipeline) -> None:
    reranker = Reranker(ByFeature(), 6, calibration=CALIBRATION, answerability=ANSWERABILITY)
    serving = Pipeline(pipeline.live, Ranking(FUSION, reranker, "r7"))
    answer = serving.answer("steel spade", 20)
    assert answer.release == "r7"
    assert "rerank" in answer.milliseconds
    for hit in answer.hits[:6]:
        expected = CALIBRATION.probability(np.array([PRICES[hit.product.id]]))[0]
        assert hit.probability == pytest.approx(expected)
    assert len(answer.hits) > 6
    assert {hit.probability for hit in answer.hits[6:]} == {None}
    assert answer.decision is not None
    best = max(hit.probability for hit in answer.hits[:6])
    assert answer.decision.probability == pytest.approx(best)  # without weights, the best probability
    assert answer.decision.answered == (best >= 0.4)
    run = serving.search(["steel spade"], 20)["1"]
    assert [tuple(hit) for hit in run] == [(hit.product.id, hit.score) for hit in answer.hits]


def test_without_a_calibration_there_is_neither(pipeline: Pipeline) -> None:
    answer = Pipeline(pipeline.live, Ranking(FUSION, Reranker(ByFeature()))).answer("steel spade", 5)
    assert [hit.probability for hit in answer.hits] == [None] * 5
    assert (answer.decision, answer.release) == (None, None)


def test_variants_and_filters_go_through_the_reranker(pipeline: Pipeline) -> None:
    serving = Pipeline(pipeline.live, Ranking(FUSION, Reranker(ByFeature())))
    hits = serving.search(["steel spade"], 20, {"price": {"lte": 3}}, collapse=True)["1"]
    prices = [PRICES[hit.product_id] for hit in hits]
    assert prices == sorted(prices, reverse=True)
    assert max(prices) == 3.0


@pytest.mark.parametrize("text", ["", "   "])
def test_nothing_found_stays_nothing(pipeline: Pipeline, view: View, text: str) -> None:
    reranker = Reranker(ByFeature(), calibration=CALIBRATION, answerability=ANSWERABILITY)
    fused = NOTHING.fused(FUSION)
    assert reranker.rerank(view, text, NOTHING, fused) == Reranked(fused, None, None)
    answer = Pipeline(pipeline.live, Ranking(FUSION, reranker)).answer(text, 5)
    assert (answer.hits, answer.decision) == ((), None)
    assert Pipeline(pipeline.live, Ranking(FUSION, reranker)).answer("spade", 0).hits == ()


def test_signals_are_those_of_the_most_likely_product(view: View) -> None:
    text = "steel unheard"
    found = retrieve(view, text, 200)
    fused = found.fused(FUSION)
    features = feature_matrix(view, text, found, fused)
    chances = np.linspace(0.1, 0.9, len(features))
    row = dict(zip(NAMES, features[-1].tolist(), strict=True))
    named = dict(zip(SIGNALS, signals(view, text, features, chances).tolist(), strict=True))
    assert named["best_probability"] == pytest.approx(0.9)
    assert named["lexical"] == pytest.approx(row["any_rare_coverage"])
    assert named["cosine"] == pytest.approx(row["cosine_best"])
    assert named["unknown_words"] == 0.5
    assert np.isnan(signals(view, "900", features, chances)[-1])  # no word at all


# --- saved and opened -----------------------------------------------------------------------------


def trained(pipeline: Pipeline, kind: str) -> Model:
    """A small model that has learnt to put dear products first."""
    queries = [Query(str(number), text) for number, text in enumerate(["steel spade", "hose", "basket"])]
    pools = list(Pipeline(pipeline.live, Ranking(FUSION)).pools(queries, behaviour=BEHAVIOUR))
    features = np.concatenate([pool.features for pool in pools])
    column = np.nan_to_num(features[:, NAMES.index("price")])
    grades = np.digitize(column, np.quantile(column, [0.5, 0.8]))
    sizes = np.array([len(pool.features) for pool in pools])
    chosen = Settings(fixed_rounds=10, min_data_in_leaf=2)
    return train(kind, TrainingData(features, grades, sizes, NAMES), seed=0, settings=chosen, threads=1)


BEHAVIOUR = Behaviour.of({
    ("Steel spade", "p04"): Counts(50.0, 20.5), ("hose", "p02"): Counts(10.0, 1.0),
})  # fmt: skip
ISOTONIC = Calibration(Isotonic((-1.0, 0.0, 2.0), (0.1, 0.4, 0.8)), 500, 600, {"platt": 0.5, "isotonic": 0.4})


@pytest.mark.parametrize("kind", ["lambdarank", "logistic"])
@pytest.mark.parametrize(
    ("calibration", "answerability"), [(None, None), (CALIBRATION, None), (ISOTONIC, ANSWERABILITY)]
)
def test_it_is_opened_as_it_was_saved(
    tmp_path: Path,
    pipeline: Pipeline,
    kind: str,
    calibration: Calibration | None,
    answerability: Answerability | None,
) -> None:
    model = trained(pipeline, kind)
    reranker = Reranker(model, 7, BEHAVIOUR, calibration, answerability)
    reranker.save(tmp_path / "reranker")
    stored = orjson.loads(orjson.dumps(reranker.calibration_json()))
    again = open_reranker(tmp_path / "reranker", stored)
    assert replace(again, model=model) == reranker
    one, other = (Pipeline(pipeline.live, Ranking(FUSION, each)) for each in (reranker, again))
    for text in ("steel spade", "hose", "XK-903"):
        first, second = one.answer(text, 20), other.answer(text, 20)
        assert [(h.product.id, h.probability) for h in first.hits] == [
            (h.product.id, h.probability) for h in second.hits
        ]
        np.testing.assert_allclose([h.score for h in first.hits], [h.score for h in second.hits])
        assert (first.decision is None) == (second.decision is None) == (answerability is None)


def test_without_calibration_and_behaviour_it_has_none(tmp_path: Path, pipeline: Pipeline) -> None:
    model = trained(pipeline, "logistic")
    model.save(tmp_path / "reranker")
    again = open_reranker(tmp_path / "reranker", None)
    assert again == Reranker(again.model)


@pytest.mark.parametrize(
    "damaged",
    [b"", b"rubbish", b"[]", b"{}", b'{"by_query": []}', b'{"by_query": {"q": {"p": [1]}}}',
     b'{"by_query": {"q": {"p": ["many", 1]}}}', b'{"by_query": {"q": 3}}'],
)  # fmt: skip
def test_a_damaged_file_of_behaviour_is_named(tmp_path: Path, pipeline: Pipeline, damaged: bytes) -> None:
    folder = tmp_path / "reranker"
    Reranker(trained(pipeline, "logistic")).save(folder)
    (folder / "behaviour.json").write_bytes(damaged)
    with pytest.raises(IndexFormatError, match=r"behaviour\.json: is damaged .* Propose the release anew"):
        open_reranker(folder, None)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda stored: stored.pop("depth"), "depth"),
        (lambda stored: stored.update(depth=-1), "depth"),
        (lambda stored: stored.update(probability={"method": "magic"}), "method"),
        (lambda stored: stored.update(answer=[]), "answerability"),
    ],
)
def test_damaged_calibrations_are_named(
    tmp_path: Path, pipeline: Pipeline, change: Callable[[dict], object], named: str
) -> None:
    model = trained(pipeline, "logistic")
    reranker = Reranker(model, calibration=CALIBRATION, answerability=ANSWERABILITY)
    reranker.save(tmp_path / "reranker")
    stored = reranker.calibration_json()
    change(stored)
    with pytest.raises(IndexFormatError, match=f"is damaged: .*{named}|the {named} is damaged"):
        open_reranker(tmp_path / "reranker", stored)


def test_a_model_of_other_features_is_refused(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    features = random.normal(size=(40, 2)).astype(np.float32)
    data = TrainingData(features, (features[:, 0] > 0).astype(np.int64), np.array([20, 20]), ("price", "age"))
    train("logistic", data, seed=0).save(tmp_path / "reranker")
    with pytest.raises(IndexFormatError, match=r"trained with other features: it lacks .* it has 'age'"):
        open_reranker(tmp_path / "reranker", None)


def test_a_save_that_stops_on_the_way_is_refused(
    tmp_path: Path, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    model = trained(pipeline, "logistic")
    monkeypatch.setattr(Model, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Reranker(model, behaviour=BEHAVIOUR).save(tmp_path / "reranker")
    with pytest.raises(IndexFormatError):
        open_reranker(tmp_path / "reranker", None)


def test_behaviour_changes_the_order(tmp_path: Path, pipeline: Pipeline) -> None:
    def first(behaviour: Behaviour) -> str:
        serving = Pipeline(pipeline.live, Ranking(FUSION, Reranker(ClickedFirst(), behaviour=behaviour)))
        return serving.search(["steel spade"], 1)["1"][0].product_id

    assert first(BEHAVIOUR) == "p04"
    clicked: Mapping[tuple[str, str], Counts] = {("steel spade", "p09"): Counts(9.0, 9.0)}
    assert first(Behaviour.of(clicked)) == "p09"


class ClickedFirst:
    """A model that scores by the clicks after the query."""

    def predict(self, features: Matrix) -> Sequence[float]:
        return np.nan_to_num(features[:, NAMES.index("query_clicks")].astype(np.float64))
