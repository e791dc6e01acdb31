"""Encoders as they serve: loaded from an index folder, without torch or sentence-transformers.

An encoder folder holds `encoder.json` (what it is), `tokenizer.json`, and `model.onnx` or, for a static
encoder, `model.safetensors` with one vector a token.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
from safetensors.numpy import load_file, save
from scipy.sparse import csr_array
from tokenizers import Tokenizer

from tilth.errors import IndexFormatError
from tilth.protocols import Encoder, Vectors
from tilth.retrieval.onnx import open_graph

FACTS = "encoder.json"
TOKENIZER = "tokenizer.json"
ONNX_MODEL = "model.onnx"
STATIC_MODEL = "model.safetensors"
TRAINING = "training.json"  # how a static encoder was trained, if it was
EMBEDDINGS = "embeddings"  # the tensor of a static model, (tokens, D)
Tokens = npt.NDArray[np.int32]  # their numbers in a tokenizer
Ends = npt.NDArray[np.int64]
OWN = "own"  # the name of an encoder that was trained on the products of the shop
FORMS = ("float32", "int8", "static")
_BATCH = 32
_STATIC_BATCH = 4_096  # texts whose tokens are held at a time
_REMEMBERED = 300_000  # words whose tokens are kept
_IDEOGRAPH = re.compile("[\u2e80-\u2fdf\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_WHOLE = 3  # letters that a whole word counts for at least
_UNKNOWN = ("[UNK]", "<unk>")  # what tokenizers call a word that they have no tokens for


@dataclass(frozen=True, slots=True)
class EncoderFacts:
    """What vectors depend on: encoders with equal facts give equal vectors for equal texts."""

    name: str
    revision: str  # SHA-256 of the weights, modules and tokenizer that it was made from
    form: str  # one of FORMS: the first two are ONNX graphs
    dimension: int
    max_tokens: int
    query_prefix: str = ""
    passage_prefix: str = ""

    def to_json(self) -> dict[str, object]:
        """Return the facts as plain data."""
        return asdict(self)


def same_passage_vectors(one: Mapping[str, object], other: Mapping[str, object]) -> bool:
    """Tell from the facts of two encoders whether passages have equal vectors.

    An encoder that serves as int8 encodes queries so; its passages are encoded by the model itself, as those
    of float32. The prefix of queries does not matter either.
    """
    own = {"form", "query_prefix"}
    same = one.keys() == other.keys() and all(one[key] == other[key] for key in one.keys() - own)
    return same and (one["form"] == "static") == (other["form"] == "static")


def letters_per_token(tokenizer: Tokenizer, texts: Sequence[str], *, own: bool = False) -> float:
    """Return how many letters and digits a token of these texts has on average.

    A tokenizer that was trained on a language has four or so. One that was not falls back to single letters
    (about 1.1), and so it is with part numbers (1.7): vectors of such texts say next to nothing. An ideograph
    counts as three letters, and what is one unknown token, however long, has none.

    Args:
        tokenizer: of an encoder.
        texts: queries or titles.
        own: its tokens are the words of a catalogue: one that is a whole word, such as `30` or `cm`, counts
            as three letters at least.

    Returns:
        The mean; 0 without a token.
    """
    unknown = {tokenizer.token_to_id(name) for name in _UNKNOWN}
    tokens = letters = 0
    for text, encoding in zip(texts, tokenizer.encode_batch(texts, add_special_tokens=False), strict=True):
        tokens += len(encoding.ids)
        parts = Counter(encoding.word_ids)
        for token, word, (start, end) in zip(encoding.ids, encoding.word_ids, encoding.offsets, strict=True):
            least = _WHOLE if own and parts[word] == 1 else 0
            letters += max(_letters(text[start:end]), least) if token not in unknown else 0
    return letters / max(tokens, 1)


def _letters(text: str) -> int:
    return sum(map(str.isalnum, text)) + 2 * len(_IDEOGRAPH.findall(text))


def normalise(vectors: Vectors) -> Vectors:
    """Scale rows to length 1; a row of zeros, which a text without a known token has, stays."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: Vectors = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    return scaled


def bag_vectors(table: Vectors, tokens: Tokens, ends: Ends) -> Vectors:
    """Return the unit vectors of texts that are bags of tokens: a matrix of counts times the table.

    Args:
        table: (tokens, D).
        tokens: of all texts, side by side.
        ends: (N + 1,), from 0: the tokens of text n are `tokens[ends[n]:ends[n + 1]]`.

    Returns:
        (N, D); a text without a token, or with none that says anything, has zeros.
    """
    if len(ends) == 2:  # one query: the matrix would take longer than the sum
        return normalise(table[tokens].sum(axis=0, keepdims=True))
    shape = (len(ends) - 1, len(table))
    counts = csr_array((np.ones(len(tokens), np.float32), tokens, ends), shape)
    sums: Vectors = counts @ table
    return normalise(sums)


class OnnxEncoder:
    """A transformer exported to ONNX: pooling and all else that the model does is in the graph.

    An int8 graph scales its activations by the whole batch, so that a text's vector would depend on its
    neighbours; it is therefore run on one text at a time.
    """

    def __init__(self, folder: Path, facts: EncoderFacts, threads: int = 1) -> None:
        """Load it.

        Args:
            folder: the encoder folder.
            facts: what `encoder.json` says.
            threads: how many one call may use.
        """
        self.facts = facts
        self._batch = 1 if facts.form == "int8" else _BATCH
        self._tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
        self._tokenizer.enable_truncation(facts.max_tokens)
        self._session = open_graph(str(folder / ONNX_MODEL), threads)

    @property
    def dimension(self) -> int:
        """D."""
        return self.facts.dimension

    def encode_queries(self, texts: Sequence[str], /) -> Vectors:
        """Encode queries: (Q, D) float32 unit vectors."""
        return self._encode([self.facts.query_prefix + text for text in texts])

    def encode_passages(self, texts: Sequence[str], /) -> Vectors:
        """Encode passages: (N, D) float32 unit vectors."""
        return self._encode([self.facts.passage_prefix + text for text in texts])

    def _encode(self, texts: Sequence[str]) -> Vectors:
        vectors = np.empty((len(texts), self.dimension), np.float32)
        tokens = [encoding.ids for encoding in self._tokenizer.encode_batch_fast(texts)]
        by_length = sorted(range(len(texts)), key=lambda i: len(tokens[i]))
        for start in range(0, len(texts), self._batch):
            batch = by_length[start : start + self._batch]
            vectors[batch] = self._run([tokens[i] for i in batch])
        return normalise(vectors)

    def _run(self, tokens: Sequence[Sequence[int]]) -> Vectors:
        """Run the graph on token ids, padded to the longest; where the mask is 0, any id will do."""
        ids = np.zeros((len(tokens), max(1, *map(len, tokens))), np.int64)
        mask = np.zeros_like(ids)
        for row, one in enumerate(tokens):
            ids[row, : len(one)] = one
            mask[row, : len(one)] = 1
        pooled: Vectors = self._session.run(None, {"input_ids": ids, "attention_mask": mask})[0]
        return pooled


class StaticEncoder:
    """One vector a token, averaged: no network is run, a query costs microseconds."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        embeddings: Vectors,
        facts: EncoderFacts,
        training: Mapping[str, Any] | None = None,
    ) -> None:
        """Make one.

        Args:
            tokenizer: its special tokens are not used.
            embeddings: (tokens, D), weights of frequent tokens already in their lengths.
            facts: what it is.
            training: how it was trained, as JSON has it; None: it was not trained here.
        """
        self.facts, self.training = facts, training
        self._tokenizer = Tokenizer.from_str(tokenizer.to_str())
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(facts.max_tokens)
        self._embeddings = embeddings
        self._by_word = _divides_at_blanks(tokenizer)
        self._known: dict[str, list[int]] = {}  # the tokens of words

    @classmethod
    def open(cls, folder: Path, facts: EncoderFacts) -> "StaticEncoder":
        """Load it from an encoder folder."""
        embeddings = load_file(folder / STATIC_MODEL)[EMBEDDINGS].astype(np.float32)
        file = folder / TRAINING
        training = orjson.loads(file.read_bytes()) if file.is_file() else None
        return cls(Tokenizer.from_file(str(folder / TOKENIZER)), embeddings, facts, training)

    @property
    def dimension(self) -> int:
        """D."""
        return self.facts.dimension

    @property
    def tokenizer(self) -> Tokenizer:
        """Its tokenizer, not truncating."""
        tokenizer = Tokenizer.from_str(self._tokenizer.to_str())
        tokenizer.no_truncation()
        return tokenizer

    def encode_queries(self, texts: Sequence[str], /) -> Vectors:
        """Encode queries: (Q, D) float32 unit vectors."""
        return self._encode([self.facts.query_prefix + text for text in texts])

    def encode_passages(self, texts: Sequence[str], /) -> Vectors:
        """Encode passages: (N, D) float32 unit vectors."""
        return self._encode([self.facts.passage_prefix + text for text in texts])

    def shortened(self, dimension: int) -> "StaticEncoder":
        """Return an encoder of the first `dimension` numbers of every vector; from 1 to D."""
        facts = replace(self.facts, dimension=dimension)
        table = np.ascontiguousarray(self._embeddings[:, :dimension])
        return StaticEncoder(self.tokenizer, table, facts, self.training)

    def save(self, folder: Path) -> None:
        """Write an encoder folder, which is a model2vec and a sentence-transformers model as well."""
        folder.mkdir(parents=True)
        (folder / STATIC_MODEL).write_bytes(save({EMBEDDINGS: self._embeddings}))  # save_file is for one user
        self._tokenizer.save(str(folder / TOKENIZER))
        config = {"model_type": "model2vec", "normalize": True, "hidden_dim": self.dimension}
        modules = [
            {"idx": 0, "name": "0", "path": ".", "type": "sentence_transformers.models.StaticEmbedding"},
            {"idx": 1, "name": "1", "path": "1_Normalize", "type": "sentence_transformers.models.Normalize"},
        ]
        files = {FACTS: self.facts.to_json(), "config.json": config, "modules.json": modules}
        if self.training is not None:
            files[TRAINING] = self.training
        for name, content in files.items():
            (folder / name).write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2))

    def _encode(self, texts: Sequence[str]) -> Vectors:
        vectors = np.empty((len(texts), self.dimension), np.float32)
        for start in range(0, len(texts), _STATIC_BATCH):
            batch = texts[start : start + _STATIC_BATCH]
            tokens = self._tokens_by_word(batch) if self._by_word else self._tokens(batch)
            ends = np.cumsum([0, *map(len, tokens)])
            ids = np.fromiter(chain.from_iterable(tokens), np.int32, ends[-1])
            vectors[start : start + len(batch)] = bag_vectors(self._embeddings, ids, ends)
        return vectors

    def _tokens(self, texts: Sequence[str]) -> list[list[int]]:
        return [each.ids for each in self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)]

    def _tokens_by_word(self, texts: Sequence[str]) -> list[list[int]]:
        """Look up the tokens of words: a catalogue's are few, and each is tokenised once."""
        if len(self._known) > _REMEMBERED:
            self._known = {}  # another one, since a thread may be using this
        known = self._known
        words = [text.split(" ") for text in texts]
        new = [word for word in set(chain.from_iterable(words)) if word not in known]
        if new:
            known.update(zip(new, self._tokens(new), strict=True))
        most = self.facts.max_tokens
        return [list(chain.from_iterable(map(known.__getitem__, each)))[:most] for each in words]


def _divides_at_blanks(tokenizer: Tokenizer) -> bool:
    """Tell whether the tokens of a text are those of its words, one after another, as BERT's are."""
    parts = orjson.loads(tokenizer.to_str())
    pre_tokenizer = parts["pre_tokenizer"] or {}
    steps = [step["type"] for step in pre_tokenizer.get("pretokenizers", [pre_tokenizer]) if step]
    normalizer = (parts["normalizer"] or {}).get("type", "BertNormalizer")
    model = parts["model"]["type"]
    divides = steps[:1] == ["BertPreTokenizer"] and set(steps[1:]) <= {"Digits"}  # which divides further
    return divides and model == "WordPiece" and normalizer == "BertNormalizer"


def read_facts(folder: Path) -> EncoderFacts:
    """Return what the encoder of a folder is, without loading it.

    Args:
        folder: holds `encoder.json`.

    Returns:
        The facts.

    Raises:
        IndexFormatError: the folder holds none.
    """
    try:
        return EncoderFacts(**orjson.loads((folder / FACTS).read_bytes()))
    except (OSError, TypeError, orjson.JSONDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise IndexFormatError(f"{folder}: holds no encoder that can be read ({FACTS}: {reason})") from error


def open_encoder(folder: Path, *, threads: int = 1) -> Encoder:
    """Open the encoder of a folder.

    Args:
        folder: holds `encoder.json` and the model.
        threads: how many one call may use.

    Returns:
        The encoder.

    Raises:
        IndexFormatError: the folder holds none, or one that this version does not know.
    """
    facts = read_facts(folder)
    if facts.form not in FORMS:
        raise IndexFormatError(f"{folder}: the form {facts.form!r} of its encoder is not known here")
    for name in (TOKENIZER, STATIC_MODEL if facts.form == "static" else ONNX_MODEL):
        if not (folder / name).is_file():
            raise IndexFormatError(f"{folder}: its encoder lacks the file {name}. Build the index again")
    if facts.form == "static":
        return StaticEncoder.open(folder, facts)
    return OnnxEncoder(folder, facts, threads)
