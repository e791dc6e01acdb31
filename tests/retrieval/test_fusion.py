import json
import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilth.errors import InputError, SettingError
from tilth.retrieval.fusion import (
    METHODS,
    Fusion,
    RankedPlaces,
    fitted,
    fuse_hits,
    fuse_places,
    grid,
    min_max,
    reciprocal_ranks,
    shares,
    z_scores,
)
from tilth.run import Hit, ranked

products = st.sampled_from([f"p{n}" for n in range(12)])
scores = st.floats(-1e6, 1e6)
hit_lists = st.dictionaries(products, scores, max_size=12).map(ranked)
methods = st.sampled_from(METHODS)


def order(hits):
    return [hit.product_id for hit in hits]


def test_reciprocal_ranks_by_hand():
    fused = fuse_hits([ranked({"a": 9, "b": 8}), ranked({"b": 0.3})], Fusion(rrf_k=60))
    assert fused == (Hit("b", 1 / 62 + 1 / 61), Hit("a", 1 / 61))


def test_min_max_by_hand():
    lists = [ranked({"a": 10, "b": 6, "c": 2}), ranked({"c": 0.9, "d": 0.1})]
    fused = dict(fuse_hits(lists, Fusion("minmax", (0.75, 0.25))))
    assert fused == pytest.approx({"a": 0.75, "b": 0.375, "c": 0.25, "d": 0.0})


def test_z_scores_by_hand():
    values, missing = z_scores(np.array([4.0, 2.0, 0.0]))
    z = math.sqrt(1.5)
    assert values.tolist() == pytest.approx([z, 0.0, -z])
    assert missing == pytest.approx(-z)
    fused = dict(fuse_hits([ranked({"a": 4.0, "b": 2.0, "c": 0.0}), ranked({"d": 5.0})], Fusion("zscore")))
    assert fused == pytest.approx({"a": z - 1, "b": -1.0, "c": -z - 1, "d": -z})


def test_shares_of_the_largest_by_hand():
    lists = [ranked({"a": 10, "b": 6, "c": 2}), ranked({"c": 0.8, "d": 0.4, "a": -0.1})]
    fused = dict(fuse_hits(lists, Fusion("tmm", (0.75, 0.25))))
    assert fused == pytest.approx({"a": 0.75, "b": 0.45, "c": 0.4, "d": 0.125})
    assert shares(np.array([0.0, -2.0])).values.tolist() == [0, 0]


@pytest.mark.parametrize("normalise", [reciprocal_ranks, min_max, z_scores, shares])
def test_an_empty_list_says_nothing(normalise):
    values, missing = normalise(np.empty(0))
    assert (len(values), missing) == (0, 0.0)


@pytest.mark.parametrize("equal", [[-3.0], [0.1, 0.1, 0.1]])
def test_where_scores_do_not_differ_what_was_found_stands_above_what_was_not(equal):
    assert set(min_max(np.array(equal)).values.tolist()) == {1.0}
    values, missing = z_scores(np.array(equal))
    assert (set(values.tolist()), missing) == ({0.0}, -1.0)


@pytest.mark.parametrize("method", METHODS)
def test_a_single_hit_counts(method):
    dense = ranked({"p0": 1.0, "p1": 0.9, "p2": 0.8, "code": 0.7})
    with_it = order(fuse_hits([ranked({"code": 17.0}), dense], Fusion(method)))
    assert with_it.index("code") < order(dense).index("code")


@pytest.mark.parametrize("low", [5e-324, 1e-200, 1e300])
@pytest.mark.parametrize("method", METHODS)
def test_extreme_scores_neither_overflow_nor_vanish(method, low):
    fused = fuse_hits([ranked({"a": 2 * low, "b": low, "c": 0.0})], Fusion(method))
    assert order(fused) == ["a", "b", "c"]
    assert all(math.isfinite(hit.score) for hit in fused)


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("method", METHODS)
def test_a_score_that_is_not_finite_is_named(method, score):
    with pytest.raises(InputError, match="field 'p1': a score to be fused is not finite"):
        fuse_hits([(Hit("p1", score), Hit("p2", 0.0))], Fusion(method))


@given(lists=st.lists(hit_lists, max_size=3), method=methods)
def test_the_result_holds_every_product_once_in_order(lists, method):
    fused = fuse_hits(lists, Fusion(method))
    assert sorted(order(fused)) == sorted({hit.product_id for hits in lists for hit in hits})
    assert list(fused) == sorted(fused, key=lambda hit: (-hit.score, hit.product_id))
    assert all(math.isfinite(hit.score) for hit in fused)


@given(hits=hit_lists, method=methods)
def test_one_list_alone_keeps_its_order_but_for_scores_too_close_to_tell(hits, method):
    fused = dict(fuse_hits([hits], Fusion(method)))
    for better, worse in pairwise(hits):
        assert fused[better.product_id] >= fused[worse.product_id]


@given(lists=st.lists(hit_lists, min_size=2, max_size=2), w=st.floats(0.01, 10))
def test_rrf_sees_ranks_alone(lists, w):
    stretched = [[Hit(p, math.atan(s / 1e6) * 3 + 7) for p, s in hits] for hits in lists]
    fusion = Fusion("rrf", (w, 1.0))
    assert fuse_hits(lists, fusion) == fuse_hits(stretched, fusion)


@given(lists=st.lists(hit_lists, min_size=2, max_size=2), method=st.sampled_from(METHODS[1:]))
def test_weighted_sums_do_not_see_a_change_of_scale(lists, method):
    scaled = [[Hit(p, s * 4) for p, s in hits] for hits in lists]  # a power of two is exact
    assert fuse_hits(lists, Fusion(method)) == fuse_hits(scaled, Fusion(method))


@given(lists=st.permutations([0, 1, 2]), data=st.data(), method=methods)
def test_lists_may_change_places_with_their_weights(lists, data, method):
    hits = [data.draw(hit_lists) for _ in range(3)]
    weights = (0.5, 0.2, 0.3)
    one = dict(fuse_hits(hits, Fusion(method, weights)))
    other = dict(fuse_hits([hits[i] for i in lists], Fusion(method, tuple(weights[i] for i in lists))))
    assert one == pytest.approx(other, abs=1e-9)


@given(a=hit_lists, b=hit_lists, method=methods)
def test_a_list_of_weight_0_is_left_out(a, b, method):
    assert fuse_hits([a, b], Fusion(method, (1.0, 0.0))) == fuse_hits([a], Fusion(method, (1.0,)))


@pytest.mark.parametrize(
    ("method", "missing"), [("rrf", 0.0), ("minmax", 0.0), ("tmm", 0.0), ("zscore", -0.75)]
)
def test_what_is_always_in_the_result_has_what_the_lists_say_of_a_missing_product(method, missing):
    held = RankedPlaces(np.array([3, 1]), np.array([4.0, 2.0]))  # z-scores 1 and -1
    empty = RankedPlaces(np.empty(0, np.intp), np.empty(0))
    fusion = Fusion(method, (0.75, 0.25))
    plain, more = (fuse_places([held, empty], 5, fusion, always) for always in ((), (0, 3)))
    assert dict(zip(*map(list, more), strict=True)) == {
        **dict(zip(*map(list, plain), strict=True)),
        0: missing,
    }
    assert np.all(np.diff(more.scores) <= 0)


@pytest.mark.parametrize(
    "fusion", [Fusion(), Fusion("minmax", (0.35, 0.65)), Fusion("zscore", (1, 2, 3)), Fusion(rrf_k=10)]
)
def test_a_fusion_survives_json(fusion):
    assert Fusion.from_dict(json.loads(json.dumps(fusion.to_dict()))) == fusion
    assert len(str(fusion).split()) == 1


def test_missing_keys_have_defaults():
    assert Fusion.from_dict({}) == Fusion()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"method": "borda"}, "'borda' is not one of rrf, minmax, zscore, tmm"),
        ({"method": ["rrf"]}, "is not one of"),
        ({"weights": [0.5, -0.1]}, "weights must be finite numbers from 0"),
        ({"weights": [0.5, math.nan]}, "weights must be finite numbers"),
        ({"weights": ["0.5"]}, "weights must be finite numbers"),
        ({"weights": [True]}, "weights must be finite numbers"),
        ({"weights": 0.5}, "weights must be a list"),
        ({"weights": [0, 0]}, "weights are all 0"),
        ({"rrf_k": 0}, "rrf_k must be a finite number above 0"),
        ({"rrf_k": None}, "rrf_k must be a finite number above 0"),
        ({"k": 60}, "no setting 'k'"),
    ],
)
def test_wrong_settings_are_named(data, message):
    with pytest.raises(SettingError, match=message):
        Fusion.from_dict(data)


def test_wrong_numbers_of_lists_are_named():
    with pytest.raises(SettingError, match="2 weights for 1 lists"):
        fuse_hits([()], Fusion("minmax", (0.5, 0.5)))


@pytest.mark.parametrize(("lists", "steps"), [(1, 20), (2, 20), (3, 4)])
def test_the_grid_starts_plain_and_covers_the_weights(lists, steps):
    tried = grid(lists, steps)
    assert tried[0] == Fusion()
    assert len({str(fusion) for fusion in tried}) == len(tried)  # names tell them apart
    assert {fusion.method for fusion in tried} == (set(METHODS) if lists > 1 else {"rrf", "minmax"})
    weighted = [fusion.weights for fusion in tried[1:]]
    assert all(len(w) == lists and sum(w) == pytest.approx(1) for w in weighted)
    assert {w for w in weighted if w.count(0) == lists - 1} == {
        tuple(float(i == j) for i in range(lists)) for j in range(lists)
    }
    among_some = {f.method for f in tried if f.weights.count(0) == 1}  # of three lists, one is left out
    assert lists < 3 or among_some == set(METHODS)


def test_the_grids_that_tuning_tries_are_small():
    assert [len(grid(2)), len(grid(3, 10))] == [117, 382]


@pytest.mark.parametrize(
    ("weights", "lists", "expected"),
    [
        ((), 3, ()),  # equal, however many there are
        ((1.0, 0.5), 2, (1.0, 0.5)),
        ((1.0, 0.5), 3, (1.0, 0.5, 0.0)),  # made before there was a third list
        ((1.0, 0.5, 0.25), 2, (1.0, 0.5)),  # the third list is gone
        ((0.0, 0.0, 1.0), 2, ()),  # it was the only one that counted
        ((0.0, 0.5), 1, ()),
        ((1.0,), 0, ()),
    ],
)
def test_a_fusion_is_fitted_to_the_lists_that_there_are(weights, lists, expected):
    fusion = Fusion("zscore", weights, 5)
    assert fitted(fusion, lists) == Fusion("zscore", expected, 5)


@given(
    weights=st.lists(st.sampled_from([0.0, 0.5, 1.0]), max_size=5).filter(lambda w: not w or any(w)),
    lists=st.integers(0, 5),
)
def test_a_fitted_fusion_has_a_weight_a_list_and_fits_already(weights, lists):
    found = fitted(Fusion("minmax", tuple(weights)), lists)
    assert fitted(found, lists) == found
    assert len(found.weights_of(lists)) == lists
    if len(weights) <= lists:
        assert [w for w in found.weights if w] == [w for w in weights if w]


def test_a_grid_of_nothing_is_refused():
    for lists, steps in [(0, 20), (2, 0)]:
        with pytest.raises(SettingError, match="at least 1 list and 1 step"):
            grid(lists, steps)
