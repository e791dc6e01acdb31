"""What queries have that products do not: slips of the keyboard, and words about something else.

Both teach the pieces of words. A misspelt word falls apart into others than the word itself, and these have
to lead to the same product; pieces that say nothing by themselves have to weigh little.
"""

from collections.abc import Sequence
from random import Random

_LEAST_LETTERS = 4  # of a text that gets a slip
_MOST_STRANGE = 2


def with_slip(text: str, random: Random) -> str:
    """Return a text with one letter swapped, lost, doubled or wrong; a very short one as it is."""
    if len(text) < _LEAST_LETTERS:
        return text
    letters = list(text)
    place = random.randint(1, len(letters) - 2)
    kind = random.random()
    if kind < 0.3:
        letters[place], letters[place + 1] = letters[place + 1], letters[place]
    elif kind < 0.6:
        del letters[place]
    elif kind < 0.8:
        letters.insert(place, letters[place])
    else:
        letters[place] = random.choice(letters)
    return "".join(letters)


def with_strange_words(text: str, others: Sequence[str], random: Random) -> str:
    """Return a text with one or two words that have nothing to do with it.

    Args:
        text: a query.
        others: words of the catalogue; half of the strange words are two halves of these.
        random: draws.

    Returns:
        The text, the strange words anywhere among its own.
    """
    words = text.split()
    for _ in range(random.randint(1, _MOST_STRANGE)):
        strange = random.choice(others)
        if random.random() < 0.5:
            other = random.choice(others)
            strange = strange[: random.randint(1, 4)] + other[-random.randint(1, 4) :]
        words.insert(random.randint(0, len(words)), strange)
    return " ".join(words)
