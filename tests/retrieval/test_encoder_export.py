"""Export: whatever a model's tokenizer, padding and pooling, its graph gives the model's own vectors."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from models import SENTENCES, tiny_bert, tiny_xlm_r
from tilth.errors import TilthError
from tilth.retrieval import encoder_export
from tilth.retrieval.encoder import ONNX_MODEL, open_encoder
from tilth.retrieval.encoder_export import export
from tilth.retrieval.sentence_encoder import load_model

TEXTS = [*SENTENCES, "томаты", "cow " * 100, "", "<pad> unknown <unk> 🍅"]


@pytest.mark.parametrize(("kind", "pooling"), [(tiny_xlm_r, "mean"), (tiny_xlm_r, "cls"), (tiny_bert, "max")])
def test_a_graph_gives_the_models_own_vectors(
    kind: Callable[..., Path], pooling: str, tmp_path: Path
) -> None:
    encoder = load_model(str(kind(tmp_path, pooling)))
    export(encoder, tmp_path / "onnx")
    served = open_encoder(tmp_path / "onnx")
    theirs = encoder.encode_queries(TEXTS)
    np.testing.assert_allclose(served.encode_queries(TEXTS), theirs, atol=1e-4)  # padded with the others
    alone = np.concatenate([served.encode_queries([text]) for text in TEXTS])
    np.testing.assert_allclose(alone, theirs, atol=1e-4)
    if encoder.facts.query_prefix:
        assert not np.allclose(served.encode_passages(TEXTS), theirs, atol=1e-2)


def test_int8_is_smaller_and_close(tmp_path: Path) -> None:
    encoder = load_model(str(tiny_xlm_r(tmp_path)))
    export(encoder, tmp_path / "onnx")
    float32 = (tmp_path / "onnx" / ONNX_MODEL).stat().st_size
    encoder_export.quantise(tmp_path / "onnx")
    quantised = open_encoder(tmp_path / "onnx")
    assert quantised.facts.form == "int8"
    similar = (quantised.encode_queries(TEXTS) * encoder.encode_queries(TEXTS)).sum(axis=1)
    assert (similar > 0.95).all()
    assert (tmp_path / "onnx" / ONNX_MODEL).stat().st_size < float32


def test_weights_of_a_large_model_lie_beside_its_graph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoder_export, "_MOST_INLINE", 10_000)
    encoder = load_model(str(tiny_bert(tmp_path)))
    export(encoder, tmp_path / "onnx")
    assert (tmp_path / "onnx" / f"{ONNX_MODEL}.data").stat().st_size > 10_000
    served = open_encoder(tmp_path / "onnx").encode_queries(TEXTS)
    np.testing.assert_allclose(served, encoder.encode_queries(TEXTS), atol=1e-4)
    encoder_export.quantise(tmp_path / "onnx")
    assert not (tmp_path / "onnx" / f"{ONNX_MODEL}.data").exists()
    assert open_encoder(tmp_path / "onnx").encode_queries(TEXTS).shape == served.shape


def test_an_unfaithful_graph_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder_export, "_SAME", 0.0)
    with pytest.raises(TilthError, match="was not exported faithfully"):
        export(load_model(str(tiny_bert(tmp_path))), tmp_path / "onnx")
