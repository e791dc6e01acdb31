"""The encoder that learns: steps that help, a state that holds all of it, a zero for the unknown."""

from dataclasses import replace

import numpy as np
import pytest

from tilth.encoder_training.bags import Bags
from tilth.encoder_training.batches import Batch, Batches
from tilth.encoder_training.material import Material
from tilth.encoder_training.settings import EncoderSettings
from tilth.encoder_training.student import Student
from tilth.encoder_training.teacher import Lesson
from trainings import SHORT, shop_products

SETTINGS = SHORT


@pytest.fixture(scope="module")
def batches() -> Batches:
    return Batches(Material.of(shop_products(300, "both"), SETTINGS), SETTINGS, [])


def lesson_of(batch: Batch) -> Lesson:
    count = len(batch.queries)
    similarities = np.random.default_rng(0).uniform(-1, 1, (count, count)).astype(np.float32)
    return Lesson(batch.queries, batch.passages, similarities)


def learnt(batches: Batches, steps: int = 3, settings: EncoderSettings = SETTINGS) -> Student:
    student = Student(batches.tokens, settings)
    for step in range(steps):
        student.learn(batches.draw(step, []), None, 1.0)
    return student


def test_a_student_starts_from_random_vectors(batches: Batches) -> None:
    one, same = Student(batches.tokens, SETTINGS).table, Student(batches.tokens, SETTINGS).table
    other = Student(batches.tokens, replace(SETTINGS, seed=1)).table
    assert one.shape == (batches.tokens, 64)
    assert one.dtype == np.float32
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)
    lengths = np.linalg.norm(one[1:], axis=1)
    assert lengths.std() / lengths.mean() < 0.2


def test_the_unknown_token_stays_zero(batches: Batches) -> None:
    student = Student(batches.tokens, SETTINGS)
    assert not student.table[0].any()
    known = batches.draw(0, [])
    unknown = known._replace(queries=Bags(known.queries.tokens * 0, known.queries.ends))
    student.learn(unknown, None, 1.0)
    assert not student.table[0].any()
    assert student.table[1:].any(axis=1).all()


def test_the_loss_falls(batches: Batches) -> None:
    student, batch = Student(batches.tokens, SETTINGS), batches.draw(0, [])
    losses = [student.learn(batch, None, 1.0) for _ in range(30)]
    assert losses[-1] < losses[0] / 2


def test_a_teacher_changes_what_is_learned(batches: Batches) -> None:
    batch = batches.draw(0, [])
    alone, taught = Student(batches.tokens, SETTINGS), Student(batches.tokens, SETTINGS)
    without, with_lesson = alone.learn(batch, None, 1.0), taught.learn(batch, lesson_of(batch), 1.0)
    assert with_lesson > without
    assert not np.array_equal(alone.table, taught.table)
    idle = Student(batches.tokens, replace(SETTINGS, teaching=0.0))
    assert idle.learn(batch, lesson_of(batch), 1.0) == pytest.approx(without, rel=1e-5)
    np.testing.assert_allclose(idle.table, alone.table, atol=1e-6)


def test_a_lesson_is_learned(batches: Batches) -> None:
    settings = replace(SETTINGS, teaching=100.0)
    student, batch = Student(batches.tokens, settings), batches.draw(0, [])
    losses = [student.learn(batch, lesson_of(batch), 1.0) for _ in range(40)]
    assert losses[-1] < losses[0] / 2


def test_only_tokens_that_are_met_move(batches: Batches) -> None:
    student, batch = Student(batches.tokens, SETTINGS), batches.draw(0, [])
    before = student.table
    student.learn(batch, None, 1.0)
    moved = set(np.flatnonzero((student.table != before).any(axis=1)).tolist())
    met = set(batch.queries.tokens.tolist()) | set(batch.passages.tokens.tolist())
    assert moved
    assert moved <= met - {0}


@pytest.mark.parametrize("with_lesson", [False, True])
@pytest.mark.parametrize("steps", [0, 3])
def test_a_restored_student_goes_on_as_if_nothing_had_been(
    batches: Batches, steps: int, with_lesson: bool
) -> None:
    student = learnt(batches, steps)
    state = {name: tensor.clone() for name, tensor in student.state().items()}
    other = Student(batches.tokens, replace(SETTINGS, seed=9))
    other.restore(state)
    np.testing.assert_array_equal(other.table, student.table)
    for step in range(10, 13):
        batch = batches.draw(step, [])
        lesson = lesson_of(batch) if with_lesson else None
        assert student.learn(batch, lesson, 0.7) == other.learn(batch, lesson, 0.7)
    np.testing.assert_array_equal(other.table, student.table)


def test_a_table_is_a_copy(batches: Batches) -> None:
    student = learnt(batches)
    table = student.table
    table[:] = 0
    assert student.table.any()
