"""A new own encoder for an index, put in force through the gate.

DIR/candidate/        an index of the same store with the new encoder: measured, then adopted or removed
DIR/candidate.lock    held by the one process that retrains
DIR/encoders/3/       the encoder that generation 3 had when it was replaced; retraining with it returns to it
DIR/encoders/refused/ the one that was trained last and that the gate refused

Searches go on by the generation in force until the candidate, whole and measured, takes its place.
"""

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import filelock
import numpy as np

from tilth.encoder_training.drift import trained_encoder
from tilth.encoder_training.of_index import ASIDE, ENCODERS, keep, own_leg, train_from_store
from tilth.encoder_training.settings import EncoderSettings
from tilth.errors import IndexLockedError, InputError, SettingError
from tilth.evaluation.experiment import evaluate
from tilth.evaluation.gate import HELD_OUT, Decision, Evidence, Rules, decide
from tilth.evaluation.measures import DEFAULT, judged_only, relevant_queries
from tilth.evaluation.report import evaluation_report
from tilth.files import move_durably
from tilth.one_search import DEPTH
from tilth.pipeline import Pipeline
from tilth.promotions import promote
from tilth.protocols import Retriever
from tilth.qrels import Qrels
from tilth.query import Query
from tilth.ranking import Ranking
from tilth.releases import HYBRID, Release, current, current_name, propose
from tilth.retrieval.build_settings import BuildEncoder, Progress, Resources
from tilth.retrieval.builder import build_index, kept_encoders, settings_of, source_of
from tilth.retrieval.encoder import OWN, StaticEncoder
from tilth.retrieval.encoder_build import ModelForBuild, for_build
from tilth.retrieval.generations import Generation, adopting, open_generation, sweep
from tilth.retrieval.index import Index, check_store, passage_settings
from tilth.retrieval.legs import LEGS
from tilth.retrieval.live import LiveIndex
from tilth.store import Store

CANDIDATE = "retrained"  # what the ranking with the new encoder is called among the systems
REFUSED = "refused"
MEASURES = (*DEFAULT, *judged_only(DEFAULT[:1]))  # the first decides
_FOLDER = "candidate"
_LOCK = "candidate.lock"
_MAYBE_SEEN = "perhaps learned from"  # the part of queries that an encoder may have been trained on
_ROUNDS = 3  # in which the time of each query is taken


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be trained, and what is asked of it.

    Raises:
        InputError: none of the queries has a product that was judged relevant.
        SettingError: `force` without a reason; steps or seed are out of their range.
    """

    queries: Sequence[Query]
    qrels: Qrels
    encoder: StaticEncoder | None = None  # instead of one that is trained
    teacher: BuildEncoder | None = None  # whose similarities a trained one learns, too
    dimension: int | None = None  # D; None: as many as now, or all that `encoder` has
    steps: int = EncoderSettings().steps
    seed: int = 0
    rules: Rules = field(default_factory=Rules)  # their `in_force` is found, not told
    force: bool = False
    why: str = ""
    by: str = ""

    def __post_init__(self) -> None:
        if not relevant_queries(self.qrels.only([query.query_id for query in self.queries])):
            raise InputError(
                "none of the queries has a product that was judged relevant",
                remedy="Queries and qrels need the same query ids",
            )
        EncoderSettings(steps=self.steps, seed=self.seed)  # raises here, before anything is built
        if self.force and not self.why.strip():
            raise SettingError("to go against the gate needs a reason, which the history keeps: --why TEXT")

    def settings(self, before: Mapping[str, Any]) -> EncoderSettings:
        """Return how to train: as before, but for what the plan says.

        Args:
            before: the settings of the encoder in force, as JSON has them.

        Returns:
            The settings.

        Raises:
            SettingError: the dimension or the steps are out of their range.
        """
        known = {each.name for each in fields(EncoderSettings)} & before.keys()
        chosen = {name: before[name] for name in known} | {"steps": self.steps, "seed": self.seed}
        return EncoderSettings(**chosen if self.dimension is None else chosen | {"dimension": self.dimension})


@dataclass(frozen=True, slots=True)
class Retrained:
    """What came of it; without a release the gate refused the encoder, and nothing has changed."""

    encoder: StaticEncoder
    decision: Decision
    release: Release | None
    former: Path | None  # the folder that keeps the encoder before
    refused: Path | None = None  # the folder that keeps one that was trained and refused


def retrain(into: Path, store: Store, plan: Plan, resources: Resources, progress: Progress) -> Retrained:
    """Put a new own encoder in force, if the gate lets it in or is gone past.

    A training that is interrupted goes on where it was when it is begun again; whatever else is interrupted
    leaves the index as it was.

    Args:
        into: the index folder.
        store: its store; it may be written to meanwhile.
        plan: what is to be trained, and what is asked of it.
        resources: what the build may use.
        progress: is told how far each stage has come.

    Returns:
        The encoder, the decision, and the release with its evidence.

    Raises:
        InputError: the index has no own encoder, or the store too few products; or the index, or the release
            in force, was replaced meanwhile by other than a compaction.
        SettingError: a setting is out of its range, or the release in force has the name of a system.
        IndexFormatError: the index is damaged, or the store is another's.
        IndexLockedError: another process retrains, or builds and does not end.
        IndexWriteError: the folder cannot be written to.
        MissingExtraError: the extra `build` is not installed.
        StoreError: the store cannot be read.
    """
    if current_name(into) == CANDIDATE:
        raise SettingError(
            f"the release in force is named {CANDIDATE}, as a system is: return to the one before with tilth "
            "release rollback, and propose it under another name"
        )
    with _alone(into) as folder:
        base = open_generation(into, checksums=False)
        check_store(base, store)
        encoder, leg = _new_encoder(into, store, plan, base, progress)
        _build(folder, into, base, store, {leg: encoder}, resources, progress)
        static = _static(encoder)
        ranking, measured = _measured(into, folder, store, plan, leg, progress)
        evidence = measured | _facts(static, base.manifest["legs"][leg]["encoder"])
        decision = decide(
            Evidence.from_json(evidence), replace(plan.rules, in_force=ranking.release or HYBRID)
        )
        if not (decision.passed or plan.force):
            refused = _keep_refused(into, static) if plan.encoder is None else None
            return Retrained(static, decision, None, None, refused)
        former = _adopt(into, folder, base, leg, ranking.release)
        release = _release(into, ranking, evidence, decision, plan)
    del base
    sweep(into)  # the generation before was held by this process
    return Retrained(static, decision, release, former)


@contextmanager
def _alone(into: Path) -> Iterator[Path]:
    """Give the folder of the candidate, which goes with the block, to one process at a time."""
    lock = filelock.FileLock(into / _LOCK)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise IndexLockedError(
            f"{into}: another process is retraining the encoder of this index. Wait for it"
        ) from error
    folder = into / _FOLDER
    try:
        shutil.rmtree(folder, ignore_errors=True)  # what a killed process left
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.release()


# --- the candidate --------------------------------------------------------------------------------


def _new_encoder(
    into: Path, store: Store, plan: Plan, base: Generation, progress: Progress
) -> tuple[ModelForBuild, str]:
    """Return the encoder to be measured, and the leg that it is for."""
    _, training = trained_encoder(into)
    leg = own_leg(base)
    if leg is None:
        raise AssertionError("an index with an own encoder has a leg of it")
    now = base.manifest["legs"][leg]["encoder"]
    if plan.encoder is not None:
        encoder = for_build(plan.encoder, plan.dimension)
    else:
        settings = plan.settings(training["settings"])
        trained = train_from_store(into, store, settings, progress, teacher=plan.teacher)
        encoder = for_build(trained, plan.dimension or now["dimension"])
    if encoder.identity["name"] != OWN:
        raise InputError(
            "was not trained here",
            field="encoder",
            value=encoder.identity["name"],
            remedy="Name a folder that `tilth encoder train` made, or that an earlier retraining kept",
        )
    if encoder.identity == now:
        raise InputError(
            "is searched with the very encoder that this would put in force",
            path=into,
            remedy="The products have not changed since: there is nothing to do",
        )
    return encoder, leg


def _build(
    folder: Path,
    into: Path,
    base: Generation,
    store: Store,
    new: Mapping[str, BuildEncoder],
    resources: Resources,
    progress: Progress,
) -> None:
    """Build the candidate as its base was built, but for the new encoder of a leg."""
    encoders = {**kept_encoders(base, resources.threads), **new}
    build_index(
        folder,
        store,
        encoders[LEGS[0]],
        settings_of(base.manifest, resources),
        progress,
        own=encoders.get(LEGS[1]),
        source=source_of(base.manifest),
        after=into,
    )


def _static(encoder: ModelForBuild) -> StaticEncoder:
    static = encoder.portable()
    if static is None:
        raise AssertionError("an own encoder is static")
    return static


# --- what is measured of it -----------------------------------------------------------------------


def _measured(
    into: Path, folder: Path, store: Store, plan: Plan, leg: str, progress: Progress
) -> tuple[Ranking, dict[str, Any]]:
    """Return what is in force, and how it orders what either encoder finds for the judged queries."""
    present = Pipeline(LiveIndex(into, Index.open(into), store))
    candidate = Pipeline(LiveIndex(folder, Index.open(folder), store), present.ranking)
    in_force = present.ranking.release or HYBRID
    judged = [query for query in plan.queries if query.query_id in plan.qrels.grades]
    try:
        progress("measuring", 0, 1)
        runs = {
            name: replace(pipeline.search(judged, DEPTH), name=name)
            for name, pipeline in ((in_force, present), (CANDIDATE, candidate))
        }
        p50, p99 = _milliseconds(candidate.retrievers()[leg], judged)
        progress("measuring", 1, 1)
    finally:
        present.live.close()
        candidate.live.close()
    evaluation = evaluate(
        runs, plan.qrels, queries=plan.queries, measures=MEASURES, baseline=in_force, seed=plan.seed
    )
    report = evaluation_report(evaluation)
    return present.ranking, report | {"latency": {"p50_ms": p50, "p99_ms": p99}}


def _milliseconds(leg: Retriever, queries: Sequence[Query]) -> tuple[float, float]:
    """Return the median and the 99th percentile, over queries, of what a leg takes to encode and search.

    Each query is asked a few times, and its shortest time counts: longer ones are those of other processes.
    """
    rounds = [[_asked(leg, query) for query in queries] for _ in range(_ROUNDS)]
    p50, p99 = np.percentile(np.min(rounds, axis=0), [50, 99]).round(3).tolist()
    return p50, p99


def _asked(leg: Retriever, query: Query) -> float:
    start = time.perf_counter()
    leg.search([query], DEPTH)
    return (time.perf_counter() - start) * 1_000


def _facts(encoder: StaticEncoder, before: object) -> dict[str, Any]:
    """Return what the gate asks for beside the measures, and what the encoders are.

    One that was trained on products alone has seen no query, so that all of them are held out. One that was
    trained on judgments, too, or by a teacher that was, may have seen these: its folder does not say which.
    """
    training = encoder.training or {}
    return {
        "candidate": CANDIDATE,
        "measure": str(MEASURES[0]),
        "part": _MAYBE_SEEN if training.get("judged", True) else HELD_OUT[0],
        "encoder": {"facts": encoder.facts.to_json(), "training": dict(training)},
        "encoder_before": before,
    }


# --- putting it in force --------------------------------------------------------------------------


def _adopt(into: Path, folder: Path, base: Generation, leg: str, release: str | None) -> Path:
    """Keep the encoder before, and switch to the candidate; return the folder that keeps it."""
    with adopting(into, folder) as now:
        if _made_with(now.manifest) != _made_with(base.manifest):
            raise _overtaken(into, "was built anew with other encoders or settings")
        if current_name(into) != release:
            raise _overtaken(into, "has another release in force")
        return keep(into, base, leg)


def _made_with(manifest: Mapping[str, Any]) -> tuple[object, ...]:
    """Return all that a generation depends on but the products."""
    encoders = {name: leg["encoder"] for name, leg in manifest["legs"].items()}
    return encoders, manifest["lexical"], passage_settings(manifest), manifest["build"]


def _overtaken(into: Path, what: str) -> InputError:
    return InputError(
        f"{what} since the candidate was measured against it", path=into, remedy="Retrain again"
    )


def _keep_refused(into: Path, encoder: StaticEncoder) -> Path:
    """Keep an encoder that was trained and then refused: who goes past the gate need not train it again."""
    target = into / ENCODERS / REFUSED
    shutil.rmtree(target, ignore_errors=True)  # of an earlier refusal
    aside = target.with_name(f"{ASIDE}{REFUSED}")
    shutil.rmtree(aside, ignore_errors=True)  # what a killed process left
    encoder.save(aside)
    move_durably(aside, target)
    return target


def _release(
    into: Path, ranking: Ranking, evidence: Mapping[str, Any], decision: Decision, plan: Plan
) -> Release:
    """Keep what is in force as a release with the new evidence, and promote it."""
    before = current(into)
    release = propose(
        into,
        fusion=ranking.fusion,
        model_folder=before.reranker if before else None,
        calibration=before.calibration() if before else None,
        evidence=evidence,
    )
    return promote(into, release.name, decision.to_json(), force=plan.force, why=plan.why, by=plan.by)
