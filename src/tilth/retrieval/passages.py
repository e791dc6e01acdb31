"""Products to passages: cut by structure, measured in the encoder's own tokens.

The first passage of a product is its head: title, brand, type and leading attributes. Then comes the
description, sentence by sentence, then the remaining attributes; each of these passages opens with the
title, so that it can be understood, and found, alone. With a single passage a product the head goes on with
description and attributes instead. Nothing is cut within a word, and what stands in no passage is counted.
"""

import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, chain
from typing import NamedTuple

from tokenizers import Tokenizer

from tilth.catalog import Product
from tilth.errors import SettingError
from tilth.retrieval.lexical import is_negative

_SENTENCE_END = re.compile(r"(?<=[.!?…;])\s+|\n")
_LONGEST_WORD = 1_000  # characters; longer ones are data, not language, and stand in no passage
_TITLE_SHARE = 0.25  # of a passage, at most, for the title that opens it
_REMEMBERED = 300_000  # words whose numbers of tokens are kept

Words = list[str]
_Known = dict[str, int]  # the tokens of words


@dataclass(frozen=True, slots=True)
class PassageSettings:
    """How many passages a product has, and how many tokens a passage and the head have, at most."""

    passages: int = 2
    max_tokens: int = 256
    head_tokens: int = 64

    def __post_init__(self) -> None:
        if self.passages < 1:
            raise SettingError(f"passages is {self.passages}; a product needs at least 1")
        if not 16 <= self.head_tokens <= self.max_tokens:
            raise SettingError(
                f"head_tokens is {self.head_tokens}; it must lie between 16 and max_tokens, {self.max_tokens}"
            )

    def within(self, tokens: int) -> "PassageSettings":
        """Return these settings for an encoder that reads no more than so many tokens."""
        return replace(
            self, max_tokens=min(self.max_tokens, tokens), head_tokens=min(self.head_tokens, tokens)
        )


class Cut(NamedTuple):
    """The passages of one product, the head first, and the number of its words that stand in none."""

    passages: tuple[str, ...]
    dropped_words: int


class _Unit(NamedTuple):
    """Words that are not divided unless they are too long for a passage by themselves."""

    words: Words
    tokens: int


class PassageCutter:
    """Cuts products into passages.

    Tokenizers of encoders never join what a blank divides, so a text has as many tokens as its words, and a
    catalogue's words are few: each is tokenised once.
    """

    def __init__(self, tokenizer: Tokenizer, settings: PassageSettings, reserved: int = 2) -> None:
        """Prepare.

        Args:
            tokenizer: of the encoder.
            settings: the limits.
            reserved: tokens of every passage that its text cannot have: special tokens and the prefix.
        """
        self._tokenizer = Tokenizer.from_str(tokenizer.to_str())
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.settings = settings
        single = settings.passages == 1
        self._room = settings.max_tokens - reserved
        self._head_room = self._room if single else settings.head_tokens - reserved
        if self._head_room < 1:
            raise SettingError(f"head_tokens is {settings.head_tokens}; the prefix alone has {reserved}")
        self._title_room = int(self._room * _TITLE_SHARE)
        self._longest = self._room if single else self._room - self._title_room
        self._tokens: _Known = {}

    def cut(self, products: Sequence[Product]) -> list[Cut]:
        """Cut products; quick for many at a time, since their words are tokenised together."""
        whole = self._whole(products) if self.settings.passages == 1 else [None] * len(products)
        rest = [_sections(product) for product, cut in zip(products, whole, strict=True) if cut is None]
        words = (words for each in rest for section in each for words in section)
        known = self._learn(chain.from_iterable(words))
        packed = (self._pack(known, *each) for each in rest)
        return [cut or next(packed) for cut in whole]

    def _whole(self, products: Sequence[Product]) -> list[Cut | None]:
        """Return the only passage of each product that fits into it, which most do; None for the others."""
        texts = [_text(product).split() for product in products]
        known = self._learn(chain.from_iterable(texts))
        return [
            Cut((" ".join(words),), 0)
            if words and sum(known.get(word, self._room + 1) for word in words) <= self._room
            else None
            for words in texts
        ]

    def _learn(self, words: Iterable[str]) -> _Known:
        """Count the tokens of words that were not met before, as they are after a blank.

        What is returned has all of the words, even if another thread begins a new memory meanwhile.
        """
        if len(self._tokens) > _REMEMBERED:
            self._tokens = {}
        known = self._tokens
        new = [word for word in set(words) if word not in known and len(word) <= _LONGEST_WORD]
        encoded = self._tokenizer.encode_batch_fast([f" {word}" for word in new], add_special_tokens=False)
        known.update(zip(new, map(len, encoded), strict=True))
        return known

    def _units(self, texts: Sequence[Words], known: _Known) -> list[_Unit]:
        """Measure texts, leaving out words that no passage has room for."""
        units = []
        for words in texts:
            counts = [known.get(word, self._room + 1) for word in words]
            if counts and max(counts) > self._longest:
                kept = [pair for pair in zip(words, counts, strict=True) if pair[1] <= self._longest]
                words, counts = [word for word, _ in kept], [count for _, count in kept]
            if words:
                units.append(_Unit(words, sum(counts)))
        return units

    def _pack(self, known: _Known, *sections: list[Words]) -> Cut:
        """Fill passages section by section until there are enough."""
        names, description, attributes = (self._units(section, known) for section in sections)
        if self.settings.passages == 1:
            names, description = [*names, *description], []
        head, rest = self._fill([*names, *attributes], self._head_room, known)
        leading = max(len(rest) - len(attributes), 0)  # of the names, if they are longer than the head
        bodies = [head] if head else []
        opening = self._fill(names[:1], self._title_room, known)[0]
        room = self._room - sum(unit.tokens for unit in opening)
        for section in ([*rest[:leading], *description], rest[leading:]):
            while section and len(bodies) < self.settings.passages:
                body, section = self._fill(section, room, known)
                bodies.append(body)
        texts = [_joined(body if body is head else [*opening, *body]) for body in bodies]
        words = sum(len(text) for section in sections for text in section)
        return Cut(tuple(texts), words - sum(len(unit.words) for body in bodies for unit in body))

    def _fill(self, units: list[_Unit], room: int, known: _Known) -> tuple[list[_Unit], list[_Unit]]:
        """Return the units that fit one after another, and the rest; a unit too long for any is divided."""
        for number, unit in enumerate(units):
            if unit.tokens > room:
                if unit.tokens <= self._room and number:
                    return units[:number], units[number:]
                first, second = _divide(unit, room, known)
                return [*units[:number], *first], [*second, *units[number + 1 :]]
            room -= unit.tokens
        return units, []


def _divide(unit: _Unit, room: int, known: _Known) -> tuple[list[_Unit], list[_Unit]]:
    """Divide a unit at the last blank before `room` is full."""
    ends = list(accumulate(known[word] for word in unit.words))
    count = bisect_right(ends, room)
    taken = ends[count - 1] if count else 0
    first, second = _Unit(unit.words[:count], taken), _Unit(unit.words[count:], unit.tokens - taken)
    return [first] if first.words else [], [second] if second.words else []


def _joined(units: Sequence[_Unit]) -> str:
    return " ".join(chain.from_iterable(unit.words for unit in units))


def _text(product: Product) -> str:
    """Return all that a product says, in the order of its sections."""
    names = (product.title, product.brand, product.product_type, product.description)
    return " ".join([*names, *_attributes(product)])


def _attributes(product: Product) -> list[str]:
    return [
        f"{name.replace('_', ' ').strip()}{'' if value is True else f': {value}'};"
        for name, value in product.attributes.items()
        if not is_negative(value)
    ]


def _sections(product: Product) -> tuple[list[Words], list[Words], list[Words]]:
    """Return names (the title first), sentences of the description, and attributes, as words."""
    names = [product.title, product.brand, product.product_type]
    sentences = _SENTENCE_END.split(product.description)
    return _split(names), _split(sentences), _split(_attributes(product))


def _split(texts: Sequence[str]) -> list[Words]:
    return [words for text in texts if (words := text.split())]
