import re
import subprocess
import sys
from xml.etree.ElementTree import Element

import pytest
from defusedxml.ElementTree import fromstring
from hypothesis import given, settings
from hypothesis import strategies as st

from tilth.errors import MissingExtraError
from tilth.evaluation.experiment import Difference
from tilth.evaluation.findings import Calibration, CurvePoint, Importance, LearningCurve, StageTime
from tilth.evaluation.plots import (
    changes_plot,
    curve_plot,
    differences_plot,
    importance_plot,
    latency_plot,
    look,
    reliability_plot,
    slices_plot,
)
from tilth.evaluation.reliability import measure_reliability

matplotlib = pytest.importorskip("matplotlib", reason="the extra `report` is not installed")

SVG = "{http://www.w3.org/2000/svg}"
SYSTEMS = ("lexical", "hybrid", "trees", "линейная модель")
DIFFERENCES = [
    Difference(system, baseline, "nDCG@10", 0.03, 0.01, 0.05, 0.01, 60, 30)
    for system in SYSTEMS[2:]
    for baseline in SYSTEMS[:2]
]
CURVE = LearningCurve(
    tuple(CurvePoint("trees", n, 30 * n, 0.6 + n / 1000, 0.58, 0.72) for n in (80, 10, 40)),
    {"lexical": 0.6, "hybrid": 0.62},
)
PLOTS = {
    "differences": lambda key: differences_plot(DIFFERENCES, SYSTEMS, key=key),
    "changes": lambda key: changes_plot([0.2, -0.1, 0.0, 0.4], "nDCG@10", key=key),
    "curve": lambda key: curve_plot(CURVE, "nDCG@10", SYSTEMS, key=key),
    "importance": lambda key: importance_plot(
        [Importance("bm25", 0.4, ""), Importance("цена", 0.6, "")], key=key
    ),
    "reliability": lambda key: reliability_plot(
        Calibration("trees", measure_reliability([0.1, 0.2, 0.8], [False, False, True]), {}), key=key
    ),
    "latency": lambda key: latency_plot(
        [StageTime("lexical", 2.0, 8.125), StageTime("dense", 1, 3)], key=key
    ),
    "slices": lambda key: slices_plot(
        ["kind: type", "kind: code"], [[0.1, 0.2, 0.3, 0.4]] * 2, "RR@10", SYSTEMS, key=key
    ),
}
every_plot = pytest.mark.parametrize("draw", PLOTS.values(), ids=PLOTS)


def texts(svg: str) -> list[str]:
    return [element.text for element in fromstring(svg).iter(f"{SVG}text")]


def ids(root: Element) -> list[str]:
    return [element.attrib["id"] for element in root.iter() if "id" in element.attrib]


@every_plot
def test_a_chart_can_stand_inline_in_a_page(draw):
    svg = draw("one")
    root = fromstring(svg)
    assert root.tag == f"{SVG}svg"
    assert (root.attrib["role"], bool(root.attrib["aria-label"])) == ("img", True)
    assert not {"width", "height"} & root.attrib.keys()  # the page gives its size
    assert not list(root.iter(f"{SVG}style"))  # its rules would hold for the whole page
    assert not list(root.iter(f"{SVG}metadata"))
    assert re.findall(r"https?://[^\"]*", svg) == ["http://www.w3.org/2000/svg"]
    assert "font-family" not in svg
    assert "#010203" not in svg


@every_plot
def test_ids_are_unique_also_between_two_charts_and_references_hold(draw):
    one, two = fromstring(draw("one")), fromstring(draw("two"))
    assert len(set(ids(one) + ids(two))) == len(ids(one)) + len(ids(two))
    referred = set(re.findall(r'(?:url\(|href=")#([^")]+)', draw("one")))
    assert referred
    assert referred <= set(ids(one))


@every_plot
def test_the_same_numbers_give_the_same_chart(draw):
    assert draw("one") == draw("one")


@every_plot
def test_drawing_leaves_no_setting_behind(draw):
    names = ["svg.hashsalt", "svg.fonttype", "text.parse_math", "text.color", "font.size", "font.family"]
    before = [matplotlib.rcParams[name] for name in names]
    draw("one")
    assert [matplotlib.rcParams[name] for name in names] == before


def test_matplotlib_is_loaded_where_it_is_used_and_pyplot_never():
    code = """
import sys
from tilth.evaluation import page, plots
assert "matplotlib" not in sys.modules
plots.changes_plot([0.1], "AP", key="c")
assert "matplotlib" in sys.modules
assert "matplotlib.pyplot" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_text_stays_text_also_in_cyrillic():
    svg = PLOTS["differences"]("d")
    assert {"trees", "линейная модель", "against lexical", "against hybrid"} <= set(texts(svg))


def test_features_are_drawn_largest_first_with_their_percents():
    shown = texts(PLOTS["importance"]("i"))
    assert [name for name in shown if name in {"bm25", "цена"}] == ["цена", "bm25"]
    assert {"60.0", "40.0"} <= set(shown)


def test_won_lost_and_unchanged_queries_are_counted():
    shown = texts(PLOTS["changes"]("c"))
    assert {"2 won", "1 lost", "queries, most won first (1 unchanged)"} <= set(shown)


def test_many_queries_make_no_large_chart():
    many = [(n - 5000) / 10_000 for n in range(10_000)]
    svg = changes_plot(many, "AP", key="c")
    assert "5,000 lost" in svg
    assert len(svg) < 2_000_000


def test_times_have_three_figures_and_long_ones_are_whole():
    assert {"2", "8.12", "1", "3"} <= set(texts(PLOTS["latency"]("l")))
    assert {"99.9", "12,345"} <= set(texts(latency_plot([StageTime("rerank", 99.94, 12_345.4)], key="l")))


def test_a_level_line_stands_for_each_baseline_and_a_band_for_each_system():
    shown = texts(PLOTS["curve"]("c"))
    assert [name for name in shown if name in SYSTEMS] == ["lexical", "hybrid", "trees"]


def test_systems_differ_in_colour_marker_and_line_for_grey_print():
    looks = [look(system, "abcdefg") for system in "abcdefg"]
    assert len({of.colour for of in looks}) == len({of.marker for of in looks}) == 7
    assert len({(of.marker, of.line) for of in looks}) == 7
    assert look("unknown", "ab") == looks[2]


def test_long_names_are_wrapped_and_then_cut():
    name = "cross-encoder fine-tuned on the judgments of three people"
    shown = texts(importance_plot([Importance(name, 1.0, "")], key="i"))
    assert "cross-encoder fine-" in shown
    assert all(len(text) <= 36 for text in shown)


@given(st.text(max_size=40))
@settings(max_examples=15, deadline=None)
def test_any_name_makes_well_formed_svg(name):
    svg = latency_plot([StageTime(name, 1.0, 2.0)], key="l")
    assert fromstring(svg).tag == f"{SVG}svg"


@pytest.mark.parametrize(
    "name", ["<script>alert(1)</script>", "$\\frac{1}{$", "]]> -->", 'id="x" url(#y)', "日本語"]
)
def test_names_are_text_whatever_they_hold(name):
    svg = latency_plot([StageTime(name, 1.0, 2.0)], key="l")
    assert "".join(name.split()) in "".join("".join(texts(svg)).split())
    assert "<script" not in svg


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'tilth\[report\]'"):
        PLOTS["changes"]("c")
