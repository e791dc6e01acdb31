"""What there is to filter by: counts of values, descriptions of fields, a schema of filters."""

from collections import Counter
from dataclasses import replace

import jsonschema
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalogues import ATTRIBUTES, filters, products
from tilth.catalog import Price, Product
from tilth.errors import InputError
from tilth.retrieval import facets
from tilth.retrieval.columns import Columns
from tilth.retrieval.facets import facet_counts, json_schema, schema
from tilth.retrieval.filters import allowed_in

EVERYTHING = Product(id="all", title="t", attributes={name: values[0] for name, values in ATTRIBUTES.items()})
SHOP = [
    Product(
        id="a", title="t", brand="Terra", price=Price(5.0, "EUR"), product_type="Garden > Compost",
        attributes={"volume": "60 l", "organic": True, "sown": "2024-03-01", "notes": "x" * 300},
    ),
    Product(
        id="b", title="t", brand="Humus", price=Price(7.5, "EUR"),
        attributes={"volume": "4,5 l", "sown": "2023-01-01", "wheels": 2},
    ),
    Product(id="c", title="t", brand="Humus", link="x", attributes={"volume": "4,5 l", "wheels": 3}),
]  # fmt: skip


def _text(value: object) -> str:
    if isinstance(value, str | bool):
        return str(value) if isinstance(value, str) else str(value).lower()
    return str(int(value)) if value == int(value) else str(value)  # type: ignore[call-overload]


def _value(product: Product, field: str) -> object:
    return product.attributes.get(field.removeprefix("attributes."), getattr(product, field, None) or None)


@pytest.mark.parametrize("field", ["brand", "product_type", "attributes.odd", "volume", "tines", "organic"])
@given(catalogue=products(), cut=st.integers(0, 12), data=st.data())
def test_counts_are_those_of_the_selected_products(
    field: str, catalogue: list[Product], cut: int, data: st.DataObject
) -> None:
    catalogue = [
        replace(EVERYTHING, brand="Terra"),
        *(replace(p, attributes=_unbranded(p)) for p in catalogue),
    ]
    mask = np.array([data.draw(st.booleans()) for _ in catalogue], bool)
    chosen = [_value(product, field) for product, kept in zip(catalogue, mask, strict=True) if kept]
    parts = [Columns.of(catalogue[:cut]), Columns.of(catalogue[cut:])]
    found = facet_counts(parts, [mask[:cut], np.flatnonzero(mask[cut:])], field)
    assert found == Counter(_text(value) for value in chosen if value is not None)
    assert list(found.values()) == sorted(found.values(), reverse=True)


def _unbranded(product: Product) -> dict[str, object]:
    return {name: value for name, value in product.attributes.items() if name != "brand"}


def test_counts_worked_by_hand() -> None:
    parts = [Columns.of(SHOP[:2]), Columns.of(SHOP[2:])]
    every = [None, None]
    assert facet_counts(parts, every, "brand") == {"Humus": 2, "Terra": 1}
    assert facet_counts(parts, every, "brand", 1) == {"Humus": 2}
    assert list(facet_counts(parts, every, "volume").items()) == [("4,5 l", 2), ("60 l", 1)]
    assert facet_counts(parts, every, "organic") == {"true": 1}
    assert facet_counts(parts, every, "wheels") == {"2": 1, "3": 1}
    assert facet_counts(parts, every, "price") == {"count": 2, "min": 5, "max": 7.5}
    assert facet_counts(parts, [np.array([1]), np.array([False])], "price") == {
        "count": 1,
        "min": 7.5,
        "max": 7.5,
    }
    assert facet_counts(parts, every, "rating") == {"count": 0}


@given(st.lists(st.integers(0, 4), max_size=12), st.integers(1, 12))
def test_the_most_frequent_are_the_largest_counts(counts: list[int], most: int) -> None:
    places = facets._largest(np.array(counts, np.int64), most)
    expected = sorted((place for place, count in enumerate(counts) if count), key=lambda p: (-counts[p], p))
    assert places.tolist() == expected[:most]


@pytest.mark.parametrize("field", ["title", "product_id", "notes"])
def test_what_has_no_values_is_not_counted(field: str) -> None:
    with pytest.raises(InputError, match="has no values to count"):
        facet_counts([Columns.of(SHOP)], [None], field)


# --- all fields -----------------------------------------------------------------------------------


def test_a_schema_worked_by_hand() -> None:
    found = schema([Columns.of(SHOP[:2]), Columns.of(SHOP[2:])], [np.array([True, True]), None])
    assert list(found) == [
        "product_id", "brand", "product_type", "currency", "price", "title", "link", "attributes.volume",
        "attributes.sown", "attributes.wheels", "attributes.notes", "attributes.organic",
    ]  # fmt: skip
    assert found["product_id"] == {"type": "id", "products": 3}
    assert found["price"] == {"type": "number", "products": 2, "min": 5, "max": 7.5}
    assert found["link"] == {"type": "presence", "products": 1}
    assert found["attributes.notes"] == {"type": "presence", "products": 1}
    assert found["brand"] == {
        "type": "text", "products": 3, "distinct": 2,
        "values": [{"value": "Humus", "count": 2}, {"value": "Terra", "count": 1}],
    }  # fmt: skip
    assert found["attributes.volume"] == {
        "type": "number", "unit": "l", "products": 3, "min": 4.5, "max": 60, "distinct": 2,
        "values": [{"value": "4,5 l", "count": 2}, {"value": "60 l", "count": 1}],
    }  # fmt: skip
    assert (found["attributes.sown"]["min"], found["attributes.sown"]["max"]) == ("2023-01-01", "2024-03-01")
    assert found["attributes.organic"]["values"] == [{"value": True, "count": 1}]


def test_dead_rows_do_not_count() -> None:
    found = schema([Columns.of(SHOP)], [np.array([False, True, False])])
    assert found["attributes.volume"]["values"] == [{"value": "4,5 l", "count": 1}]
    assert found["attributes.wheels"]["max"] == 2
    assert "link" not in found and "attributes.organic" not in found
    assert schema([Columns.of([])], [None]) == {}


@given(catalogue=products(), cut=st.integers(0, 12))
def test_parts_are_described_as_one(catalogue: list[Product], cut: int) -> None:
    whole = schema([Columns.of(catalogue)], [None])
    parts = schema([Columns.of(catalogue[:cut]), Columns.of(catalogue[cut:])], [None, None])
    for facts in (*whole.values(), *parts.values()):
        for each in facts.get("values", []):
            each["order"] = (-each["count"], type(each["value"]).__name__, str(each["value"]))
        facts["values"] = sorted(facts.get("values", []), key=lambda each: each["order"])
    assert parts == whole


# --- a schema of filters --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    described = json_schema(schema([Columns.of(SHOP)], [None]))
    jsonschema.Draft202012Validator.check_schema(described)
    return jsonschema.Draft202012Validator(described)


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"brand": "Terra"},
        {"brand": ["Terra", "Humus"], "price": {"gte": 5, "lt": 20}},
        {"product_type": {"prefix": "Garden"}},
        {"link": {"exists": False}},
        {"product_id": ["a", "zz"]},
        {"attributes.volume": 60},
        {"attributes.volume": {"gt": "5 l"}},
        {"attributes.sown": {"gte": "2024-01-01"}},
        {"attributes.organic": True},
        {"or": [{"brand": "Terra"}, {"not": {"and": [{"price": 5}]}}]},
    ],
)
def test_a_schema_accepts_filters(validator: jsonschema.Draft202012Validator, wanted: dict) -> None:
    validator.validate(wanted)


@pytest.mark.parametrize(
    "wanted",
    [
        {"colour": "red"},
        {"brand": "Nobody"},
        {"brand": []},
        {"brand": {"prefix": "T"}},
        {"price": "5"},
        {"price": {"from": 5}},
        {"price": {}},
        {"link": "x"},
        {"attributes.organic": "yes"},
        {"attributes.sown": 2024},
        {"or": []},
        {"not": {"colour": "red"}},
        [],
    ],
)
def test_a_schema_refuses_what_is_no_filter(
    validator: jsonschema.Draft202012Validator, wanted: object
) -> None:
    assert not validator.is_valid(wanted)


@given(catalogue=products(), wanted=filters())
def test_filters_that_a_schema_accepts_are_understood(catalogue: list[Product], wanted: dict) -> None:
    columns = Columns.of([EVERYTHING, *catalogue])
    if jsonschema.Draft202012Validator(json_schema(schema([columns], [None]))).is_valid(wanted):
        (mask,) = allowed_in([columns], wanted) or []
        assert mask.shape == (len(catalogue) + 1,)


def test_of_many_attributes_only_the_most_common_are_spelt_out() -> None:
    shop = [Product(id=str(n), title="t", attributes={f"a{m}": "x" for m in range(n, 60)}) for n in range(60)]
    described = json_schema(schema([Columns.of(shop)], [None]))
    spelt = [name for name in described["$defs"]["filters"]["properties"] if name.startswith("attributes.")]
    assert sorted(spelt) == sorted(f"attributes.a{n}" for n in range(20, 60))
    validator = jsonschema.Draft202012Validator(described)
    assert validator.is_valid({"attributes.a0": "x"})
    assert not validator.is_valid({"a0": "x"})
