"""Hard negatives: products near a query, by BM25 or by the student itself, that are not what it asks for.

A product that has every token of a pseudo-query answers it as well as the product that the query was made
of, and one of the same family may; neither is a negative.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from random import Random

import numpy as np

from tilth.catalog import Product
from tilth.encoder_training.bags import Bags, Numbers
from tilth.encoder_training.batches import Batches, HardPairs
from tilth.encoder_training.material import Material
from tilth.encoder_training.settings import EncoderSettings
from tilth.encoder_training.texts import families
from tilth.protocols import Vectors
from tilth.retrieval.encoder import bag_vectors
from tilth.retrieval.lexical import LexicalIndex, LexicalSettings, LexicalWriter, lexical_document

_QUERIES = 4_096  # for which negatives are looked up at a time
_DEPTH = 30  # products that are looked at for each
_BLOCK = 512


class Miner:
    """Looks up wrong products that are near pseudo-queries; none that is held out."""

    def __init__(
        self, material: Material, batches: Batches, settings: EncoderSettings, products: Sequence[Product]
    ) -> None:
        """Look them up by BM25, once.

        Args:
            material: of the products.
            batches: makes the pseudo-queries.
            settings: with the seed.
            products: go into a lexical index that is made for this alone.
        """
        self._material, self._batches, self._settings = material, batches, settings
        self._tokens = [set(_tokens(material, row)) for row in range(len(material.texts))]
        self._family = families(material.texts)
        self._by_bm25 = self._look_up(products)

    def pairs(self, table: Vectors, step: int) -> HardPairs:
        """Return pairs by BM25, and others by the student's own (tokens, D) vectors as they are at a step."""
        return self._by_bm25 + self._by_student(table, step)

    def _look_up(self, products: Sequence[Product]) -> HardPairs:
        with tempfile.TemporaryDirectory(prefix="tilth-") as folder:
            path = Path(folder) / "lexical"
            with LexicalWriter(path) as writer:
                for row, product in enumerate(products):
                    writer.add(lexical_document(row, product))
            index = LexicalIndex(path, LexicalSettings())
            rows, texts = self._queries(0)
            return self._pairs(rows, texts, [index.search_rows(text, _DEPTH).rows for text in texts])

    def _by_student(self, table: Vectors, step: int) -> HardPairs:
        rows, texts = self._queries(step)
        queries = bag_vectors(table, *Bags.of(self._material.tokenizer, texts))
        passages = bag_vectors(table, *self._material.bags)
        near: list[Numbers] = []
        for start in range(0, len(queries), _BLOCK):
            scores = queries[start : start + _BLOCK] @ passages.T
            best = np.maximum.reduceat(scores, self._material.first[:-1], axis=1)
            depth = min(_DEPTH, best.shape[1])
            near += list(np.argpartition(-best, depth - 1, axis=1)[:, :depth])
        return self._pairs(rows, texts, near)

    def _queries(self, step: int) -> tuple[Numbers, list[str]]:
        random = Random(f"{self._settings.seed}:{step}:hard")
        numbers = np.random.default_rng([self._settings.seed, step, 4])
        rows = numbers.choice(self._material.learned, min(_QUERIES, len(self._material.learned)), False)
        return rows, [self._batches.pseudo_query(row, random) for row in rows.tolist()]

    def _pairs(self, rows: Numbers, texts: Sequence[str], near: Sequence[Numbers]) -> HardPairs:
        queries = Bags.of(self._material.tokenizer, texts)
        random = Random(f"{self._settings.seed}:wrong")
        pairs, held = [], set(self._material.held.tolist())
        for number, row in enumerate(rows.tolist()):
            tokens = set(queries.take(np.array([number])).tokens.tolist())
            kept_out = {row, *self._family[row]} | held
            found = [n for n in near[number].tolist() if n not in kept_out and tokens - self._tokens[n]]
            if found:
                pairs.append((texts[number], row, random.choice(found)))
        return pairs


def _tokens(material: Material, row: int) -> list[int]:
    start, end = material.bags.ends[material.first[row : row + 2]]
    tokens: list[int] = material.bags.tokens[start:end].tolist()
    return tokens
