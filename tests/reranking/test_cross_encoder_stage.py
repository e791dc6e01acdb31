"""The second stage: what fits into its budget, the order that it gives, saving, opening, and its texts."""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes import kept_encoder
from models import tiny_bert
from shop import index
from tilth.catalog import Product
from tilth.errors import IndexFormatError, InputError, SettingError
from tilth.pipeline import Pipeline, open_index
from tilth.query import Query
from tilth.ranking import Ranking
from tilth.reranking.cross_encoder import ONNX_MODEL, CrossEncoderModel
from tilth.reranking.cross_encoder_stage import (
    CROSS_ENCODER,
    STAGE,
    STAGES,
    CrossEncoderStage,
    PairCost,
    StageSettings,
    blended,
)
from tilth.reranking.cross_encoder_training import CrossEncoderSettings, train_cross_encoder
from tilth.reranking.feature_names import NAMES
from tilth.reranking.features import Matrix
from tilth.reranking.models import train
from tilth.reranking.reranker import Reranker, open_reranker
from tilth.reranking.settings import Settings
from tilth.reranking.training import TrainingData
from tilth.retrieval.fusion import Fusion

WORDS = ["spade", "steel", "hose", "basket"]
FUSION = Fusion("rrf", (1.0, 0.5))
PRODUCTS = [
    Product(
        id=f"p{number:02}", title="steel spade", mpn=f"XK-9{number:02}", item_group_id=f"g{number // 3}",
        description=f"basket {number}", popularity=float(number),
    )
    for number in range(12)
]  # fmt: skip
IDS = [product.id for product in PRODUCTS]


class Clock:
    """A clock that goes only when it is told to."""

    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


class Numbers:
    """A cross-encoder that scores by the number in a text, low ones best, and takes its time."""

    def __init__(self, clock: Clock, ms: float = 10.0) -> None:
        self.clock, self.ms, self.read = clock, ms, list[list[str]]()

    def scores(self, query: str, texts: Sequence[str]) -> np.ndarray:
        self.read.append(list(texts))
        self.clock.seconds += len(texts) * self.ms / 1000
        return np.array([-float(number) if (number := text.split()[-1]).isdecimal() else 0 for text in texts])

    def save(self, folder: Path) -> None:
        """Nothing of it can be kept."""


class ByPopularity:
    """A model that puts the most popular first: p11, p10 and so on."""

    def predict(self, features: Matrix) -> np.ndarray:
        return features[:, NAMES.index("popularity")].astype(np.float64)


def stage(ms: float = 10.0, **kept: float) -> CrossEncoderStage:
    clock = Clock()
    return CrossEncoderStage(Numbers(clock, ms), StageSettings(**kept), clock=clock)


def texts(product_ids: Sequence[str]) -> list[str]:
    return [f"basket {int(name[1:])}" for name in product_ids]


# --- the budget -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ms", "budget", "read"),
    [(10, 200, 12), (10, 120, 12), (10, 119, 11), (10, 35, 3), (10, 20, 2), (10, 19, 0), (300, 200, 0)],
)
def test_as_many_are_read_as_fit(ms: float, budget: float, read: int) -> None:
    one = stage(ms, budget_ms=budget)
    assert one.cost.milliseconds == pytest.approx(ms)  # measured at opening
    scores, skipped = one.refine("spade", IDS, np.arange(12.0)[::-1], texts)
    assert len(scores) == read
    if read == 12:
        assert skipped == ""
    elif read:
        assert (
            skipped == f"read {read} of the first 12 products: one takes 10 ms, and {budget} ms are allowed"
        )
    else:
        assert skipped == f"read nothing: one takes {ms} ms, and {budget} ms are allowed"


@pytest.mark.parametrize(("top", "products", "read"), [(5, 12, 5), (20, 12, 12), (20, 2, 2), (20, 1, 0)])
def test_no_more_than_the_top_are_read_and_one_alone_is_not(top: int, products: int, read: int) -> None:
    scores, skipped = stage(top=top).refine("spade", IDS[:products], np.zeros(products), texts)
    assert (len(scores), skipped) == (read, "")


def test_the_cost_follows_what_is_measured() -> None:
    clock = Clock()
    scorer = Numbers(clock, 10)
    one = CrossEncoderStage(scorer, StageSettings(budget_ms=100), clock=clock)
    scorer.ms = 20
    costs, read = [], []
    for _ in range(12):
        read.append(len(one.refine("spade", IDS, np.zeros(12), texts).scores))
        costs.append(one.cost.milliseconds)
    assert costs[0] == pytest.approx(0.8 * 10 + 0.2 * 20)
    assert costs[1] == pytest.approx(0.8 * costs[0] + 0.2 * 20)
    assert (read[0], read[-1]) == (10, 5)  # 20 ms each from now on
    assert read == sorted(read, reverse=True)


def test_what_was_too_slow_is_tried_again() -> None:
    cost = PairCost(110.0)
    tried = 0
    while cost.pairs_within(200, 12) == 0:
        tried += 1
    assert tried == 10  # 110 * 0.99 ** 10 is below 100
    assert cost.pairs_within(200, 12) == 2


@given(ms=st.floats(0.001, 1e4), budget=st.floats(0.01, 1e5), wanted=st.integers(0, 50))
def test_what_is_read_never_costs_more_than_the_budget(ms: float, budget: float, wanted: int) -> None:
    count = PairCost(ms).pairs_within(budget, wanted)
    assert count == 0 or 2 <= count <= wanted
    assert count * ms <= budget * (1 + 1e-9)
    if wanted >= 2 and 2 * ms <= budget:
        assert count == wanted or (count + 1) * ms > budget * (1 - 1e-9)


# --- the blend ------------------------------------------------------------------------------------


def test_a_blend_is_the_weighted_mean_of_z_scores() -> None:
    model, cross = np.array([3.0, 2.0, 1.0]), np.array([-5.0, 5.0, 0.0])
    deviation = np.sqrt(1.5)
    mixed = 0.25 * np.array([-1, 1, 0]) * deviation + 0.75 * np.array([1, 0, -1]) * deviation
    got = blended(model, cross, 0.25)
    np.testing.assert_allclose(got - got[2], mixed - mixed[2])
    assert got.min() == 2.0  # above the model's lowest, and so above whatever comes next


@given(
    scores=st.lists(st.floats(-50, 50), min_size=2, max_size=20), seed=st.integers(0, 99),
    weight=st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]),
)  # fmt: skip
def test_the_ends_of_the_weight_are_one_order_or_the_other(
    scores: list[float], seed: int, weight: float
) -> None:
    model = np.sort(np.unique(np.round(scores, 3)))[::-1]
    logits = np.random.default_rng(seed).permutation(len(model)).astype(np.float64)
    got = blended(model, logits, weight)
    assert got.min() > model.min()
    if len(model) > 1 and weight == 0:
        assert np.argsort(-got, kind="stable").tolist() == list(range(len(model)))
    if len(model) > 1 and weight == 1:
        assert np.argsort(-got).tolist() == np.argsort(-logits).tolist()


@pytest.mark.parametrize(
    "values", [{"top": 1}, {"budget_ms": 0.0}, {"budget_ms": float("nan")}, {"weight": 0.0}, {"weight": 1.5}]
)
def test_settings_out_of_range_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(SettingError, match=next(iter(values))):
        StageSettings(**values)


# --- in an answer ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    into = tmp_path_factory.mktemp("stage") / "idx"
    index(PRODUCTS, into, kept_encoder(WORDS))
    opened = open_index(into)
    yield opened
    opened.close()


def serving(pipeline: Pipeline, second: CrossEncoderStage | None, depth: int = 200) -> Pipeline:
    return Pipeline(pipeline.live, Ranking(FUSION, Reranker(ByPopularity(), depth, stage=second)))


@given(top=st.integers(2, 20), depth=st.integers(2, 20))
@settings(max_examples=25, deadline=None)
def test_the_first_are_ordered_anew_and_the_others_stay_below(
    pipeline: Pipeline, top: int, depth: int
) -> None:
    plain = [hit.product_id for hit in serving(pipeline, None, depth).search(["steel spade"], 12)["1"]]
    run = serving(pipeline, stage(top=top, weight=1.0), depth).search(["steel spade"], 12)["1"]
    count = min(top, depth)
    assert [hit.product_id for hit in run] == sorted(plain[:count]) + plain[count:]
    scores = [hit.score for hit in run]
    assert scores == sorted(scores, reverse=True)
    assert len(scores) <= count or scores[count] < scores[count - 1]


def test_the_answer_says_what_was_left_out(pipeline: Pipeline) -> None:
    answer = serving(pipeline, stage(budget_ms=40, weight=1.0)).answer("steel spade", 12)
    assert [hit.product.id for hit in answer.hits[:5]] == ["p08", "p09", "p10", "p11", "p07"]
    assert answer.skipped[STAGE] == "read 4 of the first 12 products: one takes 10 ms, and 40 ms are allowed"
    assert STAGE not in serving(pipeline, stage()).answer("steel spade", 12).skipped
    nothing = serving(pipeline, stage(budget_ms=5)).answer("steel spade", 12)
    plain = serving(pipeline, None).answer("steel spade", 12)
    assert [(hit.product.id, hit.score) for hit in nothing.hits] == [
        (hit.product.id, hit.score) for hit in plain.hits
    ]
    assert nothing.skipped[STAGE].startswith("read nothing")


def test_an_identified_product_stays_first_and_is_not_read(pipeline: Pipeline) -> None:
    second = stage(weight=1.0)
    hits = serving(pipeline, second).search(["XK-907"], 12)["1"]
    assert hits[0].product_id == "p07"
    assert hits[0].score > hits[1].score
    assert not any(text.endswith("basket 7") for texts in second.model.read for text in texts)
    others = [hit.product_id for hit in hits[1:]]
    assert others == sorted(others)


def test_variants_collapse_before_they_are_read(pipeline: Pipeline) -> None:
    second = stage(weight=1.0)
    hits = serving(pipeline, second).search(["steel spade"], 12, collapse=True)["1"]
    assert [hit.product_id for hit in hits] == ["p02", "p05", "p08", "p11"]  # the most popular of each group
    assert [len(read) for read in second.model.read[2:]] == [4]  # once, after the two calls of the warm-up


@pytest.mark.parametrize("text", ["", "   "])
def test_nothing_found_is_not_read(pipeline: Pipeline, text: str) -> None:
    second = stage()
    assert serving(pipeline, second).answer(text, 5).hits == ()
    assert serving(pipeline, second).answer("steel spade", 0).hits == ()
    assert len(second.model.read) == 2


def test_a_text_is_what_the_cutter_makes_of_the_record(pipeline: Pipeline) -> None:
    (cut,) = pipeline.index.cutter.cut(PRODUCTS[3:4])
    assert cut.passages == ("steel spade", "steel spade basket 3")
    assert pipeline.texts(["p03", "gone", "p01"]) == ["steel spade basket 3", "", "steel spade basket 1"]


def test_texts_follow_the_store(tmp_path: Path) -> None:
    index(PRODUCTS[:2], tmp_path / "idx", kept_encoder(WORDS))
    opened = open_index(tmp_path / "idx")
    opened.upsert([Product(id="p00", title="hose"), Product(id="new", title="basket")])
    assert opened.texts(["p00", "new"]) == ["hose", "basket"]
    opened.close()


# --- saved and opened -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cross_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cross")
    pairs = [("spade", "steel spade"), ("spade", "hose")]
    quick = CrossEncoderSettings(epochs=1)
    start = str(tiny_bert(folder))
    grades, groups = np.array([1, 0]), np.array([2])
    return train_cross_encoder(pairs, grades, groups, folder / "model", start=start, settings=quick)


@pytest.fixture(scope="module")
def saved(cross_encoder: Path, pipeline: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pools = list(Pipeline(pipeline.live, Ranking(FUSION)).pools([Query("1", "steel spade")]))
    grades = np.arange(len(pools[0].features)) % 2
    data = TrainingData(pools[0].features, grades, np.array([len(grades)]), NAMES)
    model = train("logistic", data, seed=0, settings=Settings())
    kept = StageSettings(top=7, budget_ms=5000.0, weight=0.75)
    second = CrossEncoderStage(CrossEncoderModel.open(cross_encoder), kept)
    folder = tmp_path_factory.mktemp("saved") / "reranker"
    Reranker(model, stage=second).save(folder)
    return folder


def test_it_is_opened_as_it_was_saved(saved: Path, cross_encoder: Path, pipeline: Pipeline) -> None:
    again = open_reranker(saved, None)
    assert again.stage is not None
    assert again.stage.settings == StageSettings(top=7, budget_ms=5000.0, weight=0.75)
    wanted = CrossEncoderModel.open(cross_encoder).scores("spade", ["steel spade", "hose"])
    assert again.stage.model.scores("spade", ["steel spade", "hose"]).tolist() == wanted.tolist()
    plain = Pipeline(pipeline.live, Ranking(FUSION, Reranker(again.model))).search(["steel spade"], 12)["1"]
    hits = Pipeline(pipeline.live, Ranking(FUSION, again)).search(["steel spade"], 12)["1"]
    ids = [hit.product_id for hit in plain]
    logits = again.stage.model.scores("steel spade", pipeline.texts(ids[:7]))
    blend = blended(np.array([hit.score for hit in plain[:7]]), logits, 0.75)
    order = sorted(zip(ids, blend, strict=False), key=lambda pair: (-pair[1], pair[0]))
    assert [hit.product_id for hit in hits] == [name for name, _ in order] + ids[7:]


def test_a_reranker_without_a_stage_has_none(saved: Path, tmp_path: Path) -> None:
    Reranker(open_reranker(saved, None).model).save(tmp_path / "plain")
    assert open_reranker(tmp_path / "plain", None).stage is None


@pytest.mark.parametrize(
    "damaged",
    [b"", b"[]", b'{"format": "tilth-stages", "format_version": 1}', {"top": 1}, {"top": "many"},
     {"budget_ms": -1}, {"weight": 0}, {"weight": None}],
)  # fmt: skip
def test_damaged_settings_are_named(saved: Path, tmp_path: Path, damaged: bytes | dict[str, object]) -> None:
    folder = Path(shutil.copytree(saved, tmp_path / "reranker"))
    if isinstance(damaged, dict):
        facts = orjson.loads((folder / STAGES).read_bytes())
        facts[STAGE] |= damaged
        damaged = orjson.dumps(facts)
    (folder / STAGES).write_bytes(damaged)
    with pytest.raises(IndexFormatError, match=r"second stage is damaged|stages\.json"):
        open_reranker(folder, None)


@pytest.mark.parametrize("missing", [STAGES, f"{CROSS_ENCODER}/{ONNX_MODEL}"])
def test_a_missing_file_is_named(saved: Path, tmp_path: Path, missing: str) -> None:
    folder = Path(shutil.copytree(saved, tmp_path / "reranker"))
    (folder / missing).unlink()
    with pytest.raises(IndexFormatError, match=Path(missing).name):
        open_reranker(folder, None)


def test_a_model_whose_files_are_gone_cannot_be_saved(cross_encoder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(cross_encoder, tmp_path / "model"))
    model = CrossEncoderModel.open(folder)
    shutil.rmtree(folder)
    with pytest.raises(InputError, match="cannot be read"):
        model.save(tmp_path / "again")
