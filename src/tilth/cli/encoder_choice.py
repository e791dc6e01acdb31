"""What the options of `tilth index` say of the encoders of an index, and the encoders themselves."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson
from rich.console import Console

from tilth.cli.terminal import ERR, OUT
from tilth.encoder_training.of_index import check_extra, encoder_of, train_from_store
from tilth.encoder_training.settings import EncoderSettings
from tilth.encoder_training.texts import sampled
from tilth.errors import InputError, SettingError
from tilth.retrieval.build_settings import Progress
from tilth.retrieval.encoder import FACTS, OWN, StaticEncoder, read_facts
from tilth.retrieval.encoder_build import DEFAULT_MODEL, ModelForBuild, build_encoder, for_build, open_static
from tilth.retrieval.legs import LEAST_LETTERS
from tilth.store import Store

AUTO = "auto"
LEAST_PRODUCTS = 1_000  # for which an own encoder is trained without being asked for
_TITLES = 1_000  # by which it is judged whether a model knows the words


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderChoice:
    """The encoder of the dense list and, if there is one, that of the third list.

    Raises:
        SettingError: both are the same, or there is a teacher and nothing to be taught.
    """

    encoder: str  # a model's name or folder, OWN, or AUTO
    third: str | None  # OWN, or the folder of a static encoder
    form: str
    query_prefix: str | None
    passage_prefix: str | None
    teacher: str | None  # of OWN
    dimension: int | None  # of the third list's vectors; without a third list, of the dense one's
    seed: int | None  # of a training; None: 0, or that of the own encoder that is there

    def __post_init__(self) -> None:
        if self.third == self.encoder:
            raise SettingError(f"--third {self.third} is the encoder of the dense list already")
        if self.teacher is not None and not self.trains:
            raise SettingError("--teacher is for an own encoder: add --encoder own or --third own")

    @property
    def trains(self) -> bool:
        """Whether the index is to have an own encoder in any case."""
        return OWN in (self.encoder, self.third)

    def check(self, into: Path) -> None:
        """Refuse, before anything is read, what cannot be done.

        Args:
            into: the index folder.

        Raises:
            InputError: the third list's encoder is not a static one.
            SettingError: both are own encoders, or the one that is to be trained has no such dimension.
            MissingExtraError: an encoder is to be trained, and the extra `build` is not installed.
            IndexFormatError: the own encoder of the index is damaged.
        """
        if self.third not in (None, OWN) and not (Path(str(self.third)) / FACTS).is_file():
            raise InputError(
                "is not the folder of a static encoder",
                field="--third",
                value=self.third,
                remedy="Name one that `tilth encoder train` made, or own",
            )
        if self.third is not None and _is_own(self.encoder) and _is_own(self.third):
            raise SettingError(
                f"--third {self.third} would be a second own encoder beside --encoder {self.encoder}, and an "
                "index has one. Leave out --third"
            )
        if not self.trains:
            return
        wanted, found = self.dimension if (self.third or self.encoder) == OWN else None, encoder_of(into)
        if found is None:
            check_extra()
            self._settings(wanted)
        elif wanted is not None and wanted > found.dimension:
            raise SettingError(
                f"dimension is {wanted}; the own encoder of the index has {found.dimension}. For more: tilth "
                f"encoder retrain {into} --queries QUERIES --qrels QRELS --dimension {wanted}"
            )

    def passed_over(self, into: Path) -> list[str]:
        """Return the options that would need another training than that of the own encoder of the index.

        Args:
            into: the index folder.

        Returns:
            Names; none where an encoder is still to be trained.

        Raises:
            IndexFormatError: the own encoder of the index is damaged.
        """
        found = encoder_of(into) if self.trains else None
        if found is None or found.training is None:
            return []
        teacher = found.training["teacher"] or {}
        others = {
            "--teacher": self.teacher not in (None, teacher.get("name")),
            "--seed": self.seed not in (None, found.training["settings"]["seed"]),
        }
        return [name for name, is_other in others.items() if is_other]

    def open(
        self, into: Path, store: Store, progress: Progress
    ) -> tuple[ModelForBuild, ModelForBuild | None]:
        """Load the encoders; an own one is that of the index or, where it has none, trained on the store.

        Args:
            into: the index folder.
            store: holds the products.
            progress: is told how far a training has come.

        Returns:
            The encoder of the dense list, and that of the third; where `AUTO` finds that an own encoder suits
            the dense list, that of the third is it, and there is no third one beside it.

        Raises:
            InputError: an encoder cannot be loaded, or there are too few products to train one.
            SettingError: it has no such form or dimension.
            MissingExtraError: the extra `build` is not installed.
        """
        first = _suited(store, into) if self.encoder == AUTO else self.encoder
        names = [first] if self.third is None else [first, self.third]
        if len(names) > 1 and all(map(_is_own, names)):
            names = names[1:]
        models = list(self._models(names, into, store, progress))
        return models[0], models[1] if len(models) > 1 else None

    def _models(
        self, names: list[str], into: Path, store: Store, progress: Progress
    ) -> Iterator[ModelForBuild]:
        for name in names:
            dimension = self.dimension if name == names[-1] else None
            if name == OWN:
                yield for_build(self._own(into, store, progress, dimension), dimension)
            elif name == self.third:
                yield for_build(open_static(Path(name)), dimension)
            else:
                yield build_encoder(
                    name,
                    self.form,
                    query_prefix=self.query_prefix,
                    passage_prefix=self.passage_prefix,
                    dimension=dimension,
                )

    def _own(self, into: Path, store: Store, progress: Progress, dimension: int | None) -> StaticEncoder:
        if found := encoder_of(into):
            return found
        settings = self._settings(dimension)
        teacher = None if self.teacher is None else build_encoder(self.teacher)
        trained = train_from_store(into, store, settings, progress, teacher=teacher)
        print_trained(trained, ERR)
        return trained

    def _settings(self, dimension: int | None) -> EncoderSettings:
        settings = EncoderSettings(seed=self.seed or 0)
        if dimension is not None and dimension > settings.dimension:
            raise SettingError(
                f"dimension is {dimension}; an own encoder is trained with {settings.dimension} here. "
                "For more: tilth encoder train --dimension"
            )
        return settings


def print_trained(encoder: StaticEncoder, console: Console = OUT) -> None:
    """Print what was trained, how long it took and how well held-out pseudo-queries find their products."""
    training = encoder.training or {}
    held_out = training["held_out"]
    console.print(
        f"own encoder: {encoder.dimension} dimensions, {training['tokens']:,} tokens, from "
        f"{training['products']:,} products in {training['steps']:,} steps and {training['seconds']:,.0f} s",
        soft_wrap=True,
    )
    console.print(
        f"{held_out['queries']:,} pseudo-queries of products that it was not trained on find them "
        f"with a mean reciprocal rank of {held_out['reciprocal_rank']:.3f}",
        soft_wrap=True,
    )


def _is_own(name: str) -> bool:
    """Tell whether a name stands for an encoder that is trained here, or a folder holds one that was."""
    return name == OWN or ((Path(name) / FACTS).is_file() and read_facts(Path(name)).name == OWN)


def _suited(store: Store, into: Path) -> str:
    """Return the packaged model where it knows the words of the titles, else an own encoder.

    Of a few products nothing can be learned, whatever their language; an encoder that is there stays of use.
    See docs/encoders.md.
    """
    with store.snapshot() as snapshot:
        if snapshot.count < LEAST_PRODUCTS and encoder_of(into) is None:
            return DEFAULT_MODEL
        records = sampled(snapshot.records(), _TITLES, seed=0)
    titles = [orjson.loads(record)["title"] for _, record in records]
    known = build_encoder(DEFAULT_MODEL).letters_per_token(titles) >= LEAST_LETTERS
    return DEFAULT_MODEL if known else OWN
