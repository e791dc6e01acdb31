"""Cross-encoders: what they learn from pairs, and that they serve without torch as they were trained."""

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import pytest
import torch
from sentence_transformers import CrossEncoder
from transformers import AutoModel

from models import tiny_bert
from tilth.errors import IndexFormatError, InputError, SettingError, TilthError
from tilth.reranking import cross_encoder_training
from tilth.reranking.cross_encoder import CROSS_ENCODER_FACTS, ONNX_MODEL, TOKENIZER, CrossEncoderModel
from tilth.reranking.cross_encoder_training import (
    LOSSES,
    CrossEncoderSettings,
    train_cross_encoder,
)

QUERIES = ["what feeds roses", "cow manure", "garden tomatoes"]
TEXTS = ["garden hose 25 m", "pelleted chicken manure", "hose", "manure for tomatoes"]
PAIRS = [(query, text) for query in QUERIES for text in TEXTS]
GRADES = np.array([2 if "manure" in text else 0 for _, text in PAIRS])
GROUPS = np.full(len(QUERIES), len(TEXTS))
QUICK = CrossEncoderSettings(epochs=20, learning_rate=3e-3, queries=2, list_size=3)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny encoder whose weights are small enough to learn in a few steps."""
    folder = tiny_bert(tmp_path_factory.mktemp("tiny"))
    model = AutoModel.from_pretrained(folder)
    with torch.no_grad():
        for matrix in (each for each in model.parameters() if each.ndim > 1):
            matrix.mul_(0.2)
    model.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def trained(start: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    into = tmp_path_factory.mktemp("trained") / "model"
    return train_cross_encoder(PAIRS, GRADES, GROUPS, into, start=start, settings=QUICK, seed=1)


def fitted(start: str, settings: CrossEncoderSettings) -> CrossEncoder:
    """The model itself, before export."""
    model = cross_encoder_training._load(start, 1, settings.max_tokens)
    lists = cross_encoder_training._lists(PAIRS, GRADES, GROUPS, settings.loss)
    cross_encoder_training._fit(model, lists, 2, settings, 1)
    return model


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_learns_what_was_planted(loss: str, start: str) -> None:
    scores = fitted(start, replace(QUICK, loss=loss)).predict(PAIRS).reshape(len(QUERIES), -1)
    assert (scores[:, [1, 3]].min(axis=1) > scores[:, [0, 2]].max(axis=1)).all()


def test_a_model_serves_as_one_trained_with_the_same_seed_scores(trained: Path, start: str) -> None:
    served, model = CrossEncoderModel.open(trained), fitted(start, QUICK)
    texts = [*TEXTS, "", "manure " * 300, "🍅 unknown", *("hose " * n for n in range(1, 12))]
    theirs = model.predict([("cow manure", text) for text in texts], activation_fn=torch.nn.Identity())
    np.testing.assert_allclose(served.scores("cow manure", texts), theirs, atol=1e-3)
    alone = np.concatenate([served.scores("cow manure", [text]) for text in texts])
    np.testing.assert_allclose(alone, theirs, atol=1e-3)
    assert np.ptp(theirs) > 0.1
    assert served.scores("cow manure", []).shape == (0,)


def test_the_facts_say_what_it_is(trained: Path, start: str) -> None:
    facts = CrossEncoderModel.open(trained).facts
    assert (facts["start"], facts["seed"], facts["pairs"], facts["queries"]) == (start, 1, 12, 3)
    assert facts["settings"]["loss"] == "lambda"
    assert facts["max_tokens"] == 64  # the limit of the tiny model
    assert sorted(path.name for path in trained.iterdir()) == [CROSS_ENCODER_FACTS, ONNX_MODEL, TOKENIZER]


def test_serving_loads_neither_torch_nor_transformers(trained: Path) -> None:
    code = (
        "import sys, pathlib\n"
        "from tilth.reranking.cross_encoder import CrossEncoderModel\n"
        f"CrossEncoderModel.open(pathlib.Path({str(trained)!r})).scores('a', ['b'])\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'sentence_transformers')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_damage_is_noticed(trained: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(trained, tmp_path / "model"))
    facts = orjson.loads((folder / CROSS_ENCODER_FACTS).read_bytes())
    for change, message in [
        ({"model": {}}, "damaged"),
        ({"format_version": 9}, "Upgrade"),
        ({"format": 1}, "not of the format"),
    ]:
        (folder / CROSS_ENCODER_FACTS).write_bytes(orjson.dumps(facts | change))
        with pytest.raises(IndexFormatError, match=message):
            CrossEncoderModel.open(folder)
    (folder / CROSS_ENCODER_FACTS).write_bytes(orjson.dumps(facts))
    (folder / TOKENIZER).write_bytes(b"{}")
    with pytest.raises(IndexFormatError, match=f"{TOKENIZER}: the file is damaged"):
        CrossEncoderModel.open(folder)


def test_an_unfaithful_graph_is_refused(trained: Path, start: str) -> None:
    other = cross_encoder_training._load(start, 2, 256)
    with pytest.raises(TilthError, match="not exported faithfully"):
        cross_encoder_training._check_export(other, CrossEncoderModel.open(trained))


def test_a_sample_keeps_the_best_and_the_worst() -> None:
    whole = cross_encoder_training._List("q", [str(number) for number in range(50)], np.arange(50) % 25)
    for seed in range(20):
        some = whole.sample(5, np.random.default_rng(seed))
        assert len(some.texts) == len(set(some.texts)) == 5
        assert {0, 24} <= set(some.grades.tolist())
        assert some.grades.tolist() == [int(text) % 25 for text in some.texts]


@pytest.mark.parametrize(
    ("grades", "groups", "loss", "message"),
    [
        (GRADES[:-1], GROUPS, "binary", "11 grades"),
        (GRADES, np.array([4, 4]), "binary", "groups of 8"),
        (np.zeros(12, np.int64), GROUPS, "binary", "at least two"),
        (GRADES, np.array([6, 6]), "binary", "not of one query"),
        (np.repeat([0, 1, 2], 4), GROUPS, "listnet", "differ in grade"),
    ],
)
def test_data_that_do_not_fit_are_refused(
    grades: np.ndarray, groups: np.ndarray, loss: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(SettingError, match=message):
        train_cross_encoder(PAIRS, grades, groups, tmp_path / "m", settings=CrossEncoderSettings(loss=loss))


def test_a_folder_that_is_there_and_a_model_that_is_not_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is there already"):
        train_cross_encoder(PAIRS, GRADES, GROUPS, tmp_path)
    with pytest.raises(InputError, match="cannot be loaded"):
        train_cross_encoder(PAIRS, GRADES, GROUPS, tmp_path / "m", start=str(tmp_path))


@pytest.mark.parametrize(
    "values", [{"loss": "hinge"}, {"epochs": 0}, {"list_size": 1}, {"learning_rate": 2.0}]
)
def test_settings_out_of_range_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(SettingError, match=next(iter(values))):
        CrossEncoderSettings(**values)
