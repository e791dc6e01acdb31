"""What many tests share: one small shop, indexed once with the packaged encoder."""

from pathlib import Path

import pytest

from shop import SHOP, index
from tilth.pipeline import Pipeline, open_index
from tilth.retrieval.encoder_build import ModelForBuild, build_encoder


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
