"""What scale.py and its peers share: the shop, its vectors, filters of given shares, and the measuring.

Shop and vectors are made once a size, in the folder of the benchmark.
"""

import multiprocessing
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import orjson

from tilth.catalog import product_from_json
from tilth.encoder_training.of_index import encoder_of
from tilth.query import read_queries
from tilth.retrieval.encoder import StaticEncoder
from tilth.retrieval.passages import PassageCutter, PassageSettings
from tilth.sample.shop import write_shop

Result = TypeVar("Result")
Values = dict[str, float]  # by metric
Vectors = npt.NDArray[np.float32]

# What makes a library use one thread; set before it is imported.
LIMITS = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "RAYON_NUM_THREADS": "1",
    "TOKIO_WORKER_THREADS": "1",
    "LANCE_CPU_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
QUIET = {"LANCEDB_LOG": "error", "ANONYMIZED_TELEMETRY": "False"}
FLOATS_UP_TO = 1_000_000  # products
RECALL_DEPTH = 100
COLUMNS = ("price", "popularity")  # that filters are about
SHARES = {"50%": 0.5, "1%": 0.01, "0.01%": 0.0001}
FILTERS = 64  # of a share; more than a cache of filters holds
REPEATED = 4  # of them are asked again and again
_CLOSE = 0.1  # logarithm of the share that a filter allows to the wanted one
_TOLERANCE = 1e-6  # of a cosine: products with equal texts are equally near
_PERIOD = 0.2  # seconds between two looks at the memory
_BATCH = 10_000  # products
_BLOCK = 65_536  # vectors compared at a time


def own_encoder(index: Path) -> StaticEncoder:
    """Return the encoder that the index was built with."""
    encoder = encoder_of(index)
    if encoder is None:
        raise AssertionError(f"{index} has no encoder of its own: measure the part `build` first")
    return encoder


class Range(NamedTuple):
    """A filter: at least `low` and below `high`."""

    column: str
    low: float
    high: float

    def as_json(self) -> dict[str, object]:
        """Return the filter as Tilth takes it."""
        return {self.column: {"gte": self.low, "lt": self.high}}


class Batch(NamedTuple):
    """Consecutive products: the row of the first, their texts, and the columns that filters are about."""

    first: int
    texts: list[str]
    columns: dict[str, list[float]]


@dataclass(frozen=True, slots=True)
class Workload:
    """A sample shop of a size, and the places of what is made of it."""

    folder: Path
    products: int

    @property
    def shop(self) -> Path:
        """The folder of the shop."""
        return self.folder / f"shop-{self.products}"

    @property
    def index(self) -> Path:
        """The folder of Tilth's index."""
        return self.folder / f"index-{self.products}"

    @property
    def catalogue(self) -> Path:
        """The file of the products."""
        return self.shop / "products.jsonl"

    @property
    def queries(self) -> list[str]:
        """The texts of the shop's queries."""
        return [query.text for query in read_queries(self.shop / "queries.tsv")]

    @property
    def vectors(self) -> Vectors:
        """(N, D), of each product, memory-mapped."""
        return np.load(self._vectors_of("products"), mmap_mode="r")

    @property
    def query_vectors(self) -> Vectors:
        """(Q, D), of each query."""
        return np.load(self._vectors_of("queries"))

    def _vectors_of(self, what: str) -> Path:
        return self.folder / f"vectors-{self.products}-{what}.npy"

    def write_shop(self) -> None:
        """Write the shop unless it is there."""
        if not self.catalogue.is_file():
            write_shop(self.shop, products=self.products)

    def records(self) -> Iterator[list[dict[str, Any]]]:
        """Yield the products as they stand in the catalogue, some at a time."""
        with self.catalogue.open("rb") as file:
            while records := [orjson.loads(line) for line in islice(file, _BATCH)]:
                yield records

    def batches(self) -> Iterator[Batch]:
        """Yield the products in the order of the catalogue."""
        first = 0
        for records in self.records():
            columns = {name: [_number(record, name) for record in records] for name in COLUMNS}
            yield Batch(first, [_text(record) for record in records], columns)
            first += len(records)

    def forget_vectors(self) -> None:
        """Remove the vectors, which are of an encoder that is to be trained anew."""
        for what in ("queries", "products"):
            self._vectors_of(what).unlink(missing_ok=True)

    def write_vectors(self) -> None:
        """Encode queries, and the passage that Tilth makes of each product, unless that was done."""
        if self._vectors_of("queries").is_file():
            return
        encoder = own_encoder(self.index)
        if self.has_floats:
            self._write_product_vectors(encoder)
        np.save(self._vectors_of("queries"), encoder.encode_queries(self.queries))

    @property
    def has_floats(self) -> bool:
        """Whether the float32 vectors of all products are made too: a GB and some minutes a million."""
        return self.products <= FLOATS_UP_TO

    def _write_product_vectors(self, encoder: StaticEncoder) -> None:
        cutter = PassageCutter(encoder.tokenizer, PassageSettings(passages=1), reserved=0)
        shape = (self.products, encoder.dimension)
        vectors = np.lib.format.open_memmap(self._vectors_of("products"), "w+", np.float32, shape)
        end = 0
        for records in self.records():
            cuts = cutter.cut([product_from_json(record) for record in records])
            start, end = end, end + len(records)
            vectors[start:end] = encoder.encode_passages([cut.passages[0] for cut in cuts])
        vectors.flush()

    def filters(self) -> dict[str, list[Range]]:
        """Return, for each share, filters that allow about so many of the products."""
        columns: dict[str, list[float]] = {name: [] for name in COLUMNS}
        for batch in self.batches():
            for name, values in batch.columns.items():
                columns[name] += values
        held = {name: np.sort(np.array(values)) for name, values in columns.items()}
        return {name: ranges(held, share) for name, share in SHARES.items()}


def _text(record: Mapping[str, Any]) -> str:
    attributes = (f"{name} {value}" for name, value in record.get("attributes", {}).items())
    fields = (record.get(name, "") for name in ("title", "brand", "product_type", "description"))
    return " ".join([*fields, *attributes])


def _number(record: Mapping[str, Any], name: str) -> float:
    return float(str(record[name]).split()[0])


def ranges(columns: Mapping[str, npt.NDArray[np.float64]], share: float) -> list[Range]:
    """Return `FILTERS` distinct ranges, column by column in turn, whose share is nearest to the wanted one.

    Args:
        columns: name to sorted values.
        share: of the products, above 0 and below 1.

    Returns:
        The ranges, which lie all over the values of a column as far as those allow it.
    """
    best = [_ranges_of(name, values, share, FILTERS // len(columns)) for name, values in columns.items()]
    return [each for pair in zip(*best, strict=True) for each in pair]


def _ranges_of(name: str, values: npt.NDArray[np.float64], share: float, count: int) -> list[Range]:
    width = max(1, round(share * len(values)))
    starts = np.unique(np.linspace(0, len(values) - width - 1, 40 * count).astype(int))
    found = {Range(name, float(values[start]), float(values[start + width])) for start in starts}
    found = {each for each in found if each.low < each.high}

    def error(each: Range) -> float:
        low, high = np.searchsorted(values, [each.low, each.high])
        return abs(float(np.log((high - low) / width)))

    nearest = sorted(found, key=error)
    close = [each for each in nearest if error(each) < _CLOSE]
    good = sorted(close if len(close) >= count else nearest[:count])
    return [good[place] for place in np.linspace(0, len(good) - 1, count).astype(int)]


# --- processes ------------------------------------------------------------------------------------


def in_process(
    function: Callable[..., Result],
    *arguments: object,
    cores: int | None = None,
    seconds: float | None = None,
) -> Result:
    """Call a function in a fresh process.

    Args:
        function: importable; it and its arguments and result are pickled.
        arguments: its arguments.
        cores: to so many the process is pinned, and its libraries may start one thread each; None: no limits.
        seconds: the longest that it may take.

    Returns:
        What it returns.

    Raises:
        TimeoutError: it took longer, and was killed.
        EOFError: the process died.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(sender, function, arguments))
    with _limited(cores):
        process.start()
    sender.close()
    try:
        if not receiver.poll(seconds):
            raise TimeoutError(f"{function.__qualname__} took longer than {seconds:.0f} s")
        return receiver.recv()
    finally:
        process.kill()
        process.join()


def _send(sender: Connection, function: Callable[..., object], arguments: Sequence[object]) -> None:
    sender.send(function(*arguments))


@contextmanager
def _limited(cores: int | None) -> Iterator[None]:
    """Give this thread, and thereby a process that it starts, the environment and the cores."""
    environment, all_cores = dict(os.environ), os.sched_getaffinity(0)
    os.environ.update(QUIET)
    for name, value in LIMITS.items():
        if cores is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    if cores is not None:
        os.sched_setaffinity(0, sorted(all_cores)[-cores:])
    try:
        yield
    finally:
        os.sched_setaffinity(0, all_cores)
        os.environ.clear()
        os.environ.update(environment)


def run_measured(command: Sequence[str]) -> tuple[float, Values]:
    """Run a command; return its seconds, and the most memory of it and all that it started, in GiB."""
    start = time.perf_counter()
    with subprocess.Popen(command) as process:
        ended, peak = threading.Event(), {"peak memory": 0.0, "peak memory, anonymous": 0.0}

        def watch() -> None:
            while not ended.wait(_PERIOD):
                parts = [memory(pid) for pid in _tree(process.pid)]
                for name, sizes in zip(peak, zip(*parts, strict=True), strict=False):
                    peak[name] = max(peak[name], sum(sizes))

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        code = process.wait()
        seconds = time.perf_counter() - start
        ended.set()
        watcher.join()
    if code:
        raise subprocess.CalledProcessError(code, list(command))
    return seconds, peak


def _tree(pid: int) -> list[int]:
    """Return a process and all that it started, as far as they still run."""
    found = [pid]
    for parent in found:
        for tasks in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                found += map(int, tasks.read_text().split())
            except OSError:
                continue  # it ended meanwhile
    return found


def memory(pid: int | str = "self") -> tuple[float, float]:
    """Return the resident memory of a process and what of it is no file, in GiB; zeros if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0, 0.0
    facts = dict(line.split(":", 1) for line in lines)
    sizes = (facts.get(name, "0 kB").split()[0] for name in ("VmRSS", "RssAnon"))
    resident, anonymous = (int(size) / 2**20 for size in sizes)
    return resident, anonymous


def megabytes(path: Path) -> float:
    """Return the size of a file, or of all files of a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file()) / 1e6


# --- times and recall -----------------------------------------------------------------------------


def milliseconds(function: Callable[..., object], *columns: Sequence[object]) -> npt.NDArray[np.float64]:
    """Return the time of each call; shorter columns of arguments begin again."""
    times = []
    for arguments in zip(columns[0], *map(cycle, columns[1:]), strict=False):
        start = time.perf_counter()
        function(*arguments)
        times.append((time.perf_counter() - start) * 1000)
    return np.array(times)


def percentiles(name: str, times: npt.NDArray[np.float64]) -> Values:
    """Return p50, p95 and p99 of times under names that begin with `name`."""
    points = (50, 95, 99)
    return {f"{name} p{p}": float(t) for p, t in zip(points, np.percentile(times, points), strict=True)}


def floors(vectors: npt.NDArray[Any], queries: Vectors) -> Vectors:
    """Return (Q,) the cosine of the 100th nearest of (N, D) vectors to each of (Q, D), by comparing all."""
    best = np.empty((len(queries), 0), np.float32)
    for start in range(0, len(vectors), _BLOCK):
        cosines = queries @ vectors[start : start + _BLOCK].astype(np.float32).T
        best = np.concatenate([best, cosines], axis=1)
        best = -np.partition(-best, min(RECALL_DEPTH, best.shape[1]) - 1, axis=1)[:, :RECALL_DEPTH]
    return best.min(axis=1)


def recall(
    vectors: npt.NDArray[Any],
    queries: Vectors,
    least: Vectors,
    found: Sequence[npt.ArrayLike],
) -> float:
    """Return the share of the 100 nearest that were found; of equally near ones any counts.

    Args:
        vectors: (N, D), the ones among which was searched.
        queries: (Q, D).
        least: (Q,) from `floors`.
        found: for each query, the numbers of its nearest vectors.

    Returns:
        From 0 to 1.
    """
    hits = 0
    for query, floor, numbers in zip(queries, least, found, strict=True):
        nearest = vectors[np.asarray(numbers, np.int64)[:RECALL_DEPTH]].astype(np.float32)
        hits += int(np.count_nonzero(nearest @ query >= floor - _TOLERANCE))
    return hits / (len(queries) * min(RECALL_DEPTH, len(vectors)))
