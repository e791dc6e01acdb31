"""Which order is in force: the fusion, or the release that was promoted, also in a process that runs."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import orjson
import pytest

from fakes import kept_encoder
from shop import TWO_LISTS, index, quiet
from tilth.catalog import Price, Product
from tilth.errors import IndexFormatError
from tilth.pipeline import Pipeline, open_index
from tilth.promotions import promote, rollback
from tilth.query import Query
from tilth.ranking import Ranking, is_overtaken, read_ranking
from tilth.releases import current_name, propose
from tilth.reranking.behaviour import Behaviour, Counts
from tilth.reranking.calibration import Calibration, Platt
from tilth.reranking.feature_names import NAMES
from tilth.reranking.models import train
from tilth.reranking.reranker import Reranker
from tilth.reranking.settings import Settings
from tilth.reranking.training import TrainingData
from tilth.retrieval.build_settings import Resources
from tilth.retrieval.builder import compact_index
from tilth.retrieval.fusion import Fusion
from tilth.retrieval.index import read_fusion

WORDS = ["spade", "steel", "hose"]
SHOP = [
    Product(id=f"p{n:02}", title=" ".join(WORDS[: 1 + n % 3]), price=Price(float(1 + (n * 5) % 12)))
    for n in range(12)
]
TUNED = Fusion("minmax", (0.2, 0.8))
BEHAVIOUR = Behaviour.of({("steel spade", "p03"): Counts(40.0, 10.0)})


@pytest.fixture
def into(tmp_path: Path) -> Path:
    index(SHOP, tmp_path / "idx", kept_encoder(WORDS))
    return tmp_path / "idx"


@pytest.fixture
def pipeline(into: Path) -> Iterator[Pipeline]:
    opened = open_index(into)
    yield opened
    opened.close()


def propose_model(into: Path, name: str, sign: float = 1.0, fusion: Fusion = TUNED) -> None:
    """Keep a release whose model puts the dearest first, or with the sign -1 the cheapest."""
    reading = open_index(into)
    pools = list(reading.pools([Query("1", "steel spade"), Query("2", "hose")], behaviour=BEHAVIOUR))
    reading.close()
    features = np.concatenate([pool.features for pool in pools])
    prices = sign * features[:, NAMES.index("price")]
    grades = np.digitize(prices, np.quantile(prices, [0.25, 0.5, 0.75]))
    data = TrainingData(features, grades, np.array([len(pool.features) for pool in pools]), NAMES)
    settings = Settings(fixed_rounds=15, min_data_in_leaf=2)
    model = train("regression", data, seed=0, settings=settings, threads=1)
    reranker = Reranker(model, 50, BEHAVIOUR, Calibration(Platt(1.0, -1.0), 10, 10))
    folder = into.parent / f"model-{name}"
    reranker.save(folder)
    propose(
        into,
        name=name,
        fusion=fusion,
        evidence={"queries": 2},
        model_folder=folder,
        calibration=reranker.calibration_json(),
    )


def put_in_force(into: Path, name: str) -> None:
    promote(into, name, {"passed": True, "refusals": [], "in_force": current_name(into) or "hybrid"})


def dearest_first(pipeline: Pipeline) -> bool:
    """Tell whether dear products lie above cheap ones."""
    hits = pipeline.search(["steel spade"], 12)["1"]
    prices = [float(next(p.price.amount for p in SHOP if p.id == hit.product_id and p.price)) for hit in hits]
    return float(np.mean(prices[:4])) > float(np.mean(prices[-4:])) + 5


def damage(into: Path, name: str) -> None:
    file = into / "releases" / name / "reranker" / "model.txt"
    file.write_bytes(file.read_bytes()[:-1] + b"!")


def test_without_a_release_the_fusion_of_the_folder_ranks(into: Path, pipeline: Pipeline) -> None:
    assert read_ranking(into, TWO_LISTS) == Ranking(read_fusion(into, TWO_LISTS))
    assert not is_overtaken(pipeline.ranking, into)
    answer = pipeline.answer("steel spade", 3)
    assert (answer.release, answer.decision) == (None, None)
    (into / "fusion.json").write_bytes(orjson.dumps(TUNED.to_dict()))
    assert read_ranking(into, TWO_LISTS) == Ranking(TUNED)


def test_a_release_that_was_only_proposed_ranks_nothing(into: Path) -> None:
    propose_model(into, "r1")
    assert read_ranking(into, TWO_LISTS) == Ranking(read_fusion(into, TWO_LISTS))


def test_a_release_of_a_fusion_alone(into: Path) -> None:
    propose(into, fusion=TUNED, evidence={})
    put_in_force(into, "r1")
    assert read_ranking(into, TWO_LISTS) == Ranking(TUNED, release="r1")
    answer = open_index(into).answer("steel spade", 3)
    assert answer.release == "r1"
    assert [hit.probability for hit in answer.hits] == [None] * 3


def test_a_promoted_release_is_opened_with_the_index(into: Path) -> None:
    propose_model(into, "r1")
    put_in_force(into, "r1")
    pipeline = open_index(into)
    reranker = pipeline.ranking.reranker
    assert reranker is not None
    assert (pipeline.ranking.fusion, pipeline.ranking.release, reranker.depth) == (TUNED, "r1", 50)
    assert reranker.behaviour == BEHAVIOUR
    assert dearest_first(pipeline)
    answer = pipeline.answer("steel spade", 3)
    assert answer.release == "r1"
    assert all(0 < hit.probability < 1 for hit in answer.hits if hit.probability is not None)
    assert None not in [hit.probability for hit in answer.hits]
    pipeline.close()


def test_a_refresh_takes_over_promotions_and_rollbacks(into: Path, pipeline: Pipeline) -> None:
    hybrid = pipeline.search(["steel spade"], 12)
    propose_model(into, "r1")
    put_in_force(into, "r1")
    propose_model(into, "r2", sign=-1.0)
    assert pipeline.search(["steel spade"], 12) == hybrid  # until it looks
    pipeline.refresh()
    assert pipeline.answer("spade", 1).release == "r1"
    assert dearest_first(pipeline)
    put_in_force(into, "r2")
    pipeline.refresh()
    assert pipeline.answer("spade", 1).release == "r2"
    assert not dearest_first(pipeline)
    rollback(into)
    pipeline.refresh()
    assert dearest_first(pipeline)
    rollback(into)
    pipeline.refresh()
    assert pipeline.ranking == Ranking(read_fusion(into, TWO_LISTS))
    assert pipeline.search(["steel spade"], 12) == hybrid


def test_an_unchanged_release_is_not_read_again(into: Path, pipeline: Pipeline) -> None:
    propose_model(into, "r1")
    put_in_force(into, "r1")
    pipeline.refresh()
    ranking = pipeline.ranking
    pipeline.refresh()
    assert pipeline.ranking is ranking


def test_a_release_outlives_changes_and_compactions(into: Path, pipeline: Pipeline) -> None:
    propose_model(into, "r1")
    put_in_force(into, "r1")
    pipeline.upsert([Product(id="n1", title="steel spade", price=Price(100.0))])
    pipeline.delete(["p00"])
    pipeline.refresh()
    found = [hit.product_id for hit in pipeline.search(["steel spade"], 12)["1"]]
    assert "n1" in found[:4]
    assert "p00" not in found
    compact_index(into, pipeline.live.store, Resources(), quiet)
    pipeline.refresh()
    answer = pipeline.answer("steel spade", 12)
    assert answer.release == "r1"
    assert "n1" in [hit.product.id for hit in answer.hits[:4]]


def test_following_takes_over_a_release_and_its_end(into: Path, pipeline: Pipeline) -> None:
    propose_model(into, "r1")
    with pipeline.following():
        put_in_force(into, "r1")
        wait_for(lambda: pipeline.answer("spade", 1).release == "r1")
        pipeline.upsert([Product(id="n1", title="steel hose")])
        wait_for(lambda: "n1" in {hit.product_id for hit in pipeline.search(["hose"], 20)["1"]})
        rollback(into)
        wait_for(lambda: pipeline.answer("spade", 1).release is None)


def test_a_damaged_release_is_logged_and_the_former_goes_on(
    into: Path, pipeline: Pipeline, caplog: pytest.LogCaptureFixture
) -> None:
    propose_model(into, "r1")
    put_in_force(into, "r1")
    pipeline.refresh()
    propose_model(into, "r2", sign=-1.0)
    put_in_force(into, "r2")
    damage(into, "r2")
    with pytest.raises(IndexFormatError, match=r"releases/r2/.*damaged"):
        pipeline.refresh()
    with pipeline.following():
        wait_for(lambda: "still serving what was opened before" in caplog.text)
        assert "releases/r2/" in caplog.text
        assert pipeline.answer("spade", 1).release == "r1"
        assert dearest_first(pipeline)
        rollback(into)
    pipeline.refresh()
    assert pipeline.ranking.release == "r1"


def test_an_index_with_a_damaged_release_says_how_to_return(into: Path) -> None:
    propose_model(into, "r1")
    put_in_force(into, "r1")
    damage(into, "r1")
    with pytest.raises(IndexFormatError, match=r"releases/r1/reranker/model\.txt.*release rollback"):
        open_index(into)
    rollback(into)
    assert open_index(into).ranking == Ranking(read_fusion(into, TWO_LISTS))


def test_a_pipeline_with_a_ranking_of_its_own_follows_none(into: Path, pipeline: Pipeline) -> None:
    own = Pipeline(pipeline.live, Ranking(TUNED))
    propose_model(into, "r1")
    put_in_force(into, "r1")
    own.refresh()
    assert own.ranking == Ranking(TUNED)


def wait_for(condition: Callable[[], bool]) -> None:
    ends = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < ends, "it did not happen within 30 seconds"
        time.sleep(0.01)
