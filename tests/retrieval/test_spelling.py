"""Unknown words are read as near known ones; known words never change."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilth.catalog import Product
from tilth.retrieval.analyzer import analyze
from tilth.retrieval.spelling import Speller, VocabularyCounter, count_words

VOCABULARY = ["tomato", "secateurs", "manure", "томат", "секатор", "manger", "hose", "удобрение"]
STEMS = {term for word in VOCABULARY for term in analyze(word)}


def known(word: str) -> bool:
    return all(term in STEMS for term in analyze(word))


SPELLER = Speller(VOCABULARY, known)


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("tomatto", "tomato"),
        ("secatuers", "secateurs"),
        ("Manuer 20 kg", "manure 20 kg"),
        ("njvfn", "томат"),
        ("удобрениэ для томатов", "удобрение для томатов"),
        ("omato", "tomato"),
    ],
)
def test_near_words_are_found(typed: str, read: str) -> None:
    assert SPELLER.correct(typed) == read


@pytest.mark.parametrize(
    ("text", "corrected", "typed"),
    [
        ("Tomatto 20 kg", "tomato 20 kg", "Tomatto 20 kg"),
        ("njvfn", "томат", "томат"),
        ("tomatto njvfn", "tomato томат", "tomatto томат"),
        ("Tomato", "Tomato", "Tomato"),
    ],
)
def test_encoders_read_what_was_typed_but_for_the_layout_of_the_keyboard(
    text: str, corrected: str, typed: str
) -> None:
    assert SPELLER.read(text) == (corrected, typed)


@pytest.mark.parametrize(
    "typed", ["tomatoes", "Tomato", "секаторы", "hos", "laptop", "WH-1000XM4", "xyz", ""]
)
def test_known_short_far_and_coded_words_stay(typed: str) -> None:
    assert SPELLER.correct(typed) == typed


def test_of_equally_near_words_the_most_frequent_wins() -> None:
    assert Speller(["mangle", "manger"], lambda _: False).correct("mangxe") == "mangle"
    assert Speller(["manger", "mangle"], lambda _: False).correct("mangex") == "manger"


@given(st.text(max_size=40))
def test_only_unknown_words_change(text: str) -> None:
    for word, read in SPELLER.corrections(text).items():
        assert not known(word)
        assert known(read)


def shop(*titles: str) -> list[Product]:
    return [Product(id=str(number), title=title) for number, title in enumerate(titles)]


def test_a_word_counts_once_a_product() -> None:
    product = Product(id="1", title="Spade, spade WH-1000", brand="Spade", product_type="Tools > Spades")
    assert count_words([product]) == {"spade": 1, "tools": 1, "spades": 1}


def test_the_vocabulary_is_written_most_frequent_first(tmp_path: Path) -> None:
    counter = VocabularyCounter(most=2)
    counter.merge(count_words(shop("spade fork", "spade Fork")))
    counter.merge(count_words(shop("spade rake", "ёлка")))
    counter.write(tmp_path / "words.txt")
    assert (tmp_path / "words.txt").read_text("utf8").split() == ["spade", "fork"]
