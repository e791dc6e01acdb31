import json
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from tilth.errors import InputError, SettingError
from tilth.evaluation.correction import holm
from tilth.evaluation.experiment import Change, Comparison, Difference, Evaluation
from tilth.evaluation.findings import (
    Calibration,
    CurvePoint,
    Dataset,
    Duel,
    Findings,
    Importance,
    LearningCurve,
    ModelFacts,
    Origin,
    PairedTest,
    SplitFacts,
    StageTime,
)
from tilth.evaluation.markup import number, p_value, percent, signed, table
from tilth.evaluation.measures import PerQuery
from tilth.evaluation.page import render_page, write_page
from tilth.evaluation.reliability import measure_refusals, measure_reliability
from tilth.evaluation.significance import bootstrap_intervals, randomisation_test

pytest.importorskip("matplotlib", reason="the extra `report` is not installed")

MEASURES = ("nDCG@10", "R@100", "RR@10", "P@5", "Judged@10")
KINDS = ("type", "attributes", "brand", "code", "misspelt")
TEXTS = (
    "usb c hub 4k hdmi", "ssd 1tb", "картридж hp 304 чёрный", "lenovo thinkpad e14", "ноутбук для учёбы",
    "<script>alert('sku')</script>", "dual monitor arm 27\" & 32\"", "MZ-V8P1T0BW", "wireles keybord",
    "sehrlangezusammengesetztewortohneleerzeichenfuerdenumbruch",
)  # fmt: skip
SECTIONS = [
    "data", "results", "differences", "queries", "slices", "curve", "features", "calibration", "latency",
    "models", "origin",
]  # fmt: skip
VOID = {"meta", "link", "br", "img", "hr", "input"}


def per_query(shift: float, noise: int) -> PerQuery:
    """Values that look like those of 135 queries; systems with a higher shift do better on most."""
    difficulty = np.random.default_rng(1).beta(2.2, 1.4, size=(135, 1))
    rng = np.random.default_rng(noise)
    centres = np.array([0.0, 0.2, 0.05, -0.05, 0.25])
    values = np.clip(difficulty + centres + shift + rng.normal(0, 0.09, size=(135, 5)), 0, 1)
    values = np.where(rng.random((135, 1)) < 0.2, np.clip(difficulty + centres, 0, 1), values)
    return PerQuery(tuple(f"q{i:03}" for i in range(135)), MEASURES, np.round(values, 4))


def differences(systems: Mapping[str, PerQuery], baseline: str) -> list[Difference]:
    found = []
    for name in list(systems)[2:]:
        paired = systems[name].values - systems[baseline].values
        bounds = bootstrap_intervals(paired, seed=0, resamples=500)
        p = randomisation_test(paired, seed=0, permutations=999)
        for m, measure in enumerate(MEASURES):
            won, lost = int((paired[:, m] > 0).sum()), int((paired[:, m] < 0).sum())
            low, high = bounds[m].tolist()
            mean = float(paired[:, m].mean())
            found.append(Difference(name, baseline, measure, mean, low, high, float(p[m]), won, lost))
    return found


@cache
def sample() -> Findings:
    """An experiment with made-up numbers."""
    shifts = {"lexical": 0.0, "hybrid": 0.03, "LambdaMART": 0.07, "logistic regression": 0.035}
    shifts["cross-encoder, fine-tuned (MiniLM)"] = 0.06
    systems = {name: per_query(shift, noise) for noise, (name, shift) in enumerate(shifts.items(), start=2)}
    query_ids = systems["lexical"].query_ids
    found = [d for baseline in ("lexical", "hybrid") for d in differences(systems, baseline)]
    return Findings(
        title="Do rerankers earn their place on Icecat?",
        measure="nDCG@10",
        dataset=Dataset(
            catalogue="icecat", products=12_345, queries=135, judgments=4_018,
            grades={0: 2210, 1: 704, 2: 612, 3: 492},
        ),
        split=SplitFacts(kind="5 folds", parts=dict.fromkeys("12345", 27), seed=7),
        evaluation=Evaluation(
            systems=systems,
            intervals={n: bootstrap_intervals(v.values, seed=0, resamples=500) for n, v in systems.items()},
            differences=(),
            groups={
                "kind": {kind: query_ids[place::5] for place, kind in enumerate(KINDS)},
                "length": {"1": query_ids[:20], "2": query_ids[20:80], "3+": query_ids[80:]},
            },
            without_relevant=4,
            unjudged=2,
            unanswered={"lexical": 3, "hybrid": 0},
        ),
        tests=tuple(map(PairedTest, found, holm([d.p for d in found]).tolist())),
        duel=duel(systems, "LambdaMART", "hybrid"),
        curve=curve(),
        importances=importances(),
        calibration=calibration(),
        latency=(
            StageTime("lexical", 2.14, 7.9), StageTime("dense", 1.02, 3.35), StageTime("fusion", 0.21, 0.4),
            StageTime("features", 3.8, 9.61), StageTime("rerank", 0.64, 1.318),
        ),
        models=models(),
        warnings=(
            "Judged@10 of the cross-encoder is 0.61: many of its first hits were never judged.",
            "135 queries: differences below 0.02 cannot be told from chance.",
        ),
        origin=Origin(
            command="tilth experiment icecat/ --folds 5 --measure nDCG@10 --out runs/2026-01-31",
            commit="0f3c2ab9", time=datetime(2026, 1, 31, 14, 5, tzinfo=UTC),
            machine="2 cores, 24 GiB, Linux", seed=7,
        ),
    )  # fmt: skip


def duel(systems: Mapping[str, PerQuery], system: str, baseline: str) -> Duel:
    before, after = systems[baseline], systems[system]
    pairs = zip(before.query_ids, before["nDCG@10"].tolist(), after["nDCG@10"].tolist(), strict=True)
    changes = [Change(q, TEXTS[n % len(TEXTS)], a, b) for n, (q, a, b) in enumerate(pairs) if a != b]
    ordered = tuple(sorted(changes, key=lambda change: (-change.difference, change.query_id)))
    return Duel(system, baseline, Comparison(before, after, (), "nDCG@10", ordered))


def curve() -> LearningCurve:
    points = [
        CurvePoint(name, queries, queries * 30, top - drop / queries, top - drop / queries - half,
                   top - drop / queries + half)
        for name, top, drop, half in (("LambdaMART", .7, 1.1, .03), ("logistic regression", .66, .3, .02))
        for queries in (7, 14, 27, 54, 81, 108)
    ]  # fmt: skip
    return LearningCurve(tuple(points), {"lexical": 0.62, "hybrid": 0.64})


def importances() -> tuple[Importance, ...]:
    shares = {
        "bm25": (0.31, "BM25 score over all fields"), "cosine": (0.22, "best passage of the dense index"),
        "fused_rank": (0.14, "rank in the hybrid run"), "title_covered": (0.11, "query terms in the title"),
        "popularity": (0.08, "sales of the last 30 days"), "brand_named": (0.06, "the query names the brand"),
        "price_log": (0.05, "logarithm of the price"), "attributes_covered": (0.03, "terms in attributes"),
    }  # fmt: skip
    return tuple(Importance(name, share, about) for name, (share, about) in shares.items())


def calibration() -> Calibration:
    rng = np.random.default_rng(3)
    probabilities = rng.beta(0.7, 1.1, 4000)
    relevant = rng.random(4000) < probabilities**1.2
    answerable = rng.random(135) < 0.85
    best = np.where(answerable, rng.beta(5, 1.5, 135), rng.beta(1.5, 3, 135))
    rules = {
        f"best probability below {t:.2f}": measure_refusals(best < t, answerable) for t in (0.3, 0.5, 0.7)
    }
    return Calibration("LambdaMART", measure_reliability(probabilities, relevant), rules)


def models() -> tuple[ModelFacts, ...]:
    settings: dict[str, str | float] = {"leaves": 31, "rate": 0.05, "feature_fraction": 0.8, "min_leaf": 20}
    return (
        ModelFacts(
            name="LambdaMART", kind="trees", loss="lambdarank", settings=settings, rounds=240, seconds=1.84,
        ),
        ModelFacts(
            name="logistic regression", kind="linear", loss="pointwise", settings={"C": 1.0}, rounds=None,
            seconds=0.112,
        ),
        ModelFacts(
            name="cross-encoder, fine-tuned (MiniLM)", kind="transformer", loss="pairwise",
            settings={"epochs": 2, "batch": 16, "rate": "2e-5"}, rounds=420, seconds=1312.5,
        ),
    )  # fmt: skip


class Strict(HTMLParser):
    """Raises where tags do not nest; gathers ids, links and what a browser would load."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open, self.ids, self.loads, self.tags = [], [], [], []
        self.text = ""
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value)
            if name in {"src", "href", "srcset", "action", "data"}:
                self.loads.append(value)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@cache
def sample_page() -> str:
    return render_page(sample())


def headings(page: str) -> list[str]:
    return re.findall(r'<section id="(\w+)"><h2>', page)


def test_a_page_has_every_section_for_which_there_is_something():
    page = sample_page()
    assert headings(page) == SECTIONS
    parsed = Strict(page)
    assert len(parsed.ids) == len(set(parsed.ids))
    assert {link.removeprefix("#") for link in parsed.loads} <= set(parsed.ids)
    assert parsed.tags.count("svg") == 7
    assert parsed.tags.count("h1") == 1


def test_a_page_asks_for_nothing_outside_itself():
    page = sample_page()
    parsed = Strict(page)
    assert not {"script", "link", "img", "iframe", "object"} & set(parsed.tags)
    assert all(link.startswith("#") for link in parsed.loads)
    assert set(re.findall(r"https?://[^\"\s<]*", page)) == {
        "http://www.w3.org/2000/svg"
    }  # a name, not a link
    assert "default-src 'none'" in page
    assert "@import" not in page
    assert set(re.findall(r"url\((.)", page)) == {"#"}


@pytest.mark.parametrize(
    ("part", "empty", "section"),
    [
        ("duel", None, "queries"), ("tests", (), "differences"), ("curve", None, "curve"),
        ("importances", (), "features"), ("calibration", None, "calibration"), ("latency", (), "latency"),
        ("models", (), "models"), ("origin", None, "origin"),
    ],
)  # fmt: skip
def test_a_part_that_is_absent_leaves_no_heading_and_no_link(part, empty, section):
    page = render_page(replace(sample(), **{part: empty}))
    assert headings(page) == [key for key in SECTIONS if key != section]
    assert f'href="#{section}"' not in page
    Strict(page)


def test_findings_of_a_title_alone_are_a_page_and_draw_nothing():
    page = render_page(Findings(title="Nothing yet", measure="nDCG@10"))
    parsed = Strict(page)
    assert headings(page) == []
    assert "Nothing yet" in parsed.text
    assert not {"svg", "nav", "aside", "table"} & set(parsed.tags)


def test_without_groups_there_is_no_section_of_slices():
    evaluation = sample().evaluation
    assert evaluation is not None
    page = render_page(replace(sample(), evaluation=replace(evaluation, groups={})))
    assert "slices" not in headings(page)


def test_text_of_data_is_harmless_wherever_it_stands():
    evil = "\"><script>alert(1)</script><img src=x onerror='alert(2)'> $title ${css} &amp; --> </style>"
    found = sample()
    bad = Findings(
        title=evil,
        measure="nDCG@10",
        dataset=Dataset(catalogue=evil, products=1, queries=1, judgments=1, grades={0: 1}),
        split=SplitFacts(kind=evil, parts={evil: 1}, seed=0),
        tests=(PairedTest(Difference(evil, evil, "nDCG@10", 0.1, 0.0, 0.2, 0.01, 1, 0), 0.02),),
        curve=LearningCurve((CurvePoint(evil, 1, 1, 0.5, 0.4, 0.6),), {evil: 0.4}),
        importances=(Importance(evil, 1.0, evil),),
        calibration=Calibration(
            evil, found.calibration.reliability, {evil: measure_refusals([True], [True])}
        ),
        latency=(StageTime(evil, 1.0, 2.0),),
        models=(
            ModelFacts(name=evil, kind=evil, loss=evil, settings={evil: evil}, rounds=None, seconds=1.0),
        ),
        warnings=(evil,),
        origin=Origin(command=evil, commit=evil, time=datetime(2026, 1, 1, tzinfo=UTC), machine=evil, seed=0),
    )
    page = render_page(bad)
    parsed = Strict(page)
    assert not {"script", "img"} & set(parsed.tags)
    assert evil in parsed.text


def test_a_query_that_is_a_script_is_shown_as_text():
    page = sample_page()
    assert "<script" not in page
    assert "&lt;script&gt;alert(&#x27;sku&#x27;)&lt;/script&gt;" in page
    assert "картридж hp 304 чёрный" in page


def test_text_that_no_file_can_hold_does_not_stop_a_page(tmp_path: Path):
    write_page(Findings(title="half a letter \ud83d", measure="nDCG@10"), tmp_path / "page.html")
    assert "half a letter ?" in (tmp_path / "page.html").read_text("utf-8")


def test_the_same_findings_give_the_same_page():
    assert render_page(sample()) == sample_page()


def test_the_verdict_is_of_the_system_in_question_in_the_measure_that_decides():
    difference = Difference("trees", "hybrid", "nDCG@10", 0.0312, 0.0104, 0.0519, 0.0004, 60, 31)
    other = replace(difference, system="linear")
    judged = replace(difference, measure="Judged@10")
    tests = tuple(PairedTest(d, 0.0008) for d in (difference, other, judged))
    findings = Findings(title="t", measure="nDCG@10", tests=tests)
    text = Strict(render_page(findings)).text
    verdict = (
        "trees against hybrid: a gain. nDCG@10 +0.031 (95% interval +0.010 to +0.052), adjusted p < 0.001; "
        "queries won 60, lost 31."
    )
    assert verdict in text
    assert "linear against hybrid: a gain" in text
    values = PerQuery(("q",), ("nDCG@10",), np.array([[0.5]]))
    of_trees = replace(findings, duel=Duel("trees", "hybrid", Comparison(values, values, (), "nDCG@10", ())))
    text = Strict(render_page(of_trees)).text
    assert verdict in text
    assert "linear against hybrid" not in text


@pytest.mark.parametrize(
    ("difference", "adjusted", "outcome"),
    [(0.03, 0.049, "a gain"), (-0.03, 0.049, "a loss"), (0.03, 0.05, "no clear difference")],
)
def test_only_an_adjusted_p_below_the_level_makes_a_gain_or_a_loss(difference, adjusted, outcome):
    test = PairedTest(Difference("s", "b", "AP", difference, -0.1, 0.1, 0.001, 1, 1), adjusted)
    assert f"s against b: {outcome}." in render_page(Findings(title="t", measure="AP", tests=(test,)))


def test_the_best_row_is_that_of_the_measure_that_decides():
    found = sample()
    means = {name: values.mean()["nDCG@10"] for name, values in found.evaluation.systems.items()}
    best = re.findall(r'<tr class="best"><th scope="row" class="prose">([^<]+)', sample_page())
    assert best == [max(means, key=means.get)]


def test_a_measure_that_was_not_evaluated_is_an_error():
    with pytest.raises(SettingError, match=r"'AP' was not evaluated: there are nDCG@10, R@100"):
        replace(sample(), measure="AP")
    with pytest.raises(SettingError, match=r"compared in nDCG@10, not in RR@10"):
        replace(sample(), measure="RR@10")


def test_findings_as_plain_data():
    plain = json.loads(json.dumps(sample().to_json(), allow_nan=False))
    assert plain["dataset"]["grades"] == {"0": 2210, "1": 704, "2": 612, "3": 492}
    assert plain["evaluation"]["systems"]["hybrid"].keys() == set(MEASURES)
    assert len(plain["evaluation"]["per_query"]["hybrid"]["nDCG@10"]) == 135
    assert plain["tests"][0]["system"] == "LambdaMART"
    assert plain["tests"][0]["adjusted"] >= plain["tests"][0]["p"]
    assert (plain["duel"]["of"], plain["duel"]["against"]) == ("LambdaMART", "hybrid")
    assert len(plain["duel"]["won"]) == len(plain["duel"]["lost"]) == 15
    assert plain["curve"]["points"][0] == {
        "system": "LambdaMART", "queries": 7, "pairs": 210, "mean": pytest.approx(0.7 - 1.1 / 7),
        "low": pytest.approx(0.67 - 1.1 / 7), "high": pytest.approx(0.73 - 1.1 / 7),
    }  # fmt: skip
    assert plain["origin"]["time"] == "2026-01-31T14:05:00+00:00"


def test_absent_parts_as_plain_data():
    plain = json.loads(json.dumps(Findings(title="t", measure="AP").to_json()))
    assert {key for key, value in plain.items() if value} == {"title", "measure"}


def test_a_page_is_written_in_one_step(tmp_path: Path):
    path = tmp_path / "new" / "page.html"
    write_page(Findings(title="Заголовок", measure="AP"), path)
    assert "<h1>Заголовок</h1>" in path.read_text("utf-8")
    assert [file.name for file in path.parent.iterdir()] == ["page.html"]
    with pytest.raises(InputError, match="cannot be written"):
        write_page(Findings(title="t", measure="AP"), tmp_path)


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (number(0.12345), "0.123"), (number(-0.5), "−0.500"), (number(float("nan")), "–"),
        (number(-0.0001), "0.000"), (signed(0.0312), "+0.031"), (signed(-0.0312), "−0.031"),
        (signed(0.0001), "0.000"), (signed(-0.0001), "0.000"), (signed(0.0), "0.000"),
        (p_value(0.0001), "< 0.001"), (p_value(0.0314), "0.031"), (p_value(1.0), "1.000"),
        (percent(0.1234), "12.3%"), (percent(None), "–"),
    ],
)  # fmt: skip
def test_numbers_are_as_short_as_they_are_sure(shown, expected):
    assert shown == expected


def test_a_table_names_its_rows_and_aligns_its_numbers():
    assert table("C", ["Name", "Value"], [["a", ("1", "0 to 2")], ["<b>", "3"]], best=1) == (
        '<p class="caption">C</p><div class="scroll" tabindex="0" role="region" aria-label="C"><table>'
        '<thead><tr><th scope="col" class="prose">Name</th>'
        '<th scope="col" class="number">Value</th></tr></thead>'
        '<tbody><tr><th scope="row" class="prose">a</th>'
        '<td class="number">1<small>0 to 2</small></td></tr>'
        '<tr class="best"><th scope="row" class="prose">&lt;b&gt;</th><td class="number">3</td></tr></tbody>'
        "</table></div>"
    )


def test_the_example_of_the_documents_writes_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    document = (Path(__file__).parents[2] / "docs" / "experiment.md").read_text("utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", document, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(example, {})
    page = (tmp_path / "experiment.html").read_text("utf-8")
    assert headings(page) == ["latency"]
    assert "Only the time was measured." in page
