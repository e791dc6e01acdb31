"""From products to an encoder: it learns, the same each time, also if it is interrupted."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from fakes import kept_encoder
from tilth.catalog import Product
from tilth.encoder_training import trainer
from tilth.encoder_training.asked import Asked
from tilth.encoder_training.held_out import HeldOut
from tilth.encoder_training.settings import NESTED, EncoderSettings
from tilth.encoder_training.student import Student
from tilth.encoder_training.trainer import LEAST_PRODUCTS
from tilth.encoder_training.vocabulary import whole_words
from tilth.errors import InputError
from tilth.protocols import Vectors
from tilth.retrieval.encoder import OWN, StaticEncoder, normalise, open_encoder
from tilth.retrieval.encoder_build import for_build
from trainings import SHORT, TEXTS, content, reciprocal_rank, shop_products, trained

LONGER = replace(SHORT, dimension=128, vocabulary=1_500, batch=64, steps=40)
CHANCE = sum(1 / rank for rank in range(1, 301)) / 300  # the mean reciprocal rank of 300 products at random


class StopError(Exception):
    """Stands in for a power cut."""


def stop_at(step: int) -> Callable[..., None]:
    """Progress that stops a training at a step."""

    def progress(stage: str, done: int, total: int | None = None, /) -> None:
        if stage == "training" and done >= step:
            raise StopError

    return progress


@pytest.fixture
def kept_always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "_KEPT_EVERY", 0.0)


@pytest.fixture
def steps_taken(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list that gets longer with each step that is taken."""
    taken: list[int] = []
    learn = Student.learn

    def counted(self: Student, *given: object) -> float:
        taken.append(1)
        return learn(self, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(Student, "learn", counted)
    return taken


# --- what is learned ------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["en", "ru", "both"])
def language(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def encoder(language: str, tmp_path_factory: pytest.TempPathFactory) -> StaticEncoder:
    return trained(shop_products(300, language), tmp_path_factory.mktemp("work"), LONGER)


def test_held_out_queries_find_their_products(encoder: StaticEncoder) -> None:
    training = encoder.training
    assert training is not None
    assert training["held_out"]["queries"] > 0
    assert training["held_out"]["reciprocal_rank"] > 10 * CHANCE


@pytest.mark.parametrize("dimension", [each for each in NESTED if each <= LONGER.dimension])
def test_the_first_numbers_of_its_vectors_are_of_use(
    encoder: StaticEncoder, language: str, dimension: int
) -> None:
    products = shop_products(300, language)
    short = encoder.shortened(dimension)
    passages = short.encode_passages([f"{each.title} {each.description}" for each in products])
    queries = [" ".join(each.title.split()[:3]) for each in products]
    assert reciprocal_rank(short.encode_queries(queries), passages, range(300)) > 10 * CHANCE


def test_what_is_told_of_a_training(encoder: StaticEncoder, language: str) -> None:
    training, facts = encoder.training, encoder.facts
    assert training is not None
    assert (facts.name, facts.form, facts.dimension) == (OWN, "static", LONGER.dimension)
    assert facts.query_prefix == facts.passage_prefix == ""
    assert (training["products"], training["asked"], training["teacher"]) == (300, 0, None)
    assert training["tokens"] == encoder.tokenizer.get_vocab_size()
    assert EncoderSettings(**training["settings"]) == LONGER
    assert 0 < training["steps"] <= LONGER.steps
    steps = [step for step, _ in training["curve"]]
    assert steps == sorted(set(steps))
    assert steps[-1] == training["steps"]
    titles = [each.title for each in shop_products(300, language)]
    assert training["whole_words"] == whole_words(encoder.tokenizer, titles) > 0.5
    assert training["seconds"] >= 0


def test_it_learns_which_words_mean_the_same(tmp_path: Path) -> None:
    """Titles never say what descriptions say: only training tells that they belong together."""
    kinds = {
        "hose": "pipe for water",
        "spade": "tool to dig",
        "лейка": "сосуд для полива",
        "rake": "comb of leaves",
    }
    products = [
        Product(id=f"{name}{n}", title=f"{name} m{n}", description=f"{text} m{n} {text} again")
        for n in range(25)
        for name, text in kinds.items()
    ]
    settings = replace(LONGER, steps=60, shares={"description": 1.0, "title": 1.0})
    one, many = (
        trained(products, tmp_path / str(steps), replace(settings, steps=steps))
        for steps in (1, settings.steps)
    )
    right = {}
    for name, encoder in (("one", one), ("many", many)):
        titles = encoder.encode_passages(list(kinds))
        descriptions = encoder.encode_queries(list(kinds.values()))
        right[name] = reciprocal_rank(descriptions, titles, range(len(kinds)))
    assert right["many"] == 1
    assert right["one"] < 1


def test_unknown_words_say_nothing(encoder: StaticEncoder) -> None:
    assert not encoder.encode_queries(["漢字"]).any()
    np.testing.assert_array_equal(*encoder.encode_queries(["hose 漢", "hose"]))


def test_a_judged_query_finds_its_product(tmp_path: Path) -> None:
    """Words that the catalogue lacks say nothing at first, and then lead to what answers them."""
    products = shop_products(300, "both")
    wanted = [0, 40, 160, 290]
    queries = ["quaxen zubble", "бубырка", "fijjet", "жульбан пщ"]
    asked = [Asked(query, products[row].id, 1.0) for query, row in zip(queries, wanted, strict=True)]
    settings = replace(LONGER, shares={"title": 1.0, "asked": 1.0}, steps=60)
    ranks = []
    for name, pairs in (("without", []), ("with", asked)):
        encoder = trained(products, tmp_path / name, settings, asked=pairs)
        assert encoder.training is not None
        assert encoder.training["asked"] == len(pairs)
        titles = encoder.encode_passages([f"{each.title} {each.description}" for each in products])
        ranks.append(reciprocal_rank(encoder.encode_queries(queries), titles, wanted))
    assert ranks[1] > max(0.5, 2 * ranks[0])


def test_queries_of_other_products_alone_are_refused(tmp_path: Path) -> None:
    asked = [Asked("hose", "elsewhere", 1.0)]
    with pytest.raises(InputError, match=r"none of the products that were judged .*'elsewhere'"):
        trained(shop_products(300, "en"), tmp_path, asked=asked)


def test_who_learned_from_judgments_passes_them_on(tmp_path: Path) -> None:
    products = shop_products(300, "en")
    asked = [Asked("hosepipe", products[0].id, 0.5), Asked("hosepipe", "elsewhere", 0.5)]
    judged = trained(products, tmp_path / "judged", asked=asked)
    plain = trained(products, tmp_path / "plain")
    settings = replace(SHORT, seed=1)
    told = [
        trained(products, tmp_path / name, settings, teacher=for_build(teacher)).training
        for name, teacher in (("one", judged), ("other", plain))
    ]
    assert [each and (each["asked"], each["judged"]) for each in told] == [(0, True), (0, False)]
    assert judged.training is not None
    assert (judged.training["asked"], judged.training["judged"]) == (1, True)


class Translator:
    """A teacher to whom words of two languages are the same."""

    dimension = 8
    identity: ClassVar = {"name": "translator"}

    def encode_queries(self, texts: Sequence[str], /) -> Vectors:
        eye = np.eye(8, dtype=np.float32)
        pairs = enumerate(TRANSLATIONS.items())
        concepts = {word: eye[number] for number, pair in pairs for word in pair}
        sums = [sum((concepts.get(word, 0 * eye[0]) for word in text.split()), 0 * eye[0]) for text in texts]
        return normalise(np.array(sums))

    def portable(self) -> None:
        return None

    encode_passages = encode_queries


TRANSLATIONS = {"hose": "шланг", "spade": "лопата", "rake": "грабли", "gloves": "перчатки"}


def test_a_teacher_is_learned_from(tmp_path: Path) -> None:
    """No product has words of both languages: only the teacher tells which of them belong together."""
    words = [word for pair in TRANSLATIONS.items() for word in pair]
    products = [Product(id=f"{word}{n}", title=f"{word} m{n}") for n in range(20) for word in words]
    ranks, settings = [], replace(LONGER, strange=0.0, steps=60)
    for name, teacher in (("alone", None), ("taught", Translator())):
        encoder = trained(products, tmp_path / name, settings, teacher=teacher)
        assert encoder.training is not None
        assert encoder.training["teacher"] == (teacher and teacher.identity)
        english, russian = (
            encoder.encode_queries(list(each)) for each in zip(*TRANSLATIONS.items(), strict=True)
        )
        ranks.append(reciprocal_rank(english, russian, range(len(TRANSLATIONS))))
    assert ranks[0] < ranks[1] == 1


# --- when it ends ---------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, LEAST_PRODUCTS - 1])
def test_too_few_products_are_refused(tmp_path: Path, count: int) -> None:
    with pytest.raises(InputError, match=f"{count} products are too few to train an encoder on, which needs"):
        trained(shop_products(300, "en")[:count], tmp_path)


def test_as_many_as_are_needed_are_enough(tmp_path: Path) -> None:
    encoder = trained(shop_products(300, "en")[:LEAST_PRODUCTS], tmp_path, replace(SHORT, hard_negatives=0.3))
    assert np.isfinite(encoder.encode_queries(TEXTS)).all()


def test_a_product_of_which_nothing_can_be_read_is_no_obstacle(tmp_path: Path) -> None:
    odd = [Product(id=name, title="x" * 5_000) for name in ("first", "last")]
    products = [odd[0], *shop_products(300, "en")[:60], odd[1]]
    encoder = trained(products, tmp_path, replace(SHORT, hard_negatives=0.3), teacher=kept_encoder(["hose"]))
    assert np.isfinite(encoder.encode_queries(TEXTS)).all()


def test_it_ends_early_where_nothing_is_gained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = replace(SHORT, steps=60)
    values = iter(range(1_000))
    monkeypatch.setattr(HeldOut, "measure", lambda *_: next(values) / 1_000)
    gaining = trained(shop_products(300, "en"), tmp_path / "gaining", settings)
    monkeypatch.setattr(HeldOut, "measure", lambda *_: 0.5)
    resting = trained(shop_products(300, "en"), tmp_path / "resting", settings)
    assert gaining.training is not None
    assert resting.training is not None
    assert gaining.training["steps"] == 60
    assert resting.training["steps"] < 60


def test_progress_comes_to_its_end(tmp_path: Path) -> None:
    told: dict[str, tuple[int, int | None]] = {}

    def progress(stage: str, done: int, total: int | None = None, /) -> None:
        assert done >= told.get(stage, (0, 0))[0]
        told[stage] = done, total

    trained(shop_products(300, "en"), tmp_path, progress=progress)
    assert {"learning the words", "training"} <= told.keys()
    assert all(done == total for done, total in told.values())


# --- the same each time ---------------------------------------------------------------------------

CASES = {
    "plain": {},
    "taught": {"teacher": True},
    "hard": {"hard_negatives": 0.4},
    "all": {"teacher": True, "hard_negatives": 0.4, "asked": True},
}


def options(case: str) -> tuple[EncoderSettings, dict]:
    """Settings and what else is given to a training."""
    given = dict(CASES[case])
    more: dict = {}
    if given.pop("teacher", False):
        more["teacher"] = kept_encoder(["Garden", "Сад", "hose", "compost"])
    if given.pop("asked", False):
        more["asked"] = [Asked("hosepipe", shop_products(100, "both")[4].id, 1.0)]
    return replace(SHORT, **given), more


@pytest.mark.parametrize("case", CASES)
def test_the_same_seed_gives_the_same_bytes(tmp_path: Path, case: str) -> None:
    settings, more = options(case)
    products = shop_products(100, "both")
    one, again = (trained(products, tmp_path / name, settings, **more) for name in ("a", "b"))
    assert content(one, tmp_path / "one") == content(again, tmp_path / "again")
    assert one.facts == again.facts
    other = trained(products, tmp_path / "c", replace(settings, seed=1), **more)
    assert content(other, tmp_path / "other")[0] != content(one, tmp_path / "one2")[0]
    assert other.facts.revision != one.facts.revision


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("soon", [True, False])
def test_an_interrupted_training_goes_on_where_it_was(
    tmp_path: Path, kept_always: None, steps_taken: list[int], case: str, soon: bool
) -> None:
    settings, more = options(case)
    products = shop_products(100, "both")
    whole = trained(products, tmp_path / "whole", settings, **more)
    all_steps = len(steps_taken)
    step = 2 if soon else all_steps - 1
    with pytest.raises(StopError):
        trained(products, tmp_path / "work", settings, progress=stop_at(step), **more)
    steps_taken.clear()
    resumed = trained(products, tmp_path / "work", settings, **more)
    assert 0 < len(steps_taken) <= all_steps - step + 1
    assert content(resumed, tmp_path / "a") == content(whole, tmp_path / "b")
    one, other = dict(resumed.training or {}), dict(whole.training or {})
    one.pop("seconds"), other.pop("seconds")
    assert one == other


def test_seconds_are_those_of_all_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept_always: None
) -> None:
    products, read = shop_products(300, "en"), trainer.Checkpoint.read

    def a_day_later(checkpoint: trainer.Checkpoint) -> object:
        if (found := read(checkpoint)) is None:
            return None
        course, state = found
        assert course.seconds > 0
        return replace(course, seconds=86_400.0), state

    with pytest.raises(StopError):
        trained(products, tmp_path, progress=stop_at(6))
    monkeypatch.setattr(trainer.Checkpoint, "read", a_day_later)
    told = trained(products, tmp_path).training
    assert told is not None
    assert 86_400 < told["seconds"] < 86_400 + 3_600


def test_an_ended_training_has_nothing_left_to_do(
    tmp_path: Path, kept_always: None, steps_taken: list[int]
) -> None:
    products = shop_products(100, "both")
    first = trained(products, tmp_path / "work")
    steps_taken.clear()
    second = trained(products, tmp_path / "work")
    assert not steps_taken
    assert content(first, tmp_path / "a") == content(second, tmp_path / "b")


@pytest.mark.parametrize("other", ["settings", "products", "teacher", "asked"])
def test_what_another_training_left_is_passed_over(
    tmp_path: Path, kept_always: None, steps_taken: list[int], other: str
) -> None:
    products, settings, more = list(shop_products(100, "both")), SHORT, {}
    with pytest.raises(StopError):
        trained(products, tmp_path / "work", settings, progress=stop_at(5))
    if other == "settings":
        settings = replace(settings, temperature=0.07)
    elif other == "products":
        products = [replace(products[0], title="Another title"), *products[1:]]
    elif other == "teacher":
        more = {"teacher": kept_encoder(["hose"])}
    else:
        more = {"asked": [Asked("hosepipe", products[4].id, 1.0)]}
    steps_taken.clear()
    there = trained(products, tmp_path / "work", settings, **more)
    taken = len(steps_taken)
    steps_taken.clear()
    afresh = trained(products, tmp_path / "new", settings, **more)
    assert taken == len(steps_taken)
    assert content(there, tmp_path / "a") == content(afresh, tmp_path / "b")


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "cut": lambda data: data[: len(data) // 2],
    "noise": lambda data: np.random.default_rng(0).bytes(5_000),
    "no facts": lambda data: data.replace(b'"facts"', b'"fakts"'),
    "no mark": lambda data: data.replace(b"mark", b"mork"),
    "no JSON": lambda data: data.replace(b'{\\"mark', b'((\\"mark'),
    "no step": lambda data: data.replace(b'\\"step\\"', b'\\"stop\\"'),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_passed_over(
    tmp_path: Path, kept_always: None, steps_taken: list[int], damage: str
) -> None:
    products = shop_products(100, "en")
    with pytest.raises(StopError):
        trained(products, tmp_path / "work", progress=stop_at(5))
    (file,) = (tmp_path / "work").glob("*.safetensors")
    damaged = DAMAGES[damage](file.read_bytes())
    assert damaged != file.read_bytes()
    file.write_bytes(damaged)
    steps_taken.clear()
    there = trained(products, tmp_path / "work")
    taken = len(steps_taken)
    steps_taken.clear()
    afresh = trained(products, tmp_path / "new")
    assert taken == len(steps_taken)
    assert content(there, tmp_path / "a") == content(afresh, tmp_path / "b")


# --- the folder -----------------------------------------------------------------------------------


def test_the_folder_is_a_model_for_other_libraries(encoder: StaticEncoder, tmp_path: Path) -> None:
    from model2vec import StaticModel
    from sentence_transformers import SentenceTransformer

    encoder.save(tmp_path / "encoder")
    texts = [*TEXTS, "садовый шланг 25м, ЗЕЛЁНЫЙ", "25 m hose (green)"]
    ours = open_encoder(tmp_path / "encoder").encode_passages(texts)
    np.testing.assert_array_equal(encoder.encode_passages(texts), ours)
    assert ours[:4].any(axis=1).sum() >= 2
    theirs = StaticModel.from_pretrained(tmp_path / "encoder").encode(texts)
    np.testing.assert_allclose(theirs, ours, atol=1e-5)
    theirs = SentenceTransformer(str(tmp_path / "encoder"), device="cpu").encode(texts)
    np.testing.assert_allclose(theirs, ours, atol=1e-5)


def test_a_folder_keeps_what_is_told_of_the_training(encoder: StaticEncoder, tmp_path: Path) -> None:
    encoder.save(tmp_path / "encoder")
    opened = open_encoder(tmp_path / "encoder")
    assert isinstance(opened, StaticEncoder)
    assert opened.facts == encoder.facts
    assert opened.training is not None
    assert encoder.training is not None
    assert opened.training["settings"] == encoder.training["settings"]
    assert [tuple(each) for each in opened.training["curve"]] == encoder.training["curve"]


def test_products_described_in_two_languages_bring_both_into_one_space(tmp_path: Path) -> None:
    """A Russian word finds the product whose text has its English counterpart alone."""
    words = {
        "rose": "роза", "spade": "лопата", "hose": "шланг", "lime": "известь", "peat": "торф",
        "seed": "семена", "glove": "перчатки", "rake": "грабли", "mower": "косилка", "pot": "горшок",
        "bulb": "луковица", "net": "сетка",
    }  # fmt: skip
    english = list(words)
    both = [
        Product(
            id=f"b{number}",
            title=f"{english[number % 12]} {english[number * 5 % 11]}",
            description=f"{words[english[number % 12]]} {words[english[number * 5 % 11]]}",
        )
        for number in range(132)  # every word beside each of eleven others
    ]
    encoder = trained(both, tmp_path, replace(LONGER, steps=120, slips=0.0, strange=0.0))
    queries = encoder.encode_queries(list(words.values()))
    found = reciprocal_rank(queries, encoder.encode_passages(english), range(12))
    assert found > 0.9, "by chance it is 0.26"
