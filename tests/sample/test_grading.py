"""Grades against an independent reading of the records: the rules of docs/sample-shop.md, kind by kind."""

import re
from collections import defaultdict

import pytest

from tilth.sample.grading import MOST_IRRELEVANT, MOST_RELEVANT, Grader, Pool
from tilth.sample.needs import Clause, Need, draw_needs
from tilth.sample.products import draw_chunk
from tilth.sample.vocabulary import LANGUAGES, read_vocabulary


def read_facts(record, vocabulary):
    """Recover the facts of a product from its record alone: attributes, else the listing in its text."""
    kind = next(kind for kind in vocabulary.types.values() if kind.path == record["product_type"])
    facts = {"type": kind.key, "brand": record["brand"], "mpn": record["mpn"], "gtin": record["gtin"]}
    facts["group"] = record["item_group_id"]
    number = re.search(r"\d+([.,]\d+)?", record["attributes"][kind.size_name])[0]
    facts["size"] = float(number.replace(",", "."))
    facts["price"] = float(record.get("sale_price", record["price"]).split()[0])
    for axis in kind.axes:
        label = re.escape(axis.name.replace("_", " "))
        listed = rf"(?i:\b{label}): (.+?)(?:; |\.$)"
        facts[axis.name] = record["attributes"].get(axis.name) or re.search(listed, record["description"])[1]
    return facts


def wanted_by(need):
    """What the best products have, without the type."""
    return {name: value for name, value in need.clauses[0].facts.items() if name != "type"}


def grade_type(need, facts, kind):
    return 3 if facts["type"] == kind.key else int(facts["type"] in kind.shape.substitutes)


def grade_attributes(need, facts, kind):
    if facts["type"] != kind.key:
        return 0
    missed = {name for name, value in wanted_by(need).items() if facts.get(name) != value}
    return 3 if not missed else 2 if missed == {"size"} else int(len(missed) == 1)


def grade_brand(need, facts, kind):
    wanted = wanted_by(need)
    if facts["brand"] != wanted["brand"]:
        return 0
    if facts["type"] != kind.key:
        return int(facts["type"] in kind.shape.substitutes)
    return 3 if all(facts[name] == value for name, value in wanted.items()) else 2


def grade_price(need, facts, kind):
    limit = float(re.findall(r"\d+", need.text)[-1])  # the wish is the last number
    if facts["type"] != kind.key or any(facts[name] != value for name, value in wanted_by(need).items()):
        return 0
    return 3 if facts["price"] <= limit else int(facts["price"] <= 1.25 * limit)


def bare(text):
    return re.sub(r"\W", "", text).lower()


def grade_code(need, facts, group):
    asked = bare(need.text)
    return 3 if asked in (bare(facts["mpn"]), facts["gtin"]) else int(facts["group"] == group)


@pytest.fixture(scope="module", params=LANGUAGES)
def shop(request):
    vocabulary = read_vocabulary(request.param)
    products = draw_chunk(vocabulary, 3, 0)
    grader = Grader(draw_needs(vocabulary, 3, products))
    for product in products:
        grader.grade(product)
    facts = {p.record["id"]: read_facts(p.record, vocabulary) for p in products}
    return vocabulary, facts, grader.pools


@pytest.mark.parametrize(
    ("kind", "rule"),
    [("type", grade_type), ("attributes", grade_attributes), ("brand", grade_brand), ("price", grade_price)],
)
def test_grades_follow_from_the_records(shop, kind, rule):
    vocabulary, facts, pools = shop
    checked = 0
    for pool in pools:
        if pool.need.kind == kind:
            wanted_type = vocabulary.types[pool.need.clauses[0].facts["type"]]
            expected = {i: rule(pool.need, f, wanted_type) for i, f in facts.items()}
            assert_same(pool, expected)
            checked += 1
    assert checked >= 20


def test_misspelt_queries_are_graded_as_if_spelt_right(shop):
    vocabulary, facts, pools = shop
    for pool in (pool for pool in pools if pool.need.kind == "misspelt"):
        kind = vocabulary.types[pool.need.clauses[0].facts["type"]]
        rule = grade_attributes if wanted_by(pool.need) else grade_type
        assert_same(pool, {i: rule(pool.need, f, kind) for i, f in facts.items()})


def test_codes_lead_to_one_product_and_its_family(shop):
    _, facts, pools = shop
    for pool in (pool for pool in pools if pool.need.kind == "code"):
        asked = bare(pool.need.text)
        group = next(f["group"] for f in facts.values() if asked in (bare(f["mpn"]), f["gtin"]))
        assert_same(pool, {i: grade_code(pool.need, f, group) for i, f in facts.items()})


def test_uses_take_the_best_answer_of_their_table(shop):
    vocabulary, facts, pools = shop
    tables = {text.replace("ё", "е"): use.answers for use in vocabulary.uses for text in use.queries}
    for pool in (pool for pool in pools if pool.need.kind == "use"):
        answers = tables[pool.need.text.replace("ё", "е")]
        expected = {
            i: max((g for g, wanted in answers if all(f.get(k) == v for k, v in wanted.items())), default=0)
            for i, f in facts.items()
        }
        assert_same(pool, expected)


def test_none_has_no_relevant_product(shop):
    _, _, pools = shop
    none = [pool for pool in pools if pool.need.kind == "none"]
    assert len(none) >= 20
    assert all(pool.relevant == 0 for pool in none)
    assert any(list(pool.rows()) for pool in none)


def assert_same(pool, expected):
    recorded = dict(pool.rows())
    assert {i: g for i, g in recorded.items() if g} == {i: g for i, g in expected.items() if g}, pool.need
    zeros = [i for i, g in recorded.items() if g == 0]
    assert all(expected[i] == 0 for i in zeros)
    assert len(zeros) <= MOST_IRRELEVANT


def test_every_query_but_none_has_an_answer_of_grade_3(shop):
    _, _, pools = shop
    for pool in pools:
        assert (3 in dict(pool.rows()).values()) == (pool.need.kind != "none")


def test_most_queries_have_judged_near_misses(shop):
    _, _, pools = shop
    with_zeros = sum(0 in dict(pool.rows()).values() for pool in pools)
    assert with_zeros > len(pools) / 2


def test_a_pool_keeps_the_highest_grades():
    pool = Pool(Need("q", "text", "type", (Clause(3, {"type": "hose"}),)))
    for number in range(2 * MOST_RELEVANT):
        pool.add(f"low{number}", 1)
    for number in range(MOST_RELEVANT - 5):
        pool.add(f"high{number}", 3)
    counts = defaultdict(int)
    for _, grade in pool.rows():
        counts[grade] += 1
    assert counts == {3: MOST_RELEVANT - 5, 1: 5}
    assert pool.capped
    assert pool.relevant == 3 * MOST_RELEVANT - 5
