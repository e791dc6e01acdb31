"""The stored vectors: appended as they are made, and looked up again by the hash of their text."""

from collections.abc import Callable, Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tilth.protocols import Vectors

Halves = npt.NDArray[np.float16]  # (N, D)
Hashes = npt.NDArray[np.uint64]  # (N,)

_BATCH = 256  # texts encoded between two signs of progress
_HEADER = 128  # bytes reserved for the header, which is written last, when N is known


def text_hashes(texts: Sequence[str]) -> Hashes:
    """Return 64 bits of BLAKE2b of each text; two of five million differ with probability 1 - 1e-6."""
    digests = b"".join(blake2b(text.encode(), digest_size=8).digest() for text in texts)
    return np.frombuffer(digests, np.uint64)


class VectorStore:
    """Vectors of a finished index, found by the hash of the text that they encode."""

    def __init__(self, hashes: Hashes, vectors: Halves) -> None:
        """Prepare look-up.

        Args:
            hashes: (N,) of the texts.
            vectors: (N, D), in the same order; may be memory-mapped.
        """
        self._order = np.argsort(hashes, kind="stable")
        self._sorted, self._vectors = hashes[self._order], vectors

    def find(self, hashes: Hashes) -> tuple[npt.NDArray[np.bool_], Halves]:
        """Return which texts are known, (M,), and the vectors of those, in order."""
        if not len(self._sorted):
            return np.zeros(len(hashes), bool), np.empty((0, 0), np.float16)
        places = np.minimum(np.searchsorted(self._sorted, hashes), len(self._sorted) - 1)
        known = self._sorted[places] == hashes
        return known, np.asarray(self._vectors[self._order[places[known]]])


class VectorWriter:
    """Appends vectors to an .npy file; texts that were encoded before are not encoded again."""

    def __init__(
        self,
        path: Path,
        dimension: int,
        encode: Callable[[Sequence[str]], Vectors],
        known: VectorStore | None,
    ) -> None:
        """Open the file.

        Args:
            path: of the new .npy file, (N, D) float16.
            dimension: D.
            encode: texts to (M, D) unit vectors.
            known: vectors of an earlier index made with the same encoder.
        """
        self._file = path.open("wb")
        self._file.write(b"\0" * _HEADER)
        self._dimension, self._encode, self._known = dimension, encode, known
        self._hashes: list[Hashes] = []
        self.encoded = self.reused = 0

    def add(self, texts: Sequence[str], progress: Callable[[float], None]) -> None:
        """Append the vectors of texts, each distinct text encoded at most once.

        Args:
            texts: the more at a time, the less padding: they are encoded in the order of their lengths.
            progress: is told the share that is done, 0 to 1.
        """
        hashes = text_hashes(texts)
        distinct, first, where = np.unique(hashes, return_index=True, return_inverse=True)
        vectors = np.empty((len(distinct), self._dimension), np.float16)
        missing = np.ones(len(distinct), bool)
        if self._known is not None:
            known, found = self._known.find(distinct)
            vectors[known], missing = found if known.any() else vectors[known], ~known
        places = np.flatnonzero(missing)
        places = places[np.argsort([len(texts[first[place]]) for place in places], kind="stable")]
        for start in range(0, len(places), _BATCH):
            batch = places[start : start + _BATCH]
            vectors[batch] = self._encode([texts[first[place]] for place in batch])
            progress(start / len(places))
        self._file.write(vectors[where].tobytes())
        self._hashes.append(hashes)
        self.encoded += int(missing.sum())
        self.reused += len(texts) - int(missing.sum())

    def close(self) -> Hashes:
        """Write the header and return the (N,) hashes of all texts."""
        hashes = np.concatenate(self._hashes) if self._hashes else np.empty(0, np.uint64)
        shape = {"descr": "<f2", "fortran_order": False, "shape": (len(hashes), self._dimension)}
        self._file.seek(0)
        np.lib.format.write_array_header_1_0(self._file, shape)
        if self._file.tell() != _HEADER:
            raise AssertionError("the header of an .npy file is not as long as reserved")
        self._file.close()
        return hashes
