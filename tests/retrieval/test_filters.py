"""Conditions: what they allow, and what is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalogues import ATTRIBUTES, filters, products, satisfies
from tilth.catalog import Price, Product
from tilth.errors import InputError
from tilth.retrieval.columns import Columns
from tilth.retrieval.filters import Filters, allowed_in

EVERYTHING = Product(id="all", title="t", attributes={name: values[0] for name, values in ATTRIBUTES.items()})
SHOP = [
    Product(
        id="a", title="Compost", brand="Terra", product_type="Garden > Compost", price=Price(5.0, "EUR"),
        gtin="1", attributes={"volume": "60 l", "grade": "fine", "organic": True, "brand": "Humus"},
    ),
    Product(
        id="b", title="Leaf", brand="Humus", product_type="Garden > Compost > Leaf",
        price=Price(20.0, "EUR"), link="https://shop.example/b",
        attributes={"volume": "4,5 l", "sown": "2024-03-01", "wheels": 2},
    ),
    Product(id="c", title="c", product_type="Garden > Composters", attributes={"grade": "5 l", "mixed": 1}),
    Product(id="d", title="d", brand="Terra", product_type="Gardening", attributes={"mixed": "I", "not": ""}),
    Product(id="e", title="Straße", brand="Straße", rating_count=7, attributes={"sown": "2024-05-01T12:00"}),
]  # fmt: skip


@pytest.fixture(scope="module")
def columns() -> Columns:
    return Columns.of(SHOP)


def allowed(columns: Columns, wanted: Filters) -> np.ndarray:
    masks = allowed_in([columns], wanted)
    assert masks is not None
    return masks[0]


@pytest.mark.parametrize("nothing", [None, {}])
def test_no_condition_allows_all(columns: Columns, nothing: dict | None) -> None:
    assert allowed_in([columns], nothing) is None


@pytest.mark.parametrize(
    ("wanted", "ids"),
    [
        ({"brand": "terra"}, "ad"),
        ({"brand": ["TERRA", "Humus"]}, "abd"),
        ({"brand": "STRASSE"}, "e"),
        ({"brand": "nobody"}, ""),
        ({"attributes.brand": "humus"}, "a"),
        ({"price": 5}, "a"),
        ({"price": [5, 20.0]}, "ab"),
        ({"price": {"gte": 5, "lt": 20}}, "a"),
        ({"price": {"gt": 5, "lte": 20}}, "b"),
        ({"price": {"gte": 5, "lte": 5}}, "a"),
        ({"rating_count": {"gt": 6.5}}, "e"),
        ({"product_type": {"prefix": "Garden > Compost"}}, "ab"),
        ({"product_type": {"prefix": "garden"}}, "abc"),
        ({"product_type": "Garden > compost"}, "a"),
        ({"gtin": {"exists": True}}, "a"),
        ({"gtin": {"exists": False}}, "bcde"),
        ({"link": {"exists": True}}, "b"),
        ({"price": {"exists": False}}, "cde"),
        ({"product_id": {"exists": True}}, "abcde"),
        ({"grade": {"exists": True}}, "ac"),
        ({"product_id": ["d", "A", "a"]}, "ad"),
        ({"attributes.volume": "60 l"}, "a"),
        ({"volume": "60L"}, "a"),
        ({"volume": 4.5}, "b"),
        ({"volume": {"lt": 60}}, "b"),
        ({"volume": {"lte": "60 l", "exists": True}}, "ab"),
        ({"grade": "5 L"}, "c"),
        ({"organic": True}, "a"),
        ({"organic": False}, ""),
        ({"wheels": 2}, "b"),
        ({"sown": "2024-03-01"}, "b"),
        ({"sown": {"gte": "2024-04-01", "lt": "2024-05-02"}}, "e"),
        ({"mixed": 1}, "c"),
        ({"mixed": "i"}, "d"),
        ({"mixed": "1.0"}, ""),
        ({"mixed": [1, "I"]}, "cd"),
        ({"attributes.not": ""}, "d"),
        ({"brand": "Terra", "gtin": {"exists": False}}, "d"),
        ({"not": {"brand": "Terra"}}, "bce"),
        ({"or": [{"price": {"gt": 10}}, {"brand": "Terra"}]}, "abd"),
        ({"and": [{"brand": "Terra"}, {"not": {"gtin": {"exists": True}}}]}, "d"),
        ({"and": []}, "abcde"),
        ({"or": [{"brand": "Terra"}, {}]}, "abcde"),
    ],
)
def test_rows_are_those_of_the_products_that_satisfy_it(columns: Columns, wanted: dict, ids: str) -> None:
    mask = allowed(columns, wanted)
    assert mask is not None
    assert "".join(columns.ids(np.flatnonzero(mask))) == ids


@given(catalogue=products(), wanted=filters(), cut=st.integers(0, 12))
def test_filters_mean_what_they_say_whatever_the_parts(
    catalogue: list[Product], wanted: dict, cut: int
) -> None:
    catalogue = [*catalogue, EVERYTHING]
    expected = [satisfies(product, wanted) for product in catalogue]
    mask = allowed(Columns.of(catalogue), wanted)
    masks = allowed_in([Columns.of(catalogue[:cut]), Columns.of(catalogue[cut:])], wanted)
    assert mask is not None and masks is not None
    assert mask.tolist() == np.concatenate(masks).tolist() == expected


def test_what_the_values_are_follows_from_all_parts() -> None:
    parts = [
        Columns.of([Product(id="a", title="t", attributes={"volume": "60 l"})]),
        Columns.of([Product(id="b", title="t", attributes={"volume": "large"})]),
    ]
    masks = allowed_in(parts, {"volume": ["60 L", "Large"]})
    assert masks is not None
    assert [mask.tolist() for mask in masks] == [[True], [True]]
    with pytest.raises(InputError, match="the operators of a text field are exists"):
        allowed_in(parts, {"volume": {"gt": 5}})


def test_a_mask_is_the_callers_own(columns: Columns) -> None:
    for wanted in ({"title": {"exists": True}}, {"brand": {"exists": True}}):
        mask = allowed(columns, wanted)
        assert mask is not None
        again = mask.copy()
        mask[:] = False
        np.testing.assert_array_equal(allowed(columns, wanted), again)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (
            {"vollume": 5},
            r"field 'vollume': no field to filter by\. The nearest: volume\. There are product_id, ",
        ),
        (
            {"qqqqqqqq": 5},
            r"no field to filter by\. There are .* image_link; and 8 attributes: brand, grade, ",
        ),
        ({"price": "cheap"}, r"field 'price': needs a finite number \(got 'cheap'\)"),
        ({"price": "5"}, "needs a finite number"),
        ({"price": float("nan")}, "needs a finite number"),
        ({"price": float("inf")}, "needs a finite number"),
        ({"price": 10**400}, "needs a finite number"),
        ({"price": True}, "needs a finite number"),
        ({"price": None}, "needs a finite number"),
        ({"price": {"gte": "5"}}, "needs a finite number"),
        ({"brand": 7}, r"field 'brand': needs text, such as 'Terra', 'Humus' \(got 7\)"),
        ({"brand": ["Terra", None]}, "needs text"),
        ({"product_id": 7}, "needs text"),
        (
            {"volume": "60 kg"},
            r"field 'attributes.volume': needs a finite number in 'l', such as '60 l', '4,5 l'",
        ),
        ({"volume": True}, "needs a finite number in 'l'"),
        ({"organic": "yes"}, "needs true or false"),
        ({"organic": 1}, "needs true or false"),
        (
            {"sown": "spring"},
            r"needs an ISO 8601 date, such as '2024-03-01', '2024-05-01T12:00' \(got 'spring'\)",
        ),
        ({"sown": {"gt": 2024}}, "needs an ISO 8601 date"),
        ({"mixed": True}, "needs text, such as 1.0, 'I'"),
        ({"title": "Spade"}, r"only its presence is known \(got 'Spade'\)\. Ask for {\"exists\": true}"),
        ({"title": {"prefix": "S"}}, "the operators of a presence field are exists"),
        ({"brand": {"prefix": "T"}}, "the operators of a text field are exists"),
        ({"brand": {"gt": "T"}}, "the operators of a text field are exists"),
        ({"price": {"from": 5}}, "the operators of a number field are gt, gte, lt, lte, exists"),
        ({"price": {}}, "the operators of a number field are"),
        ({"price": {"gt": 5, "lt": 5}}, "an empty range can match nothing"),
        ({"price": {"gte": 5, "lt": 5}}, "an empty range can match nothing"),
        ({"price": {"gte": 5, "gt": 5, "lte": 5}}, "an empty range can match nothing"),
        ({"sown": {"gte": "2024-02-01", "lte": "2024-01-01"}}, "an empty range can match nothing"),
        ({"brand": []}, "one of no values can match nothing"),
        ({"product_type": {"prefix": " > "}}, "a prefix is a category"),
        ({"product_type": {"prefix": 5}}, "a prefix is a category"),
        ({"gtin": {"exists": "yes"}}, "`exists` is true or false"),
        ({"or": []}, "field 'or': needs a list of at least one filter"),
        ({"and": {"brand": "Terra"}}, "field 'and': needs a list"),
        ({"not": ["brand"]}, "a filter is an object of fields"),
        ({"or": ["Terra"]}, "a filter is an object of fields"),
    ],
)
def test_what_cannot_be_a_condition_is_named(columns: Columns, wanted: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        allowed(columns, wanted)


def test_filters_nest_to_a_limit(columns: Columns) -> None:
    wanted: dict = {"brand": "Terra"}
    for _ in range(31):
        wanted = {"not": wanted}
    mask = allowed(columns, wanted)
    assert mask is not None
    assert mask.tolist() == [False, True, True, False, True]
    with pytest.raises(InputError, match="nested deeper than 32 levels"):
        allowed(columns, {"not": wanted})
