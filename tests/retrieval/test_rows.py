"""Scored rows: ties at the cut, the best passage of a product, names in order."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tilth.retrieval.rows import RowHits, best_per_row, fetch_with_ties, named

scored = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5)), max_size=40)


def hits_of(pairs: list[tuple[int, int]]) -> RowHits:
    return RowHits(np.array([r for r, _ in pairs], np.int64), np.array([s for _, s in pairs], np.float32))


@given(scored)
def test_each_row_has_its_best_score(pairs: list[tuple[int, int]]) -> None:
    best = best_per_row(*hits_of(pairs))
    expected = {row: max(score for r, score in pairs if r == row) for row, _ in pairs}
    assert dict(zip(best.rows.tolist(), best.scores.tolist(), strict=True)) == expected
    assert best.scores.tolist() == sorted(best.scores.tolist(), reverse=True)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=200), st.integers(1, 50))
def test_all_that_tie_with_the_last_are_fetched(scores: list[int], k: int) -> None:
    ranked = sorted(scores, reverse=True)
    everything = hits_of(list(enumerate(ranked)))
    found = fetch_with_ties(lambda n: RowHits(everything.rows[:n], everything.scores[:n]), k)
    if k <= len(ranked):
        assert len(found.rows) >= sum(score >= ranked[k - 1] for score in ranked)
    else:
        assert len(found.rows) == len(ranked)


@given(scored, st.integers(0, 8))
def test_names_are_in_the_order_of_a_run(pairs: list[tuple[int, int]], k: int) -> None:
    best = best_per_row(*hits_of(pairs))
    run = named(best, lambda rows: [f"p{9 - row}" for row in rows.tolist()], k)
    everything = [(f"p{9 - r}", s) for r, s in zip(best.rows.tolist(), best.scores.tolist(), strict=True)]
    assert list(run) == sorted(everything, key=lambda hit: (-hit[1], hit[0]))[:k]
