"""What families of models were trained to see before a query and before a passage."""

import re
from typing import NamedTuple


class Prefixes(NamedTuple):
    """The text that stands before a query, and before a passage."""

    query: str
    passage: str


_NONE = Prefixes("", "")
_INSTRUCTION = Prefixes("Instruct: Given a product search query, retrieve relevant products\nQuery: ", "")
_SENTENCE = Prefixes("Represent this sentence for searching relevant passages: ", "")
_SEARCH = Prefixes("search_query: ", "search_document: ")

# A family by whole words of the model's name, the most specific first; the prefixes are of its model card.
FAMILIES = {
    r"e5-mistral|e5-large-instruct": _INSTRUCTION,
    r"e5|user-base": Prefixes("query: ", "passage: "),
    r"nomic-embed-text|frida|ru-en-rosberta": _SEARCH,
    r"bge-m3|user-bge-m3": _NONE,
    r"bge-(small|base|large)-en|mxbai-embed-large": _SENTENCE,
    r"arctic-embed-[ml]-v2": Prefixes("query: ", ""),
    r"arctic-embed": _SENTENCE,
}


def prefixes_of(name: str) -> Prefixes:
    """Return the prefixes of a model's family, by its name; none if the family is not known."""
    for family, prefixes in FAMILIES.items():
        if re.search(rf"(?<![a-z0-9])({family})(?![a-z0-9])", name.lower()):
            return prefixes
    return _NONE
