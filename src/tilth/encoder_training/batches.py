"""Batches of pairs: drawn anew at every step, each step by itself, so that a training can go on anywhere."""

from collections.abc import Sequence
from random import Random
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tilth.encoder_training.asked import Asked
from tilth.encoder_training.bags import Bags, Numbers
from tilth.encoder_training.material import Material
from tilth.encoder_training.pair_sources import CATALOGUE, from_title
from tilth.encoder_training.settings import EncoderSettings
from tilth.encoder_training.slips import with_slip, with_strange_words
from tilth.encoder_training.texts import ProductText, families

_KIN_WEIGHT = 0.5  # of a pair whose query was made of another product of the group or type
_STRANGE_FROM = 20_000  # descriptions that strange words are taken from
_LEAST_STRANGE = 100  # different words that descriptions must have, if those of titles are not to join them


HardPairs = list[tuple[str, int, int]]  # a pseudo-query, the row it was made of, and a near row that is wrong


class Batch(NamedTuple):
    """B queries, and the passages among which each has to find its own, which has the same number."""

    queries: Bags  # B
    passages: Bags  # B or more; those from B on belong to none
    weights: npt.NDArray[np.float32]  # (B,) of the pairs
    owners: Numbers  # the row of the product of each passage


class Batches:
    """Draws batches; the same step of the same settings always gives the same one."""

    def __init__(self, material: Material, settings: EncoderSettings, asked: Sequence[Asked]) -> None:
        """Take the products.

        Args:
            material: the products.
            settings: shares, slips and the seed.
            asked: queries with products; those of products that are not learned from are passed over.
        """
        self._material, self._settings = material, settings
        self._family = families(material.texts)
        known = known_pairs(asked, material)
        self.pairs_asked = len(known)  # of queries that were asked, with a product that is learned from
        self._asked = [(pair.query, row) for pair, row in known]
        self._asked_weights = np.cumsum([pair.weight for pair, _ in known]).tolist()
        shares = {name: share for name, share in settings.shares.items() if share > 0 and name != "asked"}
        self._sources, self._shares = list(shares), list(shares.values())
        total = sum(self._shares) + settings.shares.get("asked", 0.0)
        self._asked_share = settings.shares.get("asked", 0.0) / total if self._asked else 0.0
        self._words = _strange_words(material.texts)
        self._held = set(material.held.tolist())
        self.size = min(settings.batch, len(material.learned))
        self.tokens: int = material.tokenizer.get_vocab_size()

    def draw(self, step: int, hard: HardPairs) -> Batch:
        """Return the batch of a step.

        Args:
            step: from 0.
            hard: pairs with a wrong product each, a share of which takes the place of others.

        Returns:
            The batch; passages of wrong products come last.
        """
        random = Random(f"{self._settings.seed}:{step}")
        numbers = np.random.default_rng([self._settings.seed, step])
        rows = numbers.choice(self._material.learned, self.size, replace=False)
        pairs = [self._pair(row, random) for row in rows.tolist()]
        for place in np.flatnonzero(numbers.random(self.size) < self._asked_share).tolist():
            number = random.choices(range(len(self._asked)), cum_weights=self._asked_weights)[0]
            query, rows[place] = self._asked[number]
            pairs[place] = query, 1.0
        wrong = []
        share = self._settings.hard_negatives if hard else 0.0
        for place in np.flatnonzero(numbers.random(self.size) < share).tolist():
            query, rows[place], other = random.choice(hard)
            pairs[place] = query, 1.0
            wrong.append(other)
        shown = np.concatenate([rows, np.array(wrong, np.int64)])
        passages = self._material.bags.take(self._material.some_passage(shown, numbers))
        return Batch(
            Bags.of(self._material.tokenizer, [self._disturbed(query, random) for query, _ in pairs]),
            passages.thinned(self._settings.dropped, numbers),
            np.array([weight for _, weight in pairs], np.float32),
            shown,
        )

    def pseudo_query(self, row: int, random: Random) -> str:
        """Return a pseudo-query of a product, as it would be typed without a slip."""
        return self._pair(row, random)[0]

    def _pair(self, row: int, random: Random) -> tuple[str, float]:
        """Return a query for a product and its weight; the title has words where another source has none."""
        source, text = random.choices(self._sources, self._shares)[0], self._material.texts[row]
        if source == "kin":
            kin = self._sampled_kin(row, random)
            others = [other for other in kin if other != row and other not in self._held]
            if others:
                return from_title(self._material.texts[others[0]], random), _KIN_WEIGHT
            return from_title(text, random), 1.0
        return CATALOGUE[source](text, random) or from_title(text, random), 1.0

    def _sampled_kin(self, row: int, random: Random) -> Sequence[int]:
        family = self._family[row]
        return random.sample(family, min(2, len(family)))

    def _disturbed(self, query: str, random: Random) -> str:
        if random.random() < self._settings.slips:
            query = with_slip(query, random)
        if self._words and random.random() < self._settings.strange:
            query = with_strange_words(query, self._words, random)
        return query


def known_pairs(asked: Sequence[Asked], material: Material) -> list[tuple[Asked, int]]:
    """Return the pairs whose products are learned from, with their rows; weights of a query sum to as before.

    Args:
        asked: queries with products.
        material: the products.

    Returns:
        Pairs and rows, in their order.
    """
    held = set(material.held.tolist())
    rows = {text.product_id: row for row, text in enumerate(material.texts) if row not in held}
    known = [pair for pair in asked if pair.product_id in rows]
    before, now = _sums(asked), _sums(known)
    return [
        (pair._replace(weight=pair.weight * before[pair.query] / now[pair.query]), rows[pair.product_id])
        for pair in known
    ]


def _sums(asked: Sequence[Asked]) -> dict[str, float]:
    sums: dict[str, float] = {}
    for pair in asked:
        sums[pair.query] = sums.get(pair.query, 0.0) + pair.weight
    return sums


def _strange_words(texts: Sequence[ProductText]) -> list[str]:
    """Return words of descriptions or, where there are few, of titles; each word is held once."""
    words: dict[str, str] = {}
    described = (word for text in texts[:_STRANGE_FROM] for word in text.description.split())
    found = [words.setdefault(word, word) for word in described]
    if len(words) < _LEAST_STRANGE:
        found += [words.setdefault(word, word) for text in texts for word in text.title.split()]
    return found
