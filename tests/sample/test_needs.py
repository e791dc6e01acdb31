from collections import Counter

import pytest

from tilth.sample.needs import draw_needs
from tilth.sample.products import draw_chunk
from tilth.sample.vocabulary import LANGUAGES, read_vocabulary

KINDS = {"type", "attributes", "use", "brand", "code", "price", "misspelt", "none"}


@pytest.fixture(scope="module", params=LANGUAGES)
def needs(request):
    vocabulary = read_vocabulary(request.param)
    return draw_needs(vocabulary, 0, draw_chunk(vocabulary, 0, 0)[:1000])


def test_every_kind_is_there(needs):
    counts = Counter(need.kind for need in needs)
    assert counts.keys() == KINDS
    assert min(counts.values()) >= 20
    assert 250 <= len(needs) <= 350


def test_texts_and_ids_are_unlike(needs):
    assert len({need.text for need in needs}) == len(needs)
    assert len({need.query_id for need in needs}) == len(needs)
    assert all(need.text.strip() and "\t" not in need.text and "{" not in need.text for need in needs)


def test_only_none_has_no_answer(needs):
    for need in needs:
        grades = [clause.grade for clause in need.clauses]
        assert (max(grades, default=0) == 3) == (need.kind != "none")


def test_clauses_run_from_the_highest_grade_down(needs):
    for need in needs:
        grades = [clause.grade for clause in need.clauses]
        assert grades == sorted(grades, reverse=True)


def test_a_tiny_shop_has_fewer_queries():
    vocabulary = read_vocabulary("en")
    head = draw_chunk(vocabulary, 0, 0)
    assert len(draw_needs(vocabulary, 0, head[:3])) < len(draw_needs(vocabulary, 0, head[:300]))


def test_another_seed_asks_other_things():
    vocabulary = read_vocabulary("ru")
    texts = [
        {n.text for n in draw_needs(vocabulary, seed, draw_chunk(vocabulary, seed, 0))} for seed in (1, 2)
    ]
    assert len(texts[0] - texts[1]) > 100
