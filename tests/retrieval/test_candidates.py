"""Candidates of both retrievers: numbered by product id, cut at the depth, identified ones first."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes import kept_encoder, own_encoder
from shop import SHOP, index
from tilth.catalog import Product
from tilth.pipeline import Pipeline, open_index
from tilth.query import Query
from tilth.retrieval.candidates import NOTHING, Candidates, retrieve
from tilth.retrieval.fusion import Fusion, RankedPlaces, fitted, fuse_hits
from tilth.retrieval.stopwatch import Stopwatch
from tilth.retrieval.view import View

FUSIONS = [
    Fusion(),
    Fusion("rrf", (1.0, 0.0)),
    Fusion("minmax", (0.3, 0.7)),
    Fusion("zscore", (1.0, 1.0)),
    Fusion("tmm"),
]
TEXTS = ["tomato manure", "garden hose 25m", "секатор", "HU20C", "roses", "slug steel", "nothing known"]


WORDS = ["tomato", "manure", "hose", "roses", "slug", "Секатор"]


@pytest.fixture(scope="module", params=[["lexical", "dense"], ["lexical", "dense", "own"]], ids=len)
def view(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> View:
    """The view of an index with two lists, or three."""
    into = tmp_path_factory.mktemp("candidates") / "idx"
    own = own_encoder(WORDS) if "own" in request.param else None
    index(SHOP, into, kept_encoder(WORDS), own=own)
    pipeline: Pipeline = open_index(into)
    assert list(pipeline.lists) == request.param
    return pipeline.live.view


@given(text=st.sampled_from(TEXTS), depth=st.integers(1, 10), fusion=st.sampled_from(FUSIONS))
@settings(max_examples=40, deadline=None)
def test_lists_are_those_of_the_retrievers_and_fuse_as_hits_do(
    view: View, text: str, depth: int, fusion: Fusion
) -> None:
    found = retrieve(view, text, depth)
    assert list(found.ids) == sorted(set(found.ids)) == list(view.ids(found.rows))
    for name, retriever in view.retrievers().items():
        alone = retriever.search([Query("q", text)], depth)["q"]
        assert found.hits(name) == (() if name in found.skipped else alone)
    assert tuple(found.lists) == view.lists
    asked = [name for name in view.lists if name not in found.skipped]
    hits = {name: found.hits(name) for name in view.lists}
    if fusion.adds_scores:  # every cosine, whichever list found the product
        for name in asked[1:]:
            everything = view.retrievers()[name].search([Query("q", text)], len(SHOP))["q"]
            hits[name] = tuple(hit for hit in everything if hit.product_id in found.ids)
    assert {name: len(ranked.places) for name, ranked in found.seen_by(fusion).items()} == {
        name: len(hits[name]) for name in view.lists
    }
    fused = dict(fuse_hits(list(hits.values()), fitted(fusion, len(view.lists))))
    places, scores = found.fused(fusion)
    identified = [found.ids[place] for place in found.identified]
    ranked = {found.ids[p]: s for p, s in zip(places.tolist(), scores.tolist(), strict=True)}
    assert ranked.keys() == fused.keys()
    assert np.all(np.diff(scores) <= 0)
    for name in ranked.keys() - set(identified):
        assert ranked[name] == pytest.approx(fused[name])


def test_cosines_are_compared_only_where_scores_are_added(view: View) -> None:
    assert retrieve(view, "tomato manure", 1).cosines.keys() == view.legs.keys()
    assert not retrieve(view, "tomato manure", 1, complete=False).cosines


def test_a_fusion_of_scores_knows_how_near_a_product_is_that_the_words_found(tmp_path: Path) -> None:
    both, near, words = "Tomato", "Hose Tomato", "Tomato hose hose hose feed"
    shop = [Product(id=str(n), title=title) for n, title in enumerate([both, near, words])]
    index(shop, tmp_path / "idx", kept_encoder(["Tomato", "Hose", "feed"]))
    pipeline = open_index(tmp_path / "idx")
    found = retrieve(pipeline.live.view, "tomato", 1)
    assert [len(ranked.places) for ranked in found.lists.values()] == [1, 1]
    seen = found.seen_by(Fusion("minmax"))
    assert len(seen["lexical"].places) == 1
    assert [found.ids[place] for place in seen["dense"].places.tolist()] == list(found.ids)
    assert found.seen_by(Fusion()) == found.lists
    pipeline.close()


def test_words_are_looked_up_corrected_and_encoders_read_what_was_typed(view: View) -> None:
    found = retrieve(view, "tomato manure", 10, typed="roses slug")
    assert found.hits("lexical") == retrieve(view, "tomato manure", 10).hits("lexical") != ()
    for name, leg in view.index.legs.items():
        assert np.array_equal(found.vectors[name], leg.encoder.encode_queries(["roses slug"])[0])
        assert found.hits(name) == retrieve(view, "roses slug", 10).hits(name)


def test_a_query_of_blanks_has_no_candidates(view: View) -> None:
    assert retrieve(view, " \t", 10) is NOTHING
    assert NOTHING.hits("dense") == ()
    assert [len(part) for part in NOTHING.fused(Fusion("rrf", (1.0, 0.5)))] == [0, 0]


def test_what_was_not_asked_says_why(view: View) -> None:
    found = retrieve(view, "q x z 1", 10)
    assert list(found.skipped) == list(view.legs)
    assert all("letters" in reason for reason in found.skipped.values())
    assert found.vectors == {}
    asked = retrieve(view, "tomato", 10)
    assert asked.skipped == {}
    assert asked.vectors.keys() == view.legs.keys()
    for name, leg in view.index.legs.items():
        np.testing.assert_array_equal(asked.vectors[name], leg.encoder.encode_queries(["tomato"])[0])


def test_a_mask_holds_for_all_retrievers(view: View) -> None:
    allowed = view.allowed({"brand": "Humus"})
    found = retrieve(view, "tomato manure roses", 10, allowed)
    assert list(found.ids) == ["m1", "m2"]
    assert found.whole
    assert list(retrieve(view, "tomato", 10, np.zeros(view.rows, bool)).ids) == []


def test_whole_is_said_where_no_depth_would_find_more(view: View) -> None:
    assert retrieve(view, "tomato", len(SHOP) + 1).whole
    assert not retrieve(view, "tomato", len(SHOP)).whole


def test_time_is_told_by_stage(view: View) -> None:
    watch = Stopwatch()
    retrieve(view, "tomato", 10, watch=watch)
    assert list(watch.milliseconds) == ["lexical", "encode", *view.legs]


def test_identified_products_come_first_and_the_rest_keeps_its_order(view: View) -> None:
    found = retrieve(view, "hu20c", 10)
    assert [found.ids[place] for place in found.identified] == ["m1"]
    places, scores = found.fused(Fusion())
    assert found.ids[places[0]] == "m1"
    assert scores[0] > scores[1]


def test_products_that_share_an_identifier_and_a_score_go_by_id(tmp_path: Path) -> None:
    twins = [Product(id=name, title="Spade", mpn="XK-900") for name in ("b", "a", "c")]
    index([*twins, Product(id="d", title="Spade XK-900 XK-900")], tmp_path / "idx", kept_encoder(["Spade"]))
    pipeline = open_index(tmp_path / "idx")
    found = retrieve(pipeline.live.view, "XK-900", 10)
    places, scores = found.fused(Fusion("minmax"))
    assert [found.ids[place] for place in places.tolist()] == ["a", "b", "c", "d"]
    assert scores[0] == scores[1] == scores[2] > scores[3]
    pipeline.close()


def test_lifting_puts_them_above_all_and_keeps_their_order() -> None:
    found = Candidates(("a", "b", "c", "d"), np.arange(4), {}, identified=frozenset({1, 3}))
    places, scores = found.identified_first(
        RankedPlaces(np.array([0, 3, 2, 1]), np.array([5.0, 2.0, 1.0, -7.0]))
    )
    assert places.tolist() == [3, 1, 0, 2]
    assert scores.tolist() == [15.0, 6.0, 5.0, 1.0]
    nobody = Candidates(("a", "b"), np.arange(2), {})
    ranked = RankedPlaces(np.array([1, 0]), np.array([1.0, 0.5]))
    assert [part.tolist() for part in nobody.identified_first(ranked)] == [[1, 0], [1.0, 0.5]]
