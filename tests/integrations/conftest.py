"""One small shop, served for all these tests."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fakes import WordEncoder
from integrations.running import listening, running, settings_of
from shop import index
from tilth.catalog import Price, Product
from tilth.pipeline import Answer, Pipeline, open_index
from tilth.reranking.answerability import SIGNALS, Decision
from tilth.serve.service import Service

GOODS = [
    Product(id="b1", title="Steel bucket", description="Holds water.", price=Price(9.0, "EUR"),
            availability="in_stock", item_group_id="bucket", attributes={"volume": "10 l"}),
    Product(id="b2", title="Steel bucket", description="Holds water.", price=Price(12.0, "EUR"),
            sale_price=Price(11.0, "EUR"), availability="out_of_stock", item_group_id="bucket",
            attributes={"volume": "15 l"}),
    Product(id="b3", title="Plastic bucket", description="Light.", price=Price(4.0, "EUR")),
    Product(id="s1", title="Секатор садовый", description="Для обрезки роз.", price=Price(990.0, "RUB")),
]  # fmt: skip


class Refusing(Pipeline):
    """A pipeline whose calibration finds that the shop has no answer."""

    def answer(self, *arguments: Any, **options: Any) -> Answer:
        signals = dict.fromkeys(SIGNALS, 0.0)
        return replace(super().answer(*arguments, **options), decision=Decision(False, 0.0312, 0.4, signals))


@pytest.fixture(scope="session")
def goods(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an index of `GOODS`."""
    into = tmp_path_factory.mktemp("goods") / "index"
    index(GOODS, into, WordEncoder())
    return into


@pytest.fixture(scope="session")
def url(goods: Path) -> Iterator[str]:
    """The address of a service without keys."""
    with running(goods, settings_of()) as url:
        yield url


@pytest.fixture
def refusing(goods: Path) -> Iterator[str]:
    """The address of a service whose shop never has what is asked for."""
    with listening(Service(Refusing(open_index(goods).live), settings_of())) as url:
        yield url
