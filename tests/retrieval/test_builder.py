"""Building: what is reused, what an interruption leaves, what the manifest says."""

import dataclasses
import multiprocessing
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from fakes import WordEncoder, kept_encoder
from shop import SHOP, index
from tilth.catalog import Price, Product
from tilth.errors import IndexLockedError, InputError
from tilth.pipeline import open_index
from tilth.protocols import Vectors
from tilth.retrieval import dense
from tilth.retrieval.build_settings import BuildSettings, Resources
from tilth.retrieval.passages import PassageSettings
from tilth.retrieval.preparation import CHUNK


def build(into: Path, products: Iterable[Product] = SHOP, encoder: WordEncoder | None = None) -> WordEncoder:
    encoder = encoder or WordEncoder()
    index(products, into, encoder)
    return encoder


def codes_by_text(path: Path) -> dict[int, bytes]:
    index = open_index(path).index
    hashes = np.load(index.folder / "passage_hashes.npy").tolist()
    vectors = index.legs["dense"].index
    codes = vectors.codes(np.arange(vectors.passages))
    return {name: code.tobytes() for name, code in zip(hashes, codes, strict=True)}


def test_the_manifest_says_what_the_index_is_made_of(tmp_path: Path) -> None:
    build(tmp_path / "idx")
    manifest = open_index(tmp_path / "idx").index.manifest
    assert manifest["catalogue"] == {"files": ["shop.jsonl"], "products": len(SHOP)}
    assert manifest["legs"].keys() == {"dense"}
    assert manifest["legs"]["dense"]["encoder"]["name"] == "words"
    assert manifest["legs"]["dense"]["index"]["kind"] == "flat"
    assert manifest["lexical"] == {"title": 6, "prose": 4}
    assert manifest["passages"]["passages"] == PassageSettings().passages
    assert manifest["passages"]["count"] == len(codes_by_text(tmp_path / "idx"))
    some = {"columns/columns.json", "dense/index.faiss", "dense/encoder/encoder.json"}
    assert some <= set(manifest["files"])
    assert not any(Path(name).name == "codes.npy" for name in manifest["files"])


def test_an_unchanged_catalogue_encodes_nothing(tmp_path: Path) -> None:
    first = build(tmp_path)
    assert build(tmp_path).encoded == []
    manifest = open_index(tmp_path).index.manifest
    assert manifest["legs"]["dense"]["reused"] == manifest["passages"]["count"] >= len(set(first.encoded))


def test_a_changed_price_encodes_nothing_and_a_changed_title_one_product(tmp_path: Path) -> None:
    build(tmp_path)
    dearer = [dataclasses.replace(product, price=Price(99.0, "EUR")) for product in SHOP]
    assert build(tmp_path, dearer).encoded == []
    renamed = [dataclasses.replace(SHOP[0], title="Alpaca manure"), *SHOP[1:]]
    encoded = build(tmp_path, renamed).encoded
    assert encoded
    assert all(text.startswith("Alpaca manure") for text in encoded)


def test_another_encoder_reuses_nothing(tmp_path: Path) -> None:
    first = build(tmp_path)
    assert sorted(build(tmp_path, encoder=WordEncoder("others")).encoded) == sorted(first.encoded)


def test_reused_vectors_are_those_of_a_fresh_build(tmp_path: Path) -> None:
    build(tmp_path / "a")
    build(tmp_path / "a", [*SHOP[3:], *SHOP[:3]])
    build(tmp_path / "b", [*SHOP[3:], *SHOP[:3]])
    assert codes_by_text(tmp_path / "a") == codes_by_text(tmp_path / "b")


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError, InputError])
def test_an_interrupted_reading_leaves_the_old_index(tmp_path: Path, error: type[BaseException]) -> None:
    build(tmp_path)

    def broken() -> Iterator[Product]:
        yield SHOP[0]
        raise error("half-way")

    with pytest.raises(error):
        build(tmp_path, broken())
    assert len(open_index(tmp_path)) == len(SHOP)
    assert [entry.name for entry in (tmp_path / "generations").iterdir()] == ["1"]


def test_an_interrupted_encoding_leaves_the_old_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(tmp_path)
    encoder = WordEncoder("others")
    monkeypatch.setattr(encoder, "encode_passages", lambda texts: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path, encoder=encoder)
    assert open_index(tmp_path).index.manifest["legs"]["dense"]["encoder"]["name"] == "words"
    assert [entry.name for entry in (tmp_path / "generations").iterdir()] == ["1"]


def test_no_products_are_an_error_and_no_index(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no usable product"):
        build(tmp_path, [])
    assert not (tmp_path / "current").exists()


def _slow_build(into: Path) -> None:
    def slowly() -> Iterator[Product]:
        yield SHOP[0]
        into.joinpath("lock").with_name("started.part").touch()
        time.sleep(30)

    build(into, slowly())


def test_of_two_processes_one_builds_and_the_other_is_told(tmp_path: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=_slow_build, args=(tmp_path,))
    process.start()
    try:
        while not (tmp_path / "started.part").exists():
            assert process.is_alive()
            time.sleep(0.01)
        with pytest.raises(IndexLockedError, match="another process"):
            build(tmp_path)
    finally:
        process.kill()
        process.join()
    build(tmp_path)  # the killed builder's lock and left-overs are gone
    assert [entry.name for entry in (tmp_path / "generations").iterdir()] == ["1"]


def test_above_the_limit_an_inverted_file_is_built_and_its_recall_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dense, "FLAT_BELOW", 1)
    products = [Product(id=f"p{n}", title=f"spade {n} steel {n % 7}") for n in range(400)]
    build(tmp_path, products)
    manifest = open_index(tmp_path).index.manifest
    assert manifest["legs"]["dense"]["index"]["kind"] == "ivf"
    assert manifest["legs"]["dense"]["index"]["recall"] >= 0.95


def test_progress_ends_at_the_total(tmp_path: Path) -> None:
    seen: dict[str, tuple[int, int | None]] = {}

    def progress(stage: str, done: int, total: int | None = None, /) -> None:
        assert done >= seen.get(stage, (0, None))[0]
        seen[stage] = (done, total)

    index(SHOP, tmp_path, WordEncoder(), progress=progress)
    assert seen["storing"] == seen["indexing"] == (len(SHOP), len(SHOP))


def test_worker_processes_change_nothing(tmp_path: Path) -> None:
    products = [
        Product(id=f"p{n}", title=f"spade {n}", brand=f"b{n % 7}", attributes={"length": f"{n % 9} m"})
        for n in range(3 * CHUNK)
    ]
    for name, workers in (("one", 1), ("two", 2)):
        resources = Resources(threads=1, workers=workers)
        index(products, tmp_path / name, kept_encoder(["spade"]), BuildSettings(resources=resources))
    one, two = open_index(tmp_path / "one"), open_index(tmp_path / "two")
    assert codes_by_text(tmp_path / "one") == codes_by_text(tmp_path / "two")
    queries = ["spade 17", "spade", "b3 spade"]
    assert list(one.search(queries, 50).hits.values()) == list(two.search(queries, 50).hits.values())
    assert one.live.view.fields() == two.live.view.fields()
    assert [one.index.manifest[key] for key in ("passages", "legs")] == [
        two.index.manifest[key] for key in ("passages", "legs")
    ]


def test_an_interrupted_build_resumes_from_the_vectors_already_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    products = [Product(id=f"p{n}", title=f"spade {n}") for n in range(2 * CHUNK)]
    first, second = WordEncoder(), WordEncoder()
    encode = first.encode_passages

    def interrupted(texts: Sequence[str]) -> Vectors:
        if len(first.encoded) >= CHUNK:
            raise KeyboardInterrupt
        return encode(texts)

    monkeypatch.setattr(first, "encode_passages", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path, products, first)
    build(tmp_path, products, second)
    assert sorted(first.encoded + second.encoded) == sorted(f"spade {n}" for n in range(2 * CHUNK))
    assert not (tmp_path / "vectors").exists()
