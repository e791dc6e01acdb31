"""An opened generation with its columns and retrievers, and the fusion of their lists."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
from tokenizers import Tokenizer

from tilth.errors import IndexFormatError, SettingError
from tilth.files import replacing
from tilth.retrieval.columns import Columns
from tilth.retrieval.encoder import OWN
from tilth.retrieval.fusion import Fusion
from tilth.retrieval.generations import Generation, claim, open_generation
from tilth.retrieval.legs import LEGS, Leg
from tilth.retrieval.lexical import LexicalIndex, LexicalSettings
from tilth.retrieval.passages import PassageCutter, PassageSettings
from tilth.retrieval.spelling import Speller
from tilth.retrieval.term_rows import TermRows
from tilth.retrieval.vectors import Hashes
from tilth.store import Store

_FUSION_FILE = "fusion.json"
_STORE_FILE = "store.sqlite"

# By the number of lists: lexical, dense and, if there is one, own. A general encoder is weaker than the words
# on product catalogues, and at half the weight it adds most (docs/log.md).
_DEFAULT_FUSIONS = {2: Fusion("rrf", (1.0, 0.5)), 3: Fusion("rrf", (1.0, 0.5, 0.25))}
_OWN_FUSION = Fusion("minmax", (0.5, 0.5))  # cosines of an own encoder say more than their ranks


@dataclass(frozen=True, slots=True)
class Index:
    """One generation as it was built, read-only and safe to share between threads."""

    generation: Generation
    columns: Columns
    terms: TermRows
    mean_lengths: npt.NDArray[np.float64]  # (5,) of the fields of the terms
    lexical: LexicalIndex
    legs: Mapping[str, Leg]  # by name, in the order of `LEGS`
    speller: Speller
    steady: Hashes  # (rows,) of what a product is apart from its price, availability and popularity
    cutter: PassageCutter

    @classmethod
    def open(cls, path: Path, *, threads: int = 1) -> "Index":
        """Open the current generation of an index folder.

        Args:
            path: the index folder.
            threads: how many the encoding of one query may use.

        Returns:
            The generation.

        Raises:
            IndexFormatError: no index is there, or it is damaged, foreign or of another version.
        """
        generation = open_generation(path)
        folder, manifest = generation.folder, generation.manifest
        lexical = LexicalIndex(folder / "lexical", LexicalSettings(**manifest["lexical"]))
        vocabulary = (folder / "vocabulary.txt").read_text("utf-8").split()
        terms = TermRows.open(folder / "terms")
        rows = np.load(folder / "passage_rows.npy")
        legs = {
            name: Leg.open(folder / name, manifest["legs"][name], rows, threads=threads)
            for name in LEGS
            if name in manifest["legs"]
        }
        return cls(
            generation,
            Columns(folder / "columns"),
            terms,
            terms.mean_lengths(),
            lexical,
            legs,
            Speller(vocabulary, lexical.knows),
            np.load(folder / "steady_hashes.npy", mmap_mode="r"),
            _cutter(legs[LEGS[0]].tokenizer, manifest),
        )

    @property
    def default_fusion(self) -> Fusion:
        """How its lists are fused where nothing else was tuned."""
        return default_fusion(self.manifest)

    @property
    def folder(self) -> Path:
        """The folder of the generation."""
        return self.generation.folder

    @property
    def manifest(self) -> dict[str, Any]:
        """What the generation was made of."""
        return self.generation.manifest

    @property
    def sequence(self) -> int:
        """The last change of the store that the generation holds."""
        return int(self.manifest["store"]["sequence"])


def check_store(generation: Generation, store: Store) -> None:
    """Refuse a store that is not the one that a generation was built from, or was set back since.

    Args:
        generation: opened or not.
        store: an opened store.

    Raises:
        IndexFormatError: it is another, or an earlier state of it.
    """
    built_from = generation.manifest["store"]["id"]
    if store.store_id != built_from:
        raise IndexFormatError(
            f"{generation.folder}: was built from the store {built_from}, not from {store.store_id}. "
            "Name its own store, or build the index again"
        )
    reached, holds = store.last_sequence(), generation.manifest["store"]["sequence"]
    if holds > reached:
        raise IndexFormatError(
            f"{generation.folder}: holds changes up to {holds}, and its store only {reached}: an earlier "
            "state of it was restored. Build the index again"
        )


def passage_settings(manifest: Mapping[str, Any]) -> PassageSettings:
    """Return how the products of a generation were cut into passages."""
    names = ("passages", "max_tokens", "head_tokens")
    return PassageSettings(**{name: manifest["passages"][name] for name in names})


def _cutter(tokenizer: Tokenizer, manifest: Mapping[str, Any]) -> PassageCutter:
    """Return what cuts a product into the passages that the generation holds: its first encoder's cutter."""
    return PassageCutter(tokenizer, passage_settings(manifest), manifest["legs"][LEGS[0]]["reserved"])


def open_store(path: Path, url: str | None = None, *, create: bool = True) -> Store:
    """Open the store of an index folder.

    Args:
        path: the index folder.
        url: of the store; None: the SQLite file in the folder.
        create: make it if it is not there.

    Returns:
        The store.

    Raises:
        InputError: `path` is a file, or a folder that holds something else.
        StoreError: the store is not there, cannot be read, or is of another version.
    """
    if create:
        claim(path)
    return Store.open(url if url is not None else path / _STORE_FILE, create=create)


def default_fusion(manifest: Mapping[str, Any]) -> Fusion:
    """Return the fusion where none was tuned, by what the manifest of a generation says of its encoders."""
    encoders = [manifest["legs"][name]["encoder"]["name"] for name in LEGS if name in manifest["legs"]]
    return _OWN_FUSION if encoders == [OWN] else _DEFAULT_FUSIONS[1 + len(encoders)]


def read_fusion(path: Path, default: Fusion) -> Fusion:
    """Return the fusion that was tuned for an index folder.

    Args:
        path: the index folder.
        default: taken where none was tuned.

    Returns:
        The fusion; one that was tuned before an own encoder came or went has weights for other lists, see
        `fusion.fitted`.

    Raises:
        IndexFormatError: the file is damaged.
    """
    file = path / _FUSION_FILE
    if not file.is_file():
        return default
    try:
        return Fusion.from_dict(orjson.loads(file.read_bytes()))
    except (orjson.JSONDecodeError, SettingError) as error:
        raise IndexFormatError(f"{file}: is damaged ({error}). Remove it or tune again") from error


def write_fusion(path: Path, fusion: Fusion) -> None:
    """Make a fusion the one that an index folder is searched with from its next opening on."""
    with replacing(path / _FUSION_FILE) as file:
        file.write(orjson.dumps(fusion.to_dict(), option=orjson.OPT_INDENT_2))
