"""How good a student is: ranks by hand, on materials that are written out."""

from random import Random

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from tilth.catalog import Product
from tilth.encoder_training.bags import Bags
from tilth.encoder_training.batches import Batches
from tilth.encoder_training.held_out import HeldOut
from tilth.encoder_training.material import Material
from tilth.encoder_training.texts import text_of
from tilth.protocols import Vectors
from trainings import SHORT, shop_products

WORDS = ["[UNK]", "spade", "hose", "hosepipe", "лейка", "wanted"]
PASSAGES = [["spade"], ["hose", "hosepipe"], ["лейка"]]  # of three products, of which the second is held out


class Asking(Batches):
    """Batches whose pseudo-queries are one word."""

    def __init__(self) -> None:
        """Nothing is drawn."""

    def pseudo_query(self, row: int, random: Random) -> str:
        return "wanted"


def held_out(held: list[int]) -> HeldOut:
    tokenizer = Tokenizer(
        models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    texts = [text_of(Product(id=str(row), title=each[0])) for row, each in enumerate(PASSAGES)]
    passages = [passage for each in PASSAGES for passage in each]
    first = np.array([0, 1, 3, 4])
    learned = np.setdiff1d(np.arange(3), held)
    bags = Bags.of(tokenizer, passages)
    material = Material(texts, tokenizer, passages, bags, first, learned, np.array(held, np.int64))
    return HeldOut(material, Asking(), 0)


def table(**vectors: tuple[float, float]) -> Vectors:
    return np.array([vectors.get(word, (0, 0)) for word in WORDS], np.float32)


SPADE, HOSE, LEIKA = (1.0, 0.0), (0.0, 1.0), (3.0, 4.0)  # лейка: 0.6, 0.8


@pytest.mark.parametrize(
    ("wanted", "hosepipe", "expected"),
    [
        ((0, 2), (0, 0), 1),  # the hose itself
        ((1, 0), (0, 0), 1 / 3),  # the spade, then the can
        ((3, 4), (0, 0), 1 / 2),  # the can, then the hose with 0.8, then the spade with 0.6
        ((1, 0), (5, 0), 1 / 1.5),  # its second passage is as near as the spade
        ((1, 0), (4, 3), 1 / 2),  # its second passage is nearer than the can
        ((0, 0), (0, 0), 1 / 2),  # nothing is known: three products share ranks 1 to 3
    ],
)
def test_the_rank_is_that_of_the_nearest_passage(
    wanted: tuple[float, float], hosepipe: tuple[float, float], expected: float
) -> None:
    vectors = table(spade=SPADE, hose=HOSE, hosepipe=hosepipe, лейка=LEIKA, wanted=wanted)
    assert held_out([1]).measure(vectors) == pytest.approx(expected)


def test_the_mean_is_over_all_held_out_products() -> None:
    vectors = table(spade=SPADE, hose=HOSE, лейка=LEIKA, wanted=(1, 0))
    assert held_out([0, 1]).measure(vectors) == pytest.approx((1 + 1 / 3) / 2)
    assert held_out([0]).measure(vectors) == 1


def test_queries_are_drawn_from_held_out_products_alone() -> None:
    material = Material.of(shop_products(300, "both"), SHORT)
    asked: list[int] = []

    class Watching(Batches):
        def pseudo_query(self, row: int, random: Random) -> str:
            asked.append(row)
            return super().pseudo_query(row, random)

    batches = Watching(material, SHORT, [])
    one = HeldOut(material, batches, 0)
    assert len(asked) == one.queries > 0
    assert set(asked) == set(material.held.tolist())
    vectors = np.random.default_rng(0).normal(size=(batches.tokens, 16)).astype(np.float32)
    assert HeldOut(material, batches, 0).measure(vectors) == one.measure(vectors)
    assert 0 < one.measure(vectors) < 1


def test_vectors_that_say_nothing_are_worth_what_chance_is() -> None:
    material = Material.of(shop_products(300, "en"), SHORT)
    batches = Batches(material, SHORT, [])
    nothing = np.zeros((batches.tokens, 4), np.float32)
    assert HeldOut(material, batches, 0).measure(nothing) == pytest.approx(1 / 150.5)
