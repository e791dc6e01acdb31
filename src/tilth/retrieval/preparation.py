"""What is made of products before anything is written: columns, terms, passages; in processes, if asked.

The order of the records is kept, and at most a few chunks are in memory at any time.
"""

import multiprocessing
import os
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b
from itertools import count, islice
from typing import NamedTuple

import numpy as np
import orjson

from tilth.catalog import VOLATILE_FIELDS, Product, product_from_json, product_to_json
from tilth.retrieval.column_chunks import ColumnChunk, column_chunk
from tilth.retrieval.lexical import LexicalDocument, LexicalSettings, lexical_document
from tilth.retrieval.passages import Cut, PassageCutter
from tilth.retrieval.spelling import count_words
from tilth.retrieval.vectors import Hashes

CHUNK = 2_048  # products that are prepared, and whose passages are encoded, together
_AHEAD = 2  # chunks waiting for each worker
_POOL_FROM = 2 * CHUNK  # products; fewer are prepared sooner than processes start


class Prepared(NamedTuple):
    """One chunk of products, in row order, as the writers take it."""

    titles: list[str]
    columns: ColumnChunk
    documents: list[LexicalDocument]
    words: Counter[str]
    steady: Hashes
    cuts: list[Cut]


@dataclass(frozen=True, slots=True)
class Preparation:
    """How chunks are prepared: all of it follows from the product and these settings."""

    cutter: PassageCutter
    lexical: LexicalSettings

    def of(self, first_row: int, products: Sequence[Product]) -> Prepared:
        """Prepare products that will have the rows from `first_row` on."""
        return Prepared(
            [product.title for product in products],
            column_chunk(products),
            [
                lexical_document(row, product, self.lexical)
                for row, product in enumerate(products, start=first_row)
            ],
            count_words(products),
            steady_hashes(products),
            self.cutter.cut(products),
        )

    def of_records(self, first_row: int, records: Sequence[bytes]) -> Prepared:
        """Prepare products as the store holds them."""
        return self.of(first_row, [product_from_json(orjson.loads(record)) for record in records])


def steady_hashes(products: Iterable[Product]) -> Hashes:
    """Return 64 bits of BLAKE2b of each product without its price, availability and popularity.

    Where they are equal, a changed product needs new values in its row, and neither new terms nor vectors.
    """
    digests = [blake2b(_steady_part(product), digest_size=8).digest() for product in products]
    return np.frombuffer(b"".join(digests), np.uint64)


def _steady_part(product: Product) -> bytes:
    record = product_to_json(product)
    for name in VOLATILE_FIELDS:
        record.pop(name, None)
    return orjson.dumps(record, option=orjson.OPT_SORT_KEYS)


def prepare(
    records: Iterator[tuple[str, bytes]], total: int, preparation: Preparation, workers: int
) -> Iterator[Prepared]:
    """Prepare records chunk by chunk, in their order.

    Args:
        records: ids and products as the store holds them, in row order.
        total: how many there are.
        preparation: how.
        workers: processes; below two, or with few records, the work is done in this one.

    Yields:
        The chunks, of `CHUNK` products but for the last.
    """
    chunks = zip(
        count(0, CHUNK), iter(lambda: [record for _, record in islice(records, CHUNK)], []), strict=False
    )
    if workers < 2 or total < _POOL_FROM:
        for first_row, chunk in chunks:
            yield preparation.of_records(first_row, chunk)
        return
    context = multiprocessing.get_context("spawn")  # a fork would copy threads that hold locks
    with ProcessPoolExecutor(workers, context, _start, (preparation,)) as pool:
        waiting: deque[Future[Prepared]] = deque()
        try:
            for first_row, chunk in chunks:
                waiting.append(pool.submit(_work, first_row, chunk))
                if len(waiting) > workers * _AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


_preparation: Preparation  # of a worker process


def _start(preparation: Preparation) -> None:
    """Set up a worker: it does one thing at a time, on one core."""
    global _preparation
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    _preparation = preparation


def _work(first_row: int, records: Sequence[bytes]) -> Prepared:
    return _preparation.of_records(first_row, records)
