"""Hard negatives: near, and yet wrong."""

from dataclasses import replace

import numpy as np
import pytest

from tilth.catalog import Product
from tilth.encoder_training.batches import Batches
from tilth.encoder_training.hard_negatives import Miner
from tilth.encoder_training.material import Material
from tilth.encoder_training.settings import EncoderSettings
from tilth.protocols import Vectors
from trainings import SHORT, shop_products

SETTINGS = replace(SHORT, vocabulary=2_000, batch=64, hard_negatives=0.3)


def miner(products: list[Product], settings: EncoderSettings = SETTINGS) -> tuple[Miner, Material]:
    material = Material.of(products, settings)
    return Miner(material, Batches(material, settings, []), settings, products), material


def random_table(material: Material, seed: int = 0) -> Vectors:
    tokens = material.tokenizer.get_vocab_size()
    return np.random.default_rng(seed).normal(size=(tokens, 32)).astype(np.float32)


@pytest.fixture(scope="module")
def products() -> list[Product]:
    return list(shop_products(300, "both"))


@pytest.fixture(scope="module")
def mined(products: list[Product]) -> tuple[Miner, Material]:
    return miner(products)


def kin(one: Product, other: Product, products: list[Product]) -> bool:
    group = one.item_group_id
    if group and sum(each.item_group_id == group for each in products) > 1:
        return other.item_group_id == group
    return other.product_type == one.product_type


def test_no_wrong_product_answers_the_query(products: list[Product], mined: tuple[Miner, Material]) -> None:
    find, material = mined
    pairs = find.pairs(random_table(material), 5)
    assert len(pairs) > 100
    learned = set(material.learned.tolist())
    for query, row, wrong in pairs:
        assert {row, wrong} <= learned
        assert row != wrong
        assert not kin(products[row], products[wrong], products)
        passages = material.passages[material.first[wrong] : material.first[wrong + 1]]
        has = {token for passage in passages for token in material.tokenizer.encode(passage).ids}
        assert not set(material.tokenizer.encode(query).ids) <= has


def test_a_wrong_product_is_near(mined: tuple[Miner, Material]) -> None:
    """Most share a token with the query, which of the products of two languages few do."""
    find, material = mined

    def tokens(row: int) -> set[int]:
        start, end = material.bags.ends[material.first[row : row + 2]]
        return set(material.bags.tokens[start:end].tolist())

    random, pairs = np.random.default_rng(0), find.pairs(random_table(material), 0)
    asked = [set(material.tokenizer.encode(query).ids) for query, _, _ in pairs]
    near = np.mean([len(query & tokens(wrong)) for query, (*_, wrong) in zip(asked, pairs, strict=True)])
    any_ = np.mean([len(query & tokens(int(random.integers(300)))) for query in asked])
    assert near > 1.5 * any_


def test_the_students_own_are_found_anew_and_those_of_bm25_stay(mined: tuple[Miner, Material]) -> None:
    find, material = mined
    one, again, later, other = (
        find.pairs(random_table(material, seed), step) for seed, step in ((0, 1), (0, 1), (0, 2), (1, 1))
    )
    assert one == again
    for changed in (later, other):
        assert changed != one
        same = next(n for n, (a, b) in enumerate(zip(one, changed, strict=False)) if a != b)
        assert same > 50


def test_a_seed_draws_others(products: list[Product], mined: tuple[Miner, Material]) -> None:
    find, material = mined
    other, _ = miner(products, replace(SETTINGS, seed=1))
    assert other.pairs(random_table(material), 0)[:20] != find.pairs(random_table(material), 0)[:20]


def test_where_all_are_kin_there_are_none() -> None:
    same = [Product(id=str(n), title=f"Hose {n} m", product_type="Hoses") for n in range(40)]
    find, material = miner(same)
    assert find.pairs(random_table(material), 0) == []
