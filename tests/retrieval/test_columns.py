"""Columns by row: the same from a folder as in memory, in any chunks, and after changes."""

import pickle
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalogues import products
from tilth.catalog import Price, Product
from tilth.errors import IndexFormatError
from tilth.retrieval import column_chunks
from tilth.retrieval import columns as module
from tilth.retrieval.column_chunks import NUMBER_FIELDS, PRESENCE_FIELDS, TEXT_FIELDS, column_chunk
from tilth.retrieval.columns import Columns, ColumnsWriter

SHOP = [
    Product(
        id="a", title="Spade", brand="Terra", price=Price(10.0, "EUR"), rating_count=3, item_group_id="g"
    ),
    Product(
        id="b", title="Fork", brand="Humus", price=Price(20.5, "EUR"), attributes={"tines": 4, "oak": True}
    ),
    Product(id="c", title="Грабли", brand="Terra", availability="in_stock", attributes={"tines": 4.0}),
]


def _write(folder: Path, chunks: Sequence[Sequence[Product]]) -> Path:
    with ColumnsWriter(folder) as writer:
        for chunk in chunks:
            writer.add(column_chunk(chunk))
    return folder


def _contents(columns: Columns) -> dict[str, object]:
    """All that columns hold, as plain values by row."""
    rows = np.arange(len(columns))
    fields: dict[str, object] = {"product_id": columns.ids(rows), "groups": columns.groups(rows)}
    for name in NUMBER_FIELDS:
        fields[name] = [None if np.isnan(value) else value for value in columns.numbers[name].tolist()]
    for name in PRESENCE_FIELDS:
        fields[name] = columns.presence[name].tolist()
    coded = {name: columns.texts[name] for name in TEXT_FIELDS}
    coded |= {f"attributes.{name}": columns.attribute(name) for name in columns.attribute_names}
    for name, field in coded.items():
        texts = [None if code < 0 else field.texts[code].as_py() for code in field.codes.tolist()]
        types = [None if code < 0 else int(field.types[code]) for code in field.codes.tolist()]
        fields[name] = (texts, types, None if field.rows is None else field.rows.tolist())
    return fields


@pytest.fixture(scope="module")
def columns(tmp_path_factory: pytest.TempPathFactory) -> Columns:
    return Columns(_write(tmp_path_factory.mktemp("columns") / "columns", [SHOP[:2], SHOP[2:]]))


def test_a_shop_worked_by_hand(columns: Columns) -> None:
    assert len(columns) == 3
    assert columns.ids(np.array([2, 0])) == ["c", "a"]
    assert columns.groups(np.array([1, 0, 0])) == ["", "g", "g"]
    assert columns.texts["brand"].texts.to_pylist() == ["Terra", "Humus"]
    assert columns.texts["brand"].codes.tolist() == [0, 1, 0]
    assert columns.texts["availability"].codes.tolist() == [-1, -1, 0]
    assert columns.presence["title"].tolist() == [True, True, True]
    assert columns.presence["link"].tolist() == [False, False, False]
    np.testing.assert_array_equal(columns.numbers["price"], [10, 20.5, np.nan])
    tines = columns.attribute("tines")
    assert tines is not None and tines.rows is not None
    assert (tines.rows.tolist(), tines.codes.tolist(), tines.texts.to_pylist()) == ([1, 2], [0, 0], ["4.0"])
    assert columns.attribute_names == ["oak", "tines"]
    assert columns.attribute("elm") is None


def test_values_too_long_or_without_a_number_are_present_only() -> None:
    values = {"long": "x" * 201, "huge": 10**400, "short": "x" * 200}
    columns = Columns.of([Product(id="a", title="a", attributes=values)])
    held = {name: columns.attribute(name) for name in values}
    assert [held[name].codes.tolist() for name in values] == [[-1], [-1], [0]]
    assert [held[name].rows.tolist() for name in values] == [[0], [0], [0]]


@given(catalogue=products(), cut=st.integers(0, 12), fewest=st.sampled_from([0, 1_000_000]))
def test_chunks_in_a_folder_are_the_same_as_all_in_memory(
    tmp_path_factory: pytest.TempPathFactory, catalogue: list[Product], cut: int, fewest: int
) -> None:
    chunks = [catalogue[:cut], catalogue[cut : cut + 1], [], catalogue[cut + 1 :]]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(column_chunks, "_FEWEST_TO_MERGE", fewest)
        folder = _write(tmp_path_factory.mktemp("chunks") / "columns", chunks)
    assert _contents(Columns(folder)) == _contents(Columns.of(catalogue))


def test_text_fields_of_rows_in_any_order(columns: Columns) -> None:
    asked = np.array([2, 0, 1, 2])
    assert columns.values("brand", asked) == ["Terra", "Terra", "Humus", "Terra"]
    assert columns.values("availability", asked) == ["in_stock", "", "", "in_stock"]
    assert columns.values("item_group_id", asked) == ["", "g", "", ""]
    assert columns.values("brand", np.empty(0, np.int64)) == []


@given(catalogue=products(), asked=st.lists(st.integers(0, 11), max_size=20))
def test_text_fields_are_those_of_the_products(catalogue: list[Product], asked: list[int]) -> None:
    columns = Columns.of(catalogue)
    asked = [row for row in asked if row < len(catalogue)]
    for name in ("brand", "product_type", "availability", "item_group_id"):
        expected = [getattr(catalogue[row], name) for row in asked]
        assert columns.values(name, np.array(asked, np.int64)) == expected


@given(catalogue=products(), asked=st.lists(st.text("abcdefgh0123456789", max_size=3)))
def test_rows_are_found_by_product_id(catalogue: list[Product], asked: list[str]) -> None:
    columns = Columns.of(catalogue)
    ids = [product.id for product in catalogue]
    assert columns.row_of(ids).tolist() == list(range(len(ids)))
    assert columns.row_of(asked).tolist() == [ids.index(name) if name in ids else -1 for name in asked]


def test_ids_with_one_hash_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    for place in (module, column_chunks):
        monkeypatch.setattr(place, "text_hashes", lambda texts: np.zeros(len(texts), np.uint64))
    assert Columns.of(SHOP).row_of(["c", "x", "a", "b"]).tolist() == [2, -1, 0, 1]


@given(catalogue=products(least=1), data=st.data())
def test_an_update_is_the_same_as_building_anew(catalogue: list[Product], data: st.DataObject) -> None:
    columns = Columns.of(catalogue)
    row = data.draw(st.integers(0, len(catalogue) - 1))
    changed = replace(
        catalogue[row],
        price=data.draw(st.sampled_from([None, Price(3.5, "USD"), Price(1.0, "EUR"), Price(2.0)])),
        availability=data.draw(st.sampled_from(["", "preorder", "in_stock"])),
        clicks=data.draw(st.sampled_from([None, 7])),
        rating=None,
    )
    columns.update(row, changed)
    anew = Columns.of([*catalogue[:row], changed, *catalogue[row + 1 :]])
    assert _contents(columns) == _contents(anew)


def test_updates_change_neither_the_files_nor_other_openings(tmp_path: Path) -> None:
    folder = _write(tmp_path / "columns", [SHOP])
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    columns, other = Columns(folder), Columns(folder)
    held = columns.texts["currency"]
    columns.update(0, replace(SHOP[0], price=Price(1.0, "GBP")))
    assert columns.numbers["price"][0] == 1.0
    assert columns.texts["currency"].texts.to_pylist() == ["EUR", "GBP"]
    assert held.codes.tolist() == [0, 0, -1]
    assert other.numbers["price"][0] == 10.0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_chunks_travel_between_processes(tmp_path: Path) -> None:
    with ColumnsWriter(tmp_path / "columns") as writer:
        writer.add(pickle.loads(pickle.dumps(column_chunk(SHOP))))
    assert _contents(Columns(tmp_path / "columns")) == _contents(Columns.of(SHOP))


def test_an_error_while_writing_leaves_nothing_that_opens(tmp_path: Path) -> None:
    folder = tmp_path / "columns"
    with pytest.raises(RuntimeError), ColumnsWriter(folder) as writer:
        writer.add(column_chunk(SHOP))
        raise RuntimeError
    with pytest.raises(IndexFormatError, match="its columns are damaged"):
        Columns(folder)


@pytest.mark.parametrize("name", ["columns.json", "price.npy", "brand.arrow"])
def test_a_damaged_folder_is_named(tmp_path: Path, name: str) -> None:
    folder = _write(tmp_path / "columns", [SHOP])
    (folder / name).write_bytes(b"rubbish")
    with pytest.raises(IndexFormatError, match=r"columns: its columns are damaged .* Build the index again"):
        Columns(folder)
