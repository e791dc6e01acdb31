from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilth.online import quantiles
from tilth.online.quantiles import ERROR, Quantiles

SHARES = (0.5, 0.95, 0.99, 1.0)


def exact(numbers: list[float]) -> list[float]:
    return [float(np.quantile(numbers, share, method="inverted_cdf")) for share in SHARES]


def test_nothing_has_no_quantiles():
    assert Quantiles().at(SHARES) == {}


def test_names_and_keys_stay_apart():
    sketch = Quantiles()
    sketch.add("a", {"total": 10.0, "read": 0.0})
    sketch.add("b", {"total": 1000.0})
    sketch.add("a", {"total": 20.0})
    found = sketch.at([0.5, 1.0])
    assert list(found) == ["a", "b"]
    assert list(found["a"]) == ["total", "read"]
    assert found["a"]["total"] == (pytest.approx((10, 20), rel=ERROR), 2)
    assert found["a"]["read"] == ((0, 0), 1)
    assert found["b"]["total"] == (pytest.approx((1000, 1000), rel=ERROR), 1)


@given(st.lists(st.floats(0, 1e12), min_size=1, max_size=200), st.integers(1, 50))
def test_quantiles_are_within_their_error(numbers, waiting):
    sketch = Quantiles()
    with mock.patch.object(quantiles, "_WAITING", waiting):
        for number in numbers:
            sketch.add("k", {"n": number, "other": 1.0})
    summary = sketch.at(SHARES)["k"]["n"]
    assert summary.n == len(numbers)
    assert summary.quantiles == pytest.approx(exact(numbers), rel=ERROR * (1 + 1e-9), abs=1e-6)


def test_asking_twice_and_in_between_changes_nothing():
    numbers = np.random.default_rng(0).lognormal(2, 1, 2_000).tolist()
    whole, parts = Quantiles(), Quantiles()
    for number in numbers:
        whole.add(None, {"n": number})
        parts.add(None, {"n": number})
        if number > 20:
            parts.at(SHARES)
    assert whole.at(SHARES) == parts.at(SHARES) == whole.at(SHARES)
    assert whole.at(SHARES)[None]["n"].quantiles == pytest.approx(exact(numbers), rel=ERROR)
