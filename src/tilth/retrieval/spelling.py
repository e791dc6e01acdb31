"""Words that the catalogue does not know, read as the nearest that it does.

Only a word without a single match is touched: what the shop sells is never "corrected". There are two steps.
What makes a word of the shop on the other keyboard layout is read so (`njvfn` is томат; `cf[fh` is сахар, as
some marks are letters there). Then what is still unknown is read as the nearest word of titles, brands and
types, by optimal string alignment distance (Damerau 1964: insertions, deletions, substitutions, swaps of
neighbours) from rapidfuzz.
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
from tilth.retrieval.analyzer import TOKEN, analyze, fold, words

MOST_WORDS = 100_000  # of the vocabulary, the most frequent; bounds memory and time at any catalogue size
_SHORTEST = 4  # letters; shorter words have too many neighbours
_SHORTEST_RETYPED = 3  # letters; below `_SHORTEST` only words of the vocabulary: terms may be parts of codes
_TWO_ERRORS_FROM = 8  # letters
_LATIN = "qwertyuiop[]asdfghjkl;'zxcvbnm,."
_CYRILLIC = "йцукенгшщзхъфывапролджэячсмитьбю"
_SHIFTED = "{}:<>`~"  # capitals that `fold` does not know, and ё, which it makes е; `"` is a quotation mark
_OTHER_LAYOUT = str.maketrans(_LATIN + _SHIFTED + _CYRILLIC, _CYRILLIC + "хъжбюее" + _LATIN)
_PIECE = re.compile(rf"[\w+\-{re.escape(_LATIN + _SHIFTED)}]+")  # a word of either layout, or a code


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
            file.write("".join(f"{word}\n" for word, _ in best if len(word) >= _SHORTEST_RETYPED).encode())


class Speller:
    """Corrects the words of a query."""

    def __init__(self, vocabulary: Sequence[str], known: Callable[[str], bool]) -> None:
        """Prepare.

        Args:
            vocabulary: words, the most frequent first.
            known: tells whether the index has a product with the word.
        """
        self._known = known
        self._rank = {word: rank for rank, word in enumerate(vocabulary)}
        self._candidates = [word for word in vocabulary if len(word) >= _SHORTEST]
        self._by_letter: dict[str, list[str]] = {}
        for word in self._candidates:
            self._by_letter.setdefault(word[0], []).append(word)

    def knowing(self, known: Callable[[str], bool]) -> "Speller":
        """Return a speller with the same vocabulary, for another state of the index."""
        other = copy(self)
        other._known = known
        return other

    def correct(self, text: str) -> str:
        """Return the text with its unknown words replaced; as it is where there is nothing to replace."""
        return self.read(text).corrected

    def read(self, text: str) -> Reading:
        """Return the text with its unknown words replaced, and with those alone of the other layout."""
        typed = _replaced(_PIECE, text, self._retyped(text))
        return Reading(_replaced(TOKEN, typed, self._near(typed)), typed)

    def corrections(self, text: str) -> dict[str, str]:
        """Return what `read` replaces, and by what: pieces of the other layout, then words by near ones."""
        retyped = self._retyped(text)
        return retyped | self._near(_replaced(_PIECE, text, retyped))

    def _retyped(self, text: str) -> dict[str, str]:
        """Return the pieces of a text that the shop has in the other layout, retyped."""
        retyped = {piece: self._retype(piece) for piece in _PIECE.findall(fold(text))}
        return {piece: read for piece, read in retyped.items() if read != piece}

    def _retype(self, piece: str) -> str:
        if self._known(piece):
            return piece
        for end in (len(piece), len(piece.rstrip(",.;"))):  # marks at the end are letters, or marks
            if self._sells(word := piece[:end].translate(_OTHER_LAYOUT)):
                return word + piece[end:]
        parts = {word: word.translate(_OTHER_LAYOUT) for word in words(piece) if not self._known(word)}
        return _replaced(TOKEN, piece, parts) if all(map(self._sells, parts.values())) else piece

    def _sells(self, text: str) -> bool:
        """Tell whether a text is one word that the shop has; all terms of nothing are known."""
        if len(text) < _SHORTEST_RETYPED or (len(text) < _SHORTEST and text not in self._rank):
            return False
        return words(text) == [text] and bool(analyze(text)) and self._known(text)

    def _near(self, text: str) -> dict[str, str]:
        """Return the nearest word for each that no product has, where one is near enough."""
        unknown = [w for w in dict.fromkeys(words(text)) if len(w) >= _SHORTEST and not self._known(w)]
        nearest = {word: self._nearest(word) for word in unknown}
        return {word: found for word, found in nearest.items() if found}

    def _nearest(self, word: str) -> str | None:
        for candidates in (self._by_letter.get(word[0], []), self._candidates):
            if found := self._within(word, candidates):
                return found
        return None

    def _within(self, word: str, candidates: Sequence[str]) -> str | None:
        """Return the candidate with the fewest errors, of those the most frequent."""
        errors = 2 if len(word) >= _TWO_ERRORS_FROM else 1
        found = process.extract(word, candidates, scorer=OSA.distance, score_cutoff=errors, limit=None)
        return min(found, key=lambda match: (match[1], self._rank[match[0]]))[0] if found else None


def _replaced(pattern: re.Pattern[str], text: str, corrections: Mapping[str, str]) -> str:
    if not corrections:
        return text
    return pattern.sub(lambda match: corrections.get(match[0], match[0]), fold(text))
