import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilth.sample.families import draw_family, draw_variants
from tilth.sample.vocabulary import LANGUAGES, read_vocabulary


@given(st.integers(0, 2**32), st.sampled_from(list(LANGUAGES)))
def test_variants_are_of_the_type(seed, language):
    rng = random.Random(seed)
    family = draw_family(rng, read_vocabulary(language), 0)
    variants = list(draw_variants(rng, family))
    assert 1 <= len(variants) <= 6
    for size, values in variants:
        assert size in family.type.sizes
        assert all(values[axis.name] in axis.words for axis in family.type.axes)
        fixed = {name: value for name, value in values.items() if name != family.type.varies}
        assert fixed.items() <= family.values.items()


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_type_and_brand_comes_up(language):
    vocabulary, rng = read_vocabulary(language), random.Random(0)
    families = [draw_family(rng, vocabulary, n) for n in range(5000)]
    assert {f.type.key for f in families} == vocabulary.types.keys()
    brands = Counter(f.brand.name for f in families)
    assert set(brands) == {b.name for trade in vocabulary.brands.values() for b in trade}
