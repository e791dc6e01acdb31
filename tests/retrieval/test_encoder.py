"""What serves: folders opened or refused, static sums against their definition."""

from pathlib import Path

import numpy as np
import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fakes import word_tokenizer
from tilth.encoder_training.vocabulary import learn_tokenizer
from tilth.errors import IndexFormatError
from tilth.retrieval.encoder import (
    EncoderFacts,
    StaticEncoder,
    bag_vectors,
    letters_per_token,
    normalise,
    open_encoder,
)
from tilth.retrieval.encoder_build import ModelForBuild

FACTS = EncoderFacts("words", "1", "static", 3, 4, query_prefix="", passage_prefix="")
TABLE = np.array([[0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 4]], np.float32)


def static(facts: EncoderFacts = FACTS) -> StaticEncoder:
    tokenizer = word_tokenizer()
    tokenizer.add_tokens(["cow", "manure", "hose"])
    return StaticEncoder(tokenizer, TABLE, facts)


def test_a_static_vector_is_the_direction_of_the_sum() -> None:
    vectors = static().encode_passages(["cow manure", "hose", "hose cow hose", "unknown", ""])
    wanted = [[1, 2, 0], [0, 0, 4], [1, 0, 8], [0, 0, 0], [0, 0, 0]]
    np.testing.assert_allclose(vectors, normalise(np.array(wanted, np.float32)), atol=1e-6)


def test_a_static_encoder_reads_up_to_its_limit() -> None:
    a, b = static().encode_queries(["cow cow cow cow hose", "cow"])
    np.testing.assert_array_equal(a, b)


def test_a_static_encoder_adds_given_prefixes() -> None:
    facts = EncoderFacts("words", "1", "static", 3, 4, query_prefix="hose ", passage_prefix="manure ")
    encoder = static(facts)
    np.testing.assert_allclose(encoder.encode_queries(["cow"]), normalise(np.array([[1, 0, 4]], np.float32)))
    np.testing.assert_allclose(encoder.encode_passages(["cow"]), normalise(np.array([[1, 2, 0]], np.float32)))


def test_many_texts_are_summed_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = static().encode_queries(["cow", "manure", "hose cow"])
    monkeypatch.setattr("tilth.retrieval.encoder._STATIC_BATCH", 2)
    np.testing.assert_array_equal(static().encode_queries(["cow", "manure", "hose cow"]), whole)


def test_a_saved_static_encoder_is_what_it_was(tmp_path: Path) -> None:
    static().save(tmp_path / "encoder")
    opened = open_encoder(tmp_path / "encoder")
    assert opened.facts == FACTS
    np.testing.assert_array_equal(opened.encode_queries(["cow hose"]), static().encode_queries(["cow hose"]))


def test_a_saved_static_encoder_is_a_model_for_its_libraries(tmp_path: Path) -> None:
    from model2vec import StaticModel
    from sentence_transformers import SentenceTransformer

    static().save(tmp_path / "encoder")
    texts = ["cow manure", "hose", "hose cow hose"]
    ours = open_encoder(tmp_path / "encoder").encode_passages(texts)
    np.testing.assert_allclose(
        StaticModel.from_pretrained(tmp_path / "encoder").encode(texts), ours, atol=1e-6
    )
    theirs = SentenceTransformer(str(tmp_path / "encoder"), device="cpu").encode(texts)
    np.testing.assert_allclose(theirs, ours, atol=1e-6)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        (None, "holds no encoder that can be read"),
        (b"{", "holds no encoder that can be read"),
        (b'{"name": "words"}', "holds no encoder that can be read"),
        (
            orjson.dumps({**FACTS.to_json(), "form": "float8"}),
            "the form 'float8' of its encoder is not known",
        ),
        (orjson.dumps(FACTS.to_json()), "lacks the file tokenizer.json"),
    ],
)
def test_a_folder_that_holds_no_encoder_is_named(tmp_path: Path, facts: bytes | None, message: str) -> None:
    if facts is not None:
        (tmp_path / "encoder.json").write_bytes(facts)
    with pytest.raises(IndexFormatError, match=message) as told:
        open_encoder(tmp_path)
    assert str(tmp_path) in str(told.value)


def test_rows_of_zeros_stay_zero() -> None:
    vectors = normalise(np.array([[3, 4], [0, 0]], np.float32))
    np.testing.assert_allclose(vectors, [[0.6, 0.8], [0, 0]])


def test_letters_are_counted_by_alphabet() -> None:
    tokenizer = word_tokenizer()
    assert letters_per_token(tokenizer, ["garden hose"]) == 5
    assert letters_per_token(tokenizer, ["шланг", "25"]) == 3.5
    assert letters_per_token(tokenizer, ["水管"]) == 6
    assert letters_per_token(tokenizer, []) == 0


def test_an_unknown_word_has_no_letters(model: ModelForBuild) -> None:
    assert letters_per_token(model.tokenizer, ["የአትክልት መቀስ"]) == 0
    assert letters_per_token(model.tokenizer, ["garden የአትክልት hose"]) == pytest.approx(10 / 3)
    assert letters_per_token(model.tokenizer, ["hose"] * 3 + ["የአትክልት"]) == 3
    assert letters_per_token(model.tokenizer, ["☃", "!"]) == 0
    assert letters_per_token(model.tokenizer, ["ガーデンホース"]) <= 1  # kana are letters, ideographs words
    own = learn_tokenizer(["garden hose 5 m", "rose"] * 5, 100)
    assert letters_per_token(own, ["шланг"]) == 0
    assert letters_per_token(own, ["hose"]) == 4
    assert letters_per_token(own, ["hose 5 m", "5m"]) == pytest.approx(8 / 5)
    assert letters_per_token(own, ["hose 5 m", "5m"], own=True) == pytest.approx(16 / 5)
    assert letters_per_token(own, ["hoses"], own=True) == letters_per_token(own, ["hoses"])  # hose ##s
    assert letters_per_token(own, ["шланг 5"], own=True) == 1.5


@pytest.fixture(scope="module")
def of_bert(model: ModelForBuild) -> StaticEncoder:
    """A static encoder whose tokens are those of BERT."""
    table = np.random.default_rng(0).standard_normal((model.tokenizer.get_vocab_size(), 4)).astype(np.float32)
    return StaticEncoder(model.tokenizer, table, EncoderFacts("words", "1", "static", 4, 16))


@given(texts=st.lists(st.text(st.characters(codec="utf-8"), max_size=40), min_size=1, max_size=5))
@example(["a  b", " ", "\tcafé\x1cnaïve\u2003x", "[SEP]y [CLS]", "\u0301 e\u0301", "漢字 kana", "w" * 300])
def test_words_looked_up_one_by_one_have_the_tokens_of_the_text(
    of_bert: StaticEncoder, texts: list[str]
) -> None:
    assert of_bert._by_word
    assert of_bert._tokens_by_word(texts) == of_bert._tokens(texts)
    assert of_bert._tokens_by_word(texts) == of_bert._tokens(texts)  # from memory


@pytest.fixture(scope="module")
def learned() -> StaticEncoder:
    """A static encoder with a tokenizer as training makes it: numbers are divided from their units."""
    texts = ["Compost 20kg, loam-free", "25 m hose", "Лейка 8л ёмкость", "грунт для роз 5 кг"] * 3
    tokenizer = learn_tokenizer(texts, 300)
    table = np.random.default_rng(0).standard_normal((tokenizer.get_vocab_size(), 4)).astype(np.float32)
    return StaticEncoder(tokenizer, table, EncoderFacts("own", "1", "static", 4, 16))


WORDS = st.lists(
    st.sampled_from(["20kg", "25 m", "лейка", "Ёмкость8л", "loam-free", "5,5x3", "\t", "漢"]), max_size=12
)


@given(
    texts=st.lists(
        st.text(st.characters(codec="utf-8"), max_size=40) | WORDS.map(" ".join), min_size=1, max_size=5
    )
)
@example(
    ["20kg20", "8л 8 л", "1\u00a02", "x1y2z3" * 20, "²5 ½", "\u0661\u0662kg", "[UNK] [UNK]5", "й \u0306и"]
)
def test_words_with_numbers_have_the_tokens_of_the_text(learned: StaticEncoder, texts: list[str]) -> None:
    assert learned._by_word
    assert learned._tokens_by_word(texts) == learned._tokens(texts)


def test_other_tokenizers_are_not_taken_word_by_word() -> None:
    assert not static()._by_word


@pytest.mark.parametrize("dimension", [1, 3, 4])
def test_a_shortened_encoder_has_the_first_numbers(learned: StaticEncoder, dimension: int) -> None:
    texts = ["compost 20 kg", "Лейка", "hose hose 25m", "漢", ""]
    short = learned.shortened(dimension)
    expected = normalise(learned.encode_passages(texts)[:, :dimension])
    np.testing.assert_allclose(short.encode_passages(texts), expected, atol=1e-6)
    assert short.dimension == short.facts.dimension == dimension
    assert short.facts.revision == learned.facts.revision
    assert short.facts != learned.facts or dimension == 4
    assert short.tokenizer.to_str() == learned.tokenizer.to_str()


def test_what_is_known_of_a_training_is_kept(tmp_path: Path) -> None:
    training = {"products": 3, "curve": [[1, 0.5]], "teacher": None}
    encoder = StaticEncoder(word_tokenizer(), TABLE, FACTS, training)
    encoder.save(tmp_path / "encoder")
    opened = open_encoder(tmp_path / "encoder")
    assert isinstance(opened, StaticEncoder)
    assert opened.training == training
    assert opened.shortened(2).training == training
    static().save(tmp_path / "other")
    untrained = open_encoder(tmp_path / "other")
    assert isinstance(untrained, StaticEncoder)
    assert untrained.training is None
    assert not (tmp_path / "other" / "training.json").exists()


@given(bags=st.lists(st.lists(st.integers(0, 3), max_size=5), max_size=5))
def test_the_vector_of_a_bag_is_the_direction_of_its_sum(bags: list[list[int]]) -> None:
    tokens = np.array([token for bag in bags for token in bag], np.int32)
    ends = np.array([0, *np.cumsum([len(bag) for bag in bags])], np.int64)
    wanted = np.array([sum((TABLE[token] for token in bag), np.zeros(3)) for bag in bags]).reshape(-1, 3)
    np.testing.assert_allclose(bag_vectors(TABLE, tokens, ends), normalise(wanted), atol=1e-6)
