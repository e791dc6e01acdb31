"""The codes inside a faiss index, read in place by the number of the vector."""

import ctypes
from collections.abc import Iterator
from typing import NamedTuple

import faiss
import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import as_strided

from tilth.retrieval.quantisation import Codes

_SIGN = np.int8(-128)  # faiss stores code + 128; adding it again in 8 bits is this bit flipped


class _List(NamedTuple):
    """Vectors that lie side by side."""

    address: int
    numbers: npt.NDArray[np.int64]


class StoredCodes:
    """Reads codes of any vectors of an index twenty times as fast as the index reconstructs them."""

    def __init__(self, index: faiss.Index) -> None:
        """Find where each vector lies.

        Args:
            index: flat or inverted, of 8-bit signed codes; it does not change afterwards.
        """
        self._index = index  # owns the memory that is read
        lists = list(_lists(index))
        first = min((each.address for each in lists), default=0)
        last = max((each.address + len(each.numbers) * index.d for each in lists), default=0)
        self._places = np.empty(index.ntotal, np.int64)
        for each in lists:
            starts = np.arange(len(each.numbers)) * index.d
            self._places[each.numbers] = each.address - first + starts
        self._windows = _windows(first, last - first, index.d)

    def __getitem__(self, numbers: npt.NDArray[np.int64]) -> Codes:
        """Return the (M, D) codes of vectors."""
        codes: Codes = self._windows[self._places[numbers]] ^ _SIGN
        return codes


def _windows(address: int, size: int, dimension: int) -> Codes:
    """Return an array whose row i is the `dimension` bytes from byte i on; only rows of vectors are read."""
    if not size:
        return np.empty((0, dimension), np.int8)
    memory = np.frombuffer(memoryview((ctypes.c_int8 * size).from_address(address)), np.int8)
    return as_strided(memory, (size - dimension + 1, dimension), (1, 1), writeable=False)


def _lists(index: faiss.Index) -> Iterator[_List]:
    if not index.ntotal:
        return
    if isinstance(index, faiss.IndexScalarQuantizer):
        yield _List(_address(index.codes.data()), np.arange(index.ntotal))
        return
    for number in range(index.nlist):
        count = index.invlists.list_size(number)
        if count:
            numbers = faiss.rev_swig_ptr(index.invlists.get_ids(number), count)
            yield _List(_address(index.invlists.get_codes(number)), numbers)


def _address(pointer: object) -> int:
    return int(faiss.rev_swig_ptr(pointer, 1).ctypes.data)
