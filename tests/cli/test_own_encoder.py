"""`tilth encoder train`, and `tilth index` with an own encoder, as a person or a program calls them."""

import importlib.util
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
import orjson
import pytest
from filelock import FileLock

from commands import Command, runner
from models import static_model, tiny_bert
from shop import quiet
from tilth.catalog import Product
from tilth.cli import encoder_choice, encoders
from tilth.cli.encoder_choice import LEAST_PRODUCTS
from tilth.cli.main import app
from tilth.encoder_training.settings import SHARES, EncoderSettings
from tilth.judgment_log import JudgmentLog
from tilth.judgments import Judgment
from tilth.pipeline import open_index
from tilth.retrieval.builder import store_catalogue
from tilth.retrieval.encoder import StaticEncoder, open_encoder
from tilth.retrieval.encoder_build import DEFAULT_MODEL, open_static
from tilth.retrieval.index import open_store
from trainings import one_thread, sample_shop, shop_products, trained

SMALL = ("--dimension", 64, "--steps", 6, "--vocabulary", 600)
PRODUCTS = 100


@pytest.fixture
def tilth(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Command]:
    monkeypatch.setenv("COLUMNS", "100")
    with one_thread():
        yield runner(app, "tilth", capfd)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `tilth index` train but a little."""
    small = partial(EncoderSettings, steps=6, batch=32, vocabulary=600)
    monkeypatch.setattr(encoder_choice, "EncoderSettings", small)


@pytest.fixture
def catalogue() -> Path:
    return sample_shop(PRODUCTS, "both") / "products.jsonl"


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a trained encoder."""
    folder = tmp_path_factory.mktemp("ready")
    trained(shop_products(PRODUCTS, "both"), folder / "work").save(folder / "own")
    return folder / "own"


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A static model of another make."""
    return static_model(tmp_path_factory.mktemp("other"))


def without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no code find torch, as where the extra is not installed."""
    found = importlib.util.find_spec

    def find_spec(name: str, *given: object) -> object:
        return None if name == "torch" else found(name, *given)  # type: ignore[arg-type]

    for module in ("tilth.encoder_training.of_index", "tilth.retrieval.sentence_encoder"):
        monkeypatch.setattr(f"{module}.find_spec", find_spec)
    for name in [name for name in sys.modules if name == "torch" or name.startswith("torch.")]:
        monkeypatch.setitem(sys.modules, name, None)


# --- tilth encoder train --------------------------------------------------------------------------


def test_train_makes_an_encoder_that_can_be_opened(tilth: Command, catalogue: Path, tmp_path: Path) -> None:
    outcome = tilth("encoder", "train", catalogue, "--into", tmp_path / "own", *SMALL)
    assert outcome.code == 0, outcome.err
    assert "own encoder: 64 dimensions, 600 tokens, from 100 products in " in outcome.out
    assert "mean reciprocal rank" in outcome.out
    assert f"--encoder {tmp_path / 'own'}" in outcome.out
    encoder = open_encoder(tmp_path / "own")
    assert encoder.encode_queries(["лейка", "hose"]).any(axis=1).all()
    assert [path.name for path in tmp_path.iterdir()] == ["own"]


def test_train_as_json(tilth: Command, catalogue: Path, tmp_path: Path) -> None:
    outcome = tilth("encoder", "train", catalogue, "--into", tmp_path / "own", *SMALL, "--seed", 3, "--json")
    assert outcome.code == 0, outcome.err
    report = outcome.json
    assert (report["kept"], report["rejected"]) == (PRODUCTS, 0)
    assert report["encoder"] == str(tmp_path / "own")
    assert report["facts"] == orjson.loads((tmp_path / "own" / "encoder.json").read_bytes())
    assert report["training"] == orjson.loads((tmp_path / "own" / "training.json").read_bytes())
    assert report["training"]["settings"]["seed"] == 3
    assert report["training"]["settings"]["shares"] == dict(SHARES)


def test_train_reads_what_it_is_told_to(tilth: Command, catalogue: Path, tmp_path: Path) -> None:
    (tmp_path / "more.csv").write_text(
        "nr,bezeichnung\n" + "".join(f"m{n},Spaten {n}\n" for n in range(30)) + "m1,Again\n"
    )
    given = ("--map", "id=nr", "--map", "title=bezeichnung", "--sample", 25, "--shares", "kin:0.5, title:1")
    files = (tmp_path / "more.csv",)
    outcome = tilth("encoder", "train", *files, "--into", tmp_path / "own", *SMALL, *given, "--json")
    assert outcome.code == 0, outcome.err
    training = outcome.json["training"]
    assert (outcome.json["kept"], outcome.json["rejected"]) == (30, 1)
    assert training["products"] == training["settings"]["sample"] == 25
    assert training["settings"]["shares"] == {**SHARES, "kin": 0.5, "title": 1.0}
    assert training["settings"]["vocabulary"] == 600


def test_train_reads_several_files_and_says_what_it_left_out(
    tilth: Command, catalogue: Path, tmp_path: Path
) -> None:
    (tmp_path / "more.csv").write_text("id,title\nm1,Spaten\nm1,Again\nm2,\n")
    given = ("--into", tmp_path / "own", *SMALL)
    outcome = tilth("encoder", "train", catalogue, tmp_path / "more.csv", *given)
    assert outcome.code == 0, outcome.err
    assert f"from {PRODUCTS + 1} products" in outcome.out
    assert "rejected: 1 x duplicate id" in outcome.err
    assert "rejected: 1 x no title" in outcome.err
    rejected = (tmp_path / "own.rejected.jsonl").read_text("utf-8").splitlines()
    assert [orjson.loads(line)["line"] for line in rejected] == [3, 4]
    strict = tilth("encoder", "train", tmp_path / "more.csv", "--strict", "--into", tmp_path / "b", *SMALL)
    assert strict.code == 1
    assert "duplicate id" in strict.err


def test_rejections_are_told_where_too_few_products_are_left(
    tilth: Command, catalogue: Path, tmp_path: Path
) -> None:
    rows = ["id,title", *(f"{n},{'Spade' if n < 5 else ''}" for n in range(40))]
    (tmp_path / "few.csv").write_text("\n".join(rows))
    for command, place in (
        (
            ("encoder", "train", tmp_path / "few.csv", "--into", tmp_path / "own", *SMALL),
            "own.rejected.jsonl",
        ),
        (
            ("index", tmp_path / "few.csv", "--into", tmp_path / "idx", "--encoder", "own"),
            "idx/rejected.jsonl",
        ),
    ):
        outcome = tilth(*command)
        assert outcome.code == 1
        assert "5 products are too few" in outcome.err
        assert len((tmp_path / place).read_bytes().splitlines()) == 35
    assert not (tmp_path / "own.training").exists()


def test_other_users_may_read_what_was_trained(tilth: Command, catalogue: Path, tmp_path: Path) -> None:
    assert tilth("encoder", "train", catalogue, "--into", tmp_path / "own", *SMALL).code == 0
    assert len({path.stat().st_mode for path in (tmp_path / "own").iterdir()}) == 1


def test_train_with_a_teacher(tilth: Command, catalogue: Path, other: Path, tmp_path: Path) -> None:
    given = ("--teacher", other, "--json")
    outcome = tilth("encoder", "train", catalogue, "--into", tmp_path / "own", *SMALL, *given)
    assert outcome.code == 0, outcome.err
    assert outcome.json["training"]["teacher"]["name"] == str(other)
    assert [path.name for path in tmp_path.iterdir()] == ["own"]


def test_train_with_judged_queries(tilth: Command, catalogue: Path, tmp_path: Path) -> None:
    product = shop_products(PRODUCTS, "both")[4].id
    facts = {"query": "", "judge": "ann", "kind": "person", "time": datetime(2024, 1, 1, tzinfo=UTC)}
    judgments = [
        Judgment(query_id=query, product_id=product, grade=grade, highest=3, **facts)
        for query, grade in (("q1", 3), ("q2", 0), ("q3", 3))
    ]
    with open_store(tmp_path / "idx") as store:
        JudgmentLog(store).append(judgments)
    (tmp_path / "queries.tsv").write_text("query_id\tquery\nq1\thosepipe\nq2\tnothing\n")
    given = ("--judged", tmp_path / "idx", "--queries", tmp_path / "queries.tsv", "--json")
    outcome = tilth("encoder", "train", catalogue, "--into", tmp_path / "own", *SMALL, *given)
    assert outcome.code == 0, outcome.err
    assert outcome.json["training"]["asked"] == 1
    (tmp_path / "queries.tsv").write_text("query_id\tquery\nq2\tnothing\n")
    outcome = tilth("encoder", "train", catalogue, "--into", tmp_path / "other", *SMALL, *given)
    assert outcome.code == 1
    assert "none of these queries has a product that was judged relevant" in outcome.err
    assert "tilth judge export" in outcome.err
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("--judged", "idx"), "with both: --judged INDEX and --queries TSV"),
        (("--queries", "queries.tsv"), "with both: --judged INDEX and --queries TSV"),
        (("--shares", "title"), "'title' is not of the form SOURCE:SHARE, such as title:0.5"),
        (("--shares", "title:much"), "'title:much' is not of the form"),
        (("--shares", "clicks:1"), "no source of pairs 'clicks'"),
        (("--shares", "title:-1"), "the share of title is -1.0; it must be from 0"),
        (("--dimension", 100), "dimension is 100; it must be one of"),
        (("--seed", -1), "seed is -1; it must be from 0"),
        (("--seed", 10**30), "it must be from 0 to 9223372036854775807"),
        (("--shares", "title:1e308,names:1e308"), "the share of title is 1e+308; it must be from 0"),
    ],
)
def test_train_refuses_what_it_cannot_do(
    tilth: Command, catalogue: Path, tmp_path: Path, given: tuple, message: str
) -> None:
    outcome = tilth("encoder", "train", catalogue, "--into", tmp_path / "own", *given)
    assert outcome.code == 1
    assert message in " ".join(outcome.err.split())
    assert list(tmp_path.iterdir()) == []


def test_train_replaces_nothing(tilth: Command, catalogue: Path, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    outcome = tilth("encoder", "train", catalogue, "--into", tmp_path / "own", *SMALL)
    assert outcome.code == 1
    assert "is there already" in outcome.err
    assert "Name a new folder" in outcome.err
    assert list((tmp_path / "own").iterdir()) == []


def test_train_says_where_it_cannot_write(tilth: Command, catalogue: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "own.training").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere" / "else")
    for into, message in (
        ("file/own", "own.training: cannot be made a folder: Not a directory"),
        ("own", "own.training: cannot be made a folder: File exists"),
        ("link", "link: is there already"),
    ):
        outcome = tilth("encoder", "train", catalogue, "--into", tmp_path / into, *SMALL)
        assert outcome.code == 1
        assert message in "".join(outcome.err.splitlines())
    assert {path.name for path in tmp_path.iterdir()} == {"file", "own.training", "link"}


def test_of_two_trainings_of_one_encoder_one_is_told(tilth: Command, catalogue: Path, tmp_path: Path) -> None:
    (tmp_path / "own.training").mkdir()
    with FileLock(tmp_path / "own.training" / "lock"):
        outcome = tilth("encoder", "train", catalogue, "--into", tmp_path / "own", *SMALL)
    assert outcome.code == 1
    assert "another process is training this encoder" in outcome.err
    assert tilth("encoder", "train", catalogue, "--into", tmp_path / "own", *SMALL).code == 0


def test_train_needs_products(tilth: Command, tmp_path: Path) -> None:
    (tmp_path / "few.jsonl").write_text('{"id": "1", "title": "Spade"}\n')
    outcome = tilth("encoder", "train", tmp_path / "few.jsonl", "--into", tmp_path / "own", *SMALL)
    assert outcome.code == 1
    assert "1 products are too few to train an encoder on" in outcome.err
    assert [path.name for path in tmp_path.iterdir()] == ["few.jsonl"]


def test_train_ends_also_after_a_folder_was_left_half_written(
    tilth: Command, catalogue: Path, tmp_path: Path
) -> None:
    (tmp_path / "own.training" / "encoder").mkdir(parents=True)
    assert tilth("encoder", "train", catalogue, "--into", tmp_path / "own", *SMALL).code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["own"]


def test_training_says_which_extra_it_needs(
    tilth: Command, catalogue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_torch(monkeypatch)
    for given in (
        ("encoder", "train", catalogue, "--into", tmp_path / "own"),
        ("index", catalogue, "--into", tmp_path / "idx", "--encoder", "own"),
    ):
        outcome = tilth(*given)
        assert outcome.code == 1
        assert "training an encoder" in outcome.err
        assert "tilth[build]" in outcome.err
        assert list(tmp_path.iterdir()) == []


# --- tilth index ----------------------------------------------------------------------------------


def encoders_of(index: Path) -> dict[str, dict]:
    """What the manifest of the current generation says of each leg."""
    opened = open_index(index)
    legs = opened.index.manifest["legs"]
    opened.close()
    return legs


def finds(tilth: Command, index: Path, query: str, product_id: str) -> bool:
    hits = tilth("search", index, query, "--json").json["hits"]
    return product_id in [hit["product_id"] for hit in hits]


def test_index_with_an_own_encoder(tilth: Command, short: None, catalogue: Path, tmp_path: Path) -> None:
    into = tmp_path / "idx"
    outcome = tilth("index", catalogue, "--into", into, "--encoder", "own", "--json")
    assert outcome.code == 0, outcome.err
    legs = encoders_of(into)
    assert list(legs) == ["dense"]
    assert (legs["dense"]["encoder"]["name"], legs["dense"]["encoder"]["form"]) == ("own", "static")
    assert outcome.json["legs"]["dense"]["encoded"] > PRODUCTS
    assert not (into / "training").exists()
    for product in shop_products(PRODUCTS, "both")[::30]:
        assert finds(tilth, into, product.title, product.id)


def test_a_second_build_has_the_same_encoder_and_encodes_what_is_new(
    tilth: Command, short: None, catalogue: Path, tmp_path: Path
) -> None:
    into = ("--into", tmp_path / "idx", "--encoder", "own", "--json")
    first = tilth("index", catalogue, *into).json["legs"]["dense"]
    new = tmp_path / "more.jsonl"
    new.write_text('{"id": "new", "title": "Cultivator with three tines"}\n')
    second = tilth("index", catalogue, new, *into).json["legs"]["dense"]
    assert second["encoder"] == first["encoder"]
    assert (second["encoded"], second["reused"]) == (1, first["encoded"] + first["reused"])
    assert finds(tilth, tmp_path / "idx", "cultivator three tines", "new")


def test_an_index_that_has_its_own_encoder_is_built_again_without_torch(
    tilth: Command, short: None, catalogue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    into = ("--into", tmp_path / "idx", "--encoder", "own", "--json")
    first = tilth("index", catalogue, *into).json["legs"]["dense"]
    without_torch(monkeypatch)
    outcome = tilth("index", catalogue, *into)
    assert outcome.code == 0, outcome.err
    assert outcome.json["legs"]["dense"]["encoder"] == first["encoder"]


def test_the_same_catalogue_and_seed_give_the_same_encoder(
    tilth: Command, short: None, catalogue: Path, tmp_path: Path
) -> None:
    revisions = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        given = ("--into", tmp_path / name, "--encoder", "own", "--seed", seed, "--json")
        outcome = tilth("index", catalogue, *given)
        revisions.append(outcome.json["legs"]["dense"]["encoder"]["revision"])
    assert revisions[0] == revisions[1] != revisions[2]


def test_an_own_encoder_as_the_third_list(
    tilth: Command, short: None, catalogue: Path, other: Path, tmp_path: Path
) -> None:
    into = ("--into", tmp_path / "idx", "--encoder", other)
    outcome = tilth("index", catalogue, *into, "--third", "own", "--dimension", 64)
    assert outcome.code == 0, outcome.err
    assert "own: " in outcome.out
    legs = encoders_of(tmp_path / "idx")
    assert [legs[name]["encoder"]["name"] for name in ("dense", "own")] == [str(other), "own"]
    assert [legs[name]["encoder"]["dimension"] for name in ("dense", "own")] == [16, 64]
    again = tilth("index", catalogue, *into, "--third", "own", "--json").json["legs"]
    assert again["own"]["encoder"] == legs["own"]["encoder"]
    assert again["own"]["encoded"] == again["dense"]["encoded"] == 0
    as_dense = tilth("index", "--into", tmp_path / "idx", "--encoder", "own", "--json").json["legs"]
    assert list(as_dense) == ["dense"]
    assert as_dense["dense"]["encoder"] == legs["own"]["encoder"]
    assert as_dense["dense"]["reused"] > 0  # where this encoder cuts the same passages


def test_a_folder_as_the_third_list(
    tilth: Command, catalogue: Path, other: Path, ready: Path, tmp_path: Path
) -> None:
    given = ("--into", tmp_path / "idx", "--encoder", other, "--third", ready, "--json")
    outcome = tilth("index", catalogue, *given)
    assert outcome.code == 0, outcome.err
    legs = encoders_of(tmp_path / "idx")
    assert legs["own"]["encoder"] == open_static(ready).facts.to_json()
    assert legs["dense"]["encoder"]["name"] == str(other)


def test_a_folder_as_the_dense_list_needs_no_torch(
    tilth: Command, catalogue: Path, ready: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_torch(monkeypatch)
    outcome = tilth("index", catalogue, "--into", tmp_path / "idx", "--encoder", ready, "--json")
    assert outcome.code == 0, outcome.err
    assert encoders_of(tmp_path / "idx")["dense"]["encoder"] == open_static(ready).facts.to_json()
    product = shop_products(PRODUCTS, "both")[30]
    assert finds(tilth, tmp_path / "idx", product.title, product.id)


@pytest.mark.parametrize("dimension", [1, 40, 64])
def test_fewer_numbers_are_the_first_ones(
    tilth: Command, catalogue: Path, ready: Path, tmp_path: Path, dimension: int
) -> None:
    given = ("--into", tmp_path / "idx", "--encoder", ready, "--dimension", dimension)
    assert tilth("index", catalogue, *given).code == 0
    opened = open_index(tmp_path / "idx")
    encoder = opened.index.legs["dense"].encoder
    assert encoder.dimension == dimension
    whole = open_encoder(ready).encode_queries(["лейка 8 л"])[:, :dimension]
    np.testing.assert_allclose(
        encoder.encode_queries(["лейка 8 л"]), whole / np.linalg.norm(whole), rtol=1e-5, atol=1e-6
    )
    opened.close()


def test_dimensions_that_are_not_there_are_refused(
    tilth: Command, catalogue: Path, ready: Path, tmp_path: Path
) -> None:
    outcome = tilth("index", catalogue, "--into", tmp_path / "idx", "--encoder", ready, "--dimension", 65)
    assert outcome.code == 1
    assert "dimension is 65; the encoder has 64" in outcome.err


@pytest.mark.parametrize("dimension", [512, 100_000])
def test_more_dimensions_than_an_own_encoder_has_are_refused_before_the_training(
    tilth: Command,
    short: None,
    catalogue: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    dimension: int,
) -> None:
    monkeypatch.setattr(encoder_choice, "train_from_store", lambda *_, **__: pytest.fail("it trained"))
    given = ("--into", tmp_path / "idx", "--encoder", "own", "--dimension", dimension)
    outcome = tilth("index", catalogue, *given)
    assert outcome.code == 1
    assert f"dimension is {dimension}; " in outcome.err


def test_a_transformer_cannot_be_cut(tilth: Command, catalogue: Path, tmp_path: Path) -> None:
    model = tiny_bert(tmp_path / "model")
    given = ("--into", tmp_path / "idx", "--encoder", model, "--dimension", 8)
    outcome = tilth("index", catalogue, *given)
    assert outcome.code == 1
    assert "has vectors of 32 numbers; only static ones can be cut" in " ".join(outcome.err.split())


def test_a_teacher_of_an_own_encoder(
    tilth: Command, short: None, catalogue: Path, other: Path, tmp_path: Path
) -> None:
    given = ("--into", tmp_path / "idx", "--encoder", "own", "--teacher", other)
    assert tilth("index", catalogue, *given).code == 0
    opened = open_index(tmp_path / "idx")
    encoder = opened.index.legs["dense"].encoder
    assert isinstance(encoder, StaticEncoder)
    assert encoder.training is not None
    assert encoder.training["teacher"]["name"] == str(other)
    opened.close()


def test_options_that_need_another_training_are_named(
    tilth: Command, short: None, catalogue: Path, other: Path, tmp_path: Path
) -> None:
    given = ("--into", tmp_path / "idx", "--encoder", "own")
    keeps = "keeps its own encoder"
    assert keeps not in tilth("index", catalogue, *given, "--seed", 1).err
    assert keeps not in tilth("index", catalogue, *given, "--seed", 1).err
    assert keeps not in tilth("index", catalogue, *given).err
    outcome = tilth("index", catalogue, *given, "--teacher", other)
    assert outcome.code == 0
    assert f"{keeps}, which was trained without --teacher as given" in " ".join(outcome.err.split())
    outcome = tilth("index", catalogue, *given, "--teacher", other, "--seed", 0)
    assert f"{keeps}, which was trained without --teacher and --seed" in " ".join(outcome.err.split())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("--encoder", "{ready}", "--teacher", "{other}"), "--teacher is for an own encoder"),
        (("--encoder", "own", "--third", "own"), "--third own is the encoder of the dense list already"),
        (("--encoder", "{ready}", "--third", "{ready}"), "is the encoder of the dense list already"),
        (
            ("--encoder", "{ready}", "--third", "nowhere"),
            "'--third': is not the folder of a static encoder (got 'nowhere')",
        ),
        (("--encoder", "{ready}", "--third", "{other}"), "is not the folder of a static encoder"),
        (("--encoder", "{ready}", "--third", "own"), "--third own would be a second own encoder beside"),
        (("--encoder", "own", "--third", "{ready}"), "would be a second own encoder beside --encoder own"),
        (("--encoder", "own", "--dimension", "300"), "an own encoder is trained with 256 here"),
    ],
)
def test_index_refuses_encoders_that_make_no_sense(
    tilth: Command, catalogue: Path, ready: Path, other: Path, tmp_path: Path, given: tuple, message: str
) -> None:
    names = [part.format(ready=ready, other=other) for part in given]
    outcome = tilth("index", catalogue, "--into", tmp_path / "idx", *names)
    assert outcome.code == 1
    assert message in " ".join(outcome.err.split())
    assert list(tmp_path.iterdir()) == []


RUSSIAN = ["Секатор садовый", "Лопата штыковая", "Шланг поливочный"]
AMHARIC = ["የአትክልት መቀስ", "የአትክልት ቱቦ", "አካፋ"]
CHINESE = ["不锈钢园艺剪刀", "花园软管", "铁锹"]


@pytest.mark.parametrize(
    ("titles", "count", "suited"),
    [
        (["Garden hose", "Steel spade", "Secateurs"], LEAST_PRODUCTS, DEFAULT_MODEL),
        (RUSSIAN, LEAST_PRODUCTS, "own"),
        (AMHARIC, LEAST_PRODUCTS, "own"),
        (CHINESE, LEAST_PRODUCTS, "own"),
        (RUSSIAN, LEAST_PRODUCTS - 1, DEFAULT_MODEL),
    ],
    ids=["English", "Russian", "Amharic", "Chinese", "few"],
)
def test_auto_chooses_by_the_words_of_titles(
    tmp_path: Path, titles: list[str], count: int, suited: str
) -> None:
    products = [Product(id=str(n), title=f"{titles[n % 3]} {n}") for n in range(count)]
    with open_store(tmp_path) as store:
        store_catalogue(products, store, quiet)
        assert encoder_choice._suited(store, tmp_path) == suited


def test_auto_keeps_the_own_encoder_of_a_shop_that_has_become_small(
    tilth: Command, short: None, tmp_path: Path
) -> None:
    lines = [orjson.dumps({"id": str(n), "title": f"{RUSSIAN[n % 3]} {n}"}) for n in range(60)]
    (tmp_path / "shop.jsonl").write_bytes(b"\n".join(lines))
    for encoder in ("own", "auto"):
        given = ("--into", tmp_path / "idx", "--encoder", encoder)
        assert tilth("index", tmp_path / "shop.jsonl", *given).code == 0
        assert encoders_of(tmp_path / "idx")["dense"]["encoder"]["name"] == "own"


def test_an_own_encoder_without_words_is_named(tilth: Command, short: None, tmp_path: Path) -> None:
    lines = [
        orjson.dumps({"id": str(n), "title": f"{n * 7919 % 9973} {n * 104729 % 8999}"}) for n in range(60)
    ]
    (tmp_path / "numbers.jsonl").write_bytes(b"\n".join(lines))
    outcome = tilth("index", tmp_path / "numbers.jsonl", "--into", tmp_path / "idx", "--encoder", "own")
    said = " ".join(outcome.err.split())
    assert "the encoder own has few words of this catalogue's titles" in said
    assert "--encoder own" not in said


def test_an_own_encoder_that_goes_out_of_use_is_kept(
    tilth: Command, short: None, catalogue: Path, ready: Path, tmp_path: Path
) -> None:
    into, general = ("--into", tmp_path / "idx"), ("--encoder", static_model(tmp_path / "general"))
    first = tilth("index", catalogue, *into, "--encoder", "own")
    assert "own encoder: 256 dimensions" in first.err  # what was trained is told
    revision = encoders_of(tmp_path / "idx")["dense"]["encoder"]["revision"]
    assert "kept" not in tilth("index", catalogue, *into, "--encoder", "own").err
    for number, given in ((2, ("--encoder", ready)), (3, general)):
        outcome = tilth("index", catalogue, *into, *given)
        kept = tmp_path / "idx" / "encoders" / str(number)
        assert f"had another own encoder that is kept in {kept}." in outcome.err.replace("\n", "")
        assert open_static(kept).training is not None
    assert "kept" not in tilth("index", catalogue, *into, *general).err
    back = tilth("index", catalogue, *into, "--encoder", tmp_path / "idx" / "encoders" / "2")
    assert back.code == 0
    assert encoders_of(tmp_path / "idx")["dense"]["encoder"]["revision"] == revision


def test_more_dimensions_than_are_kept_are_refused_before_anything_is_read(
    tilth: Command, short: None, catalogue: Path, tmp_path: Path
) -> None:
    into = ("--into", tmp_path / "idx", "--encoder", "own")
    assert tilth("index", catalogue, *into, "--dimension", 64).code == 0
    outcome = tilth("index", tmp_path / "nowhere.jsonl", *into, "--dimension", 128)
    assert outcome.code == 1
    assert "the own encoder of the index has 64" in outcome.err
    assert "--dimension 128" in outcome.err


def test_training_json_outlives_builds_and_compactions(
    tilth: Command, short: None, catalogue: Path, tmp_path: Path
) -> None:
    into, told = tmp_path / "idx", []
    for command in (
        ("index", catalogue, "--into", into, "--encoder", "own"),
        ("compact", into),
        ("index", "--into", into, "--encoder", "own"),
    ):
        assert tilth(*command).code == 0
        opened = open_index(into)
        told.append((opened.index.folder / "dense" / "encoder" / "training.json").read_bytes())
        assert opened.index.legs["dense"].encoder.training == orjson.loads(told[-1])  # type: ignore[attr-defined]
        opened.close()
    assert told[0] == told[1] == told[2]


def test_shares_are_parsed() -> None:
    assert encoders.parse_shares("") == dict(SHARES)
    assert encoders.parse_shares("kin:1") == {**SHARES, "kin": 1.0}
    assert encoders.parse_shares(" kin : 0.25 ,title:0,") == {**SHARES, "kin": 0.25, "title": 0.0}
