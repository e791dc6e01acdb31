"""One suite over every encoder: shapes, unit length, texts of all kinds, one at a time or many."""

from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models import tiny_xlm_r
from tilth.protocols import Encoder
from tilth.retrieval.encoder import OnnxEncoder, StaticEncoder, open_encoder
from tilth.retrieval.encoder_build import build_encoder
from tilth.retrieval.encoder_export import quantise
from tilth.retrieval.sentence_encoder import SentenceEncoder, load_model
from trainings import shop_products, trained

FORMS = {"float32": OnnxEncoder, "int8": OnnxEncoder, "static": StaticEncoder}  # as they are saved
OWN = "own"  # a static one that was trained from a catalogue
SHORT = ["cow manure 20 kg", "чем подкормить томаты", "", "🍅👩‍🌾", "a", " \t\n", "\x00", "<s>[SEP]"]
LONG = ["word " * 2_500, "x" * 10_000, "томат " * 1_500]
TOLERANCE = 1e-4  # of a coordinate; padding changes the order in which numbers are added


@pytest.fixture(scope="module")
def source() -> SentenceEncoder:
    return load_model()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, shop_index: Path) -> Path:
    folder = tmp_path_factory.mktemp("encoders")
    copytree(shop_index / "generations" / "1" / "dense" / "encoder", folder / "float32")
    copytree(folder / "float32", folder / "int8")
    quantise(folder / "int8")
    build_encoder(str(tiny_xlm_r(folder)), "static").save(folder / "static")
    trained(shop_products(100, "both"), folder / "work").save(folder / OWN)
    return folder


@pytest.fixture(scope="module", params=["torch", *FORMS, OWN])
def encoder(request: pytest.FixtureRequest, folders: Path, source: SentenceEncoder) -> Encoder:
    return source if request.param == "torch" else open_encoder(folders / request.param)


@pytest.mark.parametrize("form", FORMS)
def test_the_kind_is_what_the_folder_says(folders: Path, form: str) -> None:
    opened = open_encoder(folders / form)
    assert type(opened) is FORMS[form]
    assert opened.facts.form == form


def test_vectors_are_unit_rows(encoder: Encoder) -> None:
    texts = [*SHORT, *LONG]
    for vectors in (encoder.encode_queries(texts), encoder.encode_passages(texts)):
        assert vectors.shape == (len(texts), encoder.dimension)
        assert vectors.dtype == np.float32
        lengths = np.linalg.norm(vectors, axis=1)
        unknown = isinstance(encoder, StaticEncoder) & (lengths == 0)  # a text without a known token
        np.testing.assert_allclose(lengths[~unknown], 1, atol=1e-5)
        assert not unknown[[0, 4, 8]].any()


def test_no_texts_give_no_vectors(encoder: Encoder) -> None:
    assert encoder.encode_passages([]).shape == (0, encoder.dimension)
    assert encoder.encode_queries([]).shape == (0, encoder.dimension)


def test_a_text_alone_has_the_vector_that_it_has_among_others(encoder: Encoder) -> None:
    together = encoder.encode_queries([*SHORT, *LONG[:1]])
    alone = np.concatenate([encoder.encode_queries([text]) for text in [*SHORT, *LONG[:1]]])
    np.testing.assert_allclose(together, alone, atol=TOLERANCE)


def test_the_order_of_texts_is_the_order_of_vectors(encoder: Encoder) -> None:
    forwards, backwards = encoder.encode_queries(SHORT), encoder.encode_queries(SHORT[::-1])
    np.testing.assert_allclose(forwards, backwards[::-1], atol=TOLERANCE)


def test_the_same_texts_give_the_same_vectors(encoder: Encoder) -> None:
    np.testing.assert_array_equal(encoder.encode_passages(SHORT), encoder.encode_passages(SHORT))


def test_without_prefixes_a_passage_is_encoded_as_a_query(encoder: Encoder) -> None:
    queries, passages = encoder.encode_queries(SHORT), encoder.encode_passages(SHORT)
    half = isinstance(encoder, SentenceEncoder)  # its passages are bfloat16 where that is faster
    np.testing.assert_allclose(queries, passages, atol=0.02 if half else 0)


def test_what_is_beyond_the_limit_of_tokens_is_not_read(encoder: Encoder) -> None:
    limit = encoder.facts.max_tokens
    a, b = encoder.encode_queries(["word " * limit + "garden", "word " * limit + "hose"])
    np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.parametrize("form", ["float32", "int8"])
def test_near_meanings_are_nearer_than_far_ones(folders: Path, form: str) -> None:
    encoder = open_encoder(folders / form)
    a, b, c = encoder.encode_passages(["garden hose 25 m", "hosepipe for the garden", "gaming laptop"])
    assert a @ b > a @ c + 0.2


@given(texts=st.lists(st.text(max_size=30), max_size=4))
@settings(max_examples=15, deadline=None)
def test_any_texts_are_encoded(encoder: Encoder, texts: list[str]) -> None:
    vectors = encoder.encode_queries(texts)
    assert vectors.shape == (len(texts), encoder.dimension)
    assert np.isfinite(vectors).all()


def test_the_forms_agree(folders: Path, source: SentenceEncoder) -> None:
    texts = [*SHORT[:2], "wireless headphones", *LONG]
    reference = source.encode_queries(texts)
    exact, quantised = (open_encoder(folders / form).encode_queries(texts) for form in ("float32", "int8"))
    np.testing.assert_allclose(exact, reference, atol=1e-4)
    assert ((quantised * reference).sum(axis=1) > 0.96).all()
