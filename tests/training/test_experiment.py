"""What is tried, and every system's runs on it: fold by fold, and as a candidate for a release."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fakes import kept_encoder, own_encoder
from shop import SHOP, TWO_LISTS, index
from tilth.errors import InputError, SettingError
from tilth.evaluation.correction import holm
from tilth.evaluation.gate import Evidence, Rules, decide
from tilth.pipeline import Pipeline, open_index
from tilth.query import Query
from tilth.ranking import Ranking
from tilth.retrieval.fusion import Fusion
from tilth.retrieval.index import read_fusion, write_fusion
from tilth.training import reporting
from tilth.training.experiment import (
    SYSTEMS,
    Material,
    Trial,
    baseline_runs,
    cross_validate_kinds,
    prepare,
)
from tilth.training.fitting import Fitted
from tilth.training.outcomes import CANDIDATE, Outcome, cross_validated, parted, trained
from tilth.training.pools import LabelledPool

IN_GARDEN = ["tfidf", "lexical", "dense", "hybrid"]  # an index without an own encoder
PAIRS = {("hybrid", "lexical")} | {
    (kind, baseline) for kind in ("lambdarank", "logistic") for baseline in ("lexical", "hybrid")
}


@pytest.fixture(scope="module")
def compared(material: Material) -> Outcome:
    return cross_validated(material, 3, curve=True)


@pytest.fixture(scope="module")
def candidate(material: Material, opened: Pipeline) -> tuple[Fitted, Outcome]:
    return trained(replace(material, trial=replace(material.trial, kinds=("lambdarank",))), opened)


def test_the_threshold_is_that_of_the_measures(trial: Trial) -> None:
    assert [str(m) for m in trial.measures][:2] == ["nDCG@10", "R@100"]
    strict = replace(trial, settings=replace(trial.settings, threshold=2))
    assert [str(m) for m in strict.measures] == [
        "nDCG@10", "R(rel=2)@100", "RR(rel=2)@10", "P(rel=2)@5", "Judged@10", "nDCG(judged_only=True)@10",
    ]  # fmt: skip


def test_pools_come_from_the_fusion_of_the_index(opened: Pipeline, trial: Trial, garden) -> None:
    released = Pipeline(opened.live, Ranking(Fusion("rrf", (0.0, 1.0)), release="r1"))
    few = replace(trial, queries=trial.queries[:3])
    assert prepare(released, few).pipeline.ranking == Ranking(read_fusion(garden / "idx", TWO_LISTS))
    before = read_fusion(garden / "idx", TWO_LISTS)
    write_fusion(garden / "idx", Fusion("minmax", (0.9, 0.1)))
    try:
        assert prepare(released, few).pipeline.ranking == Ranking(Fusion("minmax", (0.9, 0.1)))
    finally:
        write_fusion(garden / "idx", before)


def test_an_own_encoder_is_a_baseline_where_the_index_has_one(tmp_path: Path) -> None:
    index(SHOP, tmp_path, kept_encoder(["tomato", "hose"]), own=own_encoder(["tomato", "manure"]))
    runs = baseline_runs(open_index(tmp_path), [Query("q", "tomato manure")], 5)
    assert tuple(runs) == SYSTEMS == ("tfidf", "lexical", "dense", "own", "hybrid")
    assert runs["own"]["q"]
    assert runs["own"].hits != runs["dense"].hits


# fold by fold


def test_every_system_is_measured_on_every_judged_query(compared: Outcome, material: Material) -> None:
    report = compared.report
    assert list(report["systems"]) == [*IN_GARDEN, "lambdarank", "logistic"]
    assert report["best"] in ("lambdarank", "logistic")
    assert report["folds"] == 3
    assert report["queries"] == len(set(material.trial.qrels) & {q.query_id for q in material.trial.queries})
    assert set(compared.runs) == set(report["systems"])
    for kind in ("lambdarank", "logistic"):
        assert set(compared.runs[kind]) == {pool.query.query_id for pool in material.pools}
    split = compared.found.split
    assert split is not None
    assert sum(split.parts.values()) == len(material.trial.known)


def test_tests_are_corrected_for_all_of_them(compared: Outcome) -> None:
    tests = compared.found.tests
    assert {(test.difference.system, test.difference.baseline) for test in tests} == PAIRS
    assert {test.difference.measure for test in tests} == {"nDCG@10"}
    adjusted = holm([test.difference.p for test in tests]).tolist()
    assert [test.adjusted for test in tests] == adjusted
    assert all(test.adjusted >= test.difference.p for test in tests)


def test_importances_are_shares_the_largest_first(compared: Outcome) -> None:
    shares = [feature.share for feature in compared.found.importances]
    assert shares == sorted(shares, reverse=True)
    assert 0 < sum(shares) <= 1 + 1e-9
    assert len(shares) <= 20
    assert all(feature.about for feature in compared.found.importances)


def test_the_duel_and_the_models_are_those_of_the_outcome(compared: Outcome) -> None:
    found = compared.found
    assert found.duel is not None
    assert (found.duel.system, found.duel.baseline) == (compared.report["best"], "hybrid")
    lambdarank, logistic = found.models
    assert (lambdarank.kind, logistic.kind) == ("trees", "linear")
    assert lambdarank.rounds
    assert lambdarank.rounds >= 1
    assert logistic.rounds is None
    assert set(logistic.settings) == {"threshold", "c"}
    assert "c" not in lambdarank.settings
    assert found.curve is not None
    assert set(found.curve.baselines) == {"lexical", "hybrid"}
    assert found.dataset is not None
    assert found.dataset.products == 300


def test_calibrations_are_fitted_on_other_folds(material: Material, monkeypatch: pytest.MonkeyPatch) -> None:
    done = cross_validate_kinds(replace(material, trial=replace(material.trial, kinds=("logistic",))), 3)
    fitted_on: list[set[str]] = []
    calibrate = reporting.calibrate

    def spied(pools: list[LabelledPool], scores, relevant: int):
        fitted_on.append({pool.query.query_id for pool in pools})
        return calibrate(pools, scores, relevant)

    monkeypatch.setattr(reporting, "calibrate", spied)
    found, warnings = reporting.calibration_held_out(material, done.fitted["logistic"], done.dealt)
    everything = {pool.query.query_id for pool in material.pools}
    assert fitted_on == [everything - set(fold) for fold in done.dealt]
    assert warnings == ()
    assert found is not None
    assert sum(one.count for one in found.reliability.equal_width) == sum(
        int(pool.judged.sum()) for pool in material.pools
    )
    (refusals,) = found.refusals.values()
    assert refusals.queries == len(material.pools)
    assert refusals.unanswerable == sum(not pool.answerable for pool in material.pools)


def test_what_lacks_labels_is_a_warning(material: Material) -> None:
    done = cross_validate_kinds(replace(material, trial=replace(material.trial, kinds=("logistic",))), 3)
    one = done.fitted["logistic"]
    strict = replace(material.trial, settings=replace(material.trial.settings, threshold=9))
    assert reporting.calibration_held_out(replace(material, trial=strict), one, done.dealt) == (
        None,
        ("no calibration: a calibration needs 10 relevant and 10 irrelevant labels at least; there are 0 and "
         + _irrelevant(material, done.dealt[0])
         + ". Judge more products of the validation queries",),
    )  # fmt: skip
    refused = [replace(pool, answerable=False) for pool in material.pools]
    found, (warning,) = reporting.calibration_held_out(replace(material, pools=refused), one, done.dealt)
    assert found is not None
    assert found.refusals == {}
    assert warning.startswith("no decision that nothing fits: answerability needs")


def _irrelevant(material: Material, fold: tuple) -> str:
    others = [pool for pool in material.pools if pool.query.query_id not in fold]
    return str(sum(int(pool.judged.sum()) for pool in others))


def test_few_queries_and_few_judged_hits_are_said_once(material: Material) -> None:
    few = replace(material, trial=replace(material.trial, queries=material.trial.queries[:20]))
    few = replace(few, pools=few.pools_of([query.query_id for query in few.trial.queries]))
    warnings = cross_validated(few, 3, curve=False).report["warnings"]
    assert any(warning.startswith("only 20 queries are measured") for warning in warnings)
    (judged,) = [warning for warning in warnings if "are judged" in warning]
    assert judged.startswith(
        "few of the first ten hits are judged, and the others count as irrelevant: tfidf"
    )
    assert judged.count("%") == 6


def test_a_curve_that_cannot_be_drawn_is_a_warning(
    material: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise SettingError("too few")

    monkeypatch.setattr("tilth.training.outcomes.learning_curve", refuse)
    quick = replace(material, trial=replace(material.trial, kinds=("logistic",)))
    outcome = cross_validated(quick, 3, curve=True)
    assert outcome.found.curve is None
    assert "no learning curve: too few" in outcome.report["warnings"]


def test_too_few_queries_are_refused(material: Material) -> None:
    few = replace(material, trial=replace(material.trial, queries=material.trial.queries[:2]))
    with pytest.raises(InputError, match="2 judged queries to learn from are too few for 3 folds"):
        cross_validated(few, 3, curve=False)


# a candidate


def test_queries_are_parted_and_those_without_candidates_are_reported_on(material: Material) -> None:
    learned, tested = parted(material)
    taught, reported = {pool.query.query_id for pool in learned}, {query.query_id for query in tested}
    assert not taught & reported
    known = {query.query_id for query in material.trial.known}
    nothing = known - taught - reported  # would be learned from, but finds no candidates
    assert not nothing & {pool.query.query_id for pool in material.pools}
    assert len(taught | nothing) == round(0.7 * len(known))
    assert tested[0].query_id in reported
    gone = material.pools_of(taught | reported - {tested[0].query_id})
    assert parted(replace(material, pools=gone))[1] == tested


def test_the_outcome_is_evidence_for_the_gate(candidate: tuple[Fitted, Outcome], material: Material) -> None:
    fitted, outcome = candidate
    evidence = Evidence.from_json(outcome.report)
    assert (evidence.candidate, evidence.measure, evidence.part) == (CANDIDATE, "nDCG@10", "test")
    assert evidence.difference_to("hybrid") is not None
    assert decide(evidence, Rules()).findings[0].passed
    assert outcome.report["kind"] == "lambdarank"
    assert outcome.report["held_out"] == fitted.means
    assert list(outcome.runs) == [*IN_GARDEN, CANDIDATE]
    assert outcome.found.duel is not None
    assert outcome.found.duel.system == CANDIDATE


def test_the_reported_queries_taught_nothing(material: Material, candidate: tuple[Fitted, Outcome]) -> None:
    learned, tested = parted(material)
    fitted, outcome = candidate
    assert set(fitted.held_out.scores) == {pool.query.query_id for pool in learned}
    assert set(outcome.runs[CANDIDATE]) <= {query.query_id for query in tested}


def test_stage_times_are_those_of_an_answer(candidate: tuple[Fitted, Outcome], material: Material) -> None:
    fitted, outcome = candidate
    plain = material.pipeline
    answering = Pipeline(plain.live, Ranking(plain.ranking.fusion, fitted.reranker))
    stages = {time.stage: time for time in outcome.found.latency}
    assert set(stages) == {*answering.answer("compost").milliseconds, "whole"}
    assert "rerank" in stages
    assert all(0 <= time.p50 <= time.p99 for time in stages.values())
    assert stages["whole"].p50 >= stages["rerank"].p50
    assert outcome.report["latency"]["p99_ms"] == stages["rerank"].p99


def test_it_is_compared_with_the_release_in_force(
    candidate: tuple[Fitted, Outcome], material: Material
) -> None:
    fitted, _ = candidate
    plain = material.pipeline
    in_force = Pipeline(plain.live, Ranking(plain.ranking.fusion, fitted.reranker, "r1"))
    few = replace(material, trial=replace(material.trial, kinds=("logistic",)))
    _, outcome = trained(few, in_force)
    assert list(outcome.runs) == [*IN_GARDEN, CANDIDATE, "r1"]
    assert {d["baseline"] for d in outcome.report["differences"]} == {"r1"}
    tests = {(test.difference.system, test.difference.baseline) for test in outcome.found.tests}
    assert tests == {
        ("hybrid", "lexical"), ("r1", "lexical"), (CANDIDATE, "lexical"),
        ("r1", "hybrid"), (CANDIDATE, "hybrid"), (CANDIDATE, "r1"),
    }  # fmt: skip
    values = outcome.report["systems"]
    assert values["r1"] == candidate[1].report["systems"][CANDIDATE]  # the same model on the same queries


@pytest.mark.parametrize("name", ["hybrid", CANDIDATE])
def test_a_release_named_as_a_system_is_refused(material: Material, name: str) -> None:
    in_force = Pipeline(material.pipeline.live, Ranking(material.pipeline.ranking.fusion, release=name))
    with pytest.raises(SettingError, match=f"the release in force is named {name}, as a system is"):
        trained(material, in_force)


def test_one_query_is_too_few_for_two_parts(material: Material) -> None:
    one = replace(material, trial=replace(material.trial, queries=[Query("x", "spade", "none")]))
    with pytest.raises(SettingError, match="1 different queries are too few for a part"):
        parted(one)


def test_held_out_scores_of_the_candidate_are_finite(candidate: tuple[Fitted, Outcome]) -> None:
    scores = np.concatenate(list(candidate[0].held_out.scores.values()))
    assert np.isfinite(scores).all()
