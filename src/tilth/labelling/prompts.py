"""What a language model is told before it grades: texts with a version, and products fenced in as data.

A description may hold anything, an order to the judge too. Between the fences stands text without angle
brackets, line breaks within a value or invisible characters, so that no product can end its fence, forge a
field or hide words from people.
"""

import os
import re
import tomllib
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from importlib import resources
from typing import Any

import orjson

from tilth.catalog import Product, clean_text
from tilth.errors import InputError, SettingError
from tilth.files import open_binary
from tilth.judgments import SCALES

LANGUAGES = {"en": "judge_english.toml", "ru": "judge_russian.toml"}
Message = dict[str, str]

_TEXTS = ("system", "user", "correction")
_REMEDY = "A prompt is a TOML file with the texts system, user and correction, and the number highest"
_PLACES = re.compile(r"\{(query|product)\}")
_LAYOUT = 1  # of a record between its fences; a change of it is a change of every prompt
_LONGEST = 2_000  # characters of a value; a grade does not hang on what comes later
_MOST_ATTRIBUTES = 60
_UNSEEN = ("Cf", "Cs", "Co", "Cn")  # format characters, and what is no character
_BRACKETS = str.maketrans("<>", "‹›")


@dataclass(frozen=True, slots=True)
class Prompt:
    """The texts that a judge is given; grades go from 0 to `highest`."""

    system: str
    user: str  # with {query} and {product}
    correction: str  # what follows an answer that cannot be used
    highest: int

    @property
    def version(self) -> str:
        """A hash of everything that the judge is told but for query and product: 16 hexadecimal digits."""
        told = orjson.dumps([_LAYOUT, self.highest, self.system, self.user, self.correction])
        return blake2b(told, digest_size=8).hexdigest()

    def messages(self, query: str, product: Product) -> list[Message]:
        """Return the messages that ask for one grade.

        Args:
            query: what the customer typed.
            product: what is to be graded.

        Returns:
            The system message, and the user message with both in their fences.
        """
        fenced = {"query": _fence("query", inert(query)), "product": _fence("product", record_text(product))}
        asked = _PLACES.sub(lambda place: fenced[place[1]], self.user)  # one pass: data is not a template
        return [{"role": "system", "content": self.system}, {"role": "user", "content": asked}]


def packaged_prompt(language: str) -> Prompt:
    """Return the prompt that comes with Tilth.

    Args:
        language: `en` or `ru`.

    Returns:
        The prompt, for grades from 0 to 3.

    Raises:
        SettingError: there is none in this language.
    """
    if language not in LANGUAGES:
        raise SettingError(f"no prompt in the language {language!r}; there are {', '.join(LANGUAGES)}")
    text = resources.files("tilth.labelling").joinpath(LANGUAGES[language]).read_text("utf-8")
    return _prompt(tomllib.loads(text), LANGUAGES[language])


def read_prompt(path: str | os.PathLike[str]) -> Prompt:
    """Read a prompt from a TOML file with the keys `system`, `user`, `correction` and `highest`.

    Args:
        path: the file; `user` holds {query} and {product} once each.

    Returns:
        The prompt.

    Raises:
        InputError: the file cannot be read, is no TOML, or lacks one of these.
    """
    with open_binary(path) as file:
        try:
            data = tomllib.loads(file.read().decode("utf-8-sig"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InputError(f"is not TOML: {error}", path=path, remedy=_REMEDY) from error
    return _prompt(data, path)


def _prompt(data: dict[str, Any], path: object) -> Prompt:
    for name in _TEXTS:
        if not isinstance(data.get(name), str) or not data[name].strip():
            raise InputError(
                "a prompt needs this text", path=path, field=name, value=data.get(name), remedy=_REMEDY
            )
    if sorted(_PLACES.findall(data["user"])) != ["product", "query"]:
        raise InputError("must hold {query} and {product} once each", path=path, field="user")
    highest = data.get("highest")
    if type(highest) is not int or highest not in SCALES:
        raise InputError(
            "is not the top of a scale: 1, 3 or 5",
            path=path, field="highest", value=highest, remedy=_REMEDY,
        )  # fmt: skip
    return Prompt(**{name: data[name].strip() for name in _TEXTS}, highest=highest)


def inert(text: str) -> str:
    """Return text on one line, without angle brackets and without characters that nobody sees.

    Args:
        text: anything that a customer typed or a feed holds.

    Returns:
        The text as a person reads it; `<` and `>` become `‹` and `›`.
    """
    seen = text if text.isprintable() else "".join(c for c in text if unicodedata.category(c) not in _UNSEEN)
    return clean_text(seen).translate(_BRACKETS)


def record_text(product: Product) -> str:
    """Return what a judge is shown of a product: one `name: value` a line, the longest values cut.

    Args:
        product: the record; fields that it lacks are left out.

    Returns:
        At least the line of the title.
    """
    return "\n".join(f"{name}: {value[:_LONGEST]}" for name, value in _facts(product) if value)


def _facts(product: Product) -> Iterator[tuple[str, str]]:
    for name in ("title", "brand", "product_type", "mpn", "gtin"):
        yield name, inert(getattr(product, name))
    for name in ("price", "sale_price"):
        yield name, inert(str(getattr(product, name) or ""))
    if product.rating is not None:
        yield "rating", f"{product.rating:g}"
    attributes = list(product.attributes.items())[:_MOST_ATTRIBUTES]
    yield "attributes", "; ".join(f"{inert(name)}: {inert(str(value))}" for name, value in attributes)
    yield "description", inert(product.description)


def _fence(name: str, text: str) -> str:
    return f"<{name}>\n{text}\n</{name}>"
