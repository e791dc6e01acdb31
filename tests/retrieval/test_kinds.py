"""What the values of an attribute are taken for."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilth.catalog import Product
from tilth.retrieval.columns import Columns
from tilth.retrieval.kinds import Kind, joint_kind, parse_date, parse_quantity


@pytest.mark.parametrize(
    ("text", "quantity"),
    [
        ("60 l", (60, "l")),
        ("60l", (60, "l")),
        ("4,5 mm", (4.5, "mm")),
        ("1 299,50 ₽", (1299.5, "₽")),
        ("1,299 g", (1299, "g")),
        ("-20 °C", (-20, "°C")),
        ("2 g/m2", (2, "g/m2")),
        ("16 fl oz", (16, "fl oz")),
        ("30 %", (30, "%")),
        ("12", (12, "")),
        ("0.5", (0.5, "")),
        ("0", (0, "")),
        ("", None),
        ("l", None),
        ("007", None),
        ("10-20 cm", None),
        ("1/2 inch", None),
        ("10 x 20 cm", None),
        ("10x20 cm", None),
        ("1.2.3", None),
        ("about 5 l", None),
        ("2024-05-01", None),
        ("4006381333931000", None),
    ],
)
def test_a_quantity_is_a_number_and_perhaps_a_unit(text: str, quantity: tuple[float, str] | None) -> None:
    assert parse_quantity(text) == quantity


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-02", 86_400),
        ("1970-01-01T01:00", 3_600),
        ("1970-01-01 01:00:00.5Z", 3_600.5),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1970-02-30", None),
        ("19700101", None),
        ("1970-01", None),
        ("01.02.1970", None),
    ],
)
def test_a_date_is_iso_8601(text: str, seconds: float | None) -> None:
    assert parse_date(text) == seconds


@given(st.text("0123456789.,- lкг%xT:Z"))
def test_any_text_is_read_or_not(text: str) -> None:
    quantity = parse_quantity(text)
    assert quantity is None or (math.isfinite(quantity[0]) and text.endswith(quantity[1]))
    assert parse_date(text) is None or text[4] == "-"


@pytest.mark.parametrize(
    ("values", "kind", "numbers"),
    [
        (["5 l", "60 l"], Kind("number", "l"), [5, 60]),
        ([5, 2.5, "7"], Kind("number"), [5, 2.5, 7]),
        ([True, False], Kind("boolean"), [1, 0]),
        (["1970-01-02", "1970-01-01T00:01"], Kind("date"), [86_400, 60]),
        (["5 l", "5 kg"], Kind("text"), [math.nan] * 2),
        (["5 l", 5], Kind("text"), [math.nan] * 2),
        (["5 l", "large"], Kind("text"), [math.nan] * 2),
        ([1, True], Kind("text"), [math.nan] * 2),
        (["x" * 201], Kind("presence"), []),
    ],
)
def test_what_all_values_have_in_common(values: list, kind: Kind, numbers: list[float]) -> None:
    shop = [Product(id=str(n), title="t", attributes={"a": value}) for n, value in enumerate(values)]
    field = Columns.of(shop).attribute("a")
    assert field is not None
    assert field.meaning[0] == kind
    np.testing.assert_array_equal(field.meaning[1], numbers)


@pytest.mark.parametrize(
    ("kinds", "joint"),
    [
        ([], Kind("presence")),
        ([Kind("number", "l"), Kind("presence")], Kind("number", "l")),
        ([Kind("number", "l"), Kind("number", "kg")], Kind("text")),
        ([Kind("date"), Kind("text")], Kind("text")),
    ],
)
def test_parts_of_a_catalogue_that_disagree_are_text(kinds: list[Kind], joint: Kind) -> None:
    assert joint_kind(kinds) == joint
