"""Catalogue files as products, whatever their format and however broken."""

import csv
import gzip
import io
import os
from collections.abc import Callable
from pathlib import Path
from xml.sax.saxutils import escape

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tilth.catalog import PRODUCT_FIELDS, Price, Product, category_path, clean_text, product_to_json
from tilth.errors import InputError, SettingError, TilthError
from tilth.readers.products import read_products
from tilth.readers.rejections import Rejection, Summary

DATA = Path(os.environ.get("TILTH_DATA", Path(__file__).parents[2] / ".." / "shared" / "data"))


def read(*paths: Path, **options: object) -> tuple[list[Product], list[Rejection], Summary]:
    rejections: list[Rejection] = []
    summary = Summary()
    products = list(read_products(paths, on_reject=rejections.append, summary=summary, **options))  # type: ignore[arg-type]
    assert (summary.kept, summary.rejected) == (len(products), len(rejections))
    assert sum(summary.reasons.values()) == summary.rejected
    return products, rejections, summary


# --- the same products in every format ------------------------------------------------------------


def as_jsonl(records: list[dict[str, object]]) -> bytes:
    return b"\n".join(map(orjson.dumps, records))


def as_table(records: list[dict[str, object]], delimiter: str = ",") -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, PRODUCT_FIELDS, delimiter=delimiter)
    writer.writeheader()
    for record in records:
        writer.writerow(record | {"attributes": orjson.dumps(record.get("attributes", {})).decode()})
    return text.getvalue().encode()


def as_tsv(records: list[dict[str, object]]) -> bytes:
    return as_table(records, "\t")


def as_parquet(records: list[dict[str, object]]) -> bytes:
    rows = [record | {"attributes": list(dict(record.get("attributes", {})).items())} for record in records]  # type: ignore[call-overload]
    attributes = pa.map_(pa.string(), pa.string())
    columns = {name: [row.get(name) for row in rows] for name in PRODUCT_FIELDS}
    table = {n: pa.array(c, attributes if n == "attributes" else None) for n, c in columns.items()}
    file = io.BytesIO()
    pq.write_table(pa.table(table), file)
    return file.getvalue()


def as_rss(records: list[dict[str, object]]) -> bytes:
    def element(name: str, value: object) -> str:
        if isinstance(value, dict):
            pairs = [{"attribute_name": n, "attribute_value": v} for n, v in value.items()]
            return "".join(
                element("product_detail", "".join(element(k, v) for k, v in p.items())) for p in pairs
            )
        text = str(value) if name == "product_detail" else escape(str(value))
        return f"<g:{name}>{text}</g:{name}>"

    items = "".join(f"<item>{''.join(element(n, v) for n, v in r.items())}</item>" for r in records)
    return f'<rss xmlns:g="http://base.google.com/ns/1.0"><channel>{items}</channel></rss>'.encode()


WRITERS: dict[str, Callable[[list[dict[str, object]]], bytes]] = {
    "jsonl": as_jsonl, "csv": as_table, "tsv": as_tsv, "parquet": as_parquet, "xml": as_rss,
}  # fmt: skip
TEXT = st.text("aZёЖ05 .,;|\"'-!{}[]éü中😀<&>/", max_size=12).map(clean_text)
DESCRIPTION = TEXT.map(lambda text: clean_text(text.replace("<", "").replace("&", "")))
NAME = (
    st.text("abcёж_. ", min_size=1, max_size=6)
    .map(lambda t: clean_text(t).removeprefix("attributes."))
    .filter(bool)
)
PRICE = st.builds(
    lambda cents, code: Price(cents / 100, code), st.integers(0, 10**7), st.sampled_from(["", "EUR", "RUB"])
)
PRODUCT = st.builds(
    Product,
    id=st.text("abc019-_./", min_size=1, max_size=6),
    title=TEXT.filter(bool),
    description=DESCRIPTION,
    brand=TEXT,
    product_type=st.lists(TEXT.filter(lambda t: t and not set(t) & set(">/")), max_size=3).map(category_path),
    price=st.none() | PRICE,
    sale_price=st.none() | PRICE,
    availability=st.sampled_from(["", "in_stock", "out_of_stock", "preorder", "backorder"]),
    gtin=st.from_regex(r"[0-9]{0,14}", fullmatch=True),
    item_group_id=TEXT,
    attributes=st.dictionaries(NAME, TEXT.filter(bool), max_size=3),
    rating=st.none() | st.floats(0, 5),
    rating_count=st.none() | st.integers(0, 10**9),
    popularity=st.none() | st.floats(-1e6, 1e6),
    clicks=st.none() | st.integers(0, 10**9),
)
PRODUCT_LISTS = st.lists(PRODUCT, min_size=1, max_size=4, unique_by=lambda product: product.id)
SHARED_FOLDER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@pytest.mark.parametrize("form", WRITERS)
@settings(SHARED_FOLDER, max_examples=60)
@given(products=PRODUCT_LISTS, packed=st.booleans())
def test_products_read_back_from_every_format(
    tmp_path: Path, form: str, products: list[Product], packed: bool
) -> None:
    data = WRITERS[form]([product_to_json(product) for product in products])
    path = tmp_path / f"a.{form}"
    path.write_bytes(gzip.compress(data, 1) if packed else data)
    assert read(path, strict=True)[0] == products


# --- rows that cannot be used ---------------------------------------------------------------------

BROKEN = {
    "no id": ({"id": ""}, "id"),
    "no title": ({"title": " \x07 "}, "title"),
    "white space in id": ({"id": "a b"}, "id"),
    "control character in id": ({"id": "a\x00b"}, "id"),
    "broken price": ({"price": "-5 EUR"}, "price"),
    "not a number": ({"rating": "good"}, "rating"),
    "not a whole number": ({"clicks": "1.5"}, "clicks"),
    "longer than 1000000 characters": ({"brand": "x" * 10_000_000}, "brand"),
    "duplicate id": ({"id": "first"}, "id"),
    "unknown currency": ({"currency": "shells"}, "currency"),
}


@pytest.mark.parametrize("form", ["jsonl", "csv", "tsv", "parquet"])
@pytest.mark.parametrize("reason", BROKEN)
def test_unusable_row_is_rejected_and_the_rest_kept(tmp_path: Path, form: str, reason: str) -> None:
    change, field = BROKEN[reason]
    good: dict[str, object] = {
        "id": "b",
        "title": "Spade",
        "price": "5",
        "rating": "4",
        "clicks": "1",
        "brand": "x",
    }
    rows = [
        good | {"id": "first", "currency": ""},
        good | {"currency": ""} | change,
        good | {"id": "c", "currency": ""},
    ]
    path = tmp_path / f"a.{form}"
    if form == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif form == "jsonl":
        path.write_bytes(as_jsonl(rows))
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if form == "tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    products, (rejection,), summary = read(path)
    assert [product.id for product in products] == ["first", "c"]
    assert (rejection.line, rejection.field, rejection.reason) == (
        3 if form in ("csv", "tsv") else 2,
        field,
        reason,
    )
    assert summary.reasons == {reason: 1}
    with pytest.raises(InputError, match=reason):
        read(path, strict=True)


def test_duplicates_are_found_across_files(tmp_path: Path) -> None:
    for name in "ab":
        rows: list[dict[str, object]] = [{"id": "1", "title": "Spade"}, {"id": name, "title": "x"}]
        (tmp_path / f"{name}.jsonl").write_bytes(as_jsonl(rows))
    products, (rejection,), _ = read(tmp_path / "a.jsonl", tmp_path / "b.jsonl")
    assert [product.id for product in products] == ["1", "a", "b"]
    assert rejection == Rejection(str(tmp_path / "b.jsonl"), 1, "id", "1", "duplicate id")


def test_id_of_a_rejected_row_may_come_again(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": 1}\n{"id": 1, "title": "Spade"}')
    products, rejections, _ = read(tmp_path / "a.jsonl")
    assert ([p.id for p in products], [r.reason for r in rejections]) == (["1"], ["no title"])


def test_unknown_availability_is_left_out_with_a_warning(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,title,availability\n1,Spade,perhaps\n2,Rake,yes\n3,Hoe,")
    products, _, summary = read(tmp_path / "a.csv")
    assert [product.availability for product in products] == ["", "in_stock", ""]
    assert summary.warnings == {"unknown availability": 1}


# --- columns --------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_column_map(tmp_path: Path, form: str) -> None:
    path = tmp_path / f"a.{form}"
    row = {"Artikelnummer": "7", "Bezeichnung": "Spaten", "Preis": "9,50", "currency": "EUR", "Farbe": "rot"}
    if form == "csv":
        path.write_text(";".join(row) + "\n" + ";".join(row.values()))
    elif form == "jsonl":
        path.write_bytes(as_jsonl([dict(row)]))
    else:
        pq.write_table(pa.Table.from_pylist([row]), path)
    columns = {"id": "artikelnummer", "title": "Bezeichnung", "price": "Preis"}
    (product,), _, _ = read(path, columns=columns)
    assert product == Product(id="7", title="Spaten", price=Price(9.5, "EUR"), attributes={"Farbe": "rot"})
    with pytest.raises(InputError, match=r"no column for the id.*--map id=COLUMN.*Artikelnummer"):
        read(path)
    with pytest.raises(InputError, match="'Marke', which is to be the brand"):
        read(path, columns=columns | {"brand": "Marke"})


def test_map_to_an_unknown_field(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,title\n1,Spade")
    with pytest.raises(SettingError, match="'colour'"):
        read(tmp_path / "a.csv", columns={"colour": "farbe"})


# --- files that cannot be used --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.csv", b"id,title\n"), ("a.tsv", b"id\ttitle"), ("a.jsonl", b"\n\n"),
        ("a.xml", b"<rss><channel/></rss>"), ("a.parquet", as_parquet([])),
    ],
)  # fmt: skip
def test_file_without_products(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match="holds no products"):
        read(tmp_path / name)


def test_every_file_is_looked_at_before_the_first_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": 1, "title": "Spade"}')
    with pytest.raises(InputError, match=r"none\.csv"):
        read_products([tmp_path / "a.jsonl", tmp_path / "none.csv"])
    with pytest.raises(InputError, match="no catalogue"):
        read_products([])


def test_truncated_gzip_gives_its_products_and_then_the_error(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"id": 1, "title": "Spade"}\n' * 3 + os.urandom(20_000))[:-10_000])
    products = read_products([path])
    assert next(products).id == "1"
    with pytest.raises(InputError, match="damaged gzip"):
        list(products)


def test_error_of_the_consumer_passes_through(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": 1}')

    def full(rejection: Rejection) -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        list(read_products([tmp_path / "a.jsonl"], on_reject=full))


# --- any bytes whatsoever -------------------------------------------------------------------------

SAMPLE = [
    {"id": "1", "title": "Spade, ash", "price": "5.00 EUR", "attributes": {"kg": "2", "цвет": "red"}},
    {"id": "2", "title": "Лопата", "description": "<b>x</b>", "availability": "in_stock", "rating": 4.5},
]
SYNTAX = b'{}[]",:;\t\r\n<>&/\\\x00\xff\xef\xbb\xbf-.0123456789eEid'


@st.composite
def damaged(draw: st.DrawFn, form: str) -> bytes:
    """A valid file with some bytes replaced, left out or put in; or bytes of no form."""
    data = bytearray(WRITERS[form](SAMPLE))
    for _ in range(draw(st.integers(1, 6))):
        start = draw(st.integers(0, len(data)))
        piece = draw(st.binary(max_size=3) | st.lists(st.sampled_from(SYNTAX), max_size=4).map(bytes))
        data[start : start + draw(st.integers(0, 4))] = piece
    return bytes(data[: draw(st.integers(0, len(data)) | st.just(len(data)))])


@pytest.mark.parametrize("form", WRITERS)
@settings(SHARED_FOLDER, max_examples=150)
@given(data=st.data())
def test_any_bytes_are_products_rejections_or_an_error(
    tmp_path: Path, form: str, data: st.DataObject
) -> None:
    raw = data.draw(st.binary(max_size=200) | damaged(form))
    path = tmp_path / f"a.{form}"
    path.write_bytes(
        gzip.compress(raw, 1)[: data.draw(st.sampled_from([None, -4, 30]))] if len(raw) % 4 == 0 else raw
    )
    try:
        products, _, _ = read(path)
    except TilthError:
        return
    for product in products:
        assert product.id == "".join(product.id.split()) != ""
        assert product.title == clean_text(product.title) != ""
        orjson.dumps(product_to_json(product))


@settings(SHARED_FOLDER)
@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["id", "title", "price", "brand", "other"]),
            st.none()
            | st.text(max_size=4)
            | st.integers(-9, 9)
            | st.floats(allow_nan=False)
            | st.lists(st.integers(0, 9)),
        ),
        min_size=1,
    )
)
@example([{"id": "1", "title": "\x00"}])
def test_every_row_is_kept_or_rejected(tmp_path: Path, rows: list[dict[str, object]]) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(as_jsonl([{"id": None, "title": None}, *rows]))
    _, rejections, summary = read(path)
    assert summary.kept + summary.rejected == len(rows) + 1
    assert rejections[0].reason == "no id"


# --- a real catalogue -----------------------------------------------------------------------------

ICECAT = DATA / "icecat" / "products.jsonl.gz"


@pytest.mark.skipif(not ICECAT.exists(), reason=f"no data at {ICECAT}: set TILTH_DATA")
def test_icecat_is_kept_whole() -> None:
    products, _, summary = read(ICECAT)
    assert (summary.kept, summary.rejected) == (19_406, 0)
    assert not any("<br" in product.description for product in products)
    assert sum(len(product.attributes) for product in products) > 390_000
