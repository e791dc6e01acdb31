"""Other libraries on the same products and vectors as scale.py, each set up as its documentation says.

LanceDB: its own full-text index, IVF_PQ or IVF_HNSW_SQ, B-trees for the filtered columns, RRF. Qdrant Edge:
its own BM25 as sparse vectors, HNSW over int8 vectors, indexes of the filtered columns, RRF. Chroma on one
machine: HNSW alone, since its full text filters and does not rank. Hybrid searches fuse the best 200 of each
side and give 100. How thoroughly the vectors are searched is the first step of a ladder at which 0.95 of the
exact 100 nearest are found, or its last; it is chosen on the queries that are timed.
"""

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol, TypeVar

from scale_workload import (
    COLUMNS,
    Batch,
    Range,
    Values,
    Vectors,
    Workload,
    floors,
    in_process,
    megabytes,
    memory,
    milliseconds,
    percentiles,
    recall,
)

if TYPE_CHECKING:
    import pyarrow as pa
    import qdrant_edge as qdrant
    from chromadb.api import ClientAPI
    from lancedb.index import HnswSq, IvfPq
    from lancedb.query import LanceQueryBuilder

HITS, DEPTH = 100, 200  # of a search, and of each side before they are fused
RECALL = 0.95
WARM_UP = 500  # queries before the memory is read
FILTERED = "1%"

Query = TypeVar("Query", bound="LanceQueryBuilder")
Effort = tuple[int, int]  # a step of a ladder; what it means differs


class Peer(Protocol):
    """A library, opened in a folder in which it was built; found are the rows of products."""

    package: ClassVar[str]
    ladder: ClassVar[Sequence[Effort]]  # from the least to the most thorough
    effort_names: ClassVar[tuple[str, str]]

    @classmethod
    def build(cls, workload: Workload, folder: Path) -> None:
        """Write everything that is searched."""

    def __init__(self, folder: Path) -> None: ...

    def set_effort(self, effort: Effort) -> None:
        """Search with that effort from now on."""

    def nearest(self, vector: Vectors) -> list[int]:
        """Return the 100 nearest."""

    def search(self, text: str, vector: Vectors, filter_: Range | None = None) -> list[int]:
        """Return the best 100."""


class Lance:
    """LanceDB's hybrid search over IVF_PQ; the effort is the partitions probed and the refine factor."""

    package = "lancedb"
    ladder: ClassVar[Sequence[Effort]] = (
        (20, 5), (20, 10), (20, 20), (40, 20), (40, 30), (80, 30), (80, 50), (160, 50), (320, 50),
    )  # fmt: skip
    effort_names = ("nprobes", "refine_factor")

    @classmethod
    def build(cls, workload: Workload, folder: Path) -> None:
        """Write the table, then all indexes."""
        import lancedb
        from lancedb.index import FTS, BTree

        batches = cls._record_batches(workload)
        table = lancedb.connect(folder).create_table("products", batches, schema=cls._schema(workload))
        table.create_index("text", config=FTS())
        table.create_index("vector", config=cls._vector_index(workload.vectors.shape[1]))
        for name in COLUMNS:
            table.create_index(name, config=BTree())
        table.optimize()

    @staticmethod
    def _vector_index(dimension: int) -> "IvfPq | HnswSq":
        from lancedb.index import IvfPq

        return IvfPq(distance_type="dot", num_sub_vectors=dimension // 8)  # half as coarse as by default

    @staticmethod
    def _schema(workload: Workload) -> "pa.Schema":
        import pyarrow as pa

        vector = pa.list_(pa.float32(), workload.vectors.shape[1])
        columns = [(name, pa.float64()) for name in COLUMNS]
        return pa.schema([("row", pa.int64()), ("text", pa.string()), ("vector", vector), *columns])

    @classmethod
    def _record_batches(cls, workload: Workload) -> Iterator["pa.RecordBatch"]:
        import pyarrow as pa

        schema, vectors = cls._schema(workload), workload.vectors
        for batch in workload.batches():
            end = batch.first + len(batch.texts)
            flat = pa.array(vectors[batch.first : end].ravel())
            arrays = [
                pa.array(range(batch.first, end)),
                pa.array(batch.texts),
                pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1]),
                *(pa.array(batch.columns[name]) for name in COLUMNS),
            ]
            yield pa.record_batch(arrays, schema=schema)

    def __init__(self, folder: Path) -> None:
        import lancedb
        from lancedb.rerankers import RRFReranker

        self._table = lancedb.connect(folder).open_table("products")
        self._reranker = RRFReranker()

    def set_effort(self, effort: Effort) -> None:
        """Set the effort."""
        self._effort = effort

    def _tuned(self, query: Query) -> Query:
        probes, refine = self._effort
        return query.distance_type("dot").nprobes(probes).refine_factor(refine)

    def nearest(self, vector: Vectors) -> list[int]:
        """Search the vectors."""
        found = self._tuned(self._table.search(vector)).limit(HITS).select(["row", "_distance"])
        return found.to_arrow()["row"].to_pylist()

    def search(self, text: str, vector: Vectors, filter_: Range | None = None) -> list[int]:
        """Search both sides, filtering before."""
        query = self._tuned(self._table.search(query_type="hybrid").vector(vector).text(text))
        if filter_:
            name, low, high = filter_
            query = query.where(f"{name} >= {low} AND {name} < {high}", prefilter=True)
        found = query.rerank(self._reranker).limit(DEPTH).select(["row"]).to_arrow()
        return found["row"].to_pylist()[:HITS]


class LanceHnsw(Lance):
    """The same over IVF_HNSW_SQ, which it advises for high recall; the effort is ef and the refine factor."""

    ladder = ((200, 1), (200, 2), (400, 2), (800, 2), (1600, 4))
    effort_names = ("ef", "refine_factor")

    @staticmethod
    def _vector_index(dimension: int) -> "IvfPq | HnswSq":  # noqa: ARG004
        from lancedb.index import HnswSq

        return HnswSq(distance_type="dot")

    def _tuned(self, query: Query) -> Query:
        ef, refine = self._effort
        return query.distance_type("dot").ef(ef).refine_factor(refine)


class Qdrant:
    """Qdrant Edge, which has BM25 and fusion of its own; the effort is ef and the oversampling."""

    package = "qdrant_edge"
    ladder = ((128, 1), (128, 2), (256, 2), (512, 2), (1024, 4))
    effort_names = ("hnsw_ef", "oversampling")
    step: ClassVar[int] = 1_000  # points in an update

    @classmethod
    def build(cls, workload: Workload, folder: Path) -> None:
        """Write the points, then let the optimiser build the graph."""
        import qdrant_edge as qdrant

        shard = qdrant.EdgeShard.create(str(folder), cls._config(workload.vectors.shape[1]))
        for name in COLUMNS:
            shard.update(qdrant.UpdateOperation.create_field_index(name, qdrant.PayloadSchemaType.Float))
        bm25, vectors = cls._bm25(), workload.vectors
        for batch in workload.batches():
            points = cls._points(batch, vectors, bm25)
            while some := list(islice(points, cls.step)):
                shard.update(qdrant.UpdateOperation.upsert_points(some))
        shard.optimize()
        shard.flush()
        shard.close()

    @staticmethod
    def _config(dimension: int) -> "qdrant.EdgeConfig":
        import qdrant_edge as qdrant

        return qdrant.EdgeConfig(
            vectors={"dense": qdrant.EdgeVectorParams(dimension, qdrant.Distance.Dot)},
            sparse_vectors={"text": qdrant.EdgeSparseVectorParams(modifier=qdrant.Modifier.Idf)},
            quantization_config=qdrant.ScalarQuantizationConfig(
                qdrant.ScalarType.Int8, quantile=0.99, memory=qdrant.Memory.Pinned
            ),
            hnsw_config=qdrant.HnswIndexConfig(m=16, ef_construct=100, full_scan_threshold=10_000),
        )

    @staticmethod
    def _bm25() -> "qdrant.Bm25":
        import qdrant_edge as qdrant

        return qdrant.Bm25(qdrant.Bm25Config(language="english"))

    @staticmethod
    def _points(batch: Batch, vectors: Vectors, bm25: "qdrant.Bm25") -> Iterator["qdrant.Point"]:
        import qdrant_edge as qdrant

        for place, text in enumerate(batch.texts):
            row = batch.first + place
            vector = {"dense": vectors[row].tolist(), "text": bm25.embed_document(text)}
            yield qdrant.Point(row, vector, {name: batch.columns[name][place] for name in COLUMNS})

    def __init__(self, folder: Path) -> None:
        import qdrant_edge as qdrant

        self._qdrant, self._model = qdrant, self._bm25()
        self._shard = qdrant.EdgeShard.load(str(folder))

    def set_effort(self, effort: Effort) -> None:
        """Set ef and oversampling; the int8 nearest are always scored again."""
        ef, oversampling = effort
        again = self._qdrant.QuantizationSearchParams(rescore=True, oversampling=float(oversampling))
        self._params = self._qdrant.SearchParams(hnsw_ef=ef, quantization=again)

    def nearest(self, vector: Vectors) -> list[int]:
        """Search the vectors."""
        query = self._qdrant.Query.Nearest(vector.tolist(), using="dense")
        return self._ask(self._qdrant.QueryRequest(limit=HITS, query=query, params=self._params))

    def search(self, text: str, vector: Vectors, filter_: Range | None = None) -> list[int]:
        """Search both sides, filtering each, and fuse."""
        qdrant, condition = self._qdrant, self._filter(filter_)
        dense = qdrant.Query.Nearest(vector.tolist(), using="dense")
        sparse = qdrant.Query.Nearest(self._model.embed_query(text), using="text")
        sides = [
            qdrant.Prefetch(limit=DEPTH, query=sparse, filter=condition),
            qdrant.Prefetch(limit=DEPTH, query=dense, filter=condition, params=self._params),
        ]
        fusion = qdrant.Fusion.Rrf(k=60)
        return self._ask(qdrant.QueryRequest(limit=HITS, prefetches=sides, query=fusion))

    def _filter(self, filter_: Range | None) -> "qdrant.Filter | None":
        if filter_ is None:
            return None
        between = self._qdrant.RangeFloat(gte=filter_.low, lt=filter_.high)
        return self._qdrant.Filter(must=[self._qdrant.FieldCondition(filter_.column, range=between)])

    def _ask(self, request: "qdrant.QueryRequest") -> list[int]:
        return [point.id for point in self._shard.query(request)]


class Chroma:
    """Chroma; the effort is ef, and its second number means nothing."""

    package = "chromadb"
    ladder = ((100, 0), (200, 0), (400, 0), (800, 0), (1600, 0), (3200, 0))
    effort_names = ("ef_search", "")

    @classmethod
    def build(cls, workload: Workload, folder: Path) -> None:
        """Add all vectors with their columns."""
        client = cls._client(folder)
        space = {"hnsw": {"space": "ip", "num_threads": os.cpu_count()}}
        collection = client.create_collection("products", embedding_function=None, configuration=space)
        vectors, step = workload.vectors, client.get_max_batch_size()
        for batch in workload.batches():
            values = zip(*(batch.columns[name] for name in COLUMNS), strict=True)
            columns = [dict(zip(COLUMNS, each, strict=True)) for each in values]
            for start in range(0, len(columns), step):
                some = columns[start : start + step]
                rows = range(batch.first + start, batch.first + start + len(some))
                part = vectors[rows.start : rows.stop]
                collection.add(list(map(str, rows)), embeddings=part, metadatas=some)

    @staticmethod
    def _client(folder: Path) -> "ClientAPI":
        import chromadb

        return chromadb.PersistentClient(str(folder), chromadb.Settings(anonymized_telemetry=False))

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._reopen()

    def _reopen(self) -> None:
        self._opened = self._client(self._folder)
        self._collection = self._opened.get_collection("products", embedding_function=None)

    def set_effort(self, effort: Effort) -> None:
        """Set ef, which is stored with the collection and read when the graph is loaded."""
        self._collection.modify(configuration={"hnsw": {"ef_search": effort[0]}})
        self._opened.close()
        self._reopen()

    def nearest(self, vector: Vectors) -> list[int]:
        """Search the vectors."""
        return self.search("", vector)

    def search(self, text: str, vector: Vectors, filter_: Range | None = None) -> list[int]:  # noqa: ARG002
        """Search the vectors, filtering before; the text has no say."""
        where = None
        if filter_:
            name, low, high = filter_
            where = {"$and": [{name: {"$gte": low}}, {name: {"$lt": high}}]}
        found = self._collection.query(query_embeddings=[vector], n_results=HITS, where=where, include=[])
        return list(map(int, found["ids"][0]))


PEERS: dict[str, type[Peer]] = {
    "LanceDB": Lance,
    "LanceDB HNSW": LanceHnsw,
    "Qdrant Edge": Qdrant,
    "Chroma (dense)": Chroma,
}


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured of a peer, and the effort with which."""

    values: Values
    effort: dict[str, int]


def measure_peer(name: str, workload: Workload, folder: Path, rounds: int, seconds: float) -> Measured:
    """Build and search a peer, each in a process of its own.

    Args:
        name: of `PEERS`.
        workload: products, vectors and queries.
        folder: empty.
        rounds: how often all queries are asked.
        seconds: the longest that building, and then searching, may take.

    Returns:
        Its figures.

    Raises:
        TimeoutError: it took longer.
        EOFError: its process died.
    """
    values = in_process(_build, name, workload, folder, seconds=seconds)
    effort, values["recall@100"] = in_process(_tune, name, workload, folder, seconds=seconds)
    values |= in_process(_search, name, workload, folder, effort, rounds, cores=1, seconds=seconds)
    named = zip(PEERS[name].effort_names, effort, strict=True)
    return Measured(values, {name: number for name, number in named if name})


def _build(name: str, workload: Workload, folder: Path) -> Values:
    start = time.perf_counter()
    PEERS[name].build(workload, folder)
    return {"build": time.perf_counter() - start, "disk": megabytes(folder)}


def _tune(name: str, workload: Workload, folder: Path) -> tuple[Effort, float]:
    """Return the least effort that finds enough of the exact nearest, or else the most; and what it finds."""
    peer, vectors, queries = PEERS[name](folder), workload.vectors, workload.query_vectors
    least = floors(vectors, queries)
    for effort in peer.ladder:
        peer.set_effort(effort)
        reached = recall(vectors, queries, least, [peer.nearest(query) for query in queries])
        if reached >= RECALL:
            break
    return effort, reached


def _search(name: str, workload: Workload, folder: Path, effort: Effort, rounds: int) -> Values:
    texts, vectors, filters = workload.queries, list(workload.query_vectors), workload.filters()[FILTERED]
    start = time.perf_counter()
    peer = PEERS[name](folder)
    values = {"open": time.perf_counter() - start}
    peer.set_effort(effort)
    milliseconds(peer.search, (texts * WARM_UP)[:WARM_UP], vectors)
    values["resident memory"], values["resident memory, anonymous"] = memory()
    values |= percentiles("hybrid", milliseconds(peer.search, texts * rounds, vectors))
    times = milliseconds(peer.search, texts * rounds, vectors, filters)
    return values | percentiles(f"filtered {FILTERED} first", times)
