"""`tilth judge next`: what it chooses, what it knows from the log, and what it writes."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
import typer

from fakes import WordEncoder
from shop import SHOP
from shop import index as build
from tilth.cli.bootstrapping import pooled_labels
from tilth.cli.choosing import choose
from tilth.cli.llm_judging import _read_pairs
from tilth.cli.terminal import reporting_errors
from tilth.judgment_log import JudgmentLog
from tilth.judgments import Judgment, Source, read_judgments
from tilth.labelling.bootstrap import relevances
from tilth.pipeline import open_index
from tilth.query import read_queries
from tilth.releases import propose
from tilth.retrieval.fusion import Fusion
from tilth.retrieval.index import open_store

QUERIES = "query_id\tquery\nq1\tmanure\nq2\tcow manure for tomato\nq3\tsecateurs\n"
A = "q1 Q0 m1 1 3 a\nq1 Q0 m2 2 2 a\nq1 Q0 h1 3 1 a\n"
B = "q1 Q0 m1 1 3 b\nq1 Q0 p1 2 2 b\nq1 Q0 m2 3 1 b\n"
SAID = Judgment(
    query_id="q1", query="manure", product_id="p1", grade=0, highest=3, judge="ann", kind="person",
    time=datetime(2026, 5, 1, tzinfo=UTC),
)  # fmt: skip


@dataclass
class Outcome:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return orjson.loads(self.out)

    @property
    def pairs(self) -> list[tuple[str, str]]:
        return [(pair["query_id"], pair["product_id"]) for pair in self.json["pairs"]]


Next = Callable[..., Outcome]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    build(SHOP, tmp_path / "idx", WordEncoder())
    for name, text in (("queries.tsv", QUERIES), ("a.trec", A), ("b.trec", B)):
        (tmp_path / name).write_text(text, "utf-8")
    return tmp_path


@pytest.fixture
def judge_next(folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Next:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("TILTH_STORE", raising=False)
    app = typer.Typer()
    app.command()(choose)

    def run(*arguments: object) -> Outcome:
        given = ("next", folder / "idx", "--queries", folder / "queries.tsv", *arguments)
        monkeypatch.setattr(sys, "argv", [*map(str, given)])
        code = 0
        try:
            with reporting_errors():
                app()
        except SystemExit as end:
            code = int(end.code or 0)
        return Outcome(code, *capfd.readouterr())

    return run


@pytest.fixture
def runs(folder: Path) -> tuple[object, ...]:
    return "--run", folder / "a.trec", "--run", folder / "b.trec"


def say(folder: Path, *judgments: Judgment) -> None:
    with open_store(folder / "idx", create=False) as store:
        JudgmentLog(store).append(judgments)


def sure(product_id: str, grade: int, confidence: float) -> Judgment:
    return replace(
        SAID, product_id=product_id, grade=grade, judge="bootstrap", kind="bootstrap", confidence=confidence
    )


def test_what_tells_two_runs_apart_comes_first(judge_next: Next, folder: Path, runs: tuple[object]) -> None:
    say(folder, sure("p1", 0, 0.5), sure("m2", 1, 0.5), sure("h1", 0, 0.5), sure("m1", 3, 0.5))
    found = judge_next(*runs, "--json")
    assert found.pairs == [("q1", "p1"), ("q1", "h1"), ("q1", "m2"), ("q1", "m1")]
    report = found.json
    assert report["between"] == ["a.trec", "b.trec"]
    assert (report["shown"], report["judged"], report["depth"]) == (4, 0, 10)
    first = report["pairs"][0]
    assert (first["query"], first["title"]) == ("manure", "Slug pellets")
    assert first["ranks"] == {"a.trec": None, "b.trec": 2}
    # the discounts: 1/log2(3) at rank 2, 1/log2(4) = 1/2 at rank 3
    second = 0.6309297535714575
    assert first["share"] == pytest.approx(second**2 / (second**2 + 0.25 + (second - 0.5) ** 2))
    assert sum(pair["share"] for pair in report["pairs"]) == pytest.approx(1)


def test_the_labels_of_the_log_say_what_is_nearly_known(
    judge_next: Next, folder: Path, runs: tuple[object]
) -> None:
    say(folder, sure("p1", 0, 0.99), sure("h1", 3, 0.5), sure("m2", 3, 0.5))
    pairs = judge_next(*runs, "--json").json["pairs"]
    assert [pair["product_id"] for pair in pairs] == ["h1", "m2", "p1", "m1"]
    assert [pair["relevance"] for pair in pairs] == pytest.approx([0.5, 0.5, 0.01, 0.5])


def test_without_labels_in_the_log_they_are_worked_out(
    judge_next: Next, folder: Path, runs: tuple[object]
) -> None:
    pipeline = open_index(folder / "idx")
    wanted = relevances(pooled_labels(pipeline, read_queries(folder / "queries.tsv"))[1])
    pipeline.close()
    found = {pair["product_id"]: pair["relevance"] for pair in judge_next(*runs, "--json").json["pairs"]}
    assert found == {product_id: wanted["q1", product_id] for product_id in ("m1", "m2", "h1", "p1")}


def test_what_is_judged_is_not_asked_again(judge_next: Next, folder: Path, runs: tuple[object]) -> None:
    say(folder, SAID, replace(SAID, product_id="m2", judge="m", kind="model", grade=3))
    found = judge_next(*runs, "--json")
    assert set(found.pairs) == {("q1", "h1"), ("q1", "m1")}
    assert found.json["judged"] == 2
    by_people = judge_next(*runs, "--json", "--kinds", "person")
    assert set(by_people.pairs) == {("q1", "h1"), ("q1", "m1"), ("q1", "m2")}


def test_labels_without_people_and_of_another_text_leave_a_pair_open(
    judge_next: Next, folder: Path, runs: tuple[object]
) -> None:
    say(folder, sure("p1", 0, 0.6), replace(SAID, query="horse manure"))
    found = judge_next(*runs, "--json")
    assert ("q1", "p1") in found.pairs
    assert found.json["judged"] == 0


def test_the_expected_measures_follow_the_last_opinions(
    judge_next: Next, folder: Path, runs: tuple[object]
) -> None:
    grades = {"m1": 0, "m2": 0, "h1": 0, "p1": 3}
    said = [replace(SAID, product_id=product_id, grade=grade) for product_id, grade in grades.items()]
    before = [replace(each, grade=3 - each.grade, time=datetime(2026, 4, 1, tzinfo=UTC)) for each in said]
    say(folder, *said, *before)
    found = judge_next(*runs)
    assert "4 pairs, 4 of them judged" in found.out
    assert "nDCG@10 to be expected: 0.000 and 0.631, difference +0.631" in found.out
    assert "nothing is left to be judged" in found.out


def test_the_systems_of_the_index_are_compared(judge_next: Next) -> None:
    assert judge_next("--json").json["between"] == ["lexical", "hybrid"]
    found = judge_next("--between", "tfidf, dense", "--json", "-n", 3)
    assert found.json["between"] == ["tfidf", "dense"]
    assert len(found.pairs) == 3
    assert all(any(pair["ranks"].values()) for pair in found.json["pairs"])


def test_a_release_is_a_system_by_its_name(judge_next: Next, folder: Path) -> None:
    for name, weights in (("words", (1.0, 0.0)), ("meaning", (0.0, 1.0))):
        propose(
            folder / "idx", name=name, fusion=Fusion("minmax", weights), model_folder=None, calibration=None,
            evidence={}, report=None,
        )  # fmt: skip
    found = judge_next("--between", "words,meaning", "--json").json
    assert found["between"] == ["words", "meaning"]
    apart = judge_next("--between", "lexical,dense", "--json").json
    assert found["shown"] == apart["shown"]
    unknown = judge_next("--between", "words,best")
    assert "no system 'best'; there are tfidf, lexical, dense, hybrid, words, meaning" in unknown.err


def test_depth_takes_the_first_hits_of_both(judge_next: Next, runs: tuple[object]) -> None:
    pairs = judge_next(*runs, "--strategy", "depth", "--json").pairs
    assert pairs[0] == ("q1", "m1")
    assert pairs[3] == ("q1", "h1")


def test_seeds_change_the_order_of_random_pairs(judge_next: Next, runs: tuple[object]) -> None:
    orders = {
        tuple(judge_next(*runs, "--strategy", "random", "--seed", seed, "--json").pairs) for seed in range(6)
    }
    assert len(orders) > 1


def test_the_file_is_read_by_import_and_by_the_llm_judge(
    judge_next: Next, folder: Path, runs: tuple[object]
) -> None:
    into = folder / "pairs.tsv"
    printed = judge_next(*runs, "-n", 2, "--into", into)
    assert "judging these pairs leaves" in printed.out
    pairs = judge_next(*runs, "-n", 2, "--json").pairs
    assert _read_pairs(into) == pairs
    lines = into.read_text("utf-8").splitlines()
    assert lines[0] == "query_id\tproduct_id\tquery\ttitle\twhy\tgrade"
    assert "\tmanure\tSlug pellets\ta.trec below 10, b.trec rank 2; " in "\n".join(lines)
    assert all(line.endswith("\t") for line in lines[1:])
    into.write_text("\n".join([lines[0], *(line + "2" for line in lines[1:])]) + "\n", "utf-8")
    source = Source(time=datetime(2026, 6, 1, tzinfo=UTC), judge="ann", highest=3)
    read = list(read_judgments(into, source))
    assert [(each.query_id, each.product_id, each.query, each.grade) for each in read] == [
        (*pair, "manure", 2) for pair in pairs
    ]


def test_runs_of_one_file_name_are_told_apart(judge_next: Next, folder: Path) -> None:
    (folder / "b").mkdir()
    (folder / "b" / "a.trec").write_text(B, "utf-8")
    names = [folder / "a.trec", folder / "b" / "a.trec"]
    found = judge_next("--run", names[0], "--run", names[1], "--json").json
    assert found["between"] == [str(name) for name in names]


def test_equal_runs_are_said_to_be_equal(judge_next: Next, folder: Path) -> None:
    (folder / "c.trec").write_text(A, "utf-8")
    found = judge_next("--run", folder / "a.trec", "--run", folder / "c.trec")
    assert "none of these pairs tells the two apart" in found.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--between", "lexical"), "--between names two systems, as in lexical,hybrid; not lexical"),
        (("--between", "hybrid,hybrid"), "not hybrid,hybrid"),
        (("--run", "a.trec"), "two runs are compared, not 1: give --run twice"),
        (("--run", "a", "--run", "b", "--between", "tfidf,dense"), "and not both"),
        (("--strategy", "best"), "no strategy 'best'; there are random, depth, difference"),
        (("--kinds", "person,cat"), "no kind of judge 'cat'; there are person, model"),
        (("--into", "pairs.csv"), "pairs.csv: pairs are written as TSV. Let the name end in .tsv"),
    ],
)
def test_what_cannot_be_done_is_refused(judge_next: Next, arguments: tuple[str], message: str) -> None:
    refused = judge_next(*arguments)
    assert refused.code == 1
    assert message in refused.err


def test_runs_of_other_queries_are_refused(judge_next: Next, folder: Path) -> None:
    (folder / "other.trec").write_text("q9 Q0 m1 1 1 r\n", "utf-8")
    refused = judge_next("--run", folder / "a.trec", "--run", folder / "other.trec")
    assert "has none of the queries. Name the file of its queries with --queries" in refused.err


def test_nothing_found_is_nothing_to_judge(judge_next: Next, folder: Path) -> None:
    (folder / "queries.tsv").write_text("query_id\tquery\nq1\tqwxz\n", "utf-8")
    refused = judge_next("--between", "tfidf,lexical")
    assert "tfidf and lexical find nothing for these queries" in refused.err
