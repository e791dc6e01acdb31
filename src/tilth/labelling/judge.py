"""Grades by a language model: one question a pair of query and product, and nothing taken on trust.

An answer counts if it is a JSON object with a grade of the scale and a reason. Any other is answered by a
short correction, a few times; then the pair has failed, with a cause, and has no judgment. A pair that failed
is asked again by the next run; one that was judged is not.
"""

import re
from collections import deque
from collections.abc import Container, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any

import orjson

from tilth.catalog import Product, clean_text
from tilth.errors import SettingError, shorten
from tilth.judgments import Judgment
from tilth.labelling.chat import Chat, EndpointError, EndpointRefusedError, Usage
from tilth.labelling.prompts import Message, Prompt
from tilth.query import Query

KIND = "model"  # of judge
Key = tuple[str, str]  # query_id, product_id

_LONGEST_REASON = 500  # characters
_REPEATED = 2_000  # characters of a useless answer that a model is shown again
_THOUGHT = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Pair:
    """What is to be graded."""

    query: Query
    product: Product

    @property
    def key(self) -> Key:
        """query_id and product_id."""
        return self.query.query_id, self.product.id


@dataclass(frozen=True, slots=True)
class Prices:
    """Of a million tokens, in any currency."""

    tokens_in: float = 0.0
    tokens_out: float = 0.0

    def __post_init__(self) -> None:
        if not (self.tokens_in >= 0 and self.tokens_out >= 0):
            raise SettingError(f"a price is below 0: {self.tokens_in}, {self.tokens_out}")

    def cost(self, usage: Usage) -> float:
        """Return what some tokens cost."""
        return (self.tokens_in * usage.tokens_in + self.tokens_out * usage.tokens_out) / 1_000_000


@dataclass(frozen=True, slots=True)
class JudgeSettings:
    """How many pairs are asked about at once, how stubbornly, and for how much."""

    concurrency: int = 4
    corrections: int = 2  # of an answer that cannot be used
    patience: int = 5  # pairs in a row that the endpoint may leave without an answer
    prices: Prices = field(default_factory=Prices)
    most_cost: float | None = None

    def __post_init__(self) -> None:
        for name, least in (("concurrency", 1), ("corrections", 0), ("patience", 1)):
            if getattr(self, name) < least:
                raise SettingError(f"{name} is {getattr(self, name)}; the least is {least}")
        if self.most_cost is not None and not (self.most_cost > 0 and any(asdict(self.prices).values())):
            raise SettingError("a limit of cost must be above 0, and needs the prices of tokens")


DEFAULT = JudgeSettings()


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one pair: a judgment, or the cause why there is none; and what that took."""

    pair: Pair
    usage: Usage
    judgment: Judgment | None = None
    cause: str = ""
    unanswered: EndpointError | None = None  # the error, where it was the endpoint that failed


@dataclass(slots=True)
class Tally:
    """What a run has done so far."""

    judged: int = 0
    failed: int = 0
    skipped: int = 0  # known before, or named twice
    usage: Usage = field(default_factory=Usage)
    cost: float = 0.0
    stopped_by_cost: bool = False

    def to_json(self) -> dict[str, object]:
        """Return the numbers as plain data."""
        counts = asdict(self)
        return {**counts.pop("usage"), **counts}


def judge_pairs(
    pairs: Iterable[Pair],
    chat: Chat,
    prompt: Prompt,
    *,
    known: Container[Key] = frozenset(),
    settings: JudgeSettings = DEFAULT,
    tally: Tally | None = None,
) -> Generator[Result, None, None]:
    """Ask about pairs, several at a time, and yield what became of each as it arrives.

    Nothing is asked ahead of who takes the results, but for `concurrency` pairs. When the cost limit is
    reached, or the endpoint refuses, no more is asked; what was asked by then is still yielded. So the limit
    is exceeded by `concurrency` answers at most.

    Args:
        pairs: what to grade; of equal keys the first counts.
        chat: the model to ask; judgments carry its name as `judge`.
        prompt: what it is told.
        known: (query_id, product_id) of the pairs to leave out.
        settings: how.
        tally: kept up to date, if given.

    Yields:
        Results, in the order in which they are ready. Who takes no more of them closes the generator.

    Raises:
        EndpointError: the endpoint refuses every question, or left several pairs in a row without an answer.
    """
    counts = Tally() if tally is None else tally
    rest = _unknown(pairs, known, counts)
    asked: set[Future[Result]] = set()
    recent: deque[Result] = deque(maxlen=settings.patience)
    end: EndpointError | None = None
    with ThreadPoolExecutor(settings.concurrency) as pool:
        try:
            while True:
                if end is None and not counts.stopped_by_cost:
                    for pair in islice(rest, settings.concurrency - len(asked)):
                        asked.add(pool.submit(_grade, pair, chat, prompt, settings.corrections))
                if not asked:
                    break
                done, asked = wait(asked, return_when=FIRST_COMPLETED)
                for result in [future.result() for future in done]:
                    recent.append(result)
                    end = end or _hopeless(recent, settings.patience)
                    _count(result, counts, settings)
                    yield result
        except BaseException:  # whoever takes the results has gone: what waits must not keep the process
            chat.stop()
            raise
    if end is not None:
        raise end


def _unknown(pairs: Iterable[Pair], known: Container[Key], counts: Tally) -> Iterator[Pair]:
    met: set[Key] = set()
    for pair in pairs:
        if pair.key in known or pair.key in met:
            counts.skipped += 1
            continue
        met.add(pair.key)
        yield pair


def _count(result: Result, counts: Tally, settings: JudgeSettings) -> None:
    counts.judged += result.judgment is not None
    counts.failed += result.judgment is None
    counts.usage += result.usage
    counts.cost = settings.prices.cost(counts.usage)
    counts.stopped_by_cost = settings.most_cost is not None and counts.cost >= settings.most_cost


def _hopeless(recent: Sequence[Result], patience: int) -> EndpointError | None:
    """Return the error that ends the run, if the last results leave no hope for further ones."""
    last = recent[-1].unanswered
    if isinstance(last, EndpointRefusedError):
        return last
    return last if len(recent) == patience and all(result.unanswered for result in recent) else None


# --- one pair -------------------------------------------------------------------------------------


def _grade(pair: Pair, chat: Chat, prompt: Prompt, corrections: int) -> Result:
    """Ask about a pair until an answer can be used."""
    messages = prompt.messages(pair.query.text, pair.product)
    schema, usage, problem = answer_schema(prompt.highest), Usage(), ""
    for _ in range(corrections + 1):
        try:
            answer = chat.ask(messages, schema)
        except EndpointError as error:
            return Result(pair, usage, cause=str(error), unanswered=error)
        usage += answer.usage
        try:
            grade, reason = parse_answer(answer.text, prompt.highest)
        except UnusableAnswerError as error:
            problem = f"{error}: {shorten(answer.text)}"
            messages = [*messages, *_correction(answer.text, prompt)]
            continue
        return Result(pair, usage, _judgment(pair, grade, reason, chat, prompt))
    return Result(pair, usage, cause=f"no usable answer in {corrections + 1}; the last one {problem}")


def _correction(answer: str, prompt: Prompt) -> list[Message]:
    shown = answer[:_REPEATED] or "-"  # some endpoints take no empty message
    return [{"role": "assistant", "content": shown}, {"role": "user", "content": prompt.correction}]


def _judgment(pair: Pair, grade: int, reason: str, chat: Chat, prompt: Prompt) -> Judgment:
    return Judgment(
        query_id=pair.query.query_id,
        query=pair.query.text,
        product_id=pair.product.id,
        grade=grade,
        highest=prompt.highest,
        judge=chat.endpoint.model,
        kind=KIND,
        time=chat.clock.now(),
        reason=reason,
        prompt=prompt.version,
    )


class UnusableAnswerError(Exception):
    """A model's answer is not what was asked for; its text says what is wrong."""


def answer_schema(highest: int) -> dict[str, Any]:
    """Return the JSON Schema of an answer: first the reason, so that the grade follows from it."""
    return {
        "type": "object",
        "properties": {
            "reason": {"type": "string"},
            "grade": {"type": "integer", "enum": list(range(highest + 1))},
        },
        "required": ["reason", "grade"],
        "additionalProperties": False,
    }


def parse_answer(text: str, highest: int) -> tuple[int, str]:
    """Read a model's answer: one JSON object, alone, in a code block, or with words around it.

    Args:
        text: what the model wrote; what stands between <think> tags is not part of the answer.
        highest: grade.

    Returns:
        Grade, and reason on one line, cut to 500 characters.

    Raises:
        UnusableAnswerError: there is no object, its grade is no whole number of the scale, or it gives no
            reason.
    """
    answer = _object(_THOUGHT.sub("", text))
    grade, reason = answer.get("grade"), answer.get("reason")
    if type(grade) is not int or not 0 <= grade <= highest:  # true is an int, too
        raise UnusableAnswerError(f"has no grade from 0 to {highest}")
    if not isinstance(reason, str) or not clean_text(reason):
        raise UnusableAnswerError("gives no reason")
    return grade, clean_text(reason)[:_LONGEST_REASON]


def _object(text: str) -> Mapping[str, Any]:
    try:
        found = orjson.loads(text[text.find("{") : text.rfind("}") + 1])
    except orjson.JSONDecodeError as error:
        raise UnusableAnswerError("is no JSON object") from error
    assert isinstance(found, dict)  # it opens with a brace
    return found


# --- what is known --------------------------------------------------------------------------------


def judgments_of(judgments: Iterable[Judgment], judge: str, prompt: Prompt) -> Iterator[Judgment]:
    """Yield the judgments that a model gave under a prompt, of many."""
    version = prompt.version
    return (j for j in judgments if j.kind == KIND and j.judge == judge and j.prompt == version)


def known_pairs(judgments: Iterable[Judgment], queries: Iterable[Query]) -> set[Key]:
    """Return the pairs that need no question any more.

    Args:
        judgments: by one judge under one prompt.
        queries: as they are now; a judgment of another text under the same id is none of this query.

    Returns:
        (query_id, product_id) of the judgments.
    """
    texts = {query.query_id: query.text for query in queries}
    return {(j.query_id, j.product_id) for j in judgments if texts.get(j.query_id) == j.query}
