"""From products to the shop's own encoder: in minutes, on a CPU, and the same for the same seed.

This module imports torch: where it may be missing, `of_index.check_extra` is asked first.
"""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from tilth.catalog import Product
from tilth.cores import usable_cores
from tilth.encoder_training.asked import Asked
from tilth.encoder_training.batches import Batches, HardPairs
from tilth.encoder_training.checkpoint import Checkpoint, Course, fingerprint
from tilth.encoder_training.hard_negatives import Miner
from tilth.encoder_training.held_out import HeldOut
from tilth.encoder_training.material import Material
from tilth.encoder_training.settings import EncoderSettings
from tilth.encoder_training.student import Student
from tilth.encoder_training.teacher import Lessons
from tilth.encoder_training.vocabulary import whole_words
from tilth.errors import InputError
from tilth.protocols import Vectors
from tilth.retrieval.build_settings import BuildEncoder, Progress
from tilth.retrieval.encoder import OWN, EncoderFacts, StaticEncoder

LEAST_PRODUCTS = 20
_MOST_TOKENS = 512  # of a text
_LEAST_STEPS = 600
_TIMES_SEEN = 30  # how often a product is drawn, where they are few
_LOOKS = 20  # at held-out queries in a training
_PATIENCE = 4  # looks without a gain, after which it comes to its end
_WARM_UP = 20  # steps
_FALL = 0.3  # of the steps, in which the learning rate falls to nothing
_CHECKPOINT = "checkpoint.safetensors"
_KEPT_EVERY = 20.0  # seconds


def train_encoder(
    products: Sequence[Product],
    work: Path,
    settings: EncoderSettings,
    progress: Progress,
    *,
    teacher: BuildEncoder | None = None,
    asked: Sequence[Asked] = (),
) -> StaticEncoder:
    """Train an encoder on products.

    An interrupted training goes on where it was, if it is begun again with the same products and settings.

    Args:
        products: the catalogue or, of a large one, a sample (`texts.sampled`).
        work: a folder for what outlives an interruption; whoever calls removes it in the end.
        settings: of the training.
        progress: is told how far it has come.
        teacher: an encoder whose similarities are learned, too.
        asked: queries that were asked, with products that answer them.

    Returns:
        The encoder; its `training` says how it came to be.

    Raises:
        InputError: there are too few products, or queries were asked and all of other products.
    """
    if len(products) < LEAST_PRODUCTS:
        raise InputError(
            f"{len(products)} products are too few to train an encoder on, which needs {LEAST_PRODUCTS}",
            remedy="Use a general encoder, or none",
        )
    start = time.perf_counter()
    torch.set_num_threads(usable_cores())
    progress("learning the words", 0, 1)
    material = Material.of(products, settings, {pair.product_id for pair in asked})
    settings = replace(settings, steps=_steps(len(material.learned), settings))
    batches = Batches(material, settings, asked)
    if asked and not batches.pairs_asked:
        raise InputError(
            "none of the products that were judged to answer a query is among those that are learned from",
            value=asked[0].product_id,
            remedy="Give judgments of products of this catalogue",
        )
    progress("learning the words", 1, 1)
    lessons = None
    if teacher is not None:
        lessons = Lessons(material, batches, settings, teacher, work / "teacher", progress)
    miner = Miner(material, batches, settings, products) if settings.hard_negatives else None
    held_out = HeldOut(material, batches, settings.seed)
    mark = fingerprint(material, settings, asked, teacher and teacher.identity)
    training = _Training(batches, lessons, miner, held_out, settings)
    training.run(Checkpoint(work / _CHECKPOINT, mark), progress, start)
    course, table = training.course, training.student.table
    return _static(
        material,
        table,
        {
            "settings": settings.to_json(),
            "products": len(products),
            "tokens": len(table),
            "whole_words": whole_words(material.tokenizer, [text.title for text in material.texts]),
            "asked": batches.pairs_asked,
            "judged": batches.pairs_asked > 0 or _has_seen_judgments(teacher),
            "teacher": teacher and teacher.identity,
            "steps": course.step,
            "held_out": {"queries": held_out.queries, "reciprocal_rank": course.curve[-1][1]},
            "curve": course.curve,
            "seconds": round(course.seconds + time.perf_counter() - start, 1),
        },
    )


def _has_seen_judgments(teacher: BuildEncoder | None) -> bool:
    """Tell whether a teacher was itself trained here on judgments, which it may pass on."""
    static = teacher.portable() if teacher is not None else None
    return isinstance(static, StaticEncoder) and bool((static.training or {}).get("judged", False))


def _steps(products: int, settings: EncoderSettings) -> int:
    """Return the most steps: as many as settings allow, fewer where the products are few."""
    wanted = max(_LEAST_STEPS, _TIMES_SEEN * products // settings.batch)
    return min(settings.steps, wanted)


class _Training:
    """The steps of one training, and looks at held-out queries on the way.

    The learning rate stays as it is until held-out queries gain no more, or the steps are nearly taken; then
    it falls to nothing, which by itself gains as much as many steps before.
    """

    def __init__(
        self,
        batches: Batches,
        lessons: Lessons | None,
        miner: Miner | None,
        held_out: HeldOut,
        settings: EncoderSettings,
    ) -> None:
        self._batches, self._lessons, self._miner = batches, lessons, miner
        self._held_out = held_out
        self._look_after = max(settings.steps // _LOOKS, 1)
        self._fall = max(int(settings.steps * _FALL), 1)
        self.student = Student(batches.tokens, settings)
        self._hard: HardPairs = []
        self.course = Course(fall_from=settings.steps - self._fall)

    def run(self, checkpoint: Checkpoint, progress: Progress, start: float) -> None:
        """Take all steps, or go on where the checkpoint is; `start` is when this process began."""
        if found := checkpoint.read():
            self.course, state = found
            self.student.restore(state)
        self._mine()
        course, kept = self.course, time.perf_counter()
        while course.step < (last := course.fall_from + self._fall):
            self._step(course.step)
            if course.step % self._look_after == 0 or course.step == last:
                self._look()
                if time.perf_counter() - kept > _KEPT_EVERY:
                    kept = time.perf_counter()
                    seconds = course.seconds + kept - start
                    checkpoint.write(replace(course, seconds=seconds), self.student.state())
            progress("training", course.step, course.fall_from + self._fall)

    def _step(self, step: int) -> None:
        lesson = self._lessons.draw(step) if self._lessons is not None else None
        rate = min(1.0, (step + 1) / _WARM_UP, 1 - (step - self.course.fall_from) / self._fall)
        self.student.learn(self._batches.draw(step, self._hard), lesson, rate)
        self.course.step += 1

    def _look(self) -> None:
        """Let the learning rate fall from here on if held-out queries have gained nothing for some looks."""
        course = self.course
        value = self._held_out.measure(self.student.table)
        gains = value > max((before for _, before in course.curve), default=-1.0)
        course.curve.append((course.step, value))
        course.stale = 0 if gains else course.stale + 1
        if course.stale == _PATIENCE:
            course.fall_from = min(course.fall_from, course.step)
        self._mine()

    def _mine(self) -> None:
        if self._miner is not None:
            self._hard = self._miner.pairs(self.student.table, self.course.step)


def _static(material: Material, table: Vectors, training: dict[str, Any]) -> StaticEncoder:
    digest = hashlib.sha256(table.tobytes() + material.tokenizer.to_str().encode())
    facts = EncoderFacts(OWN, digest.hexdigest(), "static", table.shape[1], _MOST_TOKENS)
    return StaticEncoder(material.tokenizer, table, facts, training)
