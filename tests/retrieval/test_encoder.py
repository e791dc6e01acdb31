"""What serves: folders opened or refused, static sums against their definition."""

from pathlib import Path

import numpy as np
import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fakes import word_tokenizer
from tilth.errors import IndexFormatError
from tilth.retrieval.encoder import (
    EncoderFacts,
    StaticEncoder,
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
