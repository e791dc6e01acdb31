"""The commands as a person or a program calls them: output, JSON, exit codes, errors."""

import re
import sys
from pathlib import Path

import numpy as np
import orjson
import pytest

from commands import Command, Outcome
from fakes import WordEncoder, own_encoder
from shop import THREE_LISTS
from shop import index as build
from tilth.cli import encoder_choice, indexing
from tilth.cli.main import main
from tilth.pipeline import open_index
from tilth.promotions import promote
from tilth.query import Query
from tilth.readers.products import read_products
from tilth.releases import propose
from tilth.reranking.answerability import Answerability
from tilth.reranking.calibration import Calibration, Platt
from tilth.reranking.feature_names import NAMES
from tilth.reranking.models import train as train_model
from tilth.reranking.reranker import Reranker
from tilth.reranking.training import TrainingData
from tilth.retrieval.fusion import Fusion
from tilth.retrieval.index import read_fusion, write_fusion
from tilth.run import read_run


@pytest.fixture
def tilth(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    monkeypatch.setenv("COLUMNS", "80")

    def run(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["tilth", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        return Outcome(code, *capfd.readouterr())

    return run


@pytest.fixture
def words(monkeypatch: pytest.MonkeyPatch) -> None:
    """Build with a light encoder: what is tested here is the command, not the model."""
    for module in (encoder_choice, indexing):
        monkeypatch.setattr(module, "build_encoder", lambda *_, **__: WordEncoder())


@pytest.fixture
def shop(tmp_path: Path, tilth: Command) -> Path:
    assert tilth("sample", tmp_path / "shop", "--products", 600).code == 0
    return tmp_path / "shop"


@pytest.fixture
def index(shop: Path, tilth: Command, words: None) -> Path:
    assert tilth("index", shop / "products.jsonl", "--into", shop.parent / "idx").code == 0
    return shop.parent / "idx"


def labels(index: Path) -> tuple[object, ...]:
    shop = index.parent / "shop"
    return "--queries", shop / "queries.tsv", "--qrels", shop / "qrels.tsv"


def few_labels(index: Path, every: int = 5) -> tuple[object, ...]:
    """Every fifth query: each of the many fusions that `tune` tries is measured on all of them."""
    shop = index.parent / "shop"
    header, *queries = (shop / "queries.tsv").read_text("utf-8").splitlines(keepends=True)
    (shop / "few.tsv").write_text("".join([header, *queries[::every]]), "utf-8")
    return "--queries", shop / "few.tsv", "--qrels", shop / "qrels.tsv"


def test_the_version(tilth: Command) -> None:
    assert tilth("--version").out.startswith("tilth 0.")


def test_a_wrong_option_is_wrong_usage(tilth: Command) -> None:
    outcome = tilth("search", "idx", "roses", "--colour")
    assert outcome.code == 2
    assert "No such option" in outcome.err


# sample


def test_sample_writes_a_shop(tilth: Command, tmp_path: Path) -> None:
    outcome = tilth("sample", tmp_path / "shop", "--products", 500, "--language", "both", "--json")
    assert outcome.json["products"] == 500
    names = {path.name for path in (tmp_path / "shop").iterdir()}
    assert names == {"products.jsonl", "queries.tsv", "qrels.tsv"}
    assert len((tmp_path / "shop" / "products.jsonl").read_text("utf-8").splitlines()) == 500


@pytest.mark.parametrize("arguments", [("--language", "fr"), ("--products", 0), ("--products", 10**8)])
def test_sample_refuses_what_it_cannot_write(tilth: Command, tmp_path: Path, arguments: tuple) -> None:
    outcome = tilth("sample", tmp_path / "shop", *arguments)
    assert outcome.code == 1
    assert outcome.err.startswith("error: ")
    assert str(arguments[1]) in outcome.err.replace(",", "")


# index


def test_index_counts_what_it_kept_and_rejected(tilth: Command, words: None, tmp_path: Path) -> None:
    rows = ['{"id": "1", "title": "Spade"}', '{"id": "2"}', '{"id": "1", "title": "Again"}', "{"]
    (tmp_path / "shop.jsonl").write_text("\n".join(rows))
    outcome = tilth("index", tmp_path / "shop.jsonl", "--into", tmp_path / "idx", "--json")
    assert (outcome.json["kept"], outcome.json["rejected"]) == (1, 3)
    assert outcome.json["reasons"] == {"no title": 1, "duplicate id": 1, "invalid JSON": 1}
    lines = (tmp_path / "idx" / "rejected.jsonl").read_text().splitlines()
    assert [orjson.loads(line)["line"] for line in lines] == [2, 3, 4]


def test_index_says_in_words_what_it_rejected(tilth: Command, words: None, tmp_path: Path) -> None:
    (tmp_path / "shop.csv").write_text("id,title,price\n1,Spade,5 EUR\n2,Fork,-5 EUR\n")
    outcome = tilth("index", tmp_path / "shop.csv", "--into", tmp_path / "idx")
    assert "1 products kept, 1 rejected" in outcome.out
    assert "rejected: 1 x broken price" in outcome.err
    assert "rejected.jsonl" in outcome.err


def test_index_maps_columns(tilth: Command, words: None, tmp_path: Path) -> None:
    (tmp_path / "shop.csv").write_text("nr;bezeichnung\n1;Spaten\n")
    into = ("--into", tmp_path / "idx")
    maps = ("--map", "id=nr", "--map", "title=bezeichnung")
    assert tilth("index", tmp_path / "shop.csv", *into, *maps).code == 0
    found = tilth("search", tmp_path / "idx", "spaten", "--json").json["hits"]
    assert [(hit["product_id"], hit["title"]) for hit in found] == [("1", "Spaten")]


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("", (), "shop.jsonl: the file is empty"),
        ('{"id": "1"}', (), "shop.jsonl: no column for the title"),
        ('{"id": "1", "title": " "}', (), "no usable product"),
        ('{"id": "1"}', ("--strict",), "shop.jsonl:1, field 'title': no title"),
        ('{"id": "1", "title": "a"}', ("--map", "title"), "field '--map': is not of the form FIELD=COLUMN"),
        ('{"id": "1", "title": "a"}', ("--passages", 0), "passages is 0"),
        ('{"id": "1", "title": "a"}', ("--max-tokens", 5), "must lie between 16 and max_tokens, 5"),
        ('{"id": "1", "title": "a"}', ("--recall", 2), "recall is 2"),
    ],
)
def test_index_refuses_with_a_reason_and_leaves_nothing(
    tilth: Command, words: None, tmp_path: Path, content: str, options: tuple, message: str
) -> None:
    (tmp_path / "shop.jsonl").write_text(content)
    outcome = tilth("index", tmp_path / "shop.jsonl", "--into", tmp_path / "idx", *options)
    assert outcome.code == 1
    assert message in outcome.err
    assert not (tmp_path / "idx" / "current").exists()
    assert not list(tmp_path.rglob("*.part"))
    assert not list(tmp_path.rglob(".building-*"))


def test_index_touches_no_folder_that_holds_something_else(tilth: Command, words: None, shop: Path) -> None:
    before = sorted(path.name for path in shop.iterdir())
    outcome = tilth("index", shop / "products.jsonl", "--into", shop)
    assert outcome.code == 1
    assert "is not an index folder: it holds products.jsonl" in outcome.err
    assert sorted(path.name for path in shop.iterdir()) == before


def test_an_interrupted_build_says_so_and_leaves_the_index(
    tilth: Command, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rejected = (index / "rejected.jsonl").read_bytes()

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(WordEncoder, "save", interrupted)
    outcome = tilth("index", index.parent / "shop" / "products.jsonl", "--into", index)
    assert outcome.code == 130
    assert "nothing was left half-written" in outcome.err
    assert [path.name for path in (index / "generations").iterdir()] == ["1"]
    assert (index / "rejected.jsonl").read_bytes() == rejected
    assert tilth("search", index, "manure").code == 0


# upsert, delete, compact, encode, fields


def test_what_is_upserted_is_found_and_what_is_deleted_is_not(
    tilth: Command, index: Path, tmp_path: Path
) -> None:
    (tmp_path / "new.jsonl").write_text('{"id": "n1", "title": "Zinc wheelbarrow"}\n{"id": "n2"}\n')
    written = tilth("upsert", index, tmp_path / "new.jsonl", "--json").json
    assert (written["changed"], written["rejected"], written["since_build"]) == (1, 1, 1)
    assert tilth("search", index, "zinc wheelbarrow", "-k", 1, "--json").json["hits"][0]["product_id"] == "n1"
    assert "0 changed, 0 deleted, 1 unchanged" in tilth("upsert", index, tmp_path / "new.jsonl").out
    outcome = tilth("delete", index, "n1", "nobody")
    assert "0 changed, 1 deleted, 1 unchanged; 2 changes since the index was built" in outcome.out
    hits = tilth("search", index, "zinc wheelbarrow", "-k", 5, "--json").json["hits"]
    assert "n1" not in {hit["product_id"] for hit in hits}


def test_ids_to_delete_come_from_a_file(tilth: Command, index: Path, tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text("en0000001\n\nen0000002\n")
    assert tilth("delete", index, "--file", tmp_path / "ids.txt", "--json").json["deleted"] == 2
    outcome = tilth("delete", index)
    assert outcome.code == 1
    assert "no product id was given" in outcome.err


def test_compact_makes_the_next_generation(tilth: Command, index: Path) -> None:
    tilth("delete", index, "en0000001")
    manifest = tilth("compact", index, "--json").json
    assert manifest["catalogue"]["products"] == 599
    assert manifest["legs"]["dense"]["encoded"] == 0
    assert "nothing has changed since generation 2 was built" in tilth("compact", index).out
    tilth("delete", index, "en0000002")
    assert "598 products" in tilth("compact", index).out


def test_a_catalogue_is_stored_encoded_in_parts_and_built(
    tilth: Command, shop: Path, words: None, tmp_path: Path
) -> None:
    into = tmp_path / "parts"
    assert tilth("index", shop / "products.jsonl", "--into", into, "--store-only").code == 0
    assert not (into / "current").exists()
    encoded = [tilth("encode", into, "--shard", f"{part}/3", "--json").json["encoded"] for part in (1, 2, 3)]
    assert all(encoded)
    built = tilth("index", "--into", into, "--json").json
    assert built["legs"]["dense"]["encoded"] == 0
    assert tilth("index", "--into", into).out.startswith(f"{into}: 600 products in the store")
    assert not (into / "vectors").exists()


@pytest.mark.parametrize("shard", ["0/3", "4/3", "one", "1/", "1/0"])
def test_a_wrong_part_is_named(tilth: Command, index: Path, shard: str) -> None:
    outcome = tilth("encode", index, "--shard", shard)
    assert outcome.code == 1
    assert f"--shard is {shard!r}" in outcome.err


def test_updates_need_an_index(tilth: Command, tmp_path: Path) -> None:
    for command in (("upsert", tmp_path, "x.jsonl"), ("delete", tmp_path, "x"), ("compact", tmp_path)):
        outcome = tilth(*command)
        assert outcome.code == 1
        assert "not an index" in outcome.err


def test_fields_say_what_can_be_filtered_by(tilth: Command, index: Path) -> None:
    fields = tilth("fields", index, "--json").json
    assert fields["availability"]["type"] == "text"
    assert fields["price"]["min"] > 0
    assert "availability" in tilth("fields", index).out
    schema = tilth("fields", index, "--json-schema").json
    assert schema["$schema"].endswith("2020-12/schema")


def test_search_counts_facets_and_collapses_variants(tilth: Command, index: Path) -> None:
    answer = tilth(
        "search", index, "compost", "-k", 5, "--facets", "brand,price", "--collapse", "--json"
    ).json
    assert sum(answer["facets"]["brand"]["retrieved"].values()) <= answer["totals"]["retrieved"]
    assert answer["facets"]["price"]["allowed"]["count"] == answer["totals"]["allowed"] == 600
    groups = [hit["item_group_id"] for hit in answer["hits"]]
    assert len(set(groups)) == len(groups)
    assert "brand of the retrieved:" in tilth("search", index, "compost", "--facets", "brand").out


# search


def test_search_prints_titles_prices_and_time(tilth: Command, index: Path) -> None:
    outcome = tilth("search", index, "cow manure", "-k", 3)
    assert outcome.code == 0
    assert max(map(len, outcome.out.splitlines())) <= 80
    assert "EUR" in outcome.out
    assert "retrieved, from 600 products, in " in outcome.out
    assert "lexical #" not in outcome.out
    assert "lexical #1" in tilth("search", index, "cow manure", "-k", 3, "--explain").out


def test_search_as_json_says_why(tilth: Command, index: Path) -> None:
    answer = tilth("search", index, "cow manure 20 kg", "-k", 10, "--json").json
    assert answer["query"] == answer["read_as"] == "cow manure 20 kg"
    assert [hit["rank"] for hit in answer["hits"]] == list(range(1, 11))
    first = answer["hits"][0]
    assert {"product_id", "title", "price", "score", "explanation"} <= first.keys()
    assert first["explanation"]["places"]["lexical"]["rank"] >= 1
    assert "20kg" in first["explanation"]["matched"]
    assert {"lexical", "encode", "dense", "fuse"} <= answer["milliseconds"].keys()
    assert (answer["release"], answer["decision"], first["probability"]) == (None, None, None)


def put_in_force(index: Path, answers: Answerability) -> None:
    """Keep and promote a release named `first` that puts what is cheap first, and refuses as it is told."""
    pipeline = open_index(index)
    (pool,) = pipeline.pools([Query("1", "manure")])
    pipeline.close()
    grades = np.digitize(-pool.features[:, NAMES.index("price")], [-20.0, -10.0])
    model = train_model(
        "logistic", TrainingData(pool.features, grades, np.array([len(grades)]), NAMES), seed=0
    )
    reranker = Reranker(model, calibration=Calibration(Platt(1.0, 0.0), 10, 10), answerability=answers)
    reranker.save(index.parent / "model")
    release = propose(
        index,
        name="first",
        fusion=Fusion(),
        evidence={},
        model_folder=index.parent / "model",
        calibration=reranker.calibration_json(),
    )
    promote(index, release.name, {"passed": True, "refusals": [], "in_force": "hybrid"})


def test_search_names_the_release_and_says_when_nothing_fits(tilth: Command, index: Path) -> None:
    by_unknown_words = Answerability(0.5, (0.0,) * 6, (0.0,) * 5 + (-10.0,), 3.0, 10, 10)
    put_in_force(index, by_unknown_words)

    answer = tilth("search", index, "manure", "-k", 3, "--json").json
    assert answer["release"] == "first"
    assert answer["decision"]["answered"]
    assert answer["decision"]["probability"] == pytest.approx(1 / (1 + np.exp(-3)))
    assert answer["decision"]["signals"]["unknown_words"] == 0
    assert all(0 < hit["probability"] < 1 for hit in answer["hits"])
    said = " ".join(tilth("search", index, "manure", "-k", 1, "--explain").out.split())
    assert "ordered by release first" in said
    assert "nothing that fits" not in said
    assert "; reranked " in said
    assert f"relevant with probability {answer['hits'][0]['probability']:.2f}" in said

    refused = tilth("search", index, "zzzzqqqq", "--json").json["decision"]
    assert (refused["answered"], refused["threshold"]) == (False, 0.5)
    said = " ".join(tilth("search", index, "zzzzqqqq").out.split())
    assert "the shop seems to have nothing that fits: probability 0.00091, below 0.5" in said


def test_search_takes_filters(tilth: Command, index: Path) -> None:
    filters = '{"price": {"lte": 10}, "availability": "in_stock"}'
    hits = tilth("search", index, "manure", "--filters", filters, "--json").json["hits"]
    assert hits
    assert all(hit["availability"] == "in_stock" for hit in hits)
    assert all(float(hit["price"].split()[0]) <= 10 for hit in hits)


@pytest.mark.parametrize(
    ("filters", "message"),
    [("{", "is not JSON"), ("[1]", "is not a JSON object"), ('{"weather": 1}', "no field to filter by")],
)
def test_search_names_a_wrong_filter(tilth: Command, index: Path, filters: str, message: str) -> None:
    outcome = tilth("search", index, "manure", "--filters", filters)
    assert outcome.code == 1
    assert message in outcome.err


def test_search_reads_queries_from_the_standard_input(
    tilth: Command, index: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "typed").write_text("cow manure\nhose\n")
    with (tmp_path / "typed").open() as typed:
        monkeypatch.setattr(sys, "stdin", typed)
        lines = tilth("search", index, "--json", "-k", 2).out.splitlines()
    assert [orjson.loads(line)["query"] for line in lines] == ["cow manure", "hose"]


def test_search_asks_at_a_terminal_until_an_empty_line(
    tilth: Command, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = iter(["cow manure", "zzzzqqqq", ""])
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda _: next(typed))
    outcome = tilth("search", index, "-k", 1)
    assert outcome.out.count("from 600 products, in") == 2


def test_search_without_an_index_names_the_command(tilth: Command, tmp_path: Path) -> None:
    outcome = tilth("search", tmp_path / "nowhere", "roses")
    assert outcome.code == 1
    assert "no index there. Build one: tilth index CATALOGUE --into" in outcome.err


# evaluate, tune, split, compare


def test_evaluate_measures_every_system(tilth: Command, index: Path) -> None:
    report = tilth("evaluate", index, *labels(index), "--json").json
    assert list(report["systems"]) == ["tfidf", "lexical", "dense", "hybrid"]
    assert report["measures"] == [
        "nDCG@10", "R@100", "RR@10", "P@5", "Judged@10", "nDCG(judged_only=True)@10",
    ]  # fmt: skip
    assert report["systems"]["lexical"]["nDCG@10"] > 0.5
    assert {d["baseline"] for d in report["differences"]} == {"lexical"}
    assert "per_query" not in report


def test_evaluate_prints_a_table_of_eighty_columns(tilth: Command, index: Path) -> None:
    outcome = tilth("evaluate", index, *labels(index), "--systems", "lexical,dense")
    assert max(map(len, outcome.out.splitlines())) <= 80
    assert "nDCG@10 minus lexical's" in outcome.out
    assert "misspelt (" in outcome.out


def test_evaluate_saves_runs_that_compare_reads(tilth: Command, index: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    options = ("--systems", "lexical,hybrid", "--save-runs", runs, "--json", "--per-query", "-k", 50)
    report = tilth("evaluate", index, *labels(index), *options).json
    assert sorted(path.name for path in runs.iterdir()) == ["hybrid.trec", "lexical.trec"]
    assert max(len(hits) for hits in read_run(runs / "lexical.trec").hits.values()) == 50
    compared = tilth("compare", runs / "lexical.trec", runs / "hybrid.trec", *labels(index), "--json").json
    assert compared["system"]["nDCG@10"] == pytest.approx(report["systems"]["hybrid"]["nDCG@10"])
    per_query = {name: report["per_query"][name]["nDCG@10"] for name in ("lexical", "hybrid")}
    for change in compared["won"]:
        query = change["query_id"]
        assert change["difference"] == pytest.approx(per_query["hybrid"][query] - per_query["lexical"][query])
    shown = tilth("compare", runs / "lexical.trec", runs / "hybrid.trec", *labels(index), "--most", 2)
    assert max(map(len, shown.out.splitlines())) <= 80
    assert "won most in nDCG@10" in shown.out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--systems", "magic"), "no system 'magic'; there are tfidf, lexical, dense, hybrid"),
        (("--measures", "nDCG@ten"), "measure 'nDCG@ten': not a known measure"),
        (("--queries", "nowhere.tsv"), "nowhere.tsv"),
    ],
)
def test_evaluate_names_what_is_wrong(tilth: Command, index: Path, options: tuple, message: str) -> None:
    outcome = tilth("evaluate", index, *labels(index), *options)
    assert outcome.code == 1
    assert message in outcome.err


def test_split_and_tune_choose_on_one_part_and_report_on_another(
    tilth: Command, index: Path, tmp_path: Path
) -> None:
    few = few_labels(index)
    counts = tilth("split", *few[:2], "--into", tmp_path / "split.tsv", "--json").json["queries"]
    assert set(counts) == {"train", "validation", "test"}
    tuned = tilth("tune", index, *few, "--split", tmp_path / "split.tsv", "--json").json
    assert tuned["queries"] == counts["train"] + counts["validation"]
    measured = tuned["test"]["queries"] + tuned["test"]["queries_unjudged"]
    assert measured == counts["test"]
    assert tuned["applied"] is False
    assert not (index / "fusion.json").exists()


def test_a_tuned_fusion_is_searched_with_when_applied(tilth: Command, index: Path) -> None:
    few = few_labels(index)
    tuned = tilth("tune", index, *few, "--apply", "--json").json
    assert orjson.loads((index / "fusion.json").read_bytes()) == tuned["fusion"]
    evaluated = tilth("evaluate", index, *few, "--systems", "lexical,hybrid", "--json").json
    again = tilth("tune", index, *few, "--json").json
    assert again["test"]["systems"]["hybrid"] == pytest.approx(again["test"]["systems"]["tuned"])
    assert evaluated["systems"]["hybrid"]["nDCG@10"] > 0
    assert "chosen on " in tilth("tune", index, *few).out
    propose(index, name="mine", fusion=Fusion(), evidence={})
    promote(index, "mine", {"passed": True, "refusals": [], "in_force": "hybrid"})
    applied = " ".join(tilth("tune", index, *few, "--apply").out.split())
    assert "applied to the plain hybrid; release mine is in force" in applied


# an index with an own encoder


@pytest.fixture
def three_lists(shop: Path) -> Path:
    """An index of the sample shop with an own encoder."""
    products = list(read_products([shop / "products.jsonl"]))
    words = sorted({word for product in products for word in product.title.split()})
    build(products, shop.parent / "idx", WordEncoder(), own=own_encoder(words))
    return shop.parent / "idx"


def test_the_own_encoder_is_a_system(tilth: Command, three_lists: Path) -> None:
    report = tilth("evaluate", three_lists, *labels(three_lists), "--json").json
    assert list(report["systems"]) == ["tfidf", "lexical", "dense", "own", "hybrid"]
    assert 0 < report["systems"]["own"]["R@100"] != report["systems"]["dense"]["R@100"]
    refused = tilth("evaluate", three_lists, *labels(three_lists), "--systems", "owl")
    assert "no system 'owl'; there are tfidf, lexical, dense, own, hybrid" in " ".join(refused.err.split())


def test_three_lists_are_tuned(tilth: Command, three_lists: Path) -> None:
    write_fusion(three_lists, Fusion("rrf", (1.0, 0.5)))  # tuned before there was an own encoder
    few = few_labels(three_lists, 40)
    tuned = tilth("tune", three_lists, *few, "--apply", "--json").json
    assert len(tuned["fusion"]["weights"]) in (0, 3)  # none: all equal
    assert list(tuned["test"]["systems"]) == ["lexical", "dense", "own", "hybrid", "tuned"]
    assert read_fusion(three_lists, THREE_LISTS) == Fusion.from_dict(tuned["fusion"])
    assert open_index(three_lists).ranking.fusion == Fusion.from_dict(tuned["fusion"])


def test_what_each_encoder_had_to_do_is_printed(tilth: Command, three_lists: Path) -> None:
    tilth("delete", three_lists, open_index(three_lists).index.columns.ids(np.array([0]))[0])
    compacted = tilth("compact", three_lists)
    assert re.search(r"\(0 encoded, [\d,]+ reused; own: 0 encoded, [\d,]+ reused\)", compacted.out)
    answer = tilth("search", three_lists, "garden hose", "--json").json
    assert any("own" in hit["explanation"]["places"] for hit in answer["hits"])


def test_split_for_the_reranker_and_into_folds(tilth: Command, shop: Path, tmp_path: Path) -> None:
    options = ("--queries", shop / "queries.tsv", "--into", tmp_path / "split.tsv")
    assert set(tilth("split", *options, "--reranking", "--json").json["queries"]) == {"train", "test"}
    counts = tilth("split", *options, "--folds", 5, "--json").json["queries"]
    assert set(counts) == {"1", "2", "3", "4", "5"}
    assert max(counts.values()) - min(counts.values()) <= 2
    refused = tilth("split", *options, "--folds", 5, "--reranking")
    assert refused.code == 1
    assert "exclude each other" in refused.err
