"""`tilth stats` as a person or a program calls it."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest
import typer

from tilth.cli.stats import stats
from tilth.cli.terminal import reporting_errors
from tilth.feedback_log import FeedbackLog
from tilth.interactions import Interaction, Served
from tilth.online.figures import figures
from tilth.retrieval.index import open_store

NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)
Stats = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Stats:
    """What calls the command and returns its exit code, and what it printed."""
    monkeypatch.setenv("COLUMNS", "100")
    app = typer.Typer()
    app.command()(stats)

    def call(*arguments: object) -> tuple[int, str, str]:
        code = 0
        try:
            with reporting_errors():
                app(list(map(str, arguments)), prog_name="tilth stats")
        except SystemExit as end:
            code = int(end.code or 0)
        return code, *capfd.readouterr()

    return call


def served(number: int, arm: str = "a", **changes: object) -> Served:
    values = {"query": "rose", "product_ids": ("p1", "p2"), "time": NOON, **changes}
    milliseconds = {"lexical": 2.0, "dense": 3.0}
    return Served(impression_id=f"s{arm}{number}", arm=arm, milliseconds=milliseconds, **values)


def done(number: int, impression_id: str, action: str, **changes: object) -> Interaction:
    values = {"time": NOON, "product_id": "p1", "rank": 1, **changes}
    return Interaction(event_id=f"e{number}", impression_id=impression_id, action=action, **values)


def log_into(folder: Path, pages: list[Served], interactions: list[Interaction] | None = None) -> Path:
    with open_store(folder / "idx") as store:
        FeedbackLog(store).append(pages, interactions or [])
    return folder / "idx"


@pytest.fixture
def idx(tmp_path: Path) -> Path:
    pages = [served(n, arm, skipped=("rerank",)) for arm in "ab" for n in range(4)]
    interactions = [
        done(1, "sa0", "click"),
        done(2, "sb0", "click"),
        done(3, "sb1", "click", rank=2),
        done(4, "sb0", "purchase", value=1234.5),
        done(5, "sb0", "csat", value=4),
        done(6, "sb0", "rejected", reason="too dear"),
        done(7, "lost", "click"),
    ]
    return log_into(tmp_path, pages, interactions)


def lines(out: str) -> dict[str, list[str]]:
    """Return the cells of a printed table by their first one; cells stand two blanks apart."""
    rows = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in out.splitlines()]
    return {row[0]: row[1:] for row in rows if row}


def test_two_arms_stand_beside_each_other_and_are_compared(run: Stats, idx: Path) -> None:
    code, out, _ = run(idx, "--by", "arm")
    assert code == 0
    table = lines(out)
    assert table["arm a"] == ["arm b"]
    assert table["answers"] == ["4", "4"]
    assert table["CTR"] == ["25.0% (4.6 to 69.9)", "50.0% (15.0 to 85.0)"]
    assert table["cited"] == []  # no answer had sources
    assert table["CSAT"] == ["4.00 of 1"]
    assert table["reciprocal rank"] == ["1.00 of 1", "0.75 of 2"]
    assert table["revenue"] == ["0.00", "1,234.50"]
    assert table["reason 'too dear'"] == ["0", "1"]
    assert table["skipped rerank"] == ["100.0%", "100.0%"]
    assert table["total"] == ["5.0, 5.0, 5.0"] * 2
    assert "CTR of b minus a: +25.00 points (95%: -31.96 to +65.53)" in out
    assert "conversion of b minus a: +25.00 points" in out
    assert "answers for independent" in out
    assert "1 interactions are with pages that the log does not have" in out


def test_many_groups_have_a_row_each(run: Stats, tmp_path: Path) -> None:
    pages = [served(n, time=NOON + timedelta(days=n)) for n in range(5)]
    idx = log_into(tmp_path, pages, [done(1, "sa0", "click"), done(2, "sa0", "csat", value=5)])
    code, out, _ = run(idx)
    assert code == 0
    first, stages = out.split("p95 of the stages, in ms")
    row = ["1", "100.0%", "20.7-100.0", "0.0%", "5.00", "0.0%", "0.0%", "5.0", "5.0", "5.0"]
    assert lines(first)["2026-11-26"] == row
    assert lines(first)["2026-11-30"][:3] == ["1", "0.0%", "0.0-79.3"]
    assert lines(stages)["day"] == ["lexical", "dense"]
    assert lines(stages)["2026-11-28"] == ["2.0", "3.0"]
    assert max(map(len, out.splitlines())) <= 100


def test_json_has_the_figures_of_the_times_asked_for(run: Stats, idx: Path) -> None:
    code, out, _ = run(
        idx, "--by", "arm, day", "--since", "2026-11-26", "--until", "2026-11-27T01:00+01:00", "--json"
    )
    with open_store(idx, create=False) as store:
        bounds = (datetime(2026, 11, 26, tzinfo=UTC), datetime(2026, 11, 27, tzinfo=UTC))
        expected = figures(store, ("arm", "day"), *bounds).to_json()
    assert (code, orjson.loads(out)) == (0, expected)
    assert len(expected["groups"]) == 2


def test_all_pages_may_be_one_group(run: Stats, idx: Path) -> None:
    _, out, _ = run(idx, "--by", "")
    assert lines(out)["answers"] == ["8"]
    assert "minus" not in out


def test_a_time_without_pages_is_said(run: Stats, idx: Path) -> None:
    for by in ("day", ""):
        code, out, _ = run(idx, "--since", "2027-01-01", "--by", by)
        assert (code, out) == (0, "the log has no pages of this time\n")


def test_what_callers_sent_gives_the_terminal_no_orders(run: Stats, tmp_path: Path) -> None:
    pages = [served(1, "[red]x\x1b[2J"), served(2, "", release="r1")]
    idx = log_into(tmp_path, pages, [done(1, "s2", "rejected", reason="\x1b]0;mine\x07[/]")])
    _, out, _ = run(idx, "--by", "arm,release")
    assert "\x1b" not in out
    assert "arm none" in out
    assert "arm [red]x\N{REPLACEMENT CHARACTER}[2J" in out
    assert "release hybrid" in out
    assert "reason '\N{REPLACEMENT CHARACTER}]0;mine\N{REPLACEMENT CHARACTER}[/]'" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--by", "client"], "figures are not by 'client': choose of arm, release, day, kind"),
        (["--since", "yesterday"], "field 'since': is no time (got 'yesterday'). Write a day"),
        (["--until", "2026-11-26T12:00"], "field 'until': is no time"),
    ],
)
def test_what_cannot_be_counted_is_an_error(
    run: Stats, idx: Path, arguments: list[str], message: str
) -> None:
    code, out, err = run(idx, *arguments)
    assert (code, out) == (1, "")
    assert message in err


def test_without_a_store_there_is_an_error(run: Stats, tmp_path: Path) -> None:
    code, _, err = run(tmp_path / "none")
    assert code == 1
    assert "there is no store" in err
