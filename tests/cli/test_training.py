"""`tilth train` and `tilth experiment`, and what becomes of the release that they lead to."""

import io
import shutil
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import orjson
import pytest

from commands import Outcome
from fakes import kept_encoder
from shop import index
from tilth.cli import training
from tilth.cli.main import main
from tilth.cli.measuring import print_evaluation
from tilth.errors import MissingExtraError
from tilth.evaluation.gate import Evidence
from tilth.feedback import Impression, write_impressions
from tilth.query import read_queries
from tilth.readers.products import read_products
from tilth.releases import open_release
from tilth.run import read_run
from tilth.sample.shop import write_shop

KINDS = "lambdarank,logistic"
LENIENT = ("--most-fall", 1, "--budget-ms", 10_000)  # what is tested is the way, not the quality


def tilth(*arguments: object) -> Outcome:
    out, err, code = io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setenv("COLUMNS", "80")
        patch.setattr(sys, "argv", ["tilth", *map(str, arguments)])
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
    return Outcome(code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def garden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shop, its index, and every fourth of its queries."""
    folder = tmp_path_factory.mktemp("garden")
    write_shop(folder / "shop", products=300, language="en", seed=0)
    products = list(read_products([folder / "shop" / "products.jsonl"]))
    words = sorted({word for product in products for word in product.title.lower().split()})
    index(products, folder / "idx", kept_encoder(words))
    lines = (folder / "shop" / "queries.tsv").read_text("utf-8").splitlines()
    (folder / "queries.tsv").write_text("\n".join([lines[0], *lines[1::4]]) + "\n", "utf-8")
    return folder


def given(garden: Path, *options: object, kinds: str = "logistic") -> tuple[object, ...]:
    labels = ("--queries", garden / "queries.tsv", "--qrels", garden / "shop" / "qrels.tsv")
    return (*labels, "--kinds", kinds, "--depth", 50, *options)


# --- folds ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def crossed(garden: Path) -> Outcome:
    return tilth("train", garden / "idx", *given(garden, "--folds", 3, "--json", kinds=KINDS))


def test_folds_as_json(crossed: Outcome, garden: Path) -> None:
    assert crossed.code == 0
    report = crossed.json
    assert set(report) == {
        "measures", "queries", "queries_without_relevant", "queries_unjudged", "unanswered", "systems",
        "intervals", "differences", "slices", "best", "folds", "warnings",
    }  # fmt: skip
    assert list(report["systems"]) == ["tfidf", "lexical", "dense", "hybrid", "lambdarank", "logistic"]
    assert all(0 <= mean <= 1 for means in report["systems"].values() for mean in means.values())
    assert report["folds"] == 3
    best = max(("lambdarank", "logistic"), key=lambda kind: report["systems"][kind]["nDCG@10"])
    assert report["best"] == best
    assert {d["baseline"] for d in report["differences"]} == {"hybrid"}
    asked = len((garden / "queries.tsv").read_text().splitlines()) - 1
    assert report["queries"] + report["queries_unjudged"] == asked


def test_every_kind_reports_its_progress(crossed: Outcome) -> None:
    for kind in KINDS.split(","):
        assert f"{kind} " in crossed.err
    assert "3/3" in crossed.err


def test_folds_propose_nothing(crossed: Outcome, garden: Path) -> None:
    assert tilth("release", "list", garden / "idx", "--json").json["releases"] == []


def test_the_same_seed_gives_the_same_numbers(garden: Path) -> None:
    options = given(garden, "--folds", 3, "--json", "--seed", 5)
    assert tilth("train", garden / "idx", *options).json == tilth("train", garden / "idx", *options).json


def test_clicks_change_the_features_and_with_them_the_scores(crossed: Outcome, garden: Path) -> None:
    queries = read_queries(garden / "queries.tsv")
    shown = [tilth("search", garden / "idx", query.text, "-k", 5, "--json").json for query in queries[:3]]
    pages = [
        Impression(query.query_id, query.text, tuple(hit["product_id"] for hit in page["hits"]), (3,))
        for query, page in zip(queries, shown, strict=False)
    ]
    write_impressions(pages * 30, garden / "log.jsonl")
    options = given(garden, "--folds", 3, "--json", "--clicks", garden / "log.jsonl")
    clicked = tilth("train", garden / "idx", *options)
    assert clicked.code == 0
    assert clicked.json["systems"]["logistic"] != crossed.json["systems"]["logistic"]
    assert clicked.json["systems"]["hybrid"] == crossed.json["systems"]["hybrid"]


def test_without_the_extra_there_is_all_but_the_page(garden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> None:
        raise MissingExtraError("the page of an experiment", "report")

    monkeypatch.setattr(training, "write_page", missing)
    into = garden / "pageless"
    outcome = tilth("train", garden / "idx", *given(garden, "--folds", 3, "--into", into))
    assert outcome.code == 0
    assert "no page is written. " in outcome.err
    assert "tilth[report]" in outcome.err
    assert {path.name for path in into.iterdir()} == {"findings.json", "runs"}


# --- an experiment --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def experiment(garden: Path) -> Outcome:
    into = garden / "experiment"
    return tilth("experiment", garden / "idx", *given(garden, "--folds", 3, "--into", into, kinds=KINDS))


def test_an_experiment_writes_its_page_findings_and_runs(experiment: Outcome, garden: Path) -> None:
    assert experiment.code == 0
    into = garden / "experiment"
    page = (into / "report.html").read_text("utf-8")
    assert page.startswith("<!DOCTYPE html>")
    assert "Learning curve" in page
    found = orjson.loads((into / "findings.json").read_bytes())
    assert found["measure"] == "nDCG@10"
    assert found["split"] == {"kind": "3 folds", "seed": 0, "parts": found["split"]["parts"]}
    assert found["origin"]["command"].startswith(f"tilth experiment {garden / 'idx'} --queries ")
    assert found["curve"]["points"]
    assert found["calibration"]["reliability"]
    systems = {"tfidf", "lexical", "dense", "hybrid", "lambdarank", "logistic"}
    assert {path.name for path in (into / "runs").iterdir()} == {f"{name}.trec" for name in systems}
    assert set(found["evaluation"]["systems"]) == systems
    assert read_run(into / "runs" / "logistic.trec").hits


def test_an_experiment_is_printed_in_eighty_columns(experiment: Outcome, garden: Path) -> None:
    *tables, last = experiment.out.splitlines()
    assert last == f"report: {garden / 'experiment' / 'report.html'}"
    notes = [line for line in tables if line.startswith("note: ")]
    assert sum("are judged" in note for note in notes) == 1
    assert max(len(line) for line in tables if line not in notes) <= 80
    assert "nDCG@10 minus hybrid's" in experiment.out
    assert "nDCG@10 by kind" in experiment.out


def test_many_systems_stand_in_several_tables(garden: Path) -> None:
    every = "lambdarank,rank_xendcg,binary,multiclass,regression,logistic,logistic-ovr,logistic-ovo"
    names = every.split(",")
    report = _report(["tfidf", "lexical", "dense", "hybrid", *names])
    out = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out):
        patch.setenv("COLUMNS", "80")
        print_evaluation(report)
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    start = lines.index(next(line for line in lines if line.startswith("nDCG@10 by kind")))
    shown = [name for line in lines[start:] for name in line.split() if name in report["systems"]]
    assert shown == list(report["systems"])  # each once, in their order, none cut off
    rows = [line.split() for line in lines[start:] if line.startswith("misspelt (35)")]
    assert len(rows) > 1
    assert [cell for row in rows for cell in row[2:]] == [f"0.{number:02}0" for number in range(12)]


def _report(systems: list[str]) -> dict[str, Any]:
    means = {name: {"nDCG@10": number / 100} for number, name in enumerate(systems)}
    return {
        "queries": 1, "queries_without_relevant": 0, "queries_unjudged": 0, "measures": ["nDCG@10"],
        "systems": means, "differences": [],
        "slices": {"kind": {"misspelt": {"queries": 35, "systems": means}}},
    }  # fmt: skip


# --- a release ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shop(garden: Path) -> Path:
    """An index of its own, with what `tilth train` proposed and printed."""
    into = garden / "releasing"
    shutil.copytree(garden / "idx", into)
    trained = tilth("train", into, *given(garden, "--into", garden / "trained", kinds=KINDS))
    assert trained.code == 0
    (into / "printed").write_text(trained.out)
    return into


def test_a_release_is_proposed_with_all_that_belongs_to_it(shop: Path, garden: Path) -> None:
    release = open_release(shop, "r1")
    assert release.reranker is not None
    assert {path.name for path in release.reranker.iterdir()} >= {"reranker.json", "behaviour.json"}
    assert release.report is not None
    assert release.report.read_text("utf-8").startswith("<!DOCTYPE html>")
    calibration = release.calibration()
    assert calibration is not None
    assert calibration["depth"] == 50
    assert calibration["probability"]["method"] in ("platt", "isotonic")
    evidence = Evidence.from_json(release.evidence())
    assert (evidence.candidate, evidence.part) == ("reranked", "test")
    assert set(release.evidence()["held_out"]) == set(KINDS.split(","))
    assert list(evidence.systems) == ["tfidf", "lexical", "dense", "hybrid", "reranked"]
    assert (
        (shop / "printed")
        .read_text()
        .endswith(f"{release.evidence()['kind']} is kept as r1: tilth release promote {shop} r1\n")
    )
    found = orjson.loads((garden / "trained" / "findings.json").read_bytes())
    parts = found["split"]["parts"]
    assert parts["train"] > parts["test"] > 0
    assert {time["stage"] for time in found["latency"]} >= {"lexical", "fuse", "rerank", "explain", "whole"}


def test_what_is_not_promoted_is_not_in_force(shop: Path, garden: Path) -> None:
    assert tilth("search", garden / "idx", "compost", "--json").json["release"] is None


def test_the_gate_decides_by_the_evidence(shop: Path, garden: Path) -> None:
    into = garden / "gate"
    shutil.copytree(shop, into)
    refused = tilth("release", "promote", into, "r1", "--most-fall", 1, "--budget-ms", 0)
    assert refused.code == 1
    assert "the gate refuses the release r1: It adds " in refused.err
    promoted = tilth("release", "promote", into, "r1", *LENIENT, "--json")
    held_out = promoted.json["findings"][0]
    assert (held_out["rule"], held_out["passed"]) == ("held out", True)
    assert (promoted.code == 0) == promoted.json["passed"]


@pytest.fixture(scope="module")
def in_force(shop: Path, garden: Path) -> Path:
    into = garden / "in-force"
    shutil.copytree(shop, into)
    forced = ("--force", "--why", "to try it", *LENIENT)
    assert tilth("release", "promote", into, "r1", *forced).code == 0
    return into


def test_search_and_evaluate_use_the_release_in_force(in_force: Path, garden: Path) -> None:
    answer = tilth("search", in_force, "compost", "--json").json
    assert answer["release"] == "r1"
    assert all(0 <= hit["probability"] <= 1 for hit in answer["hits"])
    assert "rerank" in answer["milliseconds"]
    assert "ordered by release r1" in tilth("search", in_force, "compost").out
    labels = given(garden)[:4]
    report = tilth("evaluate", in_force, *labels, "--json").json
    assert list(report["systems"]) == ["tfidf", "lexical", "dense", "hybrid", "r1"]
    assert report["systems"]["r1"] != report["systems"]["hybrid"]
    assert "r1" in tilth("evaluate", in_force, *labels, "--systems", "lexical,r1").out


def test_the_next_training_is_compared_with_the_release_in_force(in_force: Path, garden: Path) -> None:
    report = tilth("train", in_force, *given(garden, "--json")).json
    assert report["release"] == "r2"
    assert list(report["systems"])[-2:] == ["reranked", "r1"]
    assert {d["baseline"] for d in report["differences"]} == {"r1"}
    first = open_release(in_force, "r1").evidence()
    assert report["systems"]["r1"] == first["systems"]["reranked"]  # the same queries, as it was promised
    assert report["systems"]["hybrid"] == first["systems"]["hybrid"]
    decided = tilth("release", "promote", in_force, "r2", *LENIENT, "--json").json
    assert decided["in_force"] == "r1"
    assert decided["findings"][1]["value"] is not None


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [("train",), ("experiment", "--into", "never")])
@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--kinds", "lambdarank,magic"), 1, "no kind 'magic' of model; there are lambdarank, rank_xendcg,"),
        (("--folds", 2), 2, "should be greater than or equal to 3"),
        (
            ("--folds", 500),
            1,
            "judged queries to learn from are too few for 500 folds. Judge more queries that differ",
        ),
        (("--queries", "nowhere.tsv"), 1, "nowhere.tsv"),
        (("--clicks", "nowhere.jsonl"), 1, "nowhere.jsonl"),
    ],
)
def test_wrong_options_are_named(
    garden: Path, tmp_path: Path, command: tuple, options: tuple, code: int, message: str
) -> None:
    name, *others = command
    into = ("--into", tmp_path / "never") if others else ()
    outcome = tilth(name, garden / "idx", *given(garden), *into, *options)
    assert outcome.code == code
    assert message in " ".join(outcome.err.replace("│", " ").split())
    assert not (tmp_path / "never").exists()


def test_labels_of_another_shop_are_named(garden: Path, tmp_path: Path) -> None:
    (tmp_path / "qrels.tsv").write_text("query_id\tproduct_id\tgrade\nelsewhere\tp1\t1\n")
    outcome = tilth("train", garden / "idx", *given(garden, "--qrels", tmp_path / "qrels.tsv"))
    assert outcome.code == 1
    assert "Queries and qrels need the same query ids, and qrels the product ids" in outcome.err


def test_too_few_queries_are_named(garden: Path, tmp_path: Path) -> None:
    few = (garden / "queries.tsv").read_text("utf-8").splitlines()[:5]
    (tmp_path / "queries.tsv").write_text("\n".join(few), "utf-8")
    outcome = tilth("train", garden / "idx", *given(garden, "--queries", tmp_path / "queries.tsv"))
    assert outcome.code == 1
    assert (
        "judged queries to learn from are too few for 5 folds. Judge more queries that differ" in outcome.err
    )


@pytest.mark.parametrize(("name", "message"), [("r1", "a release has"), ("hybrid", "a system has")])
def test_a_name_is_refused_before_the_training(shop: Path, garden: Path, name: str, message: str) -> None:
    outcome = tilth("train", shop, *given(garden, "--name", name))
    assert outcome.code == 1
    assert f"{message} this name (got '{name}'). Use another" in outcome.err
    assert "logistic" not in outcome.err


# --- mounting -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("group", "commands"),
    [
        ("judge", ["import", "export", "agreement", "bootstrap", "llm", "clicks"]),
        ("release", ["propose", "list", "promote", "rollback", "repair"]),
    ],
)
def test_groups_have_their_commands(group: str, commands: list[str]) -> None:
    shown = tilth(group, "--help")
    assert shown.code == 0
    for command in commands:
        assert command in shown.out
        assert f"tilth {group} {command} [OPTIONS]" in tilth(group, command, "--help").out


def test_errors_of_the_groups_are_those_of_the_command(tmp_path: Path) -> None:
    outcome = tilth("judge", "export", tmp_path, "--into", tmp_path / "x.tsv")
    assert outcome.code == 1
    assert outcome.err.startswith("error: ")
    outcome = tilth("release", "rollback", tmp_path)
    assert outcome.code == 1
    assert "no release is in force" in outcome.err
