"""The own encoder of an index: found, or trained on its store."""

from pathlib import Path

import pytest

from fakes import kept_encoder
from shop import index, quiet
from tilth.encoder_training import of_index
from tilth.encoder_training.of_index import WORK, encoder_of, train_from_store
from tilth.errors import IndexFormatError, InputError, MissingExtraError
from tilth.retrieval.encoder import STATIC_MODEL, StaticEncoder
from tilth.retrieval.encoder_build import for_build
from tilth.retrieval.index import open_store
from trainings import SHORT, TEXTS, content, one_thread, shop_products, trained

PRODUCTS = shop_products(60, "both")
GENERAL = kept_encoder(["hose", "лейка"])


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> StaticEncoder:
    return trained(PRODUCTS, tmp_path_factory.mktemp("work"))


@pytest.mark.parametrize("leg", ["dense", "own"])
def test_the_own_encoder_is_found_in_either_leg(encoder: StaticEncoder, tmp_path: Path, leg: str) -> None:
    if leg == "dense":
        index(PRODUCTS, tmp_path, for_build(encoder))
    else:
        index(PRODUCTS, tmp_path, GENERAL, own=for_build(encoder))
    found = encoder_of(tmp_path)
    assert found is not None
    assert found.facts == encoder.facts
    assert (found.encode_queries(TEXTS) == encoder.encode_queries(TEXTS)).all()


def test_without_an_index_or_an_own_encoder_there_is_none(tmp_path: Path) -> None:
    assert encoder_of(tmp_path) is None
    index(PRODUCTS, tmp_path, GENERAL)
    assert encoder_of(tmp_path) is None


def test_a_damaged_encoder_is_named(encoder: StaticEncoder, tmp_path: Path) -> None:
    index(PRODUCTS, tmp_path, for_build(encoder))
    file = tmp_path / "generations" / "1" / "dense" / "encoder" / STATIC_MODEL
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(IndexFormatError, match=STATIC_MODEL):
        encoder_of(tmp_path)


def test_a_training_on_a_store_is_that_on_its_products(encoder: StaticEncoder, tmp_path: Path) -> None:
    index(PRODUCTS, tmp_path, GENERAL)
    with open_store(tmp_path) as store, one_thread():
        made = train_from_store(tmp_path, store, SHORT, quiet)
    in_order = trained(sorted(PRODUCTS, key=lambda product: product.id), tmp_path / "w")
    assert content(made, tmp_path / "a") == content(in_order, tmp_path / "b")
    assert not (tmp_path / WORK).exists()


def test_a_store_with_too_few_products_trains_nothing(tmp_path: Path) -> None:
    index(PRODUCTS[:3], tmp_path, GENERAL)
    with open_store(tmp_path) as store, pytest.raises(InputError, match="3 products are too few"):
        train_from_store(tmp_path, store, SHORT, quiet)


def test_without_torch_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of_index, "find_spec", lambda *_: None)
    index(PRODUCTS[:3], tmp_path, GENERAL)
    with open_store(tmp_path) as store, pytest.raises(MissingExtraError, match="training an encoder"):
        train_from_store(tmp_path, store, SHORT, quiet)
