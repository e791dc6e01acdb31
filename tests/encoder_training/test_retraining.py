"""A new own encoder: measured beside the one in force, adopted with a release or left without a trace."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import orjson
import pytest
from safetensors.numpy import load_file

from fakes import kept_encoder
from shop import DEFAULTS, index, quiet
from tilth.catalog import Product
from tilth.encoder_training.retraining import Plan, Retrained, retrain
from tilth.encoder_training.settings import EncoderSettings
from tilth.errors import IndexLockedError, InputError, SettingError
from tilth.evaluation.gate import Rules
from tilth.pipeline import Pipeline, open_index
from tilth.promotions import history, promote
from tilth.qrels import Qrels, read_qrels
from tilth.query import Query, read_queries
from tilth.releases import current, current_name, open_release, propose, releases
from tilth.reranking.calibration import Calibration, Platt
from tilth.reranking.feature_names import NAMES
from tilth.reranking.models import train
from tilth.reranking.reranker import Reranker
from tilth.reranking.settings import Settings
from tilth.reranking.training import TrainingData
from tilth.retrieval.build_settings import BuildSettings, Progress, Resources
from tilth.retrieval.builder import build_index, compact_index
from tilth.retrieval.encoder import EMBEDDINGS, STATIC_MODEL, StaticEncoder
from tilth.retrieval.encoder_build import for_build, open_static
from tilth.retrieval.fusion import Fusion
from tilth.retrieval.generations import open_generation
from tilth.retrieval.index import open_store, write_fusion
from tilth.retrieval.passages import PassageSettings
from trainings import one_thread, sample_shop, shop_products, trained

PRODUCTS = 120
SETTINGS = EncoderSettings(dimension=64, vocabulary=3_000, batch=32, steps=60)
GENERAL = kept_encoder(["compost", "rose", "spade"])  # knows next to nothing
LIGHT = Resources()
LEGS = ("dense", "own")
NO_HASTE = Rules(budget_ms=1e6)  # tests may run beside others
WHY = {"why": "the spring range is in", "by": "ann"}


def shop() -> list[Product]:
    return list(shop_products(PRODUCTS, "en"))


def judged() -> tuple[list[Query], Qrels]:
    folder = sample_shop(PRODUCTS, "en")
    return read_queries(folder / "queries.tsv"), read_qrels(folder / "qrels.tsv")


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> StaticEncoder:
    """An encoder that was trained on the products."""
    return trained(shop(), tmp_path_factory.mktemp("good"), SETTINGS)


@pytest.fixture(scope="module")
def bad(good: StaticEncoder, tmp_path_factory: pytest.TempPathFactory) -> StaticEncoder:
    """The same with the vectors of its tokens exchanged, so that they say nothing."""
    table = table_of(good, tmp_path_factory.mktemp("bad") / "good")
    mixed = np.random.default_rng(0).permutation(table)
    return StaticEncoder(good.tokenizer, mixed, replace(good.facts, revision="bad"), good.training)


def table_of(encoder: StaticEncoder, folder: Path) -> np.ndarray:
    """The vectors of an encoder's tokens; the folder is made."""
    encoder.save(folder)
    table: np.ndarray = load_file(folder / STATIC_MODEL)[EMBEDDINGS]
    return table


def built(into: Path, leg: str, encoder: StaticEncoder, settings: BuildSettings = DEFAULTS) -> Path:
    """Build an index with an own encoder as one of its legs, whose vectors weigh much."""
    model = for_build(encoder)
    if leg == "dense":
        index(shop(), into, model, settings)
    else:
        index(shop(), into, GENERAL, settings, own=model)
    write_fusion(into, Fusion("rrf", (0.2, 1.0) if leg == "dense" else (0.2, 0.1, 1.0)))
    return into


@pytest.fixture(params=LEGS)
def leg(request: pytest.FixtureRequest) -> str:
    """The leg of the own encoder."""
    return str(request.param)


@pytest.fixture
def into(tmp_path: Path, leg: str, bad: StaticEncoder) -> Path:
    """The folder of an index whose own encoder is bad."""
    return built(tmp_path / "idx", leg, bad)


@pytest.fixture
def dense(tmp_path: Path, bad: StaticEncoder) -> Path:
    """The same with the own encoder as the only one, for what does not depend on legs."""
    return built(tmp_path / "idx", "dense", bad)


def plan(**settings: Any) -> Plan:
    queries, qrels = judged()
    return Plan(queries=queries, qrels=qrels, **{"rules": NO_HASTE, **settings})


def retrained(into: Path, progress: Progress = quiet, **settings: Any) -> Retrained:
    with open_store(into, create=False) as store:
        return retrain(into, store, plan(**settings), LIGHT, progress)


def content(into: Path) -> dict[str, bytes]:
    """All that an index folder holds and that is not empty, but the files of the database."""
    files = (path for path in into.rglob("*") if path.is_file() and not path.name.startswith("store."))
    return {str(path.relative_to(into)): path.read_bytes() for path in files if path.stat().st_size}


def found(into: Path) -> list[list[tuple[str, float]]]:
    """What a pipeline that is opened now finds for each query."""
    pipeline = open_index(into)
    try:
        return hits(pipeline)
    finally:
        pipeline.close()


def hits(pipeline: Pipeline) -> list[list[tuple[str, float]]]:
    run = pipeline.search(judged()[0], 10)
    return [[(hit.product_id, hit.score) for hit in run.hits[query_id]] for query_id in run.hits]


def revision(into: Path, leg: str) -> str:
    return str(open_generation(into).manifest["legs"][leg]["encoder"]["revision"])


def at(stage: str, act: Callable[[], object]) -> Progress:
    """Do something once when a stage begins."""
    waiting = [act]

    def told(name: str, done: int, total: int | None = None, /) -> None:
        if name == stage and waiting:
            waiting.pop()()

    return told


# --- passed ---------------------------------------------------------------------------------------


def test_a_better_encoder_takes_the_place_of_the_one_in_force(
    into: Path, leg: str, good: StaticEncoder, tmp_path: Path
) -> None:
    before = open_generation(into).manifest
    done = retrained(into, encoder=good, **WHY)
    assert done.decision.passed
    assert done.decision.clear
    generation = open_generation(into)
    after = generation.manifest
    assert (generation.number, revision(into, leg)) == (2, good.facts.revision)
    assert [path.name for path in (into / "generations").iterdir()] == ["2"]
    assert found(into) == found(built(tmp_path / "fresh", leg, good))
    assert after["legs"].keys() == before["legs"].keys()
    for name in after["legs"].keys() - {leg}:
        assert after["legs"][name]["encoder"] == before["legs"][name]["encoder"]
        assert after["legs"][name]["encoded"] == 0, "vectors of the other leg are reused"
    for name in ("lexical", "build", "catalogue", "store"):
        assert after[name] == before[name]
    assert not (into / "candidate").exists()


def test_the_history_says_when_who_and_why(dense: Path, good: StaticEncoder) -> None:
    done = retrained(dense, encoder=good, **WHY)
    (line,) = history(dense)
    assert done.release is not None
    assert done.release.name == current_name(dense) == line["release"] == "r1"
    assert (line["by"], line["why"], line["forced"]) == ("ann", "the spring range is in", False)
    assert line["decision"] == orjson.loads(orjson.dumps(done.decision.to_json()))
    evidence = open_release(dense, "r1").evidence()
    queries, qrels = judged()
    assert evidence["part"] == "test"
    assert evidence["queries"] == len(qrels.only([query.query_id for query in queries]))
    assert evidence["systems"].keys() == {"hybrid", "retrained"}
    assert evidence["encoder"]["facts"] == good.facts.to_json()
    assert evidence["encoder_before"]["revision"] == "bad"
    assert open_release(dense, "r1").generation == 2


def test_the_former_encoder_is_kept_and_comes_back(dense: Path, good: StaticEncoder) -> None:
    ranked = found(dense)
    former = retrained(dense, encoder=good).former
    assert former == dense / "encoders" / "1"
    back = retrained(dense, encoder=open_static(former), force=True, why="the range is out")
    assert not back.decision.passed
    assert back.former == dense / "encoders" / "2"
    assert found(dense) == ranked
    assert [line["forced"] for line in history(dense)] == [False, True]
    assert (current_name(dense), revision(dense, "dense")) == ("r2", "bad")


def test_what_an_index_is_built_with_stays(tmp_path: Path, bad: StaticEncoder, good: StaticEncoder) -> None:
    settings = replace(DEFAULTS, passages=PassageSettings(2, 40, 20), recall=0.9, seed=7)
    into = built(tmp_path / "idx", "dense", bad, settings)
    before = open_generation(into).manifest
    retrained(into, encoder=good)
    after = open_generation(into).manifest
    assert after["build"] == before["build"] == {"recall": 0.9, "seed": 7}
    assert after["passages"] == before["passages"]


def test_the_reranker_in_force_is_measured_and_goes_on(dense: Path, good: StaticEncoder) -> None:
    put_reranker_in_force(dense)
    before = open_release(dense, "forest")
    done = retrained(dense, encoder=good, force=True, why="whatever it says", by="ann")
    assert done.decision.in_force == "forest"
    after = current(dense)
    assert after is not None
    assert after.name == "r1"
    assert after.fusion == before.fusion
    kept = [name for name in before.files if name != "evidence.json"]
    assert {name: after.files[name] for name in kept} == {name: before.files[name] for name in kept}
    assert "calibration.json" in kept
    assert after.evidence()["systems"].keys() == {"forest", "retrained"}
    assert [line["release"] for line in history(dense)] == ["forest", "r1"]


def put_reranker_in_force(into: Path) -> None:
    pipeline = open_index(into)
    pools = list(pipeline.pools(judged()[0][:4]))
    pipeline.close()
    features = np.concatenate([pool.features for pool in pools])
    grades = np.arange(len(features)) % 4
    data = TrainingData(features, grades, np.array([len(pool.features) for pool in pools]), NAMES)
    model = train("regression", data, seed=0, settings=Settings(fixed_rounds=5), threads=1)
    Reranker(model, 50, calibration=Calibration(Platt(1.0, -1.0), 10, 10)).save(into.parent / "model")
    reranker = Reranker(model, 50, calibration=Calibration(Platt(1.0, -1.0), 10, 10))
    propose(
        into,
        name="forest",
        fusion=Fusion("minmax", (0.3, 0.7)),
        model_folder=into.parent / "model",
        calibration=reranker.calibration_json(),
        evidence={},
    )
    promote(into, "forest", {"passed": True, "refusals": [], "in_force": "hybrid"})


def test_an_encoder_is_trained_as_the_one_before(dense: Path, bad: StaticEncoder) -> None:
    new = [Product(id=f"n{number}", title=f"Cultivator Zephyr {number}") for number in range(12)]
    with open_store(dense, create=False) as store:
        store.upsert(new)
    with one_thread():
        done = retrained(dense, steps=10, seed=3, force=True, why="a short training")
    facts = done.encoder.training
    assert facts is not None
    assert bad.training is not None
    assert facts["settings"] == bad.training["settings"] | {"steps": 10, "seed": 3}
    assert facts["products"] == PRODUCTS + len(new)
    assert facts["whole_words"] > 0.9
    assert done.encoder.tokenizer.encode("zephyr", add_special_tokens=False).tokens == ["zephyr"]
    assert revision(dense, "dense") == done.encoder.facts.revision
    assert not (dense / "training").exists()


def test_vectors_are_as_long_as_they_are_asked_to_be(dense: Path, good: StaticEncoder) -> None:
    done = retrained(dense, encoder=good, dimension=16, force=True, why="smaller")
    assert done.encoder.dimension == 16
    assert open_generation(dense).manifest["legs"]["dense"]["encoder"]["dimension"] == 16


# --- refused --------------------------------------------------------------------------------------


@pytest.fixture
def settled(tmp_path: Path, leg: str, good: StaticEncoder) -> Path:
    """The folder of an index whose own encoder is good."""
    return built(tmp_path / "idx", leg, good)


def test_a_worse_encoder_is_refused_and_nothing_has_changed(settled: Path, bad: StaticEncoder) -> None:
    before = content(settled)
    done = retrained(settled, encoder=bad)
    assert (done.release, done.former) == (None, None)
    assert any("clearly worse" in sentence for sentence in done.decision.refusals)
    assert content(settled) == before
    assert not (settled / "candidate").exists()
    assert releases(settled) == []


def test_a_refusal_can_be_gone_past_with_a_reason(settled: Path, leg: str, bad: StaticEncoder) -> None:
    done = retrained(settled, encoder=bad, force=True, why="the licence ends", by="ann")
    (line,) = history(settled)
    assert not done.decision.passed
    assert (line["forced"], line["why"], revision(settled, leg)) == (True, "the licence ends", "bad")


def test_the_rules_are_those_that_were_given(dense: Path, good: StaticEncoder) -> None:
    before = content(dense)
    done = retrained(dense, encoder=good, rules=Rules(budget_ms=0.0))
    (refusal,) = done.decision.refusals
    assert "more than the budget of 0 ms" in refusal
    assert content(dense) == before


def test_queries_that_an_encoder_may_have_learned_from_are_not_held_out(
    dense: Path, good: StaticEncoder, tmp_path: Path
) -> None:
    facts = {**(good.training or {}), "judged": True}
    learned = StaticEncoder(good.tokenizer, table_of(good, tmp_path / "good"), good.facts, facts)
    done = retrained(dense, encoder=learned)
    (refusal,) = done.decision.refusals
    assert "perhaps learned from" in refusal
    assert revision(dense, "dense") == "bad"


def test_what_cannot_be_done_is_said_before_anything_is_built(
    dense: Path, bad: StaticEncoder, good: StaticEncoder, tmp_path: Path
) -> None:
    before = content(dense)
    with pytest.raises(SettingError, match="needs a reason"):
        plan(force=True)
    with pytest.raises(InputError, match="none of the queries"):
        Plan(queries=[Query("elsewhere", "spade")], qrels=judged()[1])
    with pytest.raises(InputError, match="the very encoder"):
        retrained(dense, encoder=bad)
    table = table_of(good, tmp_path / "good")
    foreign = StaticEncoder(good.tokenizer, table, replace(good.facts, name="glove"))
    with pytest.raises(InputError, match=r"was not trained here.*glove"):
        retrained(dense, encoder=foreign)
    with pytest.raises(SettingError, match="dimension is 100"):
        retrained(dense, dimension=100)
    with (
        filelock.FileLock(dense / "candidate.lock"),
        pytest.raises(IndexLockedError, match="another process is retraining"),
    ):
        retrained(dense, encoder=good)
    assert content(dense) == before
    index(shop(), tmp_path / "general", GENERAL)
    with pytest.raises(InputError, match="no encoder that was trained"):
        retrained(tmp_path / "general", encoder=good)


def test_a_release_with_the_name_of_the_candidate_is_refused(dense: Path, good: StaticEncoder) -> None:
    propose(dense, name="retrained", fusion=Fusion("rrf", (1.0, 0.5)), evidence={})
    promote(dense, "retrained", {"passed": True, "refusals": [], "in_force": "hybrid"})
    with pytest.raises(SettingError, match="named retrained, as a system is"):
        retrained(dense, encoder=good)


# --- meanwhile ------------------------------------------------------------------------------------


def test_a_running_process_takes_generation_and_release_over(
    into: Path, leg: str, good: StaticEncoder, tmp_path: Path
) -> None:
    running = open_index(into)
    new = Product(id="n1", title="Zephyr cultivator")
    done = retrained(into, at("measuring", lambda: running.upsert([new])), encoder=good)
    assert done.release is not None
    running.refresh()
    assert running.ranking.release == done.release.name == "r1"
    assert running.index.generation.number == 2
    assert running.index.sequence < running.live.store.last_sequence(), (
        "the generation is of before the change"
    )
    assert [hit.product.id for hit in running.answer("zephyr", 1).hits] == ["n1"]
    fresh = built(tmp_path / "fresh", leg, good)
    with open_store(fresh, create=False) as store:
        store.upsert([new])
    assert hits(running) == found(fresh)
    running.close()


def test_a_compaction_meanwhile_is_replaced(dense: Path, good: StaticEncoder) -> None:
    new = Product(id="n1", title="Zephyr cultivator")

    def compact() -> None:
        with open_store(dense, create=False) as store:
            store.upsert([new])
            compact_index(dense, store, LIGHT, quiet)

    done = retrained(dense, at("measuring", compact), encoder=good)
    assert done.release is not None
    assert (open_generation(dense).number, revision(dense, "dense")) == (3, good.facts.revision)
    pipeline = open_index(dense)
    assert [hit.product.id for hit in pipeline.answer("zephyr", 1).hits] == ["n1"]
    pipeline.close()


def test_an_index_that_was_built_anew_otherwise_stays_so(dense: Path, good: StaticEncoder) -> None:
    def rebuild() -> None:
        with open_store(dense, create=False) as store:
            build_index(dense, store, GENERAL, DEFAULTS, quiet)

    with pytest.raises(InputError, match="built anew with other encoders or settings since"):
        retrained(dense, at("measuring", rebuild), encoder=good)
    generation = open_generation(dense)
    assert (generation.number, generation.manifest["legs"]["dense"]["encoder"]["name"]) == (2, "words")
    assert (releases(dense), (dense / "encoders").exists()) == ([], False)


def test_a_release_that_came_into_force_meanwhile_stays_so(dense: Path, good: StaticEncoder) -> None:
    with pytest.raises(InputError, match="another release in force since"):
        retrained(dense, at("measuring", lambda: put_reranker_in_force(dense)), encoder=good)
    assert (current_name(dense), revision(dense, "dense")) == ("forest", "bad")


# --- interrupted ----------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["measuring", "storing the encoder"])
def test_an_interruption_leaves_the_index_as_it_was(dense: Path, good: StaticEncoder, stage: str) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    before = content(dense)
    with pytest.raises(KeyboardInterrupt):
        retrained(dense, at(stage, interrupt), encoder=good)
    assert content(dense) == before
    assert not (dense / "candidate").exists()


@pytest.mark.parametrize("where", ["retraining._adopt", "generations._switch", "retraining._release"])
def test_a_process_that_is_killed_leaves_the_old_or_the_new(
    dense: Path, good: StaticEncoder, tmp_path: Path, where: str
) -> None:
    good.save(tmp_path / "good")
    folder = sample_shop(PRODUCTS, "en")
    killed = subprocess.run(
        [sys.executable, "-c", _KILLED, where, str(dense), str(tmp_path / "good"), str(folder)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        stderr=subprocess.PIPE,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    adopted = where == "retraining._release"
    assert revision(dense, "dense") == (good.facts.revision if adopted else "bad")
    assert (current_name(dense), releases(dense)) == (None, [])
    assert found(dense)
    again = {"force": True, "why": "once more", "dimension": 32} if adopted else {}
    done = retrained(dense, encoder=good, **again)
    assert done.release is not None
    assert [path.name for path in (dense / "generations").iterdir()] == ["3" if adopted else "2"]
    assert not (dense / "candidate").exists()


_KILLED = """
import os, signal, sys
from pathlib import Path
from shop import quiet
from tilth.encoder_training import retraining
from tilth.evaluation.gate import Rules
from tilth.qrels import read_qrels
from tilth.query import read_queries
from tilth.retrieval import generations
from tilth.retrieval.build_settings import Resources
from tilth.retrieval.encoder_build import open_static
from tilth.retrieval.index import open_store

where, into, encoder, shop = sys.argv[1], *map(Path, sys.argv[2:])
module, name = where.split(".")
switch = generations._switch
setattr({"retraining": retraining, "generations": generations}[module], name,
        lambda *_: os.kill(os.getpid(), signal.SIGKILL))
if module == "generations":
    built = retraining.build_index

    def build(*arguments, **options):
        generations._switch, kill = switch, generations._switch
        built(*arguments, **options)
        generations._switch = kill

    retraining.build_index = build
plan = retraining.Plan(queries=read_queries(shop / "queries.tsv"), qrels=read_qrels(shop / "qrels.tsv"),
                       encoder=open_static(encoder), rules=Rules(budget_ms=1e6))
with open_store(into, create=False) as store:
    retraining.retrain(into, store, plan, Resources(), quiet)
"""
