"""Values of a product's fields, and products as JSON."""

import math

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilth.catalog import (
    Price,
    Product,
    category_path,
    clean_text,
    parse_amount,
    parse_availability,
    parse_currency,
    parse_price,
    product_from_json,
    product_to_json,
)
from tilth.errors import InputError

AMOUNTS = st.floats(0, 1e300, allow_nan=False) | st.decimals(0, 10**6, places=2).map(float)
PRICES = st.builds(Price, AMOUNTS.map(abs), st.sampled_from(["", "EUR", "RUB", "USD", "KWD"]))
TEXT = st.text(max_size=30)
JSON_ATTRIBUTES = st.dictionaries(
    TEXT.filter(bool),
    TEXT | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False),
    max_size=4,
)
PRODUCTS = st.builds(
    Product,
    id=TEXT,
    title=TEXT,
    description=TEXT,
    brand=TEXT,
    product_type=TEXT,
    price=st.none() | PRICES,
    sale_price=st.none() | PRICES,
    availability=st.sampled_from(["", "in_stock", "preorder"]),
    gtin=TEXT,
    attributes=JSON_ATTRIBUTES,
    rating=st.none() | st.floats(0, 5),
    rating_count=st.none() | st.integers(0, 10**9),
    popularity=st.none() | st.floats(-1e9, 1e9),
    clicks=st.none() | st.integers(0, 10**9),
)


@pytest.mark.parametrize(
    ("value", "amount", "currency"),
    [
        ("49.95 EUR", 49.95, "EUR"),
        ("EUR 49.95", 49.95, "EUR"),
        ("eur49.95", 49.95, "EUR"),
        ("1 299,00 ₽", 1299, "RUB"),
        ("1\u00a0299,00\u202f₽", 1299, "RUB"),
        ("1299 руб.", 1299, "RUB"),
        ("$12.50", 12.5, "USD"),
        ("US$ 12.50", 12.5, "USD"),
        ("1.299,00 €", 1299, "EUR"),
        ("1,299.00", 1299, ""),
        ("1,299", 1299, ""),
        ("1.299", 1.299, ""),
        ("12,345,678", 12345678, ""),
        ("1.234.567", 1234567, ""),
        ("0,125", 0.125, ""),
        ("12,5", 12.5, ""),
        (".99", 0.99, ""),
        ("12,- €", 12, "EUR"),
        ("₹1,29,999.00", 129999, "INR"),
        ("1’299.00 CHF", 1299, "CHF"),
        (" 7 ", 7, ""),
        (49, 49, ""),
        (4.5, 4.5, ""),
        ({"amount": "4,50", "currency": "EUR"}, 4.5, "EUR"),
        ({"value": 4.5, "currency_code": "rub"}, 4.5, "RUB"),
        ({"price": "4.50 USD"}, 4.5, "USD"),
    ],
)
def test_price_is_read(value: object, amount: float, currency: str) -> None:
    assert parse_price(value) == Price(amount, currency)


@pytest.mark.parametrize("value", [None, "", "  ", {}, {"currency": "EUR"}])
def test_missing_price_is_none(value: object) -> None:
    assert parse_price(value) is None


@pytest.mark.parametrize(
    "value",
    [
        "-5", "$-5", "-5 EUR", "5-10 EUR", "nan", "NaN EUR", "inf", "1.2.3", "1,2,3", "1,234,56", "1 2",
        "abc", "12 pieces", "EUR 5 USD", "9" * 500, "1" * 399, "5\x00", "call us",
        -1, float("nan"), float("inf"), True, 10**400, [], [5], b"5",
        {"amount": -1}, {"amount": [1]}, {"amount": 5, "currency": "euros"},
    ],
)  # fmt: skip
def test_broken_price_is_refused(value: object) -> None:
    with pytest.raises(InputError, match=r"broken price|unknown currency"):
        parse_price(value)


def test_currency_fills_only_where_the_price_names_none() -> None:
    assert parse_price("5", "EUR") == Price(5, "EUR")
    assert parse_price(5, "EUR") == Price(5, "EUR")
    assert parse_price("5 USD", "EUR") == Price(5, "USD")
    assert parse_price({"amount": 5}, "EUR") == Price(5, "EUR")


@given(PRICES)
def test_price_as_text_reads_back_exactly(price: Price) -> None:
    assert parse_price(str(price)) == price


def test_price_has_at_least_two_decimals() -> None:
    assert [str(Price(a, "EUR")) for a in (5, 0.125, 1e20)] == ["5.00 EUR", "0.125 EUR", f"{10**20}.00 EUR"]


@given(st.text(max_size=40) | st.text("0123456789., '-+eE€$", max_size=15))
def test_any_text_is_a_price_none_or_refused(text: str) -> None:
    try:
        price = parse_price(text)
    except InputError:
        return
    assert price is None or 0 <= price.amount < math.inf


@pytest.mark.parametrize("value", ["", None])
def test_blank_currency_stays_blank(value: object) -> None:
    assert parse_currency(value) == ""


@given(
    st.integers(0, 10**9),
    st.integers(0, 99),
    st.sampled_from([(",", "."), (".", ","), (" ", ","), ("'", ".")]),
)
def test_amounts_written_by_people_read_back(whole: int, cents: int, signs: tuple[str, str]) -> None:
    thousands, point = signs
    text = f"{whole:,}".replace(",", thousands) + f"{point}{cents:02d}"
    assert parse_amount(text) == float(f"{whole}.{cents:02d}")


@pytest.mark.parametrize(
    ("words", "state"),
    [
        (["in stock", "in_stock", "InStock", "https://schema.org/InStock", "http://schema.org/InStock", "yes",
          "available", "TRUE", "1", 1, True, 12, "12", 1.0, "в наличии", "Есть в наличии", "да"], "in_stock"),
        (["out of stock", "out_of_stock", "OutOfStock", "SoldOut", "no", "false", "0", 0, False, 0.0,
          "нет в наличии", "Нет"], "out_of_stock"),
        (["preorder", "pre-order", "https://schema.org/PreOrder", "предзаказ"], "preorder"),
        (["backorder", "back_order", "https://schema.org/BackOrder", "под заказ"], "backorder"),
        (["", "perhaps", "-1", None, [], {}, float("nan"), float("inf"), "x" * 10_000], ""),
    ],
)  # fmt: skip
def test_availability_words(words: list[object], state: str) -> None:
    assert {parse_availability(word) for word in words} == {state}


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ("Garden>Soil >  Compost", "Garden > Soil > Compost"),
        ("Garden/Soil/Compost", "Garden > Soil > Compost"),
        ("Дом » Сад → Удобрения", "Дом > Сад > Удобрения"),
        ("TV/Video > Cables", "TV/Video > Cables"),
        ("> A > > B >", "A > B"),
        (["TV/Video", "Cables"], "TV/Video > Cables"),
        (["A", "A > B", "A > C"], "A > B"),
        ([["A", "B"], ["A", "C", "D"]], "A > C > D"),
        ([{"name": "A"}, {"name": "B"}], "A > B"),
        ({"name": "C", "parent": {"name": "B", "parent": {"name": "A"}}}, "A > B > C"),
        ({"lvl0": "A", "lvl1": "A > B"}, "A > B"),
        ("", ""), (None, ""), ([], ""), ({}, ""), ([None, ""], ""), (7, "7"),
    ],
)  # fmt: skip
def test_category_path(value: object, path: str) -> None:
    assert category_path(value) == path


def test_category_nested_too_deep_is_refused() -> None:
    value: object = "A"
    for _ in range(2000):
        value = [value, {"name": value}] if value == "A" else [value]
    with pytest.raises(InputError, match="deeper"):
        category_path(value)


@given(st.text())
def test_category_path_is_stable(text: str) -> None:
    path = category_path(text)
    assert category_path(path if " > " in path else [path]) == path


@given(st.text())
def test_clean_text_is_one_line_and_stable(text: str) -> None:
    clean = clean_text(text)
    assert clean_text(clean) == clean
    assert not any(c < " " for c in clean)
    assert "  " not in clean
    assert clean == clean.strip()


def test_control_characters_part_words() -> None:
    assert clean_text("cow\x00manure\t\n 5\u00a0kg ") == "cow manure 5 kg"


@given(PRODUCTS)
def test_product_survives_json(product: Product) -> None:
    record = orjson.loads(orjson.dumps(product_to_json(product)))
    if product.id and product.title:
        assert product_from_json(record) == product


def test_product_as_json_leaves_out_what_is_empty() -> None:
    product = Product(id="1", title="Spade", price=Price(12.5, "EUR"), attributes={"handle": "ash"}, clicks=0)
    assert product_to_json(product) == {
        "id": "1", "title": "Spade", "price": "12.50 EUR", "attributes": {"handle": "ash"}, "clicks": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("record", "field"),
    [
        ({"title": "Spade"}, "id"),
        ({"id": "1"}, "title"),
        ({"id": "1", "title": "Spade", "weight": 3}, "weight"),
    ],
)
def test_stored_product_of_another_shape_is_refused(record: dict[str, object], field: str) -> None:
    with pytest.raises(InputError, match=field):
        product_from_json(record)
