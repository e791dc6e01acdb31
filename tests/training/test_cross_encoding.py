"""A cross-encoder behind a reranker: from the queries that it learns from to the evidence of a release."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tilth.errors import MissingExtraError, SettingError
from tilth.pipeline import Pipeline
from tilth.reranking import cross_encoder_training
from tilth.reranking.cross_encoder_training import check_extra
from tilth.training import cross_encoding
from tilth.training.cross_encoding import WEIGHTS, WITHOUT, CrossEncoderPlan, with_cross_encoder
from tilth.training.experiment import Material
from tilth.training.fitting import Fitted
from tilth.training.outcomes import CANDIDATE, Outcome, parted, trained


class Grades:
    """A cross-encoder that knows the grades, or their opposite."""

    def __init__(self, material: Material, sign: float) -> None:
        self._known = {
            (pool.pool.text, text): sign * float(grade)
            for pool in material.pools
            for text, grade in zip(material.pipeline.texts(pool.pool.product_ids), pool.grades, strict=True)
        }

    def scores(self, query: str, texts: Sequence[str]) -> np.ndarray:
        return np.array([self._known.get((query, text), 0.0) for text in texts])


@pytest.fixture(scope="module")
def fitted(material: Material, opened: Pipeline) -> tuple[Fitted, Outcome]:
    few = replace(material, trial=replace(material.trial, kinds=("logistic",)))
    return trained(few, opened)


def knowing(monkeypatch: pytest.MonkeyPatch, model: Grades) -> None:
    """Let a model that is known beforehand stand for the trained one."""
    monkeypatch.setattr(cross_encoding, "train_cross_encoder", lambda *_, **__: None)
    monkeypatch.setattr(cross_encoding.CrossEncoderModel, "open", lambda _: model)


def test_one_that_knows_the_grades_gets_all_the_weight(
    material: Material,
    opened: Pipeline,
    fitted: tuple[Fitted, Outcome],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    knowing(monkeypatch, Grades(material, 1.0))
    plan = CrossEncoderPlan(budget_ms=60_000.0)
    staged, outcome = with_cross_encoder(material, opened, *fitted, tmp_path / "none", plan)
    assert staged.reranker.stage is not None
    held_out = outcome.report["cross_encoder"]["held_out"]
    assert list(held_out) == [f"{weight:g}" for weight in WEIGHTS]
    best = max(held_out.values())
    assert held_out[f"{staged.reranker.stage.settings.weight:g}"] == best > held_out["0"]
    measure, systems = outcome.report["measure"], outcome.report["systems"]
    assert systems[CANDIDATE][measure] > systems[WITHOUT][measure]
    assert systems[WITHOUT] == fitted[1].report["systems"][CANDIDATE]
    assert (outcome.report["candidate"], outcome.report["kind"]) == (CANDIDATE, "logistic")
    assert {test.difference.baseline for test in outcome.found.tests} == {"lexical", "hybrid", WITHOUT}
    assert outcome.report["latency"]["p99_ms"] > 0


def test_one_that_is_always_wrong_is_left_out(
    material: Material,
    opened: Pipeline,
    fitted: tuple[Fitted, Outcome],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    knowing(monkeypatch, Grades(material, -1.0))
    same, outcome = with_cross_encoder(
        material, opened, *fitted, tmp_path / "none", CrossEncoderPlan(budget_ms=60_000.0)
    )
    assert same is fitted[0]
    assert outcome.runs == fitted[1].runs
    assert outcome.report["warnings"][-1].startswith("no cross-encoder")
    facts = outcome.report["cross_encoder"]
    assert facts["settings"] is None
    assert max(facts["held_out"], key=facts["held_out"].__getitem__) == "0"
    assert outcome.found.warnings[-1] == outcome.report["warnings"][-1]


def test_the_weight_is_chosen_on_queries_that_did_not_teach(material: Material) -> None:
    learned, tested = parted(material)
    teaching, weighing = cross_encoding._parted(learned, material.trial.seed)
    parts = [{pool.query.query_id for pool in pools} for pools in (teaching, weighing)]
    parts.append({query.query_id for query in tested})
    assert sum(map(len, parts)) == len(set().union(*parts))
    assert len(parts[0]) > len(parts[1]) > 0
    pairs, grades, groups = cross_encoding._judged_pairs(teaching, material.pipeline.texts)
    assert len(pairs) == len(grades) == groups.sum()
    assert groups.tolist() == [pool.labels for pool in teaching if pool.answerable and pool.judged.any()]
    known = {(pool.pool.text, int(grade)) for pool in teaching for grade in pool.grades[pool.judged]}
    assert {(query, int(grade)) for (query, _), grade in zip(pairs, grades, strict=True)} <= known


def test_limits_that_cannot_be_are_refused() -> None:
    with pytest.raises(SettingError, match="top"):
        CrossEncoderPlan(top=1)
    with pytest.raises(SettingError, match="budget_ms"):
        CrossEncoderPlan(budget_ms=0)


def test_what_training_needs_is_asked_for_first(monkeypatch: pytest.MonkeyPatch) -> None:
    check_extra()
    monkeypatch.setattr(cross_encoder_training, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match="build"):
        check_extra()
