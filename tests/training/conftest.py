"""A sample shop, indexed with a light encoder, and the labelled pools of some of its queries."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes import kept_encoder
from shop import index
from tilth.pipeline import Pipeline, open_index
from tilth.qrels import read_qrels
from tilth.query import read_queries
from tilth.readers.products import read_products
from tilth.reranking.settings import Settings
from tilth.sample.shop import write_shop
from tilth.training.experiment import Material, Trial, prepare

QUICK = Settings(rounds=30, patience=10, fixed_rounds=15)
KINDS = ("lambdarank", "logistic")


@pytest.fixture(scope="session")
def garden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a shop: `shop` as it is written, `idx` as it is searched."""
    folder = tmp_path_factory.mktemp("garden")
    write_shop(folder / "shop", products=300, language="en", seed=0)
    products = list(read_products([folder / "shop" / "products.jsonl"]))
    words = sorted({word for product in products for word in product.title.lower().split()})
    index(products, folder / "idx", kept_encoder(words))
    return folder


@pytest.fixture(scope="session")
def opened(garden: Path) -> Iterator[Pipeline]:
    pipeline = open_index(garden / "idx")
    yield pipeline
    pipeline.close()


@pytest.fixture(scope="session")
def trial(garden: Path) -> Trial:
    """Every fourth query, five of them of a kind that has no answer."""
    queries = read_queries(garden / "shop" / "queries.tsv")[::4]
    qrels = read_qrels(garden / "shop" / "qrels.tsv")
    return Trial(queries, qrels, KINDS, depth=50, settings=QUICK, threads=1)


@pytest.fixture(scope="session")
def material(opened: Pipeline, trial: Trial) -> Material:
    return prepare(opened, trial)
