import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilth.errors import IndexFormatError, InputError, SettingError
from tilth.reranking.calibration import Calibration, Isotonic, Platt, fit_calibration, sigmoid


def case(pairs, seed=0, chance=lambda score: 1 / (1 + np.exp(2 - 2 * score))):
    """Scores, and what is relevant with the chance that a function of the score gives."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(0.5, 1.5, pairs)
    return scores, rng.random(pairs) < chance(scores)


def plateau(scores):
    return np.where(np.abs(scores) < 1.5, 0.5, np.where(scores > 0, 0.98, 0.02))


def test_platt_finds_the_sigmoid_that_made_the_labels():
    scores, relevant = case(20_000)
    found = fit_calibration(scores, relevant, [20_000], method="platt")
    assert (found.curve.slope, found.curve.intercept) == pytest.approx((2, -2), abs=0.1)
    assert found.method == "platt"
    assert (found.relevant, found.irrelevant) == (relevant.sum(), (~relevant).sum())


def test_isotonic_by_hand():
    # Labels by score 0 0.. 1 0 1 1..: the one that descends is pooled with its neighbour, to 1/2.
    scores = np.arange(24.0)
    relevant = np.array([0] * 11 + [1, 0] + [1] * 11)
    found = fit_calibration(scores, relevant, [24], method="isotonic")
    assert found.curve.scores == (0, 10, 11, 12, 13, 23)
    assert found.curve.probabilities == pytest.approx((1 / 14, 1 / 14, 0.5, 0.5, 13 / 14, 13 / 14))
    asked = np.array([-5.0, 10.5, 11.5, 99.0])
    assert found.probability(asked) == pytest.approx([1 / 14, (1 / 14 + 0.5) / 2, 0.5, 13 / 14])


def test_separable_labels_do_not_become_certain():
    scores, relevant = np.arange(40.0), np.arange(40) >= 20
    for method in ("platt", "isotonic"):
        chances = fit_calibration(scores, relevant, [40], method=method).probability(scores)
        assert 0 < chances[0] < 0.1
        assert 0.9 < chances[-1] < 1


def test_the_method_is_chosen_on_queries_held_out():
    plain = fit_calibration(*case(3000), [30] * 100)
    stepped = fit_calibration(*case(3000, chance=plateau), [30] * 100)
    assert (plain.method, stepped.method) == ("platt", "isotonic")
    for found in (plain, stepped):
        assert found.log_loss[found.method] == min(found.log_loss.values())
    alone = fit_calibration(*case(3000, chance=plateau), [3000])  # one query cannot be held out
    assert (alone.method, alone.log_loss) == ("platt", {})


def test_few_labels_are_for_platt():
    found = fit_calibration(*case(999, chance=plateau), [9] * 111)
    assert (found.method, found.log_loss) == ("platt", {})


def test_a_choice_repeats_and_ignores_queries_without_products():
    scores, relevant = case(1500)
    one = fit_calibration(scores, relevant, [15] * 100)
    assert one == fit_calibration(scores, relevant, [15] * 100)
    assert one == fit_calibration(scores, relevant, [0, 0, 15] + [15, 0] * 99)


def test_scores_that_are_higher_for_what_is_irrelevant_give_one_probability():
    scores, relevant = case(400)
    for worthless in (-scores, np.full(400, 0.1)):
        chances = fit_calibration(worthless, relevant, [400], method="platt").probability(worthless)
        assert chances == pytest.approx(np.full(400, relevant.mean()), abs=0.005)


@settings(max_examples=25, deadline=None)
@given(data=st.data(), method=st.sampled_from(["platt", "isotonic"]))
def test_order_is_kept_up_to_ties_and_probabilities_are_probabilities(data, method):
    number = st.floats(-1e6, 1e6, width=32)
    scores = np.array(data.draw(st.lists(number, min_size=24, max_size=24)))
    relevant = np.array(data.draw(st.permutations([True] * 12 + [False] * 12)))
    found = fit_calibration(scores, relevant, [24], method=method)
    asked = np.sort(np.concatenate([scores, data.draw(st.lists(number, max_size=20))]))
    chances = found.probability(asked)
    assert ((chances >= 0) & (chances <= 1)).all()
    assert (np.diff(chances) >= -1e-12).all()


@pytest.mark.parametrize("method", ["platt", "isotonic", None])
def test_a_calibration_is_plain_json(method):
    scores, relevant = case(1200)
    found = fit_calibration(scores, relevant, [12] * 100, method=method)
    read = Calibration.from_json(json.loads(json.dumps(found.to_json())))
    assert read == found
    assert np.array_equal(read.probability(scores), found.probability(scores))


def test_damaged_data_are_refused_by_name():
    platt = Calibration(Platt(1.0, 0.0), 10, 10).to_json()
    isotonic = Calibration(Isotonic((0.0, 1.0), (0.2, 0.8)), 10, 10).to_json()
    damages = [
        ([], "an object"),
        ({}, "'method' is missing"),
        (platt | {"method": "guess"}, "'method'"),
        (platt | {"curve": None}, "an object"),
        (platt | {"curve": {"slope": -1.0, "intercept": 0.0}}, "'slope'"),
        (platt | {"curve": {"slope": float("nan"), "intercept": 0.0}}, "'slope'"),
        (platt | {"curve": {"slope": 1.0, "intercept": "0"}}, "'intercept'"),
        (platt | {"relevant": -1}, "'relevant'"),
        (platt | {"irrelevant": True}, "'irrelevant'"),
        (platt | {"log_loss": {"platt": "low"}}, "'log_loss'"),
        (isotonic | {"curve": {"scores": [], "probabilities": []}}, "'scores'"),
        (isotonic | {"curve": {"scores": [1.0, 1.0], "probabilities": [0.2, 0.8]}}, "'scores'"),
        (isotonic | {"curve": {"scores": [0.0, 1.0], "probabilities": [0.8, 0.2]}}, "'probabilities'"),
        (isotonic | {"curve": {"scores": [0.0, 1.0], "probabilities": [0.2]}}, "'probabilities'"),
        (isotonic | {"curve": {"scores": [0.0, 1.0], "probabilities": [0.2, 1.8]}}, "'probabilities'"),
        (isotonic | {"curve": {"scores": 3, "probabilities": [0.2, 0.8]}}, "'scores'"),
    ]
    for data, message in damages:
        with pytest.raises(IndexFormatError, match=message):
            Calibration.from_json(data)


def test_wrong_input_is_named():
    scores, relevant = np.arange(30.0), np.arange(30) < 15
    for positives in (0, 9, 21, 30):
        with pytest.raises(InputError, match=f"there are {positives} and {30 - positives}"):
            fit_calibration(scores, np.arange(30) < positives, [30])
    for sizes in ([29], [[30]], [31, -1]):
        with pytest.raises(InputError, match="do not fit together"):
            fit_calibration(scores, relevant, sizes)
    with pytest.raises(InputError, match="do not fit together"):
        fit_calibration(scores, relevant[:29], [30])
    with pytest.raises(InputError, match="true and false"):
        fit_calibration(scores, np.arange(30), [30])
    with pytest.raises(SettingError, match="'spline' is not one of platt, isotonic"):
        fit_calibration(scores, relevant, [30], method="spline")
    for bad in (np.array([1.0, np.nan]), np.array([np.inf])):
        with pytest.raises(InputError, match="not finite"):
            Calibration(Platt(1.0, 0.0), 10, 10).probability(bad)
    with pytest.raises(InputError, match="one score a product"):
        Calibration(Platt(1.0, 0.0), 10, 10).probability(np.ones((2, 2)))


def test_a_sigmoid_does_not_overflow():
    with np.errstate(all="raise", under="ignore"):
        assert sigmoid(np.array([-1e4, 0.0, 1e4])) == pytest.approx([0, 0.5, 1])
