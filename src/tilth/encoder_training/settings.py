"""How an encoder is trained; everything but the products, the teacher and the seed's outcome is here."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any

from tilth.errors import SettingError

NESTED = (64, 128, 256, 384)  # dimensions that are of use by themselves
SHARES: Mapping[str, float] = MappingProxyType(
    {"title": 0.5, "description": 0.2, "attributes": 0.2, "names": 0.1, "kin": 0.0, "asked": 0.2}
)
MOST_SEED = 2**63 - 1  # what JSON readers have room for
_MOST_SHARE = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderSettings:
    """Settings of one training.

    Raises:
        SettingError: one is out of its range.
    """

    dimension: int = 256  # D, one of NESTED; those below it are trained with it
    vocabulary: int = 30_000  # tokens at most, learned from the products
    sample: int = 100_000  # products that are trained on, at most
    shares: Mapping[str, float] = field(default_factory=lambda: dict(SHARES))  # of pairs, by their source
    batch: int = 512  # pairs that are told apart at a time
    steps: int = 2_000  # at most: fewer where the products are few, or held-out queries gain nothing more
    learning_rate: float = 0.01
    temperature: float = 0.05
    dropped: float = 0.5  # share of a passage's tokens that a step does not see
    slips: float = 0.2  # share of queries with a slip of the keyboard
    strange: float = 0.4  # share of queries with a word or two that have nothing to do with the product
    hard_negatives: float = 0.0  # share of queries that are also told from the nearest wrong products
    teaching: float = 3.0  # weight of the teacher's similarities beside the pairs
    taught: int = 60_000  # pseudo-queries that a teacher encodes
    seed: int = 0

    def __post_init__(self) -> None:
        if self.dimension not in NESTED:
            raise SettingError(f"dimension is {self.dimension}; it must be one of {_listed(NESTED)}")
        for name in ("vocabulary", "sample", "batch", "steps", "taught"):
            if getattr(self, name) < 1:
                raise SettingError(f"{name} is {getattr(self, name)}; it must be from 1")
        for name in ("dropped", "slips", "strange", "hard_negatives"):
            if not 0 <= getattr(self, name) < 1:
                raise SettingError(f"{name} is {getattr(self, name)}; it must lie from 0 to below 1")
        for name in ("learning_rate", "temperature"):
            if not 0 < getattr(self, name) < math.inf:
                raise SettingError(f"{name} is {getattr(self, name)}; it must be a number above 0")
        if not 0 <= self.teaching < math.inf:
            raise SettingError(f"teaching is {self.teaching}; it must be a number from 0")
        if not 0 <= self.seed <= MOST_SEED:
            raise SettingError(f"seed is {self.seed}; it must be from 0 to {MOST_SEED}")
        self._check_shares()

    def _check_shares(self) -> None:
        for name, share in self.shares.items():
            if name not in SHARES:
                raise SettingError(f"no source of pairs {name!r}; there are {_listed(tuple(SHARES))}")
            if not 0 <= share <= _MOST_SHARE:
                raise SettingError(f"the share of {name} is {share}; it must be from 0 to {_MOST_SHARE:,}")
        if not any(share for name, share in self.shares.items() if name != "asked"):
            raise SettingError("the shares of pairs from the catalogue are all 0: give one more")

    @property
    def dimensions(self) -> tuple[int, ...]:
        """The dimensions that are trained at once, the largest first."""
        return tuple(d for d in reversed(NESTED) if d <= self.dimension)

    def to_json(self) -> dict[str, Any]:
        """Return plain data, for the folder of the encoder."""
        return {each.name: getattr(self, each.name) for each in fields(self)} | {"shares": dict(self.shares)}


def _listed(values: tuple[object, ...]) -> str:
    return ", ".join(map(str, values))
