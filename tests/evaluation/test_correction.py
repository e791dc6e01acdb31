import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilth.errors import InputError
from tilth.evaluation.correction import benjamini_hochberg, holm

p_values = st.lists(st.floats(0, 1), max_size=30).map(np.array)


def test_holm_by_hand():
    # Sorted 0.01, 0.02, 0.03, 0.04 times 4, 3, 2, 1: 0.04, 0.06, 0.06, 0.04, of which the last may not fall.
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.6, 0.7]) == pytest.approx([1.0, 1.0])
    assert holm([0.2]) == pytest.approx([0.2])
    assert holm([]).shape == (0,)


def test_benjamini_hochberg_by_hand():
    # Sorted 0.01, 0.02, 0.03, 0.5 times 4, 2, 4/3, 1: 0.04 three times, then 0.5.
    assert benjamini_hochberg([0.5, 0.03, 0.01, 0.02]) == pytest.approx([0.5, 0.04, 0.04, 0.04])
    assert benjamini_hochberg([]).shape == (0,)


@pytest.mark.parametrize("adjust", [holm, benjamini_hochberg])
@given(raw=p_values)
def test_adjusted_values_keep_the_order_and_never_fall_below_the_raw(adjust, raw):
    adjusted = adjust(raw)
    assert ((adjusted >= raw) & (adjusted <= 1)).all()
    assert (np.diff(adjusted[np.argsort(raw)]) >= 0).all()
    assert np.array_equal(adjust(raw[::-1]), adjusted[::-1])


@given(raw=p_values)
def test_holm_lies_between_benjamini_hochberg_and_bonferroni(raw):
    adjusted = holm(raw)
    assert (adjusted >= benjamini_hochberg(raw) - 1e-12).all()
    assert (adjusted <= np.minimum(raw * len(raw), 1) + 1e-12).all()


@pytest.mark.parametrize("adjust", [holm, benjamini_hochberg])
def test_wrong_input_is_named(adjust):
    for raw, message in [([0.5, 1.5], "from 0 to 1"), ([np.nan], "from 0 to 1"), ([[0.5]], "one list")]:
        with pytest.raises(InputError, match=message):
            adjust(raw)
