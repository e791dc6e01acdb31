from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilth.errors import InputError, SettingError
from tilth.evaluation.splits import (
    RERANKING,
    RETRIEVAL,
    folds,
    queries_of,
    read_split,
    split,
    write_split,
)
from tilth.query import Query

QUERIES = [Query(f"q{n}", f"text {n}") for n in range(200)]
some_queries = st.lists(st.text("аbБ ", min_size=1, max_size=4), min_size=20, max_size=60).map(
    lambda texts: [Query(str(n), f"{n % 15} {text}") for n, text in enumerate(texts)]
)


@pytest.mark.parametrize(
    ("shares", "sizes"),
    [(RETRIEVAL, {"train": 140, "validation": 30, "test": 30}), (RERANKING, {"train": 140, "test": 60})],
)
def test_parts_have_their_shares(shares, sizes):
    assert Counter(split(QUERIES, shares, seed=0).values()) == sizes


@given(queries=some_queries, seed=st.integers(0, 9), shuffle=st.randoms())
def test_a_split_covers_all_and_does_not_see_the_order(queries, seed, shuffle):
    parts = split(queries, seed=seed)
    assert list(parts) == [query.query_id for query in queries]
    assert set(parts.values()) == set(RETRIEVAL)
    shuffled = list(queries)
    shuffle.shuffle(shuffled)
    assert split(shuffled, seed=seed) == parts


@given(queries=some_queries, seed=st.integers(0, 9))
def test_the_same_text_never_stands_on_both_sides(queries, seed):
    texts = {query.query_id: " ".join(query.text.casefold().split()) for query in queries}
    parts = split(queries, seed=seed)
    dealt = {query_id: n for n, fold in enumerate(folds(queries, 3, seed=seed)) for query_id in fold}
    for sides in (parts, dealt):
        assert len({(texts[q], side) for q, side in sides.items()}) == len(set(texts.values()))


@given(queries=some_queries, k=st.integers(2, 6))
def test_folds_cover_all_once(queries, k):
    dealt = folds(queries, k, seed=0)
    assert len(dealt) == k
    assert sorted(q for fold in dealt for q in fold) == sorted(query.query_id for query in queries)


def test_folds_are_even():
    assert Counter(len(fold) for fold in folds(QUERIES[:103], 5, seed=0)) == {20: 2, 21: 3}


def test_the_seed_decides():
    assert split(QUERIES, seed=0) != split(QUERIES, seed=1)
    assert folds(QUERIES, seed=0) != folds(QUERIES, seed=1)


def test_one_query_more_moves_few():
    before, after = split(QUERIES[:-1], seed=0), split(QUERIES, seed=0)
    assert sum(before[q] != after[q] for q in before) <= 2


def test_queries_of_parts():
    parts = {"a": "train", "b": "test", "c": "validation", "d": "train"}
    assert queries_of(parts, ["train", "validation"]) == ("a", "c", "d")
    with pytest.raises(SettingError, match="no part 'dev': it has test, train, validation"):
        queries_of(parts, ["dev"])


def test_what_cannot_be_split_is_named():
    with pytest.raises(SettingError, match="3 different queries are too few for a part 'test'"):
        split(QUERIES[:3], seed=0)
    for shares in ({}, {"train": 0.7}, {"train": 1.2, "test": -0.2}):
        with pytest.raises(SettingError, match="must be above 0 and sum to 1"):
            split(QUERIES, shares, seed=0)
    for k in (1, 4):
        with pytest.raises(SettingError, match="must be from 2 to 3"):
            folds(QUERIES[:3], k, seed=0)


def test_a_split_file_reads_back(tmp_path):
    parts = split(QUERIES, seed=0)
    write_split(parts, tmp_path / "split.tsv")
    assert read_split(tmp_path / "split.tsv") == parts
    (tmp_path / "bare.tsv").write_text("q1\ttrain\n\nq2\ttest\n")
    assert read_split(tmp_path / "bare.tsv") == {"q1": "train", "q2": "test"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no queries"),
        ("query_id\tpart\n", "holds no queries"),
        ("q1 train\n", ":1: a row of a split is a query_id and a part"),
        ("q1\ttrain\nq2\t\n", ":2: a row of a split"),
        ("q1\ttrain\nq1\ttest\n", ":2, field 'query_id': query id occurs twice"),
    ],
)
def test_broken_rows_are_named(tmp_path, text, message):
    path = tmp_path / "split.tsv"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_split(path)
