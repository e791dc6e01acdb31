"""`tilth judge clicks`: a log in, propensities on the screen, judgments in the store or a file."""

from pathlib import Path

import numpy as np
import orjson
import pytest
import typer
from typer.testing import CliRunner

from tilth.cli.clicking import clicks
from tilth.errors import InputError, SettingError
from tilth.feedback import Impression, write_impressions
from tilth.judgment_log import JudgmentLog
from tilth.online.simulation import Pages, PositionUsers, Traffic, examination, simulate
from tilth.query import Query
from tilth.store import Store

PAGES = Pages((Query("q", "rose"), Query("r", "pot")), (("a", "b", "c"), ("d", "e", "f")))
ATTRACTION = np.array([[0.2, 0.5, 0.8], [0.7, 0.1, 0.1]])


@pytest.fixture
def log(tmp_path: Path) -> Path:
    users, rng = PositionUsers(examination(3)), np.random.default_rng(0)
    pages = simulate(PAGES, ATTRACTION, Traffic(6_000, swapped=0.2), users, rng)
    write_impressions(pages, tmp_path / "log.jsonl")
    return tmp_path / "log.jsonl"


@pytest.fixture
def index(tmp_path: Path) -> Path:
    (tmp_path / "idx").mkdir()
    Store.open(tmp_path / "idx" / "store.sqlite").close()
    return tmp_path / "idx"


def run(*arguments: object) -> str:
    app = typer.Typer()
    app.command()(clicks)
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=True)
    if result.exception:
        raise result.exception
    return result.stdout


@pytest.mark.parametrize("model", ["pbm", "ipw"])
def test_judgments_go_into_the_log_once(index: Path, log: Path, model: str):
    report = orjson.loads(run(index, "--log", log, "--model", model, "--json"))
    assert (report["impressions"], report["pairs"], report["written"]) == (6000, 6, 6)
    assert [row["propensity"] for row in report["ranks"]] == pytest.approx([1, 1 / 2, 1 / 3], rel=0.1)
    with Store.open(index / "store.sqlite") as store:
        judgments = {j.product_id: j for _, j in JudgmentLog(store).judgments()}
    assert {j.kind for j in judgments.values()} == {"clicks"}
    assert {j.judge for j in judgments.values()} == {f"clicks-{model}"}
    assert max(judgments.values(), key=lambda j: j.grade).product_id == "c"  # shown last, wanted most
    assert orjson.loads(run(index, "--log", log, "--model", model, "--json"))["written"] == 0


def test_a_file_instead_of_the_log(index: Path, log: Path, tmp_path: Path):
    report = orjson.loads(
        run(index, "--log", log, "--model", "naive", "--into", tmp_path / "j.tsv", "--json")
    )
    assert report["ranks"][0]["propensity"] is None
    assert len((tmp_path / "j.tsv").read_text().splitlines()) == 1 + 6
    with Store.open(index / "store.sqlite") as store:
        assert JudgmentLog(store).count() == 0


def test_one_order_alone_is_refused_with_the_remedy(index: Path, tmp_path: Path):
    write_impressions([Impression("q", "rose", ("a", "b"), (1,))], tmp_path / "log.tsv")
    with pytest.raises(InputError, match="swap two products"):
        run(index, "--log", tmp_path / "log.tsv")


def test_an_unknown_model_is_refused(index: Path, log: Path):
    with pytest.raises(SettingError, match="no model 'dcm'; there are pbm, ipw, naive"):
        run(index, "--log", log, "--model", "dcm")
