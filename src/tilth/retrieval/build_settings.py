"""What a build is told: the encoder, the settings, the resources, and whom to tell of the progress."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tilth.cores import usable_cores
from tilth.protocols import Encoder
from tilth.retrieval.lexical import LexicalSettings
from tilth.retrieval.passages import PassageCutter, PassageSettings
from tilth.retrieval.preparation import PortableEncoder

_LEAST_MEMORY = 128_000_000  # bytes a thread


class BuildEncoder(Encoder, Protocol):
    """An encoder that can be stored with the index that it made."""

    @property
    def identity(self) -> dict[str, object]:
        """What the vectors depend on; equal identities give equal vectors for equal texts."""

    def cutter(self, settings: PassageSettings) -> PassageCutter:
        """Return a cutter that counts tokens as this encoder does."""

    def letters_per_token(self, texts: Sequence[str]) -> float:
        """Return how many letters a token of these texts has, by which `Leg.knows` decides."""

    def reserved(self) -> int:
        """Return the tokens of every passage that special tokens and the passage prefix take."""

    def portable(self) -> PortableEncoder | None:
        """Return what encodes the same in any process; None if nothing but this object does."""

    def save(self, folder: Path) -> None:
        """Write what `open_encoder` reads into a new folder."""


class Progress(Protocol):
    """Is told how far a stage has come."""

    def __call__(self, stage: str, done: int, total: int | None = None, /) -> None:
        """`done` of `total` items of a stage are done; None: the total is not known yet."""


@dataclass(frozen=True, slots=True)
class Resources:
    """What a build may use of the machine; nothing of the result depends on it."""

    threads: int = 1  # of the encoder, tantivy and faiss
    workers: int = 1  # processes that prepare products
    memory: int = 256_000_000  # bytes for the terms that tantivy holds before it writes a segment

    @classmethod
    def of_machine(cls) -> "Resources":
        """Use every core, and a sixteenth of the memory for terms."""
        cores = usable_cores()
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return cls(cores, cores, max(min(memory // 16, cores * 1_000_000_000), cores * _LEAST_MEMORY))


@dataclass(frozen=True, slots=True)
class BuildSettings:
    """What an index is made with; all but the resources stands in the manifest."""

    passages: PassageSettings = field(default_factory=PassageSettings)
    lexical: LexicalSettings = field(default_factory=LexicalSettings)
    recall: float = 0.95  # of the exact nearest passages, where the search is approximate
    seed: int = 0
    resources: Resources = field(default_factory=Resources)
