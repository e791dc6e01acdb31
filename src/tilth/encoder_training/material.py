"""What a training works on: sampled products as tokens, and which of them are held out."""

import re
from collections.abc import Collection, Sequence
from typing import NamedTuple, Self

import numpy as np
from tokenizers import Tokenizer

from tilth.catalog import Product
from tilth.encoder_training.bags import Bags, Numbers
from tilth.encoder_training.settings import EncoderSettings
from tilth.encoder_training.texts import ProductText, text_of
from tilth.encoder_training.vocabulary import LONGEST, learn_tokenizer
from tilth.retrieval.passages import PassageCutter, PassageSettings

_HELD_SHARE = 0.05
_MOST_HELD = 1_000
_TOO_LONG = re.compile(rf"[^\W_]{{{LONGEST + 1},}}")  # unknown anyway, and slow to learn tokens from


class Material(NamedTuple):
    """N products with their passages, those of one product side by side, each one's head first."""

    texts: list[ProductText]
    tokenizer: Tokenizer
    passages: list[str]
    bags: Bags  # of the passages
    first: Numbers  # (N + 1,) the number of each product's head
    learned: Numbers  # rows whose pseudo-queries are trained on
    held: Numbers  # the others

    @classmethod
    def of(cls, products: Sequence[Product], settings: EncoderSettings, judged: Collection[str] = ()) -> Self:
        """Learn the tokens of products, and cut them into passages as an index does.

        Args:
            products: at least two.
            settings: of the training.
            judged: ids of products that queries lead to, which are not held out while there are others.

        Returns:
            The material.
        """
        texts = [text_of(product) for product in products]
        tokenizer = learn_tokenizer(list(map(_whole, texts)), settings.vocabulary)
        cuts = PassageCutter(tokenizer, PassageSettings(), reserved=0).cut(products)
        parts = [cut.passages or ("",) for cut in cuts]  # of words that are all too long, none is made
        passages = [passage for each in parts for passage in each]
        first = np.cumsum([0, *map(len, parts)])
        order = np.random.default_rng(settings.seed).permutation(len(products))
        order = np.array(sorted(order.tolist(), key=lambda row: products[row].id in judged))  # these last
        held = np.sort(order[: min(int(len(order) * _HELD_SHARE), _MOST_HELD)])
        learned = np.setdiff1d(np.arange(len(products)), held)
        return cls(texts, tokenizer, passages, Bags.of(tokenizer, passages), first, learned, held)

    def some_passage(self, rows: Numbers, random: np.random.Generator) -> Numbers:
        """Return the number of one passage of each product, any of its own with the same chance."""
        counts = self.first[rows + 1] - self.first[rows]
        return self.first[rows] + (random.random(len(rows)) * counts).astype(np.int64)

    def passages_of(self, rows: Numbers) -> tuple[Numbers, Numbers]:
        """Return the numbers of all passages of products, and the place in `rows` that each belongs to."""
        counts = self.first[rows + 1] - self.first[rows]
        places = np.repeat(np.arange(len(rows)), counts)
        before = np.cumsum(counts) - counts
        return self.first[rows][places] + np.arange(len(places)) - before[places], places


def _whole(text: ProductText) -> str:
    attributes = " ".join(f"{name} {value}" for name, value in text.attributes)
    return _TOO_LONG.sub(" ", f"{text.title} {text.names} {text.description} {attributes}")
