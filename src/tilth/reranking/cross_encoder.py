"""A cross-encoder as it serves: query and text read together by a transformer, without torch.

A folder holds `cross_encoder.json` (what it is), `tokenizer.json` and `model.onnx`.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt
from tokenizers import Encoding, Tokenizer

from tilth.errors import IndexFormatError, InputError
from tilth.files import replacing
from tilth.reranking.model_files import read_checked, read_facts
from tilth.retrieval.onnx import open_graph

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

FORMAT = "tilth-cross-encoder"
FORMAT_VERSION = 1
CROSS_ENCODER_FACTS = "cross_encoder.json"
TOKENIZER = "tokenizer.json"
ONNX_MODEL = "model.onnx"
INPUTS = ("input_ids", "attention_mask", "token_type_ids")  # the last only where the model has segments
_BATCH = 4  # pairs run at a time: more leave the cache of one core

Scores = npt.NDArray[np.float64]


class CrossEncoderModel:
    """An opened cross-encoder."""

    def __init__(
        self,
        session: "InferenceSession",
        tokenizer: Tokenizer,
        facts: dict[str, Any],
        folder: Path,
    ) -> None:
        """Make one; `open` reads it from a folder.

        Args:
            session: the graph.
            tokenizer: truncating as in training.
            facts: what `cross_encoder.json` says.
            folder: that it was read from.
        """
        self.facts = facts
        self._folder = folder
        self._session = session
        self._tokenizer = tokenizer
        self._inputs = [each.name for each in session.get_inputs()]

    @classmethod
    def open(cls, folder: Path, threads: int = 1) -> Self:
        """Open what `train_cross_encoder` wrote.

        Args:
            folder: the model's.
            threads: how many one call may use.

        Returns:
            The model.

        Raises:
            IndexFormatError: it is not there, damaged, or of a newer format.
        """
        facts = read_facts(folder / CROSS_ENCODER_FACTS, FORMAT, FORMAT_VERSION)
        try:
            graph, tokenizer = (read_checked(folder, facts[part]) for part in ("model", "tokenizer"))
            max_tokens = int(facts["max_tokens"])
        except (KeyError, TypeError, ValueError) as error:
            raise IndexFormatError(f"{folder}: the model is damaged ({error}). Train it again") from error
        session = open_graph(graph, threads)
        truncating = Tokenizer.from_buffer(tokenizer)
        truncating.enable_truncation(max_tokens)
        return cls(session, truncating, facts, folder)

    def scores(self, query: str, texts: Sequence[str]) -> Scores:
        """Score texts for a query.

        Args:
            query: as typed.
            texts: of M products.

        Returns:
            (M,) the higher the better; without a unit (a logit), comparable within a query.
        """
        scores = np.empty(len(texts))
        pairs = self._tokenizer.encode_batch([(query, text) for text in texts])
        by_length = sorted(range(len(pairs)), key=lambda i: len(pairs[i].ids))
        for start in range(0, len(pairs), _BATCH):
            batch = by_length[start : start + _BATCH]
            scores[batch] = self._run([pairs[i] for i in batch])
        return scores

    def save(self, folder: Path) -> None:
        """Copy the model's files.

        Args:
            folder: made if it is not there.

        Raises:
            InputError: the folder cannot be written to, or the one that was opened is no longer there.
        """
        for name in (ONNX_MODEL, TOKENIZER, CROSS_ENCODER_FACTS):  # the facts last: they make it a model
            try:
                source = (self._folder / name).open("rb")
            except OSError as error:
                raise InputError(f"cannot be read: {error.strerror}", path=self._folder / name) from error
            with source, replacing(folder / name) as target:
                shutil.copyfileobj(source, target)

    def _run(self, pairs: Sequence[Encoding]) -> npt.NDArray[np.float32]:
        """Run the graph on pairs, padded to the longest; where the mask is 0, any id will do."""
        shape = len(pairs), max(len(pair.ids) for pair in pairs)
        inputs = {name: np.zeros(shape, np.int64) for name in self._inputs}
        for row, pair in enumerate(pairs):
            values = dict(zip(INPUTS, (pair.ids, pair.attention_mask, pair.type_ids), strict=True))
            for name, array in inputs.items():
                array[row, : len(pair.ids)] = values[name]
        logits: npt.NDArray[np.float32] = self._session.run(None, inputs)[0]
        return logits
