"""What is made of products before anything is written: columns, terms, passages; in processes, if asked.

The order of the records is kept, and at most a few chunks are in memory at any time.
"""

import multiprocessing
import os
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b
from itertools import count, islice
from typing import NamedTuple, Self

import numpy as np
import orjson

from tilth.catalog import VOLATILE_FIELDS, Product, product_from_json, product_to_json
from tilth.retrieval.column_chunks import ColumnChunk, column_chunk
from tilth.retrieval.encoder import StaticEncoder
from tilth.retrieval.lexical import LexicalDocument, LexicalSettings, lexical_document
from tilth.retrieval.passages import Cut, PassageCutter
from tilth.retrieval.quantisation import Codes
from tilth.retrieval.spelling import count_words
from tilth.retrieval.term_rows import TermChunk, term_chunk
from tilth.retrieval.vectors import Hashes, encode_texts

CHUNK = 2_048  # products that are prepared, and whose passages are encoded, together
_AHEAD = 2  # chunks waiting for each worker

PortableEncoder = StaticEncoder  # no network and no threads: a table and a tokenizer


class Prepared(NamedTuple):
    """One chunk of products, in row order, as the writers take it."""

    titles: list[str]
    columns: ColumnChunk
    documents: list[LexicalDocument]
    terms: TermChunk
    words: Counter[str]
    steady: Hashes
    cuts: list[Cut]

    def passages(self) -> list[str]:
        """Return the passages of all products."""
        return [passage for cut in self.cuts for passage in cut.passages]


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
            term_chunk(products),
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


class Encoded(NamedTuple):
    """The codes of texts, and the seconds that a processor worked on them."""

    codes: Codes
    seconds: float


class Workers:
    """Prepares chunks ahead of those that write them, in processes of their own or in this one.

    Encoders that need nothing but their own arrays encode there too.
    """

    def __init__(
        self, preparation: Preparation, encoders: Mapping[str, PortableEncoder], processes: int
    ) -> None:
        """Start.

        Args:
            preparation: how.
            encoders: those that can be sent to other processes, by the name of their leg.
            processes: below two, all is done in this one.
        """
        self._preparation, self._encoders, self.processes = preparation, encoders, processes
        self._pool: ProcessPoolExecutor | None = None
        if processes > 1:
            context = multiprocessing.get_context("spawn")  # a fork would copy threads that hold locks
            self._pool = ProcessPoolExecutor(processes, context, _start, (preparation, encoders))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def prepare(self, records: Iterator[tuple[str, bytes]]) -> Iterator[Prepared]:
        """Prepare records chunk by chunk, in their order.

        Args:
            records: ids and products as the store holds them, in row order.

        Yields:
            The chunks, of `CHUNK` products but for the last.
        """
        chunks = zip(count(0, CHUNK), iter(lambda: [record for _, record in islice(records, CHUNK)], []))
        if self._pool is None:
            for first_row, chunk in chunks:
                yield self._preparation.of_records(first_row, chunk)
            return
        waiting: deque[Future[Prepared]] = deque()
        for first_row, chunk in chunks:
            waiting.append(self._pool.submit(_prepare, first_row, chunk))
            if len(waiting) > self.processes * _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def encode(self, leg: str, texts: Sequence[str]) -> Future[Encoded] | None:
        """Begin to encode texts in another process; None where the encoder of a leg has to do it here."""
        if self._pool is None or leg not in self._encoders or not texts:
            return None
        return self._pool.submit(_encode, leg, texts)


_preparation: Preparation  # of a worker process
_encoders: Mapping[str, PortableEncoder]


def _start(preparation: Preparation, encoders: Mapping[str, PortableEncoder]) -> None:
    """Set up a worker: it does one thing at a time, on one core."""
    global _preparation, _encoders
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    _preparation, _encoders = preparation, encoders


def _end_with_parent() -> None:
    """End when the process that started this one does: where it is killed, nobody else would end it."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _prepare(first_row: int, records: Sequence[bytes]) -> Prepared:
    return _preparation.of_records(first_row, records)


def _encode(leg: str, texts: Sequence[str]) -> Encoded:
    start, encoder = time.process_time(), _encoders[leg]
    codes = encode_texts(texts, encoder.encode_passages, encoder.dimension, lambda _: None)
    return Encoded(codes, time.process_time() - start)
