"""Slips of the finger and of spelling, in English and in Russian."""

import random
from collections.abc import Callable

from tilth.sample.families import pick

KEY_ROWS = {
    "en": ("qwertyuiop", "asdfghjkl", "zxcvbnm"),
    "ru": ("йцукенгшщзхъ", "фывапролджэ", "ячсмитьбю"),
}
CONFUSED = {
    "en": str.maketrans({"e": "a", "a": "e", "i": "e", "o": "u", "u": "o", "y": "i", "s": "c", "c": "s"}),
    "ru": str.maketrans({"о": "а", "а": "о", "е": "и", "и": "е", "ы": "и", "ё": "е", "з": "с", "с": "з"}),
}
OTHER_LAYOUT = str.maketrans(
    "йцукенгшщзхъфывапролджэячсмитьбюё", "qwertyuiop[]asdfghjkl;'zxcvbnm,.`"
)  # a Russian word typed with the keyboard left in English
SHORTEST = 5  # letters of a word that gets a slip
MOST_SLIPS = 2
WRONG_LAYOUT = 0.15


def misspell(rng: random.Random, text: str, language: str) -> str | None:
    """Return the text in lower case with slips in its longer words, or None where that changes nothing."""
    text = text.lower()
    if language == "ru" and rng.random() < WRONG_LAYOUT:
        return text.translate(OTHER_LAYOUT)
    words = [word for word in text.split() if len(word) >= SHORTEST and word.isalpha()]
    if not words:
        return None
    slips: list[Slip] = [_swap, _drop, _double, _neighbour, _confuse]
    wrong = text
    for word in rng.sample(words, min(MOST_SLIPS, len(words))):
        wrong = wrong.replace(word, pick(rng, slips)(rng, word, language), 1)
    return wrong if wrong != text else None


Slip = Callable[[random.Random, str, str], str]


def _inside(rng: random.Random, word: str) -> int:
    """Return a position after the first letter and before the last: people get the ends right."""
    return 1 + int(rng.random() * (len(word) - 2))


def _swap(rng: random.Random, word: str, _: str) -> str:
    at = _inside(rng, word[:-1])
    return word[:at] + word[at + 1] + word[at] + word[at + 2 :]


def _drop(rng: random.Random, word: str, _: str) -> str:
    at = _inside(rng, word)
    return word[:at] + word[at + 1 :]


def _double(rng: random.Random, word: str, _: str) -> str:
    at = _inside(rng, word)
    return word[:at] + word[at] + word[at:]


def _neighbour(rng: random.Random, word: str, language: str) -> str:
    at = _inside(rng, word)
    row = next((row for row in KEY_ROWS[language] if word[at] in row), word[at])
    key = row.index(word[at])
    return word[:at] + row[key - 1 if key else min(1, len(row) - 1)] + word[at + 1 :]


def _confuse(rng: random.Random, word: str, language: str) -> str:
    at = _inside(rng, word)
    return word[:at] + word[at].translate(CONFUSED[language]) + word[at + 1 :]
