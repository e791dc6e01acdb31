"""Products by row, and the rows that filters allow."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilth.catalog import Price, Product
from tilth.errors import InputError
from tilth.retrieval import columns as module
from tilth.retrieval.columns import Columns, ColumnsWriter
from tilth.retrieval.filters import Filters, allowed_rows

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


@pytest.mark.parametrize(
    ("filters", "rows"),
    [
        ({"brand": "Terra"}, [0, 2]),
        ({"brand": ["Humus", "None"]}, [1]),
        ({"price": {"gte": 10}}, [0, 1]),
        ({"price": {"gt": 10, "lt": 20.5}}, []),
        ({"price": {"lte": 10.0}}, [0]),
        ({"brand": "Terra", "availability": "in_stock"}, [2]),
        ({"rating_count": 3}, [0]),
        ({"brand": []}, []),
    ],
)
def test_conditions_allow_rows(columns: Columns, filters: Filters, rows: list[int]) -> None:
    found = allowed_rows(columns.table, filters)
    assert found is not None
    assert found.tolist() == rows


@pytest.mark.parametrize("filters", [None, {}])
def test_no_condition_allows_all(columns: Columns, filters: Filters | None) -> None:
    assert allowed_rows(columns.table, filters) is None


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ({"colour": "red"}, "there are product_id, title"),
        ({"price": "cheap"}, "needs values of type double"),
        ({"price": True}, "needs values of type double"),
        ({"price": float("nan")}, "needs values"),
        ({"brand": 5}, "needs values of type string"),
        ({"price": {"below": 3}}, "gt, gte, lt, lte"),
        ({"price": {}}, "gt, gte, lt, lte"),
        ({"rating_count": 2**70}, "needs values of type int64"),
    ],
)
def test_bad_conditions_are_named(columns: Columns, filters: Filters, message: str) -> None:
    with pytest.raises(InputError, match=message):
        allowed_rows(columns.table, filters)


@given(st.floats(0, 30), st.floats(0, 30))
def test_a_range_is_what_python_says(columns: Columns, low: float, high: float) -> None:
    expected = [n for n, p in enumerate(SHOP) if p.price and low <= p.price.amount <= high]
    found = allowed_rows(columns.table, {"price": {"gte": low, "lte": high}})
    assert found is not None
    assert found.tolist() == expected
