"""The own encoder of an index: the one that it has, or one that is trained on the products of its store."""

import shutil
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

import orjson

from tilth.catalog import product_from_json
from tilth.encoder_training.settings import EncoderSettings
from tilth.encoder_training.texts import sampled
from tilth.errors import IndexFormatError, MissingExtraError
from tilth.files import move_durably
from tilth.retrieval.build_settings import BuildEncoder, Progress
from tilth.retrieval.encoder import OWN, StaticEncoder
from tilth.retrieval.encoder_build import open_static
from tilth.retrieval.generations import Generation, open_generation, verify_files
from tilth.retrieval.legs import ENCODER_FOLDER
from tilth.store import Store

ENCODERS = "encoders"  # folder of those that were replaced, in the index folder
ASIDE = ".keeping-"
WORK = "training"  # folder of a training that was not ended, in the index folder


def check_extra() -> None:
    """Raise MissingExtraError where torch is not installed: before anything is read."""
    if find_spec("torch") is None:
        raise MissingExtraError("training an encoder", "build")


def encoder_of(into: Path) -> StaticEncoder | None:
    """Return the own encoder of the current generation.

    Args:
        into: the index folder.

    Returns:
        The encoder; None: there is no index, or it has none that was trained here.

    Raises:
        IndexFormatError: its files are damaged.
    """
    found = _own_of(into)
    if found is None:
        return None
    generation, leg = found
    verify_files(generation, f"{leg}/{ENCODER_FOLDER}/")
    return open_static(generation.folder / leg / ENCODER_FOLDER)


def _own_of(into: Path) -> tuple[Generation, str] | None:
    """Return the current generation and the leg whose encoder was trained here; None: there is none."""
    try:
        generation = open_generation(into, checksums=False)
    except IndexFormatError:  # there is none, or one that can only be replaced
        return None
    leg = own_leg(generation)
    return None if leg is None else (generation, leg)


def own_leg(generation: Generation) -> str | None:
    """Return the name of the leg whose encoder was trained here; None: there is none."""
    legs = generation.manifest["legs"]
    return next((name for name, leg in legs.items() if leg["encoder"]["name"] == OWN), None)


def keep(into: Path, generation: Generation, leg: str) -> Path:
    """Copy the encoder of a leg to where the former encoders of an index are; one that is there stays.

    Args:
        into: the index folder.
        generation: of the index.
        leg: its name.

    Returns:
        The folder, `encoders/NUMBER`, whole and durable.
    """
    target = into / ENCODERS / str(generation.number)
    if not target.is_dir():
        aside = target.with_name(f"{ASIDE}{target.name}")
        shutil.rmtree(aside, ignore_errors=True)  # what a killed process left
        shutil.copytree(generation.folder / leg / ENCODER_FOLDER, aside)
        move_durably(aside, target)
    return target


def keep_replaced(into: Path, encoders: Iterable[BuildEncoder]) -> Path | None:
    """Keep the own encoder of an index if it is not among those of the next build.

    Args:
        into: the index folder.
        encoders: of the next build.

    Returns:
        The folder that keeps it; None: the index has none, or goes on with it.
    """
    found = _own_of(into)
    if found is None:
        return None
    generation, leg = found
    now = generation.manifest["legs"][leg]["encoder"]["revision"]
    return (
        None if now in [encoder.identity["revision"] for encoder in encoders] else keep(into, generation, leg)
    )


def train_from_store(
    into: Path,
    store: Store,
    settings: EncoderSettings,
    progress: Progress,
    *,
    teacher: BuildEncoder | None = None,
) -> StaticEncoder:
    """Train an encoder on the products of a store, or on a sample of them.

    Args:
        into: the index folder, which keeps the state of a training that is interrupted.
        store: holds the products.
        settings: of the training.
        progress: is told how far it has come.
        teacher: an encoder whose similarities are learned, too.

    Returns:
        The encoder.

    Raises:
        MissingExtraError: the extra `build` is not installed.
        InputError: there are too few products.
        StoreError: the store cannot be read.
    """
    check_extra()
    from tilth.encoder_training.trainer import train_encoder

    with store.snapshot() as snapshot:
        records = sampled(snapshot.records(), settings.sample, settings.seed)
    products = [product_from_json(orjson.loads(record)) for _, record in records]
    work = into / WORK
    encoder = train_encoder(products, work, settings, progress, teacher=teacher)
    shutil.rmtree(work, ignore_errors=True)
    return encoder
