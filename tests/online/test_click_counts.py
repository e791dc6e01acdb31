import pytest

from tilth.errors import InputError
from tilth.feedback import Impression
from tilth.online.click_counts import check_comparable, count_clicks, shared_cells


def test_cells_are_counted_by_pair_and_rank():
    log = [
        Impression("q", "rose", ("a", "b"), (1,)),
        Impression("q", "rose", ("a", "b"), (1, 2)),
        Impression("q", "rose", ("b", "a"), ()),
        Impression("r", "pot", ("a",), (1,)),
    ]
    counts = count_clicks(iter(log))
    cells = zip(counts.pair.tolist(), counts.rank.tolist(), counts.impressions, counts.clicks, strict=True)
    assert [(*counts.pairs[pair], rank, n, c) for pair, rank, n, c in cells] == [
        ("q", "a", 0, 2, 2),
        ("q", "b", 1, 2, 1),
        ("q", "b", 0, 1, 0),
        ("q", "a", 1, 1, 0),
        ("r", "a", 0, 1, 1),
    ]
    assert counts.texts == {"q": "rose", "r": "pot"}
    assert counts.depth == 2
    assert counts.by_pair(counts.clicks).tolist() == [2, 1, 1]
    assert counts.by_rank(counts.impressions).tolist() == [4, 3]


def test_an_empty_log_is_refused():
    with pytest.raises(InputError, match="holds no impressions"):
        count_clicks([])


def test_cells_of_one_pair_at_two_ranks_are_found_in_both_directions():
    log = [Impression("q", "t", page, (1,)) for page in (tuple("abc"), tuple("bac"), tuple("bca"))]
    counts = count_clicks(log)
    here, there = shared_cells(counts)
    names = [(counts.pairs[counts.pair[n]][1], int(counts.rank[n])) for n in range(len(counts.pair))]
    found = sorted((names[one], names[other][1]) for one, other in zip(here, there, strict=True))
    assert found == [
        (("a", 0), 1), (("a", 0), 2), (("a", 1), 0), (("a", 1), 2), (("a", 2), 0), (("a", 2), 1),
        (("b", 0), 1), (("b", 1), 0), (("c", 1), 2), (("c", 2), 1),
    ]  # fmt: skip
    check_comparable(counts)


def test_ranks_that_share_nothing_cannot_be_compared():
    pages = (tuple("abcd"), tuple("bacd"), tuple("abdc"))  # 1 with 2, 3 with 4, and nothing between
    with pytest.raises(InputError, match=r"shown at rank 3 .* swap two products"):
        check_comparable(count_clicks(Impression("q", "t", page, (1,)) for page in pages))


def test_a_log_without_clicks_says_nothing():
    with pytest.raises(InputError, match="nothing was clicked"):
        check_comparable(count_clicks([Impression("q", "t", ("a",))]))


def test_products_that_nobody_clicks_compare_nothing():
    log = [Impression("q", "t", page, (1,)) for page in (("a", "b", "c"), ("a", "c", "b"))]
    with pytest.raises(InputError, match="no product that was ever clicked was shown at rank 2"):
        check_comparable(count_clicks(log))
