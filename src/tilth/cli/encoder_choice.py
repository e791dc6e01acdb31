"""What the options of `tilth index` say of the encoders of an index, and the encoders themselves."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tilth.encoder_training.of_index import check_extra, encoder_of, train_from_store
from tilth.encoder_training.settings import OWN, EncoderSettings
from tilth.errors import InputError, SettingError
from tilth.retrieval.build_settings import Progress
from tilth.retrieval.encoder import FACTS, StaticEncoder
from tilth.retrieval.encoder_build import ModelForBuild, build_encoder, for_build, open_static
from tilth.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderChoice:
    """The encoder of the dense list and, if there is one, that of the third list.

    Raises:
        SettingError: both are the same, or there is a teacher and nothing to be taught.
    """

    encoder: str  # a model's name or folder, or OWN
    third: str | None  # OWN, or the folder of a static encoder
    form: str
    query_prefix: str | None
    passage_prefix: str | None
    teacher: str | None  # of OWN
    dimension: int | None  # of the third list's vectors; without a third list, of the dense one's
    seed: int

    def __post_init__(self) -> None:
        if self.third == self.encoder:
            raise SettingError(f"--third {self.third} is the encoder of the dense list already")
        if self.teacher is not None and not self.trains:
            raise SettingError("--teacher is for an own encoder: add --encoder own or --third own")

    @property
    def trains(self) -> bool:
        """Whether the index is to have an own encoder, which the products must be stored for first."""
        return OWN in (self.encoder, self.third)

    def check(self) -> None:
        """Refuse, before anything is read, what cannot be done.

        Raises:
            InputError: the third list's encoder is not a static one.
            MissingExtraError: an encoder is to be trained, and the extra `build` is not installed.
        """
        if self.third not in (None, OWN) and not (Path(str(self.third)) / FACTS).is_file():
            raise InputError(
                "is not the folder of a static encoder",
                field="--third",
                value=self.third,
                remedy="Name one that `tilth encoder train` made, or own",
            )
        if self.trains:
            check_extra()

    def open(
        self, into: Path, store: Store, progress: Progress
    ) -> tuple[ModelForBuild, ModelForBuild | None]:
        """Load the encoders; an own one is that of the index or, where it has none, trained on the store.

        Args:
            into: the index folder.
            store: holds the products.
            progress: is told how far a training has come.

        Returns:
            The encoder of the dense list, and that of the third.

        Raises:
            InputError: an encoder cannot be loaded, or there are too few products to train one.
            SettingError: it has no such form or dimension.
            MissingExtraError: the extra `build` is not installed.
        """
        names = [name for name in (self.encoder, self.third) if name is not None]
        models = list(self._models(names, into, store, progress))
        return models[0], models[1] if len(models) > 1 else None

    def _models(
        self, names: list[str], into: Path, store: Store, progress: Progress
    ) -> Iterator[ModelForBuild]:
        for name in names:
            dimension = self.dimension if name == names[-1] else None
            if name == OWN:
                yield for_build(self._own(into, store, progress), dimension)
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

    def _own(self, into: Path, store: Store, progress: Progress) -> StaticEncoder:
        if found := encoder_of(into):
            return found
        teacher = None if self.teacher is None else build_encoder(self.teacher)
        return train_from_store(into, store, EncoderSettings(seed=self.seed), progress, teacher=teacher)
