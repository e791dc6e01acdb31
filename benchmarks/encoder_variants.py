"""Variants of the own encoder, trained from scratch for encoders.py: in parts, on samples, and cut."""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import TYPE_CHECKING

from encoder_runs import ALONE, BM25, WITH_BM25, Runs, Shop, figure, lexical_run, quality, runs_of, train
from record import Figure
from tilth.cores import usable_cores
from tilth.encoder_training.settings import EncoderSettings
from tilth.errors import SettingError
from tilth.retrieval.encoder_build import for_build
from tilth.run import Run

if TYPE_CHECKING:
    from multiprocessing.queues import SimpleQueue

TRIED = 0.2  # of a part of the training that is left out by default
OF_TEACHERS = ("teaching",)  # settings that say nothing without a teacher


@dataclass(frozen=True, slots=True)
class Variant:
    """A training, and what is measured of its encoder: by name, the dimensions that are left of it."""

    settings: EncoderSettings
    kept: dict[str, int | None]

    @property
    def name(self) -> str:
        """The first name, which is that of the encoder as it was trained."""
        return next(iter(self.kept))


# --- which ----------------------------------------------------------------------------------------


def ablation(settings: EncoderSettings) -> Iterator[Variant]:
    """Yield the defaults, then without each part, or with it where the defaults leave it out."""
    yield Variant(settings, {"defaults": None})
    for name, share in settings.shares.items():
        if name != "asked":
            switched = 0.0 if share else TRIED
            without = replace(settings, shares={**settings.shares, name: switched})
            yield Variant(without, {switched_name(name, switched): None})
    for name in (each.name for each in fields(settings) if each.name not in OF_TEACHERS):
        if can_be_left_out(settings, name):
            switched = 0.0 if getattr(settings, name) else TRIED
            yield Variant(with_setting(settings, name, switched), {switched_name(name, switched): None})


def can_be_left_out(settings: EncoderSettings, name: str) -> bool:
    """Tell whether a setting is a number that may be 0: the share of a part that can be left out."""
    if not isinstance(getattr(settings, name), float):
        return False
    try:
        with_setting(settings, name, 0.0)
    except SettingError:
        return False
    return True


def with_setting(settings: EncoderSettings, name: str, value: float) -> EncoderSettings:
    """Return settings with another value of one of them."""
    return EncoderSettings(**{**settings.to_json(), name: value})


def switched_name(name: str, value: float) -> str:
    """Return what was done to a part of the training."""
    words = name.replace("_", " ")
    return f"with {words} ({value:g})" if value else f"without {words}"


def samples(settings: EncoderSettings, sizes: Sequence[int]) -> Iterator[Variant]:
    """Yield trainings on fewer and fewer products; all are searched."""
    for size in sizes:
        yield Variant(replace(settings, sample=size), {f"{size:,} products": None})


def dimensions(settings: EncoderSettings, kept: Sequence[int]) -> Iterator[Variant]:
    """Yield one training, whose vectors are cut."""
    yield Variant(
        replace(settings, dimension=kept[0]), {f"{dimension} dimensions": dimension for dimension in kept}
    )


# --- measuring ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Measured:
    """What a variant finds, by name, what BM25 finds in the same index, and what the training cost."""

    runs: dict[str, Runs]
    lexical: Run
    figures: list[Figure]


def compared(shop: Shop, variants: Sequence[Variant], asked: str, jobs: int) -> Iterator[Figure]:
    """Train, index and search with each variant, and compare all of them, and BM25, with the first.

    Args:
        shop: what is indexed and asked.
        variants: at least one.
        asked: what the figures call the queries.
        jobs: trainings at a time, each in a process with its share of the cores.

    Yields:
        Figures.
    """
    runs: dict[str, dict[str, Run]] = {ALONE: {}, WITH_BM25: {}}
    for measured in in_turn(partial(measure, shop), variants, jobs):
        yield from measured.figures
        for name, found in measured.runs.items():
            for use, run in found.items():
                runs[use][name] = run
        lexical = measured.lexical
    for use, by_name in runs.items():
        about = {"use": use, "asked": asked, "queries": len(shop.queries)}
        yield from quality(shop, {**by_name, BM25: lexical}, variants[0].name, shop.queries, about)


def measure(shop: Shop, variant: Variant) -> Measured:
    """Train, index and search, in folders of the variant's own."""
    print(f"{shop.name}: {variant.name}", flush=True)
    trained = train(shop, variant.settings, place=variant.name)
    runs: dict[str, Runs] = {}
    for name, kept in variant.kept.items():
        pipeline = shop.index(f"index of {name}", for_build(trained.encoder, kept))
        runs[name] = runs_of(pipeline, shop.queries)
        lexical = lexical_run(pipeline, shop.queries)
        pipeline.close()
    return Measured(runs, lexical, [figure(variant.name, "training", trained.seconds, "s")])


def in_turn(
    function: Callable[[Variant], Measured], variants: Sequence[Variant], jobs: int
) -> Iterator[Measured]:
    """Yield what a function returns for each variant, several at a time where there are several jobs."""
    if jobs == 1:
        yield from map(function, variants)
        return
    context = multiprocessing.get_context("spawn")
    shares: SimpleQueue[set[int]] = context.SimpleQueue()
    cores, each = sorted(os.sched_getaffinity(0)), max(1, usable_cores() // jobs)
    for job in range(jobs):
        shares.put({cores[(job * each + number) % len(cores)] for number in range(each)})
    with ProcessPoolExecutor(jobs, context, initializer=take_share, initargs=(shares,)) as pool:
        yield from pool.map(function, variants)


def take_share(shares: "SimpleQueue[set[int]]") -> None:
    """Pin this process to the next share of the cores."""
    os.sched_setaffinity(0, shares.get())
