"""An opened index: what it knows of itself, its parts, its fusion."""

from pathlib import Path

import numpy as np
import pytest

from shop import SHOP, THREE_LISTS, TWO_LISTS
from tilth.errors import IndexFormatError
from tilth.pipeline import Pipeline, open_index
from tilth.retrieval.fusion import Fusion
from tilth.retrieval.index import read_fusion, write_fusion
from tilth.retrieval.vectors import text_hashes


def test_it_has_all_products_in_the_order_of_the_catalogue(pipeline: Pipeline) -> None:
    assert len(pipeline) == len(SHOP)
    assert pipeline.index.columns.ids(np.arange(len(SHOP))) == [product.id for product in SHOP]


def test_its_cutter_makes_the_passages_that_it_holds(pipeline: Pipeline) -> None:
    index = pipeline.index
    cuts = index.cutter.cut(SHOP)
    hashes = np.load(index.folder / "passage_hashes.npy")
    np.testing.assert_array_equal(text_hashes([text for cut in cuts for text in cut.passages]), hashes)
    rows = np.load(index.folder / "passage_rows.npy")
    assert np.bincount(rows).tolist() == [len(cut.passages) for cut in cuts]


def test_its_vectors_are_those_of_the_encoder_that_it_stores(pipeline: Pipeline) -> None:
    index, leg = pipeline.index, pipeline.index.legs["dense"]
    texts = [text for cut in index.cutter.cut(SHOP) for text in cut.passages]
    stored = leg.index.codes(np.arange(len(texts))).astype(np.float32)
    stored /= np.linalg.norm(stored, axis=1, keepdims=True)
    cosines = (stored * leg.encoder.encode_passages(texts)).sum(axis=1)
    assert cosines.min() > 0.999  # bfloat16 when building, where the processor has it; 8 bits as stored


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("cow manure for tomatoes", True),
        ("чем подкормить томаты", False),
        ("HU-20/C", False),
        ("2006189781080", False),
    ],
)
def test_it_tells_words_from_letters(pipeline: Pipeline, text: str, known: bool) -> None:
    assert pipeline.index.legs["dense"].knows(text) is known


def test_the_fusion_is_the_default_until_one_is_written(shop_index: Path, tmp_path: Path) -> None:
    assert read_fusion(tmp_path, THREE_LISTS) == THREE_LISTS
    write_fusion(tmp_path, Fusion("zscore", (0.7, 0.3)))
    assert read_fusion(tmp_path, TWO_LISTS) == Fusion("zscore", (0.7, 0.3))
    assert open_index(shop_index).ranking.fusion == TWO_LISTS


@pytest.mark.parametrize(
    "content", ["", "[]", '{"method": "magic"}', '{"weights": 3}', '{"speed": 1}', '{"weights": [0, 0]}']
)
def test_a_damaged_fusion_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "fusion.json").write_text(content)
    with pytest.raises(IndexFormatError, match=r"fusion\.json: is damaged .* tune again"):
        read_fusion(tmp_path, TWO_LISTS)


def test_an_index_that_is_not_there_is_named_with_the_command_that_builds_it(tmp_path: Path) -> None:
    with pytest.raises(IndexFormatError, match=r"no index there\. Build one: tilth index CATALOGUE --into"):
        open_index(tmp_path / "nowhere")
