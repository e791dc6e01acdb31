"""An index whose products are in PostgreSQL: built, followed, compacted, and refused with another store."""

import dataclasses
from pathlib import Path

import pytest

from fakes import kept_encoder
from postgres import PASSWORD, new_schemas
from shop import SHOP, quiet
from tilth.catalog import Price, Product
from tilth.errors import IndexFormatError, StoreError
from tilth.pipeline import open_index
from tilth.retrieval.build_settings import BuildSettings, Resources
from tilth.retrieval.builder import build_index, compact_index
from tilth.retrieval.index import open_store


def test_a_shop_lives_in_a_database(server: str, tmp_path: Path) -> None:
    url = new_schemas(server, "shop")()
    into = tmp_path / "idx"
    with open_store(into, url) as store:
        build_index(into, store, kept_encoder(["roses"]), BuildSettings(), quiet, products=SHOP)
    assert not (into / "store.sqlite").exists()
    assert PASSWORD.encode() not in (into / "generations" / "1" / "manifest.json").read_bytes()
    pipeline = open_index(into, store=url)
    with open_store(into, url, create=False) as other:
        other.upsert(
            [dataclasses.replace(SHOP[2], price=Price(1.0, "EUR")), Product(id="n", title="Zinc can")]
        )
        other.delete(["m1"])
    pipeline.refresh()
    assert pipeline.answer("zinc can", 1).hits[0].product.id == "n"
    assert "m1" not in {hit.product_id for hit in pipeline.search(["cow manure"], 20)["1"]}
    assert {hit.product_id for hit in pipeline.search(["tomato"], 20, {"price": {"lte": 1}})["1"]} == {"f1"}
    compact_index(into, pipeline.live.store, Resources(), quiet)
    pipeline.refresh()
    assert pipeline.index.generation.number == 2
    assert len(pipeline) == len(SHOP)
    pipeline.close()
    with pytest.raises(StoreError, match=r"store\.sqlite"):
        open_index(into)
    with (
        open_store(into, new_schemas(server, "other")()),
        pytest.raises(IndexFormatError, match="built from the store"),
    ):
        open_index(into, store=f"{server}?options=-csearch_path%3Dother1")
