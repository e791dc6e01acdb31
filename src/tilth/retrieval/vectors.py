"""Vectors as they are made: appended as codes, and looked up again by the hash of their text.

They are looked up in the index before (`VectorStore`) and among those that a build, or a part of one, encoded
and did not come to use (`VectorCache`).
"""

import os
import secrets
import struct
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, NamedTuple, Protocol, Self

import numpy as np
import numpy.typing as npt
import orjson

from tilth.files import sync_folder
from tilth.protocols import Vectors
from tilth.retrieval.quantisation import Codes, to_codes

Hashes = npt.NDArray[np.uint64]  # (N,)
Known = npt.NDArray[np.bool_]  # (N,)

_BATCH = 256  # texts encoded between two signs of progress
_HEADER = 128  # bytes reserved for the header, which is written last, when N is known

_CACHE_BLOCK = 8_192  # vectors that are made durable together
_CACHE_HEADER = struct.Struct("<8s16sII16s")  # magic, encoder, count, dimension, checksum
_CACHE_MAGIC = b"tilthvec"


def encode_texts(
    texts: Sequence[str],
    encode: Callable[[Sequence[str]], Vectors],
    dimension: int,
    progress: Callable[[float], None],
) -> Codes:
    """Make the codes of texts, a batch at a time.

    Args:
        texts: in the order of their lengths, which saves padding.
        encode: texts to (M, D) unit vectors.
        dimension: D.
        progress: is told the share that is done, 0 to 1.

    Returns:
        (N, D) codes.
    """
    codes = np.empty((len(texts), dimension), np.int8)
    for start in range(0, len(texts), _BATCH):
        codes[start : start + _BATCH] = to_codes(encode(texts[start : start + _BATCH]))
        progress(start / len(texts))
    return codes


def text_hashes(texts: Sequence[str]) -> Hashes:
    """Return 64 bits of BLAKE2b of each text; two of ten million differ with probability 1 - 3e-6."""
    digests = b"".join(blake2b(text.encode(), digest_size=8).digest() for text in texts)
    return np.frombuffer(digests, np.uint64)


class KnownVectors(Protocol):
    """Vectors that need not be made again."""

    def find(self, hashes: Hashes, /) -> tuple[Known, Codes]:
        """Return which texts are known, (M,), and the codes of those, in order."""


class _Lookup:
    """Places of hashes."""

    def __init__(self, hashes: Hashes) -> None:
        self._order = np.argsort(hashes, kind="stable")
        self._sorted = hashes[self._order]

    def find(self, hashes: Hashes) -> tuple[Known, npt.NDArray[np.int64]]:
        """Return which hashes are there, and the places of those."""
        if not len(self._sorted):
            return np.zeros(len(hashes), bool), np.empty(0, np.int64)
        places = np.minimum(np.searchsorted(self._sorted, hashes), len(self._sorted) - 1)
        known = self._sorted[places] == hashes
        return known, self._order[places[known]]


class VectorStore:
    """Vectors of a finished index, found by the hash of the text that they encode."""

    def __init__(self, hashes: Hashes, codes: Callable[[npt.NDArray[np.int64]], Codes]) -> None:
        """Prepare look-up.

        Args:
            hashes: (N,) of the texts of all passages.
            codes: returns the codes of passages, as `DenseIndex.codes` does.
        """
        self._lookup, self._codes = _Lookup(hashes), codes

    def find(self, hashes: Hashes) -> tuple[Known, Codes]:
        """Return which texts are known, (M,), and the codes of those, in order."""
        known, passages = self._lookup.find(hashes)
        return known, self._codes(passages)


class _Block(NamedTuple):
    hashes: Hashes
    codes: Codes  # memory-mapped


class VectorCache:
    """A folder of vectors that outlives the process that made them.

    Each writer appends to a file of its own, in blocks with a checksum, so any number of processes may fill
    one folder at the same time. Blocks of other encoders, and whatever follows a damaged block, are passed
    over. A cache finds what was in the folder when it was opened.
    """

    def __init__(self, folder: Path, identity: Mapping[str, object], dimension: int) -> None:
        """Open the folder, which is made if it is not there.

        Args:
            folder: of the cache.
            identity: facts that the vectors depend on, as JSON; equal facts give equal vectors.
            dimension: D of the vectors.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._dimension = folder, dimension
        facts = orjson.dumps(dict(identity), option=orjson.OPT_SORT_KEYS)
        self._encoder = blake2b(facts, digest_size=16).digest()
        self._blocks = [block for path in sorted(folder.glob("*.vectors")) for block in self._read(path)]
        hashes = [np.empty(0, np.uint64), *(block.hashes for block in self._blocks)]
        self._lookup = _Lookup(np.concatenate(hashes))
        self._starts = np.cumsum([0, *map(len, hashes[1:])])
        self._file: BinaryIO | None = None
        self._waiting: list[tuple[Hashes, Codes]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        """Return the number of vectors that were there when the cache was opened."""
        return int(self._starts[-1])

    def find(self, hashes: Hashes) -> tuple[Known, Codes]:
        """Return which texts are known, (M,), and the codes of those, in order."""
        known, places = self._lookup.find(hashes)
        codes = np.empty((len(places), self._dimension), np.int8)
        numbers = np.searchsorted(self._starts, places, side="right") - 1
        for number in np.unique(numbers):
            here = numbers == number
            codes[here] = self._blocks[number].codes[places[here] - self._starts[number]]
        return known, codes

    def add(self, hashes: Hashes, codes: Codes) -> None:
        """Append vectors; they are durable once 8,192 have come together, or the cache is closed.

        Args:
            hashes: (M,) of the texts.
            codes: (M, D).
        """
        self._waiting.append((hashes, codes))
        if sum(len(hashes) for hashes, _ in self._waiting) >= _CACHE_BLOCK:
            self._write()

    def close(self) -> None:
        """Make everything durable."""
        self._write()
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self) -> None:
        """Append a block and wait until it is on the disk."""
        if not self._waiting:
            return
        hashes = np.concatenate([hashes for hashes, _ in self._waiting])
        codes = np.concatenate([codes for _, codes in self._waiting])
        if self._file is None:
            self._file = (self._folder / f"{secrets.token_hex(8)}.vectors").open("xb")
            sync_folder(self._folder)
        payload = hashes.astype("<u8").tobytes() + codes.tobytes()
        self._file.write(self._header(len(hashes), payload) + payload)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._waiting = []

    def _header(self, count: int, payload: bytes | memoryview) -> bytes:
        facts = struct.pack("<16sII", self._encoder, count, self._dimension)
        checksum = blake2b(payload, digest_size=16, key=facts).digest()
        return _CACHE_HEADER.pack(_CACHE_MAGIC, self._encoder, count, self._dimension, checksum)

    def _read(self, path: Path) -> list[_Block]:
        """Return the sound blocks at the beginning of a file."""
        blocks: list[_Block] = []
        if not path.stat().st_size:
            return blocks
        data = np.memmap(path, np.uint8, "r")
        start = 0
        while start + _CACHE_HEADER.size <= len(data):
            header = data[start : start + _CACHE_HEADER.size].tobytes()
            count = _CACHE_HEADER.unpack(header)[2]
            start += _CACHE_HEADER.size
            middle = start + count * 8
            end = middle + count * self._dimension
            if end > len(data) or header != self._header(count, data[start:end].data):
                break
            hashes = np.frombuffer(data[start:middle].tobytes(), "<u8").astype(np.uint64)
            blocks.append(_Block(hashes, data[middle:end].view(np.int8).reshape(count, self._dimension)))
            start = end
        return blocks


class Wanted(NamedTuple):
    """Texts on their way to their codes: what is known is filled in, and `texts` remain to be encoded."""

    hashes: Hashes  # (M,) of all texts
    where: npt.NDArray[np.int64]  # (M,) the place of each among the distinct ones
    distinct: Hashes  # (N,)
    codes: Codes  # (N, D)
    missing: npt.NDArray[np.int64]  # places that are not filled in, by the length of their texts
    texts: list[str]  # of those places


class VectorWriter:
    """Appends the codes of texts to an .npy file; each distinct text of a call is encoded at most once."""

    def __init__(
        self,
        path: Path | None,
        dimension: int,
        known: Sequence[KnownVectors] = (),
        cache: VectorCache | None = None,
    ) -> None:
        """Open the file.

        Args:
            path: of the new .npy file, (N, D) int8; None writes none, which fills the cache alone.
            dimension: D.
            known: where vectors are looked for before they are made; the first that has one gives it.
            cache: keeps every vector that is made.
        """
        self._file = None if path is None else path.open("wb")
        if self._file is not None:
            self._file.write(b"\0" * _HEADER)
        self._dimension, self._known, self._cache = dimension, known, cache
        self._hashes: list[Hashes] = []
        self.encoded = self.reused = 0

    def want(self, texts: Sequence[str]) -> Wanted:
        """Look up texts; the more at a time, the more alike are the lengths of those to be encoded."""
        hashes = text_hashes(texts)
        distinct, first, where = np.unique(hashes, return_index=True, return_inverse=True)
        codes = np.empty((len(distinct), self._dimension), np.int8)
        missing = self._find(distinct, codes)
        missing = missing[np.argsort([len(texts[first[place]]) for place in missing], kind="stable")]
        return Wanted(hashes, where, distinct, codes, missing, [texts[first[place]] for place in missing])

    def write(self, wanted: Wanted, made: Codes) -> None:
        """Append the codes of all texts.

        Args:
            wanted: what `want` returned.
            made: the codes of its `texts`.
        """
        wanted.codes[wanted.missing] = made
        if self._cache is not None and len(made):
            self._cache.add(wanted.distinct[wanted.missing], made)
        if self._file is not None:
            self._file.write(wanted.codes[wanted.where].tobytes())
        self._hashes.append(wanted.hashes)
        self.encoded += len(made)
        self.reused += len(wanted.hashes) - len(made)

    def _find(self, hashes: Hashes, codes: Codes) -> npt.NDArray[np.int64]:
        """Fill in what is known and return the places of the rest."""
        missing = np.arange(len(hashes))
        for source in self._known:
            known, found = source.find(hashes[missing])
            codes[missing[known]] = found
            missing = missing[~known]
        return missing

    def close(self) -> Hashes:
        """Write the header and return the (N,) hashes of all texts."""
        hashes = np.concatenate(self._hashes) if self._hashes else np.empty(0, np.uint64)
        if self._file is None:
            return hashes
        shape = {"descr": "|i1", "fortran_order": False, "shape": (len(hashes), self._dimension)}
        self._file.seek(0)
        np.lib.format.write_array_header_1_0(self._file, shape)
        if self._file.tell() != _HEADER:
            raise AssertionError("the header of an .npy file is not as long as reserved")
        self._file.close()
        return hashes
