"""Products to passages: cut by structure, measured in the encoder's own tokens.

The first passage of a product is its head: title, brand, type and leading attributes. Then comes the
description, sentence by sentence, then the remaining attributes; each of these passages opens with the
title, so that it can be understood, and found, alone. With a single passage a product the head goes on with
description and attributes instead. Nothing is cut within a word, and what stands in no passage is counted.
"""

import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

from tokenizers import Tokenizer

from tilth.catalog import Product
from tilth.errors import SettingError
from tilth.retrieval.lexical import is_negative

_SENTENCE_END = re.compile(r"(?<=[.!?…;])\s+|\s*\n\s*")
_LONGEST_WORD = 1_000  # characters; longer ones are data, not language, and stand in no passage
_TITLE_SHARE = 0.25  # of a passage, at most, for the title that opens it


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
                f"head_tokens is {self.head_tokens}; it must lie between 16 and max_tokens ({self.max_tokens})"
            )


class Cut(NamedTuple):
    """The passages of one product, the head first, and the number of its words that stand in none."""

    passages: tuple[str, ...]
    dropped_words: int


class _Unit(NamedTuple):
    """A piece of text that is not divided unless it is too long for a passage by itself."""

    text: str
    tokens: int


class PassageCutter:
    """Cuts products into passages."""

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
        self._room = settings.max_tokens - reserved
        self._head_room = self._room if settings.passages == 1 else settings.head_tokens - reserved
        if self._head_room < 1:
            raise SettingError(f"head_tokens is {settings.head_tokens}; the prefix alone has {reserved}")

    def cut(self, products: Sequence[Product]) -> list[Cut]:
        """Cut products; quick for many at a time, since their texts are tokenised together."""
        sections = [_sections(product) for product in products]
        measured = iter(self._measure([text for each in sections for section in each for text in section]))
        return [
            self._pack([[next(measured) for _ in section] for section in each], _words(product))
            for each, product in zip(sections, products, strict=True)
        ]

    def _measure(self, texts: Sequence[str]) -> list[_Unit]:
        encoded = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return [_Unit(text, len(one.ids)) for text, one in zip(texts, encoded, strict=True)]

    def _pack(self, sections: list[list[_Unit]], words: int) -> Cut:
        """Fill passages section by section until there are enough."""
        names, description, attributes = sections
        if self.settings.passages == 1:
            names, description = [*names, *description], []
        head, rest = self._fill([*names, *attributes], self._head_room)
        leading = max(len(rest) - len(attributes), 0)  # of the names, if they are longer than the head
        bodies = [head]
        opening = self._fill(names[:1], int(self._room * _TITLE_SHARE))[0]
        room = self._room - sum(unit.tokens for unit in opening)
        for section in ([*rest[:leading], *description], rest[leading:]):
            while section and len(bodies) < self.settings.passages:
                body, section = self._fill(section, room)
                bodies += [body] if body else []
        placed = sum(len(unit.text.split()) for body in bodies for unit in body)
        texts = (_joined(body if body is head else [*opening, *body]) for body in bodies if body)
        return Cut(tuple(texts), words - placed)

    def _fill(self, units: list[_Unit], room: int) -> tuple[list[_Unit], list[_Unit]]:
        """Return the units that fit one after another, and the rest; a unit too long for any is divided."""
        for number, unit in enumerate(units):
            if unit.tokens > room:
                taken, left = units[:number], units[number + 1 :]
                if unit.tokens <= self._room and number:
                    return taken, [unit, *left]
                first, second = self._divide(unit, room)
                return [*taken, *first], [*second, *left]
            room -= unit.tokens
        return units, []

    def _divide(self, unit: _Unit, room: int) -> tuple[list[_Unit], list[_Unit]]:
        """Divide a unit at the last blank before `room` is full; words too long for any passage go."""
        words = [word for word in self._measure(unit.text.split()) if word.tokens <= self._head_room]
        ends = list(accumulate(word.tokens for word in words))
        count = bisect_right(ends, room)
        return _merged(words[:count]), _merged(words[count:])


def _merged(words: Sequence[_Unit]) -> list[_Unit]:
    """Return words as one unit, or nothing."""
    text = " ".join(word.text for word in words)
    return [_Unit(text, sum(word.tokens for word in words))] if words else []


def _joined(units: Sequence[_Unit]) -> str:
    return " ".join(unit.text for unit in units)


def _sections(product: Product) -> tuple[list[str], list[str], list[str]]:
    """Return names (the title first), sentences of the description, and attributes."""
    names = [product.title, product.brand, product.product_type]
    sentences = _SENTENCE_END.split(product.description)
    return _clean(names), _clean(sentences), _clean(_attributes(product))


def _clean(texts: Iterable[str]) -> list[str]:
    """Leave out what is empty and words that are no language, such as a pasted image."""
    kept = (" ".join(word for word in text.split() if len(word) <= _LONGEST_WORD) for text in texts)
    return [text for text in kept if text]


def _attributes(product: Product) -> list[str]:
    return [
        f"{name.replace('_', ' ').strip()}{'' if value is True else f': {value}'};"
        for name, value in product.attributes.items()
        if not is_negative(value)
    ]


def _words(product: Product) -> int:
    """Return the number of words that passages should hold."""
    texts = (product.title, product.brand, product.product_type, product.description, *_attributes(product))
    return sum(len(text.split()) for text in texts)
