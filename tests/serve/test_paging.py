"""Pages: joined they are the list, no product stands on two of them, and cursors lead nowhere else."""

import shutil
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes import kept_encoder
from shop import index
from tilth.catalog import Price, Product
from tilth.errors import InputError
from tilth.promotions import promote, rollback
from tilth.releases import propose
from tilth.retrieval.fusion import Fusion
from tilth.serve.paging import Page, digest_of, read_cursor, write_cursor
from tilth.serve.requests import Found, SearchRequest
from tilth.serve.service import Service
from tilth.serve.settings import Settings
from tilth.serve.starting import open_service

WORDS = ["spade", "steel", "hose", "basket", "лопата"]
QUERIES = ["spade", "steel hose", "лопата", "basket", "spade steel hose basket лопата", "steel steel spade"]
EVERYTHING = 200  # hits: as many as each retriever is asked for at first, so that variants need more
PATIENT = 3_000.0  # ms: nothing is left out for want of time, and pages are of one order


def _bits(number: int) -> int:
    return number * 7919 + number // 3


def _products(count: int) -> list[Product]:
    """Products of which many tie, in groups of one to nine variants."""
    return [
        Product(
            id=f"p{n:05}", title=" ".join(word for at, word in enumerate(WORDS) if _bits(n) >> at & 1),
            description=WORDS[n % len(WORDS)], brand=["Terra", "Humus", ""][n % 3],
            price=Price(float(n % 50), "EUR"), item_group_id=f"g{n // (1 + n % 9)}" if n % 4 else "",
        )
        for n in range(count)
    ]  # fmt: skip


def _named(products: Sequence[Product]) -> list[Product]:
    return [replace(product, title=product.title or "spade") for product in products]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    into = tmp_path_factory.mktemp("paging") / "index"
    index(_named(_products(1_000)), into, kept_encoder(WORDS))
    propose(into, fusion=Fusion("minmax", (0.3, 0.7)), evidence={}, name="mixed")
    propose(into, fusion=Fusion("zscore", (1.0, 0.1)), evidence={}, name="words")
    return into


def opened(folder: Path, **search: Any) -> Service:
    limits = {"max_k": EVERYTHING, "max_results": EVERYTHING, "deadline_ms": PATIENT, **search}
    return open_service(folder, Settings(search=limits, feedback={"enabled": False}))


@pytest.fixture(scope="module")
def shop(folder: Path) -> Iterator[Service]:
    service = opened(folder)
    yield service
    service.pipeline.close()


def ids(found: Found) -> list[str]:
    return [hit.product.id for hit in found.answer.hits]


def pages(shop: Service, sizes: Sequence[int], **asked: Any) -> list[Found]:
    """Ask for one page after the other, until there is none or there are no more sizes."""
    found: list[Found] = []
    for k in sizes:
        cursor = found[-1].cursor if found else None
        if found and cursor is None:
            break
        found.append(shop.search(SearchRequest(k=k, cursor=cursor, deadline_ms=PATIENT, **asked)))
    return found


def joined(found: Sequence[Found]) -> list[str]:
    return [name for page in found for name in ids(page)]


asked = st.fixed_dictionaries(
    {
        "query": st.sampled_from(QUERIES),
        "collapse": st.booleans(),
        "filters": st.sampled_from([None, {"brand": ["Humus", "Terra"]}, {"price": {"lt": 10}}]),
        "release": st.sampled_from([None, "hybrid", "mixed", "words"]),
    }
)  # fmt: skip


@settings(max_examples=50, deadline=None, derandomize=True)
@given(asked, st.lists(st.integers(1, 60), min_size=1, max_size=8))
def test_pages_joined_are_the_list(shop: Service, asked: dict[str, Any], sizes: list[int]) -> None:
    """Also where variants make it look deeper on the way, so that later pages come from longer lists."""
    found = pages(shop, sizes, **asked)
    whole = pages(shop, [EVERYTHING], **asked)[0]
    names = joined(found)
    assert names == ids(whole)[: len(names)]
    assert len(set(names)) == len(names)
    assert [hit.rank for page in found for hit in page.answer.hits] == list(range(1, 1 + len(names)))
    assert [page.first_rank for page in found] == [1 + sum(sizes[:at]) for at in range(len(found))]
    if asked["collapse"]:
        groups = [product.item_group_id or product.id for product in shop.products(names).values()]
        assert len(set(groups)) == len(groups)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(asked, st.integers(10, 90))
def test_pages_lead_to_the_end_and_end_there(shop: Service, asked: dict[str, Any], size: int) -> None:
    found = pages(shop, [size] * 60, **asked)
    assert found[-1].cursor is None
    assert all(page.cursor is not None for page in found[:-1])
    assert joined(found) == ids(pages(shop, [EVERYTHING], **asked)[0])


def test_variants_make_a_search_look_deeper(shop: Service) -> None:
    found = pages(shop, [20] * 10, query="spade", collapse=True)
    depths = [page.answer.depth for page in found]
    assert depths == sorted(depths)
    assert (depths[0], depths[-1]) == (EVERYTHING, 4 * EVERYTHING)


def test_the_last_page_has_no_cursor(shop: Service) -> None:
    narrow = {"query": "spade", "filters": {"product_id": [f"p{n:05}" for n in range(10)]}}
    whole = pages(shop, [100], **narrow)[0]
    count = len(whole.answer.hits)
    assert (whole.cursor, count) == (None, 10)
    assert pages(shop, [10], **narrow)[0].cursor is None
    assert [len(page.answer.hits) for page in pages(shop, [4] * 9, **narrow)] == [4, 4, 2]
    assert pages(shop, [100], query="", filters=None)[0].cursor is None
    assert pages(shop, [0], **narrow)[0].cursor is None


def test_nobody_pages_deeper_than_the_settings_let_them(folder: Path) -> None:
    shop = opened(folder, max_k=10, max_results=25)
    found = pages(shop, [10] * 9, query="spade")
    assert [len(page.answer.hits) for page in found] == [10, 10, 5]
    assert found[-1].cursor is None
    request = SearchRequest(query="spade", k=10)
    deeper = write_cursor(Page(5, 1_000_000, "hybrid"), digest_of(request))
    with pytest.raises(InputError, match="cursor"):
        shop.search(replace(request, cursor=deeper))
    deep = write_cursor(Page(26, 200, "hybrid"), digest_of(request))
    with pytest.raises(InputError, match="must be from 0 to 25"):
        shop.search(replace(request, cursor=deep))
    shop.pipeline.close()


def test_pages_stay_with_the_release_that_they_began_with(folder: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(folder, tmp_path / "index"))
    shop = opened(own)
    first = pages(shop, [10], query="spade steel")[0]
    promote(own, "mixed", {"passed": True, "refusals": [], "in_force": "hybrid"})
    shop.pipeline.refresh()
    asked = {"query": "spade steel", "deadline_ms": PATIENT}
    second = shop.search(SearchRequest(**asked, k=10, cursor=first.cursor))
    anew = shop.search(SearchRequest(**asked, k=10))
    assert (first.answer.release, second.answer.release, anew.answer.release) == (None, None, "mixed")
    before = shop.search(SearchRequest(**asked, k=20, release="hybrid"))
    assert ids(first) + ids(second) == ids(before)
    third = shop.search(SearchRequest(**asked, k=10, cursor=anew.cursor))
    rollback(own)
    shop.pipeline.refresh()
    fourth = shop.search(SearchRequest(**asked, k=10, cursor=third.cursor))
    assert (third.answer.release, fourth.answer.release) == ("mixed", "mixed")
    shop.pipeline.close()


# --- cursors --------------------------------------------------------------------------------------

REQUEST = SearchRequest(query="hose", filters={"a": 1, "b": [1, 2]})


@given(st.integers(1, 10**6), st.integers(1, 10**6), st.text(max_size=64).filter(lambda text: text.isascii()))
def test_a_cursor_is_read_as_it_was_written(offset: int, depth: int, release: str) -> None:
    page = Page(offset, depth, release)
    assert read_cursor(write_cursor(page, digest_of(REQUEST)), digest_of(REQUEST)) == page


@pytest.mark.parametrize(
    "other",
    [{"query": "hoses"}, {"query": "Hose"}, {"filters": None}, {"filters": {"a": 1}},
     {"filters": {"a": 1, "b": [2, 1]}}, {"filters": {"a": "1", "b": [1, 2]}}, {"collapse": True},
     {"release": "hybrid"}],
)  # fmt: skip
def test_the_cursor_of_another_search_is_refused(other: dict[str, Any]) -> None:
    cursor = write_cursor(Page(10, 200, "hybrid"), digest_of(REQUEST))
    with pytest.raises(InputError, match="is the cursor of another search"):
        read_cursor(cursor, digest_of(replace(REQUEST, **other)))


@pytest.mark.parametrize(
    "same",
    [{"k": 99}, {"arm": "b"}, {"client_id": "x"}, {"facets": ["brand"]}, {"deadline_ms": 1.0}, {"log": False},
     {"filters": {"b": [1, 2], "a": 1}}],
)  # fmt: skip
def test_what_changes_no_order_may_change_from_page_to_page(same: dict[str, Any]) -> None:
    cursor = write_cursor(Page(10, 200, "hybrid"), digest_of(REQUEST))
    assert read_cursor(cursor, digest_of(replace(REQUEST, **same))).offset == 10


leaves = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(-9, 9)
json_values = st.recursive(
    leaves | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=8,
)


@given(json_values | st.tuples(json_values, json_values, json_values, st.just(digest_of(REQUEST))))
def test_anything_else_is_no_cursor_or_a_page(value: Any) -> None:
    cursor = urlsafe_b64encode(orjson.dumps(value)).decode()
    try:
        page = read_cursor(cursor, digest_of(REQUEST))
    except InputError as error:
        assert error.field == "cursor"
        assert error.remedy
    else:
        assert 0 < page.offset <= 10**6
        assert 0 < page.depth <= 10**6
        assert isinstance(page.release, str)


@given(st.text() | st.binary().map(lambda raw: urlsafe_b64encode(raw).decode()))
def test_any_text_is_no_cursor(text: str) -> None:
    with pytest.raises(InputError):
        read_cursor(text, digest_of(REQUEST))


def test_a_cursor_holds_no_query(shop: Service) -> None:
    cursor = pages(shop, [3], query="spade")[0].cursor
    assert cursor is not None
    assert b"spade" not in urlsafe_b64decode(cursor)
