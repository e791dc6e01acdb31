"""One suite over every retriever: order, limits, and queries of all shapes."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fakes import own_encoder
from shop import SHOP, index
from tilth.catalog import Product
from tilth.pipeline import Pipeline, open_index
from tilth.protocols import Retriever
from tilth.query import Query
from tilth.retrieval.encoder_build import ModelForBuild

SYSTEMS = ["tfidf", "lexical", "dense", "hybrid", "own", "hybrid of three"]
WORDS = [word for product in SHOP for word in product.title.split()]
ODD = {
    "empty": "",
    "blank": "   ",
    "long": "manure for tomatoes " * 500,
    "one long word": "x" * 10_000,
    "emoji": "🍅🌱👩‍🌾",
    "stop words": "the of and to a in is it для и в на",
    "syntax": 'title:cow AND (manure OR "tomato") -x +y ~ * ? [1 TO 5] \\ / ^2',
    "control": "cow\x00manure\x1b[31m\u202e",
    "surrogate-free": "\U0010ffff\ufffe",
    "digits": "0000000000",
    "newline": "cow\nmanure\r\n",
}


def make(pipeline: Pipeline, name: str) -> Retriever:
    if name.startswith("hybrid"):
        return pipeline
    return pipeline.tfidf() if name == "tfidf" else pipeline.retrievers()[name]


@pytest.fixture(scope="module", params=SYSTEMS)
def retriever(request: pytest.FixtureRequest, pipeline: Pipeline) -> Retriever:
    three = request.param in ("own", "hybrid of three")
    return make(request.getfixturevalue("three_lists") if three else pipeline, request.param)


@pytest.fixture(scope="module")
def three_lists(tmp_path_factory: pytest.TempPathFactory, model: ModelForBuild) -> Pipeline:
    """The opened index of `SHOP` with an own encoder."""
    folder = tmp_path_factory.mktemp("three") / "index"
    index(SHOP, folder, model, own=own_encoder(WORDS))
    return open_index(folder)


def check(retriever: Retriever, texts: list[str], k: int, catalogue: int = len(SHOP)) -> None:
    queries = [Query(f"q{n}", text) for n, text in enumerate(texts)]
    run = retriever.search(queries, k)
    assert list(run) == [q.query_id for q in queries]
    for hits in run.hits.values():
        assert len(hits) <= min(k, catalogue)
        assert list(hits) == sorted(hits, key=lambda hit: (-hit.score, hit.product_id))
        assert len({hit.product_id for hit in hits}) == len(hits)
        assert all(np.isfinite(hit.score) for hit in hits)


@pytest.mark.parametrize("name", ODD)
def test_any_query_is_answered(retriever: Retriever, name: str) -> None:
    check(retriever, [ODD[name]], 5)


@pytest.mark.parametrize("k", [0, 1, 3, 100, 100_000])
def test_any_k_is_a_limit(retriever: Retriever, k: int) -> None:
    check(retriever, ["tomato", "manure for roses", "секатор"], k)


def test_no_queries_give_an_empty_run(retriever: Retriever) -> None:
    assert len(retriever.search([], 5)) == 0


@pytest.mark.parametrize("text", ["", "  ", "\n\t"])
def test_nothing_typed_finds_nothing(retriever: Retriever, text: str) -> None:
    assert retriever.search([Query("q", text)], 5)["q"] == ()


def test_a_smaller_k_gives_a_prefix(retriever: Retriever) -> None:
    query = [Query("q", "tomato manure for roses")]
    assert retriever.search(query, 2)["q"] == retriever.search(query, 6)["q"][:2]


def test_searching_twice_gives_the_same(retriever: Retriever) -> None:
    query = [Query("q", "tomato feed")]
    assert retriever.search(query, 5).hits == retriever.search(query, 5).hits


def test_the_obvious_product_comes_first(retriever: Retriever) -> None:
    run = retriever.search([Query("a", "tomato seeds"), Query("b", "garden hose")], 3)
    assert run["a"][0].product_id == "s1"
    assert run["b"][0].product_id == "h1"


@given(text=st.text(max_size=60), k=st.integers(0, 12))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_typed(retriever: Retriever, text: str, k: int) -> None:
    check(retriever, [text], k)


@pytest.fixture(scope="module")
def one_product(tmp_path_factory: pytest.TempPathFactory, model: ModelForBuild) -> Pipeline:
    folder = tmp_path_factory.mktemp("one") / "index"
    index([Product(id="only", title="Spade")], folder, model, own=own_encoder(["spade"]))
    return open_index(folder)


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_catalogue_of_one_product(name: str, one_product: Pipeline) -> None:
    one = make(one_product, name)
    check(one, ["spade", "", "fork", "🍅"], 10, catalogue=1)
    assert one.search([Query("q", "spade")], 10)["q"][0].product_id == "only"
