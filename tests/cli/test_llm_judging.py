"""`tilth judge llm` over real HTTP: what is asked, stored, left out, counted and printed."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from commands import Command, Outcome
from labelling.chat_server import KEY, Asked, ChatServer, Reply, grade, says, serving
from shop import SHOP
from tilth.cli.llm_judging import llm
from tilth.cli.terminal import reporting_errors
from tilth.judgment_log import JudgmentLog
from tilth.judgments import Judgment
from tilth.retrieval.index import open_store

TOKENS = {"prompt_tokens": 400, "completion_tokens": 20}
GRADES = {"Cow manure 20 kg": 3, "Horse manure, pelleted": 2, "Slug pellets": 0, "Garden hose 25 m": 1}


def by_title(asked: Asked) -> Reply:
    return grade(GRADES[re.search(r"^title: (.*)$", asked.user, re.MULTILINE)[1]], "Seen.", TOKENS)


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with serving() as server:
        server.replies = [by_title]
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An index folder with its store alone, and the files of an evaluation."""
    (tmp_path / "queries.tsv").write_text("query_id\tquery\n1\tcow manure\n2\tgarden hose\n")
    (tmp_path / "pairs.tsv").write_text("query_id\tproduct_id\n1\tm1\n1\tm2\n1\tp1\n2\th1\n")
    (tmp_path / "qrels.tsv").write_text(
        "query_id\tproduct_id\tgrade\n1\tm1\t3\n1\tm2\t3\n1\tp1\t0\n2\tm1\t0\n"
    )
    (tmp_path / "run.trec").write_text("1 Q0 m1 1 2 r\n1 Q0 m2 2 1 r\n2 Q0 h1 1 2 r\n2 Q0 p1 2 1 r\n")
    with open_store(tmp_path / "idx") as store:
        store.upsert(SHOP)
    return tmp_path


@pytest.fixture
def run(
    folder: Path, server: ChatServer, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Command:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("TILTH_STORE", raising=False)
    app = typer.Typer()
    app.command()(llm)

    def run(*arguments: object, what: tuple[object, ...] = ("--pairs", folder / "pairs.tsv")) -> Outcome:
        base = ("--queries", folder / "queries.tsv", "--url", server.url, "--model", "judge-1", *what)
        monkeypatch.setattr(sys, "argv", ["llm", str(folder / "idx"), *map(str, (*base, *arguments))])
        code = 0
        try:
            with reporting_errors():
                app()
        except SystemExit as end:
            code = int(end.code or 0)
        return Outcome(code, *capfd.readouterr())

    return run


def stored(folder: Path) -> list[Judgment]:
    with open_store(folder / "idx", create=False) as store:
        return [judgment for _, judgment in JudgmentLog(store).judgments()]


def test_pairs_are_judged_and_stored(run: Command, folder: Path, server: ChatServer) -> None:
    outcome = run("--json", "--price-in", 1, "--price-out", 10)
    assert outcome.code == 0, outcome.err
    report = outcome.json
    grades = {(j.query_id, j.product_id): j.grade for j in stored(folder)}
    assert grades == {("1", "m1"): 3, ("1", "m2"): 2, ("1", "p1"): 0, ("2", "h1"): 1}
    assert {(j.judge, j.kind, j.prompt, j.query) for j in stored(folder)} == {
        ("judge-1", "model", report["prompt"], "cow manure"),
        ("judge-1", "model", report["prompt"], "garden hose"),
    }
    assert (report["judged"], report["failed"], report["skipped"], report["requests"]) == (4, 0, 0, 4)
    assert (report["tokens_in"], report["tokens_out"], report["estimated"]) == (1600, 80, 0)
    assert report["cost"] == pytest.approx(0.0024)
    assert report["seconds"] > 0
    assert report["calibration"] is None
    assert all("Authorization" not in asked.headers for asked in server.asked)


def test_what_was_judged_is_not_asked_again(run: Command, folder: Path, server: ChatServer) -> None:
    run()
    again = run("--json").json
    assert (again["judged"], again["skipped"], again["requests"]) == (0, 4, 0)
    assert len(stored(folder)) == 4
    russian = run("--json", "--language", "ru").json  # another prompt
    assert (russian["judged"], russian["skipped"]) == (4, 0)
    other = run("--json", "--model", "judge-2").json  # another judge; of two the last counts
    assert (other["judge"], other["judged"]) == ("judge-2", 4)


def test_the_first_hits_of_a_run(run: Command, folder: Path) -> None:
    outcome = run("--json", "--depth", 1, what=("--run", folder / "run.trec"))
    assert outcome.json["judged"] == 2
    assert {(j.query_id, j.product_id) for j in stored(folder)} == {("1", "m1"), ("2", "h1")}


@pytest.mark.parametrize(
    "text", ["1 0 m1 3\n1 0 m2 0\n", "1\tm1\n1\tm2\n", "product_id\tquery_id\nm1\t1\nm2\t1\n"]
)
def test_pairs_in_the_forms_of_qrels(run: Command, folder: Path, text: str) -> None:
    (folder / "others").write_text(text)
    assert run("--json", what=("--pairs", folder / "others")).json["judged"] == 2


def test_the_summary_in_words(run: Command, folder: Path) -> None:
    outcome = run("--calibrate-against", folder / "qrels.tsv")
    words = " ".join(outcome.out.split())
    assert "4 judged by judge-1 (prompt " in words
    assert "0 failed, 0 skipped" in words
    assert "4 requests, 1,600 + 80 tokens, cost 0.0000" in words
    assert "against people, 3 pairs: accuracy 0.667, kappa 0.500" in words
    assert re.search(r"^3\s+0\s+0\s+1\s+1\s+1\.000\s+0\.500", outcome.out, re.MULTILINE)


def test_calibration_in_json_takes_earlier_judgments_too(run: Command, folder: Path) -> None:
    run()
    found = run("--json", "--calibrate-against", folder / "qrels.tsv").json["calibration"]
    assert found["pairs"] == 3
    assert found["confusion"] == [[1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 1, 1]]


def test_failures_are_listed_and_not_stored(run: Command, folder: Path, server: ChatServer) -> None:
    server.replies = [lambda asked: says("No idea.") if "Slug" in asked.user else by_title(asked)]
    outcome = run("--json", "--corrections", 1)
    assert (outcome.code, outcome.json["judged"], outcome.json["failed"]) == (0, 3, 1)
    (failure,) = outcome.json["failures"]
    assert (failure["query_id"], failure["product_id"]) == ("1", "p1")
    assert "no usable answer in 2" in failure["cause"]
    assert len(stored(folder)) == 3
    server.replies = [by_title]
    assert run("--json").json["judged"] == 1


def test_unknown_queries_and_products_are_left_out_and_counted(run: Command, folder: Path) -> None:
    (folder / "pairs.tsv").write_text("1\tm1\n1\tgone\n9\tm1\n9\tm2\n")
    outcome = run("--json")
    assert outcome.json["missing"] == {"queries": 2, "products": 1}
    assert outcome.json["judged"] == 1


def test_when_every_pair_is_unknown_something_is_wrong(run: Command, folder: Path) -> None:
    (folder / "pairs.tsv").write_text("1\tgone\n9\tm1\n")
    outcome = run()
    assert outcome.code == 1
    assert "none of the 2 pairs" in outcome.err


def test_a_limit_of_cost_stops_cleanly(run: Command, folder: Path) -> None:
    outcome = run("--price-in", 1000, "--most-cost", 0.5, "--concurrency", 1)
    assert outcome.code == 0
    assert "the limit of cost is reached" in outcome.out
    assert len(stored(folder)) == 2


def test_a_refusal_is_an_error_and_what_was_judged_is_stored(
    run: Command, folder: Path, server: ChatServer
) -> None:
    server.replies = [by_title, by_title, Reply("no funds left", 402)]
    outcome = run("--concurrency", 1)
    assert outcome.code == 1
    assert "HTTP 402 'no funds left'" in outcome.err
    assert f"{server.url}/chat/completions" in outcome.err
    assert "2 were judged before, and are stored" in outcome.err
    assert len(stored(folder)) == 2


def test_the_key_is_sent_and_never_printed(
    run: Command, server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM_KEY", KEY)
    server.replies = [Reply(f"unknown key {KEY}", 401)]
    outcome = run("--key-variable", "LLM_KEY")
    assert server.asked[0].headers["Authorization"] == f"Bearer {KEY}"
    assert "Check the key" in outcome.err
    assert KEY not in outcome.out + outcome.err


def test_a_variable_that_is_not_set(
    run: Command, server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LLM_KEY", raising=False)
    outcome = run("--key-variable", "LLM_KEY")
    assert outcome.code == 1
    assert "LLM_KEY is not set" in outcome.err
    assert not server.asked


def test_a_prompt_of_one_s_own(run: Command, folder: Path, server: ChatServer) -> None:
    path = folder / "mine.toml"
    path.write_text('highest = 5\nsystem = "Judge."\nuser = "{query}{product}"\ncorrection = "Again."\n')
    assert run("--json", "--prompt", path).json["judged"] == 4
    assert {judgment.highest for judgment in stored(folder)} == {5}
    assert server.asked[0].body["messages"][0]["content"] == "Judge."


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--run", "r"), "either --pairs or --run"),
        (("--most-cost", 1), "needs the prices"),
        (("--language", "fr"), "'fr'; there are en, ru"),
        (("--rpm", 0), "requests_per_minute is 0"),
        (("--url", "localhost"), "no address of an endpoint"),
    ],
)
def test_what_is_refused_before_anything_is_asked(
    run: Command, server: ChatServer, arguments: tuple, told: str
) -> None:
    outcome = run(*arguments)
    assert outcome.code == 1
    assert told in outcome.err
    assert not server.asked


def test_a_broken_pair_names_its_line(run: Command, folder: Path) -> None:
    (folder / "pairs.tsv").write_text("query_id\tproduct_id\n1\tm1\n2\n")
    assert "pairs.tsv:3: a pair needs query_id and product_id" in run().err
    (folder / "pairs.tsv").write_text("query_id\tproduct_id\n")
    assert "holds no pairs" in run().err
