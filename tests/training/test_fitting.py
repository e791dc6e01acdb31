"""One reranker out of many kinds: the choice, the calibration, and what is missing said instead of failed."""

from dataclasses import replace

import numpy as np
import pytest

from tilth.errors import InputError, SettingError
from tilth.reranking.models import train
from tilth.training import fitting
from tilth.training.experiment import Material
from tilth.training.fitting import Fitted, calibrate, fit_reranker, try_kinds
from tilth.training.held_out import HeldOut, deal
from tilth.training.pools import LabelledPool, training_data


def fit(material: Material, pools: list[LabelledPool], **options) -> Fitted:
    trial = material.trial
    chosen = {"k": 3, "settings": trial.settings, "depth": trial.depth, "threads": 1} | options
    kinds = chosen.pop("kinds", trial.kinds)
    return fit_reranker(material.pipeline, pools, trial.qrels, kinds, trial.measures[0], **chosen)


def scored(kind: str, pools: list[LabelledPool], sign: float) -> HeldOut:
    """Held-out scores that are as good, or as bad, as can be."""
    noise = np.random.default_rng(0)
    scores = {p.query.query_id: sign * p.grades + noise.normal(0, 0.3, len(p.grades)) for p in pools}
    return HeldOut(kind, scores, (), 1.0)


@pytest.fixture(scope="module")
def fitted(material: Material) -> Fitted:
    return fit(material, list(material.pools))


def test_a_reranker_is_chosen_trained_on_all_and_calibrated(material: Material, fitted: Fitted) -> None:
    assert set(fitted.means) == {"lambdarank", "logistic"}
    kind = fitted.held_out.kind
    assert fitted.means[kind] == max(fitted.means.values())
    assert 0.4 < fitted.means[kind] <= 1
    model = fitted.reranker.model
    assert model.kind == kind
    assert model.data == training_data(material.pools).digest()
    assert model.metrics == {"held-out nDCG@10": fitted.means[kind]}
    assert fitted.reranker.depth == 50
    assert fitted.reranker.calibration is not None
    assert fitted.reranker.answerability is not None
    assert (fitted.failed, fitted.warnings) == ({}, ())


def test_trees_make_the_median_of_the_rounds_of_the_folds(material: Material) -> None:
    one = fit(material, list(material.pools)[:30], kinds=["lambdarank"])
    assert one.reranker.model.settings.fixed_rounds == one.held_out.rounds


@pytest.mark.parametrize("best", ["lambdarank", "logistic"])
def test_the_best_on_held_out_queries_is_chosen(
    material: Material, monkeypatch: pytest.MonkeyPatch, best: str
) -> None:
    pools = list(material.pools)
    tried = {kind: scored(kind, pools, 1.0 if kind == best else -1.0) for kind in material.trial.kinds}
    monkeypatch.setattr(fitting, "try_kinds", lambda *_, **__: (tried, {}))
    one = fit(material, pools)
    assert one.reranker.model.kind == one.held_out.kind == best
    assert one.means[best] > 0.8 > 0.4 > min(one.means.values())
    assert one.reranker.calibration == calibrate(pools, tried[best].scores, 1)  # held out, not learned


def test_only_judged_products_are_calibrated_on(material: Material) -> None:
    pools = [pool for pool in material.pools if pool.query.query_id in material.trial.qrels.grades]
    one = scored("logistic", pools, 1.0)
    calibration = calibrate(pools, one.scores, 1)
    judged = np.concatenate([pool.grades[pool.judged] for pool in pools])
    assert calibration.relevant == int((judged >= 1).sum())
    assert calibration.irrelevant == int((judged < 1).sum())
    assert calibration.probability(np.array([2.0])) > calibration.probability(np.array([0.0]))


def test_kinds_that_cannot_be_trained_are_reported(material: Material) -> None:
    nobody_has = replace(material.trial.settings, threshold=9)
    one = fit(material, list(material.pools)[:30], settings=nobody_has)
    assert one.held_out.kind == "lambdarank"
    assert list(one.failed) == ["logistic"]
    assert "grades are from 9" in one.failed["logistic"]
    (warning,) = one.warnings  # and nothing is relevant that could be calibrated on
    assert warning.startswith("no calibration: a calibration needs 10 relevant and 10 irrelevant labels")
    assert one.reranker.calibration is None
    assert one.reranker.answerability is None


def test_too_few_queries_for_the_decision_are_said(material: Material) -> None:
    judged = [replace(pool, judged=np.ones_like(pool.judged)) for pool in material.pools if pool.answerable]
    one = fit(material, judged[:8], kinds=["logistic"])
    assert one.reranker.calibration is not None
    assert one.reranker.answerability is None
    (warning,) = one.warnings
    assert warning.startswith("no decision that nothing fits: answerability needs at least 10 queries")


def test_nothing_that_can_be_trained_is_an_error_with_each_reason(material: Material) -> None:
    pools = list(material.pools)[:9]
    dealt = deal([pool.query for pool in pools], 3, seed=0)
    unknown = replace(material.trial.settings, threshold=9)
    with pytest.raises(SettingError, match=r"nothing could be trained[.] binary: .*9.*logistic: .*9"):
        try_kinds(["binary", "logistic"], pools, dealt, seed=0, settings=unknown, threads=1)


def test_too_few_queries_to_learn_from_are_an_error(material: Material) -> None:
    with pytest.raises(InputError, match="2 judged queries to learn from are too few for 5 folds"):
        fit(material, list(material.pools)[:2], k=5)


def test_progress_is_told_of_every_fold_of_every_kind(material: Material) -> None:
    told: list[tuple] = []
    fit(material, list(material.pools)[:12], progress=lambda *args: told.append(args))
    assert [kind for kind, done, total in told if done == total == 3] == ["lambdarank", "logistic"]


def test_the_final_model_is_the_one_that_training_gives(material: Material, fitted: Fitted) -> None:
    model = fitted.reranker.model
    again = train(model.kind, training_data(material.pools), None, seed=0, settings=model.settings, threads=1)
    features = material.pools[0].pool.features
    np.testing.assert_array_equal(model.predict(features), again.predict(features))
