"""What is tried on which queries: every kind of reranker beside BM25 and hybrid, fold by fold."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ir_measures import Measure

from tilth.evaluation.experiment import Evaluation, evaluate
from tilth.evaluation.measures import DEFAULT as MEASURES
from tilth.evaluation.measures import judged_only, parse_measures
from tilth.pipeline import Pipeline
from tilth.qrels import Qrels
from tilth.query import Query
from tilth.releases import HYBRID
from tilth.reranking.behaviour import NO_BEHAVIOUR, Behaviour
from tilth.reranking.models import KINDS
from tilth.reranking.settings import DEFAULT, Settings
from tilth.retrieval.build_settings import Progress
from tilth.retrieval.legs import LEGS
from tilth.retrieval.view import LEXICAL
from tilth.run import Run
from tilth.training.fitting import try_kinds
from tilth.training.held_out import HeldOut, deal
from tilth.training.pools import LabelledPool, as_run, known_queries, label_pools, untold

SYSTEMS = ("tfidf", LEXICAL, *LEGS, HYBRID)  # those that learn nothing; an index may lack a leg
BASELINES = ("lexical", HYBRID)


@dataclass(frozen=True, slots=True)
class Trial:
    """What is tried, and how: everything that decides the outcome."""

    queries: Sequence[Query]
    qrels: Qrels
    kinds: Sequence[str] = tuple(KINDS)
    depth: int = 200
    seed: int = 0
    settings: Settings = DEFAULT  # `threshold` is the least grade that is relevant, to measures as well
    threads: int = 0  # of LightGBM; 0: all cores

    @property
    def measures(self) -> tuple[Measure, ...]:
        """The measures; the first decides."""
        chosen = parse_measures(map(str, MEASURES), self.settings.threshold)
        return (*chosen, *judged_only(chosen[:1]))

    @property
    def known(self) -> list[Query]:
        """The queries that can be learned from."""
        return known_queries(self.queries, self.qrels)


@dataclass(frozen=True, slots=True)
class Material:
    """A trial with the labelled pools of its queries, and what retrieved them: the plain hybrid."""

    trial: Trial
    pipeline: Pipeline
    pools: Sequence[LabelledPool]
    behaviour: Behaviour = NO_BEHAVIOUR

    def pools_of(self, query_ids: Iterable[str]) -> list[LabelledPool]:
        """Return the pools of these queries, in the order that they have here."""
        wanted = set(query_ids)
        return [pool for pool in self.pools if pool.query.query_id in wanted]


def prepare(
    opened: Pipeline, trial: Trial, behaviour: Behaviour = NO_BEHAVIOUR, progress: Progress = untold
) -> Material:
    """Retrieve what can be learned from with the fusion of the index, whatever release is in force.

    Args:
        opened: an index.
        trial: what will be tried.
        behaviour: clicks, for the features.
        progress: is told of every query.

    Returns:
        The material.

    Raises:
        InputError: no query has both a judgment and candidates.
    """
    plain = opened.plain()
    pools = label_pools(
        plain,
        trial.queries,
        trial.qrels,
        trial.depth,
        behaviour,
        relevant=trial.settings.threshold,
        progress=progress,
    )
    return Material(trial, plain, pools, behaviour)


@dataclass(frozen=True, slots=True)
class CrossValidated:
    """Every query scored by models that have not seen it."""

    evaluation: Evaluation
    runs: Mapping[str, Run]
    fitted: Mapping[str, HeldOut]
    failed: Mapping[str, str]  # kind -> why it could not be trained
    dealt: Sequence[Sequence[str]] = field(repr=False)  # the query ids of each fold

    def best(self, by: str) -> str:
        """Return the kind of model with the highest mean."""
        means = {kind: self.evaluation.systems[kind].mean()[by] for kind in self.fitted}
        return max(means, key=means.__getitem__)


def baseline_runs(pipeline: Pipeline, queries: Sequence[Query], k: int) -> dict[str, Run]:
    """Return the runs of every retriever and of the plain hybrid.

    Args:
        pipeline: the plain hybrid.
        queries: texts with ids.
        k: hits a query.

    Returns:
        By name, those of `SYSTEMS` that the index has.
    """
    systems = {"tfidf": pipeline.tfidf(), **pipeline.retrievers(), HYBRID: pipeline}
    return {name: system.search(queries, k) for name, system in systems.items()}


def cross_validate_kinds(material: Material, k: int, progress: Progress = untold) -> CrossValidated:
    """Measure every kind of model fold by fold, beside every retriever.

    Args:
        material: what is tried, on what.
        k: the number of folds, from 3.
        progress: is told of every fold of every kind.

    Returns:
        Values of all queries; differences are to the hybrid.

    Raises:
        InputError: there are fewer queries than folds.
        SettingError: nothing could be trained.
    """
    trial, pools = material.trial, material.pools
    dealt = deal(trial.known, k, seed=trial.seed)
    fitted, failed = try_kinds(
        trial.kinds,
        pools,
        dealt,
        seed=trial.seed,
        settings=trial.settings,
        threads=trial.threads,
        progress=progress,
    )
    runs = baseline_runs(material.pipeline, trial.known, trial.depth)
    runs |= {kind: as_run(kind, pools, one.scores) for kind, one in fitted.items()}
    return CrossValidated(measured(runs, trial, trial.queries, HYBRID), runs, fitted, failed, dealt)


def measured(runs: Mapping[str, Run], trial: Trial, queries: Sequence[Query], baseline: str) -> Evaluation:
    """Measure runs on some of the queries, in the measures and with the seed of a trial."""
    return evaluate(
        runs, trial.qrels, queries=queries, measures=trial.measures, baseline=baseline, seed=trial.seed
    )
