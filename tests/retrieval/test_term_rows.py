"""The terms of rows: the same from a folder as in memory, cut at the end, in any order."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from catalogues import products
from tilth.catalog import Product
from tilth.errors import IndexFormatError
from tilth.retrieval.analyzer import analyze
from tilth.retrieval.lexical import attribute_terms
from tilth.retrieval.term_rows import (
    MOST_KEPT,
    TERM_FIELDS,
    TermRows,
    TermRowsWriter,
    term_chunk,
    term_hash,
)

SHOP = [
    Product(id="a", title="Steel spade 5 kg", brand="Terra", product_type="Garden > Tools"),
    Product(
        id="b", title="Грабли", attributes={"tines": 12, "folding": False}, description="Two. Two rakes."
    ),
    Product(id="c", title="!", brand="Terra"),
]
FILES = ("terms.u32", "lengths.npy", "starts.npy")


def write(folder: Path, *chunks: list[Product]) -> Path:
    with TermRowsWriter(folder / "terms") as writer:
        for chunk in chunks:
            writer.add(term_chunk(chunk))
    return folder / "terms"


def expected(product: Product) -> list[list[int]]:
    """The hashes of each field, without the module's own help."""
    texts = (product.title, product.brand, product.product_type, None, product.description)
    terms = [attribute_terms(product).split() if text is None else analyze(text) for text in texts]
    return [
        [xxhash.xxh32_intdigest(term.encode()) for term in field[:most]]
        for field, most in zip(terms, MOST_KEPT, strict=True)
    ]


def by_row(rows: TermRows, asked: list[int]) -> list[list[list[int]]]:
    """The hashes of each field of the rows that are asked for."""
    terms = rows.of_rows(np.array(asked, np.int64))
    assert len(terms.terms) == len(terms.places) == len(terms.fields)
    found: list[list[list[int]]] = [[[] for _ in TERM_FIELDS] for _ in asked]
    for term, place, field in zip(*(each.tolist() for each in terms), strict=True):
        found[place][field].append(term)
    return found


def test_a_shop_worked_by_hand(tmp_path: Path) -> None:
    rows = TermRows.open(write(tmp_path, SHOP))
    steel, spade, kilos, number, unit = map(term_hash, ["steel", "spade", "5kg", "5", "kg"])
    title, brand, kind, attributes, description = by_row(rows, [0])[0]
    assert title == [steel, spade, kilos, number, unit]
    assert (brand, attributes, description) == ([term_hash("terra")], [], [])
    assert kind == [term_hash("garden"), term_hash("tool")]
    title, brand, kind, attributes, description = by_row(rows, [1])[0]
    assert attributes == [term_hash("tine"), term_hash("12")]  # `folding: no` is left out
    assert description == [term_hash("two"), term_hash("two"), term_hash("rake")]
    assert rows.lengths(np.array([2, 0])).tolist() == [[0, 1, 0, 0, 0], [5, 1, 2, 0, 0]]
    np.testing.assert_allclose(rows.mean_lengths(), [2, 2 / 3, 2 / 3, 2 / 3, 1])


@given(
    catalogue=products(),
    cut=st.integers(0, 12),
    asked=st.lists(st.integers(0, 11), max_size=20),
)
def test_chunks_in_a_folder_give_any_rows_in_any_order(
    tmp_path_factory: pytest.TempPathFactory, catalogue: list[Product], cut: int, asked: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("chunks")
    opened = TermRows.open(write(folder, catalogue[:cut], [], catalogue[cut:]))
    memory = TermRows.of(catalogue)
    assert len(opened) == len(memory) == len(catalogue)
    asked = [row for row in asked if row < len(catalogue)]
    assert by_row(opened, asked) == [expected(catalogue[row]) for row in asked]
    assert by_row(memory, asked) == by_row(opened, asked)
    np.testing.assert_array_equal(opened.mean_lengths(), memory.mean_lengths())


def test_the_terms_of_a_row_are_side_by_side_its_fields_in_order() -> None:
    terms = TermRows.of(SHOP).of_rows(np.array([1, 0, 1]))
    assert terms.places.tolist() == sorted(terms.places.tolist())
    for place in range(3):
        fields = terms.fields[terms.places == place].tolist()
        assert fields == sorted(fields)


def test_long_fields_are_cut_to_what_comes_first() -> None:
    words = [f"w{chr(97 + n // 26)}{chr(97 + n % 26)}q" for n in range(300)]
    text = " ".join(words)
    attributes = dict.fromkeys(words, "yes")
    product = Product(
        id="a", title=text, brand=text, product_type=text, description=text, attributes=attributes
    )
    rows = TermRows.of([product, SHOP[0]])
    assert rows.lengths(np.array([0])).tolist() == [list(MOST_KEPT)]
    found = by_row(rows, [0, 1])
    for field, most in zip((0, 1, 2, 4), (64, 16, 32, 256), strict=True):
        assert found[0][field] == [term_hash(analyze(word)[0]) for word in words[:most]]
    assert found[1] == expected(SHOP[0])


def test_an_empty_catalogue_has_no_terms(tmp_path: Path) -> None:
    for rows in (TermRows.open(write(tmp_path)), TermRows.of([])):
        assert len(rows) == 0
        assert rows.mean_lengths().tolist() == [0.0] * 5
        assert [len(part) for part in rows.of_rows(np.empty(0, np.int64))] == [0, 0, 0]


def test_products_without_a_term_make_a_folder_that_opens(tmp_path: Path) -> None:
    rows = TermRows.open(write(tmp_path, [Product(id="a", title="!"), Product(id="b", title="?")]))
    assert len(rows) == 2
    assert [len(part) for part in rows.of_rows(np.array([1, 0, 1]))] == [0, 0, 0]


def test_an_error_while_writing_leaves_nothing_that_opens(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), TermRowsWriter(tmp_path / "terms") as writer:
        writer.add(term_chunk(SHOP))
        raise RuntimeError
    with pytest.raises(IndexFormatError, match="its terms are damaged"):
        TermRows.open(tmp_path / "terms")


def _other_rows(path: Path) -> None:
    np.save(path, np.load(path)[:-1])


def _no_rows(path: Path) -> None:
    np.save(path, np.load(path)[:0])


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "damage",
    [
        Path.unlink,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"rubbish"),
        lambda path: path.write_bytes(path.read_bytes()[:-4]),
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
    ],
    ids=["gone", "empty", "rubbish", "a number less", "a byte less"],
)
def test_damaged_files_are_named(tmp_path: Path, name: str, damage: Callable[[Path], object]) -> None:
    folder = write(tmp_path, SHOP)
    damage(folder / name)
    with pytest.raises(IndexFormatError, match=r"terms: its terms are damaged .* Build the index again"):
        TermRows.open(folder)


@pytest.mark.parametrize("name", ["lengths.npy", "starts.npy"])
@pytest.mark.parametrize("damage", [_other_rows, _no_rows])
def test_files_that_do_not_fit_together_are_refused(
    tmp_path: Path, name: str, damage: Callable[[Path], None]
) -> None:
    folder = write(tmp_path, SHOP)
    damage(folder / name)
    with pytest.raises(IndexFormatError, match="do not fit together"):
        TermRows.open(folder)
