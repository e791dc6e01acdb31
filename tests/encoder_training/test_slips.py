"""Slips of the keyboard and strange words: one letter off, one or two words more."""

from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rapidfuzz.distance import OSA

from tilth.encoder_training.slips import with_slip, with_strange_words

TEXTS = st.text(st.characters(codec="utf-8"), min_size=4, max_size=30)


@given(text=TEXTS, seed=st.integers(0, 10_000))
def test_a_slip_is_one_edit_and_spares_the_first_letter(text: str, seed: int) -> None:
    slipped = with_slip(text, Random(seed))
    assert OSA.distance(text, slipped) <= 1
    assert slipped[0] == text[0]
    assert set(slipped) <= set(text)


@pytest.mark.parametrize("text", ["", "л", "rye", "5 m"])
def test_a_very_short_text_stays(text: str) -> None:
    assert {with_slip(text, Random(seed)) for seed in range(50)} == {text}


@pytest.mark.parametrize("text", ["hoseclip", "секатор"])
def test_letters_are_swapped_lost_doubled_and_wrong(text: str) -> None:
    slips = {with_slip(text, Random(seed)) for seed in range(500)} - {text}
    assert {len(slip) - len(text) for slip in slips} == {-1, 0, 1}
    same = [slip for slip in slips if len(slip) == len(text)]
    assert any(sorted(slip) == sorted(text) for slip in same)
    assert any(sorted(slip) != sorted(text) for slip in same)
    longer = [slip for slip in slips if len(slip) > len(text)]
    assert all(any(a == b for a, b in pairwise(slip)) for slip in longer)


@pytest.mark.parametrize("text", ["garden hose 25 m", "лейка", ""])
def test_strange_words_stand_anywhere_among_the_texts_own(text: str) -> None:
    others, own = ["compost", "грунт"], text.split()
    places = set()
    for seed in range(300):
        words = with_strange_words(text, others, Random(seed)).split()
        assert len(words) - len(own) in (1, 2)
        rest = iter(words)
        assert all(word in rest for word in own)
        places |= {place for place, word in enumerate(words) if word in others}
    assert places == set(range(len(own) + 2))


def test_strange_words_are_of_others_or_of_two_halves_of_them() -> None:
    others = ["abcdef", "uvwxyz"]
    seen = {with_strange_words("", others, Random(seed)) for seed in range(300)}
    words = {word for text in seen for word in text.split()}
    assert set(others) < words
    assert all(
        word in others
        or any(a.startswith(word[:1]) and b.endswith(word[-1:]) for a in others for b in others)
        for word in words
    )
    assert {text.count(" ") for text in seen} == {0, 1}


def test_the_same_seed_makes_the_same_slip() -> None:
    assert with_slip("garden hose", Random(1)) == with_slip("garden hose", Random(1))
    assert with_strange_words("hose", ["a", "b"], Random(1)) == with_strange_words(
        "hose", ["a", "b"], Random(1)
    )
