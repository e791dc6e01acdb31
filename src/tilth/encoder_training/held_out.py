"""How good a student is while it learns: whether held-out pseudo-queries find the products they are of."""

from random import Random

import numpy as np

from tilth.encoder_training.bags import Bags
from tilth.encoder_training.batches import Batches
from tilth.encoder_training.material import Material
from tilth.protocols import Vectors
from tilth.retrieval.encoder import bag_vectors

_MOST_PRODUCTS = 20_000  # among which they are sought
_QUERIES = 1_000


class HeldOut:
    """Pseudo-queries of products that are not trained on, and the products among which they are sought."""

    def __init__(self, material: Material, batches: Batches, seed: int) -> None:
        """Draw them; the material holds at least one product out."""
        random, numbers = Random(f"{seed}:held out"), np.random.default_rng([seed, 1])
        self.queries = min(_QUERIES, 4 * len(material.held))
        others = material.learned
        if len(others) + len(material.held) > _MOST_PRODUCTS:
            others = numbers.choice(others, _MOST_PRODUCTS - len(material.held), replace=False)
        rows = np.concatenate([material.held, others])
        numbers_of, self._places = material.passages_of(rows)
        self._starts = np.flatnonzero(np.diff(self._places, prepend=-1))
        self._passages = material.bags.take(numbers_of)
        self._wanted = np.arange(self.queries) % len(material.held)
        texts = [batches.pseudo_query(int(rows[place]), random) for place in self._wanted]
        self._queries = Bags.of(material.tokenizer, texts)

    def measure(self, table: Vectors) -> float:
        """Return the mean reciprocal rank, 0 to 1, of the product that each query is of.

        Args:
            table: (tokens, D) of the student.

        Returns:
            The mean; products that score the same share the mean of their ranks.
        """
        passages, queries = bag_vectors(table, *self._passages), bag_vectors(table, *self._queries)
        scores = np.maximum.reduceat(queries @ passages.T, self._starts, axis=1)
        own = scores[np.arange(len(scores)), self._wanted][:, None]
        ranks = 1 + (scores > own).sum(axis=1) + ((scores == own).sum(axis=1) - 1) / 2
        return float((1 / ranks).mean())
