"""The tokens of a catalogue, in English and Russian, and how many words have a token of their own."""

import pytest
from tokenizers import Tokenizer

from tilth.encoder_training.vocabulary import UNKNOWN, learn_tokenizer, whole_words
from trainings import shop_products

TEXTS = [
    "Compost 20 kg, organic compost for roses", "compost 5kg", "compost 20 kg",
    "Ёлка искусственная, 5 кг", "елка искусственная зелёная", "грунт для роз 5 кг", "грунт для роз",
]  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return learn_tokenizer(TEXTS * 3, 400)


def tokens(tokenizer: Tokenizer, text: str) -> list[str]:
    return tokenizer.encode(text).tokens


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("5kg", "5 kg"),
        ("5кг", "5 кг"),
        ("20kg compost", "20 kg compost"),
        ("ёлка", "елка"),
        ("Ёлка ЗЕЛЁНАЯ", "елка зеленая"),
        ("COMPOST", "compost"),
        ("Rosés", "roses"),
        ("kg,organic", "kg , organic"),
    ],
)
def test_spellings_with_the_same_tokens(tokenizer: Tokenizer, one: str, other: str) -> None:
    assert tokens(tokenizer, one) == tokens(tokenizer, other)
    assert UNKNOWN not in tokens(tokenizer, one)


def test_words_that_are_met_often_are_whole(tokenizer: Tokenizer) -> None:
    assert tokens(tokenizer, "compost 20 kg, грунт") == ["compost", "20", "kg", ",", "грунт"]


def test_another_number_is_other_tokens(tokenizer: Tokenizer) -> None:
    assert tokens(tokenizer, "5 kg") != tokens(tokenizer, "20 kg")


def test_the_unknown_token_is_the_first(tokenizer: Tokenizer) -> None:
    assert tokenizer.token_to_id(UNKNOWN) == 0
    assert tokenizer.encode("漢字").ids == [0, 0]
    assert tokenizer.encode("").ids == []
    assert tokenizer.encode("compost" * 100).ids == [0]  # too long for a word


def test_unknown_words_fall_into_known_pieces(tokenizer: Tokenizer) -> None:
    pieces = tokens(tokenizer, "composting")
    assert len(pieces) > 1
    assert "".join(piece.removeprefix("##") for piece in pieces) == "composting"


@pytest.mark.parametrize("size", [150, 300, 700])
def test_there_are_as_many_tokens_as_wanted_at_most(size: int) -> None:
    texts = [f"{product.title} {product.description}" for product in shop_products(300, "both")]
    tokenizer = learn_tokenizer(texts, size)
    letters = sum(len(token.removeprefix("##")) == 1 for token in tokenizer.get_vocab())
    assert size - 10 <= tokenizer.get_vocab_size() <= max(size, letters + 1)


def test_single_letters_are_kept_whatever_the_size() -> None:
    tokenizer = learn_tokenizer(TEXTS, 1)
    assert all(0 not in tokenizer.encode(text).ids for text in TEXTS)


def test_two_languages_share_a_vocabulary() -> None:
    products = shop_products(300, "both")
    texts = [product.title for product in products]
    tokenizer = learn_tokenizer(texts, 2_000)
    assert all(0 not in encoded.ids for encoded in tokenizer.encode_batch(texts))
    english, russian = ([t for t in texts if t.isascii() is plain] for plain in (True, False))
    assert whole_words(tokenizer, english) > 0.9
    assert whole_words(tokenizer, russian) > 0.9


def test_the_same_texts_give_the_same_tokenizer() -> None:
    assert learn_tokenizer(TEXTS, 120).to_str() == learn_tokenizer(TEXTS, 120).to_str()


def test_whole_words_are_counted_by_occurrence(tokenizer: Tokenizer) -> None:
    assert len(tokens(tokenizer, "composting")) > 1
    assert whole_words(tokenizer, ["compost 20 kg"]) == 1
    assert whole_words(tokenizer, ["composting compost", "compost, грунт"]) == 4 / 5
    assert whole_words(tokenizer, ["漢 compost"]) == 1 / 2  # unknown: one token, and yet not whole
    assert whole_words(tokenizer, ["composting composting"]) == 0
    assert whole_words(tokenizer, []) == whole_words(tokenizer, ["", " "]) == 1
