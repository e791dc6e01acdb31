"""Encoders for building: saved in the form in which they serve, and known by what their vectors depend on."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from models import static_model, tiny_bert, tiny_xlm_r
from tilth.catalog import Product
from tilth.errors import IndexFormatError, InputError, SettingError
from tilth.retrieval.encoder import OnnxEncoder, StaticEncoder, open_encoder, same_passage_vectors
from tilth.retrieval.encoder_build import ModelForBuild, build_encoder, for_build, open_static
from tilth.retrieval.passages import PassageSettings

TEXTS = ["cow manure for tomatoes", "чем подкормить томаты", "", "hose 25 m"]


@pytest.fixture(scope="module")
def e5(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_xlm_r(tmp_path_factory.mktemp("e5")))


def test_what_is_saved_gives_the_same_vectors(e5: str, tmp_path: Path) -> None:
    built = build_encoder(e5)
    built.save(tmp_path / "encoder")
    served = open_encoder(tmp_path / "encoder")
    assert isinstance(served, OnnxEncoder)
    assert served.facts.to_json() == built.identity
    np.testing.assert_allclose(served.encode_queries(TEXTS), built.encode_queries(TEXTS), atol=1e-4)
    # passages are made in bfloat16 where that is faster
    assert ((served.encode_passages(TEXTS) * built.encode_passages(TEXTS)).sum(axis=1) > 0.99).all()


def test_the_folder_of_a_graph_makes_no_vectors(e5: str, tmp_path: Path) -> None:
    build_encoder(e5).save(tmp_path / "encoder")
    for opened in (open_static, lambda folder: build_encoder(str(folder))):
        with pytest.raises(InputError, match=r"only serves, and cannot make an index.*that it was made from"):
            opened(tmp_path / "encoder")


def test_a_static_form_serves_its_own_tokenizer(e5: str, tmp_path: Path) -> None:
    built = build_encoder(e5, "static")
    built.save(tmp_path / "encoder")
    served = open_encoder(tmp_path / "encoder")
    assert isinstance(served, StaticEncoder)
    np.testing.assert_array_equal(served.encode_passages(TEXTS), built.encode_passages(TEXTS))
    assert served.tokenizer.to_str() == built.tokenizer.to_str()
    assert built.reserved() == 0
    assert served.facts.query_prefix == served.facts.passage_prefix == ""


@pytest.mark.parametrize("form", ["float32", "int8", "static"])
def test_a_model_that_is_static_already_stays_so(form: str, tmp_path: Path) -> None:
    built = build_encoder(str(static_model(tmp_path)), form)
    built.save(tmp_path / "encoder")
    served = open_encoder(tmp_path / "encoder")
    assert isinstance(served, StaticEncoder)
    assert built.identity["form"] == "static"
    np.testing.assert_array_equal(served.encode_passages(TEXTS), built.encode_passages(TEXTS))


def test_the_folder_of_a_static_encoder_makes_an_index(
    e5: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build_encoder(e5, "static")
    first.save(tmp_path / "encoder")
    monkeypatch.setattr("tilth.retrieval.sentence_encoder.find_spec", lambda *_: None)  # no torch
    again = build_encoder(str(tmp_path / "encoder"))
    assert again.identity == first.identity
    np.testing.assert_array_equal(again.encode_passages(TEXTS), first.encode_passages(TEXTS))
    portable = again.portable()
    assert portable is not None
    again.save(tmp_path / "copy")
    for file in (tmp_path / "encoder").iterdir():
        assert (tmp_path / "copy" / file.name).read_bytes() == file.read_bytes()


def test_a_folder_without_an_encoder_is_named(tmp_path: Path) -> None:
    with pytest.raises(IndexFormatError, match="holds no encoder that can be read"):
        open_static(tmp_path)


@pytest.mark.parametrize("dimension", [1, 7])
def test_the_first_numbers_of_a_static_encoder_are_one(e5: str, dimension: int) -> None:
    whole = build_encoder(e5, "static")
    encoder = whole.portable()
    assert isinstance(encoder, StaticEncoder)
    for short in (for_build(encoder, dimension), build_encoder(e5, "static", dimension=dimension)):
        assert short.dimension == short.identity["dimension"] == dimension
        wanted = encoder.shortened(dimension).encode_queries(TEXTS)
        np.testing.assert_array_equal(short.encode_queries(TEXTS), wanted)
        assert not same_passage_vectors(short.identity, whole.identity)
    assert for_build(encoder).identity == whole.identity


def test_dimensions_that_an_encoder_does_not_have_are_refused(e5: str) -> None:
    encoder = build_encoder(e5, "static").portable()
    assert isinstance(encoder, StaticEncoder)
    for dimension in (0, -1, encoder.dimension + 1):
        with pytest.raises(
            SettingError, match=f"dimension is {dimension}; the encoder has {encoder.dimension}"
        ):
            for_build(encoder, dimension)
    with pytest.raises(SettingError, match=r"has vectors of 32 numbers; only static ones can be cut"):
        build_encoder(e5, dimension=16)


def test_passages_leave_room_for_special_tokens_and_prefix(e5: str) -> None:
    built = build_encoder(e5)
    product = Product(id="1", title="cow manure", description="for tomatoes " * 200)
    passages = built.cutter(PassageSettings()).cut([product])[0].passages
    tokens = [len(built.tokenizer.encode(f"passage: {text}").ids) for text in passages]
    assert 50 < max(tokens) <= 64  # the model reads 64, fewer than the settings allow


def test_settings_are_narrowed_to_what_the_encoder_reads(e5: str, model: ModelForBuild) -> None:
    assert build_encoder(e5).cutter(PassageSettings()).settings == PassageSettings(max_tokens=64)
    assert model.cutter(PassageSettings()).settings == PassageSettings()


def test_int8_has_the_passages_of_float32(e5: str) -> None:
    float32, int8, static = (build_encoder(e5, form).identity for form in ("float32", "int8", "static"))
    assert int8["form"] == "int8"
    assert same_passage_vectors(float32, int8)
    assert not same_passage_vectors(float32, static)
    assert same_passage_vectors(float32, build_encoder(e5, query_prefix="q: ").identity)
    assert not same_passage_vectors(float32, build_encoder(e5, passage_prefix="p: ").identity)
    assert not same_passage_vectors(float32, {})


def test_other_pooling_is_another_encoder(tmp_path: Path) -> None:
    mean, cls = (
        build_encoder(str(tiny_bert(tmp_path / pooling, pooling))).identity for pooling in ("mean", "cls")
    )
    assert mean["revision"] != cls["revision"]


def test_forms_are_listed() -> None:
    with pytest.raises(SettingError, match=r"no form 'float16'.*float32, int8, static"):
        build_encoder(form="float16")


def test_searching_imports_no_training_library(shop_index: Path) -> None:
    code = (
        "import sys, tilth\n"
        f"run = tilth.open_index({str(shop_index)!r}).search(['tomato seeds'], k=3)\n"
        "assert run['1'][0].product_id == 's1', run\n"
        "heavy = {'torch', 'transformers', 'sentence_transformers', 'model2vec', 'onnx'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
