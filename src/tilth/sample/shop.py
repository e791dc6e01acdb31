"""Writing a sample shop: products, queries and qrels, streamed in one pass."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import IO

import orjson

from tilth.errors import SettingError
from tilth.files import replacing
from tilth.sample.grading import Grader, Pool
from tilth.sample.needs import draw_needs
from tilth.sample.products import SampleProduct, draw_chunk, sample_products
from tilth.sample.vocabulary import Vocabulary, read_vocabulary

MOST_PRODUCTS = 5_000_000
LANGUAGE_CHOICES = {"en": ("en",), "ru": ("ru",), "both": ("en", "ru")}


@dataclass(frozen=True, slots=True)
class ShopSummary:
    """What was written; `capped` are the queries with more relevant products than the qrels record."""

    products: int
    queries: int
    judgments: int
    capped: tuple[str, ...]


def write_shop(
    into: Path,
    *,
    products: int,
    language: str = "en",
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> ShopSummary:
    """Write a garden-supplies shop: `products.jsonl`, `queries.tsv` and `qrels.tsv`.

    The same arguments give the same bytes, and a larger shop begins with the products of a smaller one of
    the same language. The three files appear together when all is written; an error or Ctrl-C leaves
    nothing behind. Memory does not grow with the number of products.

    Args:
        into: the folder, made if need be; files of these names in it are replaced.
        products: how many, 1 to 5,000,000; from 1,000 on every query kind has its full variety.
        language: `en`, `ru`, or `both` for half of each.
        seed: the seed of everything random.
        progress: called now and then with the number of products written so far.

    Returns:
        The counts.

    Raises:
        SettingError: the number of products or the language is out of range.
    """
    vocabularies = _vocabularies(language)
    if not 1 <= products <= MOST_PRODUCTS:
        raise SettingError(f"a sample shop has 1 to {MOST_PRODUCTS:,} products, not {products:,}")
    shelves = [_shelf(words, count, seed) for words, count in _shares(products, vocabularies)]
    pools = [pool for shelf in shelves for pool in shelf.grader.pools]
    with ExitStack() as files:
        catalogue, queries, qrels = (
            files.enter_context(replacing(into / name))
            for name in ("products.jsonl", "queries.tsv", "qrels.tsv")
        )
        done = 0
        for shelf, chunk in _chunks(shelves, seed):
            _write_chunk(catalogue, chunk, shelf.grader)
            done += len(chunk)
            if progress:
                progress(done)
        _write_queries(queries, pools)
        judgments = _write_judgments(qrels, pools)
    capped = tuple(pool.need.query_id for pool in pools if pool.capped)
    return ShopSummary(products, len(pools), judgments, capped)


@dataclass(frozen=True, slots=True)
class Shelf:
    """The part of the shop in one language; its queries are graded on its products alone."""

    vocabulary: Vocabulary
    products: int
    grader: Grader


def _vocabularies(language: str) -> list[Vocabulary]:
    if language not in LANGUAGE_CHOICES:
        raise SettingError(f"the language of a sample shop is en, ru or both, not {language!r}")
    return [read_vocabulary(name) for name in LANGUAGE_CHOICES[language]]


def _shares(products: int, vocabularies: list[Vocabulary]) -> Iterator[tuple[Vocabulary, int]]:
    """Split the products evenly; the first language gets the odd one."""
    count = len(vocabularies)
    for n, vocabulary in enumerate(vocabularies):
        yield vocabulary, (products + count - 1 - n) // count


def _shelf(vocabulary: Vocabulary, products: int, seed: int) -> Shelf:
    head = draw_chunk(vocabulary, seed, 0)[:products]
    return Shelf(vocabulary, products, Grader(draw_needs(vocabulary, seed, head)))


def _chunks(shelves: list[Shelf], seed: int) -> Iterator[tuple[Shelf, list[SampleProduct]]]:
    """Yield chunks from each shelf in turn."""
    streams = [sample_products(shelf.vocabulary, seed, shelf.products) for shelf in shelves]
    for chunks in zip_longest(*streams, fillvalue=()):
        yield from ((shelf, list(chunk)) for shelf, chunk in zip(shelves, chunks, strict=True) if chunk)


def _write_chunk(file: IO[bytes], chunk: list[SampleProduct], grader: Grader) -> None:
    for product in chunk:
        file.write(orjson.dumps(product.record, option=orjson.OPT_APPEND_NEWLINE))
        grader.grade(product)


def _write_queries(file: IO[bytes], pools: Iterable[Pool]) -> None:
    file.write(b"query_id\tquery\tkind\n")
    for need in (pool.need for pool in pools):
        file.write(f"{need.query_id}\t{need.text}\t{need.kind}\n".encode())


def _write_judgments(file: IO[bytes], pools: Iterable[Pool]) -> int:
    file.write(b"query_id\tproduct_id\tgrade\n")
    count = 0
    for pool in pools:
        for product_id, grade in pool.rows():
            count += 1
            file.write(f"{pool.need.query_id}\t{product_id}\t{grade}\n".encode())
    return count
