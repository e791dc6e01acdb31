"""From products to the shop's own encoder: in minutes, on a CPU, and the same for the same seed.

This module imports torch: where it may be missing, `of_index.check_extra` is asked first.
"""

import hashlib
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from tilth.catalog import Product
from tilth.encoder_training.asked import Asked
from tilth.encoder_training.batches import Batches, HardPairs
from tilth.encoder_training.checkpoint import Checkpoint, Course, fingerprint
from tilth.encoder_training.hard_negatives import Miner
from tilth.encoder_training.held_out import HeldOut
from tilth.encoder_training.material import Material
from tilth.encoder_training.settings import OWN, EncoderSettings
from tilth.encoder_training.student import Student
from tilth.encoder_training.teacher import Lessons
from tilth.encoder_training.vocabulary import whole_words
from tilth.errors import InputError
from tilth.protocols import Vectors
from tilth.retrieval.build_settings import BuildEncoder, Progress
from tilth.retrieval.encoder import EncoderFacts, StaticEncoder

LEAST_PRODUCTS = 20
_MOST_TOKENS = 512  # of a text
_LEAST_STEPS = 600
_TIMES_SEEN = 30  # how often a product is drawn, where they are few
_LOOKS = 20  # at held-out queries in a training
_PATIENCE = 8  # looks without a gain, after which it ends
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
        InputError: there are too few products.
    """
    if len(products) < LEAST_PRODUCTS:
        raise InputError(
            f"{len(products)} products are too few to train an encoder on, which needs {LEAST_PRODUCTS}",
            remedy="Use a general encoder, or none",
        )
    start = time.perf_counter()
    torch.set_num_threads(os.cpu_count() or 1)
    progress("learning the words", 0, 1)
    material = Material.of(products, settings)
    settings = replace(settings, steps=_steps(len(material.learned), settings))
    batches = Batches(material, settings, asked)
    progress("learning the words", 1, 1)
    lessons = None
    if teacher is not None:
        lessons = Lessons(material, batches, settings, teacher, work / "teacher", progress)
    miner = Miner(material, batches, settings, products) if settings.hard_negatives else None
    held_out = HeldOut(material, batches, settings.seed)
    mark = fingerprint(material, settings, asked, teacher and teacher.identity)
    training = _Training(batches, lessons, miner, held_out, settings)
    training.run(Checkpoint(work / _CHECKPOINT, mark), progress)
    course, table = training.course, training.best
    return _static(
        material,
        table,
        {
            "settings": settings.to_json(),
            "products": len(products),
            "tokens": len(table),
            "whole_words": whole_words(material.tokenizer, [text.title for text in material.texts]),
            "asked": len(asked),
            "teacher": teacher and teacher.identity,
            "steps": course.step,
            "held_out": {"queries": held_out.queries, "reciprocal_rank": course.best_value},
            "curve": course.curve,
            "seconds": round(time.perf_counter() - start, 1),
        },
    )


def _steps(products: int, settings: EncoderSettings) -> int:
    """Return the most steps: as many as settings allow, fewer where the products are few."""
    wanted = max(_LEAST_STEPS, _TIMES_SEEN * products // settings.batch)
    return min(settings.steps, wanted)


class _Training:
    """The steps of one training, and looks at held-out queries on the way."""

    def __init__(
        self,
        batches: Batches,
        lessons: Lessons | None,
        miner: Miner | None,
        held_out: HeldOut,
        settings: EncoderSettings,
    ) -> None:
        self._batches, self._lessons, self._miner = batches, lessons, miner
        self._held_out, self._settings = held_out, settings
        self._student = Student(batches.tokens, settings)
        self._hard: HardPairs = []
        self.course = Course()
        self.best = self._student.table  # (tokens, D), what held-out queries liked best

    def run(self, checkpoint: Checkpoint, progress: Progress) -> None:
        """Take all steps, or go on where the checkpoint is; end early if held-out queries gain no more."""
        if found := checkpoint.read():
            self.course, self.best, state = found
            self._student.restore(state)
        self._mine()
        steps, kept = self._settings.steps, time.perf_counter()
        look = max(steps // _LOOKS, 1)
        while self.course.step < steps and self.course.stale < _PATIENCE:
            self._step(self.course.step)
            if self.course.step % look == 0 or self.course.step == steps:
                self._look()
                if time.perf_counter() - kept > _KEPT_EVERY:
                    checkpoint.write(self.course, self.best, self._student.state())
                    kept = time.perf_counter()
            progress("training", self.course.step, steps)
        progress("training", steps, steps)

    def _step(self, step: int) -> None:
        lesson = self._lessons.draw(step) if self._lessons is not None else None
        self._student.learn(self._batches.draw(step, self._hard), lesson, step / self._settings.steps)
        self.course.step += 1

    def _look(self) -> None:
        """Keep the table if held-out queries like it better than any before; without any, keep the last."""
        table = self._student.table
        value = self._held_out.measure(table)
        self.course.curve.append((self.course.step, value))
        if value > self.course.best_value or not self._held_out.queries:
            self.best, self.course.best_value, self.course.stale = table, value, 0
        else:
            self.course.stale += 1
        self._mine()

    def _mine(self) -> None:
        if self._miner is not None:
            self._hard = self._miner.pairs(self._student.table, self.course.step)


def _static(material: Material, table: Vectors, training: dict[str, Any]) -> StaticEncoder:
    digest = hashlib.sha256(table.tobytes() + material.tokenizer.to_str().encode())
    facts = EncoderFacts(OWN, digest.hexdigest(), "static", table.shape[1], _MOST_TOKENS)
    return StaticEncoder(material.tokenizer, table, facts, training)
