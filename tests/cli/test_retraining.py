"""`tilth encoder drift` and `retrain` as a person or a program calls them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from commands import Command, runner
from fakes import kept_encoder
from shop import index
from tilth.catalog import Product
from tilth.cli.encoders import app
from tilth.encoder_training.settings import EncoderSettings
from tilth.promotions import history
from tilth.releases import current_name
from tilth.retrieval.encoder import EMBEDDINGS, STATIC_MODEL, StaticEncoder
from tilth.retrieval.encoder_build import for_build, open_static
from tilth.retrieval.fusion import Fusion
from tilth.retrieval.generations import current_number
from tilth.retrieval.index import open_store, write_fusion
from trainings import one_thread, sample_shop, shop_products, trained

SETTINGS = EncoderSettings(dimension=64, vocabulary=3_000, batch=32, steps=60)


@pytest.fixture
def encoder(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("USER", "ann")

    return runner(app, "tilth encoder", capfd)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a good encoder of a shop, and one whose vectors say nothing."""
    folder = tmp_path_factory.mktemp("encoders")
    good = trained(shop_products(120, "both"), folder / "work", SETTINGS)
    good.save(folder / "good")
    mixed = np.random.default_rng(0).permutation(load_file(folder / "good" / STATIC_MODEL)[EMBEDDINGS])
    facts = replace(good.facts, revision="bad")
    StaticEncoder(good.tokenizer, mixed, facts, good.training).save(folder / "bad")
    return folder


def built(into: Path, folder: Path, name: str) -> Path:
    """Build an index of the shop with one of the encoders."""
    index(shop_products(120, "both"), into, for_build(open_static(folder / name)))
    write_fusion(into, Fusion("rrf", (0.2, 1.0)))
    return into


def judged() -> tuple[object, ...]:
    shop = sample_shop(120, "both")
    return "--queries", shop / "queries.tsv", "--qrels", shop / "qrels.tsv", "--budget-ms", 1e6


def test_drift_is_told_with_its_remedy(encoder: Command, folder: Path, tmp_path: Path) -> None:
    into = built(tmp_path / "idx", folder, "good")
    steady = encoder("drift", into)
    assert steady.code == 0
    assert "not drifted: no more than 5 points fewer" in steady.out
    assert "120 products now; its own encoder was trained on 120" in steady.out
    titles = ["Мотоблок дизельный Зубр", "Cultivator Zephyr"]
    with open_store(into, create=False) as store:
        store.upsert(Product(id=f"n{n}", title=titles[n % 2]) for n in range(60))
    moved = encoder("drift", into)
    assert moved.code == 0
    remedy = f"tilth encoder retrain {into} --queries QUERIES --qrels QRELS"
    assert moved.out.endswith(f"drifted: more than 5 points fewer. Retrain: {remedy}\n")
    told = encoder("drift", into, "--json").json
    assert (told["drifted"], told["remedy"], told["products"]["now"]) == (True, remedy, 180)


def test_an_index_without_an_own_encoder_is_refused(encoder: Command, tmp_path: Path) -> None:
    index([Product(id="p1", title="Лопата")], tmp_path / "idx", kept_encoder(["Лопата"]))
    for command in (("drift", tmp_path / "idx"), ("retrain", tmp_path / "idx", *judged())):
        refused = encoder(*command)
        assert refused.code == 1
        assert "no encoder that was trained on its products" in refused.err
    missing = encoder("drift", tmp_path / "nowhere")
    assert (missing.code, "no index there" in missing.err) == (1, True)


def test_what_passes_is_in_force_and_the_way_back_is_said(
    encoder: Command, folder: Path, tmp_path: Path
) -> None:
    into = built(tmp_path / "idx", folder, "bad")
    done = encoder("retrain", into, *judged(), "--encoder", folder / "good", "--why", "весенний ассортимент")
    assert done.code == 0, done.err
    assert "clearly better" in done.out
    assert "r1 is in force, with this encoder\n" in done.out
    back = f"tilth encoder retrain {into} --queries QUERIES --qrels QRELS --encoder {into}/encoders/1 --force"
    assert back in done.out
    (line,) = history(into)
    assert (line["by"], line["why"]) == ("ann", "весенний ассортимент")


def test_a_refusal_is_exit_code_1_until_it_is_forced(encoder: Command, folder: Path, tmp_path: Path) -> None:
    into = built(tmp_path / "idx", folder, "good")
    worse = ("retrain", into, *judged(), "--encoder", folder / "bad")
    refused = encoder(*worse, "--json")
    assert refused.code == 1
    assert "the gate refuses the retrained encoder" in refused.err
    assert "clearly worse" in refused.err
    assert "Nothing has changed. Where people know better: --force --why TEXT" in refused.err
    assert (refused.json["passed"], refused.json["release"]) == (False, None)
    assert (current_number(into), current_name(into)) == (1, None)
    unreasoned = encoder(*worse, "--force")
    assert (unreasoned.code, "needs a reason" in unreasoned.err) == (1, True)
    forced = encoder(*worse, "--force", "--why", "the licence ends", "--json")
    assert forced.code == 0, forced.err
    assert forced.json["release"] == "r1"
    assert forced.json["former"] == f"{into}/encoders/1"
    assert (forced.json["forced"], forced.json["passed"]) == (True, False)
    assert (current_number(into), current_name(into)) == (2, "r1")


def test_an_encoder_is_trained_where_none_is_named(encoder: Command, folder: Path, tmp_path: Path) -> None:
    into = built(tmp_path / "idx", folder, "good")
    taught = encoder("retrain", into, *judged(), "--encoder", folder / "bad", "--teacher", "any")
    assert (taught.code, "leave out --encoder or --teacher" in taught.err) == (1, True)
    with one_thread():
        done = encoder(
            "retrain", into, *judged(), "--steps", 5, "--seed", 4, "--force", "--why", "short", "--json"
        )
    assert done.code == 0, done.err
    assert done.json["refused"] is None
    settings = done.json["encoder"]["training"]["settings"]
    assert (settings["seed"], settings["vocabulary"], settings["dimension"]) == (4, 3_000, 64)
    assert done.json["encoder"]["training"]["steps"] == 5


def test_what_was_trained_and_refused_is_kept(encoder: Command, folder: Path, tmp_path: Path) -> None:
    into = built(tmp_path / "idx", folder, "good")
    short = ("retrain", into, *judged(), "--steps", 1)
    with one_thread():
        for seed in (1, 2):  # the second takes the place of the first
            refused = encoder(*short, "--seed", seed, "--json")
            assert refused.code == 1
    kept = into / "encoders" / "refused"
    assert refused.json["refused"] == str(kept)
    assert f"--encoder {kept} --force --why TEXT" in refused.err.replace("\n", "")
    assert [path.name for path in kept.parent.iterdir()] == ["refused"]
    made = open_static(kept)
    assert made.training is not None
    assert made.training["settings"]["seed"] == 2
    done = encoder("retrain", into, *judged(), "--encoder", kept, "--force", "--why", "we know", "--json")
    assert done.json["encoder"]["facts"]["revision"] == made.facts.revision
