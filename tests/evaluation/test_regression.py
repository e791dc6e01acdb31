import json
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilth.errors import InputError
from tilth.evaluation.regression import measure_regression

pairs = st.lists(st.tuples(st.floats(-5, 10), st.integers(0, 5)), min_size=1, max_size=20)


def test_errors_by_hand():
    found = measure_regression([1.0, 2.0, 2.0, 0.0], [0, 2, 3, 1])
    assert (found.pairs, found.above_zero) == (4, 3)
    assert found.mse == pytest.approx(3 / 4)
    assert found.rmse == pytest.approx((3 / 4) ** 0.5)
    assert found.mae == pytest.approx(3 / 4)
    assert found.mape == pytest.approx((0 + 1 / 3 + 1) / 3)  # without the pair of grade 0
    assert found.r2 == pytest.approx(1 - 3 / 5)  # the grades' squared distances from 1.5 sum to 5
    assert json.loads(json.dumps(found.to_json()))["above_zero"] == 3


def test_what_is_undefined_has_no_value_and_gives_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert measure_regression([0.5, 0.0], [0, 0]).mape is None
        assert measure_regression([0.5, 0.0], [2, 2]).r2 is None
        assert measure_regression([2.0], [2]).r2 is None


@given(pairs)
def test_errors_are_ordered_and_perfect_predictions_have_none(values):
    predicted, grades = map(list, zip(*values, strict=True))
    found = measure_regression(predicted, grades)
    assert 0 <= found.mae <= found.rmse + 1e-12
    assert found.rmse == pytest.approx(found.mse**0.5)
    assert found.r2 is None or found.r2 <= 1
    perfect = measure_regression(grades, grades)
    assert (perfect.mse, perfect.mae, perfect.mape or 0.0) == (0, 0, 0)
    assert perfect.r2 in (1.0, None)


def test_wrong_input_is_named():
    for predicted, grades, message in [([], [], "no pair"), ([1.0], [1, 2], "one value a pair")]:
        with pytest.raises(InputError, match=message):
            measure_regression(predicted, grades)
    with pytest.raises(InputError, match="not finite"):
        measure_regression([np.inf], [1])
