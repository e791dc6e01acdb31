"""What a teacher thinks of pseudo-queries and products: encoded once, kept in a folder, used step by step."""

from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

import numpy as np

from tilth.encoder_training.bags import Bags, Numbers
from tilth.encoder_training.batches import Batches
from tilth.encoder_training.material import Material
from tilth.encoder_training.settings import EncoderSettings
from tilth.protocols import Vectors
from tilth.retrieval.build_settings import BuildEncoder, Progress
from tilth.retrieval.encoder import normalise
from tilth.retrieval.quantisation import to_codes
from tilth.retrieval.vectors import VectorCache, VectorWriter

_QUERIES_EACH = 3  # pseudo-queries a product that is taught
_BLOCK = 2_048  # texts encoded between two signs of progress


class Lesson(NamedTuple):
    """B queries, one passage of the product of each, and the teacher's cosines between all of them."""

    queries: Bags
    passages: Bags
    similarities: Vectors  # (B, B)


class Lessons:
    """Draws lessons from T pseudo-queries; the same step always gives the same one."""

    def __init__(
        self,
        material: Material,
        batches: Batches,
        settings: EncoderSettings,
        teacher: BuildEncoder,
        folder: Path,
        progress: Progress,
    ) -> None:
        """Let the teacher encode the queries and the products that they are of.

        Args:
            material: the products.
            batches: makes the queries.
            settings: how many, and the seed.
            teacher: any encoder.
            folder: keeps its vectors, so that a training that goes on, or another one, does not make them
                again.
            progress: is told how far it has come.
        """
        self._material, self._settings = material, settings
        self._size = batches.size
        count = min(settings.taught, _QUERIES_EACH * len(material.learned))
        random = Random(f"{settings.seed}:taught")
        numbers = np.random.default_rng([settings.seed, 2])
        few = numbers.choice(material.learned, -(-count // _QUERIES_EACH), replace=False)
        self._rows = np.repeat(few, _QUERIES_EACH)[:count]
        texts = [batches.pseudo_query(row, random) for row in self._rows.tolist()]
        self._queries = Bags.of(material.tokenizer, texts)
        of_products, self._places = material.passages_of(np.sort(few))
        self._order = np.searchsorted(np.sort(few), self._rows)
        self._starts = np.flatnonzero(np.diff(self._places, prepend=-1, append=self._places[-1] + 1))
        passages = [material.passages[number] for number in of_products.tolist()]
        asked, total = len(set(texts)), len(set(texts)) + len(set(passages))

        def told(done: int) -> None:
            progress("asking the teacher", done, total)

        def told_after(done: int) -> None:
            told(asked + done)

        self._query_vectors = _encoded(texts, teacher.encode_queries, teacher, folder / "queries", told)
        self._passage_vectors = _encoded(
            passages, teacher.encode_passages, teacher, folder / "passages", told_after
        )

    def draw(self, step: int) -> Lesson:
        """Return the lesson of a step."""
        numbers = np.random.default_rng([self._settings.seed, step, 3])
        chosen = numbers.choice(len(self._rows), min(self._size, len(self._rows)), replace=False)
        passages = self._material.some_passage(self._rows[chosen], numbers)
        return Lesson(
            self._queries.take(chosen),
            self._material.bags.take(passages).thinned(self._settings.dropped, numbers),
            self._similarities(chosen),
        )

    def _similarities(self, chosen: Numbers) -> Vectors:
        """Return the cosine of each query to the nearest passage of each query's product."""
        products = self._order[chosen]
        first, end = self._starts[products], self._starts[products + 1]
        queries = self._query_vectors[chosen]
        best = queries @ self._passage_vectors[first].T
        for further in range(1, int((end - first).max())):
            places = np.minimum(first + further, end - 1)
            np.maximum(best, queries @ self._passage_vectors[places].T, out=best)
        return best


def _encoded(
    texts: Sequence[str],
    encode: Callable[[Sequence[str]], Vectors],
    teacher: BuildEncoder,
    folder: Path,
    told: Callable[[int], None],
) -> Vectors:
    """Return the vectors of texts, (N, D): of each text once, and of none that the folder keeps."""
    places = {text: place for place, text in enumerate(dict.fromkeys(texts))}
    different = list(places)
    vectors = np.empty((len(different), teacher.dimension), np.float32)
    with VectorCache(folder, teacher.identity, teacher.dimension) as cache:
        writer = VectorWriter(None, teacher.dimension, [cache], cache)
        for start in range(0, len(different), _BLOCK):
            wanted = writer.want(different[start : start + _BLOCK])
            if wanted.texts:
                writer.write(wanted, to_codes(encode(wanted.texts)))
            vectors[start : start + _BLOCK] = wanted.codes[wanted.where]
            told(start + len(wanted.where))
    return normalise(vectors)[[places[text] for text in texts]]
