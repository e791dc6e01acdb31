"""Raw values as the values of fields."""

from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilth.errors import InputError
from tilth.readers.values import (
    MAX_TEXT,
    as_attributes,
    as_category,
    as_count,
    as_description,
    as_id,
    as_number,
    as_rating,
    as_text,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("  cow\tmanure ", "cow manure"),
        (5, "5"), (5.0, "5"), (5.5, "5.5"), (True, "true"), (Decimal("5.50"), "5.50"), (float("nan"), ""),
        (date(2024, 5, 1), "2024-05-01"), ("перегной".encode(), "перегной"),
        (["red", "", None, 7], "red, 7"), ([], ""), ({"@type": "Brand", "name": "Acme"}, "Acme"),
    ],
)  # fmt: skip
def test_text(value: object, text: str) -> None:
    assert as_text(value) == text


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"name": {"name": "x"}}, "not a text"),
        ([["x"]], "not a text"),
        (b"caf\xe9", "byte 0xe9 at 4"),
        ("x" * (MAX_TEXT + 1), "longer than"),
        (["x" * MAX_TEXT, "x"], "longer than"),
    ],
)
def test_no_text(value: object, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        as_text(value)


@pytest.mark.parametrize(
    ("value", "text"), [(" P-1 ", "P-1"), (12, "12"), (12.0, "12"), ("код:7/а", "код:7/а")]
)
def test_id(value: object, text: str) -> None:
    assert as_id(value) == text


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("P 1", "white space"),
        ("P\u00a01", "white space"),
        ("P\x001", "control"),
        ("P\t1", "control"),
        ([[1]], "text"),
    ],
)
def test_unusable_id(value: object, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        as_id(value)


@given(st.text())
def test_id_is_one_word(text: str) -> None:
    try:
        product_id = as_id(text)
    except InputError:
        return
    assert product_id == "" or product_id.split() == [product_id]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("<p>Aged <b>manure</b></p><p>5&nbsp;kg</p>", "Aged manure 5 kg"),
        ("8M Cache <br />2.26 GHz", "8M Cache 2.26 GHz"),
        ("&lt;p&gt;twice&lt;/p&gt;", "twice"),
        ("Black &amp; Decker", "Black & Decker"),
        ("below <5 cm, above >3 cm", "below <5 cm, above >3 cm"),
        ("<style>p {color: red}</style>text<script>var a = '<b>';</script>", "text"),
        ("<!-- note -->text", "text"),
        ("an open <b tag", "an open <b tag"),
        (["one", "two"], "one, two"),
    ],
)
def test_description_without_html(value: object, text: str) -> None:
    assert as_description(value) == text


BROKEN_HTML = ["<", "<a", "<script", "<!--", "</", "&lt;", "<script><", "<style></script>"]


@pytest.mark.parametrize("piece", BROKEN_HTML)
def test_long_broken_html_is_read_through(piece: str) -> None:
    # Would take minutes if the time grew with the square of the length.
    assert as_description(piece * (900_000 // len(piece)) + " end").endswith("end")


@pytest.mark.parametrize(
    ("value", "number"),
    [
        ("4.5", 4.5),
        ("4,5", 4.5),
        ("1 200", 1200),
        (" -3 ", -3),
        ("1e3", 1000),
        (7, 7),
        (Decimal("1.5"), 1.5),
        ("", None),
    ],
)
def test_number(value: object, number: float | None) -> None:
    assert as_number(value) == number


@pytest.mark.parametrize(
    "value", ["good", "nan", "inf", "1" * 400, float("nan"), True, [], {}, b"5", "4.5/5"]
)
def test_no_number(value: object) -> None:
    with pytest.raises(InputError, match="not a number"):
        as_number(value)


def test_counts_are_whole_and_ratings_not_negative() -> None:
    assert (as_count("1,200"), as_count(12.0), as_count(""), as_rating("4.5")) == (1200, 12, None, 4.5)
    for broken in ("1.5", "-1", 1e30):
        with pytest.raises(InputError):
            as_count(broken)
    with pytest.raises(InputError, match="less than zero"):
        as_rating(-0.5)


def test_category_as_bytes_and_too_long() -> None:
    assert as_category(b"A > B") == "A > B"
    with pytest.raises(InputError, match="longer"):
        as_category(["x" * MAX_TEXT, "y"])


@pytest.mark.parametrize(
    ("value", "rest", "flat"),
    [
        ({"colour": " red ", "size": {"width": 3, "unit": "cm"}}, {},
         {"colour": "red", "size.width": 3, "size.unit": "cm"}),
        ({"organic": True, "npk": [3, 2, 2], "empty": "", "none": None, "gap": float("nan")}, {},
         {"organic": True, "npk": "3, 2, 2"}),
        ('{"colour": "red", "kg": 5}', {}, {"colour": "red", "kg": 5}),
        ("red, large", {}, {"attributes": "red, large"}),
        ([{"attribute_name": "Colour", "attribute_value": "red", "section_name": "General"}], {},
         {"Colour": "red"}),
        ({"attribute_name": "Colour", "attribute_value": "red"}, {}, {"Colour": "red"}),
        ([{"name": "kg", "value": 5}, {"name": "", "value": 1}], {}, {"kg": 5}),
        ([("colour", "red"), ("kg", 5)], {}, {"colour": "red", "kg": 5}),
        ({"variants": [{"size": "S"}, {"size": "M"}]}, {}, {"variants.1.size": "S", "variants.2.size": "M"}),
        (None, {"colour": "red", "attributes.kg": "5", " ": "x"}, {"colour": "red", "kg": "5"}),
        ({"colour": "red"}, {"colour": "blue", "day": date(2024, 5, 1)},
         {"colour": "red", "day": "2024-05-01"}),
    ],
)  # fmt: skip
def test_attributes_are_flat(value: object, rest: dict[str, object], flat: dict[str, object]) -> None:
    assert as_attributes(value, rest) == flat


def test_unusable_attributes_name_their_column() -> None:
    with pytest.raises(InputError, match="not a JSON object"):
        as_attributes('{"colour": ', {})
    with pytest.raises(InputError, match="field 'notes'"):
        as_attributes(None, {"notes": "x" * (MAX_TEXT + 1)})


@pytest.mark.parametrize("step", [lambda v: [v, 1], lambda v: {"a": v}, lambda v: {"name": "a", "value": v}])
def test_deep_attributes_are_refused(step: object) -> None:
    value: object = [[1]]
    for _ in range(900):
        value = step(value)  # type: ignore[operator]
    with pytest.raises(InputError, match=r"deeper|not a text"):
        as_attributes({"a": value}, {})


@given(JSON, st.dictionaries(st.text(max_size=5), JSON, max_size=3))
def test_any_json_gives_flat_attributes_or_a_refusal(value: object, rest: dict[str, object]) -> None:
    try:
        flat = as_attributes(value, rest)
    except InputError:
        return
    for name, content in flat.items():
        assert name == name.strip() != ""
        assert isinstance(content, str | int | float | bool)
        assert content != ""


@pytest.mark.parametrize(
    "parse", [as_text, as_id, as_description, as_category, as_number, as_rating, as_count]
)
@given(JSON)
def test_any_json_is_a_value_or_a_refusal(parse: object, value: object) -> None:
    try:
        parsed = parse(value)  # type: ignore[operator]
    except InputError:
        return
    assert parsed is None or isinstance(parsed, str | int | float)
