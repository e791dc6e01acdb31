"""Products by row: whole, in order, named."""

import numpy as np
import pytest

from tilth.catalog import Price, Product
from tilth.retrieval import columns as module
from tilth.retrieval.columns import Columns, ColumnsWriter

SHOP = [
    Product(id="a", title="Spade", brand="Terra", price=Price(10.0, "EUR"), rating_count=3),
    Product(id="b", title="Fork", brand="Humus", price=Price(20.5, "EUR"), attributes={"tines": 4}),
    Product(id="c", title="Грабли", brand="Terra", availability="in_stock"),
]


@pytest.fixture(scope="module")
def columns(tmp_path_factory: pytest.TempPathFactory) -> Columns:
    path = tmp_path_factory.mktemp("columns") / "columns.arrow"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_BATCH", 2)
        with ColumnsWriter(path) as writer:
            for product in SHOP:
                writer.add(product)
    return Columns(path)


def test_products_come_back_whole_and_in_order(columns: Columns, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BATCH", 2)
    assert len(columns) == 3
    assert list(columns.products()) == SHOP
    assert [columns.product(row) for row in (2, 0, 1)] == [SHOP[2], SHOP[0], SHOP[1]]
    assert columns.ids(np.array([2, 0])) == ["c", "a"]
