"""The gate: whether the evidence about a candidate is good enough for it to replace what is in force.

The evidence is what a candidate showed on queries that it was not trained on. The rules, and what each of
them cannot see, are in `docs/releases.md`.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tilth.errors import InputError, SettingError
from tilth.evaluation.experiment import Difference

HELD_OUT = ("test", "folds")  # parts of a split: test queries, or all of them, each while it was left out
LEAST_JUDGED = 0.5  # of the first hits; below it a measure says little about what users see
MOST_UNEVENLY_JUDGED = 0.05  # between two systems; above it the difference may be one of judgments

Means = Mapping[str, Mapping[str, float]]  # system -> measure -> mean


@dataclass(frozen=True, slots=True)
class Slice:
    """How many of the measured queries stand in a slice, and the means of each system over them."""

    queries: int
    systems: Means


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds that the candidate was measured to add to a search: the median and the 99th percentile."""

    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What was measured of a candidate beside the systems that it is to replace.

    Raises:
        InputError: no query was measured, the candidate has no mean in the measure, or an interval or the
            latency is not in ascending order.
    """

    candidate: str  # one of the systems
    measure: str  # that decides, such as nDCG@10
    part: str  # of the split that the queries come from
    queries: int
    systems: Means
    differences: tuple[Difference, ...]
    slices: Mapping[str, Mapping[str, Slice]]  # by -> label
    latency: Latency

    def __post_init__(self) -> None:
        if self.queries < 1:
            raise _wrong("queries", self.queries, "no query was measured")
        if self.measure not in self.systems.get(self.candidate, {}):
            raise _wrong("systems", self.candidate, f"no {self.measure} of the candidate")
        for difference in self.differences:
            if not difference.low <= difference.high:
                raise _wrong("differences", [difference.low, difference.high], "no interval")
        if not 0 <= self.latency.p50_ms <= self.latency.p99_ms:
            raise _wrong("latency", asdict(self.latency), "p50_ms and p99_ms must ascend from 0")

    def to_json(self) -> dict[str, Any]:
        """Return plain data; `from_json` reads it back."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: object) -> "Evidence":
        """Make evidence from plain data.

        Args:
            data: an object with the fields of the class; `systems`, `differences` and `slices` are those of
                `evaluation_report`, whose other keys may stand beside them.

        Returns:
            The evidence.

        Raises:
            InputError: a key is missing, or a value is of the wrong type or out of its range.
        """
        content = _mapping(data, "evidence")
        latency = _mapping(content.get("latency"), "latency")
        return cls(
            candidate=_text(content, "candidate"),
            measure=_text(content, "measure"),
            part=_text(content, "part"),
            queries=_count(content, "queries"),
            systems=_means(content.get("systems")),
            differences=tuple(map(_difference, _list(content.get("differences"), "differences"))),
            slices=_slices(content.get("slices")),
            latency=Latency(_number(latency, "p50_ms"), _number(latency, "p99_ms")),
        )

    def difference_to(self, system: str) -> Difference | None:
        """Return the candidate's difference to a system in the measure that decides, if it was measured."""
        wanted = (self.candidate, system, self.measure)
        found = (d for d in self.differences if (d.system, d.baseline, d.measure) == wanted)
        return next(found, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What is asked of a candidate.

    Raises:
        SettingError: a limit is below its least value.
    """

    in_force: str = "hybrid"  # the system that it would replace
    most_fall: float = 0.02  # of the mean in a slice, in units of the measure
    least_queries: int = 10  # in a slice, for its mean to count
    budget_ms: float = 15.0  # p99 of what it adds to a search

    def __post_init__(self) -> None:
        limits = {"most_fall": self.most_fall, "budget_ms": self.budget_ms}
        for name, limit in limits.items():
            if not (math.isfinite(limit) and limit >= 0):
                raise SettingError(f"{name} must be a finite number from 0, not {limit}")
        if self.least_queries < 1:
            raise SettingError(f"least_queries must be from 1, not {self.least_queries}")


@dataclass(frozen=True, slots=True)
class Finding:
    """One rule, what it found, and the sentence that says so; a warning refuses nothing."""

    rule: str
    passed: bool
    value: float | None  # None: not measured
    limit: float | None  # None: the rule has none
    sentence: str
    warning: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a candidate may replace what is in force, by which findings.

    `clear`: the whole interval of the difference lies above 0; the gate does not ask for it.
    """

    in_force: str
    clear: bool
    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """Whether no rule refuses the candidate."""
        return not self.refusals

    @property
    def refusals(self) -> tuple[str, ...]:
        """The sentences of the rules that refuse it."""
        return tuple(f.sentence for f in self.findings if not f.passed and not f.warning)

    @property
    def warnings(self) -> tuple[str, ...]:
        """The sentences of what should be looked at."""
        return tuple(f.sentence for f in self.findings if not f.passed and f.warning)

    def to_json(self) -> dict[str, Any]:
        """Return plain data: the fields and properties of the class."""
        return {
            "passed": self.passed,
            "in_force": self.in_force,
            "clear": self.clear,
            "refusals": list(self.refusals),
            "warnings": list(self.warnings),
            "findings": [asdict(finding) for finding in self.findings],
        }


def decide(evidence: Evidence, rules: Rules) -> Decision:
    """Decide whether a candidate may replace what is in force.

    It may where its queries were held out; where the interval of the paired difference does not lie below 0;
    where no slice with enough queries falls by more than is allowed; and where it keeps its time. That few
    hits are judged, or more of one system than of the other, is a warning.

    Args:
        evidence: about the candidate and, among others, the system in force.
        rules: the limits.

    Returns:
        The decision, with a finding for each rule and each slice.
    """
    difference = evidence.difference_to(rules.in_force)
    findings = (
        _held_out(evidence),
        _difference_finding(evidence, difference, rules.in_force),
        *_slice_findings(evidence, rules),
        _latency_finding(evidence.latency, rules),
        *_judged_findings(evidence, rules.in_force),
    )
    return Decision(rules.in_force, difference is not None and difference.low > 0, findings)


def _held_out(evidence: Evidence) -> Finding:
    passed = evidence.part in HELD_OUT
    sentence = (
        f"Measured on {evidence.queries} queries that it was not trained on ({evidence.part})."
        if passed
        else f"It was measured on the part {evidence.part!r}, not on queries that were held out "
        f"({' or '.join(HELD_OUT)})."
    )
    return Finding("held out", passed, None, None, sentence)


def _difference_finding(evidence: Evidence, difference: Difference | None, in_force: str) -> Finding:
    if difference is None:
        sentence = (
            f"The evidence does not compare {evidence.candidate} with {in_force}, which is in force, in "
            f"{evidence.measure}: measure both on the same queries."
        )
        return Finding("difference", False, None, 0.0, sentence)
    change = (
        f"{difference.measure} changes by {difference.difference:+.3f} against {in_force} "
        f"(95% interval {difference.low:+.3f} to {difference.high:+.3f})"
    )
    if difference.high < 0:
        return Finding("difference", False, difference.difference, 0.0, f"{change}: clearly worse.")
    verdict = "clearly better" if difference.low > 0 else "no difference that these queries can tell from 0"
    return Finding("difference", True, difference.difference, 0.0, f"{change}: {verdict}.")


def _slice_findings(evidence: Evidence, rules: Rules) -> Iterator[Finding]:
    slices = [
        (f"{by} {label}", part)
        for by, labels in evidence.slices.items()
        for label, part in labels.items()
        if part.queries >= rules.least_queries
    ]
    if not slices:
        sentence = f"No slice has {rules.least_queries} queries, so none was looked at."
        yield Finding("slices", False, None, None, sentence, warning=True)
    for name, part in slices:
        yield _slice_finding(name, part, evidence, rules)


def _slice_finding(name: str, part: Slice, evidence: Evidence, rules: Rules) -> Finding:
    after = part.systems.get(evidence.candidate, {}).get(evidence.measure)
    before = part.systems.get(rules.in_force, {}).get(evidence.measure)
    where = f"{evidence.measure} of {part.queries} queries ({name})"
    if after is None or before is None:
        sentence = f"{where} was not measured of both {evidence.candidate} and {rules.in_force}."
        return Finding(f"slice {name}", False, None, -rules.most_fall, sentence)
    change = round(after - before, 9)  # 0.60 - 0.62 falls by 0.02, not by a little more
    passed = change >= -rules.most_fall
    sentence = f"{where} changes by {change:+.3f}" + (
        "." if passed else f": a fall of more than {rules.most_fall:g}."
    )
    return Finding(f"slice {name}", passed, change, -rules.most_fall, sentence)


def _latency_finding(latency: Latency, rules: Rules) -> Finding:
    passed = latency.p99_ms <= rules.budget_ms
    sentence = (
        f"It adds {latency.p99_ms:.1f} ms at p99 ({latency.p50_ms:.1f} ms at p50), "
        f"{'within' if passed else 'more than'} the budget of {rules.budget_ms:g} ms."
    )
    return Finding("latency", passed, latency.p99_ms, rules.budget_ms, sentence)


def _judged_findings(evidence: Evidence, in_force: str) -> Iterator[Finding]:
    """Warn where the measure may speak of missing judgments instead of relevance."""
    means = evidence.systems[evidence.candidate]
    name = next((measure for measure in means if measure.startswith("Judged")), None)
    if name is None:
        sentence = "Nobody measured how many of the hits are judged."
        yield Finding("judged", False, None, LEAST_JUDGED, sentence, warning=True)
        return
    share = means[name]
    sentence = f"{name} is {share:.2f}" + (
        "." if share >= LEAST_JUDGED else f": below {LEAST_JUDGED:g}, most hits count as irrelevant unseen."
    )
    yield Finding("judged", share >= LEAST_JUDGED, share, LEAST_JUDGED, sentence, warning=True)
    other = evidence.systems.get(in_force, {}).get(name)
    if other is not None:
        apart = round(abs(share - other), 9)
        even = apart <= MOST_UNEVENLY_JUDGED
        sentence = f"{name} is {other:.2f} under {in_force}" + (
            "." if even else ": judge the hits of both alike before believing the difference."
        )
        yield Finding("judged alike", even, apart, MOST_UNEVENLY_JUDGED, sentence, warning=True)


def _wrong(field: str, value: object, reason: str) -> InputError:
    return InputError(reason, field=field, value=value, remedy="Write the evidence as `evaluate` measured it")


def _mapping(value: object, field: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise _wrong(field, value, "is not an object")
    return value


def _list(value: object, field: str) -> list[Any] | tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise _wrong(field, value, "is not a list")
    return value


def _text(content: Mapping[str, Any], field: str) -> str:
    value = content.get(field)
    if not isinstance(value, str) or not value:
        raise _wrong(field, value, "is not a text")
    return value


def _number(content: Mapping[str, Any], field: str) -> float:
    value = content.get(field)
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise _wrong(field, value, "is not a finite number")
    return float(value)


def _count(content: Mapping[str, Any], field: str) -> int:
    value = content.get(field)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise _wrong(field, value, "is not a whole number from 0")
    return value


def _means(value: object) -> Means:
    systems = _mapping(value, "systems")
    return {
        system: {measure: _number(means, measure) for measure in _mapping(means, system)}
        for system, means in systems.items()
    }


def _difference(value: object) -> Difference:
    content = _mapping(value, "differences")
    return Difference(
        system=_text(content, "system"),
        baseline=_text(content, "baseline"),
        measure=_text(content, "measure"),
        difference=_number(content, "difference"),
        low=_number(content, "low"),
        high=_number(content, "high"),
        p=_number(content, "p"),
        won=_count(content, "won"),
        lost=_count(content, "lost"),
    )


def _slices(value: object) -> dict[str, dict[str, Slice]]:
    return {
        by: {label: _slice(content, label) for label, content in _mapping(slices, by).items()}
        for by, slices in _mapping(value, "slices").items()
    }


def _slice(value: object, label: str) -> Slice:
    content = _mapping(value, label)
    return Slice(_count(content, "queries"), _means(content.get("systems")))
