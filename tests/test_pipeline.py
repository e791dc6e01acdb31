"""From a query to explained hits: fusion, identifiers first, filters, reasons, times."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shop import SHOP
from tilth.errors import InputError
from tilth.pipeline import Pipeline
from tilth.query import Query
from tilth.ranking import Ranking
from tilth.reranking.behaviour import Behaviour, Counts
from tilth.reranking.feature_names import NAMES
from tilth.retrieval.fusion import Fusion, fuse_hits
from tilth.retrieval.lexical import FIELDS
from tilth.run import Hit

QUERIES = ["tomato manure", "what to put on roses", "секатор", "garden hose 25m", "HU20C", "tomatoe seads"]


@pytest.mark.parametrize("text", QUERIES)
def test_an_answer_holds_the_hits_of_the_run(pipeline: Pipeline, text: str) -> None:
    answer = pipeline.answer(text, 5)
    found = [(hit.product.id, hit.score) for hit in answer.hits]
    assert found == [tuple(hit) for hit in pipeline.search([text], 5)["1"]]
    assert [hit.rank for hit in answer.hits] == list(range(1, len(found) + 1))


@pytest.mark.parametrize("text", QUERIES)
@pytest.mark.parametrize("fusion", [Fusion("rrf", (1.0, 0.5)), Fusion("minmax", (0.3, 0.7))])
def test_the_fused_score_follows_from_the_places(pipeline: Pipeline, text: str, fusion: Fusion) -> None:
    pipeline = Pipeline(pipeline.live, Ranking(fusion))
    found = pipeline.candidates([Query("q", text)])["q"]
    lists = found.seen_by(fusion)
    hits = [
        [Hit(found.ids[place], score) for place, score in zip(*map(list, ranked), strict=True)]
        for ranked in lists.values()
    ]
    fused = dict(fuse_hits(hits, fusion))
    for hit in pipeline.answer(text, 8).hits:
        for name, place in hit.places.items():
            assert found.ids[lists[name].places[place.rank - 1]] == hit.product.id
            assert lists[name].scores[place.rank - 1] == place.score
        if not hit.identified:
            assert hit.score == pytest.approx(fused[hit.product.id])
        assert hit.places


def test_encoders_read_a_misspelt_query_as_it_was_typed(pipeline: Pipeline) -> None:
    typed = "tomatoo manurre"
    assert pipeline.answer(typed, 3).read_as == "tomato manure"
    found = pipeline.candidates([Query("q", typed)])["q"]
    encoder = pipeline.index.legs["dense"].encoder
    assert found.hits("lexical") == pipeline.candidates([Query("q", "tomato manure")])["q"].hits("lexical")
    assert np.array_equal(found.vectors["dense"], encoder.encode_queries([typed])[0])
    fused = found.fused_hits(pipeline.ranking.fusion)
    assert pipeline.search([Query("q", typed)], 3)["q"] == fused[:3]
    (pool,) = pipeline.pools([Query("q", typed)], 3)
    assert pool.product_ids == tuple(hit.product_id for hit in fused[:3])


def test_the_matched_terms_are_in_the_fields_that_are_named(pipeline: Pipeline) -> None:
    (hit,) = pipeline.answer("cow manure 20 kg", 1).hits
    assert hit.product.id == "m1"
    assert set(hit.matched) == {"cow", "manur", "20kg", "20", "kg"}
    assert all(set(fields) <= set(FIELDS) for fields in hit.matched.values())
    assert "type" in hit.matched["manur"]
    assert "type" not in hit.matched["cow"]


@pytest.mark.parametrize("text", ["HU-20/C", "hu20c", "HU 20 C", "2006189781080"])
def test_a_typed_identifier_comes_first(pipeline: Pipeline, text: str) -> None:
    wanted = "s1" if text.isdecimal() else "m1"
    hits = pipeline.answer(text, 3).hits
    assert hits[0].product.id == wanted
    assert hits[0].identified
    assert not any(hit.identified for hit in hits[1:])


def test_words_that_no_product_has_are_read_as_near_ones(pipeline: Pipeline) -> None:
    answer = pipeline.answer("Secaturs, bypass", 1)
    assert answer.read_as == "secateurs, bypass"
    assert answer.hits[0].product.id == "t2"
    assert pipeline.answer("ctrfnjh", 1).hits[0].product.id == "t1"  # секатор, the keyboard left in English


def test_a_query_that_the_encoder_cannot_read_skips_dense_and_says_so(pipeline: Pipeline) -> None:
    answer = pipeline.answer("обрезка роз", 5)
    assert answer.skipped.keys() == {"dense"}
    assert "encode" not in answer.milliseconds
    assert all(set(hit.places) == {"lexical"} for hit in answer.hits)
    assert answer.hits[0].product.id == "t1"
    assert pipeline.answer("pruning roses", 5).skipped == {}


def test_the_time_of_each_stage_is_told(pipeline: Pipeline) -> None:
    stages = list(pipeline.answer("roses", 5).milliseconds)
    assert stages == ["filter", "read", "lexical", "encode", "dense", "fuse", "explain"]
    assert all(value >= 0 for value in pipeline.answer("roses", 5).milliseconds.values())


@pytest.mark.parametrize(
    ("filters", "allowed"),
    [
        ({"brand": "Humus"}, {"m1", "m2"}),
        ({"price": {"lte": 5}}, {"s1"}),
        ({"brand": ["Humus", "Грядка"], "product_type": "Garden > Manures"}, {"m1"}),
        ({"brand": "nobody"}, set()),
    ],
)
def test_hits_satisfy_the_filters_in_both_retrievers(pipeline: Pipeline, filters: dict, allowed: set) -> None:
    run = pipeline.search(QUERIES, 100, filters)
    assert {hit.product_id for hits in run.hits.values() for hit in hits} <= allowed
    everywhere = {hit.product_id for hit in pipeline.search(["manure and tomato seeds"], 100, filters)["1"]}
    assert everywhere == allowed  # dense search ranks every allowed product


def test_a_wrong_filter_is_named(pipeline: Pipeline) -> None:
    with pytest.raises(InputError, match="colour"):
        pipeline.search(["roses"], 5, {"colour": "red"})


def test_pools_hold_the_fused_candidates_in_their_order(pipeline: Pipeline) -> None:
    queries = [Query("a", "tomato manure"), Query("b", "  "), Query("c", "Secaturs, bypass")]
    pools = list(pipeline.pools(queries))
    assert [pool.query_id for pool in pools] == ["a", "c"]  # one without candidates has no pool
    run = pipeline.search(queries, 100)
    for pool in pools:
        assert pool.product_ids == tuple(hit.product_id for hit in run[pool.query_id])
        assert pool.fused.tolist() == [hit.score for hit in run[pool.query_id]]
        assert pool.features.shape == (len(pool.product_ids), len(NAMES))
        assert pool.features[:, NAMES.index("fused_rank")].tolist() == list(range(1, len(pool.fused) + 1))
    (corrected,) = pipeline.pools([Query("c", "secateurs, bypass")])
    places = {product_id: place for place, product_id in enumerate(corrected.product_ids)}
    same = [places[product_id] for product_id in pools[1].product_ids]
    lexical = [name.startswith("lexical_") for name in NAMES]  # the spelling is read as searched
    np.testing.assert_array_equal(pools[1].features[:, lexical], corrected.features[same][:, lexical])


def test_a_pool_has_a_depth_and_knows_of_clicks(pipeline: Pipeline) -> None:
    query = [Query("q", "tomato feed")]
    (whole,), (top,) = pipeline.pools(query), pipeline.pools(query, 2)
    assert top.product_ids == whole.product_ids[:2]
    assert np.isnan(whole.features[:, NAMES.index("query_clicks")]).all()
    clicked = Behaviour.of({("Tomato feed", whole.product_ids[1]): Counts(9.0, 4.0)})
    (known,) = pipeline.pools(query, behaviour=clicked)
    clicks = known.features[:, NAMES.index("query_clicks")].tolist()
    assert clicks[1] == 4.0
    assert [number for number, value in enumerate(clicks) if value == value] == [1]


def test_texts_are_numbered_and_queries_keep_their_ids(pipeline: Pipeline) -> None:
    run = pipeline.search([Query("a", "roses"), Query("b", "hose")], 2)
    assert list(run) == ["a", "b"]
    assert list(pipeline.search(["roses", "hose"], 2)) == ["1", "2"]
    assert list(run.hits.values()) == list(pipeline.search(["roses", "hose"], 2).hits.values())


@given(text=st.text(max_size=40), k=st.integers(0, 10))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_typed_is_answered_and_explained(pipeline: Pipeline, text: str, k: int) -> None:
    answer = pipeline.answer(text, k)
    assert answer.query == text
    assert len(answer.hits) <= min(k, len(SHOP))
    assert all(hit.places for hit in answer.hits)
