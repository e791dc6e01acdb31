"""Bags of tokens against lists of lists."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from tilth.encoder_training import bags
from tilth.encoder_training.bags import Bags

Lists = list[list[int]]
LISTS = st.lists(st.lists(st.integers(0, 50), max_size=6), max_size=8)


def bags_of(lists: Lists) -> Bags:
    tokens = [token for each in lists for token in each]
    return Bags(
        np.array(tokens, np.int32), np.array([0, *np.cumsum([len(each) for each in lists])], np.int64)
    )


def lists_of(bags: Bags) -> Lists:
    return [bags.tokens[a:b].tolist() for a, b in zip(bags.ends[:-1], bags.ends[1:], strict=True)]


def words(vocabulary: dict[str, int]) -> Tokenizer:
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


def test_texts_become_bags() -> None:
    tokenizer = words({"[UNK]": 0, "cow": 1, "manure": 2, "навоз": 3})
    bags = Bags.of(tokenizer, ["cow manure", "", "навоз навоз x", "cow"])
    assert lists_of(bags) == [[1, 2], [], [3, 3, 0], [1]]
    assert bags.tokens.dtype == np.int32
    assert len(bags) == 4


def test_texts_are_read_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer, texts = words({"a": 0, "b": 1}), ["a b", "", "b", "a a", "b"]
    whole = lists_of(Bags.of(tokenizer, texts))
    assert whole == [[0, 1], [], [1], [0, 0], [1]]
    monkeypatch.setattr(bags, "_BLOCK", 2)
    assert lists_of(Bags.of(tokenizer, texts)) == whole


def test_no_texts_are_no_bags() -> None:
    bags = Bags.of(words({"[UNK]": 0}), [])
    assert len(bags) == 0
    assert lists_of(bags) == []
    assert lists_of(bags.take(np.empty(0, np.int64))) == []


@given(lists=LISTS, data=st.data())
def test_some_bags_are_taken_in_any_order_and_often(lists: Lists, data: st.DataObject) -> None:
    numbers = data.draw(st.lists(st.integers(0, len(lists) - 1), max_size=10)) if lists else []
    taken = bags_of(lists).take(np.array(numbers, np.int64))
    assert lists_of(taken) == [lists[number] for number in numbers]
    assert len(taken) == len(numbers)


@given(lists=LISTS, dropped=st.sampled_from([0.0, 0.3, 0.9]), seed=st.integers(0, 1_000))
def test_thinned_bags_lose_the_tokens_that_were_drawn(lists: Lists, dropped: float, seed: int) -> None:
    thinned = bags_of(lists).thinned(dropped, np.random.default_rng(seed))
    draws = iter(np.random.default_rng(seed).random(sum(map(len, lists))).tolist())
    assert lists_of(thinned) == [[token for token in each if next(draws) >= dropped] for each in lists]


def test_the_share_that_is_dropped_is_the_one_that_is_named() -> None:
    lists = [[1] * 100 for _ in range(200)]
    thinned = bags_of(lists).thinned(0.3, np.random.default_rng(0))
    assert abs(len(thinned.tokens) / 20_000 - 0.7) < 0.02
    assert lists_of(bags_of(lists).thinned(0.0, np.random.default_rng(0))) == lists
