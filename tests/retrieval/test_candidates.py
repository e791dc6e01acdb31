"""Candidates of both retrievers: numbered by product id, cut at the depth, identified ones first."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from fakes import kept_encoder, own_encoder
from shop import SHOP, index
from tilth.catalog import Product
from tilth.pipeline import Pipeline, open_index
from tilth.query import Query
from tilth.retrieval.candidates import NOTHING, Candidates, retrieve
from tilth.retrieval.deadline import Costs, Deadline
from tilth.retrieval.encoder import EncoderFacts, StaticEncoder
from tilth.retrieval.encoder_kept import KeptEncoder
from tilth.retrieval.fusion import Fusion, Method, RankedPlaces, fitted, fuse_hits
from tilth.retrieval.stopwatch import Stopwatch
from tilth.retrieval.view import View
from tilth.run import Hit

FUSIONS = [
    Fusion(),
    Fusion("rrf", (1.0, 0.0)),
    Fusion("minmax", (0.3, 0.7)),
    Fusion("zscore", (1.0, 1.0)),
    Fusion("tmm"),
]
TEXTS = ["tomato manure", "garden hose 25m", "секатор", "HU20C", "roses", "slug steel", "nothing known"]


WORDS = ["tomato", "manure", "hose", "roses", "slug", "Секатор", "hu20c"]


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
    if fusion.adds_scores:  # every tie at the cut, and every cosine, whichever list found the product
        everything = view.retrievers()["lexical"].search([Query("q", text)], len(SHOP))["q"]
        last = min((hit.score for hit in hits["lexical"]), default=0)
        hits["lexical"] = tuple(hit for hit in everything if hit.score >= last)
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
    assert ranked.keys() == fused.keys() | set(identified)
    assert np.all(np.diff(scores) <= 0)
    for name in ranked.keys() - set(identified):
        assert ranked[name] == pytest.approx(fused[name])


def test_cosines_are_compared_only_where_scores_are_added(view: View) -> None:
    assert tuple(retrieve(view, "tomato manure", 1).scores) == view.lists
    assert not retrieve(view, "tomato manure", 1, complete=False).scores


def test_a_fusion_of_scores_knows_how_near_a_product_is_that_the_words_found(tmp_path: Path) -> None:
    both, near, words = "Tomato", "Hose Tomato", "Tomato hose hose hose feed"
    shop = [Product(id=str(n), title=title) for n, title in enumerate([both, near, words])]
    index(shop, tmp_path / "idx", kept_encoder(["Tomato", "Hose", "feed"]))
    pipeline = open_index(tmp_path / "idx")
    found = retrieve(pipeline.live.view, "Tomato", 1)
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


@pytest.mark.parametrize(
    ("named", "other"), [("Rose feed, sack", "Bottle 1000 ml"), ("Грунт", "Лейка 1000 мл")]
)
@pytest.mark.parametrize("fusion", [*FUSIONS, Fusion("minmax", (0.0, 1.0))], ids=str)
def test_a_typed_identifier_is_found_however_many_products_outrank_it(
    tmp_path: Path, fusion: Fusion, named: str, other: str
) -> None:
    shop = [Product(id="1000", title=named), *(Product(id=f"x{n}", title=other) for n in range(9))]
    index(shop, tmp_path / "idx", kept_encoder(other.split()))
    pipeline = open_index(tmp_path / "idx")
    found = retrieve(pipeline.live.view, "1000", 3, complete=fusion.adds_scores)
    assert all("1000" not in [hit.product_id for hit in found.hits(name)] for name in found.lists)
    assert [found.ids[place] for place in found.identified] == ["1000"]
    first, second, *_ = found.fused_hits(fusion)
    assert first.product_id == "1000"
    assert first.score > second.score
    pipeline.close()


def test_a_typed_identifier_has_the_score_that_its_cosine_gives_it(tmp_path: Path) -> None:
    others = [Product(id=f"x{n}", title="Hose clip CE285A", mpn=f"ZZ-{n}") for n in range(9)]
    named = Product(id="named", title="Hose long and green and CE", mpn="CE285A", description="no clip " * 20)
    index([named, *others], tmp_path / "idx", kept_encoder(["CE285A", "Hose", "clip"]))
    pipeline = open_index(tmp_path / "idx")
    found = retrieve(pipeline.live.view, "CE285A", 3)
    place = found.ids.index("named")
    assert found.identified == {place}
    assert place not in found.seen_by(Fusion("tmm"))["lexical"].places
    dense = found.seen_by(Fusion("tmm"))["dense"]
    cosines = dict(zip(dense.places.tolist(), dense.scores.tolist(), strict=True))
    (hit, *rest) = found.fused_hits(Fusion("tmm", (0.5, 0.5)))
    share = max(cosines[place], 0.0) / max(cosines.values())
    plain = [0.5 * share, *(other.score for other in rest)]  # the others have both of their shares
    assert hit.score == pytest.approx(0.5 * share + 1 + max(plain) - min(plain))
    pipeline.close()


def test_a_typed_identifier_of_what_may_not_be_returned_is_not_found(tmp_path: Path) -> None:
    shop = [
        Product(id="1000", title="Rose feed", brand="Humus"),
        *(Product(id=f"x{n}", title="Bottle 1000 ml", brand="Glass") for n in range(9)),
    ]
    index(shop, tmp_path / "idx", kept_encoder(["Bottle", "ml"]))
    pipeline = open_index(tmp_path / "idx")
    view = pipeline.live.view
    glass = retrieve(view, "1000", 3, view.allowed({"brand": "Glass"}))
    assert "1000" not in glass.ids
    assert glass.identified == frozenset()
    humus = retrieve(view, "1000", 3, view.allowed({"brand": "Humus"}))
    assert (list(humus.ids), humus.identified) == (["1000"], frozenset({0}))
    pipeline.delete(["1000"])
    pipeline.refresh()
    gone = retrieve(pipeline.live.view, "1000", 3)
    assert "1000" not in gone.ids
    assert gone.identified == frozenset()
    pipeline.close()


@pytest.mark.parametrize("fusion", [Fusion("minmax", (0.0, 1.0)), Fusion("rrf", (0.0, 1.0))], ids=str)
@pytest.mark.parametrize("text", ["25 m 1 l", "секатор"])
def test_lexical_hits_come_where_the_lists_with_a_weight_were_not_asked(
    tmp_path: Path, fusion: Fusion, text: str
) -> None:
    index(SHOP, tmp_path / "idx", kept_encoder(["tomato"]), own=own_encoder(["tomato", "секатор"]))
    pipeline = open_index(tmp_path / "idx")
    found = retrieve(pipeline.live.view, text, 10)
    assert "dense" in found.skipped
    fused = found.fused_hits(fusion)
    assert fused == fuse_hits([found.hits("lexical")], Fusion(fusion.method)) != ()
    pipeline.close()


def test_lexical_hits_come_where_time_left_out_the_lists_with_a_weight(view: View) -> None:
    costs = Costs()
    for name in view.legs:
        costs.took(name, 1000)
    fusion = Fusion("minmax", (0.0, 1.0))
    late = retrieve(view, "tomato manure", 10, deadline=Deadline(10, costs))
    assert [hit.product_id for hit in late.fused_hits(fusion)] == [h.product_id for h in late.hits("lexical")]
    assert late.hits("lexical")
    in_time = retrieve(view, "tomato manure", 10)
    assert in_time.fused_hits(fusion) == fuse_hits(
        [tuple(Hit(in_time.ids[p], s) for p, s in zip(*in_time.seen_by(fusion)["dense"], strict=True))],
        Fusion("minmax"),
    )


@pytest.mark.parametrize("method", ["minmax", "tmm", "zscore"])
@pytest.mark.parametrize(
    ("title", "near"), [("Tomato seeds packet", "Tomato qa qb"), ("томат семена", "томат qa")]
)
def test_products_of_one_lexical_score_have_one_share_also_beyond_the_cut(
    tmp_path: Path, method: Method, title: str, near: str
) -> None:
    shop = [Product(id=f"x{n}", title=title if n < 7 else near) for n in range(10)]
    index(shop, tmp_path / "idx", kept_encoder(title.split()))  # which has no vectors for qa and qb
    pipeline = open_index(tmp_path / "idx")
    found = retrieve(pipeline.live.view, title.split()[0], 5)
    fusion = Fusion(method, (0.5, 0.5))
    assert [hit.product_id for hit in found.hits("lexical")] == ["x0", "x1", "x2", "x3", "x4"]
    lexical = found.seen_by(fusion)["lexical"]
    assert [found.ids[place] for place in lexical.places.tolist()] == [f"x{n}" for n in range(10)]
    assert len(set(lexical.scores.tolist())) == 1
    fused = found.fused_hits(fusion)
    assert [hit.product_id for hit in fused] == ["x7", "x8", "x9", *(f"x{n}" for n in range(7))]
    assert len({hit.score for hit in fused[3:]}) == 1
    assert [len(ranked.places) for ranked in found.seen_by(Fusion()).values()] == [5, 5]
    pipeline.close()


@pytest.mark.parametrize("text", ["rose", "роза"])
def test_an_encoder_to_which_a_query_is_nothing_is_not_asked(tmp_path: Path, text: str) -> None:
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "tomato": 1, text: 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    table = np.zeros((3, 16), np.float32)
    table[1] = 1.0
    facts = EncoderFacts("words", "1", "static", 16, 512)
    StaticEncoder(tokenizer, table, facts).save(tmp_path / "encoder")
    shop = [Product(id=str(n), title=title) for n, title in enumerate(["tomato", "tomato seeds", text])]
    index(shop, tmp_path / "idx", KeptEncoder(tmp_path / "encoder", facts.to_json(), 0))
    pipeline = open_index(tmp_path / "idx")
    assert pipeline.index.legs["dense"].knows(text)
    found = retrieve(pipeline.live.view, text, 10)
    assert list(found.ids) == ["2"]
    assert found.hits("dense") == ()
    assert found.skipped == {"dense": "the encoder knows nothing of this query"}
    assert found.vectors == {}
    assert retrieve(pipeline.live.view, f"{text} tomato", 10).skipped == {}
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
