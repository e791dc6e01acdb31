"""An opened index: one generation with its columns, both retrievers, the encoder and the fusion."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from tilth.errors import IndexFormatError
from tilth.files import replacing
from tilth.protocols import Encoder, Retriever, Rows
from tilth.retrieval.columns import Columns
from tilth.retrieval.dense import DenseIndex, DenseRetriever, DenseSettings
from tilth.retrieval.encoder import open_encoder
from tilth.retrieval.filters import Filters, allowed_rows
from tilth.retrieval.fusion import DEFAULT_FUSION, Fusion
from tilth.retrieval.generations import open_generation
from tilth.retrieval.lexical import LexicalIndex, LexicalRetriever, LexicalSettings
from tilth.retrieval.passages import PassageCutter, PassageSettings
from tilth.retrieval.tfidf import TfidfRetriever

_FUSION_FILE = "fusion.json"


@dataclass(frozen=True, slots=True)
class Index:
    """Everything that answers queries, read-only and safe to share between threads."""

    manifest: dict[str, Any]
    columns: Columns
    lexical: LexicalIndex
    dense: DenseIndex
    encoder: Encoder
    fusion: Fusion

    @classmethod
    def open(cls, path: Path, *, threads: int = 1) -> "Index":
        """Open the current generation of an index folder.

        Raises:
            IndexFormatError: no index is there, or it is damaged, foreign or of another version.
        """
        generation = open_generation(path)
        folder, manifest = generation.folder, generation.manifest
        vectors = np.load(folder / "vectors.npy", mmap_mode="r")
        rows = np.load(folder / "passage_rows.npy")
        return cls(
            manifest,
            Columns(folder / "columns.arrow"),
            LexicalIndex(folder / "lexical", LexicalSettings(**manifest["lexical"])),
            DenseIndex(folder / "dense.faiss", DenseSettings(**manifest["dense"]), vectors, rows),
            open_encoder(folder / "encoder", threads=threads),
            read_fusion(path),
        )

    def __len__(self) -> int:
        return len(self.columns)

    def allowed_rows(self, filters: Filters | None) -> Rows | None:
        """Return the rows that filters allow, None for all.

        Raises:
            InputError: an unknown field or a value of the wrong type.
        """
        return allowed_rows(self.columns.table, filters)

    def retrievers(self) -> dict[str, Retriever]:
        """Return the single retrievers by name: lexical and dense."""
        ids = self.columns.ids
        return {
            "lexical": LexicalRetriever(self.lexical, ids),
            "dense": DenseRetriever(self.dense, self.encoder, ids),
        }


def read_fusion(path: Path) -> Fusion:
    """Return the fusion that was tuned for an index folder, or the default.

    Raises:
        IndexFormatError: the file is damaged.
    """
    file = path / _FUSION_FILE
    if not file.is_file():
        return DEFAULT_FUSION
    try:
        return Fusion.from_dict(orjson.loads(file.read_bytes()))
    except (ValueError, KeyError, TypeError) as error:
        raise IndexFormatError(f"{file}: is damaged ({error}). Remove it or tune again") from error


def write_fusion(path: Path, fusion: Fusion) -> None:
    """Make a fusion the one that an index folder is searched with from its next opening on."""
    with replacing(path / _FUSION_FILE) as file:
        file.write(orjson.dumps(fusion.to_dict(), option=orjson.OPT_INDENT_2))
