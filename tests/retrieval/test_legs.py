"""An index with an own encoder: two legs over the same passages, from the build to the hits."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Regex, Tokenizer, models, pre_tokenizers

from fakes import WordEncoder, kept_encoder, own_encoder
from shop import DEFAULTS, OWN_AND_LEXICAL, SHOP, THREE_LISTS, TWO_LISTS, index, quiet
from tilth.catalog import Product
from tilth.errors import IndexFormatError
from tilth.one_search import DEPTH
from tilth.pipeline import Pipeline, open_index
from tilth.query import Query
from tilth.ranking import Ranking
from tilth.retrieval import dense as dense_module
from tilth.retrieval.build_settings import BuildSettings, Resources
from tilth.retrieval.builder import build_index, compact_index, encode_shard
from tilth.retrieval.candidates import retrieve
from tilth.retrieval.deadline import Costs, Deadline
from tilth.retrieval.encoder import EncoderFacts, StaticEncoder, letters_per_token
from tilth.retrieval.encoder_kept import KeptEncoder
from tilth.retrieval.fusion import Fusion, fuse_hits
from tilth.retrieval.index import open_store
from tilth.retrieval.legs import LEGS
from tilth.retrieval.preparation import CHUNK
from tilth.retrieval.quantisation import to_codes
from tilth.retrieval.spelling import Reading, Speller
from tilth.retrieval.view import View

WORDS = ["tomato", "manure", "hose", "roses", "slug", "секатор", "garden", "Tomato", "Секатор"]
GENERAL = ["tomato", "manure", "hose"]  # the words of the general encoder: it knows no Russian


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """The folder of an index with two legs."""
    index(SHOP, tmp_path / "idx", kept_encoder(GENERAL), own=own_encoder(WORDS))
    return tmp_path / "idx"


@pytest.fixture
def pipeline(shop: Path) -> Iterator[Pipeline]:
    opened = open_index(shop)
    yield opened
    opened.close()


def assert_codes_are_the_encoders(view: View, products: list[Product]) -> None:
    """Each leg holds, of products in the order of their rows, what its own encoder makes of them."""
    rows = np.array([view.index.columns.row_of([product.id])[0] for product in products])
    cuts = view.index.cutter.cut(products)
    texts = [passage for cut in cuts for passage in cut.passages]
    assert tuple(view.legs) == tuple(view.index.legs) == LEGS
    for name, leg in view.index.legs.items():
        found = view.legs[name].passages_of(rows)
        np.testing.assert_array_equal(found.codes, to_codes(leg.encoder.encode_passages(texts)))


def made(manifest: dict) -> dict[str, tuple[int, int]]:
    """How many passages each leg encoded, and reused."""
    return {name: (leg["encoded"], leg["reused"]) for name, leg in manifest["legs"].items()}


# --- building -------------------------------------------------------------------------------------


def test_each_leg_has_the_vectors_of_its_encoder_in_a_folder_of_its_own(pipeline: Pipeline) -> None:
    manifest = pipeline.index.manifest
    assert_codes_are_the_encoders(pipeline.live.view, SHOP)
    assert {name: leg["encoder"]["name"] for name, leg in manifest["legs"].items()} == {
        "dense": "words",
        "own": "own",
    }
    assert {name: leg["encoder"]["dimension"] for name, leg in manifest["legs"].items()} == {
        "dense": 16,
        "own": 8,
    }
    assert all(leg["index"]["kind"] == "flat" for leg in manifest["legs"].values())
    files = {"index.faiss", "encoder/encoder.json", "encoder/tokenizer.json", "encoder/model.safetensors"}
    assert {f"{leg}/{file}" for leg in LEGS for file in files} <= set(manifest["files"])
    assert {"passage_rows.npy", "passage_hashes.npy"} <= set(manifest["files"])
    assert not any(name.endswith("codes.npy") and name.split("/")[0] in LEGS for name in manifest["files"])
    assert manifest["seconds"].keys() >= {"dense", "own"}
    titles, own = [product.title for product in SHOP], pipeline.index.legs["own"]
    assert manifest["legs"]["own"]["letters_per_token"] == round(
        letters_per_token(own.tokenizer, titles, own=True), 2
    )


def test_an_index_without_an_own_encoder_has_one_leg(tmp_path: Path) -> None:
    manifest = index(SHOP, tmp_path, kept_encoder(GENERAL))
    assert list(manifest["legs"]) == ["dense"]
    opened = open_index(tmp_path)
    assert opened.lists == ("lexical", "dense")
    assert "own" not in opened.retrievers()


def test_the_first_encoder_cuts_the_passages_of_both(tmp_path: Path) -> None:
    long = Product(id="z", title="Tomato", description="manure hose " * 300)
    alone = index([long], tmp_path / "one", kept_encoder(GENERAL))
    both = index([long], tmp_path / "two", kept_encoder(GENERAL), own=own_encoder(WORDS))
    assert alone["passages"] == both["passages"]
    assert made(both) == {"dense": (both["passages"]["count"], 0), "own": (both["passages"]["count"], 0)}
    folders = (open_index(tmp_path / name).index.folder for name in ("one", "two"))
    hashes = [np.load(folder / "passage_hashes.npy") for folder in folders]
    np.testing.assert_array_equal(*hashes)


def test_both_legs_are_inverted_files_above_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dense_module, "FLAT_BELOW", 1)
    products = [Product(id=f"p{n}", title=f"tomato {WORDS[n % 9]} {n}") for n in range(300)]
    manifest = index(products, tmp_path, kept_encoder(GENERAL), own=own_encoder(WORDS))
    assert {leg["index"]["kind"] for leg in manifest["legs"].values()} == {"ivf"}
    assert_codes_are_the_encoders(open_index(tmp_path).live.view, products)


@pytest.mark.parametrize("general", ["kept", "here"])
def test_worker_processes_change_nothing(tmp_path: Path, general: str) -> None:
    """Whether both encoders can be sent to them, or the own one alone."""
    products = [Product(id=f"p{n}", title=f"tomato {n} {WORDS[n % 9]}") for n in range(2 * CHUNK + 5)]
    codes = []
    for workers in (1, 2):
        encoder = kept_encoder(GENERAL) if general == "kept" else WordEncoder()
        settings = BuildSettings(resources=Resources(workers=workers))
        into = tmp_path / str(workers)
        index(products, into, encoder, settings, own=own_encoder(WORDS))
        legs = open_index(into).index.legs
        codes.append([leg.index.codes(np.arange(leg.index.passages)) for leg in legs.values()])
    for one, two in zip(*codes, strict=True):
        np.testing.assert_array_equal(one, two)


def test_progress_ends_at_the_total(tmp_path: Path) -> None:
    seen: dict[str, tuple[int, int | None]] = {}

    def progress(stage: str, done: int, total: int | None = None, /) -> None:
        if stage == "indexing":
            assert seen.get(stage, (0, 0))[0] <= done <= len(SHOP)
        seen[stage] = (done, total)

    index(SHOP, tmp_path, kept_encoder(GENERAL), progress=progress, own=own_encoder(WORDS))
    assert seen["indexing"] == (len(SHOP), len(SHOP))
    assert seen["building the dense index"] == seen["building the own index"] == (1, 1)


# --- what is encoded once -------------------------------------------------------------------------


def test_vectors_are_reused_leg_by_leg(tmp_path: Path) -> None:
    first = index(SHOP, tmp_path, kept_encoder(GENERAL), own=own_encoder(WORDS))
    count = first["passages"]["count"]
    assert made(first) == {"dense": (count, 0), "own": (count, 0)}
    again = index(SHOP, tmp_path, kept_encoder(GENERAL), own=own_encoder(WORDS))
    assert made(again) == {"dense": (0, count), "own": (0, count)}
    trained = index(SHOP, tmp_path, kept_encoder(GENERAL), own=own_encoder([*WORDS, "pellets"], "next"))
    assert made(trained) == {"dense": (0, count), "own": (count, 0)}
    other = index(SHOP, tmp_path, WordEncoder("others"), own=own_encoder([*WORDS, "pellets"], "next"))
    assert made(other) == {"dense": (count, 0), "own": (0, count)}


def test_an_own_encoder_comes_and_goes(tmp_path: Path) -> None:
    count = index(SHOP, tmp_path, kept_encoder(GENERAL))["passages"]["count"]
    with_own = index(SHOP, tmp_path, kept_encoder(GENERAL), own=own_encoder(WORDS))
    assert made(with_own) == {"dense": (0, count), "own": (count, 0)}
    assert made(index(SHOP, tmp_path, kept_encoder(GENERAL))) == {"dense": (0, count)}
    assert not (tmp_path / "generations" / "3" / "own").exists()


def test_an_encoder_that_was_the_other_leg_s_keeps_its_vectors(tmp_path: Path) -> None:
    index(SHOP, tmp_path, kept_encoder(GENERAL), own=own_encoder(WORDS))
    swapped = index(SHOP, tmp_path, own_encoder(WORDS), own=kept_encoder(GENERAL))
    count = swapped["passages"]["count"]
    assert made(swapped) == {"dense": (0, count), "own": (0, count)}
    assert_codes_are_the_encoders(open_index(tmp_path).live.view, SHOP)


def test_a_damaged_leg_is_encoded_anew_and_the_sound_one_reused(shop: Path) -> None:
    file = shop / "generations" / "1" / "own" / "index.faiss"
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    manifest = index(SHOP, shop, kept_encoder(GENERAL), own=own_encoder(WORDS))
    count = manifest["passages"]["count"]
    assert made(manifest) == {"dense": (0, count), "own": (count, 0)}


def test_an_interrupted_build_keeps_the_vectors_of_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    products = [Product(id=f"p{n}", title=f"tomato {n}") for n in range(2 * CHUNK)]
    own = own_encoder(WORDS)
    encode, calls = own.encode_passages, 0

    def encode_one_chunk(texts: list[str]) -> np.ndarray:
        nonlocal calls
        calls += len(texts)
        if calls > CHUNK:
            raise KeyboardInterrupt
        return encode(texts)

    monkeypatch.setattr(own, "encode_passages", encode_one_chunk)
    with pytest.raises(KeyboardInterrupt):
        index(products, tmp_path, WordEncoder(), own=own)
    again = index(products, tmp_path, WordEncoder(), own=own_encoder(WORDS))
    assert made(again) == {"dense": (0, 2 * CHUNK), "own": (CHUNK, CHUNK)}
    assert not (tmp_path / "vectors").exists()


def test_shards_are_of_the_general_encoder(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.replace_all(iter(SHOP))
        encoded = encode_shard(tmp_path, store, kept_encoder(GENERAL), DEFAULTS, (1, 1), quiet)
        manifest = build_index(
            tmp_path, store, kept_encoder(GENERAL), DEFAULTS, quiet, own=own_encoder(WORDS)
        )
    assert made(manifest) == {"dense": (0, encoded), "own": (encoded, 0)}


def test_compaction_keeps_both_legs(shop: Path, pipeline: Pipeline) -> None:
    before = pipeline.index.manifest
    pipeline.upsert([dataclasses.replace(SHOP[0], title="Tomato manure"), Product(id="n", title="Hose")])
    manifest = compact_index(shop, pipeline.live.store, Resources(), quiet)
    for name in LEGS:
        for key in ("encoder", "reserved", "index"):
            assert manifest["legs"][name][key] == before["legs"][name][key]
        assert 0 < manifest["legs"][name]["encoded"] <= 4
    pipeline.refresh()
    assert_codes_are_the_encoders(pipeline.live.view, SHOP[1:])


@pytest.mark.parametrize("file", ["own/index.faiss", "own/encoder/model.safetensors", "dense/index.faiss"])
def test_a_damaged_file_of_a_leg_is_named(shop: Path, file: str) -> None:
    path = shop / "generations" / "1" / file
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(IndexFormatError, match=f"{file}: the index is damaged"):
        open_index(shop)
    if "encoder" in file:
        with open_store(shop) as store, pytest.raises(IndexFormatError, match=file):
            compact_index(shop, store, Resources(), quiet)


# --- searching ------------------------------------------------------------------------------------


def test_three_lists_are_fused_and_shown_as_evidence(pipeline: Pipeline) -> None:
    assert pipeline.lists == ("lexical", "dense", "own")
    assert pipeline.ranking.fusion == THREE_LISTS
    runs = pipeline.found([Query("q", "tomato manure")])
    assert list(runs) == ["lexical", "dense", "own"]
    fused = dict(fuse_hits([run["q"] for run in runs.values()], THREE_LISTS))
    answer = pipeline.answer("tomato manure", 8)
    assert list(answer.milliseconds) == [
        "filter", "read", "lexical", "encode", "dense", "own", "fuse", "explain",
    ]  # fmt: skip
    for hit in answer.hits:
        assert hit.score == pytest.approx(fused[hit.product.id])
        assert list(hit.places) == [
            name for name, run in runs.items() if hit.product.id in {h.product_id for h in run["q"]}
        ]
        for name, place in hit.places.items():
            assert runs[name]["q"][place.rank - 1] == (hit.product.id, place.score)
    assert "own" in answer.hits[0].places


def test_each_retriever_searches_by_its_own_encoder(pipeline: Pipeline) -> None:
    queries = [Query("q", "tomato manure"), Query("blank", " ")]
    passages = [passage for cut in pipeline.index.cutter.cut(SHOP) for passage in cut.passages]
    for name, leg in pipeline.index.legs.items():
        run = pipeline.retrievers()[name].search(queries, 3)
        vectors = leg.encoder.encode_passages(passages)
        best = float((vectors @ leg.encoder.encode_queries(["tomato manure"])[0]).max())
        assert (run.name, run["blank"]) == (name, ())
        assert run["q"][0].score == pytest.approx(best, abs=0.02)


@pytest.mark.parametrize(
    "text",
    [
        "tomato manure",
        "tomatoo manurre hose",  # corrected for words; three of them, of which an encoder knows one
        "Tomato секатор",  # of the two, the general encoder knows neither
        "ctrfnjh",  # секатор, the keyboard left in English
        "hoes",
        "slug 7 q",
        "1 2 3",
        "ромашка",
        "",
    ],
)
def test_a_retriever_alone_finds_what_a_search_fuses_of_it(pipeline: Pipeline, text: str) -> None:
    query = [Query("q", text)]
    fused = pipeline.found(query)
    alone = {name: each.search(query, DEPTH) for name, each in pipeline.retrievers().items()}
    assert alone == fused


def test_what_a_search_does_not_ask_of_a_leg_its_retriever_does_not_find(pipeline: Pipeline) -> None:
    texts = {"layout": "ctrfnjh", "letters": "1 2 q", "misspelt": "tomatoo manurre hose"}
    queries = [Query(name, text) for name, text in texts.items()]
    runs = {name: each.search(queries, 3) for name, each in pipeline.retrievers().items()}
    assert runs["own"]["layout"][0].product_id == "t1"
    assert runs["dense"]["layout"] == runs["dense"]["letters"] == runs["own"]["letters"] == ()
    encoder, vectors = pipeline.index.legs["dense"].encoder, pipeline.live.view.legs["dense"]
    hose = vectors.search_rows(encoder.encode_queries(["hose"])[0], 1)
    assert runs["dense"]["misspelt"][0].score == hose.scores[0] > 0.9
    assert "dense" in pipeline.candidates(queries)["misspelt"].vectors


def test_retrievers_of_one_index_read_a_query_once(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    read = Speller.read

    def noted(speller: Speller, text: str) -> Reading:
        asked.append(text)
        return read(speller, text)

    monkeypatch.setattr(Speller, "read", noted)
    for retriever in [*pipeline.retrievers().values()] * 2:
        retriever.search([Query("a", "tomatoo"), Query("b", "hose")], 3)
    assert asked == ["tomatoo", "hose"]


def test_a_leg_that_does_not_know_the_words_is_left_out_alone(tmp_path: Path) -> None:
    letters = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    letters.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    facts = EncoderFacts("letters", "1", "static", 4, 512)
    StaticEncoder(letters, np.ones((1, 4), np.float32), facts).save(tmp_path / "letters")
    general = KeptEncoder(tmp_path / "letters", facts.to_json(), 0)
    index(SHOP, tmp_path / "idx", general, own=own_encoder(WORDS))
    opened = open_index(tmp_path / "idx")
    answer = opened.answer("секатор roses", 5)
    assert answer.skipped.keys() == {"dense"}
    assert "letters of this query" in answer.skipped["dense"]
    assert answer.hits[0].places.keys() == {"lexical", "own"}
    neither = opened.answer("q x z", 5)
    assert list(neither.skipped) == ["dense", "own"]
    assert neither.milliseconds.keys().isdisjoint(LEGS)


def test_an_own_encoder_is_asked_about_whole_words_however_short(tmp_path: Path) -> None:
    words = ["rake", "30", "cm", "лейка", "8", "л"]
    index(SHOP, tmp_path, kept_encoder(GENERAL), own=own_encoder(words))
    opened = open_index(tmp_path)
    for text in ("rake 30 cm", "8 л", "лейка 8 л", "rake cm cm"):
        assert "own" not in opened.answer(text, 5).skipped, text
    for text in ("grey", "cm rake grey"):
        assert "own" in opened.answer(text, 5).skipped, text
    assert "dense" in opened.answer("30 cm", 5).skipped


def test_words_that_no_encoder_has_find_nothing(pipeline: Pipeline) -> None:
    for text in ("привет", "漢字", "☃", "w" * 200):
        answer = pipeline.answer(text, 5)
        assert answer.hits == ()
        assert answer.skipped.keys() == {"dense", "own"}


def test_filters_hold_in_every_leg(pipeline: Pipeline) -> None:
    view = pipeline.live.view
    allowed = view.allowed({"brand": "Humus"})
    found = retrieve(view, "tomato manure roses", 10, allowed)
    assert list(found.ids) == ["m1", "m2"]
    assert {hit.product_id for hit in found.hits("own")} == {"m1", "m2"}


def test_changes_are_seen_in_every_leg(pipeline: Pipeline) -> None:
    product = Product(id="n1", title="Garden roses tomato")
    pipeline.upsert([product, dataclasses.replace(SHOP[0], title="Slug hose")])
    pipeline.delete(["h1"])
    pipeline.refresh()
    view = pipeline.live.view
    rows = np.arange(view.rows)
    alive, new = np.flatnonzero(view.alive), rows[[name == "n1" for name in view.ids(rows)]]
    texts = view.index.cutter.cut([product])[0].passages
    for name, leg in view.index.legs.items():
        vector = leg.encoder.encode_queries(["garden roses tomato"])[0]
        hits = view.legs[name].search_rows(vector, 100)
        assert sorted(hits.rows.tolist()) == alive.tolist()
        codes = view.legs[name].passages_of(new).codes
        np.testing.assert_array_equal(codes, to_codes(leg.encoder.encode_passages(texts)))
    answer = pipeline.answer("garden roses tomato", 3)
    assert answer.hits[0].product.id == "n1"
    assert answer.hits[0].places.keys() == {"lexical", "dense", "own"}
    ids = {hit.product_id for name in LEGS for hit in retrieve(view, "garden hose", 100).hits(name)}
    assert "h1" not in ids
    assert {"n1", "m1"} <= ids


# --- deadlines ------------------------------------------------------------------------------------


class Clock:
    """A clock that stands still."""

    def __call__(self) -> float:
        return 0.0


@pytest.mark.parametrize(
    ("milliseconds", "asked"), [(100, ["dense", "own"]), (25, ["dense", "own"]), (20, ["own"]), (2, [])]
)
def test_short_of_time_the_own_encoder_is_asked_before_the_general_one(
    pipeline: Pipeline, milliseconds: float, asked: list[str]
) -> None:
    costs = Costs()
    costs.took("dense", 18)
    costs.took("own", 3)
    deadline = Deadline(milliseconds, costs, Clock())
    found = retrieve(pipeline.live.view, "tomato", 10, deadline=deadline)
    assert list(found.vectors) == asked
    assert [name for name in LEGS if found.lists[name].places.size] == asked
    assert sorted(deadline.skipped) == sorted(set(LEGS) - set(asked))
    assert found.lists["lexical"].places.size


# --- the fusion of an index that gets a leg, or loses it -------------------------------------------


def test_a_release_for_two_lists_goes_on_without_the_third(pipeline: Pipeline) -> None:
    two = Pipeline(pipeline.live, Ranking(Fusion("rrf", (1.0, 0.5))))
    same = Pipeline(pipeline.live, Ranking(Fusion("rrf", (1.0, 0.5, 0.0))))
    three = Pipeline(pipeline.live, Ranking(Fusion("rrf", (1.0, 0.5, 2.0))))
    queries = ["tomato manure", "garden hose", "roses"]
    assert two.search(queries).hits == same.search(queries).hits != three.search(queries).hits


def test_weights_of_lists_that_are_not_there_are_dropped(tmp_path: Path) -> None:
    index(SHOP, tmp_path, kept_encoder(WORDS))
    live = open_index(tmp_path).live
    queries = ["tomato manure", "hose"]
    for given, meant in [((1.0, 0.5, 3.0), (1.0, 0.5)), ((0.0, 0.0, 1.0), (1.0, 1.0))]:
        found, expected = (Pipeline(live, Ranking(Fusion("rrf", w))).search(queries) for w in (given, meant))
        assert found.hits == expected.hits


def test_a_running_pipeline_takes_the_default_fusion_of_its_lists(tmp_path: Path) -> None:
    index(SHOP, tmp_path, kept_encoder(GENERAL))
    running = open_index(tmp_path)
    assert running.ranking.fusion == TWO_LISTS
    index([*SHOP, Product(id="n", title="Slug")], tmp_path, kept_encoder(GENERAL), own=own_encoder(WORDS))
    running.refresh()
    assert running.ranking.fusion == THREE_LISTS
    assert "own" in running.answer("slug", 1).hits[0].places
    index(SHOP, tmp_path, own_encoder(WORDS))
    running.refresh()
    assert running.ranking.fusion == OWN_AND_LEXICAL != TWO_LISTS
    index(SHOP, tmp_path, kept_encoder(GENERAL))
    running.refresh()
    assert running.ranking.fusion == TWO_LISTS
    running.close()


def test_an_own_encoder_is_not_asked_about_words_in_small_pieces(tmp_path: Path) -> None:
    """Two or three letters a token: a general encoder still reads them, an own one has not met the word."""
    tokens = ["[UNK]", "to", "##ma", "##to", "manure"]
    pieces = Tokenizer(models.WordPiece({token: n for n, token in enumerate(tokens)}, unk_token="[UNK]"))
    pieces.pre_tokenizer = pre_tokenizers.Whitespace()
    for name in ("general", "own"):
        facts = EncoderFacts(name, "1", "static", 4, 512)
        StaticEncoder(pieces, np.ones((5, 4), np.float32), facts).save(tmp_path / f"{name} encoder")
        index(SHOP, tmp_path / name, KeptEncoder(tmp_path / f"{name} encoder", facts.to_json(), 0))
        pipeline = open_index(tmp_path / name)
        assert pipeline.index.legs["dense"].knows("manure")
        assert pipeline.index.legs["dense"].knows("tomato") == (name == "general")
        assert ("dense" in pipeline.answer("tomato", 3).skipped) == (name == "own")
        pipeline.close()
