"""Lessons: what a teacher says of queries and products, encoded once and compared with a loop."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shop import quiet
from tilth.catalog import Product
from tilth.encoder_training.bags import Bags
from tilth.encoder_training.batches import Batches
from tilth.encoder_training.material import Material
from tilth.encoder_training.settings import EncoderSettings
from tilth.encoder_training.teacher import Lesson, Lessons
from tilth.protocols import Vectors
from tilth.retrieval.encoder import normalise
from tilth.retrieval.quantisation import to_codes
from trainings import SHORT, shop_products

SETTINGS = replace(SHORT, vocabulary=1_500, batch=40, dropped=0.0)
LONG = [
    Product(id=f"l{n}", title=f"Manual {n}", description=f"Rotted leaves feed {n} roses. " * 80)
    for n in range(20)
]
SINGLE = [Product(id=f"s{n}", title=f"Лейка {n} л") for n in range(20)]


class Teacher:
    """Adds up a direction a token, and one for what the text is: so queries and passages differ."""

    dimension = 12

    def __init__(self, material: Material, revision: str = "1") -> None:
        self._tokenizer, self._revision = material.tokenizer, revision
        directions = np.random.default_rng(5).normal(size=(self._tokenizer.get_vocab_size(), 12))
        self._directions = directions.astype(np.float32)
        self.queries: list[str] = []
        self.passages: list[str] = []

    @property
    def identity(self) -> dict[str, object]:
        return {"name": "teacher", "revision": self._revision}

    def of_tokens(self, tokens: Sequence[int], kind: int) -> Vectors:
        vector = self._directions[list(tokens)].sum(axis=0)
        vector[kind] += 3
        return vector / np.linalg.norm(vector)

    def encode_queries(self, texts: Sequence[str], /) -> Vectors:
        self.queries += texts
        return np.array([self.of_tokens(self._tokenizer.encode(text).ids, 0) for text in texts])

    def encode_passages(self, texts: Sequence[str], /) -> Vectors:
        self.passages += texts
        return np.array([self.of_tokens(self._tokenizer.encode(text).ids, 1) for text in texts])


@pytest.fixture(scope="module")
def material() -> Material:
    return Material.of([*shop_products(300, "both")[::4], *LONG, *SINGLE], SETTINGS)


def lessons(
    material: Material, folder: Path, settings: EncoderSettings = SETTINGS, **given: Any
) -> tuple[Lessons, Teacher]:
    teacher = given.get("teacher") or Teacher(material)
    batches = Batches(material, settings, [])
    return Lessons(material, batches, settings, teacher, folder, given.get("progress", quiet)), teacher


def lists(bags: Bags) -> list[tuple[int, ...]]:
    return [tuple(bags.tokens[a:b].tolist()) for a, b in pairwise(bags.ends.tolist())]


def rounded(vectors: Vectors) -> Vectors:
    """As they are kept: in 8 bits a number."""
    return normalise(to_codes(vectors).astype(np.float32))


def same(one: Lesson, other: Lesson) -> bool:
    return (
        lists(one.queries) == lists(other.queries)
        and lists(one.passages) == lists(other.passages)
        and np.array_equal(one.similarities, other.similarities)
    )


@pytest.mark.parametrize("step", [0, 3])
def test_similarities_are_those_of_the_nearest_passage(material: Material, tmp_path: Path, step: int) -> None:
    drawn, teacher = lessons(material, tmp_path)
    lesson = drawn.draw(step)
    all_passages = lists(material.bags)
    assert lesson.similarities.shape == (40, 40)
    products: list[list[tuple[int, ...]]] = []
    for shown in lists(lesson.passages):
        row = np.searchsorted(material.first, all_passages.index(shown), side="right") - 1
        products.append(all_passages[material.first[row] : material.first[row + 1]])
    assert {len(each) for each in products} >= {1, 2}
    for i, query in enumerate(lists(lesson.queries)):
        (asked,) = rounded(teacher.of_tokens(query, 0)[None])
        for j, passages in enumerate(products):
            kept = rounded(np.array([teacher.of_tokens(passage, 1) for passage in passages]))
            assert lesson.similarities[i, j] == pytest.approx(max(kept @ asked), abs=1e-5)


def test_a_query_and_its_passage_have_the_same_place(material: Material, tmp_path: Path) -> None:
    drawn, _ = lessons(material, tmp_path, replace(SETTINGS, shares={"title": 1.0}))
    for step in range(3):
        lesson = drawn.draw(step)
        for query, passage in zip(lists(lesson.queries), lists(lesson.passages), strict=True):
            assert set(query) <= set(passage)


def test_each_text_is_encoded_once_as_what_it_is(
    material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tilth.encoder_training.teacher._BLOCK", 7)  # a text recurs in other blocks, too
    drawn, teacher = lessons(material, tmp_path, replace(SETTINGS, shares={"names": 1.0}))
    drawn.draw(0)
    assert len(teacher.queries) == len(set(teacher.queries)) > 50
    assert len(teacher.passages) == len(set(teacher.passages)) > 50
    assert set(teacher.passages) <= set(material.passages)


def test_a_second_time_nothing_is_encoded(material: Material, tmp_path: Path) -> None:
    first, _ = lessons(material, tmp_path)
    second, teacher = lessons(material, tmp_path)
    assert teacher.queries == teacher.passages == []
    assert same(first.draw(2), second.draw(2))


def test_what_was_encoded_before_an_interruption_is_kept(
    material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tilth.encoder_training.teacher._BLOCK", 20)
    tired = Teacher(material)

    def stop(stage: str, done: int, total: int | None = None, /) -> None:
        if done >= 60:
            raise RuntimeError(stage)

    with pytest.raises(RuntimeError, match="asking the teacher"):
        lessons(material, tmp_path, teacher=tired, progress=stop)
    _, fresh = lessons(material, tmp_path)
    whole, all_of_it = lessons(material, tmp_path / "other")
    assert tired.queries
    assert set(tired.queries + fresh.queries) == set(all_of_it.queries)
    assert not set(tired.queries) & set(fresh.queries)
    assert same(whole.draw(0), lessons(material, tmp_path)[0].draw(0))


def test_another_teacher_is_asked_anew(material: Material, tmp_path: Path) -> None:
    _, first = lessons(material, tmp_path)
    _, other = lessons(material, tmp_path, teacher=Teacher(material, revision="2"))
    assert sorted(other.queries) == sorted(first.queries)
    assert sorted(other.passages) == sorted(first.passages)


def test_draws_have_a_seed_and_need_no_step_before(material: Material, tmp_path: Path) -> None:
    drawn, _ = lessons(material, tmp_path)
    fifth = [drawn.draw(step) for step in range(6)][5]
    assert same(drawn.draw(5), fifth)
    assert not same(drawn.draw(4), fifth)
    again, _ = lessons(material, tmp_path)
    assert same(again.draw(5), fifth)
    other, _ = lessons(material, tmp_path / "other", replace(SETTINGS, seed=1))
    assert not same(other.draw(5), fifth)


@pytest.mark.parametrize("taught", [1, 7, 50])
def test_few_queries_are_taught_if_few_are_wanted(material: Material, tmp_path: Path, taught: int) -> None:
    drawn, teacher = lessons(material, tmp_path, replace(SETTINGS, taught=taught))
    lesson = drawn.draw(0)
    assert len(teacher.queries) <= taught
    size = min(taught, SETTINGS.batch)
    assert len(lesson.queries) == len(lesson.passages) == size
    assert lesson.similarities.shape == (size, size)


def test_held_out_products_are_not_taught(material: Material, tmp_path: Path) -> None:
    _, teacher = lessons(material, tmp_path)
    held = {material.passages[material.first[row]] for row in material.held.tolist()}
    assert not held & set(teacher.passages)


def test_progress_goes_up_to_the_number_of_texts(material: Material, tmp_path: Path) -> None:
    told: list[tuple[int, int | None]] = []

    def progress(stage: str, done: int, total: int | None = None, /) -> None:
        assert stage == "asking the teacher"
        told.append((done, total))

    lessons(material, tmp_path, progress=progress)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert len({total for _, total in told}) == 1
    assert told[-1][0] == told[-1][1]
