import re
import tracemalloc
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilth.sample.products import CHUNK, draw_chunk, gtin13, sample_products
from tilth.sample.vocabulary import LANGUAGES, read_vocabulary

FIELDS = {
    "id", "title", "description", "brand", "product_type", "price", "sale_price", "availability", "gtin",
    "mpn", "item_group_id", "link", "image_link", "attributes", "rating", "rating_count", "popularity",
}  # fmt: skip
PRICE = re.compile(r"\d+\.\d\d (EUR|RUB)")
languages = pytest.mark.parametrize("language", LANGUAGES)


@pytest.fixture(scope="module", params=LANGUAGES)
def chunk(request):
    return draw_chunk(read_vocabulary(request.param), 7, 0)


def check_digit_fits(gtin: str) -> bool:
    """Weights 3 and 1 from the right, check digit excluded."""
    body, check = [int(c) for c in gtin[:-1]], int(gtin[-1])
    total = sum(digit * (3 if place % 2 == 0 else 1) for place, digit in enumerate(reversed(body)))
    return (total + check) % 10 == 0


def test_records_are_of_the_feed(chunk):
    for product in chunk:
        record = product.record
        assert record.keys() <= FIELDS
        assert FIELDS - record.keys() <= {"sale_price", "rating", "rating_count"}
        assert re.fullmatch(r"[a-z0-9]+", record["id"])
        assert record["product_type"].count(" > ") == 2
        assert PRICE.fullmatch(record["price"])
        assert record["availability"] in {"in_stock", "out_of_stock", "preorder", "backorder"}
        assert record["popularity"] >= 0
        assert all(isinstance(value, str) and value for value in record["attributes"].values())


def test_gtins_are_valid_and_unlike(chunk):
    gtins = [product.record["gtin"] for product in chunk]
    assert all(len(gtin) == 13 and gtin.startswith("2") and check_digit_fits(gtin) for gtin in gtins)
    assert len(set(gtins)) == len(gtins)


@given(st.integers(0, 5_000_000), st.sampled_from(list(LANGUAGES)))
def test_every_gtin_has_its_check_digit(serial, language):
    assert check_digit_fits(gtin13(serial, language))


def test_ids_and_codes_are_unlike(chunk):
    assert len({product.record["id"] for product in chunk}) == len(chunk)
    assert len({(product.record["brand"], product.record["mpn"]) for product in chunk}) == len(chunk)


def test_a_sale_is_cheaper(chunk):
    sales = [product.record for product in chunk if "sale_price" in product.record]
    assert len(sales) > 50
    for record in sales:
        assert float(record["sale_price"].split()[0]) <= float(record["price"].split()[0])


def test_ratings_come_with_their_count(chunk):
    rated = [product.record for product in chunk if "rating" in product.record]
    assert 0.3 < len(rated) / len(chunk) < 0.95
    for record in chunk:
        assert ("rating" in record.record) == ("rating_count" in record.record)
    assert all(1 <= record["rating"] <= 5 and record["rating_count"] >= 1 for record in rated)


def test_popularity_has_a_heavy_tail(chunk):
    views = sorted((product.record["popularity"] for product in chunk), reverse=True)
    assert sum(views[: len(views) // 10]) > 0.45 * sum(views)


def test_variants_share_a_group_and_differ(chunk):
    groups: dict[str, list] = {}
    for product in chunk:
        groups.setdefault(product.record["item_group_id"], []).append(product)
    assert sum(len(group) > 1 for group in groups.values()) > len(groups) / 3
    for group in groups.values():
        assert len({(p.type.key, p.record["brand"]) for p in group}) == 1
        assert len({tuple(sorted(map(str, p.facts.items()))) for p in group}) == len(group)
        assert len({(p.size, p.facts.get(p.type.varies)) for p in group}) == len(group)


def test_titles_are_tidy(chunk):
    for product in chunk:
        title = product.record["title"]
        assert title == " ".join(title.split())
        assert not re.search(r"[{}~]|\(\)|,,| ,|,$", title), title


def test_descriptions_are_sentences(chunk):
    for product in chunk:
        text = product.record["description"]
        assert not re.search(r"[{}~]", text)
        assert text[0].isupper() or not text[0].isalpha()
        assert text.endswith(".")
    assert len({product.record["description"] for product in chunk}) > len(chunk) / 4


@languages
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**63), chunk=st.integers(0, 3000))
def test_a_chunk_depends_on_its_number_alone(language, seed, chunk):
    vocabulary = read_vocabulary(language)
    once, again = draw_chunk(vocabulary, seed, chunk), draw_chunk(vocabulary, seed, chunk)
    assert [p.record for p in once] == [p.record for p in again]
    assert len(once) == CHUNK


def test_chunks_do_not_share_ids_groups_or_codes():
    vocabulary = read_vocabulary("en")
    first, second = draw_chunk(vocabulary, 0, 0), draw_chunk(vocabulary, 0, 1)
    for field in ("id", "gtin", "item_group_id", "mpn"):
        assert not {p.record[field] for p in first} & {p.record[field] for p in second}


def test_a_longer_stream_takes_no_more_memory():
    def peak(chunks):
        tracemalloc.start()
        for _ in sample_products(read_vocabulary("en"), 0, chunks * CHUNK):
            pass
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return top

    assert peak(5) < 1.1 * peak(2)


def test_the_stream_is_lazy_and_exact():
    vocabulary = read_vocabulary("en")
    assert len(next(sample_products(vocabulary, 0, 5_000_000))) == CHUNK
    assert [len(c) for c in sample_products(vocabulary, 0, CHUNK + 3)] == [CHUNK, 3]
    assert [len(c) for c in islice(sample_products(vocabulary, 0, 5), 3)] == [5]
