"""A model written once as an ONNX graph, so that searching needs no torch."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import orjson

from tilth.errors import TilthError
from tilth.retrieval.encoder import FACTS, ONNX_MODEL, TOKENIZER, OnnxEncoder
from tilth.retrieval.sentence_encoder import SentenceEncoder

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

_SAME = 1e-3  # how far an exported vector may lie from the model's own, in any coordinate
_MOST_INLINE = 1_900_000_000  # bytes of weights; a protobuf file ends at 2 GiB
_PROBES = ["", "a", "Cow MANURE 20 kg ", "чем подкормить томаты", "🍅", "pelleted chicken manure " * 200]


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
    (folder / FACTS).write_bytes(orjson.dumps(encoder.facts.to_json(), option=orjson.OPT_INDENT_2))
    _check_export(encoder, OnnxEncoder(folder, encoder.facts))
    if form == "int8":
        quantise(folder)


def _export_graph(model: "SentenceTransformer", path: Path) -> None:
    """Trace the whole model: token ids and mask to sentence vectors, with free batch and length."""
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
    ids = torch.tensor([[5, 6, 7], [8, 9, 10]])
    free = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    model.cpu()
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
            external_data=_bytes_of(model) > _MOST_INLINE,
            verbose=False,
        )
    model.to(device)


def _bytes_of(model: "SentenceTransformer") -> int:
    return sum(tensor.nbytes for tensor in model.state_dict().values())


def _check_export(encoder: SentenceEncoder, exported: OnnxEncoder) -> None:
    distance = float(np.abs(encoder.encode_queries(_PROBES) - exported.encode_queries(_PROBES)).max())
    if not distance < _SAME:
        raise TilthError(f"the model {encoder.facts.name!r} was not exported faithfully: {distance:.2g} away")


def quantise(folder: Path) -> None:
    """Turn an encoder folder from float32 to int8.

    Weights are scaled by output channel (cosine to float32 0.99 instead of 0.97), and to 7 bits, since sums
    of 8-bit products overflow on processors without VNNI. Activations are scaled text by text.

    Args:
        folder: an encoder folder of the form float32.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    graph, aside = folder / ONNX_MODEL, folder / "model.int8"
    with _errors_alone():
        quantize_dynamic(
            str(graph), str(aside), per_channel=True, reduce_range=True, weight_type=QuantType.QInt8
        )
    aside.replace(graph)
    (folder / f"{ONNX_MODEL}.data").unlink(missing_ok=True)  # of the float32 graph, if it was large
    facts = {**orjson.loads((folder / FACTS).read_bytes()), "form": "int8"}
    (folder / FACTS).write_bytes(orjson.dumps(facts, option=orjson.OPT_INDENT_2))


@contextmanager
def _errors_alone() -> Iterator[None]:
    """Let nobody log less than errors while a block runs: the quantisation speaks through the root logger."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
