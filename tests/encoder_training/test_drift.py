"""How far a store has moved from what the encoder of its index was trained on."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from fakes import kept_encoder
from shop import index
from tilth.catalog import Product
from tilth.encoder_training.drift import Drift, drift
from tilth.encoder_training.settings import EncoderSettings
from tilth.encoder_training.vocabulary import learn_tokenizer
from tilth.errors import IndexFormatError, InputError
from tilth.retrieval.encoder import OWN, EncoderFacts, StaticEncoder
from tilth.retrieval.encoder_build import for_build
from tilth.retrieval.index import open_store

SETTINGS = EncoderSettings(sample=20, vocabulary=200, steps=1)


def products(titles: Sequence[str]) -> list[Product]:
    return [Product(id=f"p{number:02}", title=title) for number, title in enumerate(titles)]


def encoder(titles: Sequence[str]) -> StaticEncoder:
    """An encoder whose tokens are the words of titles; its vectors say nothing."""
    tokenizer = learn_tokenizer(titles, SETTINGS.vocabulary)
    table = np.ones((tokenizer.get_vocab_size(), 64), np.float32)
    training = {"settings": SETTINGS.to_json(), "products": len(titles), "whole_words": 1.0, "asked": 0}
    return StaticEncoder(tokenizer, table, EncoderFacts(OWN, "1", "static", 64, 512), training)


def drifted(into: Path) -> Drift:
    with open_store(into, create=False) as store:
        return drift(into, store)


@pytest.fixture(params=["Секатор садовый", "garden secateurs"])
def titles(request: pytest.FixtureRequest) -> list[str]:
    """Twenty titles of two words."""
    return [request.param] * 20


@pytest.fixture(params=["dense", "own"])
def into(request: pytest.FixtureRequest, tmp_path: Path, titles: list[str]) -> Path:
    """The folder of an index whose own encoder is that of one of its legs."""
    model = for_build(encoder(titles))
    if request.param == "dense":
        index(products(titles), tmp_path / "idx", model)
    else:
        index(products(titles), tmp_path / "idx", kept_encoder(["garden"]), own=model)
    return tmp_path / "idx"


def test_a_catalogue_that_is_as_it_was_has_not_drifted(into: Path) -> None:
    found = drifted(into)
    assert not found.drifted
    assert found.to_json() == {
        "drifted": False,
        "whole_words": {"then": 1.0, "now": 1.0},
        "fall": 0.0,
        "most_fall": 0.05,
        "products": {"then": 20, "now": 20, "looked_at": 20},
    }


@pytest.mark.parametrize(("new", "share", "verdict"), [(2, 0.95, False), (3, 0.925, True)])
def test_new_words_are_drift_when_they_are_more_than_one_in_twenty(
    into: Path, titles: list[str], new: int, share: float, verdict: bool
) -> None:
    """Of forty words in twenty titles, `new` have no token of their own."""
    words = [f"{'Мотоблок' if titles[0][0] == 'С' else 'Cultivator'} {title.split()[1]}" for title in titles]
    with open_store(into, create=False) as store:
        store.upsert(products(words[:new]))
    found = drifted(into)
    assert found.whole_now == pytest.approx(share)
    assert found.fall == pytest.approx(1 - share)
    assert found.drifted is verdict


def test_no_more_products_are_looked_at_than_the_training_may_see(into: Path, titles: list[str]) -> None:
    with open_store(into, create=False) as store:
        store.upsert(products([*titles, *["Ёлочная гирлянда"] * 15]))
    found = drifted(into)
    assert (found.trained_on, found.products, found.looked_at) == (20, 35, 20)
    assert drifted(into) == found, "the sample is drawn by a seed"
    assert found.drifted


def test_an_index_without_an_own_encoder_has_nothing_to_compare(tmp_path: Path, titles: list[str]) -> None:
    index(products(titles), tmp_path / "idx", kept_encoder(["garden"]))
    with pytest.raises(InputError, match=r"no encoder that was trained on its products.*--encoder own"):
        drifted(tmp_path / "idx")


def test_a_store_of_another_index_is_refused(into: Path, tmp_path: Path) -> None:
    with (
        open_store(tmp_path / "other") as other,
        pytest.raises(IndexFormatError, match="built from"),
    ):
        drift(into, other)
