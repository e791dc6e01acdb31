"""What many tests share: a small shop, indexed once with the packaged encoder; databases without a store."""

import os
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from postgres import new_schemas, running_postgres
from shop import SHOP, index
from tilth.pipeline import Pipeline, open_index
from tilth.retrieval.encoder_build import ModelForBuild, build_encoder

os.environ.pop("COLUMNS", None)  # a console that is made while it is set keeps this width for good


@pytest.fixture(scope="session")
def model() -> ModelForBuild:
    """The packaged encoder, loaded once."""
    return build_encoder()


@pytest.fixture(scope="session")
def shop_index(tmp_path_factory: pytest.TempPathFactory, model: ModelForBuild) -> Path:
    """The folder of an index of `SHOP`."""
    into = tmp_path_factory.mktemp("shop") / "index"
    index(SHOP, into, model)
    return into


@pytest.fixture(scope="session")
def pipeline(shop_index: Path) -> Pipeline:
    """The opened index of `SHOP`."""
    return open_index(shop_index)


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The URL of a PostgreSQL server."""
    with running_postgres() as url:
        yield url


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def new_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], str]:
    """What returns the URL of a database without a store, another one at each call."""
    if request.param == "postgresql":
        name = "".join(filter(str.isalnum, request.module.__name__))
        return new_schemas(request.getfixturevalue("server"), prefix=name)
    folder, numbers = tmp_path_factory.mktemp("stores"), count(1)
    return lambda: f"sqlite:///{folder}/{next(numbers)}.db"


@pytest.fixture
def url(new_url: Callable[[], str]) -> str:
    """The URL of a database without a store."""
    return new_url()
