"""One reranker out of many kinds, with its calibration, from the queries that may be learned from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from ir_measures import Measure

from tilth.errors import InputError, SettingError
from tilth.evaluation.measures import measure
from tilth.pipeline import Pipeline
from tilth.qrels import Qrels
from tilth.reranking.answerability import Answerability, fit_answerability
from tilth.reranking.behaviour import NO_BEHAVIOUR, Behaviour
from tilth.reranking.calibration import Calibration, fit_calibration
from tilth.reranking.models import train
from tilth.reranking.reranker import Reranker, signals
from tilth.reranking.settings import DEFAULT, Settings
from tilth.retrieval.build_settings import Progress
from tilth.training.held_out import HeldOut, cross_fit, deal
from tilth.training.pools import LabelledPool, as_run, training_data, untold


@dataclass(frozen=True, slots=True)
class Fitted:
    """A reranker and how it was chosen: the mean of each kind on queries held out of its training."""

    reranker: Reranker
    held_out: HeldOut  # of the chosen kind
    means: Mapping[str, float]  # kind -> mean of the deciding measure
    failed: Mapping[str, str]  # kind -> why it could not be trained
    warnings: tuple[str, ...]


def fit_reranker(
    pipeline: Pipeline,
    pools: Sequence[LabelledPool],
    qrels: Qrels,
    kinds: Sequence[str],
    by: Measure,
    *,
    depth: int,
    k: int = 5,
    seed: int = 0,
    settings: Settings = DEFAULT,
    behaviour: Behaviour = NO_BEHAVIOUR,
    threads: int = 0,
    progress: Progress = untold,
) -> Fitted:
    """Choose a kind of model, train it on all the queries, and calibrate it.

    The kind with the best mean on held-out folds is chosen. It is trained anew on everything, for the median
    of the rounds after which the folds stopped, and calibrated on the held-out scores of judged products: a
    model's scores for what it has learned by heart say nothing.

    Args:
        pipeline: what retrieved the pools.
        pools: of queries that may be learned from, none of which will be reported on.
        qrels: their grades.
        kinds: of `tilth.reranking.models.KINDS`.
        by: the measure that decides.
        depth: candidates that serving will order.
        k: how many folds, from 3.
        seed: of everything random.
        settings: of every training; `threshold` is the least grade that is relevant.
        behaviour: clicks that the features were made with.
        threads: of LightGBM; 0: all cores.
        progress: is told of every fold of every kind.

    Returns:
        The reranker; without a calibration, and with a warning, where there are too few labels for one.

    Raises:
        InputError: there are fewer queries than folds, or none of them has a relevant product.
        SettingError: no kind could be trained.
    """
    dealt = deal([pool.query for pool in pools], k, seed=seed)
    fitted, failed = try_kinds(
        kinds, pools, dealt, seed=seed, settings=settings, threads=threads, progress=progress
    )
    judged = qrels.only([pool.query.query_id for pool in pools])
    means = {
        kind: float(measure(as_run(kind, pools, one.scores), judged, [by]).values.mean())
        for kind, one in fitted.items()
    }
    chosen = fitted[max(means, key=means.__getitem__)]
    final = settings if chosen.rounds is None else replace(settings, fixed_rounds=chosen.rounds)
    model = train(chosen.kind, training_data(pools), None, seed=seed, settings=final, threads=threads)
    model = replace(model, metrics={f"held-out {by}": means[chosen.kind]})
    reranker = Reranker(model, depth, behaviour)
    calibrated, warnings = _calibrated(pipeline, reranker, pools, chosen.scores, settings.threshold)
    return Fitted(calibrated, chosen, means, failed, warnings)


def try_kinds(
    kinds: Sequence[str],
    pools: Sequence[LabelledPool],
    dealt: Sequence[Sequence[str]],
    *,
    seed: int,
    settings: Settings = DEFAULT,
    threads: int = 0,
    progress: Progress = untold,
) -> tuple[dict[str, HeldOut], dict[str, str]]:
    """Train each kind fold by fold.

    Args:
        kinds: of `tilth.reranking.models.KINDS`.
        pools: of all queries.
        dealt: the folds.
        seed: of every training.
        settings: of every training.
        threads: of LightGBM; 0: all cores.
        progress: is told of every fold of every kind.

    Returns:
        What each kind gave, and why the others could not be trained.

    Raises:
        SettingError: none could.
    """
    fitted: dict[str, HeldOut] = {}
    failed: dict[str, str] = {}
    for kind in kinds:
        try:
            fitted[kind] = cross_fit(
                kind, pools, dealt, seed=seed, settings=settings, threads=threads, progress=progress
            )
        except SettingError as error:
            failed[kind] = str(error)
    if not fitted:
        raise SettingError(f"nothing could be trained. {'. '.join(f'{k}: {w}' for k, w in failed.items())}")
    return fitted, failed


def _calibrated(
    pipeline: Pipeline,
    reranker: Reranker,
    pools: Sequence[LabelledPool],
    scores: Mapping[str, npt.NDArray[np.float64]],
    relevant: int,
) -> tuple[Reranker, tuple[str, ...]]:
    try:
        calibration = calibrate(pools, scores, relevant)
    except InputError as error:
        return reranker, (f"no calibration: {error}",)
    reranker = replace(reranker, calibration=calibration)
    try:
        answerability = fit_answers(pipeline, pools, scores, calibration)
    except InputError as error:
        return reranker, (f"no decision that nothing fits: {error}",)
    return replace(reranker, answerability=answerability), ()


def calibrate(
    pools: Sequence[LabelledPool], scores: Mapping[str, npt.NDArray[np.float64]], relevant: int
) -> Calibration:
    """Fit the probability of relevance on held-out scores of judged products.

    Args:
        pools: of the queries.
        scores: held-out, by query.
        relevant: the least grade that is relevant.

    Returns:
        The calibration.

    Raises:
        InputError: there are too few labels of a kind.
    """
    kept = [pool for pool in pools if pool.judged.any()]
    values = [scores[pool.query.query_id][pool.judged] for pool in kept]
    labels = [(pool.grades >= relevant)[pool.judged] for pool in kept]
    sizes = [len(each) for each in values]
    return fit_calibration(np.concatenate([np.empty(0), *values]), np.concatenate([[], *labels]), sizes)


def fit_answers(
    pipeline: Pipeline,
    pools: Sequence[LabelledPool],
    scores: Mapping[str, npt.NDArray[np.float64]],
    calibration: Calibration,
) -> Answerability:
    """Fit the decision that the shop has no answer on held-out scores.

    Args:
        pipeline: what retrieved the pools.
        pools: of queries with an answer and without.
        scores: held-out, by query.
        calibration: of those scores.

    Returns:
        The decision.

    Raises:
        InputError: there are too few queries.
    """
    described = [signals_of(pipeline, pool, scores[pool.query.query_id], calibration) for pool in pools]
    return fit_answerability(np.array(described), [pool.answerable for pool in pools])


def signals_of(
    pipeline: Pipeline, pool: LabelledPool, scores: npt.NDArray[np.float64], calibration: Calibration
) -> npt.NDArray[np.float64]:
    """Return what the decision sees of one query, (6,), with the scores given."""
    chances = calibration.probability(scores)
    return signals(pipeline.live.view, pool.pool.text, pool.pool.features, chances)
