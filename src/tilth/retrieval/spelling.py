"""Words that the catalogue does not know, read as the nearest that it does.

Only a word without a single match is touched: what the shop sells is never "corrected". Candidates are the
words of titles, brands and types, by optimal string alignment distance (Damerau 1964: insertions, deletions,
substitutions, swaps of neighbours) from rapidfuzz, and the word as typed on the other keyboard layout
(`njvfn` is томат).
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import NamedTuple

from rapidfuzz import process
from rapidfuzz.distance import OSA

from tilth.catalog import Product
from tilth.files import replacing
from tilth.retrieval.analyzer import fold, words

MOST_WORDS = 100_000  # of the vocabulary, the most frequent; bounds memory and time at any catalogue size
SHORTEST = 4  # letters; shorter words have too many neighbours
_TWO_ERRORS_FROM = 8  # letters
_LATIN = "qwertyuiop[]asdfghjkl;'zxcvbnm,."
_CYRILLIC = "йцукенгшщзхъфывапролджэячсмитьбю"
_OTHER_LAYOUT = str.maketrans(_LATIN + _CYRILLIC, _CYRILLIC + _LATIN)


def count_words(products: Iterable[Product]) -> Counter[str]:
    """Count the words of title, brand and type, each once a product; for `VocabularyCounter.merge`."""
    counts: Counter[str] = Counter()
    for product in products:
        counts.update(set(words(f"{product.title} {product.brand} {product.product_type}")))
    return counts


class Reading(NamedTuple):
    """How a query is read; the text as it is where no word of it is replaced."""

    corrected: str  # for what looks words up
    typed: str  # for what knows the parts of words: a correction is a guess, the layout of a keyboard is none


class VocabularyCounter:
    """Adds up the words of a catalogue, in bounded memory."""

    def __init__(self, most: int = MOST_WORDS) -> None:
        self._counts: Counter[str] = Counter()
        self._most = most

    def merge(self, counts: Counter[str]) -> None:
        """Add what `count_words` found in a part of the catalogue."""
        self._counts.update(counts)
        if len(self._counts) > 20 * self._most:
            self._counts = Counter(dict(self._counts.most_common(10 * self._most)))

    def write(self, path: Path) -> None:
        """Write the words, most frequent first, one a line."""
        best = sorted(self._counts.items(), key=lambda item: (-item[1], item[0]))[: self._most]
        with replacing(path) as file:
            file.write("".join(f"{word}\n" for word, _ in best if len(word) >= SHORTEST).encode())


class Speller:
    """Corrects the words of a query."""

    def __init__(self, vocabulary: Sequence[str], known: Callable[[str], bool]) -> None:
        """Prepare.

        Args:
            vocabulary: words, the most frequent first.
            known: tells whether the index has a product with the word.
        """
        self._vocabulary, self._known = vocabulary, known
        self._rank = {word: rank for rank, word in enumerate(vocabulary)}
        self._by_letter: dict[str, list[str]] = {}
        for word in vocabulary:
            self._by_letter.setdefault(word[0], []).append(word)

    def knowing(self, known: Callable[[str], bool]) -> "Speller":
        """Return a speller with the same vocabulary, for another state of the index."""
        other = copy(self)
        other._known = known
        return other

    def correct(self, text: str) -> str:
        """Return the text with its unknown words replaced; as it is where there is nothing to replace."""
        return self.read(text).corrected

    def read(self, text: str) -> "Reading":
        """Return the text with its unknown words replaced, and with those alone of the other layout."""
        corrections = self.corrections(text)
        of_layout = {word: found for word, found in corrections.items() if found == _swapped(word)}
        return Reading(_replaced(text, corrections), _replaced(text, of_layout))

    def corrections(self, text: str) -> dict[str, str]:
        """Return what to read for each word that no product has, where something is near enough."""
        unknown = [w for w in dict.fromkeys(words(text)) if len(w) >= SHORTEST and not self._known(w)]
        nearest = {word: self._nearest(word) for word in unknown}
        return {word: found for word, found in nearest.items() if found}

    def _nearest(self, word: str) -> str | None:
        swapped = _swapped(word)
        if swapped in self._rank or self._known(swapped):
            return swapped
        for candidates in (self._by_letter.get(word[0], []), self._vocabulary):
            if found := self._within(word, candidates):
                return found
        return None

    def _within(self, word: str, candidates: Sequence[str]) -> str | None:
        """Return the candidate with the fewest errors, of those the most frequent."""
        errors = 2 if len(word) >= _TWO_ERRORS_FROM else 1
        found = process.extract(word, candidates, scorer=OSA.distance, score_cutoff=errors, limit=None)
        return min(found, key=lambda match: (match[1], self._rank[match[0]]))[0] if found else None


def _swapped(word: str) -> str:
    """Return a word as the other layout of the keyboard types it."""
    return word.translate(_OTHER_LAYOUT)


def _replaced(text: str, corrections: Mapping[str, str]) -> str:
    if not corrections:
        return text
    return re.sub(r"[^\W\d_]+", lambda match: corrections.get(match[0], match[0]), fold(text))
