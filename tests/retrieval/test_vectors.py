"""Stored vectors: written as they come, found again by their text."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilth.protocols import Vectors
from tilth.retrieval.vectors import VectorStore, VectorWriter, text_hashes


def encode(texts: Sequence[str]) -> Vectors:
    return np.array([[len(text), sum(map(ord, text)) % 97, 1] for text in texts], np.float32)


@given(st.lists(st.text(max_size=5), max_size=40), st.lists(st.text(max_size=5), max_size=40))
def test_vectors_are_those_of_the_texts_encoded_once(
    tmp_path_factory: pytest.TempPathFactory, before: list[str], now: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("vectors")
    seen: list[str] = []
    shares: list[float] = []

    def counting(texts: Sequence[str]) -> Vectors:
        seen.extend(texts)
        return encode(texts)

    known = VectorStore(text_hashes(before), encode(before).astype(np.float16)) if before else None
    writer = VectorWriter(folder / "vectors.npy", 3, counting, known)
    for start in range(0, len(now), 7):
        writer.add(now[start : start + 7], lambda share: shares.append(share))
    hashes = writer.close()
    vectors = np.load(folder / "vectors.npy", mmap_mode="r")
    assert vectors.shape == (len(now), 3)
    assert hashes.tolist() == text_hashes(now).tolist()
    if now:
        np.testing.assert_array_equal(vectors, encode(now).astype(np.float16))
    assert all(0 <= share <= 1 for share in shares)
    assert set(seen) == set(now) - set(before)
    assert writer.encoded == len(seen)
    assert writer.encoded + writer.reused == len(now)
