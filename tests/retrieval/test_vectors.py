"""Vectors: written as they come, found again by their text, kept when a build is cut short."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilth.protocols import Vectors
from tilth.retrieval import vectors as module
from tilth.retrieval.quantisation import Codes, to_codes
from tilth.retrieval.vectors import (
    Hashes,
    KnownVectors,
    VectorCache,
    VectorStore,
    VectorWriter,
    encode_texts,
    text_hashes,
)

FACTS = {"model": "a", "prefix": "passage: "}


def encode(texts: Sequence[str]) -> Vectors:
    raw = np.array([[len(text) + 1, sum(map(ord, text)) % 97, 1] for text in texts], np.float32)
    vectors: Vectors = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    return vectors


def codes_of(texts: Sequence[str]) -> Codes:
    return to_codes(encode(texts)) if texts else np.empty((0, 3), np.int8)


def stored(texts: Sequence[str]) -> VectorStore:
    codes = codes_of(texts)
    return VectorStore(text_hashes(texts), lambda passages: codes[passages])


def filled(folder: Path, *parts: Sequence[str]) -> None:
    """Write one file, a block a part."""
    with VectorCache(folder, FACTS, 3) as cache:
        for texts in parts:
            cache.add(text_hashes(texts), codes_of(texts))


texts = st.lists(st.text(max_size=5), max_size=40)


@given(texts, texts, texts)
def test_vectors_are_those_of_the_texts_encoded_once(
    tmp_path_factory: pytest.TempPathFactory, before: list[str], cached: list[str], now: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("vectors")
    seen: list[str] = []
    shares: list[float] = []

    def made(texts: Sequence[str]) -> Codes:
        seen.extend(texts)
        return encode_texts(texts, encode, 3, lambda share: shares.append(share))

    filled(folder / "cache", cached)
    with VectorCache(folder / "cache", FACTS, 3) as cache:
        writer = VectorWriter(folder / "vectors.npy", 3, [stored(before), cache], cache)
        for start in range(0, len(now), 7):
            wanted = writer.want(now[start : start + 7])
            assert [len(text) for text in wanted.texts] == sorted(len(text) for text in wanted.texts)
            writer.write(wanted, made(wanted.texts))
        hashes = writer.close()
    codes = np.load(folder / "vectors.npy", mmap_mode="r")
    assert hashes.tolist() == text_hashes(now).tolist()
    assert codes.dtype == np.int8
    np.testing.assert_array_equal(codes, codes_of(now))
    assert all(0 <= share <= 1 for share in shares)
    assert set(seen) == set(now) - set(before) - set(cached)
    assert writer.encoded == len(seen)
    assert writer.encoded + writer.reused == len(now)
    reopened = VectorCache(folder / "cache", FACTS, 3)
    assert set(reopened.find(text_hashes(sorted(set(seen))))[0].tolist()) <= {True}


@given(texts, texts)
def test_a_store_finds_what_it_holds(before: list[str], asked: list[str]) -> None:
    check_found(stored(before), before, asked)


def check_found(source: KnownVectors, held: Sequence[str], asked: Sequence[str]) -> None:
    known, codes = source.find(text_hashes(asked))
    assert known.tolist() == [text in held for text in asked]
    np.testing.assert_array_equal(codes, codes_of([text for text in asked if text in held]))


@given(st.lists(texts, max_size=4), texts)
def test_a_cache_joins_the_files_of_all_writers(
    tmp_path_factory: pytest.TempPathFactory, writers: list[list[str]], asked: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("cache")
    for part in writers:
        filled(folder, part)
    held = [text for part in writers for text in part]
    cache = VectorCache(folder, FACTS, 3)
    assert len(cache) == len(held)
    check_found(cache, held, [*asked, *held])


def test_two_writers_at_once_do_not_meet(tmp_path: Path) -> None:
    with VectorCache(tmp_path, FACTS, 3) as one, VectorCache(tmp_path, FACTS, 3) as other:
        one.add(text_hashes(["a"]), codes_of(["a"]))
        other.add(text_hashes(["b"]), codes_of(["b"]))
    check_found(VectorCache(tmp_path, FACTS, 3), ["a", "b"], ["b", "a", "c"])


def blocks(monkeypatch: pytest.MonkeyPatch, folder: Path) -> tuple[list[str], Path]:
    """Write three blocks of two vectors each into one file."""
    monkeypatch.setattr(module, "_CACHE_BLOCK", 2)
    names = ["one", "two", "three", "four", "five", "six"]
    filled(folder, names[:2], names[2:4], names[4:])
    (file,) = folder.iterdir()
    return names, file


def found(folder: Path, names: list[str]) -> list[str]:
    """Return the names that a cache finds, after checking that their vectors are right."""
    known, codes = VectorCache(folder, FACTS, 3).find(text_hashes(names))
    kept = [name for name, here in zip(names, known, strict=True) if here]
    np.testing.assert_array_equal(codes, codes_of(kept))
    return kept


def test_a_torn_tail_loses_its_block_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names, file = blocks(monkeypatch, tmp_path)
    whole = file.read_bytes()
    size = len(whole) // 3
    for length in range(len(whole) + 1):
        file.write_bytes(whole[:length])
        assert found(tmp_path, names) == names[: length // size * 2]


def test_a_changed_byte_never_gives_a_wrong_vector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names, file = blocks(monkeypatch, tmp_path)
    whole = file.read_bytes()
    size = len(whole) // 3
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 0x41
        file.write_bytes(damaged)
        assert found(tmp_path, names) == names[: place // size * 2]


def test_blocks_are_on_the_disk_before_the_cache_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CACHE_BLOCK", 2)
    cache = VectorCache(tmp_path, FACTS, 3)
    for name in ("a", "b", "c"):
        cache.add(text_hashes([name]), codes_of([name]))
    check_found(VectorCache(tmp_path, FACTS, 3), ["a", "b"], ["a", "b", "c"])
    cache.close()
    check_found(VectorCache(tmp_path, FACTS, 3), ["a", "b", "c"], ["a", "b", "c"])


@pytest.mark.parametrize(("facts", "dimension"), [({**FACTS, "model": "b"}, 3), (FACTS, 4)])
def test_vectors_of_another_encoder_are_not_found(
    tmp_path: Path, facts: dict[str, object], dimension: int
) -> None:
    filled(tmp_path, ["a"])
    cache = VectorCache(tmp_path, facts, dimension)
    assert len(cache) == 0
    assert cache.find(text_hashes(["a"]))[1].shape == (0, dimension)


def test_the_order_of_facts_does_not_matter(tmp_path: Path) -> None:
    filled(tmp_path, ["a"])
    assert len(VectorCache(tmp_path, dict(reversed(FACTS.items())), 3)) == 1


def test_a_shard_fills_the_cache_and_writes_no_file(tmp_path: Path) -> None:
    with VectorCache(tmp_path / "cache", FACTS, 3) as cache:
        writer = VectorWriter(None, 3, (), cache)
        wanted = writer.want(["a", "b", "a"])
        writer.write(wanted, codes_of(wanted.texts))
        hashes: Hashes = writer.close()
    assert hashes.tolist() == text_hashes(["a", "b", "a"]).tolist()
    assert (writer.encoded, writer.reused) == (2, 1)
    check_found(VectorCache(tmp_path / "cache", FACTS, 3), ["a", "b"], ["a", "b"])
