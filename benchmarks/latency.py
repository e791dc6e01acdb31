"""Time: indexing, opening and searching a real catalogue, beside other libraries on the same vectors.

    python benchmarks/latency.py [--data ../shared/data/icecat] [--index DIR] [--rounds 5] [--trade-off]

Every system has the same products, passage vectors and query encoder, a process of its own, and one core to
which that process is pinned, whatever threads its library starts. A search is one query, its encoding
included, and gives the 10 best products; the systems that fuse do so over the best 200 of each side, LanceDB
over passages. `build` is from ready vectors and passages to files; `import` and `open` are what a fresh
process needs before its first search, the encoder included, with the files in the page cache; `disk` leaves
the encoder out. Quality is over all products, from the best 100. The peers are set up as their documentation
says and fuse with equal weights, their default; nothing of them is tuned, while fields, passages and weights
of Tilth were chosen on this catalogue among others (docs/log.md). The stage `rerank` orders 200 candidates by
300 trees of 15 leaves, learned from these qrels; its parts are timed apart, and beside them a cross-encoder
that reads 20 products (its head has learned nothing, which changes no time). `--trade-off` indexes the
catalogue with 1, 2 and 3 passages a product, which takes a quarter of an hour. Writes
benchmarks/results/latency.jsonl.
"""

import os

# Before any import that starts threads; Tilth's own index is built without these limits.
LIMITS = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "RAYON_NUM_THREADS": "1",
    "TOKIO_WORKER_THREADS": "1",
    "LANCE_CPU_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
os.environ.update(LIMITS, LANCEDB_LOG="error", ANONYMIZED_TELEMETRY="False")

import argparse
import multiprocessing
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np

from record import Figure, record
from tilth.catalog import Product
from tilth.errors import InputError
from tilth.evaluation.measures import DEFAULT, judged_only, measure
from tilth.one_search import DEPTH
from tilth.pipeline import Pipeline, open_index
from tilth.qrels import read_qrels
from tilth.query import Query, read_queries
from tilth.ranking import Ranking
from tilth.reranking.cross_encoder import CrossEncoderModel
from tilth.reranking.cross_encoder_training import CrossEncoderSettings, train_cross_encoder
from tilth.reranking.features import feature_matrix
from tilth.reranking.models import Model, train
from tilth.reranking.reranker import Reranker
from tilth.reranking.settings import Settings
from tilth.retrieval.candidates import retrieve
from tilth.retrieval.column_chunks import column_chunk
from tilth.retrieval.columns import ColumnsWriter
from tilth.retrieval.dense import build_dense
from tilth.retrieval.encoder import normalise
from tilth.retrieval.fusion import Fusion, RankedPlaces, fuse_hits
from tilth.retrieval.lexical import LexicalWriter, lexical_document
from tilth.retrieval.passages import PassageSettings
from tilth.retrieval.quantisation import to_codes
from tilth.retrieval.spelling import VocabularyCounter, count_words
from tilth.run import Hit, Run, ranked
from tilth.training.pools import label_pools, training_data

Values = dict[str, float]  # by metric
Build = dict[tuple[str, str], float]  # by system and metric

MEASURES = (*DEFAULT, *judged_only(DEFAULT[:1]))
JUDGED_ONLY = str(MEASURES[-1])
UNITS = {"build": "s", "import": "s", "open": "s", "disk": "MB", "p50": "ms", "p99": "ms", "encode": "ms"}
DIGITS = {"build": 1, "import": 2, "open": 2, "disk": 0, "p50": 1, "p99": 1, "encode": 1}
SHOWN = (*UNITS, "nDCG@10", JUDGED_ONLY, "R@100", "Judged@10")
CAPTION = "build, import, open: s; disk: MB; p50, p99, encode: ms; nDCG@10*: over judged products alone"
COMPARED = ("build", "import", "open", "disk", "p50", "p99")
HITS, QUALITY_DEPTH = 10, 100  # of a timed search, and of the quality
TRADE_OFF = (1, 2, 3)  # passages a product
RERANKED, TREES = 200, Settings(num_leaves=15, fixed_rounds=300)
READ, CROSS_QUERIES = 20, 20  # products that the cross-encoder reads, and queries of a round
OPENINGS = 3  # fresh processes, of which the median counts
OPENING = """
import sys, time
folder, encoder = sys.argv[1:]
start = time.perf_counter()
{imports}
imported = time.perf_counter()
{opening}
print(imported - start, time.perf_counter() - imported)
"""


@dataclass(frozen=True, slots=True)
class Corpus:
    """What every system is given; texts and passages are what a peer's text index holds."""

    index: Path
    pipeline: Pipeline
    products: Sequence[Product]
    ids: Sequence[str]
    texts: Sequence[str]  # of each product
    passages: Sequence[str]
    rows: np.ndarray  # (N,) product of each passage
    vectors: np.ndarray  # (N, D) float32, of each passage

    @classmethod
    def open(cls, path: Path) -> "Corpus":
        """Read everything back from an index."""
        pipeline = open_index(path)
        index = pipeline.index
        with pipeline.live.store.snapshot() as snapshot:
            products = list(snapshot.products())
        passages = [passage for cut in index.cutter.cut(products) for passage in cut.passages]
        rows = np.load(index.folder / "passage_rows.npy")
        if len(passages) != len(rows):
            raise InputError(
                "was cut into other passages by another version", path=path, remedy="Build it anew"
            )
        vectors = normalise(index.legs["dense"].index.codes(np.arange(len(rows))).astype(np.float32))
        ids, texts = [product.id for product in products], [_text(product) for product in products]
        return cls(path, pipeline, products, ids, texts, passages, rows, vectors)

    @property
    def most(self) -> int:
        """The number of passages that a product has, at most."""
        return int(np.bincount(self.rows).max())

    def encode(self, text: str) -> np.ndarray:
        """Return the (D,) vector of a query."""
        return self.pipeline.index.legs["dense"].encoder.encode_queries([text])[0]

    def best_products(self, passages: Iterable[int], k: int) -> tuple[Hit, ...]:
        """Return the products of passages, best first, each at its best passage."""
        products = list(dict.fromkeys(self.ids[self.rows[passage]] for passage in passages))
        return tuple(Hit(product, -rank) for rank, product in enumerate(products[:k]))


def _text(product: Product) -> str:
    attributes = (f"{name} {value}" for name, value in product.attributes.items())
    return " ".join([product.title, product.brand, product.product_type, product.description, *attributes])


class System(Protocol):
    """A library: built once, searched often."""

    packages: tuple[str, ...]  # that must be installed
    imports: str  # source that a fresh process runs
    opening: str  # source, after the imports; it may use `folder` and `encoder`

    def build(self, corpus: Corpus, folder: Path) -> Path:
        """Build into a folder; return the one that is opened and searched."""

    def search(self, text: str, k: int) -> tuple[Hit, ...]:
        """Answer one query."""


class Tilth:
    """The default pipeline. What is timed as its build is all but reading, cutting and encoding."""

    packages = ("tilth",)
    imports = "from tilth.pipeline import open_index"
    opening = "open_index(folder)"

    def build(self, corpus: Corpus, folder: Path) -> Path:
        """Write columns, lexical and dense index aside; the index that is searched holds the same."""
        vocabulary = VocabularyCounter()
        with ColumnsWriter(folder / "columns") as columns, LexicalWriter(folder / "lexical") as lexical:
            columns.add(column_chunk(corpus.products))
            vocabulary.merge(count_words(corpus.products))
            for row, product in enumerate(corpus.products):
                lexical.add(lexical_document(row, product))
        vocabulary.write(folder / "vocabulary.txt")
        build_dense(to_codes(corpus.vectors), folder / "dense.faiss", corpus.vectors[:200])
        self._pipeline = corpus.pipeline
        return corpus.index

    def search(self, text: str, k: int) -> tuple[Hit, ...]:
        """Search for one query."""
        return self._pipeline.search([text], k)["1"]


class TilthEven(Tilth):
    """The same with both sides at equal weight, as the peers fuse."""

    def build(self, corpus: Corpus, folder: Path) -> Path:
        """Build as `Tilth`."""
        index = super().build(corpus, folder)
        self._pipeline = Pipeline(corpus.pipeline.live, Ranking(Fusion()))
        return index


class Bm25sNumpy:
    """bm25s with its stop words and English stemmer, a numpy product of all vectors, RRF."""

    packages = ("bm25s", "Stemmer")
    imports = "import bm25s, numpy, pathlib, Stemmer\nfrom tilth.retrieval.encoder import open_encoder"
    opening = (
        "bm25s.BM25.load(folder)\nnumpy.load(folder + '/vectors.npy')\nopen_encoder(pathlib.Path(encoder))"
    )

    def build(self, corpus: Corpus, folder: Path) -> Path:
        """Index the texts; the vectors stay an array."""
        import bm25s
        import Stemmer

        self._corpus, self._bm25s, self._stemmer = corpus, bm25s, Stemmer.Stemmer("english")
        self._nearest = DEPTH * corpus.most  # passages among which as many products must be
        self._index = bm25s.BM25()
        self._index.index(self._tokenize(corpus.texts), show_progress=False)
        self._index.save(str(folder))
        np.save(folder / "vectors.npy", corpus.vectors)
        return folder

    def _tokenize(self, texts: Sequence[str]) -> object:
        return self._bm25s.tokenize(list(texts), stopwords="en", stemmer=self._stemmer, show_progress=False)

    def search(self, text: str, k: int) -> tuple[Hit, ...]:
        """Retrieve on both sides and fuse."""
        corpus = self._corpus
        found, scores = self._index.retrieve(self._tokenize([text]), k=DEPTH, show_progress=False)
        pairs = zip(found[0].tolist(), scores[0].tolist(), strict=True)
        lexical = ranked({corpus.ids[row]: score for row, score in pairs if score > 0})
        cosines = corpus.vectors @ corpus.encode(text)
        nearest = np.argpartition(-cosines, self._nearest)[: self._nearest]
        nearest = nearest[np.argsort(-cosines[nearest])]
        return fuse_hits([lexical, corpus.best_products(nearest.tolist(), DEPTH)], Fusion())[:k]


class LanceExact:
    """LanceDB's hybrid search with its RRF; exact, as is advised below 100,000 rows. A row is a passage."""

    packages = ("lancedb",)
    imports = "import lancedb, pathlib\nfrom tilth.retrieval.encoder import open_encoder"
    vector_index: str | None = None
    opening = "lancedb.connect(folder).open_table('products')\nopen_encoder(pathlib.Path(encoder))"

    def build(self, corpus: Corpus, folder: Path) -> Path:
        """Write the table and its full-text index."""
        import lancedb
        import pyarrow as pa
        from lancedb.index import FTS
        from lancedb.rerankers import RRFReranker

        self._corpus, self._reranker = corpus, RRFReranker()
        count, size = corpus.vectors.shape
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(corpus.vectors.ravel()), size)
        rows = pa.table({"passage": np.arange(count), "text": list(corpus.passages), "vector": vectors})
        database = lancedb.connect(str(folder))
        table = database.create_table("products", rows)
        table.create_index("text", config=FTS())
        if self.vector_index:
            table.create_index("dot", index_type=self.vector_index)
        self._table = database.open_table("products")
        return folder

    def search(self, text: str, k: int) -> tuple[Hit, ...]:
        """Search for passages and reduce them to products."""
        query = self._table.search(query_type="hybrid").vector(self._corpus.encode(text)).text(text)
        query = query.distance_type("dot").rerank(self._reranker).limit(DEPTH).select(["passage"])
        return self._corpus.best_products(query.to_arrow()["passage"].to_pylist(), k)


class LanceHnsw(LanceExact):
    """The same over its HNSW index, which is much faster; IVF_PQ, its default index, loses quality."""

    vector_index = "IVF_HNSW_SQ"


class ChromaDense:
    """Chroma: HNSW over the vectors. On one machine its full text filters and does not rank."""

    packages = ("chromadb",)
    imports = "import chromadb, pathlib\nfrom tilth.retrieval.encoder import open_encoder"
    opening = (
        "settings = chromadb.Settings(anonymized_telemetry=False)\n"
        "client = chromadb.PersistentClient(folder, settings)\n"
        "client.get_collection('products', embedding_function=None)\n"
        "open_encoder(pathlib.Path(encoder))"
    )

    def build(self, corpus: Corpus, folder: Path) -> Path:
        """Add a record for each passage."""
        import chromadb

        self._corpus = corpus
        client = chromadb.PersistentClient(folder, chromadb.Settings(anonymized_telemetry=False))
        space = {"hnsw": {"space": "ip", "num_threads": 1}}
        self._collection = client.create_collection("products", embedding_function=None, configuration=space)
        names, step = list(map(str, range(len(corpus.rows)))), client.get_max_batch_size()
        for start in range(0, len(names), step):
            part = slice(start, start + step)
            self._collection.add(
                names[part], embeddings=corpus.vectors[part], documents=list(corpus.passages[part])
            )
        return folder

    def search(self, text: str, k: int) -> tuple[Hit, ...]:
        """Search for as many passages as hold `k` products, and reduce them to products."""
        vector, count = self._corpus.encode(text), k * self._corpus.most
        found = self._collection.query(query_embeddings=[vector], n_results=count, include=[])
        return self._corpus.best_products(map(int, found["ids"][0]), k)


SYSTEMS: dict[str, type[System]] = {
    "Tilth": Tilth,
    "Tilth 1:1": TilthEven,
    "bm25s + numpy": Bm25sNumpy,
    "LanceDB exact": LanceExact,
    "LanceDB HNSW": LanceHnsw,
    "Chroma (dense)": ChromaDense,
}


def main() -> None:
    """Measure, print and record."""
    arguments = parse_arguments()
    data, default, builds = arguments.data, PassageSettings().passages, {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if arguments.trade_off or arguments.index is None:
            counts = TRADE_OFF if arguments.trade_off else (default,)
            builds = {passages: build_tilth(data, folder / str(passages), passages) for passages in counts}
        else:
            print("the index is given: how long indexing takes is not measured")
        index = arguments.index or folder / str(default)
        names = installed(SYSTEMS if arguments.peers else ["Tilth"])
        values = measure_systems(names, index, data, folder, arguments.rounds)
        stages = measure_stages(index, data)
        reranking = measure_reranking(index, data, folder / "cross-encoder", arguments.rounds)
    show(values, stages)
    show_reranking(reranking)
    show_builds(builds)
    record("latency", figures(data.name, arguments.rounds, values, stages, reranking, builds))


def parse_arguments() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    data = Path(os.environ.get("TILTH_DATA", "../shared/data")) / "icecat"
    parser.add_argument("--data", type=Path, default=data, help="folder with products, queries and qrels")
    parser.add_argument("--index", type=Path, help="an index of these products; else one is built and timed")
    parser.add_argument("--rounds", type=int, default=5, help="how often all queries are asked")
    parser.add_argument("--peers", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--trade-off", action="store_true", help="index with 1, 2 and 3 passages a product")
    return parser.parse_args()


def installed(names: Iterable[str]) -> list[str]:
    """Return the systems whose packages are there; say so of the others."""
    found = []
    for name in names:
        missing = [package for package in SYSTEMS[name].packages if find_spec(package) is None]
        found += [] if missing else [name]
        if missing:
            print(f"{name} is left out: no package {', '.join(missing)}; `make bench` installs it")
    return found


def build_tilth(data: Path, folder: Path, passages: int) -> Build:
    """Index the catalogue as a user does, on every core; return the seconds, and the quality."""
    free = {name: value for name, value in os.environ.items() if name not in LIMITS}
    command = [sys.executable, "-m", "tilth.cli.main", "index", str(data / "products.jsonl.gz")]
    start = time.perf_counter()
    subprocess.run([*command, "--into", str(folder), "--passages", str(passages)], check=True, env=free)
    found = {("Tilth", "index"): time.perf_counter() - start}
    queries, qrels = read_queries(data / "queries.tsv"), read_qrels(data / "qrels.tsv")
    pipeline = open_index(folder)
    for name, system in {"dense": pipeline.retrievers()["dense"], "hybrid": pipeline}.items():
        quality = measure(system.search(queries, QUALITY_DEPTH), qrels, MEASURES).mean()
        found |= {(f"Tilth {name}", metric): value for metric, value in quality.items()}
    return found


def measure_systems(
    names: Sequence[str], index: Path, data: Path, folder: Path, rounds: int
) -> dict[str, Values]:
    """Measure every system in a process of its own; they take turns, so that noise is shared."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # the processes inherit it
    spawn = multiprocessing.get_context("spawn")
    with ExitStack() as stack:
        workers = {name: stack.enter_context(ProcessPoolExecutor(1, spawn)) for name in names}
        values: dict[str, Values] = {}
        for name, worker in workers.items():
            print(f"building {name}", flush=True)
            values[name] = worker.submit(Worker.start, name, index, data, folder / name).result()
        milliseconds: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
        for turn in range(rounds):
            print(f"round {turn + 1} of {rounds}", flush=True)
            for name, worker in workers.items():
                milliseconds[name] += worker.submit(Worker.ask).result()
    for name, pairs in milliseconds.items():
        searching, encoding = zip(*pairs, strict=True)
        p50, p99 = np.percentile(searching, [50, 99]).tolist()
        values[name] |= {"p50": p50, "p99": p99, "encode": float(np.median(encoding))}
    return values


class Worker:
    """What a system's process holds between calls."""

    system: ClassVar[System]
    corpus: ClassVar[Corpus]
    queries: ClassVar[Sequence[Query]]

    @classmethod
    def start(cls, name: str, index: Path, data: Path, folder: Path) -> Values:
        """Build a system, open it, and measure its 100 best products of every query, which warms up."""
        cls.system, cls.corpus = SYSTEMS[name](), Corpus.open(index)
        cls.queries = read_queries(data / "queries.tsv")
        folder.mkdir()
        start = time.perf_counter()
        folder = cls.system.build(cls.corpus, folder)
        values = {"build": time.perf_counter() - start, "disk": megabytes(folder)}
        values |= time_opening(cls.system, folder, cls.corpus)
        hits = {query.query_id: cls.system.search(query.text, QUALITY_DEPTH) for query in cls.queries}
        return values | measure(Run(name, hits), read_qrels(data / "qrels.tsv"), MEASURES).mean()

    @classmethod
    def ask(cls) -> list[tuple[float, float]]:
        """Return, for each query, the milliseconds of a search and of the encoding alone."""
        cls.system.search(cls.queries[0].text, HITS)  # the others' turns have emptied the caches
        searching = timed(lambda query: cls.system.search(query.text, HITS), cls.queries)
        encoding = timed(lambda query: cls.corpus.encode(query.text), cls.queries)
        return list(zip(searching, encoding, strict=True))


def time_opening(system: System, folder: Path, corpus: Corpus) -> Values:
    """Return the seconds that importing and opening take in a fresh process."""
    code = OPENING.format(imports=system.imports, opening=system.opening)
    encoder = corpus.pipeline.index.folder / "dense" / "encoder"
    command = [sys.executable, "-c", code, str(folder), str(encoder)]
    runs = [subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True) for _ in range(OPENINGS)]
    seconds = np.median([[float(number) for number in run.stdout.split()] for run in runs], axis=0)
    return dict(zip(("import", "open"), seconds.tolist(), strict=True))


def timed(function: Callable[[Query], object], queries: Sequence[Query]) -> list[float]:
    """Return the milliseconds that a function takes for each query."""
    ends = [time.perf_counter()]
    for query in queries:
        function(query)
        ends.append(time.perf_counter())
    return (np.diff(ends) * 1000).tolist()


def measure_stages(index: Path, data: Path) -> Values:
    """Return the median milliseconds of each stage of Tilth's explained answers."""
    pipeline = open_index(index)
    texts = [query.text for query in read_queries(data / "queries.tsv")]
    answers = [pipeline.answer(text).milliseconds for text in texts * 2][len(texts) :]
    names = dict.fromkeys(name for answer in answers for name in answer)
    return {name: float(np.median([answer.get(name, 0.0) for answer in answers])) for name in names}


def measure_reranking(index: Path, data: Path, folder: Path, rounds: int) -> dict[str, Values]:
    """Return p50 and p99 of reranking, of its parts, and of a cross-encoder; on the core of the process."""
    pipeline, queries = open_index(index), read_queries(data / "queries.tsv")
    model = train_trees(pipeline, queries, data)
    cross = random_cross_encoder(folder)
    view, fusion, reranker = pipeline.live.view, pipeline.ranking.fusion, Reranker(model, RERANKED)
    milliseconds: dict[str, list[float]] = {}

    def time_stage(name: str, function: Callable[[], object]) -> object:
        start = time.perf_counter()
        result = function()
        milliseconds.setdefault(name, []).append((time.perf_counter() - start) * 1000)
        return result

    for turn in range(rounds + 1):
        if turn == 1:
            milliseconds.clear()  # the first round warms up
        for number, query in enumerate(queries):
            text = view.speller.correct(query.text)
            found = retrieve(view, text, RERANKED)
            fused = found.fused(fusion)
            top = RankedPlaces(fused.places[:RERANKED], fused.scores[:RERANKED])
            if not len(top.places):
                continue
            time_stage("rerank", partial(reranker.rerank, view, text, found, fused))
            features = time_stage("features", partial(feature_matrix, view, text, found, top))
            time_stage("model", partial(model.predict, features))
            if number < CROSS_QUERIES:
                products = pipeline.live.store.products([found.ids[n] for n in top.places[:READ].tolist()])
                texts = [_text(product) for product in products.values()]
                time_stage("cross-encoder", partial(cross.scores, text, texts))
    return {name: percentiles(times) for name, times in milliseconds.items()}


def train_trees(pipeline: Pipeline, queries: Sequence[Query], data: Path) -> Model:
    """Train a model of all judged queries; how well it orders them says nothing here."""
    pools = label_pools(pipeline, queries, read_qrels(data / "qrels.tsv"), RERANKED)
    return train("lambdarank", training_data(pools), seed=0, settings=TREES, threads=1)


def random_cross_encoder(folder: Path) -> CrossEncoderModel:
    """Return the packaged encoder as a cross-encoder, its new head but one step from random."""
    settings = CrossEncoderSettings(epochs=1, queries=1, list_size=2)
    pairs, grades = [("manure", "Cow manure 20 kg"), ("manure", "Laptop 15 inch")], np.array([1, 0])
    train_cross_encoder(pairs, grades, np.array([2]), folder, settings=settings)
    return CrossEncoderModel.open(folder)


def percentiles(milliseconds: Sequence[float]) -> Values:
    """Return p50 and p99."""
    p50, p99 = np.percentile(milliseconds, [50, 99]).tolist()
    return {"p50": p50, "p99": p99}


def megabytes(folder: Path) -> float:
    """Return the size of all files of a folder but the encoder's."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.parent.name != "encoder")
    return sum(path.stat().st_size for path in files) / 1e6


def show(values: dict[str, Values], stages: Values) -> None:
    """Print the systems, their ratios to Tilth, and where Tilth's time goes."""
    rows = {name: [f"{found[m]:.{DIGITS.get(m, 3)}f}" for m in SHOWN] for name, found in values.items()}
    print_table("", [metric.replace(JUDGED_ONLY, "nDCG@10*") for metric in SHOWN], rows)
    print(CAPTION)
    rows = {
        name: [f"{found[metric]:.2f}" for metric in COMPARED]
        for name, found in ratios_to_tilth(values).items()
    }
    print_table("times Tilth's", COMPARED, rows)
    print("\nTilth's stages, p50 ms: " + ", ".join(f"{name} {value:.2f}" for name, value in stages.items()))


def show_reranking(reranking: dict[str, Values]) -> None:
    """Print the milliseconds of the stage that orders candidates anew."""
    rows = {name: [f"{found[m]:.2f}" for m in ("p50", "p99")] for name, found in reranking.items()}
    print_table(f"reranking {RERANKED}, cross-encoder {READ}", ["p50", "p99"], rows)


def show_builds(builds: dict[int, Build]) -> None:
    """Print the seconds of indexing and the quality by passages a product."""
    keys = [("Tilth", "index")]
    keys += [(f"Tilth {side}", metric) for side in ("dense", "hybrid") for metric in ("nDCG@10", "R@100")]
    rows = {str(passages): [f"{build[key]:.3f}" for key in keys] for passages, build in builds.items()}
    print_table("passages", [" ".join(key).removeprefix("Tilth ") for key in keys], rows)


def print_table(corner: str, header: Iterable[str], rows: dict[str, list[str]]) -> None:
    """Print a table whose columns are as wide as they must be."""
    if rows:
        lines = [[corner, *header], *([name, *cells] for name, cells in rows.items())]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        print()
        for name, *cells in lines:
            padded = (f"{cell:>{width}}" for cell, width in zip(cells, widths[1:], strict=True))
            print("  ".join([f"{name:{widths[0]}}", *padded]))


def ratios_to_tilth(values: dict[str, Values]) -> dict[str, Values]:
    """Return what each peer needs, in multiples of what Tilth needs."""
    base = values["Tilth"]
    peers = {name: found for name, found in values.items() if name != "Tilth"}
    return {
        name: {metric: found[metric] / base[metric] for metric in COMPARED} for name, found in peers.items()
    }


def figures(
    dataset: str,
    rounds: int,
    values: dict[str, Values],
    stages: Values,
    reranking: dict[str, Values],
    builds: dict[int, Build],
) -> list[Figure]:
    """Return one figure a system and metric; ratios are to Tilth."""
    alone, units = {"threads": 1, "rounds": rounds}, {**UNITS, "index": "s"}
    rows = [
        (name, metric, value, units.get(metric, ""), alone)
        for name, found in values.items()
        for metric, value in found.items()
    ]
    rows += [
        (name, f"{metric} ratio", value, "times Tilth", alone)
        for name, found in ratios_to_tilth(values).items()
        for metric, value in found.items()
    ]
    rows += [("Tilth", f"stage {name} p50", value, "ms", alone) for name, value in stages.items()]
    rows += [
        ("Tilth", f"{stage} {metric}", value, "ms", alone | {"candidates": candidates_of(stage)})
        for stage, found in reranking.items()
        for metric, value in found.items()
    ]
    rows += [
        (system, metric, value, units.get(metric, ""), {"passages": passages})
        for passages, build in builds.items()
        for (system, metric), value in build.items()
    ]
    return [
        {"dataset": dataset, "system": system, "metric": metric, "value": value, "unit": unit, **more}
        for system, metric, value, unit, more in rows
    ]


def candidates_of(stage: str) -> int:
    """Return how many products a stage of reranking orders."""
    return READ if stage == "cross-encoder" else RERANKED


if __name__ == "__main__":
    main()
