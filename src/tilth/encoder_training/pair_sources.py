"""Where pairs come from: each source makes a pseudo-query of a product, or says that it cannot.

A pseudo-query is what somebody might type who looks for the product. It is all that stands in for queries
while a shop has none that were judged.
"""

from collections.abc import Callable, Mapping, Sequence
from random import Random

from tilth.encoder_training.texts import ProductText

Source = Callable[[ProductText, Random], str]  # an empty text: this product has nothing for it

_MOST_WORDS = 5
_MOST_DESCRIBED = 8
_CONTIGUOUS = 0.5  # of the title's words, how often a run of neighbours is taken


def from_title(text: ProductText, random: Random) -> str:
    """Return one to five words of the title, in their order, often neighbours."""
    return _some(text.title.split(), random.randint(1, _MOST_WORDS), random)


def from_description(text: ProductText, random: Random) -> str:
    """Return two to eight neighbouring words of the description: the title is told from what says it."""
    words = text.description.split()
    return _run(words, random.randint(2, _MOST_DESCRIBED), random) if len(words) > 2 else ""


def from_attributes(text: ProductText, random: Random) -> str:
    """Return a value with its unit, sometimes with the attribute's name or with words of the title.

    Of a value that is a text of its own, up to eight neighbouring words are taken.
    """
    if not text.attributes:
        return ""
    name, value = random.choice(text.attributes)
    wanted = value if value and random.random() < 0.7 else f"{name} {value}".strip()
    if len(words := wanted.split()) > _MOST_DESCRIBED:
        wanted = _run(words, _MOST_DESCRIBED, random)
    if random.random() < 0.5:
        return wanted
    return f"{_run(text.title.split(), random.randint(1, 2), random)} {wanted}"


def from_names(text: ProductText, random: Random) -> str:
    """Return brand and type, sometimes with words of the title."""
    if not text.names or random.random() < 0.5:
        return text.names
    return f"{text.names} {_run(text.title.split(), random.randint(1, 2), random)}"


CATALOGUE: Mapping[str, Source] = {
    "title": from_title,
    "description": from_description,
    "attributes": from_attributes,
    "names": from_names,
}


def _some(words: Sequence[str], count: int, random: Random) -> str:
    if random.random() < _CONTIGUOUS or count >= len(words):
        return _run(words, count, random)
    return " ".join(words[place] for place in sorted(random.sample(range(len(words)), count)))


def _run(words: Sequence[str], count: int, random: Random) -> str:
    first = random.randint(0, max(len(words) - count, 0))
    return " ".join(words[first : first + count])
