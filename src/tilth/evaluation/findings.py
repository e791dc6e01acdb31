"""What an experiment found, as plain data: everything that its page shows, and nothing that it must work out.

Every part but the title and the measure may be absent; the page then has no section for it.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime

from tilth.errors import SettingError, shorten
from tilth.evaluation.experiment import Comparison, Difference, Evaluation
from tilth.evaluation.reliability import Refusals, Reliability
from tilth.evaluation.report import Plain, comparison_report, evaluation_report

MOST_CHANGED = 15  # queries listed on each side of a comparison


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """What was measured on; `grades` is the number of judgments of each grade."""

    catalogue: str
    products: int
    queries: int
    judgments: int
    grades: Mapping[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitFacts:
    """How queries were parted: the kind in words, such as "5 folds", and the queries in each part."""

    kind: str
    parts: Mapping[str, int]
    seed: int


@dataclass(frozen=True, slots=True)
class PairedTest:
    """A difference with its p, and that p after Holm's correction for all the tests of the experiment."""

    difference: Difference
    adjusted: float


@dataclass(frozen=True, slots=True)
class Duel:
    """The system that the experiment is about, query by query, against one baseline."""

    system: str
    baseline: str
    comparison: Comparison


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """The mean of a system trained on so many labelled queries and pairs, and its 95% interval."""

    system: str
    queries: int
    pairs: int
    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class LearningCurve:
    """Points in any order, and the mean of each baseline that learns nothing."""

    points: tuple[CurvePoint, ...]
    baselines: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Importance:
    """A feature, its share of the gain of all splits (0 to 1), and a line about it."""

    name: str
    share: float
    about: str


@dataclass(frozen=True, slots=True)
class Calibration:
    """How far a system's probabilities can be believed; refusals by the rule that makes them, in words."""

    system: str
    reliability: Reliability
    refusals: Mapping[str, Refusals]


@dataclass(frozen=True, slots=True)
class StageTime:
    """Milliseconds that one stage of a search takes: the median and the 99th percentile."""

    stage: str
    p50: float
    p99: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """How one model came to be; `rounds` is None where a model has no rounds."""

    name: str
    kind: str
    loss: str
    settings: Mapping[str, str | float]
    rounds: int | None
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What makes the experiment again: the command and the commit; and when and where it ran."""

    command: str
    commit: str
    time: datetime
    machine: str
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """An experiment: systems in the order of `evaluation`, judged by one measure, chosen before looking."""

    title: str
    measure: str
    dataset: Dataset | None = None
    split: SplitFacts | None = None
    evaluation: Evaluation | None = None
    tests: tuple[PairedTest, ...] = ()
    duel: Duel | None = None
    curve: LearningCurve | None = None
    importances: tuple[Importance, ...] = ()
    calibration: Calibration | None = None
    latency: tuple[StageTime, ...] = ()
    models: tuple[ModelFacts, ...] = ()
    warnings: tuple[str, ...] = ()
    origin: Origin | None = None

    def __post_init__(self) -> None:
        if self.evaluation is not None and self.measure not in self.measures:
            raise SettingError(
                f"the measure {shorten(self.measure)} was not evaluated: there are {', '.join(self.measures)}"
            )
        if self.duel is not None and self.duel.comparison.measure != self.measure:
            raise SettingError(
                f"queries are compared in {self.duel.comparison.measure}, not in {self.measure}: give "
                f"{self.measure} first to `compare`"
            )

    @property
    def systems(self) -> tuple[str, ...]:
        """The evaluated systems, in their order."""
        return () if self.evaluation is None else tuple(self.evaluation.systems)

    @property
    def measures(self) -> tuple[str, ...]:
        """The names of the evaluated measures, in their order."""
        return () if self.evaluation is None else next(iter(self.evaluation.systems.values())).measures

    def to_json(self) -> Plain:
        """Return the findings as plain data for JSON; a part that is absent is None or empty."""
        duel, origin = self.duel, self.origin
        return {
            "title": self.title,
            "measure": self.measure,
            "dataset": self.dataset and _dataset(self.dataset),
            "split": self.split and asdict(self.split),
            "evaluation": self.evaluation and evaluation_report(self.evaluation, per_query=True),
            "tests": [asdict(test.difference) | {"adjusted": test.adjusted} for test in self.tests],
            "duel": duel and _duel(duel),
            "curve": self.curve and asdict(self.curve),
            "importances": [asdict(feature) for feature in self.importances],
            "calibration": self.calibration and asdict(self.calibration),
            "latency": [asdict(stage) for stage in self.latency],
            "models": [asdict(model) for model in self.models],
            "warnings": list(self.warnings),
            "origin": origin and asdict(origin) | {"time": origin.time.isoformat()},
        }


def _dataset(dataset: Dataset) -> Plain:
    return asdict(dataset) | {"grades": {str(grade): count for grade, count in dataset.grades.items()}}


def _duel(duel: Duel) -> Plain:
    names: Plain = {"of": duel.system, "against": duel.baseline}
    return names | comparison_report(duel.comparison, most=MOST_CHANGED)
