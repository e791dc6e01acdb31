"""Unknown words are read as near known ones; known words never change."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilth.catalog import Product
from tilth.retrieval.analyzer import analyze, fold, words
from tilth.retrieval.spelling import Speller, VocabularyCounter, count_words
from tilth.sample.typos import OTHER_LAYOUT

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


def speller(*vocabulary: str, codes: str = "") -> Speller:
    """Return a speller of a shop that has these words, and products with these codes."""
    terms = {term for word in (*vocabulary, codes) for term in analyze(word)}
    return Speller(vocabulary, lambda word: terms.issuperset(analyze(word)))


BAZAAR = speller(
    *("tomato", "macbook", "l'oreal", "tea", "hat", "чай", "сахар", "жилет", "обувь", "хлеб", "елка", "юбка"),
    *("дуб", "цвет", "черный", "для"),
    codes="KER-500 ce285b",
)


@pytest.mark.parametrize("typed", ["юбка", "хлеб", "худи", "бъюж", "эжхъ", "[[[[", "жбю.", "обувь"])
def test_a_word_is_not_read_as_marks(typed: str) -> None:
    reader = speller("tomato", "shoes", codes="RF-10 kt 5 edm elb")
    assert reader.read(typed) == (typed, typed)
    assert reader.corrections(typed) == {}


@pytest.mark.parametrize("typed", ["q" * 65, "й" * 65])
def test_a_text_without_a_term_is_no_known_word(typed: str) -> None:
    assert BAZAAR.read(typed) == (typed, typed)


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("xfq", "чай"),
        ("XFQ", "чай"),
        ("cf[fh", "сахар"),
        (";bktn", "жилет"),
        (":bktn", "жилет"),
        ("j,edm", "обувь"),
        ("[kt,", "хлеб"),
        ("le,", "дуб"),
        ("`krf", "елка"),
        (".,rf", "юбка"),
        ("еуф", "tea"),
        ("рфе", "hat"),
        ("ьфсищщл", "macbook"),
        ("дэщкуфд", "l'oreal"),
        ("xfq lkz tomato", "чай для tomato"),
        ("tea, cf[fh, xfq.", "tea, сахар, чай."),
        ('(xfq) «cf[fh»? ";bktn"!', '(чай) «сахар»? "жилет"!'),
        ("xfq/j,edm", "чай/обувь"),
        ("wdtn:xthysq 40", "цвет:черный 40"),
        ("цвет:xthysq", "цвет:черный"),
        ("чай, ьфсищщл, жилет", "чай, macbook, жилет"),
    ],
)
def test_words_of_the_other_layout_are_read_by_encoders_as_well(typed: str, read: str) -> None:
    assert BAZAAR.read(typed) == (read, read)


@given(st.from_regex(r"[а-яё]{3,12}", fullmatch=True).filter(lambda word: set(word) - set("хъжэбюё")))
def test_every_russian_word_of_the_shop_is_read(word: str) -> None:
    assert speller(fold(word)).read(word.translate(OTHER_LAYOUT)) == (fold(word), fold(word))


@pytest.mark.parametrize(
    "typed",
    [
        "ce285a",  # a part number
        "xfq-20",
        "xfq20",
        "le,5",
        "285",
        "ыщт",  # no word in either layout
        "dog",
        "let",  # дуе
        "xf",  # ча
        "лук",  # ker, which is a part of a code
        "tea",
        "чай",
        "tomatoes",
    ],
)
def test_what_makes_no_word_of_the_shop_in_the_other_layout_stays(typed: str) -> None:
    assert BAZAAR.read(typed) == (typed, typed)


def test_a_known_word_is_not_read_in_the_other_layout() -> None:
    assert speller("gel", "пуд").correct("gel") == "gel"
    assert speller("пуд").correct("gel") == "пуд"


def test_short_words_are_no_near_words() -> None:
    assert speller("tea", "чай").correct("teal чайй") == "teal чайй"


@pytest.mark.parametrize(
    ("typed", "corrected"),
    [
        ("Gardner's gloves", "gardener's gloves"),
        ("перчатки д'артанян", "перчатки д'артаньян"),
        ("gardner's/gardner", "gardener's/gardener"),
        ("gardner-20 gardner", "gardner-20 gardener"),  # part of a code
        ("gardner,gardner", "gardener,gardener"),
        ("5kg,gardner", "5kg,gardener"),
        ("20gardner gardner", "20gardner gardener"),
    ],
)
def test_words_are_replaced_as_the_analyzer_cuts_them(typed: str, corrected: str) -> None:
    reader = speller("gardener's", "gardener", "gloves", "перчатки", "д'артаньян")
    assert reader.read(typed) == (corrected, typed)


PARTS = [
    "tomatto",
    "manuer",
    "удобрениэ",
    "njvfn",
    "xfq",
    "cf[fh",
    "j,edm",
    "еуф",
    "gardner's",
    "ce285a",
    "5kg",
]
TYPED = st.lists(
    st.sampled_from([*PARTS, "kg", "мл", "20", "x", "ё", " ", "  ", *"-,.;'’/(_+"]), max_size=12
).map("".join)
MARKET = speller(*VOCABULARY, "чай", "сахар", "обувь", "tea", "gardener's", codes="ce285b")


@given(st.one_of(TYPED, st.text(max_size=40)))
def test_only_unknown_words_change(text: str) -> None:
    for word, read in MARKET.corrections(text).items():
        assert not MARKET._known(word)
        assert analyze(read)
        assert read != word


@given(TYPED)
def test_the_corrections_are_what_is_read(text: str) -> None:
    corrected, typed = MARKET.read(text)
    near, corrections = MARKET.corrections(typed), MARKET.corrections(text)
    assert words(corrected) == [near.get(word, word) for word in words(typed)]
    assert near.items() <= corrections.items()
    assert all(read in (corrected if word in near else typed) for word, read in corrections.items())
    assert (typed == corrected == text) == (not corrections)


@given(TYPED)
def test_what_was_read_is_read_as_it_is(text: str) -> None:
    corrected, typed = MARKET.read(text)
    assert MARKET.read(typed) == (corrected, typed)


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


def test_the_vocabulary_has_words_of_three_letters(tmp_path: Path) -> None:
    counter = VocabularyCounter()
    counter.merge(count_words(shop("чай в пакетиках", "hat xl")))
    counter.write(tmp_path / "words.txt")
    assert (tmp_path / "words.txt").read_text("utf8").split() == ["hat", "пакетиках", "чай"]
