"""Rejections, and the file that keeps them."""

from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilth.errors import InputError
from tilth.readers.rejections import Rejection, shown, writing_rejections

REJECTION = Rejection("a.csv", 3, "price", "-5", "broken price")


def test_file_has_one_object_a_rejection(tmp_path: Path) -> None:
    path = tmp_path / "rejected.jsonl"
    with writing_rejections(path) as write:
        write(REJECTION)
        assert not path.exists()
    assert [orjson.loads(line) for line in path.read_bytes().splitlines()] == [
        {"path": "a.csv", "line": 3, "field": "price", "value": "-5", "reason": "broken price"}
    ]


def test_error_leaves_the_earlier_file(tmp_path: Path) -> None:
    path = tmp_path / "rejected.jsonl"
    path.write_text("earlier")
    with pytest.raises(KeyboardInterrupt), writing_rejections(path) as write:
        write(REJECTION)
        raise KeyboardInterrupt
    assert path.read_text() == "earlier"
    assert list(tmp_path.iterdir()) == [path]


def test_rejection_as_error_names_everything() -> None:
    error = REJECTION.as_error()
    assert isinstance(error, InputError)
    assert str(error).startswith("a.csv:3, field 'price': broken price (got '-5'). Correct it")


@given(
    st.none()
    | st.text()
    | st.binary()
    | st.floats()
    | st.integers()
    | st.text(st.characters(categories=["Cs"]))
)
def test_shown_is_short_and_can_be_stored(value: object) -> None:
    text = shown(value)
    assert orjson.loads(orjson.dumps(text)) == text


def test_shown_is_cut_and_escapes_surrogates() -> None:
    assert shown("x" * 100) == "x" * 79 + "…"
    assert shown("\ud800") == "\\ud800"
    assert shown(b"caf\xe9") == "caf\\xe9"
    assert shown({"a": 1}) == "(dict)"
