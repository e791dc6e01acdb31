"""An experiment as one HTML page that needs nothing beside itself; `docs/experiment.md` says how to read it.

What comes from data reaches the page through `markup` or a chart, which escape it.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from string import Template
from typing import NamedTuple

from tilth.evaluation import plots
from tilth.evaluation.experiment import Change, Difference, Evaluation
from tilth.evaluation.findings import (
    MOST_CHANGED,
    Calibration,
    Duel,
    Findings,
    LearningCurve,
    ModelFacts,
    PairedTest,
    StageTime,
)  # fmt: skip
from tilth.evaluation.markup import (
    Cell,
    between,
    details,
    facts,
    figure,
    number,
    p_value,
    paragraph,
    percent,
    signed,
    table,
    text,
)  # fmt: skip
from tilth.evaluation.reliability import Bin, Refusals
from tilth.evaluation.slices import slice_means
from tilth.files import replacing

SURE = 0.05  # an adjusted p below it makes a difference a gain or a loss


class _Section(NamedTuple):
    key: str
    heading: str
    body: str


def write_page(findings: Findings, path: str | os.PathLike[str]) -> None:
    """Write the page of an experiment, in one step.

    Args:
        findings: what the experiment found.
        path: the HTML file; folders above it are made.

    Raises:
        InputError: the file cannot be written.
        MissingExtraError: there is something to draw, and matplotlib is not installed.
    """
    page = render_page(findings).encode("utf-8", "replace")
    with replacing(path) as file:
        file.write(page)


def render_page(findings: Findings) -> str:
    """Return the page of an experiment; the same findings give the same page.

    Args:
        findings: what the experiment found.

    Returns:
        The HTML; its charts are drawn with matplotlib (extra `report`).

    Raises:
        MissingExtraError: there is something to draw, and matplotlib is not installed.
    """
    folder = resources.files("tilth.evaluation")
    sections = [section for section in _sections(findings) if section.body]
    return Template(folder.joinpath("page.html").read_text("utf-8")).substitute(
        title=text(findings.title),
        css=folder.joinpath("page.css").read_text("utf-8"),
        summary=_verdicts(findings) + _warnings(findings.warnings),
        contents=_contents(sections),
        sections="\n".join(
            f'<section id="{key}"><h2>{heading}</h2>{body}</section>' for key, heading, body in sections
        ),
    )


def _sections(findings: Findings) -> Iterable[_Section]:
    evaluation, systems, measure = findings.evaluation, findings.systems, findings.measure
    yield _Section("data", "Data", _data(findings))
    yield _Section("results", "Results", _results(evaluation, measure) if evaluation else "")
    yield _Section("differences", "Differences", _differences(findings.tests, measure, systems))
    yield _Section("queries", "Won and lost", _duel(findings.duel) if findings.duel else "")
    yield _Section("slices", "Slices", _slices(evaluation, measure) if evaluation else "")
    yield _Section(
        "curve", "Learning curve", _curve(findings.curve, measure, systems) if findings.curve else ""
    )
    yield _Section("features", "Features", _features(findings))
    yield _Section(
        "calibration", "Calibration", _calibration(findings.calibration) if findings.calibration else ""
    )
    yield _Section("latency", "Latency", _latency(findings.latency))
    yield _Section("models", "Models", _models(findings.models))
    yield _Section("origin", "How it was made", _origin(findings))


# What stands above the sections


def _verdicts(findings: Findings) -> str:
    """Return a sentence for each test that decides: of the system in question, or of all if there is none."""
    of = findings.duel and findings.duel.system
    tests = [test for test in findings.tests if test.difference.measure == findings.measure]
    chosen = [test for test in tests if of in (None, test.difference.system)]
    return "".join(f'<p class="verdict">{text(_verdict(test))}</p>' for test in chosen)


def _verdict(test: PairedTest) -> str:
    d = test.difference
    return (
        f"{d.system} against {d.baseline}: {_outcome(test)}. {d.measure} {signed(d.difference)} "
        f"(95% interval {between(d.low, d.high, signed)}), adjusted p {p_value(test.adjusted)}; "
        f"queries won {d.won:,}, lost {d.lost:,}."
    )


def _outcome(test: PairedTest) -> str:
    if not test.adjusted < SURE:
        return "no clear difference"
    return "a gain" if test.difference.difference > 0 else "a loss"


def _warnings(sentences: Sequence[str]) -> str:
    if not sentences:
        return ""
    items = "".join(f"<li>{text(sentence)}</li>" for sentence in sentences)
    head = '<aside class="warnings" aria-label="Warnings"><strong>Read with care</strong>'
    return f"{head}<ul>{items}</ul></aside>"


def _contents(sections: Sequence[_Section]) -> str:
    if not sections:
        return ""
    links = "".join(f'<li><a href="#{key}">{heading}</a></li>' for key, heading, _ in sections)
    return f'<nav aria-label="Contents"><ul>{links}</ul></nav>'


# Sections


def _data(findings: Findings) -> str:
    named: dict[str, str] = {}
    if dataset := findings.dataset:
        grades = ", ".join(f"grade {grade}: {count:,}" for grade, count in sorted(dataset.grades.items()))
        named |= {
            "Catalogue": dataset.catalogue,
            "Products": f"{dataset.products:,}",
            "Queries": f"{dataset.queries:,}",
            "Judgments": f"{dataset.judgments:,} ({grades})" if grades else f"{dataset.judgments:,}",
        }
    if split := findings.split:
        parts = ", ".join(f"{part}: {queries:,}" for part, queries in split.parts.items())
        named |= {"Split": f"{split.kind}, by query, seed {split.seed}", "Queries in each part": parts}
    return facts(named)


def _results(evaluation: Evaluation, measure: str) -> str:
    means = {name: values.mean() for name, values in evaluation.systems.items()}
    measures = list(next(iter(means.values())))
    best = max(means, key=lambda name: means[name][measure])
    rows: list[list[Cell]] = []
    for name, of in means.items():
        bounds = evaluation.intervals[name].tolist()
        cells = [
            (number(of[m]), between(low, high, number))
            for m, (low, high) in zip(measures, bounds, strict=True)
        ]
        rows.append([name, *cells])
    note = f"Means and their 95% intervals. The measure that decides is {measure}; its best row stands out."
    best_row = list(means).index(best)
    return table(note, ["System", *measures], rows, best=best_row) + paragraph(_counts(evaluation), "quiet")


def _counts(evaluation: Evaluation) -> str:
    measured = len(next(iter(evaluation.systems.values())).query_ids)
    unanswered = [f"{name} had no hits for {n:,}." for name, n in evaluation.unanswered.items() if n]
    counts = (
        f"Queries measured: {measured:,}, of these {evaluation.without_relevant:,} without a relevant "
        f"product, which have 0 under any system; left out for want of judgments: {evaluation.unjudged:,}."
    )
    return " ".join([counts, *unanswered])


def _differences(tests: Sequence[PairedTest], measure: str, systems: Sequence[str]) -> str:
    deciding = [test for test in tests if test.difference.measure == measure]
    others = [test for test in tests if test.difference.measure != measure]
    html = ""
    if deciding:
        drawn = plots.differences_plot([test.difference for test in deciding], systems, key="differences")
        html += figure(drawn, "Right of 0 the system is better. An interval that holds 0 leaves it open.")
        html += _tests(f"Differences in {measure}", deciding)
    if others:
        html += details("Other measures", _tests("Differences in the other measures", others))
    return html


def _tests(caption: str, tests: Sequence[PairedTest]) -> str:
    head = ["System", "Against", "Measure", "Outcome", "Difference", "p", "Adjusted p", "Won", "Lost"]
    return table(caption, head, [_test(test.difference, test) for test in tests], texts=4)


def _test(d: Difference, test: PairedTest) -> list[Cell]:
    difference = (signed(d.difference), between(d.low, d.high, signed))
    counts = [f"{d.won:,}", f"{d.lost:,}"]
    p = [p_value(d.p), p_value(test.adjusted)]
    return [d.system, d.baseline, d.measure, _outcome(test), difference, *p, *counts]


def _duel(duel: Duel) -> str:
    found = duel.comparison
    differences = (found.system[found.measure] - found.baseline[found.measure]).tolist()
    note = f"{duel.system} minus {duel.baseline}, one bar a query."
    tables = "".join(
        _changes(f"{which} most by {duel.system}", changes, duel)
        for which, changes in (("Won", found.won(MOST_CHANGED)), ("Lost", found.lost(MOST_CHANGED)))
        if changes
    )
    drawn = plots.changes_plot(differences, found.measure, key="queries")
    return figure(drawn, note) + f'<div class="pair">{tables}</div>'


def _changes(caption: str, changes: Sequence[Change], duel: Duel) -> str:
    rows = [
        [c.text or c.query_id, signed(c.difference), number(c.baseline), number(c.system)] for c in changes
    ]
    return f"<div>{table(caption, ['Query', 'Difference', duel.baseline, duel.system], rows)}</div>"


def _slices(evaluation: Evaluation, measure: str) -> str:
    systems = list(evaluation.systems)
    means = [slice_means(values, evaluation.groups) for values in evaluation.systems.values()]
    measured = set(next(iter(evaluation.systems.values())).query_ids)
    names, values, rows = [], [], []
    for by, slices in means[0].items():
        for label in slices:
            names.append(f"{by}: {label}")
            values.append([of[by][label][measure] for of in means])
            queries = len(measured.intersection(evaluation.groups[by][label]))
            rows.append([names[-1], f"{queries:,}", *map(number, values[-1])])
    if not rows:
        return ""
    note = f"Mean {measure} in each slice. Differences between small slices are mostly chance."
    drawn = plots.slices_plot(names, values, measure, systems, key="slices")
    return figure(drawn, note) + table("The same as a table", ["Slice", "Queries", *systems], rows)


def _curve(curve: LearningCurve, measure: str, systems: Sequence[str]) -> str:
    points = sorted(curve.points, key=lambda point: (point.system, point.queries))
    if not points:
        return ""
    rows: list[list[Cell]] = [
        [p.system, f"{p.queries:,}", f"{p.pairs:,}", (number(p.mean), between(p.low, p.high, number))]
        for p in points
    ]
    points_table = table("Points", ["System", "Labelled queries", "Labelled pairs", measure], rows)
    drawn = plots.curve_plot(curve, measure, systems, key="curve")
    note = "Bands are 95% intervals. A curve that still rises at its end says that more labels would help."
    return figure(drawn, note) + details("All points", points_table)


def _features(findings: Findings) -> str:
    features = sorted(findings.importances, key=lambda feature: -feature.share)
    if not features:
        return ""
    rows = [[feature.name, feature.about, percent(feature.share)] for feature in features]
    note = "How much of what the model gained in training came from splits on a feature; not what it causes."
    drawn = plots.importance_plot(features, key="features")
    head = ["Feature", "What it is", "Share of the gain"]
    return figure(drawn, note) + details("All features", table("Features", head, rows, texts=2))


def _calibration(calibration: Calibration) -> str:
    found = calibration.reliability
    drawn = plots.reliability_plot(calibration, key="calibration")
    note = (
        f"On the dotted line, probabilities of {calibration.system} come true; below it they promise too "
        f"much. Brier score {number(found.brier)}, expected calibration error {number(found.ece)}: 0 is best."
    )
    bins = details("All bins", _bins(found.equal_width))
    return figure(drawn, note) + bins + (_refusals(calibration.refusals) if calibration.refusals else "")


def _bins(bins: Sequence[Bin]) -> str:
    rows = [[number(one.mean_probability), number(one.share_relevant), f"{one.count:,}"] for one in bins]
    head = ["Mean probability", "Share relevant", "Hits"]
    return table("Hits by predicted probability", head, rows, texts=0)


def _refusals(refusals: Mapping[str, Refusals]) -> str:
    rows = [
        [
            rule,
            f"{of.refused:,} of {of.queries:,}",
            *(percent(value) for value in (of.precision, of.recall, of.answerable_refused)),
        ]
        for rule, of in refusals.items()
    ]
    head = ["No answer if", "Refused", "Rightly", "Of queries without answer", "Of queries with an answer"]
    return table("Queries that are told there is no answer", head, rows)


def _latency(stages: Sequence[StageTime]) -> str:
    if not stages:
        return ""
    note = (
        "Half of the searches are faster than the median, one in a hundred slower than the 99th percentile."
    )
    return figure(plots.latency_plot(stages, key="latency"), note)


def _models(models: Sequence[ModelFacts]) -> str:
    if not models:
        return ""
    rows = [
        [
            model.name, model.kind, model.loss, _settings(model.settings),
            "–" if model.rounds is None else f"{model.rounds:,}", f"{model.seconds:,.1f}",
        ]
        for model in models
    ]  # fmt: skip
    head = ["Model", "Kind", "Loss", "Settings", "Rounds", "Training, s"]
    return table("How each model was trained", head, rows, texts=4)


def _settings(settings: Mapping[str, str | float]) -> str:
    return ", ".join(f"{name} {value}" for name, value in settings.items())


def _origin(findings: Findings) -> str:
    origin = findings.origin
    if origin is None:
        return ""
    named = {
        "Commit": origin.commit,
        "Time": f"{origin.time:%Y-%m-%d %H:%M %Z}".strip(),
        "Machine": origin.machine,
        "Seed": str(origin.seed),
    }
    return f"<p><code>{text(origin.command)}</code></p>" + facts(named)
