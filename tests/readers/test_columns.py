"""Which column fills which field."""

import pytest

from tilth.errors import InputError, SettingError
from tilth.readers.columns import ColumnMap, normalised


@pytest.mark.parametrize("column", ["image_link", "g:image_link", "Image Link", " IMAGE-LINK "])
def test_columns_compare_without_case_and_prefix(column: str) -> None:
    assert normalised(column) == "image_link"


def test_own_name_goes_before_synonyms_which_become_attributes() -> None:
    row = {"SKU": "S1", "name": "Spade, steel", "ID": 7, "g:title": "Spade", "colour": "red"}
    fields, rest = ColumnMap({}).sort(row)
    assert fields == {"id": 7, "title": "Spade"}
    assert rest == {"SKU": "S1", "name": "Spade, steel", "colour": "red"}


def test_synonym_fills_where_the_own_column_is_blank() -> None:
    fields, rest = ColumnMap({}).sort({"product_type": "", "google_product_category": "Garden", "id": None})
    assert (fields, rest) == ({"product_type": "Garden"}, {})


def test_chosen_column_alone_fills_its_field() -> None:
    fields, rest = ColumnMap({"title": "Artikel"}).sort({"title": "x", "Artikel": "Spade", "id": "1"})
    assert fields == {"title": "Spade", "id": "1"}
    assert rest == {"title": "x"}


def test_one_column_may_fill_two_fields() -> None:
    fields, rest = ColumnMap({"mpn": "id"}).sort({"id": "1"})
    assert (fields, rest) == ({"id": "1", "mpn": "1"}, {})


def test_unknown_field_is_a_setting_error_that_lists_the_fields() -> None:
    with pytest.raises(SettingError, match=r"'weight'.*title"):
        ColumnMap({"weight": "kg"})


def test_check_names_the_columns_found() -> None:
    columns = ColumnMap({})
    columns.check(["id", "name"], "a.csv")
    with pytest.raises(InputError, match=r"title.*--map title=COLUMN.*bezeichnung, id"):
        columns.check(["id", "bezeichnung"], "a.csv")
    with pytest.raises(InputError, match=r"'kosten', which is to be the price"):
        ColumnMap({"price": "kosten"}).check(["id", "title"], "a.csv")


def test_more_columns_than_are_remembered() -> None:
    columns = ColumnMap({})
    _, rest = columns.sort({f"c{n}": n for n in range(20_000)})
    assert len(rest) == 20_000
    assert columns.sort({"id": 1}) == ({"id": 1}, {})
