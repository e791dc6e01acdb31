import random

from hypothesis import given
from hypothesis import strategies as st

from tilth.sample.typos import misspell


@given(
    st.integers(0, 2**32), st.sampled_from([("garden hosepipe 25 m", "en"), ("поливочный шланг 25 м", "ru")])
)
def test_a_slip_changes_letters_and_spares_numbers(seed, case):
    text, language = case
    wrong = misspell(random.Random(seed), text, language)
    assert wrong is None or (wrong != text and "25" in wrong)


def test_short_words_have_no_slips():
    assert misspell(random.Random(1), "hose 5 m", "en") is None


def test_slips_stay_small_in_english():
    for seed in range(200):
        wrong = misspell(random.Random(seed), "manure", "en")
        if wrong:
            assert abs(len(wrong) - 6) <= 1
            assert wrong[0] == "m"
            assert wrong[-1] == "e"


def test_russian_is_sometimes_typed_in_the_other_layout():
    assert "yfdjp" in {misspell(random.Random(seed), "навоз", "ru") for seed in range(100)}


def test_the_same_seed_makes_the_same_slip():
    slips = [misspell(random.Random(3), "pruning secateurs", "en") for _ in range(2)]
    assert slips[0] == slips[1] is not None
