"""From hits to the text that a language model answers from: passages to cite, under a budget of tokens.

Every fact comes from the store's record of that moment, and the passages are those that were encoded. The
budget holds for the whole text: what is counted is what is handed over.
"""

import math
import re
from bisect import bisect_left
from collections import Counter as Tally
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain, takewhile
from typing import NamedTuple, Protocol

from tokenizers import Tokenizer

from tilth.catalog import Product
from tilth.context_text import (
    SENTENCES,
    TEMPLATES,
    Offer,
    Passage,
    Source,
    Template,
    Variant,
    differences,
    inert,
    language_of,
)
from tilth.errors import SettingError
from tilth.pipeline import Answer, Pipeline
from tilth.reranking.answerability import Decision
from tilth.retrieval.analyzer import analyze
from tilth.retrieval.filters import Filters
from tilth.retrieval.index import Index
from tilth.retrieval.passages import PassageCutter

ALIKE = 0.9  # of the terms of two texts, the least share in common that makes one a duplicate of the other
TOKENIZERS = ("encoder", "characters")
_LEAST_REPEATED = 12  # terms; to point to another place would cost more than a shorter text
_NEGATIONS = frozenset(analyze("no not non never without cannot isn't don't doesn't не нет ни без кроме"))


class Counter(Protocol):
    """Counts tokens as the model does that will read the text."""

    def __call__(self, text: str, /) -> int:
        """Return how many tokens a text has, from 0."""


@dataclass(frozen=True, slots=True)
class Context:
    """What a language model is given, and its parts.

    `nearest`: the shop seems to have nothing that fits (`decision`), and the sources are merely the nearest.
    `left_out` are the ids of hits that the budget had no room for.
    """

    query: str
    text: str
    tokens: int  # of `text`
    language: str  # of the fixed sentences: en or ru
    sources: tuple[Source, ...]
    left_out: tuple[str, ...]
    decision: Decision | None

    @property
    def nearest(self) -> bool:
        """Whether the sources are to be offered as the nearest only, not as fitting."""
        return self.decision is not None and not self.decision.answered


def build_context(
    pipeline: Pipeline,
    query: str,
    *,
    budget_tokens: int,
    filters: Filters | None = None,
    k: int = 20,
    passages_per_product: int = 2,
    template: str = "markdown",
    tokenizer: str | Counter = "encoder",
) -> Context:
    """Search, and write what a language model needs to answer from the hits.

    Args:
        pipeline: an opened index.
        query: what the customer typed.
        budget_tokens: of the whole text, from 1.
        filters: conditions that every hit must satisfy.
        k: how many hits are looked at, from 1.
        passages_per_product: at most, from 1.
        template: markdown, json or xml.
        tokenizer: encoder (that of the index), characters (one token for four of them), or any `Counter`.

    Returns:
        The context. Products come in the order of the hits; where the best is too long, its text is cut.

    Raises:
        InputError: a filter names an unknown field or a value of the wrong type.
        SettingError: a number or name is out of its range, or the budget is too small for any product.
    """
    if k < 1:
        raise SettingError(f"k is {k}; it must be at least 1")
    form = Form(budget_tokens, passages_per_product, template, tokenizer)
    return context_of(pipeline.answer(query, k, filters, explain=False), pipeline.index, form)


@dataclass(frozen=True, slots=True)
class Form:
    """How a context is written; see `build_context`."""

    budget_tokens: int
    passages_per_product: int = 2
    template: str = "markdown"
    tokenizer: str | Counter = "encoder"

    def __post_init__(self) -> None:
        if self.passages_per_product < 1:
            raise SettingError(f"passages_per_product is {self.passages_per_product}; it must be at least 1")
        if self.template not in TEMPLATES:
            raise SettingError(f"no template {self.template!r}; there are {', '.join(TEMPLATES)}")
        if isinstance(self.tokenizer, str) and self.tokenizer not in TOKENIZERS:
            raise SettingError(
                f"no tokenizer {self.tokenizer!r}; there are {' and '.join(TOKENIZERS)}, or any function"
            )


def context_of(answer: Answer, index: Index, form: Form) -> Context:
    """Write what a language model needs to answer from hits that were found already.

    Args:
        answer: of a pipeline.
        index: the generation that it was found in, which cuts passages and counts tokens.
        form: how the context is written.

    Returns:
        The context.

    Raises:
        SettingError: the budget is too small for any product.
    """
    groups = _groups(answer, index.cutter)
    page = _Page(answer, TEMPLATES[form.template], _counter(form.tokenizer, index), form.budget_tokens)
    left_out = [group.first.id for group in groups if not page.takes(group, form.passages_per_product)]
    if not page.sources and page.least > form.budget_tokens:
        raise SettingError(f"budget_tokens is {form.budget_tokens}; the shortest text takes {page.least}")
    sources = tuple(page.sources)
    return Context(
        answer.query, page.text, page.tokens, page.language, sources, tuple(left_out), answer.decision
    )


# --- citations ------------------------------------------------------------------------------------

_CITATION = re.compile(r"[\[【]\s*(\d{1,6}(?:\s*[-–,;]\s*\d{1,6})*)\s*[\]】]", re.ASCII)
_SENTENCE = re.compile(r"(?<=[.!?…])\s+(?!\s*[\[【]\d)|\n+")  # a label may follow the full stop
_LONGEST_RANGE = 100  # of labels, as in [1-3]


@dataclass(frozen=True, slots=True)
class Citations:
    """What an answer cites, in the order of first mention; `unknown` are labels that it was not given.

    `uncited` are its sentences without any label; a greeting is one too.
    """

    given: tuple[str, ...]
    unknown: tuple[str, ...]
    uncited: tuple[str, ...]


def check_citations(answer_text: str, context: Context) -> Citations:
    """Compare the labels in an answer with those that its context gave.

    Args:
        answer_text: of a language model; `[1]`, `[1][2]`, `[1, 2]`, `[1-3]` and `【1】` are citations.
        context: what it was given.

    Returns:
        The citations; an answer with `unknown` ones is not to be shown as it is.
    """
    cited = dict.fromkeys(chain.from_iterable(map(_labels, _CITATION.findall(answer_text))))
    known = {source.label for source in context.sources}
    sentences = (sentence.strip() for sentence in _SENTENCE.split(answer_text))
    uncited = [each for each in sentences if re.search(r"[^\W\d]", each) and not _CITATION.search(each)]
    given, unknown = (
        tuple(label for label in cited if (label in known) is wanted) for wanted in (True, False)
    )
    return Citations(given, unknown, tuple(uncited))


def _labels(cited: str) -> Iterator[str]:
    for part in re.split("[,;]", cited):
        numbers = [int(number) for number in re.split("[-–]", part)]
        low, high = numbers[0], numbers[-1]
        within = range(low, high + 1) if 0 <= high - low < _LONGEST_RANGE else numbers
        yield from (f"[{number}]" for number in within)


# --- tokens ---------------------------------------------------------------------------------------


def _counter(tokenizer: str | Counter, index: Index) -> Counter:
    if not isinstance(tokenizer, str):
        return tokenizer
    if tokenizer == "encoder":
        return _encoder_tokens(index.legs["dense"].tokenizer)
    return lambda text: math.ceil(len(text) / 4)


@lru_cache(maxsize=2)  # a copy takes a tenth of a second
def _encoder_tokens(tokenizer: Tokenizer) -> Counter:
    """Return the counter of a tokenizer, without the length at which an encoder stops to read."""
    whole = Tokenizer.from_str(tokenizer.to_str())
    whole.no_truncation()
    whole.no_padding()
    return lambda text: len(whole.encode_batch_fast([text], add_special_tokens=False)[0].ids)


# --- hits to groups of alike products -------------------------------------------------------------


class _Piece(NamedTuple):
    """A passage as it was encoded; `rest` is what follows the title that it opens with."""

    field: str
    text: str
    rest: str
    terms: frozenset[str]  # of the text
    rest_terms: frozenset[str]


class _Group(NamedTuple):
    """The best product of some that belong together, its passages, and the others."""

    first: Product
    pieces: Sequence[_Piece]
    terms: frozenset[str]
    others: list[Product]


def alike(one: frozenset[str], other: frozenset[str]) -> bool:
    """Tell whether two sets of index terms are of nearly the same text.

    Terms with a digit and negations must be equal, for these tell products apart; of all terms together, 9 of
    10 must be in both.
    """
    differing = one ^ other
    if any(term in _NEGATIONS or any(map(str.isdigit, term)) for term in differing):
        return False
    return len(one & other) >= ALIKE * len(one | other) > 0


def _groups(answer: Answer, cutter: PassageCutter) -> list[_Group]:
    """Return the hits, best first, each with the later ones that are variants or duplicates of it."""
    products = [hit.product for hit in answer.hits]
    pieces = [
        _pieces(product, cut.passages) for product, cut in zip(products, cutter.cut(products), strict=True)
    ]
    groups: list[_Group] = []
    for product, ranked in zip(products, _nearest_first(answer.read_as, pieces), strict=True):
        terms = frozenset(chain.from_iterable(piece.terms for piece in ranked))
        for group in groups:
            same = product.item_group_id and product.item_group_id == group.first.item_group_id
            if same or alike(terms, group.terms):
                group.others.append(product)
                break
        else:
            groups.append(_Group(product, ranked, terms, []))
    return groups


def _pieces(product: Product, passages: Sequence[str]) -> list[_Piece]:
    title, pieces = product.title.split(), []
    for number, passage in enumerate(passages):
        words = passage.split()
        repeated = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(words, title, strict=False)))
        rest = words[repeated:]
        field = _field(rest, product) if number else "title"
        terms, rest_terms = (frozenset(analyze(text)) for text in (passage, " ".join(rest)))
        pieces.append(_Piece(field, passage, " ".join(rest), terms, rest_terms))
    return pieces


def _field(words: Sequence[str], product: Product) -> str:
    """Return where words stand, description or attributes: where more of them do."""
    attributes = " ".join(f"{name.replace('_', ' ')} {value}" for name, value in product.attributes.items())
    described, listed = set(product.description.split()), set(attributes.split())
    in_attributes = sum(word in listed or word.strip(":;") in listed for word in words)
    return "description" if sum(word in described for word in words) >= in_attributes else "attributes"


def _nearest_first(query: str, products: Sequence[Sequence[_Piece]]) -> list[list[_Piece]]:
    """Order each product's passages by the query's terms in them; those that few passages have count most."""
    seen = Tally(term for pieces in products for piece in pieces for term in piece.terms)
    total = sum(map(len, products))
    weights = {term: math.log1p((total - seen[term] + 0.5) / (seen[term] + 0.5)) for term in analyze(query)}
    return [
        sorted(pieces, key=lambda piece: -sum(weights[term] for term in weights if term in piece.terms))
        for pieces in products
    ]


# --- groups to sources under the budget -----------------------------------------------------------

_SENTENCE_END = re.compile(r"[.!?…;]$")


class _Page:
    """A text in the making: what it says in any case, and the sources taken so far."""

    def __init__(self, answer: Answer, template: Template, count: Counter, budget: int) -> None:
        self.language = language_of(answer.read_as)
        self._says, self._template = SENTENCES[self.language], template
        self._count, self._budget = count, budget
        self._finding, self._remark = _verdict(answer, self.language)
        self.sources: list[Source] = []
        self._blocks: list[str] = []
        self._shown: list[tuple[str, frozenset[str]]] = []  # labels and terms of the passages shown whole
        self.text = self._written()
        self.tokens = count(self.text)
        self.least = math.inf if answer.hits else self.tokens  # of the shortest page that was tried

    def _written(self, *more: str) -> str:
        note = self._says["note"].format(where=self._says[self._template.name])
        return self._template.page(note, self._finding, [*self._blocks, *more])

    def takes(self, group: _Group, most: int) -> bool:
        """Add the product of a group if there is room, with as much of its text as there is room for."""
        pieces = group.pieces
        if pieces and self._repeated(pieces[0]):
            pieces = sorted(
                pieces, key=lambda piece: piece.field != "title"
            )  # the head, which names it, first
        pieces = [piece for number, piece in enumerate(pieces) if not number or piece.rest_terms][:most]
        for source in self._shorter(self._source(group, pieces)):
            if self._adds(source):
                self._shown += [
                    (source.label, piece.rest_terms)
                    for piece, passage in zip(pieces, source.passages, strict=False)
                    if not passage.cut and not passage.same_as
                ]
                return True
        return False

    def _adds(self, source: Source) -> bool:
        block = self._template.block(source, self._remark)
        if self.sources and self.tokens + self._count(block) > self._budget:
            return False  # spares counting the whole
        text = self._written(block)
        tokens = self._count(text)
        if not self.sources:
            self.least = min(self.least, tokens)
        if tokens > self._budget:
            return False
        self.text, self.tokens = text, tokens
        self.sources.append(source)
        self._blocks.append(block)
        return True

    def _source(self, group: _Group, pieces: Sequence[_Piece]) -> Source:
        passages = tuple(self._passage(piece, first=not number) for number, piece in enumerate(pieces))
        variants = tuple(Variant(Offer.of(other), differences(other, group.first)) for other in group.others)
        return Source(f"[{len(self.sources) + 1}]", Offer.of(group.first), passages, variants)

    def _passage(self, piece: _Piece, *, first: bool) -> Passage:
        """Return a passage as it is shown: the title once a product, and long texts once a page."""
        same = "" if first else self._repeated(piece)
        text = self._says["same"].format(label=same) if same else inert(piece.text if first else piece.rest)
        field = "attributes" if not first and piece.field == "title" else piece.field
        return Passage(field, text, self._count(text), same_as=same)

    def _repeated(self, piece: _Piece) -> str:
        """Return the label of a product that shows nearly the same long text already, or nothing."""
        if len(piece.rest_terms) < _LEAST_REPEATED:
            return ""
        return next((label for label, shown in self._shown if alike(piece.rest_terms, shown)), "")

    def _shorter(self, source: Source) -> Iterator[Source]:
        """Yield a source, then it with ever fewer passages and variants, and, if it is the first, cut."""
        for number in range(max(len(source.passages), 1), 0, -1):
            yield replace(source, passages=source.passages[:number])
        source, variants = replace(source, passages=source.passages[:1]), source.variants
        for number in range(len(variants) - 1, -1, -1):
            source = replace(source, variants=variants[:number], more_variants=len(variants) - number)
            yield source
        if source.passages and not self.sources:
            yield from self._cut(source)

    def _cut(self, source: Source) -> Iterator[Source]:
        """Yield a source cut to what fits: after a sentence in its latter half, a word, or without text."""
        (passage,) = source.passages
        words = passage.text.split()

        def first(number: int) -> Source:
            text = " ".join([*words[:number], self._says["cut"]])
            return replace(
                source, passages=(replace(passage, text=text, tokens=self._count(text), cut=True),)
            )

        def too_long(number: int) -> bool:
            return (
                self._count(self._written(self._template.block(first(number), self._remark))) > self._budget
            )

        most = bisect_left(range(1, len(words)), True, key=too_long)
        ends = [n for n in range(most, most // 2, -1) if _SENTENCE_END.search(words[n - 1])]
        yield from map(first, [*ends[:1], most, 0])


def _verdict(answer: Answer, language: str) -> tuple[str, str]:
    """Return what the text says of the hits as a whole, and of each; empty where nothing is to be said."""
    says, decision = SENTENCES[language], answer.decision
    if not answer.hits:
        return says["nothing"], ""
    if decision is None or decision.answered:
        return "", ""
    return says["refused"].format(chance=f"{decision.probability:.2g}"), says["nearest"]
