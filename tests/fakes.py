"""Stand-ins that behave like the real parts, without their weight."""

import tempfile
from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path

import numpy as np
import orjson
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from tilth.protocols import Vectors
from tilth.retrieval.encoder import EncoderFacts, StaticEncoder
from tilth.retrieval.encoder_kept import KeptEncoder
from tilth.retrieval.passages import PassageCutter, PassageSettings

_SIZE = 4_096


def word_tokenizer() -> Tokenizer:
    """A tokenizer whose tokens are words, all of them the same one."""
    tokenizer = Tokenizer(models.WordLevel({"[WORD]": 0}, unk_token="[WORD]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


class WordEncoder:
    """A build encoder that adds up one random direction a word; it counts what it encodes."""

    dimension = 16

    def __init__(self, name: str = "words") -> None:
        self.name = name
        self.encoded: list[str] = []

    @property
    def identity(self) -> dict[str, object]:
        return {"name": self.name, "revision": "1", "form": "static", "dimension": 16}

    def encode_queries(self, texts: Sequence[str], /) -> Vectors:
        vectors = np.array([_sum(text) for text in texts], np.float32).reshape(-1, 16)
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)

    def encode_passages(self, texts: Sequence[str], /) -> Vectors:
        self.encoded += texts
        return self.encode_queries(texts)

    def cutter(self, settings: PassageSettings) -> PassageCutter:
        return PassageCutter(word_tokenizer(), settings, self.reserved())

    def letters_per_token(self, texts: Sequence[str]) -> float:
        return 4.0

    def reserved(self) -> int:
        return 0

    def portable(self) -> None:
        return None

    def save(self, folder: Path) -> None:
        facts = EncoderFacts(self.name, "1", "static", 16, 512)
        StaticEncoder(word_tokenizer(), np.ones((_SIZE, 16), np.float32), facts).save(folder)
        assert orjson.loads((folder / "encoder.json").read_bytes())["name"] == self.name


def _sum(text: str) -> np.ndarray:
    words = text.lower().split()
    return sum((_direction(word) for word in words), np.zeros(16))


def _direction(word: str, dimension: int = 16) -> np.ndarray:
    seed = int.from_bytes(blake2b(word.encode(), digest_size=4).digest())
    return np.random.default_rng(seed).standard_normal(dimension)


@lru_cache
def _encoder_folder(words: tuple[str, ...], name: str, dimension: int, lowercase: bool) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="tilth-tests-")) / "encoder"
    tokenizer = Tokenizer(
        models.WordLevel({word: number for number, word in enumerate(("[UNK]", *words))}, unk_token="[UNK]")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if lowercase:
        tokenizer.normalizer = normalizers.Lowercase()
    directions = [_direction(word, dimension) for word in words]
    table = np.array([np.zeros(dimension), *directions], np.float32)
    StaticEncoder(tokenizer, table, EncoderFacts(name, "1", "static", dimension, 512)).save(folder)
    return folder


def kept_encoder(words: Sequence[str]) -> KeptEncoder:
    """An encoder of a few words that serves exactly as it builds."""
    return _kept(_encoder_folder(tuple(words), "words", 16, lowercase=False))


def own_encoder(words: Sequence[str], name: str = "own") -> KeptEncoder:
    """Another one, for the second leg of an index: fewer dimensions, and no difference of case."""
    lower = dict.fromkeys(word.lower() for word in words)
    return _kept(_encoder_folder(tuple(lower), name, 8, lowercase=True))


def _kept(folder: Path) -> KeptEncoder:
    return KeptEncoder(folder, orjson.loads((folder / "encoder.json").read_bytes()), 0)
