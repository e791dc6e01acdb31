"""Labels without people, from the command: into the log, or into a file."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
import typer
from typer.testing import CliRunner

from fakes import WordEncoder
from shop import SHOP
from shop import index as build
from tilth.cli.bootstrapping import bootstrap
from tilth.errors import SettingError
from tilth.judgment_log import JudgmentLog
from tilth.judgments import Judgment, Source, read_judgments
from tilth.retrieval.index import open_store

QUERIES = "query_id\tquery\nq1\tmanure\nq2\ttomato\nq3\tHU-20/C\nq4\tnothing of the kind\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    build(SHOP, tmp_path / "idx", WordEncoder())
    (tmp_path / "queries.tsv").write_text(QUERIES, "utf-8")
    return tmp_path


def call(folder: Path, *options: object) -> Any:
    app = typer.Typer()
    app.command()(bootstrap)
    arguments = [folder / "idx", "--queries", folder / "queries.tsv", *options]
    outcome = CliRunner().invoke(app, [*map(str, arguments)])
    if outcome.exception:
        raise outcome.exception
    return orjson.loads(outcome.stdout) if "--json" in options else outcome.stdout


def log(folder: Path) -> list[Judgment]:
    with open_store(folder / "idx", create=False) as store:
        return [judgment for _, judgment in JudgmentLog(store).judgments()]


def test_labels_go_into_the_log_as_judgments_of_the_bootstrap(folder: Path) -> None:
    report = call(folder, "--json")
    judgments = log(folder)
    assert report["into"] is None
    assert report["queries"] == 4
    assert report["written"] == report["labels"] == len(judgments) > 0
    assert {(each.judge, each.kind, each.highest) for each in judgments} == {("bootstrap", "bootstrap", 3)}
    by_pair = {(each.query_id, each.product_id): each for each in judgments}
    manure = by_pair["q1", "m1"]
    assert manure.query == "manure"
    assert manure.reason.startswith("ranks: tfidf ")
    assert (manure.confidence or 0) >= 0.5
    assert manure.grade >= by_pair["q1", "h1"].grade


def test_the_product_that_a_query_names_is_certain(folder: Path) -> None:
    call(folder, "--highest", 5)
    named = [each for each in log(folder) if each.query_id == "q3" and each.product_id == "m1"]
    assert [(each.grade, each.confidence) for each in named] == [(5, 1.0)]


def test_a_file_takes_the_labels_and_the_log_stays_as_it_is(folder: Path) -> None:
    into = folder / "labels.tsv"
    printed = call(folder, "--into", into, "--depth", 2)
    judgments = list(read_judgments(into, Source(time=datetime(2026, 1, 1, tzinfo=UTC))))
    assert 0 < len(judgments) <= 4 * 3 * 2
    assert f"{len(judgments)} judgments written to" in printed.replace("\n", " ")
    assert log(folder) == []


def test_the_counts_add_up(folder: Path) -> None:
    report = call(folder, "--json", "--highest", 1)
    assert set(report["grades"]) == {"0", "1"}
    assert sum(report["grades"].values()) == report["labels"]
    for grade, count in report["grades"].items():
        assert sum(counts[grade] for counts in report["confidence"].values()) == count


def test_another_scale_is_refused(folder: Path) -> None:
    with pytest.raises(SettingError, match="--highest is 4; scales are 0-1, 0-3 and 0-5"):
        call(folder, "--highest", 4)
