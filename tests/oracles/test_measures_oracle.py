"""Measures against scikit-learn, ir_measures' own means and their definitions written out."""

import ir_measures
import numpy as np
import pytest
from sklearn.metrics import average_precision_score, ndcg_score

from tilth.evaluation.measures import judged_only, measure, parse_measures
from tilth.qrels import Qrels
from tilth.run import make_run

PRODUCTS = [f"p{n}" for n in range(40)]
MEASURES = parse_measures(["nDCG@10", "R@20", "RR@10", "P@5", "Success@3", "Judged@10", "RR", "AP"])


def random_case(seed):
    """Ties, queries that the run lacks, unjudged products, queries without a relevant one."""
    rng = np.random.default_rng(seed)
    grades, scores = {}, {}
    for n in range(30):
        judged = rng.choice(PRODUCTS, size=rng.integers(1, 20), replace=False)
        grades[f"q{n}"] = {str(p): int(rng.choice([0, 0, 1, 2, 3])) for p in judged}
        if rng.random() < 0.9:
            held = rng.choice(PRODUCTS, size=rng.integers(0, 40), replace=False)
            scores[f"q{n}"] = {str(p): float(rng.integers(0, 8)) for p in held}
    return make_run("random", scores), Qrels(grades)


def by_definition(ranking, grades, rel=1):
    """What has no relevant product to be found has 0, where the definition would divide by 0."""
    gains = [grades.get(p, 0) for p in ranking]
    relevant = [gain >= rel for gain in gains]
    total = sum(grade >= rel for grade in grades.values())
    first = next((rank for rank, hit in enumerate(relevant, start=1) if hit), None)
    discounts = 1 / np.log2(np.arange(2, 12))
    best = sorted(grades.values(), reverse=True)[:10]
    ideal = np.dot(best, discounts[: len(best)])
    hits_so_far = np.cumsum(relevant)
    return {
        "nDCG@10": np.dot(gains[:10], discounts[: len(gains[:10])]) / ideal if ideal else 0,
        "R@20": sum(relevant[:20]) / total if total else 0,
        "RR@10": 1 / first if first and first <= 10 else 0,
        "P@5": sum(relevant[:5]) / 5,
        "Success@3": float(any(relevant[:3])),
        "Judged@10": np.mean([p in grades for p in ranking[:10]]) if ranking else 0,
        "RR": 1 / first if first else 0,
        "AP": sum(hits_so_far[i] / (i + 1) for i, hit in enumerate(relevant) if hit) / total if total else 0,
    }


@pytest.mark.parametrize("seed", range(4))
def test_measures_follow_their_definitions(seed):
    run, qrels = random_case(seed)
    found = measure(run, qrels, MEASURES)
    assert found.query_ids == tuple(qrels)
    for query_id, row in zip(found.query_ids, found.values, strict=True):
        ranking = [hit.product_id for hit in run.hits.get(query_id, ())]
        expected = by_definition(ranking, qrels[query_id])
        assert dict(zip(found.measures, row, strict=True)) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(4))
def test_judged_only_measures_are_those_of_the_condensed_ranking(seed):
    run, qrels = random_case(seed)
    found = measure(run, qrels, judged_only(MEASURES))
    for query_id, row in zip(found.query_ids, found.values, strict=True):
        grades = qrels[query_id]
        condensed = [hit.product_id for hit in run.hits.get(query_id, ()) if hit.product_id in grades]
        expected = by_definition(condensed, grades)
        del expected["Judged@10"]
        assert list(row) == pytest.approx(list(expected.values()))


@pytest.mark.parametrize("seed", range(4))
def test_means_are_those_of_ir_measures_where_scores_do_not_tie(seed):
    rng = np.random.default_rng(seed)
    _, qrels = random_case(seed)
    qrels = Qrels(qrels.grades | {"none": dict.fromkeys(PRODUCTS[:9], 0), "lost": {"p1": 0}})
    answered = [
        "none",
        *(q for q in [*qrels, "unjudged"] if q not in ("none", "lost") and rng.random() < 0.9),
    ]
    scores = {q: dict(zip(PRODUCTS, rng.permutation(40).tolist(), strict=True)) for q in answered}
    names = ["R(rel=2)@20", "P(rel=2)@5", "nDCG(judged_only=True)@10", "P(judged_only=True)@5"]
    measures = (*MEASURES, *parse_measures(names))
    expected = ir_measures.calc_aggregate(measures, dict(qrels.grades), scores)
    assert measure(make_run("r", scores), qrels, measures).mean() == pytest.approx(
        {str(m): value for m, value in expected.items()}
    )


def test_against_scikit_learn_where_every_product_is_judged_and_ranked():
    rng = np.random.default_rng(5)
    grades = rng.integers(0, 4, size=(20, len(PRODUCTS)))
    scores = rng.random((20, len(PRODUCTS)))
    run = make_run(
        "r", {f"q{n}": dict(zip(PRODUCTS, row.tolist(), strict=True)) for n, row in enumerate(scores)}
    )
    qrels = Qrels({f"q{n}": dict(zip(PRODUCTS, row.tolist(), strict=True)) for n, row in enumerate(grades)})
    found = measure(run, qrels, parse_measures(["nDCG@10", "nDCG", "AP"]))
    assert found.mean() == pytest.approx(
        {
            "nDCG@10": ndcg_score(grades, scores, k=10),
            "nDCG": ndcg_score(grades, scores),
            "AP": np.mean([average_precision_score(g > 0, s) for g, s in zip(grades, scores, strict=True)]),
        }
    )
