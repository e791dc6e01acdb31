"""`tilth judge` as a person or a program calls it."""

import os
from pathlib import Path

import pytest

from commands import Command, runner
from shop import SHOP
from tilth.cli.judging import app
from tilth.judgments import COLUMNS
from tilth.qrels import Qrels, read_qrels
from tilth.retrieval.index import open_store

RATINGS = (
    "query_id\tproduct_id\trater\tgrade\nq1\tm1\tanna\t3\nq1\tm1\tbert\t1\nq1\tm2\tanna\t2\nq1\tm2\tbert\t2\n"
)


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    monkeypatch.setenv("COLUMNS", "80")

    return runner(app, "tilth judge", capfd)


@pytest.fixture
def idx(tmp_path: Path) -> Path:
    with open_store(tmp_path / "idx") as store:
        store.upsert(SHOP)
    return tmp_path / "idx"


@pytest.fixture
def rated(tmp_path: Path) -> Path:
    path = tmp_path / "ratings.tsv"
    path.write_text(RATINGS)
    return path


def test_judgments_go_in_once(judge: Command, idx: Path, rated: Path) -> None:
    first = judge("import", idx, rated, "--highest", 3, "--json")
    assert first.json == {"read": 4, "added": 4, "known": 0, "judgments": 4}
    again = judge("import", idx, rated, "--highest", 3)
    assert (again.code, again.out) == (0, "0 judgments added, 4 were known; the log holds 4\n")


def test_all_files_go_in_or_none(judge: Command, idx: Path, rated: Path, tmp_path: Path) -> None:
    bad = tmp_path / "more.tsv"
    bad.write_text("query_id\tproduct_id\tgrade\nq1\tm1\t9\n")
    broken = judge("import", idx, rated, bad, "--highest", 3, "--judge", "carl")
    assert broken.code == 1
    assert broken.err == f"error: {bad}:2, field 'grade': is outside the scale 0-3 (got 9)\n"
    assert judge("import", idx, rated, "--highest", 3, "--json").json["added"] == 4


def test_the_log_comes_out_as_it_is(judge: Command, idx: Path, rated: Path, tmp_path: Path) -> None:
    os.utime(rated, (0, 86_400))
    queries = tmp_path / "queries.tsv"
    queries.write_text("query_id\tquery\nq1\tmanure\n")
    judge("import", idx, rated, "--highest", 3, "--queries", queries)
    out = judge("export", idx, "--into", tmp_path / "log.tsv", "--json")
    assert out.json == {"file": f"{tmp_path}/log.tsv", "format": "tsv", "aggregate": None, "written": 4}
    header, first, *_ = (tmp_path / "log.tsv").read_text().splitlines()
    assert tuple(header.split("\t")) == COLUMNS
    assert first == "q1\tmanure\tm1\t3\tanna\tperson\t1970-01-02T00:00:00+00:00\t\t\t\t3"
    with open_store(tmp_path / "other") as store:
        store.upsert(SHOP)
    assert judge("import", tmp_path / "other", tmp_path / "log.tsv", "--json").json["added"] == 4


def test_labels_come_out_in_every_format(judge: Command, idx: Path, rated: Path, tmp_path: Path) -> None:
    judge("import", idx, rated, "--highest", 3)
    for aggregate, grade in (("majority", 1), ("mean", 2), ("dawid-skene", 1)):
        for name in ("qrels.tsv", "qrels.trec"):
            out = judge("export", idx, "--into", tmp_path / name, "--aggregate", aggregate)
            assert (out.code, out.out.split()[-2:]) == (0, ["2", "grades"])
            assert read_qrels(tmp_path / name) == Qrels({"q1": {"m1": grade, "m2": 2}})
    onto = judge(
        "export", idx, "--into", tmp_path / "q.trec", "--aggregate", "mean", "--highest", 1, "--map",
        "0:0,1:1,2:1,3:1",
    )  # fmt: skip
    assert onto.code == 0
    assert read_qrels(tmp_path / "q.trec") == Qrels({"q1": {"m1": 1, "m2": 1}})


def test_quepid_needs_the_texts_of_queries(judge: Command, idx: Path, rated: Path, tmp_path: Path) -> None:
    judge("import", idx, rated, "--highest", 3)
    export = ("export", idx, "--into", tmp_path / "q.csv", "--aggregate", "mean")
    refused = judge(*export)
    assert (refused.code, "its query has no text" in refused.err) == (1, True)
    queries = tmp_path / "queries.tsv"
    queries.write_text("query_id\tquery\nq1\tmanure\n")
    assert judge(*export, "--queries", queries).code == 0
    assert (tmp_path / "q.csv").read_text() == "query,docid,rating\nmanure,m1,2\nmanure,m2,2\n"
    told = judge("import", idx, tmp_path / "q.csv", "--judge", "dora", "--highest", 3, "--queries", queries)
    assert told.out == "2 judgments added, 0 were known; the log holds 6\n"
    assert judge(*export).code == 0  # the log knows the text now


def test_only_some_kinds_and_the_sure_ones(judge: Command, idx: Path, rated: Path, tmp_path: Path) -> None:
    judge("import", idx, rated, "--highest", 3)
    model = tmp_path / "model.tsv"
    model.write_text("query_id\tproduct_id\tgrade\tconfidence\nq1\tm1\t0\t0.3\nq1\tm2\t0\t0.9\n")
    judge("import", idx, model, "--highest", 3, "--judge", "gpt", "--kind", "model")
    export = ("export", idx, "--into", tmp_path / "qrels.tsv", "--aggregate", "majority")
    assert judge(*export, "--kinds", "model", "--least-confidence", 0.5).code == 0
    assert read_qrels(tmp_path / "qrels.tsv") == Qrels({"q1": {"m2": 0}})
    assert judge(*export, "--kinds", "clicks").err.startswith("error: no judgment is left.")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--into", "a.csv"), "the log is written as TSV only; for quepid choose an --aggregate"),
        (("--into", "a.txt", "--format", "tsv"), "written to a name that ends in .tsv. Name it a.tsv"),
        (("--into", "a.tsv", "--format", "trec", "--aggregate", "mean"), "Name it a.trec"),
        (("--into", "a.txt", "--format", "xml"), "no format 'xml'; there are tsv, trec, quepid"),
        (("--into", "a.tsv", "--aggregate", "best"), "no aggregate 'best'; there are majority, mean"),
        (("--into", "a.tsv", "--aggregate", "mean", "--map", "0:0,1:1"), "name its top with --highest"),
    ],
)
def test_what_cannot_be_written_is_refused(
    judge: Command, idx: Path, arguments: tuple[str, ...], message: str
) -> None:
    refused = judge("export", idx, *arguments)
    assert refused.code == 1
    assert message in refused.err


def test_agreement_of_a_file_and_of_the_log_is_one(judge: Command, idx: Path, rated: Path) -> None:
    judge("import", idx, rated, "--highest", 3)
    of_log = judge("agreement", idx, "--json").json
    assert of_log == judge("agreement", "--file", rated, "--highest", 3, "--json").json
    assert (of_log["judges"], of_log["shared"], of_log["observed"]) == ({"anna": 2, "bert": 2}, 2, 0.5)
    shown = judge("agreement", idx).out
    assert "scale 0-3; judgments: anna 2, bert 2" in shown
    assert "anna, bert" in shown


def test_agreement_needs_one_source(judge: Command, idx: Path, rated: Path) -> None:
    for arguments in ((), (idx, "--file", rated)):
        refused = judge("agreement", *arguments)
        assert (refused.code, "name an index folder, or a file" in refused.err) == (1, True)


def test_without_a_store_there_is_no_log(judge: Command, rated: Path, tmp_path: Path) -> None:
    refused = judge("import", tmp_path / "nowhere", rated, "--highest", 3)
    assert (refused.code, "there is no store. Load a catalogue into it first" in refused.err) == (1, True)
