"""Conditions on columns: what they allow, and what is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilth.catalog import Price, Product
from tilth.errors import InputError
from tilth.retrieval.columns import Columns, ColumnsWriter
from tilth.retrieval.filters import allowed_rows

BRANDS = ["Terra", "Humus", ""]
PRODUCTS = [
    Product(
        id=f"p{n}",
        title=f"spade {n}",
        brand=BRANDS[n % 3],
        price=Price(float(n), "EUR") if n % 4 else None,
        rating_count=n if n % 5 else None,
    )
    for n in range(40)
]


@pytest.fixture(scope="module")
def columns(tmp_path_factory: pytest.TempPathFactory) -> Columns:
    path = tmp_path_factory.mktemp("filters") / "columns.arrow"
    with ColumnsWriter(path) as writer:
        for product in PRODUCTS:
            writer.add(product)
    return Columns(path)


@pytest.mark.parametrize("filters", [None, {}])
def test_no_condition_allows_all(columns: Columns, filters: dict | None) -> None:
    assert allowed_rows(columns.table, filters) is None


@pytest.mark.parametrize(
    ("filters", "wanted"),
    [
        ({"brand": "Terra"}, lambda p: p.brand == "Terra"),
        ({"brand": ["Terra", "Humus"]}, lambda p: p.brand in ("Terra", "Humus")),
        ({"brand": []}, lambda p: False),
        ({"brand": "terra"}, lambda p: False),
        ({"price": 7}, lambda p: p.price is not None and p.price.amount == 7),
        ({"price": {"gte": 5, "lt": 20}}, lambda p: p.price is not None and 5 <= p.price.amount < 20),
        ({"price": {"gt": 5, "lte": 20}}, lambda p: p.price is not None and 5 < p.price.amount <= 20),
        ({"rating_count": {"gte": 30}}, lambda p: p.rating_count is not None and p.rating_count >= 30),
        ({"rating_count": {"gt": 36.5}}, lambda p: p.rating_count is not None and p.rating_count > 36.5),
        ({"rating_count": {"lt": 10**30}}, lambda p: p.rating_count is not None),
        ({"rating_count": 3}, lambda p: p.rating_count == 3),
        ({"product_id": ["p3", "nobody"]}, lambda p: p.id == "p3"),
        ({"brand": "Humus", "price": {"lt": 9.5}}, lambda p: p.brand == "Humus" and p.price is not None
         and p.price.amount < 9.5),
    ],
)  # fmt: skip
def test_rows_are_those_of_the_products_that_satisfy_it(columns: Columns, filters: dict, wanted) -> None:
    rows = allowed_rows(columns.table, filters)
    assert rows is not None
    assert rows.tolist() == [row for row, product in enumerate(PRODUCTS) if wanted(product)]


@given(
    low=st.one_of(st.none(), st.floats(-5, 45)),
    high=st.one_of(st.none(), st.integers(-5, 45)),
    brand=st.one_of(st.none(), st.sampled_from(["Terra", "Humus", "Nobody"])),
)
def test_all_conditions_hold_at_once(columns: Columns, low, high, brand) -> None:
    bounds = {name: value for name, value in (("gte", low), ("lt", high)) if value is not None}
    filters = {"price": bounds} if bounds else {}
    filters |= {"brand": brand} if brand else {}
    single = [allowed_rows(columns.table, {field: condition}) for field, condition in filters.items()]
    both = allowed_rows(columns.table, filters)
    if not filters:
        assert both is None
        return
    expected = set(range(len(PRODUCTS))).intersection(*(rows.tolist() for rows in single if rows is not None))
    assert both is not None
    np.testing.assert_array_equal(both, sorted(expected))


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ({"colour": "red"}, r"field 'colour': no field to filter by; there are product_id, title"),
        ({"record": "x"}, "no field to filter by"),
        ({"price": "cheap"}, r"field 'price': needs a finite number \(got 'cheap'\)"),
        ({"price": float("nan")}, "needs a finite number"),
        ({"price": True}, "needs a finite number"),
        ({"price": None}, "needs a finite number"),
        ({"brand": 7}, "needs text"),
        ({"brand": ["Terra", 7]}, "needs text"),
        ({"price": float("inf")}, "needs a finite number"),
        ({"price": 10**400}, "needs a finite number"),
        ({"price": {"from": 5}}, "a range has the bounds gt, gte, lt, lte"),
        ({"price": {}}, "a range has the bounds"),
        ({"price": {"gte": "5"}}, "needs a finite number"),
    ],
)
def test_what_cannot_be_a_condition_is_named(columns: Columns, filters: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        allowed_rows(columns.table, filters)
