"""Settings of a training: their ranges, what an error says, and the dimensions that are trained at once."""

import math
import re
from types import MappingProxyType

import orjson
import pytest

from tilth.encoder_training.settings import NESTED, SHARES, EncoderSettings
from tilth.errors import SettingError

COUNTS = ("vocabulary", "sample", "batch", "steps", "taught")
PARTS = ("dropped", "slips", "strange", "hard_negatives")
NUMBERS = ("learning_rate", "temperature")


@pytest.mark.parametrize("name", COUNTS)
def test_counts_are_from_one(name: str) -> None:
    assert getattr(EncoderSettings(**{name: 1}), name) == 1
    for value in (0, -5):
        with pytest.raises(SettingError, match=f"^{name} is {value}; it must be from 1$"):
            EncoderSettings(**{name: value})


@pytest.mark.parametrize("name", PARTS)
def test_parts_are_below_one(name: str) -> None:
    assert getattr(EncoderSettings(**{name: 0.0}), name) == 0.0
    assert getattr(EncoderSettings(**{name: 0.999}), name) == 0.999
    for value in (-0.1, 1.0, 2, math.nan):
        with pytest.raises(SettingError, match=f"^{name} is {value}; it must lie from 0 to below 1$"):
            EncoderSettings(**{name: value})


@pytest.mark.parametrize("name", NUMBERS)
def test_rates_are_above_zero(name: str) -> None:
    assert getattr(EncoderSettings(**{name: 1e-9}), name) == 1e-9
    for value in (0, -1.0, math.inf, math.nan):
        with pytest.raises(SettingError, match=f"^{name} is {value}; it must be a number above 0$"):
            EncoderSettings(**{name: value})


def test_teaching_is_from_zero() -> None:
    assert EncoderSettings(teaching=0).teaching == 0
    for value in (-0.5, math.inf, math.nan):
        with pytest.raises(SettingError, match=f"^teaching is {value}; it must be a number from 0$"):
            EncoderSettings(teaching=value)


def test_a_seed_is_from_zero() -> None:
    assert EncoderSettings(seed=2**40).seed == 2**40
    for seed in (-1, 2**63):
        with pytest.raises(SettingError, match=f"^seed is {seed}; it must be from 0 to {2**63 - 1}$"):
            EncoderSettings(seed=seed)


@pytest.mark.parametrize("dimension", NESTED)
def test_the_dimensions_are_those_up_to_the_one_that_is_named(dimension: int) -> None:
    dimensions = EncoderSettings(dimension=dimension).dimensions
    assert dimensions[0] == dimension
    assert set(dimensions) == {each for each in NESTED if each <= dimension}
    assert list(dimensions) == sorted(dimensions, reverse=True)


@pytest.mark.parametrize("dimension", [0, -64, 100, 2 * NESTED[-1]])
def test_other_dimensions_are_refused(dimension: int) -> None:
    listed = ", ".join(map(str, NESTED))
    with pytest.raises(SettingError, match=f"^dimension is {dimension}; it must be one of {listed}$"):
        EncoderSettings(dimension=dimension)


def test_shares_are_of_known_sources() -> None:
    with pytest.raises(SettingError, match=r"^no source of pairs 'clicks'; there are .*title.*asked"):
        EncoderSettings(shares={"title": 1.0, "clicks": 0.5})
    for value in (-0.1, 1e308, math.inf, math.nan):
        message = re.escape(f"the share of title is {value}; it must be from 0 to 1,000,000")
        with pytest.raises(SettingError, match=f"^{message}$"):
            EncoderSettings(shares={"title": value})


@pytest.mark.parametrize("shares", [{}, {"title": 0.0}, {"title": 0.0, "asked": 1.0}])
def test_the_catalogue_itself_has_a_share(shares: dict[str, float]) -> None:
    with pytest.raises(SettingError, match=r"^the shares of pairs from the catalogue are all 0: give one"):
        EncoderSettings(shares=shares)
    assert EncoderSettings(shares={**shares, "kin": 0.1}).shares["kin"] == 0.1


@pytest.mark.parametrize("shares", [{"title": 0.25, "asked": 1.0}, MappingProxyType({"names": 2}), SHARES])
def test_settings_are_plain_data(shares: dict[str, float]) -> None:
    settings = EncoderSettings(shares=shares, dimension=NESTED[0], seed=7)
    plain = orjson.loads(orjson.dumps(settings.to_json()))
    assert plain["shares"] == shares
    assert EncoderSettings(**plain) == settings
