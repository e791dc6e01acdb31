"""Whether probabilities mean what they say, and whether queries are rightly told that there is no answer."""

from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from tilth.errors import InputError, SettingError
from tilth.evaluation.classification import as_labels, check_pairs

BINS = 10
Places = npt.NDArray[np.intp]
Probabilities = npt.NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Bin:
    """Pairs with probabilities from `low` to `high`: how many, their mean, and the share that is relevant."""

    low: float
    high: float
    count: int
    mean_probability: float
    share_relevant: float


@dataclass(frozen=True, slots=True)
class Reliability:
    """The Brier score, the expected calibration error in two binnings, and the tables behind them.

    `equal_width` bins split [0, 1] evenly, `equal_mass` bins split the pairs; empty bins are left out. The
    tables are the points of a reliability diagram.
    """

    pairs: int
    relevant: int
    brier: float
    ece: float
    ece_equal_mass: float
    equal_width: tuple[Bin, ...]
    equal_mass: tuple[Bin, ...]

    def to_json(self) -> dict[str, object]:
        """Return plain data for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Refusals:
    """The decision that the shop has no answer, as a finding: is it right, and is it made where it should?

    `precision` is the share of the refused queries that have no answer, None if none was refused; `recall`
    the share of the queries without an answer that were refused, and `answerable_refused` that of the others:
    None where there are no such queries.
    """

    queries: int
    unanswerable: int
    refused: int
    precision: float | None
    recall: float | None
    answerable_refused: float | None

    def to_json(self) -> dict[str, object]:
        """Return plain data for JSON."""
        return asdict(self)


def measure_reliability(
    probabilities: Probabilities, relevant: npt.ArrayLike, *, bins: int = BINS
) -> Reliability:
    """Measure probabilities against what is relevant.

    Args:
        probabilities: (M,) from 0 to 1.
        relevant: (M,) booleans.
        bins: how many, from 1.

    Returns:
        The measures and tables.

    Raises:
        InputError: there is no pair, lengths differ, or a probability is not from 0 to 1.
        SettingError: `bins` is below 1.
    """
    from sklearn.metrics import brier_score_loss  # a second, which only measuring needs

    chances, truth = np.asarray(probabilities, np.float64), as_labels(relevant)
    check_pairs(chances, truth)
    if chances.min() < 0 or chances.max() > 1:
        raise InputError("a probability is from 0 to 1", value=[chances.min(), chances.max()])
    if bins < 1:
        raise SettingError(f"the number of bins must be from 1, not {bins}")
    width = reliability_table(chances, truth, equal_width_bins(chances, bins))
    mass = reliability_table(chances, truth, equal_mass_bins(chances, bins))
    return Reliability(
        pairs=len(chances),
        relevant=int(truth.sum()),
        brier=float(brier_score_loss(truth.astype(np.int64), chances, pos_label=1)),
        ece=expected_calibration_error(width),
        ece_equal_mass=expected_calibration_error(mass),
        equal_width=width,
        equal_mass=mass,
    )


def equal_width_bins(probabilities: Probabilities, bins: int) -> Places:
    """Return the bin of each probability, (M,) from 0: b is [b / bins, (b + 1) / bins), the last closed."""
    places: Places = np.searchsorted(np.arange(1, bins) / bins, probabilities, side="right")
    return places


def equal_mass_bins(probabilities: Probabilities, bins: int) -> Places:
    """Return the bin of each probability, (M,) from 0: as many pairs in each as ties allow.

    Equal probabilities share a bin, whatever the order of the pairs.
    """
    lower = np.searchsorted(np.sort(probabilities), probabilities, side="left")
    places: Places = lower * bins // len(probabilities)
    return places


def reliability_table(
    probabilities: Probabilities, relevant: npt.ArrayLike, places: Places
) -> tuple[Bin, ...]:
    """Gather pairs by bin.

    Args:
        probabilities: (M,) from 0 to 1.
        relevant: (M,) booleans.
        places: (M,) the bin of each pair.

    Returns:
        The bins that hold pairs, in ascending order; `low` and `high` are the extremes that occur.
    """
    truth = as_labels(relevant)
    held = [(probabilities[places == place], truth[places == place]) for place in np.unique(places)]
    return tuple(
        Bin(float(p.min()), float(p.max()), len(p), float(p.mean()), float(t.mean())) for p, t in held
    )


def expected_calibration_error(table: tuple[Bin, ...]) -> float:
    """Return the mean over pairs of |share relevant - mean probability| of their bin, from 0 to 1.

    Naeini, Cooper and Hauskrecht, "Obtaining Well Calibrated Probabilities Using Bayesian Binning", AAAI
    2015; Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks", ICML 2017.

    Args:
        table: bins of `reliability_table`.

    Returns:
        The error.
    """
    apart = sum(one.count * abs(one.share_relevant - one.mean_probability) for one in table)
    return apart / sum(one.count for one in table)


def measure_refusals(refused: npt.ArrayLike, answerable: npt.ArrayLike) -> Refusals:
    """Measure the decision 'no answer' against which queries have one.

    Args:
        refused: (Q,) booleans: the query was told that there is no answer.
        answerable: (Q,) booleans: there is one.

    Returns:
        The measures.

    Raises:
        InputError: there is no query, or lengths differ.
    """
    told, without = as_labels(refused), ~as_labels(answerable)
    check_pairs(told, without)
    return Refusals(
        queries=len(told),
        unanswerable=int(without.sum()),
        refused=int(told.sum()),
        precision=_share(without[told]),
        recall=_share(told[without]),
        answerable_refused=_share(told[~without]),
    )


def _share(values: npt.NDArray[np.bool_]) -> float | None:
    return float(values.mean()) if len(values) else None
