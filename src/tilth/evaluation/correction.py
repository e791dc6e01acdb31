"""p-values of many comparisons, made comparable with one level for all."""

import numpy as np
import numpy.typing as npt

from tilth.errors import InputError

PValues = npt.NDArray[np.float64]


def holm(p: npt.ArrayLike) -> PValues:
    """Adjust p-values so that the chance of any false finding stays below the level compared with.

    Holm, "A Simple Sequentially Rejective Multiple Test Procedure", Scandinavian Journal of Statistics 6,
    1979. The i-th smallest of C p-values is multiplied by C - i + 1, is at least the adjusted one before it,
    and at most 1. It holds however the comparisons depend on each other.

    Args:
        p: (C,) in [0, 1].

    Returns:
        (C,) in the order given, none below the raw p.

    Raises:
        InputError: a p-value is not in [0, 1], or the shape is another.
    """
    raw = _checked(p)
    order = np.argsort(raw, kind="stable")
    stepped = np.maximum.accumulate(raw[order] * np.arange(len(raw), 0, -1))
    return _in_order(stepped, order)


def benjamini_hochberg(p: npt.ArrayLike) -> PValues:
    """Adjust p-values so that the expected share of false findings among all findings stays below the level.

    Benjamini and Hochberg, "Controlling the False Discovery Rate", JRSS B 57, 1995. The i-th smallest of C
    p-values is multiplied by C / i and is at most the adjusted one after it. It holds for comparisons that
    are independent or positively dependent.

    Args:
        p: (C,) in [0, 1].

    Returns:
        (C,) in the order given, none below the raw p and none above `holm`'s.

    Raises:
        InputError: a p-value is not in [0, 1], or the shape is another.
    """
    raw = _checked(p)
    order = np.argsort(raw, kind="stable")
    scaled = raw[order] * (len(raw) / np.arange(1, len(raw) + 1))
    return _in_order(np.minimum.accumulate(scaled[::-1])[::-1], order)


def _checked(p: npt.ArrayLike) -> PValues:
    raw = np.asarray(p, np.float64)
    if raw.ndim != 1:
        raise InputError("p-values are one list of numbers", value=raw.shape)
    if not ((raw >= 0) & (raw <= 1)).all():
        raise InputError("a p-value is from 0 to 1", value=raw[~((raw >= 0) & (raw <= 1))][:5].tolist())
    return raw


def _in_order(adjusted: PValues, order: npt.NDArray[np.intp]) -> PValues:
    """Put adjusted values, which are sorted, back where their p-values stood."""
    back = np.empty(len(order))
    back[order] = np.minimum(adjusted, 1)
    return back
