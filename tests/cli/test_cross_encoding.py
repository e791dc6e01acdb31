"""`tilth train --cross-encoder`: a release whose second stage answers."""

import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from fakes import kept_encoder
from models import tiny_bert
from shop import index
from tilth.cli import training
from tilth.cli.main import main
from tilth.errors import MissingExtraError
from tilth.pipeline import Pipeline, open_index
from tilth.query import read_queries
from tilth.ranking import Ranking
from tilth.readers.products import read_products
from tilth.releases import open_release
from tilth.reranking.cross_encoder_stage import StageSettings
from tilth.reranking.reranker import open_reranker
from tilth.sample.shop import write_shop
from tilth.training import cross_encoding


def tilth(*arguments: object) -> tuple[int, str, str]:
    """Run a command: its exit code, and what it printed."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["tilth", *map(str, arguments)])
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
    return code, out.getvalue(), " ".join(err.getvalue().split())


@pytest.fixture(scope="module")
def garden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shop, its index, and a few of its queries."""
    folder = tmp_path_factory.mktemp("garden")
    write_shop(folder / "shop", products=200, language="en", seed=0)
    products = list(read_products([folder / "shop" / "products.jsonl"]))
    words = sorted({word for product in products for word in product.title.lower().split()})
    index(products, folder / "idx", kept_encoder(words))
    lines = (folder / "shop" / "queries.tsv").read_text("utf-8").splitlines()
    (folder / "queries.tsv").write_text("\n".join([lines[0], *lines[1::12]]) + "\n", "utf-8")
    return folder


def given(garden: Path, *options: object) -> tuple[object, ...]:
    labels = ("--queries", garden / "queries.tsv", "--qrels", garden / "shop" / "qrels.tsv")
    trial = ("--kinds", "logistic", "--depth", 30, "--cross-encoder")
    return ("train", garden / "idx", *labels, *trial, *options)


def test_a_release_holds_the_cross_encoder_and_answers_with_it(
    garden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cross_encoding, "WEIGHTS", (0.5,))  # whatever it has learnt
    start = tiny_bert(tmp_path)
    options = ("--cross-encoder-start", start, "--top", 6, "--budget-ms", 60_000, "--json")
    code, out, _ = tilth(*given(garden, *options))
    assert code == 0
    report = orjson.loads(out)
    assert report["cross_encoder"]["settings"] == {"top": 6, "budget_ms": 60_000.0, "weight": 0.5}
    assert list(report["systems"])[-2:] == ["reranked", "without-cross-encoder"]
    release = open_release(garden / "idx", report["release"])
    assert release.evidence()["latency"] == report["latency"]
    assert release.reranker is not None
    reranker = open_reranker(release.reranker, release.calibration())
    assert reranker.stage is not None
    assert reranker.stage.settings == StageSettings(6, 60_000.0, 0.5)
    answers_with(garden, Ranking(release.fusion, reranker))


def answers_with(garden: Path, ranking: Ranking) -> None:
    """Of the hits, the first six are in another order than the model's for some query, and no others."""
    assert ranking.reranker is not None
    alone = Ranking(ranking.fusion, replace(ranking.reranker, stage=None))
    opened = open_index(garden / "idx")
    moved = 0
    for query in read_queries(garden / "queries.tsv"):
        after, before = (
            [hit.product.id for hit in Pipeline(opened.live, each).answer(query.text, 12).hits]
            for each in (ranking, alone)
        )
        moved += after != before
        if not opened.answer(query.text, 1).hits[0].identified:
            assert sorted(after[:6]) == sorted(before[:6])
            assert after[6:] == before[6:]
    opened.close()
    assert moved


def test_options_that_exclude_each_other_are_refused(garden: Path) -> None:
    code, _, err = tilth(*given(garden, "--folds", 3))
    assert code == 1
    assert "--cross-encoder belongs to a release" in err
    code, _, err = tilth(*given(garden, "--budget-ms", 0))
    assert code == 1
    assert "budget_ms must be" in err


def test_a_missing_extra_is_named_before_the_training(garden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise MissingExtraError("training a cross-encoder", "build")

    monkeypatch.setattr(training, "check_extra", missing)
    code, _, err = tilth(*given(garden))
    assert code == 1
    assert "training a cross-encoder" in err
    assert "logistic" not in err
