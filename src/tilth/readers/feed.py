"""The merchant product feed: RSS 2.0 and Atom, with the `g:` namespace or without.

Specifications: the RSS 2.0 specification, RFC 4287 (Atom), and the merchant product data specification.
"""

import os
from collections.abc import Iterator
from typing import Any
from xml.etree.ElementTree import Element

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import ParseError, iterparse

from tilth.catalog import PRODUCT_FIELDS
from tilth.errors import InputError
from tilth.readers.formats import reading
from tilth.readers.rows import ColumnCheck, Row, Rows

_ROOTS = ("rss", "RDF", "feed")
_ITEMS = ("item", "entry")
_MAX_DEPTH = 50
_MARKUP = ("description", "summary", "content")  # Atom allows XHTML inside
_GOOGLE = "{http://base.google.com/ns/1.0}"


def read_feed(path: str | os.PathLike[str], check_columns: ColumnCheck) -> Rows:
    """Yield the items of a product feed; an item's line is its number from 1.

    Of a product's own field the first occurrence counts, `g:` before plain; any other element that
    is repeated becomes a list. A feed that is not well-formed is read up to the damage.
    """
    seen: set[str] = set()
    for number, item in enumerate(_items(path), start=1):
        values = _values(item)
        seen.update(values)
        yield Row(number, values)
    if seen:
        check_columns(seen)


def _items(path: str | os.PathLike[str]) -> Iterator[Element]:
    try:
        with reading(path) as file:
            yield from _elements(iterparse(file, events=("start", "end")), path)
    except DefusedXmlException as error:
        raise InputError(
            "declares entities, which can be used to exhaust memory or read files",
            path=path, remedy="Remove the DOCTYPE and write the characters themselves",
        ) from error  # fmt: skip
    except (ParseError, ValueError, LookupError) as error:
        raise InputError(f"is not well-formed XML: {error}", path=path) from error


def _elements(events: Iterator[tuple[str, Element]], path: str | os.PathLike[str]) -> Iterator[Element]:
    """Yield each whole item, and forget it and what stands between items as soon as it is passed."""
    open_elements: list[Element] = []
    inside = 0  # depth at which the current item was opened, or 0
    for event, element in events:
        if event == "start":
            open_elements.append(element)
            _check_place(open_elements, path)
            if not inside and _local(element) in _ITEMS:
                inside = len(open_elements)
            continue
        if len(open_elements) == inside:
            yield element
            inside = 0
        open_elements.pop()
        if not inside and open_elements:
            open_elements[-1].clear()


def _check_place(open_elements: list[Element], path: str | os.PathLike[str]) -> None:
    root = _local(open_elements[0])
    if root not in _ROOTS:
        raise InputError("is no RSS or Atom feed", path=path, value=f"<{root}>", remedy="Use RSS 2.0 or Atom")
    if len(open_elements) > _MAX_DEPTH:
        raise InputError(f"elements are nested deeper than {_MAX_DEPTH}", path=path)


def _values(item: Element) -> dict[str, object]:
    values: dict[str, Any] = {}
    of_google: set[str] = set()
    for child in item:
        name, value = _local(child), _value(child)
        if name not in PRODUCT_FIELDS:
            _append(values, name, value)
        elif name not in values or (name not in of_google and child.tag.startswith(_GOOGLE)):
            values[name] = value
        if child.tag.startswith(_GOOGLE):
            of_google.add(name)
    return values


def _append(values: dict[str, Any], name: str, value: object) -> None:
    if name not in values:
        values[name] = value
    elif isinstance(values[name], list):
        values[name].append(value)
    else:
        values[name] = [values[name], value]


def _value(element: Element) -> object:
    name = _local(element)
    if name in _MARKUP:
        return " ".join(element.itertext())
    if not len(element):
        return (element.text or "").strip() or element.get("href", "")  # Atom: <link href="..."/>
    children: dict[str, Any] = {}
    for child in element:
        _append(children, _local(child), _value(child))
    return children


def _local(element: Element) -> str:
    return element.tag.rpartition("}")[2]
