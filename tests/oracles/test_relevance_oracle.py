"""Measures of pairs, corrections and calibrations against definitions, scikit-learn and SciPy."""

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics
from sklearn.calibration import CalibratedClassifierCV, calibration_curve
from sklearn.frozen import FrozenEstimator
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from tilth.evaluation.classification import measure_grades, measure_relevance
from tilth.evaluation.correction import benjamini_hochberg
from tilth.evaluation.query_draws import call_draws, class_draws, confusions, draw_queries, rank_draws
from tilth.evaluation.regression import measure_regression
from tilth.evaluation.reliability import measure_reliability
from tilth.reranking.calibration import fit_calibration


def case(seed, pairs=200):
    """Scores with ties, and what is relevant."""
    rng = np.random.default_rng(seed)
    relevant = rng.random(pairs) < 0.3
    return np.round(relevant + rng.normal(0, 1, pairs), 1), relevant


@pytest.mark.parametrize("seed", range(5))
def test_ranking_measures_from_their_definitions(seed):
    scores, relevant = case(seed)
    found = measure_relevance(scores, relevant, threshold=0.5)
    above = scores[relevant][:, None] - scores[~relevant]
    assert found.roc_auc == pytest.approx(((above > 0) + (above == 0) / 2).mean())
    steps = [scores >= level for level in np.unique(scores)[::-1]]
    recalls = np.array([(called & relevant).sum() / relevant.sum() for called in steps])
    precisions = np.array([(called & relevant).sum() / called.sum() for called in steps])
    assert found.average_precision == pytest.approx((np.diff(recalls, prepend=0) * precisions).sum())


@pytest.mark.parametrize("seed", range(3))
def test_balanced_accuracy(seed):
    scores, relevant = case(seed)
    found = measure_relevance(scores, relevant, threshold=0.5)
    assert found.balanced_accuracy == pytest.approx(metrics.balanced_accuracy_score(relevant, scores >= 0.5))
    grades, predicted = np.random.default_rng(seed).integers(4, size=(2, 50))
    theirs = metrics.balanced_accuracy_score(grades, predicted)
    assert measure_grades(predicted, grades).balanced_accuracy == pytest.approx(theirs)


def weights_of(drawn, sizes):
    """Yield each draw with the weight of each pair in it."""
    for place, draw in enumerate(drawn):
        yield place, np.repeat(draw, sizes)


def test_draws_of_relevance_are_weighted_measures_of_scikit_learn():
    scores, relevant = case(0)
    called, sizes = scores >= 0.5, np.array([0, 30, 50, 1, 79, 40])
    (drawn,) = draw_queries(6, 1, seed=0, resamples=20)
    tables = confusions(relevant.astype(int), called.astype(int), sizes, 2)
    ours = call_draws(drawn, tables) | rank_draws(drawn, scores, relevant, sizes)
    for place, weights in weights_of(drawn, sizes):
        truth = {"y_true": relevant, "sample_weight": weights}
        theirs = {
            "accuracy": metrics.accuracy_score(y_pred=called, **truth),
            "balanced_accuracy": metrics.balanced_accuracy_score(y_pred=called, **truth),
            "precision": metrics.precision_score(y_pred=called, **truth),
            "recall": metrics.recall_score(y_pred=called, **truth),
            "f1": metrics.f1_score(y_pred=called, **truth),
            "roc_auc": metrics.roc_auc_score(y_score=scores, **truth),
            "average_precision": metrics.average_precision_score(y_score=scores, **truth),
        }
        assert {name: values[place] for name, values in ours.items()} == pytest.approx(theirs)


def test_draws_of_grades_are_measures_of_the_drawn_pairs():
    grades, predicted = np.random.default_rng(1).integers(4, size=(2, 40))
    sizes = np.full(8, 5)
    (drawn,) = draw_queries(8, 1, seed=0, resamples=20)
    ours = class_draws(drawn, confusions(grades, predicted, sizes, 4))
    for place, weights in weights_of(drawn, sizes):
        rows = np.repeat(np.arange(40), weights)
        theirs = measure_grades(predicted[rows], grades[rows])
        for name, values in ours.items():
            assert values[place] == pytest.approx(getattr(theirs, name))


def test_regression_from_its_definitions():
    rng = np.random.default_rng(0)
    grades = rng.integers(4, size=100)
    predicted = grades + rng.normal(0, 1, 100)
    found, off = measure_regression(predicted, grades), predicted - grades
    assert found.rmse == pytest.approx(np.sqrt((off**2).mean()))
    assert found.mape == pytest.approx((np.abs(off) / np.maximum(grades, 1))[grades > 0].mean())
    assert found.r2 == pytest.approx(1 - (off**2).sum() / ((grades - grades.mean()) ** 2).sum())


@pytest.mark.parametrize("size", [1, 7, 40])
def test_benjamini_hochberg(size):
    raw = np.round(np.random.default_rng(size).random(size) ** 3, 2)
    assert benjamini_hochberg(raw) == pytest.approx(stats.false_discovery_control(raw, method="bh"))


def test_the_points_of_the_reliability_diagram():
    rng = np.random.default_rng(0)
    probabilities = rng.random(500)
    relevant = rng.random(500) < probabilities**2
    found = measure_reliability(probabilities, relevant)
    for table, strategy in ((found.equal_width, "uniform"), (found.equal_mass, "quantile")):
        shares, means = calibration_curve(relevant, probabilities, n_bins=10, strategy=strategy)
        assert [one.share_relevant for one in table] == pytest.approx(shares)
        assert [one.mean_probability for one in table] == pytest.approx(means)


def deciding_by_score():
    """Return a classifier whose decision is the score that it is given."""
    model = LogisticRegression()
    model.classes_, model.n_features_in_ = np.array([False, True]), 1
    model.coef_, model.intercept_ = np.ones((1, 1)), np.zeros(1)
    return FrozenEstimator(model)


@pytest.mark.parametrize("seed", range(3))
def test_platt_is_the_sigmoid_of_scikit_learn(seed):
    scores, relevant = case(seed)
    theirs = CalibratedClassifierCV(deciding_by_score(), method="sigmoid", ensemble=False)
    theirs.fit(scores[:, None], relevant)
    ours = fit_calibration(scores, relevant, [len(scores)], method="platt").probability(scores)
    assert ours == pytest.approx(theirs.predict_proba(scores[:, None])[:, 1], abs=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_isotonic_is_that_of_scikit_learn(seed):
    scores, relevant = case(seed)
    bounds = {"y_min": 1 / ((~relevant).sum() + 2), "y_max": (relevant.sum() + 1) / (relevant.sum() + 2)}
    theirs = IsotonicRegression(**bounds, out_of_bounds="clip").fit(scores, relevant)
    asked = np.linspace(scores.min() - 1, scores.max() + 1, 301)
    ours = fit_calibration(scores, relevant, [len(scores)], method="isotonic")
    assert ours.probability(asked) == pytest.approx(theirs.predict(asked), abs=1e-12)
