import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tilth.errors import IndexFormatError, InputError, SettingError
from tilth.reranking.answerability import (
    SIGNALS,
    Answerability,
    Costs,
    LeastPrecision,
    MostRefused,
    fit_answerability,
    query_signals,
)

UNKNOWN = SIGNALS.index("unknown_words")
chances = st.sampled_from([0.1, 0.2, 0.5, 0.7, 0.99])
judged = st.lists(st.tuples(chances, st.booleans()), min_size=1, max_size=20)


def case(queries=300, seed=0):
    """Signals, some missing, of queries of which two thirds have an answer; the last signal often tells."""
    rng = np.random.default_rng(seed)
    answerable = rng.random(queries) < 2 / 3
    signals = rng.random((queries, 6)) * 0.4 + answerable[:, None] * 0.3
    signals[:, UNKNOWN] = np.where(answerable, 0.1, 0.6) + rng.normal(0, 0.1, queries)
    signals[rng.random((queries, 6)) < 0.1] = np.nan
    return signals, answerable


def test_signals_by_hand():
    known = query_signals(np.array([0.2, 0.9, 0.4, 0.5]), lexical=0.7, cosine=0.3, unknown_words=0.5)
    assert known == pytest.approx([0.9, 0.6, 0.4, 0.7, 0.3, 0.5])
    assert query_signals(np.array([0.6]))[:3] == pytest.approx([0.6, 0.2, 0.6])
    nothing = query_signals(np.array([]))
    assert nothing[:3].tolist() == [0, 0, 0]
    assert np.isnan(nothing[3:]).all()


def test_a_decision_says_why():
    found = fit_answerability(*case())
    good = found.decide(query_signals(np.full(5, 0.8), lexical=0.6, cosine=0.6, unknown_words=0.0))
    bad = found.decide(query_signals(np.full(5, 0.1), lexical=0.2, cosine=0.2, unknown_words=0.9))
    assert (good.answered, bad.answered) == (True, False)
    assert bad.probability < bad.threshold == good.threshold <= good.probability
    assert list(good.signals) == list(SIGNALS)
    assert good.signals["cosine"] == 0.6
    assert math.isnan(found.decide(query_signals(np.array([0.5]))).signals["cosine"])


def test_the_stored_numbers_are_the_regression_of_scikit_learn():
    signals, answerable = case()
    theirs = make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression()).fit(signals, answerable)
    ours = fit_answerability(signals, answerable)
    assert ours.probability(signals) == pytest.approx(theirs.predict_proba(signals)[:, 1], abs=1e-3)
    assert len(ours.weights) == 6
    assert (ours.answerable, ours.unanswerable) == (answerable.sum(), (~answerable).sum())


def test_a_signal_that_no_query_has_changes_nothing():
    signals, answerable = case()
    signals[:, 4] = np.nan
    found = fit_answerability(signals, answerable)
    assert found.weights[4] == 0
    one = signals[:1].copy()
    one[0, 4] = 0.9
    assert found.probability(one) == pytest.approx(found.probability(signals[:1]))


def test_few_answerable_queries_are_refused_also_among_new_ones():
    found = fit_answerability(*case(1000, seed=1))
    signals, answerable = case(4000, seed=2)
    refused = found.probability(signals) < found.threshold
    assert refused[answerable].mean() == pytest.approx(0.05, abs=0.03)
    assert refused[~answerable].mean() > 0.9


def test_a_wanted_precision_is_reached_on_new_queries():
    signals, answerable = case(4000, seed=4)
    refused = {}
    for share in (0.8, 0.99):
        found = fit_answerability(*case(1000, seed=3), LeastPrecision(share))
        refused[share] = found.probability(signals) < found.threshold
        assert (~answerable)[refused[share]].mean() > share - 0.03
    assert refused[0.8].sum() > refused[0.99].sum()


def test_costs_set_the_threshold_alone():
    assert fit_answerability(*case(), Costs(answered=1, refused=3)).threshold == 0.25


def test_without_unanswerable_queries_the_best_probability_decides():
    signals = np.stack([query_signals(np.array([n / 100])) for n in range(1, 101)])
    found = fit_answerability(signals, np.ones(100))
    assert (found.weights, found.threshold) == ((), 0.06)
    decisions = [found.decide(one) for one in signals]
    assert sum(not decision.answered for decision in decisions) == 5
    assert [decision.probability for decision in decisions] == pytest.approx(signals[:, 0].tolist())
    few = np.arange(100) < 9
    assert fit_answerability(signals, ~few).weights == ()  # nine are too few to learn from


@given(values=judged, share=st.floats(0, 1))
def test_no_more_than_the_share_is_refused_and_no_higher_threshold_would_do(values, share):
    probabilities, answerable = map(np.array, zip(*values, strict=True))
    if not answerable.any():
        answerable[0] = True
    most = share * answerable.sum() + 1e-6
    threshold = MostRefused(share).threshold(probabilities, answerable)
    assert (probabilities[answerable] < threshold).sum() <= most
    higher = [level for level in probabilities[answerable] if level > threshold]
    assert all((probabilities[answerable] < level).sum() > most for level in higher)


@given(values=judged, share=st.floats(0, 1))
def test_the_threshold_of_a_precision_is_the_best_of_all(values, share):
    probabilities, answerable = map(np.array, zip(*values, strict=True))

    def good(threshold):
        refused = probabilities < threshold
        return refused.any() and (~answerable)[refused].sum() >= share * refused.sum()

    threshold = LeastPrecision(share).threshold(probabilities, answerable)
    levels = [level for level in [*probabilities, 1.0] if good(level)]
    assert threshold == max(levels, default=0.0)


@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_probabilities_are_probabilities_whatever_is_missing(data):
    found = data.draw(st.sampled_from(MODELS))
    number = st.one_of(st.floats(-1e6, 1e6), st.just(math.nan))
    signals = np.array(data.draw(st.lists(number, min_size=6, max_size=6)))
    decision = found.decide(signals)
    assert 0 <= decision.probability <= 1
    assert decision.answered == (decision.probability >= found.threshold)
    assert found.decide(signals).probability == decision.probability


MODELS = [
    Answerability(0.4, (0.5,) * 6, (3.0, 1.0, 0.0, 2.0, 1.0, -4.0), -1.0, 20, 20),
    Answerability(0.4, (0.5,) * 6, (), 0.0, 20, 0),
]


def test_an_answerability_is_plain_json_and_repeats():
    signals, answerable = case()
    for labels in (answerable, np.ones(300)):
        found = fit_answerability(signals, labels)
        assert found == fit_answerability(signals, labels)
        assert Answerability.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_damaged_data_are_refused_by_name():
    good = MODELS[0].to_json()
    damages = [
        (None, "an object"),
        (good | {"signals": ["cosine"]}, "'signals'"),
        (good | {"means": [0.5]}, "'means'"),
        (good | {"weights": [1.0, 2.0]}, "'weights'"),
        (good | {"weights": [math.inf] * 6}, "'weights'"),
        (good | {"threshold": None}, "'threshold'"),
        (good | {"unanswerable": 1.5}, "'unanswerable'"),
        ({key: value for key, value in good.items() if key != "intercept"}, "'intercept' is missing"),
    ]
    for data, message in damages:
        with pytest.raises(IndexFormatError, match=message):
            Answerability.from_json(data)


def test_wrong_input_is_named():
    signals, answerable = case()
    for labels, wanted, message in [
        (np.zeros(300), None, "there are 0 and 300"),
        (np.ones(300), LeastPrecision(0.9), "10 without; there are 300 and 0"),
        (np.ones(300), Costs(1, 1), "10 without"),
        (answerable[:5], None, "do not fit together"),
    ]:
        with pytest.raises(InputError, match=message):
            fit_answerability(signals, labels, wanted)
    with pytest.raises(InputError, match="a query has the signals best_probability"):
        MODELS[0].decide(np.ones(5))
    with pytest.raises(InputError, match="infinite"):
        MODELS[0].decide(np.full(6, np.inf))
    for kind, values in [(MostRefused, [1.5]), (LeastPrecision, [-0.1]), (Costs, [0, 0]), (Costs, [-1, 1])]:
        with pytest.raises(SettingError, match="must be"):
            kind(*values)
