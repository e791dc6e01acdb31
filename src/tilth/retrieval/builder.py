"""From products to a sealed generation of an index.

The store is filled first: it is the truth, and a generation holds it as it was at one sequence number. One
pass over that snapshot then prepares products (in worker processes, if asked), writes columns and the lexical
index, and encodes passages, once for each leg, that neither the generation before nor an interrupted build
has encoded. The dense index of each leg is made last, of all its vectors.
"""

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from tilth.catalog import Product
from tilth.errors import IndexFormatError, InputError
from tilth.retrieval.build_settings import BuildEncoder, BuildSettings, Progress, Resources
from tilth.retrieval.dense import DenseIndex, DenseSettings, build_dense
from tilth.retrieval.encoder import same_passage_vectors
from tilth.retrieval.encoder_kept import KeptEncoder
from tilth.retrieval.generations import (
    Generation,
    explaining_faults,
    is_sound,
    new_generation,
    open_generation,
    verify_files,
    write_manifest,
)
from tilth.retrieval.index import check_store, passage_settings
from tilth.retrieval.legs import ENCODER_FOLDER, LEGS, VECTORS_FILE
from tilth.retrieval.lexical import LexicalSettings
from tilth.retrieval.row_writer import CODES, start_workers, write_rows
from tilth.retrieval.stopwatch import Stopwatch
from tilth.retrieval.vectors import (
    KnownVectors,
    VectorCache,
    VectorStore,
    VectorWriter,
    encode_texts,
)
from tilth.store import Store

_CACHE = "vectors"  # folder of vectors that were encoded and are in no generation yet


def store_catalogue(products: Iterable[Product], store: Store, progress: Progress) -> None:
    """Make the catalogue exactly these products, without building anything.

    Args:
        products: the catalogue, read once.
        store: takes all of them or none.
        progress: is told how far it has come.

    Raises:
        InputError: the catalogue has no usable product.
        StoreError: the store cannot be written.
    """

    def usable() -> Iterator[Product]:
        product = None
        for product in told(products, progress):
            yield product
        if product is None:
            raise InputError(
                "the catalogue has no usable product", remedy="See rejected.jsonl for the reasons"
            )

    store.replace_all(usable())


def told(products: Iterable[Product], progress: Progress) -> Iterator[Product]:
    """Yield products on their way into the store, and tell how many there have been."""
    count = 0
    for count, product in enumerate(products, start=1):
        yield product
        if count % 1_000 == 0:
            progress("storing", count)
    progress("storing", count, count)


def build_index(
    into: Path,
    store: Store,
    encoder: BuildEncoder,
    settings: BuildSettings,
    progress: Progress,
    *,
    own: BuildEncoder | None = None,
    products: Iterable[Product] | None = None,
    source: Mapping[str, object] = MappingProxyType({}),
    after: Path | None = None,
) -> dict[str, Any]:
    """Build a generation of what a store holds, and switch the index folder to it.

    Args:
        into: the index folder; created if it is not there.
        store: read at one moment; it may be written to meanwhile.
        encoder: cuts the passages, makes their vectors and is stored with them.
        settings: passages, fields and resources.
        progress: is told how far each stage has come.
        own: the shop's own encoder, for a third list of the fusion: a second vector of the same passages.
        products: the whole catalogue: the store holds exactly these first. None: what the store holds.
        source: facts about the catalogue for the manifest.
        after: an index folder whose vectors are reused; None: `into`.

    Returns:
        The manifest.

    Raises:
        InputError: there is no product, or `into` holds something else.
        IndexLockedError: another process builds into the folder.
        IndexWriteError: the folder cannot be written to.
        StoreError: the store cannot be read or written.
    """
    pairs = zip(LEGS, (encoder, own), strict=True)
    encoders = {name: each for name, each in pairs if each is not None}
    with new_generation(into) as folder:
        if products is not None:
            store_catalogue(products, store, progress)
        manifest = _build(folder, into, after or into, store, encoders, settings, progress, source)
    shutil.rmtree(into / _CACHE, ignore_errors=True)
    return manifest


def compact_index(into: Path, store: Store, resources: Resources, progress: Progress) -> dict[str, Any]:
    """Build the next generation with the encoders and settings of the current one.

    Searches go on meanwhile, and switch when they next look. Texts that did not change are not encoded. A
    generation with damaged files is replaced too, as long as its manifest and its encoders are sound.

    Args:
        into: the index folder.
        store: the one that it was built from.
        resources: what the build may use.
        progress: is told how far each stage has come.

    Returns:
        The manifest of the new generation; that of the current one, if it is sound and nothing has changed
        since.

    Raises:
        IndexFormatError: there is no index, an encoder is damaged, or it was built from another store.
        InputError: the store is empty.
        IndexLockedError: another process builds into the folder.
        IndexWriteError: the folder cannot be written to.
        StoreError: the store cannot be read.
    """
    generation = open_generation(into, checksums=False)
    check_store(generation, store)
    manifest = generation.manifest
    if manifest["store"]["sequence"] == store.last_sequence() and is_sound(generation):
        return manifest
    encoder, *others = kept_encoders(generation, resources.threads).values()
    own = others[0] if others else None
    del generation  # so that it is removed when it has been replaced
    settings, source = settings_of(manifest, resources), source_of(manifest)
    return build_index(into, store, encoder, settings, progress, own=own, source=source)


def kept_encoders(generation: Generation, threads: int) -> dict[str, BuildEncoder]:
    """Return the encoders of a generation, by leg, as the next one is built with them.

    Args:
        generation: an opened one.
        threads: how many one call may use.

    Returns:
        The encoders, in the order of `LEGS`.

    Raises:
        IndexFormatError: one is damaged.
    """
    legs = generation.manifest["legs"]
    verify_files(generation, *(f"{name}/{ENCODER_FOLDER}/" for name in legs))
    return {
        name: KeptEncoder(
            generation.folder / name / ENCODER_FOLDER,
            legs[name]["encoder"],
            legs[name]["reserved"],
            threads=threads,
        )
        for name in LEGS
        if name in legs
    }


def settings_of(manifest: Mapping[str, Any], resources: Resources) -> BuildSettings:
    """Return what a generation was built with, from its manifest, but with other resources."""
    lexical = LexicalSettings(**manifest["lexical"])
    return BuildSettings(passage_settings(manifest), lexical, **manifest["build"], resources=resources)


def source_of(manifest: Mapping[str, Any]) -> dict[str, object]:
    """Return what the manifest of a generation says of its catalogue's origin."""
    return {name: fact for name, fact in manifest["catalogue"].items() if name != "products"}


def encode_shard(
    into: Path,
    store: Store,
    encoder: BuildEncoder,
    settings: BuildSettings,
    shard: tuple[int, int],
    progress: Progress,
) -> int:
    """Encode a part of what the next build needs, and keep it for that build.

    Many processes may do this at once, each with a part of its own. It is for the first leg: a shop's own
    encoder is a table of vectors, which encodes tens of thousands of passages a second.

    Args:
        into: the index folder; created if it is not there.
        store: the products.
        encoder: the first one that the index will be built with.
        settings: the ones that the index will be built with.
        shard: (part, parts): every `parts`-th passage, from the `part`-th on; part counts from 1.
        progress: is told how far it has come.

    Returns:
        The number of passages that were encoded; those known already are not.

    Raises:
        IndexWriteError: the folder cannot be written to.
        StoreError: the store cannot be read.
    """
    part, parts = shard
    done = 0
    with (
        explaining_faults(into),
        VectorCache(into / _CACHE, encoder.identity, encoder.dimension) as cache,
        store.snapshot() as snapshot,
        start_workers(snapshot, {LEGS[0]: encoder}, settings) as workers,
    ):
        known = [cache, *_vectors_before(into, encoder)]
        writer = VectorWriter(None, encoder.dimension, known, cache)
        for chunk in workers.prepare(snapshot.records()):
            wanted = writer.want(chunk.passages()[part - 1 :: parts])
            writer.write(
                wanted, encode_texts(wanted.texts, encoder.encode_passages, encoder.dimension, _unseen)
            )
            done += len(chunk.cuts)
            progress("encoding", done, snapshot.count)
    return writer.encoded


def _unseen(share: float) -> None:
    """Take note of progress within a chunk, which is not shown."""


def _build(
    folder: Path,
    into: Path,
    after: Path,
    store: Store,
    encoders: Mapping[str, BuildEncoder],
    settings: BuildSettings,
    progress: Progress,
    source: Mapping[str, object],
) -> dict[str, Any]:
    """Write everything that a generation holds."""
    watch = Stopwatch()
    with store.snapshot() as snapshot, ExitStack() as caches:
        if not snapshot.count:
            raise InputError("the store has no product", remedy="Name a catalogue: tilth index CATALOGUE")
        vectors: dict[str, VectorWriter] = {}
        for name, encoder in encoders.items():
            (folder / name).mkdir()
            cache = caches.enter_context(VectorCache(into / _CACHE, encoder.identity, encoder.dimension))
            known = [cache, *_vectors_before(after, encoder)]
            vectors[name] = VectorWriter(folder / name / CODES, encoder.dimension, known, cache)
        rows = write_rows(folder, snapshot, encoders, settings, vectors, progress, watch)
    legs = {}
    for name, encoder in encoders.items():
        facts = _write_leg(folder / name, rows.titles, encoder, settings, progress)
        legs[name] = {**facts, "encoded": vectors[name].encoded, "reused": vectors[name].reused}
        watch.lap(name)
    return write_manifest(
        folder,
        {
            "tilth": version("tilth"),
            "catalogue": {**source, "products": snapshot.count},
            "store": {"id": store.store_id, "sequence": snapshot.sequence},
            "lexical": settings.lexical.to_json(),
            "passages": rows.to_json(),
            "legs": legs,
            "build": {"recall": settings.recall, "seed": settings.seed},
            "seconds": _seconds(watch, rows.encoding),
        },
    )


def _vectors_before(into: Path, encoder: BuildEncoder) -> list[KnownVectors]:
    """Return sound vectors of the generation before that the encoder would make the same, if it has them.

    They may be of another leg: what was the general encoder may be the own one now.
    """
    try:
        previous = open_generation(into, checksums=False)
    except IndexFormatError:  # there is none, or one that can only be replaced
        return []
    for name, facts in previous.manifest["legs"].items():
        files = (f"{name}/{VECTORS_FILE}", "passage_hashes.npy", "passage_rows.npy")
        if same_passage_vectors(facts["encoder"], encoder.identity) and is_sound(previous, *files):
            path, hashes, rows = (previous.folder / file for file in files)
            dense = DenseIndex(path, DenseSettings(**facts["index"]), np.load(rows))
            return [VectorStore(np.load(hashes), dense.codes)]
    return []


def _seconds(watch: Stopwatch, encoding: float) -> dict[str, float]:
    """Return the seconds of each stage; what workers did while others encoded is preparing."""
    seconds = {stage: milliseconds / 1000 for stage, milliseconds in watch.milliseconds.items()}
    seconds["prepare"] += seconds["encode"] - encoding
    seconds["encode"] = encoding
    return {stage: round(value, 2) for stage, value in seconds.items()}


def _query_like(titles: Sequence[str], seed: int) -> list[str]:
    """Return one to four words of each title, as they are typed; whole titles would need fewer probes."""
    random = np.random.default_rng(seed)
    chosen = []
    for words in (title.split() for title in titles):
        count = min(int(random.integers(1, 5)), len(words))
        places = np.sort(random.choice(len(words), count, replace=False))
        chosen.append(" ".join(words[place] for place in places))
    return chosen


def _write_leg(
    folder: Path, titles: Sequence[str], encoder: BuildEncoder, settings: BuildSettings, progress: Progress
) -> dict[str, object]:
    """Make the index of a leg of its codes and keep its encoder beside it; return the facts of both."""
    progress(f"building the {folder.name} index", 0, 1)
    index = build_dense(
        np.load(folder / CODES, mmap_mode="r"),
        folder / VECTORS_FILE,
        encoder.encode_queries(_query_like(titles, settings.seed)),
        recall=settings.recall,
        seed=settings.seed,
        threads=settings.resources.threads,
    )
    (folder / CODES).unlink()
    progress(f"building the {folder.name} index", 1, 1)
    progress("storing the encoder", 0, 1)
    encoder.save(folder / ENCODER_FOLDER)
    progress("storing the encoder", 1, 1)
    return {
        "encoder": encoder.identity,
        "reserved": encoder.reserved(),
        "letters_per_token": round(encoder.letters_per_token(titles), 2),
        "index": index.to_json(),
    }
