"""The encoder of a generation as that of the next one: compaction needs neither torch nor the model."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from tokenizers import Tokenizer

from tilth.protocols import Vectors
from tilth.retrieval.encoder import OWN, TOKENIZER, StaticEncoder, letters_per_token, open_encoder
from tilth.retrieval.passages import PassageCutter, PassageSettings


class KeptEncoder:
    """What an encoder folder holds, encoding passages as it serves; satisfies `BuildEncoder`."""

    def __init__(
        self, folder: Path, identity: Mapping[str, object], reserved: int, *, threads: int = 1
    ) -> None:
        """Open it.

        Args:
            folder: the encoder folder.
            identity: what the manifest says of the encoder.
            reserved: tokens of every passage that special tokens and the prefix take.
            threads: how many one call may use.

        Raises:
            IndexFormatError: the folder holds no encoder, or one that this version does not know.
        """
        self._reserved = reserved
        self._files = {file.name: file.read_bytes() for file in folder.iterdir()}  # the folder may go
        self.identity = dict(identity)
        self._encoder = open_encoder(folder, threads=threads)
        self._tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))

    @property
    def dimension(self) -> int:
        """D."""
        return self._encoder.dimension

    def encode_queries(self, texts: Sequence[str], /) -> Vectors:
        """Encode queries: (Q, D) float32 unit vectors."""
        return self._encoder.encode_queries(texts)

    def encode_passages(self, texts: Sequence[str], /) -> Vectors:
        """Encode passages: (N, D) float32 unit vectors."""
        return self._encoder.encode_passages(texts)

    def cutter(self, settings: PassageSettings) -> PassageCutter:
        """Return a cutter that counts tokens as this encoder does."""
        return PassageCutter(self._tokenizer, settings, self._reserved)

    def letters_per_token(self, texts: Sequence[str]) -> float:
        """Return how many letters a token of these texts has, by which `Leg.knows` decides."""
        return letters_per_token(self._tokenizer, texts, own=self.identity["name"] == OWN)

    def reserved(self) -> int:
        """Return the tokens that special tokens and the passage prefix take."""
        return self._reserved

    def portable(self) -> StaticEncoder | None:
        """Return what encodes the same in any process: a static encoder does."""
        return self._encoder if isinstance(self._encoder, StaticEncoder) else None

    def save(self, folder: Path) -> None:
        """Write the same folder again."""
        folder.mkdir()
        for name, content in self._files.items():
            (folder / name).write_bytes(content)
