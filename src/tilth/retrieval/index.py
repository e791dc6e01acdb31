"""An opened index: one generation with its columns, both retrievers, the encoder and the fusion."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from tokenizers import Tokenizer

from tilth.errors import IndexFormatError, SettingError
from tilth.files import replacing
from tilth.protocols import Encoder, Retriever, Rows
from tilth.retrieval.columns import Columns
from tilth.retrieval.dense import DenseIndex, DenseRetriever, DenseSettings
from tilth.retrieval.encoder import letters_per_token, open_encoder
from tilth.retrieval.filters import Filters, allowed_rows
from tilth.retrieval.fusion import Fusion
from tilth.retrieval.generations import open_generation
from tilth.retrieval.lexical import LexicalIndex, LexicalRetriever, LexicalSettings
from tilth.retrieval.passages import PassageCutter, PassageSettings
from tilth.retrieval.spelling import Speller
from tilth.retrieval.tfidf import TfidfRetriever

_FUSION_FILE = "fusion.json"
LEAST_LETTERS = 2.0  # a token; below it the encoder does not know the words

# Of lexical and dense, in this order. A general encoder is the weaker of the two on product catalogues, and
# at half the weight it adds most (docs/log.md).
DEFAULT_FUSION = Fusion("rrf", (1.0, 0.5))


@dataclass(frozen=True, slots=True)
class Index:
    """Everything that answers queries, read-only and safe to share between threads."""

    folder: Path  # of the generation
    manifest: dict[str, Any]
    columns: Columns
    lexical: LexicalIndex
    dense: DenseIndex
    encoder: Encoder
    tokenizer: Tokenizer
    speller: Speller
    fusion: Fusion

    @classmethod
    def open(cls, path: Path, *, threads: int = 1) -> "Index":
        """Open the current generation of an index folder.

        Args:
            path: the index folder.
            threads: how many the encoding of one query may use.

        Returns:
            The index.

        Raises:
            IndexFormatError: no index is there, or it is damaged, foreign or of another version.
        """
        generation = open_generation(path)
        folder, manifest = generation.folder, generation.manifest
        vectors = np.load(folder / "vectors.npy", mmap_mode="r")
        rows = np.load(folder / "passage_rows.npy")
        lexical = LexicalIndex(folder / "lexical", LexicalSettings(**manifest["lexical"]))
        vocabulary = (folder / "vocabulary.txt").read_text("utf-8").split()
        return cls(
            folder,
            manifest,
            Columns(folder / "columns.arrow"),
            lexical,
            DenseIndex(folder / "dense.faiss", DenseSettings(**manifest["dense"]), vectors, rows),
            open_encoder(folder / "encoder", threads=threads),
            Tokenizer.from_file(str(folder / "encoder" / "tokenizer.json")),
            Speller(vocabulary, lexical.knows),
            read_fusion(path),
        )

    def __len__(self) -> int:
        return len(self.columns)

    def allowed_rows(self, filters: Filters | None) -> Rows | None:
        """Return the rows that filters allow, None for all.

        Args:
            filters: field name to condition.

        Returns:
            Rows, ascending.

        Raises:
            InputError: an unknown field or a value of the wrong type.
        """
        return allowed_rows(self.columns.table, filters)

    def retrievers(self) -> dict[str, Retriever]:
        """Return the single retrievers by name: lexical and dense."""
        ids = self.columns.ids
        return {
            "lexical": LexicalRetriever(self.lexical, ids, self.speller.correct),
            "dense": DenseRetriever(self.dense, self.encoder, ids),
        }

    def encodes(self, text: str) -> bool:
        """Tell whether the encoder knows the words of a text, rather than their single letters."""
        return letters_per_token(self.tokenizer, [text]) >= LEAST_LETTERS

    def cutter(self) -> PassageCutter:
        """Return what cuts a product into the passages that this index holds."""
        facts = self.manifest["passages"]
        names = ("passages", "max_tokens", "head_tokens")
        settings = PassageSettings(**{name: facts[name] for name in names})
        return PassageCutter(self.tokenizer, settings, facts["reserved"])

    def tfidf(self) -> TfidfRetriever:
        """Fit the classical baseline on the passages of this index; takes time and memory for all of them."""
        texts: list[str] = []
        rows: list[int] = []
        for row, cut in enumerate(self.cutter().cut(list(self.columns.products()))):
            texts += cut.passages
            rows += [row] * len(cut.passages)
        return TfidfRetriever(texts, np.array(rows, np.int64), self.columns.ids)


def read_fusion(path: Path) -> Fusion:
    """Return the fusion that was tuned for an index folder, or the default.

    Args:
        path: the index folder.

    Returns:
        The fusion of lexical and dense.

    Raises:
        IndexFormatError: the file is damaged.
    """
    file = path / _FUSION_FILE
    if not file.is_file():
        return DEFAULT_FUSION
    try:
        return Fusion.from_dict(orjson.loads(file.read_bytes()))
    except (orjson.JSONDecodeError, SettingError) as error:
        raise IndexFormatError(f"{file}: is damaged ({error}). Remove it or tune again") from error


def write_fusion(path: Path, fusion: Fusion) -> None:
    """Make a fusion the one that an index folder is searched with from its next opening on."""
    with replacing(path / _FUSION_FILE) as file:
        file.write(orjson.dumps(fusion.to_dict(), option=orjson.OPT_INDENT_2))
