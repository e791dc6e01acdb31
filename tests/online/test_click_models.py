import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilth.errors import InputError, SettingError
from tilth.feedback import Impression
from tilth.online.click_counts import ClickCounts, count_clicks
from tilth.online.click_models import em_step, fit_position_model, log_likelihood, maximise, perplexity
from tilth.online.propensities import harvest_propensities, shuffled_propensities
from tilth.online.simulation import Pages, PositionUsers, Traffic, attractions, examination, simulate
from tilth.qrels import Qrels
from tilth.query import Query


@st.composite
def logs(draw):
    pages = st.permutations(["a", "b", "c"])
    clicks = st.sets(st.integers(1, 3)).map(lambda ranks: tuple(sorted(ranks)))
    page = st.builds(Impression, st.sampled_from("qr"), st.just("t"), pages.map(tuple), clicks)
    return draw(st.lists(page, min_size=1, max_size=12))


def plain_em_step(log, alpha, gamma):
    """The same step, session by session as the book has it."""
    attracted, examined, shown, ranks = {}, {}, {}, {}
    for page in log:
        for rank, product_id in enumerate(page.shown):
            pair = (page.query_id, product_id)
            a, g = alpha[pair], gamma[rank]
            click = rank + 1 in page.clicked
            attracted[pair] = attracted.get(pair, 0) + (1 if click else (1 - g) * a / (1 - g * a))
            examined[rank] = examined.get(rank, 0) + (1 if click else (1 - a) * g / (1 - g * a))
            shown[pair] = shown.get(pair, 0) + 1
            ranks[rank] = ranks.get(rank, 0) + 1
    return (
        {pair: total / shown[pair] for pair, total in attracted.items()},
        {rank: total / ranks[rank] for rank, total in examined.items()},
    )


@settings(deadline=None)
@given(log=logs(), data=st.data())
def test_a_step_is_that_of_plain_loops(log, data):
    counts = count_clicks(log)
    inside = st.floats(0.01, 0.99)
    alpha = np.array([data.draw(inside) for _ in counts.pairs])
    gamma = np.array([data.draw(inside) for _ in range(counts.depth)])
    a, g = plain_em_step(log, dict(zip(counts.pairs, alpha, strict=True)), dict(enumerate(gamma)))
    found_a, found_g = em_step(counts, alpha, gamma)
    assert found_a == pytest.approx([a[pair] for pair in counts.pairs])
    assert found_g == pytest.approx([g[rank] for rank in range(counts.depth)])


@settings(deadline=None)
@given(log=logs())
def test_no_step_lowers_the_likelihood(log):
    _, _, likelihoods = maximise(count_clicks(log), 60, 0.0)
    assert all(later >= earlier - 1e-9 for earlier, later in pairwise(likelihoods))


def test_the_likelihood_of_three_impressions():
    counts = count_clicks([Impression("q", "t", ("a",), c) for c in ((1,), (), ())])
    assert log_likelihood(counts, np.array([0.25])) == pytest.approx(math.log(0.25) + 2 * math.log(0.75))
    assert log_likelihood(count_clicks([Impression("q", "t", ("a",))]), np.array([0.0])) == 0


TRUE_GAMMA = np.array([1, 0.6, 0.3, 0.2])


def expected_counts(impressions=1000.0):
    """Every product at every rank, and exactly as many clicks as are expected."""
    alpha = np.linspace(0.1, 0.9, 6)
    pair, rank = (each.ravel() for each in np.meshgrid(np.arange(6), np.arange(4), indexing="ij"))
    shown = np.full(len(pair), impressions)
    pairs = tuple(("q", str(n)) for n in range(6))
    return ClickCounts(pairs, {"q": "t"}, pair, rank, shown, shown * alpha[pair] * TRUE_GAMMA[rank]), alpha


def test_without_noise_the_truth_is_found():
    counts, alpha = expected_counts()
    model = fit_position_model(counts, iterations=5000, tolerance=0.0)
    assert model.examination == pytest.approx(TRUE_GAMMA, abs=1e-3)
    assert list(model.attraction.values()) == pytest.approx(alpha, abs=1e-3)
    assert harvest_propensities(counts, iterations=5000, tolerance=0.0) == pytest.approx(TRUE_GAMMA, abs=1e-3)
    assert shuffled_propensities(counts) == pytest.approx(TRUE_GAMMA)


@pytest.fixture(scope="module")
def planted():
    """A simulated log with a tenth of swapped pages, and later sessions of the same users."""
    rng = np.random.default_rng(3)
    queries = tuple(Query(str(q), "t") for q in range(40))
    pages = Pages(queries, tuple(tuple(f"{q}-{n}" for n in range(5)) for q in range(40)))
    qrels = Qrels(
        {q.query_id: {p: int(rng.integers(4)) for p in pages.shown[n]} for n, q in enumerate(queries)}
    )
    attraction, users = attractions(pages, qrels, rng, spread=0.3), PositionUsers(examination(5))
    log, later, shuffled = (
        count_clicks(simulate(pages, attraction, traffic, users, rng))
        for traffic in (Traffic(40_000, swapped=0.1), Traffic(4_000), Traffic(8_000, shuffled=1.0))
    )
    truth = {
        (query.query_id, product_id): attraction[q, n]
        for q, query in enumerate(queries)
        for n, product_id in enumerate(pages.shown[q])
    }
    return log, later, shuffled, truth


def test_planted_parameters_are_recovered(planted):
    log, _, shuffled, truth = planted
    model = fit_position_model(log)
    assert model.examination == pytest.approx(examination(5), rel=0.12)
    often = log.by_pair(log.impressions) > 1000
    errors = [
        model.attraction[pair] - truth[pair] for pair, seen in zip(log.pairs, often, strict=True) if seen
    ]
    assert len(errors) > 20
    assert np.abs(errors).mean() < 0.04
    assert harvest_propensities(log) == pytest.approx(examination(5), rel=0.15)
    assert shuffled_propensities(shuffled) == pytest.approx(examination(5), rel=0.12)


def test_held_out_clicks_surprise_the_model_less_than_rates_by_rank(planted):
    log, later, _, truth = planted
    model = fit_position_model(log)
    rates = log.by_rank(log.clicks) / log.by_rank(log.impressions)
    fitted = perplexity(later, model.click_probabilities(later, unknown=0.5))
    best = np.array([truth[pair] for pair in later.pairs])[later.pair] * examination(5)[later.rank]
    assert (fitted < perplexity(later, rates[later.rank])).all()
    assert fitted == pytest.approx(perplexity(later, best), abs=0.02)


def test_perplexity_of_a_coin_is_2_and_of_certainty_1():
    counts = count_clicks([Impression("q", "t", ("a", "b"), (2,)), Impression("q", "t", ("a", "b"), (2,))])
    assert perplexity(counts, np.array([0.5, 1.0])) == pytest.approx([2, 1], abs=1e-5)


def test_a_model_predicts_unknown_pairs_and_no_unknown_ranks():
    model = fit_position_model(expected_counts()[0])
    page = count_clicks([Impression("new", "t", ("x", "y"))])
    assert model.click_probabilities(page, unknown=0.5) == pytest.approx(0.5 * model.examination[:2])
    with pytest.raises(InputError, match="the model knows 4 ranks"):
        model.click_probabilities(count_clicks([Impression("q", "t", tuple("abcde"))]), unknown=0.5)


def test_a_log_of_one_order_cannot_be_told_apart():
    log = count_clicks([Impression("q", "t", ("a", "b"), (1,))] * 9)
    for estimate in (fit_position_model, harvest_propensities):
        with pytest.raises(InputError, match="rank 2"):
            estimate(log)


def test_shuffled_pages_without_a_click_say_nothing():
    with pytest.raises(InputError, match="nothing was clicked on the shuffled pages"):
        shuffled_propensities(count_clicks([Impression("q", "t", ("a",))]))


def test_no_iteration_is_no_fit():
    with pytest.raises(SettingError, match="at least 1 iteration"):
        fit_position_model(expected_counts()[0], iterations=0)
