import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilth.errors import SettingError
from tilth.labelling.bootstrap import Label, independence, label, relevance, relevances, shares
from tilth.labelling.pooling import pool
from tilth.run import make_run

NAMES = st.sampled_from([f"p{n}" for n in range(9)])
RUN = st.dictionaries(
    st.sampled_from(["q1", "q2", "q3"]), st.dictionaries(NAMES, st.floats(-1, 50), max_size=9), max_size=3
).map(lambda scores: make_run("run", scores))
RUNS = st.lists(RUN, min_size=2, max_size=4).map(lambda runs: dict(zip("abcd", runs, strict=False)))


def noisy_rankers(seed=0, rankers=3, queries=30, products=40):
    """Rankers that see, each with an error of its own, which tenth to half of the products is relevant."""
    rng = np.random.default_rng(seed)
    truth = {}
    scores = [{} for _ in range(rankers)]
    for query in range(queries):
        relevant = rng.random(products) < rng.uniform(0.1, 0.5)
        truth |= {(f"q{query}", f"p{n}"): bool(relevant[n]) for n in range(products)}
        for ranker in scores:
            seen = np.clip(0.3 + 0.4 * relevant + 0.2 * rng.standard_normal(products), 0, None)
            best = np.argsort(-seen)[: products // 2]
            ranker[f"q{query}"] = {f"p{n}": float(seen[n]) for n in best}
    return {f"r{n}": make_run("r", ranker) for n, ranker in enumerate(scores)}, truth


def test_a_share_is_the_score_over_the_best_of_the_query():
    a = make_run("a", {"q1": {"x": 8.0, "y": 2.0}, "q2": {"x": 0.5, "y": -0.1}})
    b = make_run("b", {"q1": {"y": 3.0}})
    found = pool({"a": a, "b": b}, 10)
    given_shares = dict(zip(found.pairs, shares(found).tolist(), strict=True))
    assert given_shares == {
        ("q1", "x"): [1, 0], ("q1", "y"): [0.25, 1], ("q2", "x"): [1, 0], ("q2", "y"): [0, 0],
    }  # fmt: skip


def test_rankers_that_say_the_same_share_one_voice():
    one, other = np.array([1.0, 0.0, 1.0, 0.0]), np.array([1.0, 1.0, 0.0, 0.0])
    weights = independence(np.stack([one, one, other], axis=1))
    assert weights.tolist() == pytest.approx([0.5, 0.5, 1.0])


def test_rankers_against_each_other_keep_a_voice_each():
    one = np.array([1.0, 0.0, 1.0, 0.0])
    assert independence(np.stack([one, 1 - one, np.ones(4)], axis=1)).tolist() == pytest.approx([1, 1, 1])


def test_what_both_rankers_put_high_is_likelier_than_what_one_does():
    a = make_run("a", {f"q{n}": {"both": 9.0, "first": 8.0, "low": 1.0} for n in range(5)})
    b = make_run("b", {f"q{n}": {"both": 0.9, "second": 0.8, "low": 0.1} for n in range(5)})
    found = relevances(label(pool({"a": a, "b": b}, 10)))
    assert found["q1", "both"] > found["q1", "first"] > found["q1", "low"]
    assert found["q1", "second"] > found["q1", "low"]


def test_a_query_whose_scores_fall_at_once_has_fewer_relevant_products():
    flat = {f"p{n}": 10 - 0.1 * n for n in range(20)}
    steep = {f"p{n}": 10 / (1 + n) for n in range(20)}
    runs = {name: make_run(name, {"flat": flat, "steep": steep}) for name in ("a", "b")}
    found = relevances(label(pool(runs, 20)))
    assert found["flat", "p10"] > 0.5 > found["steep", "p10"]


def test_a_ranker_that_found_nothing_for_a_query_does_not_lower_it():
    hits = {"x": 9.0, "y": 5.0, "z": 1.0}
    a = make_run("a", {"q1": hits, "q2": hits})
    b = make_run("b", {"q1": hits})
    found = relevances(label(pool({"a": a, "b": a, "silent": b}, 10)))
    assert found["q2", "x"] > 0.5


def test_the_truth_behind_noisy_rankers_is_found_better_than_by_any_of_them():
    from sklearn.metrics import roc_auc_score

    runs, truth = noisy_rankers()
    found = pool(runs, 40)
    relevant = [truth[pair] for pair in found.pairs]
    of_one = [roc_auc_score(relevant, column) for column in shares(found).T]
    assert roc_auc_score(relevant, relevance(found)) > max(of_one) + 0.05


def test_the_surer_a_label_the_oftener_it_is_right():
    runs, truth = noisy_rankers()
    labels = label(pool(runs, 40))
    right = [(each.confidence, (each.grade > 0) == truth[each.query_id, each.product_id]) for each in labels]
    sure = [is_right for confidence, is_right in right if confidence >= 0.9]
    unsure = [is_right for confidence, is_right in right if confidence < 0.7]
    assert np.mean(sure) > 0.85 > np.mean(unsure)


def test_what_the_query_names_is_certain():
    a = make_run("a", {"q1": {"x": 9.0, "y": 1.0}})
    labels = label(pool({"a": a, "b": a}, 10), 5, {"q1": {"y", "elsewhere"}})
    assert labels[1] == Label("q1", "y", 5, 1.0)
    assert relevances(labels)["q1", "y"] == 1


def test_one_ranker_alone_is_refused():
    with pytest.raises(SettingError, match="at least 2 rankers, not 1"):
        label(pool({"a": make_run("a", {"q1": {"x": 1.0}})}, 10))


def test_a_scale_without_a_grade_above_0_is_refused():
    with pytest.raises(SettingError, match="from 1, not 0"):
        label(pool({"a": make_run("a", {}), "b": make_run("b", {})}, 10), 0)


@given(RUNS, st.sampled_from([1, 3, 5]))
def test_grades_and_confidences_follow_the_probability(runs, highest):
    found = pool(runs, 10)
    probabilities = relevance(found)
    labels = label(found, highest)
    assert [(each.query_id, each.product_id) for each in labels] == list(found.pairs)
    assert ((probabilities > 0) & (probabilities < 1)).all()
    for each, p in zip(labels, probabilities.tolist(), strict=True):
        assert each.relevance == pytest.approx(p)
        assert 0.5 <= each.confidence <= 1
        assert 0 <= each.grade <= highest
        assert (each.grade > 0) == (p >= 0.5)
    by_probability = sorted(zip(probabilities.tolist(), (each.grade for each in labels), strict=True))
    grades = [grade for _, grade in by_probability]
    assert grades == sorted(grades)


@given(RUNS)
def test_neither_the_names_of_rankers_nor_the_units_of_scores_matter(runs):
    scaled = {
        f"other {name}": make_run(name, {q: {h.product_id: 4 * h.score for h in run[q]} for q in run})
        for name, run in runs.items()
    }
    assert np.allclose(relevance(pool(runs, 10)), relevance(pool(scaled, 10)))
