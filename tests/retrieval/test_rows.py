"""Scored rows: ties at the cut, the best passage of a product, names in order."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tilth.retrieval.rows import RowHits, best_per_row, named, read_on, through_ties

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
    found = through_ties(lambda n: RowHits(everything.rows[:n], everything.scores[:n]), k)
    if k <= len(ranked):
        assert len(found.rows) == sum(score >= ranked[k - 1] for score in ranked)
    else:
        assert len(found.rows) == len(ranked)


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=1, max_size=400), st.integers(1, 30))
def test_reading_on_finds_what_is_allowed_or_says_that_it_lies_too_deep(
    rows: list[tuple[int, bool]], k: int
) -> None:
    ranked = sorted(rows, key=lambda row: -row[0])
    allowed = np.array([may for _, may in ranked])
    allowed[-1] = True
    everything = hits_of([(number, score) for number, (score, _) in enumerate(ranked)])
    expected = [score for (score, _), may in zip(ranked, allowed, strict=True) if may]
    wanted = [score for score in expected if len(expected) < k or score >= expected[k - 1]]

    def fetch(n: int) -> RowHits:
        return RowHits(everything.rows[:n], everything.scores[:n])

    found = read_on(fetch, k, allowed, 10**9)
    assert found is not None
    assert found.scores.tolist() == wanted
    assert allowed[found.rows].all()
    shallow = read_on(fetch, k, allowed, 0)
    assert shallow is None or shallow.scores.tolist() == wanted


@given(scored, st.integers(0, 8))
def test_names_are_in_the_order_of_a_run(pairs: list[tuple[int, int]], k: int) -> None:
    best = best_per_row(*hits_of(pairs))
    run = named(best, lambda rows: [f"p{9 - row}" for row in rows.tolist()], k)
    everything = [(f"p{9 - r}", s) for r, s in zip(best.rows.tolist(), best.scores.tolist(), strict=True)]
    assert list(run) == sorted(everything, key=lambda hit: (-hit[1], hit[0]))[:k]
