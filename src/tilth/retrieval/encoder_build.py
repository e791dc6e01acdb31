"""Encoders for the builder of an index: vectors of passages, made with torch, and the folder that serves.

The folder holds the model as a graph or, for a static encoder, as one vector a token; serving needs no torch.
"""

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer

from tilth.errors import InputError, SettingError
from tilth.protocols import Vectors
from tilth.retrieval.distillation import static_encoder
from tilth.retrieval.encoder import FACTS, FORMS, OWN, StaticEncoder, letters_per_token, open_encoder
from tilth.retrieval.encoder_export import export
from tilth.retrieval.passages import PassageCutter, PassageSettings
from tilth.retrieval.sentence_encoder import DEFAULT_MODEL, SentenceEncoder, load_model

__all__ = ["DEFAULT_MODEL", "ModelForBuild", "build_encoder", "for_build", "open_static"]


class ModelForBuild:
    """A model in the form in which it will serve; satisfies `BuildEncoder`."""

    def __init__(self, encoder: SentenceEncoder | StaticEncoder, form: str) -> None:
        self._form = form
        self._encoder = encoder

    @property
    def dimension(self) -> int:
        """D."""
        return self._encoder.dimension

    @property
    def identity(self) -> dict[str, object]:
        """What the vectors of passages depend on, and the form that serves."""
        return {**self._encoder.facts.to_json(), "form": self._form}

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer that serves, neither padding nor truncating."""
        return self._encoder.tokenizer

    def encode_queries(self, texts: Sequence[str], /) -> Vectors:
        """Encode queries: (Q, D) float32 unit vectors."""
        return self._encoder.encode_queries(texts)

    def encode_passages(self, texts: Sequence[str], /) -> Vectors:
        """Encode passages: (N, D) float32 unit vectors."""
        return self._encoder.encode_passages(texts)

    def cutter(self, settings: PassageSettings) -> PassageCutter:
        """Return a cutter that counts tokens as this encoder does."""
        return PassageCutter(self.tokenizer, settings.within(self._encoder.facts.max_tokens), self.reserved())

    def reserved(self) -> int:
        """Return the tokens that special tokens and the passage prefix take."""
        special = not isinstance(self._encoder, StaticEncoder)
        prefix = self._encoder.facts.passage_prefix
        return len(self.tokenizer.encode(prefix, add_special_tokens=special).ids)

    def letters_per_token(self, texts: Sequence[str]) -> float:
        """Return how many letters a token of these texts has, by which `Leg.knows` decides."""
        return letters_per_token(self.tokenizer, texts, own=self._encoder.facts.name == OWN)

    def portable(self) -> StaticEncoder | None:
        """Return what encodes the same in any process: a static encoder does."""
        return self._encoder if isinstance(self._encoder, StaticEncoder) else None

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
    dimension: int | None = None,
) -> ModelForBuild:
    """Load a model in the form in which it will serve.

    Args:
        name: see `load_model`; or the folder of a static encoder, which needs no torch.
        form: `float32`, `int8` or `static`; a model that is static already stays so.
        query_prefix: instead of the model's.
        passage_prefix: instead of the model's.
        dimension: numbers of each vector of a static encoder; None: all that it has.

    Returns:
        What `build_index` takes.

    Raises:
        SettingError: no such form, or a dimension that the encoder does not have.
        MissingExtraError: the extra `build` is not installed.
        InputError: the model cannot be loaded, or its weights are not the published ones.
    """
    if form not in FORMS:
        raise SettingError(f"no form {form!r} of an encoder; there are {', '.join(FORMS)}")
    if (Path(name) / FACTS).is_file():
        return for_build(open_static(Path(name)), dimension)
    model = load_model(name, query_prefix=query_prefix, passage_prefix=passage_prefix)
    if model.is_static or form == "static":
        return for_build(static_encoder(model), dimension)
    if dimension is not None:
        raise SettingError(f"{name} has vectors of {model.dimension} numbers; only static ones can be cut")
    return ModelForBuild(model, form)


def for_build(encoder: StaticEncoder, dimension: int | None = None) -> ModelForBuild:
    """Return a static encoder, or the first numbers of its vectors, as `build_index` takes it.

    Args:
        encoder: serves as it is.
        dimension: numbers of each vector, from 1; None: all.

    Returns:
        The encoder.

    Raises:
        SettingError: it has not so many.
    """
    if dimension is not None and not 1 <= dimension <= encoder.dimension:
        raise SettingError(f"dimension is {dimension}; the encoder has {encoder.dimension}")
    return ModelForBuild(encoder if dimension is None else encoder.shortened(dimension), "static")


def open_static(folder: Path) -> StaticEncoder:
    """Open the folder of a static encoder.

    Args:
        folder: holds `encoder.json` and the model.

    Returns:
        The encoder.

    Raises:
        IndexFormatError: it cannot be read.
        InputError: it is of another form.
    """
    encoder = open_encoder(folder)
    if not isinstance(encoder, StaticEncoder):
        raise InputError(
            "is the folder of an encoder that only serves, and cannot make an index",
            field="encoder",
            value=str(folder),
            remedy="Name the model that it was made from",
        )
    return encoder
