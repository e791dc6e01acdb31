"""Charts of an experiment as SVG: text stays text, nothing random, fit to stand inline in one page.

Colours are those of Okabe and Ito, "Color Universal Design", 2008. Since a page may be printed in grey,
systems also differ in marker and line, bars in hatching. Axes and text take the colour of the text around
them (`currentColor`), so that a chart is readable on a light and on a dark page.
"""

import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from textwrap import wrap
from typing import TYPE_CHECKING, NamedTuple
from xml.etree.ElementTree import Element, tostring

from defusedxml.ElementTree import fromstring

from tilth.errors import MissingExtraError
from tilth.evaluation.experiment import Difference
from tilth.evaluation.findings import Calibration, Importance, LearningCurve, StageTime

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BLUE, _VERMILLION, _GREEN = "#0072B2", "#D55E00", "#009E73"
_ORANGE, _PURPLE, _SKY = "#E69F00", "#CC79A7", "#56B4E9"
_INK = "#010203"  # becomes currentColor
_WIDTH = 5.0  # inches; text of 9 points is then readable on a telephone and not huge on a screen
_LONGEST_LABEL = 30  # letters
_ROW_LABEL = 20  # letters in each of two lines
_MOST_FEATURES = 20
_SETTINGS = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a query may hold dollar signs
    "font.size": 9,
    "font.family": ["DejaVu Sans"],
    "hatch.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.alpha": 0.18,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
} | dict.fromkeys(
    ["text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color", "grid.color"], _INK
)


class Look(NamedTuple):
    """How one system is drawn, in every chart of a page."""

    colour: str
    marker: str
    line: str


_LOOKS = (
    Look(_INK, "o", ":"), Look(_BLUE, "s", "--"), Look(_VERMILLION, "D", "-"), Look(_GREEN, "^", "-."),
    Look(_PURPLE, "v", "-"), Look(_ORANGE, "P", "--"), Look(_SKY, "X", "-."),
)  # fmt: skip


def look(system: str, systems: Sequence[str]) -> Look:
    """Return how a system is drawn; one that is not among `systems` looks like the last."""
    place = systems.index(system) if system in systems else len(systems)
    return _LOOKS[place % len(_LOOKS)]


def differences_plot(differences: Sequence[Difference], systems: Sequence[str], *, key: str) -> str:
    """Draw differences in one measure with their intervals, a row for each system.

    Args:
        differences: of systems to one or more baselines, in one measure.
        systems: all systems, in the order that gives them their looks.
        key: the prefix of the ids; every chart of a page has another.

    Returns:
        The SVG.
    """
    rows = list(dict.fromkeys(d.system for d in differences))
    baselines = list(dict.fromkeys(d.baseline for d in differences))
    with _figure(0.9 + 0.42 * len(rows), key, "Differences with 95% intervals") as drawing:
        axes = drawing.figure.subplots()
        for place, baseline in enumerate(baselines):
            of = [d for d in differences if d.baseline == baseline]
            heights = [rows.index(d.system) + _dodge(place, len(baselines)) for d in of]
            _intervals(axes, of, heights, look(baseline, systems))
        axes.axvline(0, color=_INK, linewidth=1)
        _name_rows(axes, rows)
        axes.set_xlabel(f"difference in {differences[0].measure}")
        _legend(drawing.figure)
    return drawing.svg


def _intervals(axes: "Axes", differences: Sequence[Difference], heights: Sequence[float], how: Look) -> None:
    means = [d.difference for d in differences]
    around = [[d.difference - d.low for d in differences], [d.high - d.difference for d in differences]]
    axes.errorbar(
        means, heights, xerr=around, fmt=how.marker, color=how.colour, markersize=5, elinewidth=1.4,
        capsize=2.5, label=f"against {_label(differences[0].baseline)}",
    )  # fmt: skip


def changes_plot(differences: Sequence[float], measure: str, *, key: str) -> str:
    """Draw the difference of every query as a bar, the most won first.

    Args:
        differences: one for each query, in any order.
        measure: in which they differ.
        key: the prefix of the ids.

    Returns:
        The SVG.
    """
    ordered = sorted(differences, reverse=True)
    won, lost = sum(d > 0 for d in ordered), sum(d < 0 for d in ordered)
    edges = [place - 0.5 for place in range(1, len(ordered) + 2)]
    with _figure(2.6, key, f"Difference in {measure} of every query, sorted") as drawing:
        axes = drawing.figure.subplots()
        gains, losses = [max(d, 0) for d in ordered], [min(d, 0) for d in ordered]
        axes.stairs(gains, edges, fill=True, color=_BLUE, label=f"{won:,} won")
        axes.stairs(
            losses, edges, fill=True, facecolor=_VERMILLION, edgecolor=_INK, hatch="////", linewidth=0,
            label=f"{lost:,} lost",
        )  # fmt: skip
        axes.axhline(0, color=_INK, linewidth=0.8)
        axes.set_xlabel(f"queries, most won first ({len(ordered) - won - lost:,} unchanged)")
        axes.set_ylabel(f"difference in {measure}")
        axes.set_xlim(edges[0], edges[-1])
        axes.grid(axis="y")
        _legend(drawing.figure)
    return drawing.svg


def curve_plot(curve: LearningCurve, measure: str, systems: Sequence[str], *, key: str) -> str:
    """Draw means over labelled queries with bands of their intervals; baselines are level lines.

    Args:
        curve: its points, and the baselines.
        measure: of the means.
        systems: all systems, in the order that gives them their looks.
        key: the prefix of the ids.

    Returns:
        The SVG.
    """
    with _figure(3.2, key, f"{measure} by number of labelled queries") as drawing:
        axes = drawing.figure.subplots()
        for name, mean in curve.baselines.items():
            how = look(name, systems)
            axes.axhline(mean, color=how.colour, linestyle=how.line, linewidth=1.2, label=_label(name))
        for name in dict.fromkeys(point.system for point in curve.points):
            _band(axes, curve, name, look(name, systems))
        axes.set_xlabel("labelled queries")
        axes.set_ylabel(measure)
        axes.grid(axis="y")
        _legend(drawing.figure)
    return drawing.svg


def _band(axes: "Axes", curve: LearningCurve, system: str, how: Look) -> None:
    points = sorted((p for p in curve.points if p.system == system), key=lambda point: point.queries)
    queries = [point.queries for point in points]
    lows, highs = [point.low for point in points], [point.high for point in points]
    axes.fill_between(queries, lows, highs, color=how.colour, alpha=0.15, linewidth=0)
    axes.plot(
        queries, [point.mean for point in points], color=how.colour, marker=how.marker, linestyle=how.line,
        markersize=5, label=_label(system),
    )  # fmt: skip


def importance_plot(features: Sequence[Importance], *, key: str) -> str:
    """Draw the features with the largest shares of the gain, largest first, at most 20.

    Args:
        features: in any order.
        key: the prefix of the ids.

    Returns:
        The SVG.
    """
    shown = sorted(features, key=lambda feature: -feature.share)[:_MOST_FEATURES]
    with _figure(0.7 + 0.24 * len(shown), key, "Share of the gain by feature") as drawing:
        axes = drawing.figure.subplots()
        percents = [100 * feature.share for feature in shown]
        bars = axes.barh(range(len(shown)), percents, color=_BLUE, height=0.7)
        axes.bar_label(bars, [f"{percent:.1f}" for percent in percents], padding=3)
        _name_rows(axes, [feature.name for feature in shown])
        axes.set_xlabel("share of the gain, %")
        axes.margins(x=0.12)
    return drawing.svg


def reliability_plot(calibration: Calibration, *, key: str) -> str:
    """Draw the share of relevant hits over their mean probability, and the number of hits below it.

    Args:
        calibration: its bins of equal width.
        key: the prefix of the ids.

    Returns:
        The SVG.
    """
    bins = calibration.reliability.equal_width
    probabilities, shares = [one.mean_probability for one in bins], [one.share_relevant for one in bins]
    counts = [one.count for one in bins]
    with _figure(4.2, key, "Share of relevant hits by predicted probability") as drawing:
        upper, lower = drawing.figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        upper.plot([0, 1], [0, 1], color=_INK, linestyle=":", linewidth=1, label="as promised")
        name = _label(calibration.system)
        upper.plot(probabilities, shares, color=_BLUE, marker="o", markersize=5, label=name)
        upper.set(ylabel="share that is relevant", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        upper.grid()
        lower.bar(probabilities, counts, width=0.035, color=_SKY, edgecolor=_INK, linewidth=0.6)
        lower.set(xlabel="predicted probability", ylabel="hits")
        _legend(drawing.figure)
    return drawing.svg


def latency_plot(stages: Sequence[StageTime], *, key: str) -> str:
    """Draw the median and the 99th percentile of each stage.

    Args:
        stages: in the order of a search.
        key: the prefix of the ids.

    Returns:
        The SVG.
    """
    with _figure(0.9 + 0.46 * len(stages), key, "Time of each stage") as drawing:
        axes = drawing.figure.subplots()
        for name, shift, colour, hatch in (("p50", -0.19, _BLUE, ""), ("p99", 0.19, _ORANGE, "////")):
            times = [getattr(stage, name) for stage in stages]
            bars = axes.barh(
                [row + shift for row in range(len(stages))], times, height=0.36, color=colour, hatch=hatch,
                edgecolor=_INK, linewidth=0.5, label="median" if name == "p50" else "99th percentile",
            )  # fmt: skip
            axes.bar_label(bars, [_time(time) for time in times], padding=3, fontsize=8)
        _name_rows(axes, [stage.stage for stage in stages])
        axes.set_xlabel("milliseconds")
        axes.margins(x=0.1)
        _legend(drawing.figure)
    return drawing.svg


def _time(milliseconds: float) -> str:
    return f"{milliseconds:,.0f}" if milliseconds >= 100 else f"{milliseconds:.3g}"


def slices_plot(
    rows: Sequence[str], means: Sequence[Sequence[float]], measure: str, systems: Sequence[str], *, key: str
) -> str:
    """Draw the mean of every system in every slice as a dot.

    Args:
        rows: the names of the slices.
        means: for each slice the mean of each system, in the order of `systems`.
        measure: of the means.
        systems: their names.
        key: the prefix of the ids.

    Returns:
        The SVG.
    """
    with _figure(0.9 + (0.2 + 0.06 * len(systems)) * len(rows), key, f"{measure} by slice") as drawing:
        axes = drawing.figure.subplots()
        for place, system in enumerate(systems):
            how, values = look(system, systems), [of[place] for of in means]
            heights = [row + _dodge(place, len(systems)) for row in range(len(rows))]
            axes.plot(values, heights, how.marker, color=how.colour, markersize=5, label=_label(system))
        for edge in range(len(rows) - 1):
            axes.axhline(edge + 0.5, color=_INK, alpha=0.18, linewidth=0.8)
        _name_rows(axes, rows)
        axes.set_xlabel(measure)
        _legend(drawing.figure)
    return drawing.svg


def _dodge(place: int, of: int) -> float:
    """Return how far below the middle of its row the mark of one of several series stands."""
    return 0.6 * ((place + 0.5) / of - 0.5)


def _name_rows(axes: "Axes", names: Sequence[str]) -> None:
    """Name the rows 0, 1... from the top."""
    lines = [wrap(_label(name, 2 * _ROW_LABEL), _ROW_LABEL, max_lines=2, placeholder="…") for name in names]
    axes.set_yticks(range(len(names)), ["\n".join(of) for of in lines])
    axes.set_ylim(len(names) - 0.45, -0.55)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")


def _legend(figure: "Figure") -> None:
    figure.legend(loc="outside lower center", ncols=2)


def _label(text: str, most: int = _LONGEST_LABEL) -> str:
    """Return a text cut to what a chart has room for, without what XML cannot hold."""
    kept = "".join(letter if letter.isprintable() else " " for letter in text)
    return kept if len(kept) <= most else kept[: most - 1] + "…"


@dataclass(slots=True)
class _Drawing:
    """A figure to draw in, and its SVG once the drawing is done."""

    figure: "Figure"
    svg: str = ""


@contextmanager
def _figure(height: float, key: str, about: str) -> Iterator[_Drawing]:
    """Yield an empty figure of so many inches; afterwards its SVG is there."""
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("drawing charts", "report") from error
    with matplotlib.rc_context(_SETTINGS | {"svg.hashsalt": key}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # the reader's fonts have it
        drawing = _Drawing(Figure(figsize=(_WIDTH, height), layout="constrained"))
        yield drawing
        file = io.BytesIO()
        drawing.figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
        drawing.svg = _inline(file.getvalue(), key, about)


def _inline(svg: bytes, key: str, about: str) -> str:
    """Return an SVG that can stand beside others in a page: own ids, no fonts and no rules of its own."""
    source = fromstring(svg)
    root = Element(
        "svg",
        {
            "xmlns": "http://www.w3.org/2000/svg", "viewBox": source.attrib["viewBox"], "role": "img",
            "aria-label": about, "style": "stroke-linejoin: round; stroke-linecap: butt",
        },
    )  # fmt: skip
    root.extend(_own(child, key) for child in source if not child.tag.endswith("metadata"))
    return tostring(root, encoding="unicode")


def _own(element: Element, key: str) -> Element:
    """Return a copy without namespaces and style sheets, in which ids and references have a prefix."""
    copy = Element(_local(element.tag))
    copy.text = element.text and element.text.strip()
    for name, value in element.attrib.items():
        copy.set(_local(name), _own_value(_local(name), value, key))
    copy.extend(_own(child, key) for child in element if _local(child.tag) != "style")
    return copy


def _local(name: str) -> str:
    return name.rpartition("}")[2]


def _own_value(name: str, value: str, key: str) -> str:
    if name == "id":
        return f"{key}-{value}"
    if name == "href":
        return f"#{key}-{value.removeprefix('#')}"
    value = value.replace("url(#", f"url(#{key}-").replace(_INK, "currentColor")
    return re.sub(r"font-family:[^;]*;", "", value)
