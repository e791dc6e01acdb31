"""`tilth judge clicks`: a log in, propensities on the screen, judgments in the store or a file."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import orjson
import pytest
import typer
from typer.testing import CliRunner

from tilth.cli.clicking import clicks
from tilth.errors import InputError, SettingError
from tilth.feedback import Impression, write_impressions
from tilth.feedback_log import FeedbackLog
from tilth.interactions import Interaction, Served, query_id_of
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


def keep(index: Path) -> None:
    """Keep the same pages in the store's own log."""
    users, rng = PositionUsers(examination(3)), np.random.default_rng(0)
    pages = simulate(PAGES, ATTRACTION, Traffic(6_000, swapped=0.2), users, rng)
    served, done = [], []
    for number, page in enumerate(pages):
        time = datetime(2026, 5, 31, tzinfo=UTC) + timedelta(seconds=number)
        what = {"impression_id": f"i{number}", "time": time}
        served.append(Served(query=page.query, product_ids=page.shown, **what))
        done += [
            Interaction(event_id=f"e{number} {rank}", action="click", product_id=page.shown[rank - 1], **what)
            for rank in page.clicked
        ]
    with Store.open(index / "store.sqlite") as store:
        FeedbackLog(store).append(served, done)


def test_the_log_of_the_store_says_the_same_as_a_file(index: Path, log: Path):
    keep(index)
    found = orjson.loads(run(index, "--json"))
    from_file = orjson.loads(run(index, "--log", log, "--json"))
    assert (found.pop("written"), from_file.pop("written")) == (6, 6)
    assert found == from_file
    with Store.open(index / "store.sqlite") as store:
        judgments = [judgment for _, judgment in JudgmentLog(store).judgments()]
    ours, theirs = judgments[:6], judgments[6:]
    assert [(j.product_id, j.grade) for j in ours] == [(j.product_id, j.grade) for j in theirs]
    assert {j.query_id for j in ours} == {query_id_of("rose"), query_id_of("pot")}
    assert {j.time for j in ours} == {datetime(2026, 5, 31, 1, 39, 59, tzinfo=UTC)}  # of the last page
    assert orjson.loads(run(index, "--json"))["written"] == 0


def test_a_store_that_has_logged_no_page_is_refused_with_the_remedy(index: Path):
    with pytest.raises(InputError, match=r"has logged no first page of a search.*name a file with --log"):
        run(index)
