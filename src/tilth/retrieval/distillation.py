"""Static encoders: distilled from a model, or taken over from a model that is static itself."""

import copy
from contextlib import redirect_stderr
from importlib.util import find_spec
from io import StringIO

import numpy as np
import orjson
from tokenizers import Tokenizer

from tilth.errors import MissingExtraError
from tilth.protocols import Vectors
from tilth.retrieval.encoder import EncoderFacts, StaticEncoder
from tilth.retrieval.sentence_encoder import MOST_TOKENS, SentenceEncoder

STATIC_DIMENSION = 256


def static_encoder(encoder: SentenceEncoder) -> StaticEncoder:
    """Return a static encoder of a model: its own vectors if it is static, else distilled from it."""
    if not encoder.is_static:
        return distil(encoder)
    weights = encoder.model[0].embedding.weight
    return _static(encoder, weights.detach().cpu().numpy(), encoder.tokenizer)


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

    source = encoder.model
    teacher = copy.deepcopy(source[0].auto_model)  # its table of tokens is cut to the vocabulary on the way
    with redirect_stderr(StringIO()):  # the library always shows a progress bar
        model = distill_from_model(
            teacher,
            source.tokenizer,
            device=str(source.device),
            pca_dims=min(dimension, encoder.dimension),
        )
    return _static(encoder, model.embedding, model.tokenizer)


def _static(encoder: SentenceEncoder, embeddings: Vectors, tokenizer: Tokenizer) -> StaticEncoder:
    """Return a static encoder in which an unknown token says nothing."""
    table = np.array(embeddings, np.float32)
    unknown = _unknown_token(tokenizer)
    if unknown is not None:
        table[unknown] = 0
    source = encoder.facts
    return StaticEncoder(
        tokenizer,
        table,
        EncoderFacts(source.name, source.revision, "static", table.shape[1], MOST_TOKENS),
    )


def _unknown_token(tokenizer: Tokenizer) -> int | None:
    """Return the number of the token for what a tokenizer does not know, if it has one."""
    model = orjson.loads(tokenizer.to_str())["model"]
    number: int | None = model.get("unk_id")  # of Unigram; the other kinds name the token
    return tokenizer.token_to_id(model["unk_token"]) if model.get("unk_token") else number
