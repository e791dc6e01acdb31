"""Cursors: where the next page of a search begins. They hold no secret, and mean nothing elsewhere."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from hashlib import blake2b

import orjson

from tilth.errors import InputError
from tilth.serve.requests import SearchRequest

_LONGEST = 1_000  # characters
_DEEPEST = 1_000_000  # candidates of each retriever
_REMEDY = "Send the cursor of the page before, with the same query, filters, collapse and release"


@dataclass(frozen=True, slots=True)
class Page:
    """Where a page begins: how many hits come before it, found at which depth, in the order of a release."""

    offset: int = 0
    depth: int = 0
    release: str | None = None


FIRST = Page()


def digest_of(request: SearchRequest) -> str:
    """Return what must be the same on all pages of a search, as 16 hexadecimal digits."""
    asked = [request.query, request.filters, request.collapse, request.release]
    text = orjson.dumps(asked, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS)
    return blake2b(text, digest_size=8).hexdigest()


def write_cursor(page: Page, digest: str) -> str:
    """Return the cursor of a page."""
    return urlsafe_b64encode(orjson.dumps([page.offset, page.depth, page.release, digest])).decode()


def read_cursor(cursor: str, digest: str) -> Page:
    """Read what `write_cursor` wrote.

    Args:
        cursor: of any origin.
        digest: of the search that it comes with.

    Returns:
        The page.

    Raises:
        InputError: it is no cursor, or that of another search.
    """
    try:
        offset, depth, release, of = orjson.loads(urlsafe_b64decode(cursor[:_LONGEST].encode()))
    except (ValueError, TypeError) as error:  # also what is no base64, no JSON or no list of four
        raise InputError("is no cursor", field="cursor", value=cursor, remedy=_REMEDY) from error
    whole = type(offset) is int and type(depth) is int and isinstance(release, str)
    if not whole or not (0 < offset <= _DEEPEST and 0 < depth <= _DEEPEST):
        raise InputError("is no cursor", field="cursor", value=cursor, remedy=_REMEDY)
    if of != digest:
        raise InputError("is the cursor of another search", field="cursor", value=cursor, remedy=_REMEDY)
    return Page(offset, depth, release)
