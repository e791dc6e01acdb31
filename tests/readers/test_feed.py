"""RSS and Atom feeds as rows."""

from pathlib import Path

import pytest

from tilth.errors import InputError
from tilth.readers.feed import read_feed
from tilth.readers.rejections import Rejection
from tilth.readers.rows import Row

G = 'xmlns:g="http://base.google.com/ns/1.0"'
RSS = f"""<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE rss>
<rss {G} version="2.0"><channel><title>Shop</title><image><url>x</url></image>
<item>
  <g:id>1</g:id><title>plain</title><g:title>Compost &amp; manure</g:title><title>last</title>
  <description><![CDATA[<p>Aged</p>]]></description>
  <g:additional_image_link>a</g:additional_image_link><g:additional_image_link>b</g:additional_image_link>
  <g:product_detail><g:attribute_name>NPK</g:attribute_name><g:attribute_value>3-2-2</g:attribute_value></g:product_detail>
  <g:shipping><g:country>DE</g:country><g:price>5 EUR</g:price></g:shipping>
</item>
<item><id>2</id><title>Перегной</title></item>
</channel></rss>"""
ATOM = f"""<feed xmlns="http://www.w3.org/2005/Atom" {G}><title>Shop</title>
<entry><id>tag:shop,1</id><g:id>1</g:id><title>Spade</title><link href="https://shop.example/1"/>
<content type="xhtml"><div xmlns="http://www.w3.org/1999/xhtml"><p>Ash</p><p>handle</p></div></content></entry></feed>"""


def read(tmp_path: Path, text: str | bytes) -> list[Row | Rejection]:
    path = tmp_path / "a.xml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return list(read_feed(path, lambda columns: None))


def test_rss(tmp_path: Path) -> None:
    first, second = read(tmp_path, RSS)
    assert first == Row(
        1,
        {
            "id": "1",
            "title": "Compost & manure",
            "description": "<p>Aged</p>",
            "additional_image_link": ["a", "b"],
            "product_detail": {"attribute_name": "NPK", "attribute_value": "3-2-2"},
            "shipping": {"country": "DE", "price": "5 EUR"},
        },
    )
    assert second == Row(2, {"id": "2", "title": "Перегной"})


def test_atom(tmp_path: Path) -> None:
    (row,) = read(tmp_path, ATOM)
    assert isinstance(row, Row)
    assert row.values["id"] == "1"
    assert row.values["link"] == "https://shop.example/1"
    assert str(row.values["content"]).split() == ["Ash", "handle"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_other_encodings(tmp_path: Path, encoding: str) -> None:
    text = RSS.split("\n", 1)[1]
    assert len(read(tmp_path, text.encode(encoding))) == 2
    assert len(read(tmp_path, f'<?xml version="1.0" encoding="windows-1251"?>{text}'.encode("cp1251"))) == 2


def test_columns_are_those_of_all_items(tmp_path: Path) -> None:
    path, seen = tmp_path / "a.xml", []
    path.write_text("<rss><channel><item><id>1</id></item><item><name>x</name></item></channel></rss>")
    assert len(list(read_feed(path, lambda columns: seen.append(set(columns))))) == 2
    assert seen == [{"id", "name"}]


ITEM = "<rss><channel><item><id>&b;</id></item></channel></rss>"
BOMB = '<!DOCTYPE rss [<!ENTITY a "aa"><!ENTITY b "&a;&a;&a;">]>' + ITEM
FILE = '<!DOCTYPE rss [<!ENTITY b SYSTEM "file:///etc/hostname">]>' + ITEM


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "entities"),
        (FILE, "entities"),
        ('<!DOCTYPE rss SYSTEM "x.dtd"><rss>&a;</rss>', "entities|well-formed"),
        ("<rss><channel><item><id>1</id></item>", "not well-formed"),
        ("<rss><g:id>1</g:id></rss>", "not well-formed.*prefix"),
        ("<rss>\x00</rss>", "not well-formed"),
        (b"<rss>caf\xe9</rss>", "not well-formed"),
        ('<?xml version="1.0" encoding="klingon"?><rss/>', "not well-formed"),
        ("<html><body/></html>", "no RSS or Atom.*<html>.*Use RSS"),
        ("<rss>" + "<a>" * 60, "nested deeper"),
        ("", "not well-formed"),
    ],
)
def test_unusable_feed(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(tmp_path, text)


def test_items_before_the_damage_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_text("<rss><channel><item><id>1</id></item><item><id>")
    rows = read_feed(path, lambda columns: None)
    assert next(rows) == Row(1, {"id": "1"})
    with pytest.raises(InputError, match="not well-formed"):
        next(rows)
