"""From products to a sealed generation of an index.

The store is filled first: it is the truth, and a generation holds it as it was at one sequence number. One
pass over that snapshot then prepares products (in worker processes, if asked), writes columns and the lexical
index, and encodes passages that neither the generation before nor an interrupted build has encoded. The
dense index is made last, of all vectors.
"""

import os
import shutil
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tilth.catalog import Product
from tilth.errors import IndexFormatError, InputError
from tilth.protocols import Encoder
from tilth.retrieval.columns import ColumnsWriter
from tilth.retrieval.dense import DenseIndex, DenseSettings, build_dense
from tilth.retrieval.encoder import same_passage_vectors
from tilth.retrieval.encoder_kept import KeptEncoder
from tilth.retrieval.generations import (
    is_sound,
    new_generation,
    open_generation,
    verify_files,
    write_manifest,
)
from tilth.retrieval.index import check_store
from tilth.retrieval.lexical import LexicalSettings, LexicalWriter
from tilth.retrieval.passages import PassageCutter, PassageSettings
from tilth.retrieval.preparation import CHUNK, PortableEncoder, Preparation, Prepared, Workers
from tilth.retrieval.quantisation import Codes
from tilth.retrieval.spelling import VocabularyCounter
from tilth.retrieval.stopwatch import Stopwatch
from tilth.retrieval.vectors import (
    Hashes,
    KnownVectors,
    VectorCache,
    VectorStore,
    VectorWriter,
    Wanted,
    encode_texts,
)
from tilth.store import Snapshot, Store

_LEAST_MEMORY = 128_000_000  # bytes a thread
_WORKERS_FROM = 2 * CHUNK  # products; fewer are prepared sooner than processes start
_SAMPLE = 200  # titles that stand in for queries
_CODES = "codes.npy"  # while building
_CACHE = "vectors"  # folder of vectors that were encoded and are in no generation yet
_REUSED = ("dense.faiss", "passage_hashes.npy", "passage_rows.npy")  # of the generation before


class BuildEncoder(Encoder, Protocol):
    """An encoder that can be stored with the index that it made."""

    @property
    def identity(self) -> dict[str, object]:
        """What the vectors depend on; equal identities give equal vectors for equal texts."""

    def cutter(self, settings: PassageSettings) -> PassageCutter:
        """Return a cutter that counts tokens as this encoder does."""

    def letters_per_token(self, texts: Sequence[str]) -> float:
        """Return how many letters a token of these texts has: below two, their words are not known."""

    def reserved(self) -> int:
        """Return the tokens of every passage that special tokens and the passage prefix take."""

    def portable(self) -> PortableEncoder | None:
        """Return what encodes the same in any process; None if nothing but this object does."""

    def save(self, folder: Path) -> None:
        """Write what `open_encoder` reads into a new folder."""


class Progress(Protocol):
    """Is told how far a stage has come."""

    def __call__(self, stage: str, done: int, total: int | None = None, /) -> None:
        """`done` of `total` items of a stage are done; None: the total is not known yet."""


@dataclass(frozen=True, slots=True)
class Resources:
    """What a build may use of the machine; nothing of the result depends on it."""

    threads: int = 1  # of the encoder, tantivy and faiss
    workers: int = 1  # processes that prepare products
    memory: int = 256_000_000  # bytes for the terms that tantivy holds before it writes a segment

    @classmethod
    def of_machine(cls) -> "Resources":
        """Use every core, and a sixteenth of the memory for terms."""
        cores = os.cpu_count() or 1
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return cls(cores, cores, max(min(memory // 16, cores * 1_000_000_000), cores * _LEAST_MEMORY))


@dataclass(frozen=True, slots=True)
class BuildSettings:
    """What an index is made with; all but the resources stands in the manifest."""

    passages: PassageSettings = field(default_factory=PassageSettings)
    lexical: LexicalSettings = field(default_factory=LexicalSettings)
    recall: float = 0.95  # of the exact nearest passages, where the search is approximate
    seed: int = 0
    resources: Resources = field(default_factory=Resources)


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

    def counted() -> Iterator[Product]:
        count = 0
        for count, product in enumerate(products, start=1):
            yield product
            if count % 1_000 == 0:
                progress("storing", count)
        if not count:
            raise InputError(
                "the catalogue has no usable product", remedy="See rejected.jsonl for the reasons"
            )
        progress("storing", count, count)

    store.replace_all(counted())


def build_index(
    into: Path,
    store: Store,
    encoder: BuildEncoder,
    settings: BuildSettings,
    progress: Progress,
    *,
    products: Iterable[Product] | None = None,
    source: Mapping[str, object] = MappingProxyType({}),
) -> dict[str, Any]:
    """Build a generation of what a store holds, and switch the index folder to it.

    Args:
        into: the index folder; created if it is not there.
        store: read at one moment; it may be written to meanwhile.
        encoder: makes the vectors and is stored with them.
        settings: passages, fields and resources.
        progress: is told how far each stage has come.
        products: the whole catalogue: the store holds exactly these first. None: what the store holds.
        source: facts about the catalogue for the manifest.

    Returns:
        The manifest.

    Raises:
        InputError: there is no product, or `into` holds something else.
        IndexLockedError: another process builds into the folder.
        IndexWriteError: the folder cannot be written to.
        StoreError: the store cannot be read or written.
    """
    with new_generation(into) as folder:
        if products is not None:
            store_catalogue(products, store, progress)
        manifest = _build(folder, into, store, encoder, settings, progress, source)
    shutil.rmtree(into / _CACHE, ignore_errors=True)
    return manifest


def compact_index(into: Path, store: Store, resources: Resources, progress: Progress) -> dict[str, Any]:
    """Build the next generation with the encoder and settings of the current one.

    Searches go on meanwhile, and switch when they next look. Texts that did not change are not encoded. A
    generation with damaged files is replaced too, as long as its manifest and its encoder are sound.

    Args:
        into: the index folder.
        store: the one that it was built from.
        resources: what the build may use.
        progress: is told how far each stage has come.

    Returns:
        The manifest of the new generation; that of the current one, if it is sound and nothing has changed
        since.

    Raises:
        IndexFormatError: there is no index, its encoder is damaged, or it was built from another store.
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
    verify_files(generation, "encoder/")
    encoder = KeptEncoder(
        generation.folder / "encoder",
        manifest["encoder"],
        manifest["passages"]["reserved"],
        threads=resources.threads,
    )
    source = {name: fact for name, fact in manifest["catalogue"].items() if name != "products"}
    return build_index(into, store, encoder, _settings_of(manifest, resources), progress, source=source)


def _settings_of(manifest: dict[str, Any], resources: Resources) -> BuildSettings:
    names = ("passages", "max_tokens", "head_tokens")
    passages = PassageSettings(**{name: manifest["passages"][name] for name in names})
    return BuildSettings(
        passages, LexicalSettings(**manifest["lexical"]), **manifest["build"], resources=resources
    )


def encode_shard(
    into: Path,
    store: Store,
    encoder: BuildEncoder,
    settings: BuildSettings,
    shard: tuple[int, int],
    progress: Progress,
) -> int:
    """Encode a part of what the next build needs, and keep it for that build.

    Many processes may do this at once, each with a part of its own.

    Args:
        into: the index folder; created if it is not there.
        store: the products.
        encoder: the one that the index will be built with.
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
    into.mkdir(parents=True, exist_ok=True)
    cache = VectorCache(into / _CACHE, encoder.identity, encoder.dimension)
    known = [cache, *_vectors_before(into, encoder)]
    done = 0
    with cache, store.snapshot() as snapshot, _workers(snapshot, encoder, settings) as workers:
        writer = VectorWriter(None, encoder.dimension, known, cache)
        for chunk in workers.prepare(snapshot.records()):
            wanted = writer.want(chunk.passages()[part - 1 :: parts])
            writer.write(
                wanted, encode_texts(wanted.texts, encoder.encode_passages, encoder.dimension, _unseen)
            )
            done += len(chunk.cuts)
            progress("encoding", done, snapshot.count)
    return writer.encoded


def _workers(snapshot: Snapshot, encoder: BuildEncoder, settings: BuildSettings) -> Workers:
    """Start as many processes as are asked for, unless the work is done before they are ready."""
    preparation = Preparation(encoder.cutter(settings.passages), settings.lexical)
    processes = settings.resources.workers if snapshot.count >= _WORKERS_FROM else 1
    return Workers(preparation, encoder.portable(), processes)


def _unseen(share: float) -> None:
    """Take note of progress within a chunk, which is not shown."""


def _build(
    folder: Path,
    into: Path,
    store: Store,
    encoder: BuildEncoder,
    settings: BuildSettings,
    progress: Progress,
    source: Mapping[str, object],
) -> dict[str, Any]:
    """Write everything that a generation holds."""
    watch = Stopwatch()
    with store.snapshot() as snapshot:
        if not snapshot.count:
            raise InputError("the store has no product", remedy="Name a catalogue: tilth index CATALOGUE")
        cache = VectorCache(into / _CACHE, encoder.identity, encoder.dimension)
        known = [cache, *_vectors_before(into, encoder)]
        rows = _write_rows(folder, snapshot, encoder, settings, cache, known, progress, watch)
    dense = _write_dense(folder, rows.titles, encoder, settings, progress)
    watch.lap("dense")
    progress("storing the encoder", 0, 1)
    encoder.save(folder / "encoder")
    progress("storing the encoder", 1, 1)
    passages = {
        "letters_per_token": round(encoder.letters_per_token(rows.titles), 2),
        "reserved": encoder.reserved(),
        **rows.to_json(),
    }
    return write_manifest(
        folder,
        {
            "tilth": version("tilth"),
            "catalogue": {**source, "products": snapshot.count},
            "store": {"id": store.store_id, "sequence": snapshot.sequence},
            "encoder": encoder.identity,
            "lexical": settings.lexical.to_json(),
            "passages": passages,
            "dense": dense.to_json(),
            "build": {"recall": settings.recall, "seed": settings.seed},
            "seconds": {stage: round(ms / 1000, 2) for stage, ms in watch.milliseconds.items()},
        },
    )


def _write_rows(
    folder: Path,
    snapshot: Snapshot,
    encoder: BuildEncoder,
    settings: BuildSettings,
    cache: VectorCache,
    known: Sequence[KnownVectors],
    progress: Progress,
    watch: Stopwatch,
) -> "_Rows":
    """Write columns, the lexical index and the codes of all passages, in row order."""
    resources = settings.resources
    vocabulary, rows = VocabularyCounter(), _Rows(encoder.cutter(settings.passages).settings, snapshot.count)
    vectors = VectorWriter(folder / _CODES, encoder.dimension, known, cache)
    encoding: deque[tuple[Wanted, Future[Codes]]] = deque()  # in worker processes
    with (
        cache,
        _workers(snapshot, encoder, settings) as workers,
        ColumnsWriter(folder / "columns") as columns,
        LexicalWriter(folder / "lexical", memory=resources.memory, threads=resources.threads) as lexical,
    ):
        for chunk in workers.prepare(snapshot.records()):
            watch.lap("prepare")
            columns.add(chunk.columns)
            vocabulary.merge(chunk.words)
            for document in chunk.documents:
                lexical.add(document)
            watch.lap("write")
            wanted = vectors.want(chunk.passages())

            def report(share: float, before: int = rows.count, chunk: Prepared = chunk) -> None:
                progress("indexing", before + int(share * len(chunk.cuts)), snapshot.count)

            if future := workers.encode(wanted.texts):
                encoding.append((wanted, future))
            else:
                _write_encoded(vectors, encoding, 0)
                made = encode_texts(wanted.texts, encoder.encode_passages, encoder.dimension, report)
                vectors.write(wanted, made)
            _write_encoded(vectors, encoding, resources.workers)
            watch.lap("encode")
            rows.add(chunk)
            progress("indexing", rows.count, snapshot.count)
        _write_encoded(vectors, encoding, 0)
        watch.lap("encode")
    vocabulary.write(folder / "vocabulary.txt")
    np.save(folder / "passage_hashes.npy", vectors.close())
    np.save(folder / "passage_rows.npy", rows.of_passages())
    np.save(folder / "steady_hashes.npy", np.concatenate(rows.steady))
    rows.encoded, rows.reused = vectors.encoded, vectors.reused
    watch.lap("commit")
    return rows


def _write_encoded(vectors: VectorWriter, encoding: deque[tuple[Wanted, Future[Codes]]], left: int) -> None:
    """Wait for what workers encode, in its order, until no more than so many chunks are left."""
    while len(encoding) > left:
        wanted, future = encoding.popleft()
        vectors.write(wanted, future.result())


class _Rows:
    """What is gathered about the rows while they are written: a few bytes a product."""

    def __init__(self, settings: PassageSettings, total: int) -> None:
        self.settings, self.count = settings, 0
        self.encoded = self.reused = 0
        self.titles: list[str] = []  # from all over the catalogue: they stand in for queries
        self.steady: list[Hashes] = []
        self._sampled = set(np.linspace(0, total - 1, min(_SAMPLE, total)).astype(int).tolist())
        self._passages: list[npt.NDArray[np.int32]] = []
        self._dropped: list[npt.NDArray[np.int32]] = []

    def add(self, chunk: Prepared) -> None:
        """Take note of the next rows."""
        self.titles += [
            title for row, title in enumerate(chunk.titles, start=self.count) if row in self._sampled
        ]
        self.steady.append(chunk.steady)
        self._passages.append(np.array([len(cut.passages) for cut in chunk.cuts], np.int32))
        self._dropped.append(np.array([cut.dropped_words for cut in chunk.cuts], np.int32))
        self.count += len(chunk.titles)

    def of_passages(self) -> npt.NDArray[np.int32]:
        """Return the row of each passage."""
        return np.repeat(np.arange(self.count, dtype=np.int32), np.concatenate(self._passages))

    def to_json(self) -> dict[str, Any]:
        """Return the facts about passages, for the manifest."""
        dropped = np.concatenate(self._dropped)
        return {
            **asdict(self.settings),
            "count": int(np.concatenate(self._passages).sum()),
            "encoded": self.encoded,
            "reused": self.reused,
            "dropped_words": int(dropped.sum()),
            "cut_products": int(np.count_nonzero(dropped)),
        }


def _vectors_before(into: Path, encoder: BuildEncoder) -> list[KnownVectors]:
    """Return the vectors of the generation before, if they are sound and the encoder would make the same."""
    try:
        previous = open_generation(into, checksums=False)
    except IndexFormatError:  # there is none, or one that can only be replaced
        return []
    same = same_passage_vectors(previous.manifest["encoder"], encoder.identity)
    if not same or not is_sound(previous, *_REUSED):
        return []
    dense = DenseIndex.open(previous.folder, DenseSettings(**previous.manifest["dense"]))
    return [VectorStore(np.load(previous.folder / "passage_hashes.npy"), dense.codes)]


def _query_like(titles: Sequence[str], seed: int) -> list[str]:
    """Return one to four words of each title, as they are typed; whole titles would need fewer probes."""
    random = np.random.default_rng(seed)
    chosen = []
    for words in (title.split() for title in titles):
        count = min(int(random.integers(1, 5)), len(words))
        places = np.sort(random.choice(len(words), count, replace=False))
        chosen.append(" ".join(words[place] for place in places))
    return chosen


def _write_dense(
    folder: Path, titles: Sequence[str], encoder: BuildEncoder, settings: BuildSettings, progress: Progress
) -> DenseSettings:
    progress("building the dense index", 0, 1)
    dense = build_dense(
        np.load(folder / _CODES, mmap_mode="r"),
        folder / "dense.faiss",
        encoder.encode_queries(_query_like(titles, settings.seed)),
        recall=settings.recall,
        seed=settings.seed,
        threads=settings.resources.threads,
    )
    (folder / _CODES).unlink()
    progress("building the dense index", 1, 1)
    return dense
