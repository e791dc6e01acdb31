"""How far the products of a shop have moved from those that its own encoder was trained on.

An encoder has a vector for each word that it was trained on. A word that came later is put together from
parts, whose vectors were learned in other words: the product is still found by its other words, less well.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tilth.encoder_training.of_index import encoder_of
from tilth.encoder_training.texts import sampled
from tilth.encoder_training.vocabulary import whole_words
from tilth.errors import InputError
from tilth.retrieval.encoder import StaticEncoder
from tilth.retrieval.generations import open_generation
from tilth.retrieval.index import check_store
from tilth.store import Store

# Of the share of whole words. Titles have some seven words: when the share falls by 0.05, one title in three
# has a new word in parts.
MOST_FALL = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """What an encoder was trained on, beside what the store holds now."""

    trained_on: int  # products
    products: int  # in the store now
    looked_at: int  # of them: a sample, as large as that of the training may be
    whole_then: float  # share of the words of titles that had a token of their own, 0 to 1
    whole_now: float

    @property
    def fall(self) -> float:
        """How much the share of whole words fell; below 0 where it rose."""
        return round(self.whole_then - self.whole_now, 9)  # 0.95 - 0.9 is 0.05, and no more than that

    @property
    def drifted(self) -> bool:
        """Whether it fell by more than `MOST_FALL`."""
        return self.fall > MOST_FALL

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "drifted": self.drifted,
            "whole_words": {"then": self.whole_then, "now": self.whole_now},
            "fall": self.fall,
            "most_fall": MOST_FALL,
            "products": {"then": self.trained_on, "now": self.products, "looked_at": self.looked_at},
        }


def drift(into: Path, store: Store) -> Drift:
    """Compare the products of a store with those that the own encoder of its index was trained on.

    Args:
        into: the index folder.
        store: its store.

    Returns:
        The comparison, by the same sample for the same products.

    Raises:
        InputError: the index has no own encoder.
        IndexFormatError: there is no index, its encoder is damaged, or the store is another's.
        StoreError: the store cannot be read.
    """
    check_store(open_generation(into, checksums=False), store)
    encoder, training = trained_encoder(into)
    settings = training["settings"]
    with store.snapshot() as snapshot:
        products = sampled(snapshot.products(), settings["sample"], settings["seed"])
        count = snapshot.count
    return Drift(
        trained_on=training["products"],
        products=count,
        looked_at=len(products),
        whole_then=training["whole_words"],
        whole_now=whole_words(encoder.tokenizer, [product.title for product in products]),
    )


def trained_encoder(into: Path) -> tuple[StaticEncoder, dict[str, Any]]:
    """Return the own encoder of an index, and how it was trained.

    Args:
        into: the index folder.

    Returns:
        The encoder and its `training`.

    Raises:
        InputError: the index has none.
        IndexFormatError: it is damaged.
    """
    encoder = encoder_of(into)
    if encoder is None or encoder.training is None:
        raise InputError(
            "has no encoder that was trained on its products",
            path=into,
            remedy=f"Train one: tilth index --into {into} --encoder own, or --third own",
        )
    return encoder, dict(encoder.training)
