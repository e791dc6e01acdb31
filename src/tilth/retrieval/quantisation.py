"""Vectors in 8 bits by a fixed rule: nothing is trained, so every build gives equal codes for equal vectors.

A number becomes round(x / step), from -127 to 127, where 127 steps reach 8 / sqrt(D): eight times the typical
size of a number in a unit vector, and never more than 1. A query has a step of its own, its largest number
divided by 127. The dot product of two codes is a whole number that float32 holds exactly, so that a score is
the same whichever way it was computed, and equal passages tie.
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tilth.protocols import Vectors

Codes = npt.NDArray[np.int8]  # (N, D), numbers from -127 to 127

_LARGEST = 127
_REACH = 8.0  # times 1 / sqrt(D)


class CodedQuery(NamedTuple):
    """A query as whole numbers, and what a dot product with passage codes is multiplied by."""

    codes: Vectors  # (D,) float32, whole numbers from -127 to 127
    unit: np.float32


def code_step(dimension: int) -> float:
    """Return what one step of a passage's code is worth."""
    return min(1.0, _REACH / math.sqrt(dimension)) / _LARGEST


def to_codes(vectors: Vectors) -> Codes:
    """Return the codes of (N, D) unit vectors; numbers out of reach become the largest code."""
    steps = np.rint(vectors * np.float32(1 / code_step(vectors.shape[1])))
    codes: Codes = np.clip(steps, -_LARGEST, _LARGEST).astype(np.int8)
    return codes


def to_query(vector: Vectors) -> CodedQuery:
    """Return the code of one (D,) query vector."""
    codes, units = to_queries(vector[None, :])
    return CodedQuery(codes[0], units[0])


def to_queries(vectors: Vectors) -> tuple[Vectors, Vectors]:
    """Return the codes of (Q, D) query vectors, as float32, and the unit of each, (Q,)."""
    largest = np.abs(vectors).max(axis=1)
    largest[largest == 0] = 1  # a text without a known word: it scores 0 everywhere
    codes = np.rint(vectors * (_LARGEST / largest)[:, None]).astype(np.float32)
    units = largest * np.float32(code_step(vectors.shape[1]) / _LARGEST)
    return codes, units.astype(np.float32)
