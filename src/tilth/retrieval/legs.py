"""The dense lists of an index: each leg has an encoder of its own, and the vectors that it made."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from tilth.protocols import Encoder, Vectors
from tilth.query import Query
from tilth.retrieval.dense import DenseIndex, DenseSettings
from tilth.retrieval.encoder import OWN, TOKENIZER, letters_per_token, open_encoder
from tilth.retrieval.rows import ProductIds, RowHits, named
from tilth.retrieval.spelling import Reading
from tilth.run import Hit, Run

LEGS = ("dense", "own")  # a general encoder, which every index has, and the shop's own
VECTORS_FILE = "index.faiss"  # in the folder of a leg, beside that of its encoder
ENCODER_FOLDER = "encoder"
LEAST_LETTERS = 2.0  # a token; below it an encoder does not know the words
OWN_LEAST_LETTERS = 3.0  # the same of an own encoder, whose tokens are the catalogue's words (docs/log.md)


@dataclass(frozen=True, slots=True)
class Leg:
    """One encoder with the vectors of all passages; safe to share between threads."""

    encoder: Encoder
    tokenizer: Tokenizer
    index: DenseIndex
    own: bool  # whether the encoder was trained on the products of the shop

    @classmethod
    def open(
        cls, folder: Path, facts: Mapping[str, Any], rows: npt.NDArray[np.integer], *, threads: int = 1
    ) -> Self:
        """Open the folder of a leg.

        Args:
            folder: of the leg, in that of a generation.
            facts: what the manifest says of the leg.
            rows: (N,) the row of each passage's product, ascending; the same in all legs.
            threads: how many the encoding of one query may use.

        Returns:
            The leg.

        Raises:
            IndexFormatError: the folder holds no encoder, or one that this version does not know.
        """
        return cls(
            open_encoder(folder / ENCODER_FOLDER, threads=threads),
            Tokenizer.from_file(str(folder / ENCODER_FOLDER / TOKENIZER)),
            DenseIndex(folder / VECTORS_FILE, DenseSettings(**facts["index"]), rows),
            facts["encoder"]["name"] == OWN,
        )

    def knows(self, text: str) -> bool:
        """Tell whether the encoder knows the words of a text, rather than their single letters."""
        least = OWN_LEAST_LETTERS if self.own else LEAST_LETTERS
        return letters_per_token(self.tokenizer, [text], own=self.own) >= least


class RowSearch(Protocol):
    """What finds rows by a vector."""

    def search_rows(self, vector: Vectors, k: int, /) -> RowHits:
        """Return the best `k` rows and those that tie with the last, best first."""


class DenseRetriever:
    """A leg as a `Retriever`: alone, it finds what a search fuses of it."""

    def __init__(
        self, name: str, leg: Leg, index: RowSearch, ids: ProductIds, read: Callable[[str], Reading]
    ) -> None:
        """Wrap a leg.

        Args:
            name: of the leg.
            leg: encodes queries.
            index: the vectors of all products, those after the generation included.
            ids: names of rows.
            read: tells how a query is read.
        """
        self._name, self._leg, self._index, self._ids, self._read = name, leg, index, ids, read

    def search(self, queries: Iterable[Query], k: int) -> Run:
        """Return at most `k` hits a query, scored by cosine; none where a search would not ask the leg."""
        return Run(self._name, {q.query_id: self._hits(q.text, k) for q in queries})

    def _hits(self, text: str, k: int) -> tuple[Hit, ...]:
        corrected, typed = self._read(text)
        if not corrected.strip() or not self._leg.knows(corrected):
            return ()
        vector = self._leg.encoder.encode_queries([typed])[0]
        return named(self._index.search_rows(vector, k), self._ids, k) if vector.any() else ()
