"""What encoders.py measures with: a shop in a store, its indexes, trainings, simulated clicks, and costs."""

import shutil
import time
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import numpy as np

from clicks import PAGE, SPREAD, SWAPPED
from record import Figure
from tilth.encoder_training.asked import Asked, asked_of
from tilth.encoder_training.settings import EncoderSettings
from tilth.encoder_training.texts import sampled
from tilth.evaluation.experiment import Difference, evaluate
from tilth.evaluation.measures import parse_measures
from tilth.evaluation.slices import slice_means
from tilth.one_search import DEPTH
from tilth.online.click_counts import count_clicks
from tilth.online.click_models import fit_position_model
from tilth.online.counterfactual import model_labels, to_judgments
from tilth.online.simulation import PositionUsers, Traffic, attractions, examination, make_pages, simulate
from tilth.pipeline import Pipeline, open_index
from tilth.protocols import Encoder
from tilth.qrels import Qrels, read_qrels
from tilth.query import Query, read_queries
from tilth.readers.products import read_products
from tilth.retrieval.build_settings import BuildEncoder, BuildSettings, Resources
from tilth.retrieval.builder import build_index, store_catalogue
from tilth.retrieval.encoder import StaticEncoder, letters_per_token
from tilth.retrieval.encoder_build import ModelForBuild, open_static
from tilth.retrieval.encoder_kept import KeptEncoder
from tilth.retrieval.legs import ENCODER_FOLDER, LEGS
from tilth.retrieval.rows import named
from tilth.retrieval.view import LEXICAL
from tilth.run import Run
from tilth.sample.shop import write_shop
from tilth.store import Store

ICECAT = "icecat"
MEASURES = parse_measures(["nDCG@10", "R@100"])
BM25 = "BM25"
ALONE, WITH_BM25, THREE_WAY = USES = ("alone", "with BM25", "three-way")
SAMPLE = 1_024  # passages on which encoding with a transformer is timed
_CLICKED_AT = datetime(2026, 1, 1, tzinfo=UTC)  # judgments need a time; nothing here depends on it
_QUICK_PRODUCTS = 400

Runs = dict[str, Run]  # by use


@dataclass(frozen=True, slots=True)
class Shop:
    """A catalogue in a store, its queries and grades, and the folder of everything that is made of it."""

    name: str
    folder: Path
    products: int
    queries: list[Query]
    qrels: Qrels
    seed: int

    @property
    def store(self) -> Path:
        """The file of the store, which all indexes are built from."""
        return self.folder / "store.sqlite"

    @property
    def is_sample(self) -> bool:
        """Whether queries have kinds, and are enough to be divided."""
        return self.name != ICECAT

    def index(self, place: str, encoder: BuildEncoder, own: BuildEncoder | None = None) -> Pipeline:
        """Build the next generation of one of the shop's indexes, with the vectors of the one before."""
        with Store.open(self.store, create=False) as store:
            settings = BuildSettings(seed=self.seed, resources=Resources.of_machine())
            build_index(self.folder / place, store, encoder, settings, quiet, own=own)
        return open_index(self.folder / place, store=str(self.store))

    def letters_per_token(self, encoder: ModelForBuild) -> float:
        """Return how many letters a token of the titles has: below two, the encoder does not know them."""
        with Store.open(self.store, create=False) as store, store.snapshot() as snapshot:
            return letters_per_token(encoder.tokenizer, [product.title for product in snapshot.products()])


def open_shop(name: str, options: Namespace, folder: Path) -> Shop:
    """Store a catalogue: Icecat, or the sample shop in the language of that name."""
    folder = folder / name
    count = _QUICK_PRODUCTS if options.quick else options.products
    if name == ICECAT:
        data, catalogue, title = options.data, options.data / "products.jsonl.gz", ICECAT
    else:
        data, title = folder / "data", f"sample-{name}-{count}"
        catalogue = data / "products.jsonl"
        write_shop(data, products=count, language=name, seed=options.seed)
    shutil.rmtree(folder / "training", ignore_errors=True)  # a training that goes on would be too fast
    products = read_products([catalogue])
    if options.quick:
        products = iter(sampled(products, _QUICK_PRODUCTS, options.seed))
    store_path = folder / "store.sqlite"
    with Store.open(store_path) as store:
        store_catalogue(products, store, quiet)
        with store.snapshot() as snapshot:
            count = snapshot.count
    queries, qrels = read_queries(data / "queries.tsv"), read_qrels(data / "qrels.tsv")
    return Shop(title, folder, count, queries, qrels, options.seed)


def kept_encoder(pipeline: Pipeline) -> KeptEncoder:
    """Return the encoder of an index for its next builds, as compaction does: it is not exported again."""
    facts = pipeline.index.manifest["legs"][LEGS[0]]
    folder = pipeline.index.folder / LEGS[0] / ENCODER_FOLDER
    return KeptEncoder(folder, facts["encoder"], facts["reserved"])


def quiet(stage: str, done: int, total: int | None = None, /) -> None:
    """Take note of the progress of a build, which is not shown."""


# --- training -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Trained:
    """An own encoder and the seconds that it took, those of the teacher apart."""

    encoder: StaticEncoder
    seconds: float
    teacher_seconds: float


class StageClock:
    """A progress that counts the seconds of each stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def __call__(self, stage: str, done: int, total: int | None = None, /) -> None:  # noqa: ARG002 - Progress
        """Add the time since the last call to a stage."""
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._last
        self._last = now


def train(
    shop: Shop,
    settings: EncoderSettings,
    *,
    teacher: ModelForBuild | None = None,
    asked: Sequence[Asked] = (),
    place: str = "encoders",
) -> Trained:
    """Train an encoder; what a teacher encoded in one training of a place is there in the next."""
    from tilth.encoder_training.trainer import train_encoder  # torch, which the workers of a build do without

    with Store.open(shop.store, create=False) as store, store.snapshot() as snapshot:
        judged = {pair.product_id for pair in asked}
        products = sampled(snapshot.products(), settings.sample, settings.seed, always=judged)
    work = shop.folder / "training" / place
    work.mkdir(parents=True, exist_ok=True)
    clock = StageClock()
    encoder = train_encoder(products, work, settings, clock, teacher=teacher, asked=asked)
    of_teacher = clock.seconds.pop("asking the teacher", 0.0)
    return Trained(encoder, sum(clock.seconds.values()), of_teacher)


def clicked_pairs(shop: Shop, served: Run, queries: Sequence[Query], sessions: int) -> list[Asked]:
    """Let users click on the first hits of a run, as in clicks.py, and return what is learned from it.

    Args:
        shop: knows the grades by which users click.
        served: what they are shown.
        queries: those that they type.
        sessions: pages that are shown.

    Returns:
        Pairs by the labels of the position-based model.
    """
    random = np.random.default_rng(shop.seed)
    pages = make_pages(served, queries, PAGE)
    attraction = attractions(pages, shop.qrels, random, spread=SPREAD)
    users = PositionUsers(examination(PAGE))
    log = count_clicks(simulate(pages, attraction, Traffic(sessions, swapped=SWAPPED), users, random))
    labels = model_labels(log, fit_position_model(log))
    texts = {query.query_id: query.text for query in queries}
    return asked_of(to_judgments(labels, texts, judge="position-based model", time=_CLICKED_AT), texts)


# --- quality --------------------------------------------------------------------------------------


def runs_of(pipeline: Pipeline, queries: Sequence[Query]) -> Runs:
    """Return what the dense list finds by itself, as the query was typed, and what it does with BM25."""
    return {
        ALONE: _alone(pipeline, queries),
        WITH_BM25: pipeline.search(queries, DEPTH),
    }


def _alone(pipeline: Pipeline, queries: Sequence[Query]) -> Run:
    """Return what an encoder finds for all queries, those included that a search does not ask it about."""
    view = pipeline.live.view
    vectors = view.index.legs[LEGS[0]].encoder.encode_queries([query.text for query in queries])
    hits = {
        query.query_id: named(view.legs[LEGS[0]].search_rows(vector, DEPTH), view.ids, DEPTH)
        if vector.any()
        else ()
        for query, vector in zip(queries, vectors, strict=True)
    }
    return Run(LEGS[0], hits)


def lexical_run(pipeline: Pipeline, queries: Sequence[Query]) -> Run:
    """Return what BM25 finds by itself, which is the same in all indexes of a shop."""
    return pipeline.retrievers()[LEXICAL].search(queries, DEPTH)


def quality(
    shop: Shop,
    runs: Mapping[str, Run],
    baseline: str,
    queries: Sequence[Query],
    about: Mapping[str, object],
    *,
    by_kind: bool = False,
) -> list[Figure]:
    """Measure runs.

    Args:
        shop: has the grades.
        runs: by system, the baseline among them.
        baseline: what the others are compared with.
        queries: what is measured on.
        about: what else each figure says.
        by_kind: add the means over the queries of each kind.

    Returns:
        Means, and differences to the baseline with 95% intervals and p.
    """
    found = evaluate(runs, shop.qrels, queries=queries, measures=MEASURES, baseline=baseline, seed=shop.seed)
    figures = [
        figure(system, name, value, "", **about)
        for system, values in found.systems.items()
        for name, value in values.mean().items()
    ]
    figures += [difference(each, about) for each in found.differences]
    if by_kind:
        figures += [
            figure(system, name, value, "", **about, kind=kind)
            for system, values in found.systems.items()
            for kind, means in slice_means(values, found.groups).get("kind", {}).items()
            for name, value in means.items()
        ]
    return figures


def difference(found: Difference, about: Mapping[str, object]) -> Figure:
    """Return a difference as a figure."""
    name = f"{found.measure} - {found.baseline}"
    return figure(
        found.system, name, found.difference, "", **about, low=found.low, high=found.high, p=found.p
    )


def figure(system: str, metric: str, value: float, unit: str, **about: object) -> Figure:
    """Return one figure."""
    return {"system": system, "metric": metric, "value": value, "unit": unit, **about}


# --- costs ----------------------------------------------------------------------------------------


def costs(system: str, pipeline: Pipeline, queries: Sequence[Query], model: ModelForBuild) -> list[Figure]:
    """Measure what the encoder of an index costs; int8 encodes passages as float32 does."""
    encoder, folder = pipeline.index.legs[LEGS[0]].encoder, pipeline.index.folder / LEGS[0]
    passages, products = pipeline.index.manifest["passages"]["count"], len(pipeline)
    values = {
        **query_times(encoder, queries),
        "passage vectors": (passages * encoder.dimension / products, "bytes/product"),
        "leg": (folder_size(folder) / products, "bytes/product"),
        "encoder": (folder_size(folder / ENCODER_FOLDER) / 1e6, "MB"),
    }
    if model.identity["form"] != "int8":
        values["passages encoded"] = passage_rate(pipeline, model), "1/s"
    return [figure(system, name, value, unit) for name, (value, unit) in values.items()]


def query_times(encoder: Encoder, queries: Sequence[Query]) -> dict[str, tuple[float, str]]:
    """Time queries one by one, on one thread."""
    texts = [query.text for query in queries]
    encoder.encode_queries(texts)
    times = [1e3 * seconds(lambda text=text: encoder.encode_queries([text])) for text in texts * 3]  # type: ignore[misc]
    return {f"query p{share}": (float(np.percentile(times, share)), "ms") for share in (50, 99)}


def passage_rate(pipeline: Pipeline, model: ModelForBuild) -> float:
    """Return the passages a second that are encoded in one process, in the order of their lengths.

    A static encoder remembers the words that it has seen, so it is opened anew.
    """
    with pipeline.live.store.snapshot() as snapshot:
        cuts = pipeline.index.cutter.cut(list(snapshot.products()))
    texts = [passage for cut in cuts for passage in cut.passages]
    is_static = model.portable() is not None
    sample = sorted(texts if is_static else texts[:: max(1, len(texts) // SAMPLE)], key=len)
    encoder: Encoder = model
    if is_static:
        encoder = open_static(pipeline.index.folder / LEGS[0] / ENCODER_FOLDER)
    encoder.encode_passages(sample[:64])
    return len(sample) / seconds(lambda: encoder.encode_passages(sample))


def folder_size(folder: Path) -> int:
    """Return the bytes of a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def seconds(call: Callable[[], object]) -> float:
    """Return the seconds that a call took."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def number(found: Figure, key: str = "value") -> float:
    """Return a number of a figure."""
    return float(cast("float", found[key]))
