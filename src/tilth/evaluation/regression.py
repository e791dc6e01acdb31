"""How far predicted grades are from the true ones, as numbers, through scikit-learn."""

from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from tilth.evaluation.classification import check_pairs


@dataclass(frozen=True, slots=True)
class RegressionMeasures:
    """Errors of predicted against true grades; `docs/measures.md` has the definitions.

    `mape` is over the `above_zero` pairs with a true grade above 0, where it is defined: None if there is
    none. `r2` is None when all true grades are equal.
    """

    pairs: int
    above_zero: int
    mse: float
    rmse: float
    mae: float
    mape: float | None
    r2: float | None

    def to_json(self) -> dict[str, object]:
        """Return plain data for JSON."""
        return asdict(self)


def measure_regression(predicted: npt.ArrayLike, grades: npt.ArrayLike) -> RegressionMeasures:
    """Measure predicted against true grades.

    Args:
        predicted: (M,) numbers on the scale of the grades; they need not be whole.
        grades: (M,) the true grades, from 0.

    Returns:
        The measures.

    Raises:
        InputError: there is no pair, lengths differ, or a number is not finite.
    """
    from sklearn import metrics  # a second, which only measuring needs

    guesses, truth = np.asarray(predicted, np.float64), np.asarray(grades, np.float64)
    check_pairs(guesses, truth)
    above = truth > 0
    mape = metrics.mean_absolute_percentage_error(truth[above], guesses[above]) if above.any() else None
    return RegressionMeasures(
        pairs=len(truth),
        above_zero=int(above.sum()),
        mse=float(metrics.mean_squared_error(truth, guesses)),
        rmse=float(metrics.root_mean_squared_error(truth, guesses)),
        mae=float(metrics.mean_absolute_error(truth, guesses)),
        mape=None if mape is None else float(mape),
        r2=float(metrics.r2_score(truth, guesses)) if np.ptp(truth) > 0 else None,
    )
