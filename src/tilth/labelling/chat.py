"""Questions to a chat endpoint of OpenAI's form: paced, repeated with growing pauses, in a form it takes.

What passes (no connection, a timeout, 408, 429, 5xx) is tried again; after `Retry-After` where the endpoint
names a time, otherwise after a pause that doubles, shortened at random so that many who wait do not return
together. What does not pass is an error at once. The key travels in one header and stands in no message.
"""

import math
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, NamedTuple, Self
from urllib.parse import urlsplit

import orjson

from tilth.errors import InputError, MissingExtraError, SettingError, shorten
from tilth.labelling.pace import Pace

if TYPE_CHECKING:
    from types import ModuleType

    import httpx

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0  # seconds before a further attempt, unless the endpoint names them
_LONGEST_WAIT = 300.0  # seconds; an endpoint that asks for more has closed for today
_LETTERS = 3  # characters a token, where a number of tokens must be guessed; real ones are rather longer
_ANSWER = 100  # tokens that an answer is expected to have
_QUOTED = 300  # characters of an endpoint's own message
_UNFIT = (400, 413, 422)  # this request, as it is; another may be answered

_REMEDIES = {
    401: "Check the key, and that the right environment variable is named for it",
    402: "The account has no funds",
    403: "Check the key and what it may use",
    404: "Check the address, which ends in /v1 as a rule, and the name of the model",
}
_OTHER_REMEDY = "Check that the address is that of an OpenAI-compatible endpoint"


class EndpointError(InputError):
    """The endpoint did not answer a question; it may answer another."""


class EndpointRefusedError(EndpointError):
    """The endpoint will answer no question: wrong key, address or model."""


class _UnfitError(EndpointError):
    """The endpoint does not take this request in this form."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to ask, whom, and how fast; `url` goes up to the version: `http://localhost:8000/v1`."""

    url: str
    model: str
    key: str = field(default="", repr=False)
    timeout: float = 60.0  # seconds to connect, and between two pieces of an answer
    attempts: int = 5  # at one request
    requests_per_minute: float = math.inf
    tokens_per_minute: float = math.inf

    def __post_init__(self) -> None:
        _check_address(self.url)
        if not self.model:
            raise SettingError("the model needs a name")
        for name in ("timeout", "attempts", "requests_per_minute", "tokens_per_minute"):
            if not getattr(self, name) > 0:
                raise SettingError(f"{name} is {getattr(self, name)}; it must be above 0")


def _check_address(url: str) -> None:
    """Check an address; it is not repeated in an error, since somebody may have put a key into it."""
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a port that is no number, half an IPv6 address
        valid = False
    if not valid:
        raise InputError("the URL is no address of an endpoint", remedy="Such as http://localhost:8000/v1")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise InputError(
            "the URL has more than scheme, host and path",
            path=parts.hostname, remedy="A key belongs into an environment variable",
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Clock:
    """Time and chance, to be replaced in tests; `sleep` is given an event that ends it early."""

    seconds: Callable[[], float] = time.monotonic
    sleep: Callable[[threading.Event, float], object] = threading.Event.wait
    random: Callable[[], float] = random.random  # from 0 to 1
    now: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))


DEFAULT_CLOCK = Clock()


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of questions and answers; `estimated` answers came without these numbers, which are guesses."""

    tokens_in: int = 0
    tokens_out: int = 0
    estimated: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.tokens_in + other.tokens_in,
            self.tokens_out + other.tokens_out,
            self.estimated + other.estimated,
        )


class Answer(NamedTuple):
    """What the model wrote, and what that took."""

    text: str
    usage: Usage


@dataclass(frozen=True, slots=True)
class _Form:
    """How an answer is asked for; what an endpoint does not know is left out, the least important first."""

    output: int = 0  # 0: by a schema, 1: any JSON object, 2: plain text
    temperature: bool = True

    def simpler(self, complaint: str) -> "_Form | None":
        if self.temperature and "temperature" in complaint:
            return replace(self, temperature=False)
        if self.output < 2:
            return replace(self, output=self.output + 1)
        return replace(self, temperature=False) if self.temperature else None

    def fields(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        named = {"name": "answer", "strict": True, "schema": schema}
        formats: tuple[dict[str, Any], ...] = (
            {"response_format": {"type": "json_schema", "json_schema": named}},
            {"response_format": {"type": "json_object"}},
            {},
        )
        return {**formats[self.output], **({"temperature": 0} if self.temperature else {})}


class Chat:
    """A connection to an endpoint, which threads share."""

    def __init__(self, endpoint: Endpoint, clock: Clock = DEFAULT_CLOCK) -> None:
        self.endpoint, self.clock = endpoint, clock
        self.requests = 0  # sent, repeated ones included
        self._httpx = _httpx()
        self._address = endpoint.url.rstrip("/") + "/chat/completions"
        self._form = _Form()
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._pace = Pace(endpoint.requests_per_minute, clock.seconds)
        self._token_pace = Pace(endpoint.tokens_per_minute, clock.seconds)
        key = {"Authorization": f"Bearer {endpoint.key}"} if endpoint.key else {}
        self._client = self._httpx.Client(
            timeout=endpoint.timeout, headers={"Content-Type": "application/json", **key}
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def stop(self) -> None:
        """End all waiting: no further attempt is made at any request."""
        self._stopped.set()

    def ask(self, messages: Sequence[Mapping[str, str]], schema: Mapping[str, Any]) -> Answer:
        """Return the model's answer to some messages.

        The schema is asked of the endpoint; one that refuses it is asked for any JSON object, then for
        text. So whoever asks checks the answer.

        Args:
            messages: with `role` and `content`.
            schema: JSON Schema of the wanted answer.

        Returns:
            The answer's text, and what it took.

        Raises:
            EndpointError: there is no answer to this question after all attempts, or one of another kind.
            EndpointRefusedError: there will be none to any.
        """
        form: _Form | None = self._form
        while form is not None:
            body = {"model": self.endpoint.model, "messages": messages, **form.fields(schema)}
            asked = sum(len(message["content"]) for message in messages) // _LETTERS + 1
            try:
                answer = self._answer(self._post(orjson.dumps(body), asked + _ANSWER), asked)
            except _UnfitError as error:
                refusal, form = error, form.simpler(error.reason)
                continue
            self._form = form  # known to work; a question that suits no form leaves it as it was
            self._token_pace.spend(answer.usage.tokens_in + answer.usage.tokens_out - asked - _ANSWER)
            return answer
        raise refusal

    def _post(self, body: bytes, tokens: int) -> "httpx.Response":
        """Send a request until it has an answer that another attempt would not change."""
        trouble = "stopped before it was sent"
        for attempt in range(self.endpoint.attempts):
            if attempt:
                self._sleep(min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** (attempt - 1)) * self._shortened())
            self._sleep(max(self._pace.spend(1), self._token_pace.spend(tokens)))
            if self._stopped.is_set():
                break
            with self._lock:
                self.requests += 1
            try:
                response: httpx.Response = self._client.post(self._address, content=body)
            except self._httpx.RequestError as error:
                trouble = f"{type(error).__name__} ({error})"
                continue
            if not (response.status_code in (408, 429) or response.status_code >= 500):
                return response
            trouble = self._quote(response)
            self._heed(response)
        raise EndpointError(
            f"no answer in {self.endpoint.attempts} attempts; the last: {self._hide(trouble)}",
            path=self._address, remedy="Check that the endpoint runs and can be reached, or lower the rate",
        )  # fmt: skip

    def _shortened(self) -> float:
        return 1 - self.clock.random() / 2

    def _sleep(self, seconds: float) -> None:
        if seconds > 0:
            self.clock.sleep(self._stopped, seconds)

    def _heed(self, response: "httpx.Response") -> None:
        """Hold back every request for as long as the endpoint asks."""
        seconds = retry_after(response.headers.get("Retry-After"), self.clock.now())
        if response.status_code not in (429, 503) or seconds is None:
            return
        if seconds > _LONGEST_WAIT:
            raise EndpointRefusedError(
                f"asks for a pause of {seconds:,.0f} seconds: {self._quote(response)}",
                path=self._address, remedy="Go on later; what was judged is not asked again",
            )  # fmt: skip
        self._pace.hold(seconds)

    def _answer(self, response: "httpx.Response", asked: int) -> Answer:
        """Take the answer out of a response, or say what the response is instead."""
        status = response.status_code
        if status in _UNFIT:
            raise _UnfitError(
                f"does not take the request: {self._quote(response)}",
                path=self._address, remedy="Check the model's name and its longest input",
            )  # fmt: skip
        if status != 200:
            raise EndpointRefusedError(
                f"refuses: {self._quote(response)}",
                path=self._address, remedy=_REMEDIES.get(status, _OTHER_REMEDY),
            )  # fmt: skip
        try:
            data = orjson.loads(response.content)
            message = data["choices"][0]["message"]
            text = str(message.get("content") or message.get("refusal") or "")
        except (orjson.JSONDecodeError, LookupError, TypeError, AttributeError) as error:
            raise EndpointError(
                f"the response is no chat completion: {self._quote(response)}",
                path=self._address, remedy=_OTHER_REMEDY,
            ) from error  # fmt: skip
        return Answer(text, _usage(data.get("usage"), asked, len(text) // _LETTERS + 1))

    def _quote(self, response: "httpx.Response") -> str:
        text = self._hide(" ".join(response.text.split()))
        return f"HTTP {response.status_code} {shorten(text, _QUOTED)}"

    def _hide(self, text: str) -> str:
        """Take the key out of a text: endpoints like to repeat what they did not accept."""
        return text.replace(self.endpoint.key, "***") if self.endpoint.key else text


def _httpx() -> "ModuleType":
    try:
        import httpx
    except ModuleNotFoundError as error:
        raise MissingExtraError("asking a language model", "llm") from error
    return httpx


def _usage(data: object, tokens_in: int, tokens_out: int) -> Usage:
    """Read the numbers of an answer; guesses stand in for those that are not there."""
    numbers = data if isinstance(data, dict) else {}
    told = [numbers.get(name) for name in ("prompt_tokens", "completion_tokens")]
    known = [number for number in told if isinstance(number, int) and number >= 0]
    return Usage(*known) if len(known) == len(told) else Usage(tokens_in, tokens_out, estimated=1)


def retry_after(header: str | None, now: datetime) -> float | None:
    """Read how long an endpoint asks to wait.

    Args:
        header: `Retry-After`: seconds, or a date.
        now: the time, aware.

    Returns:
        Seconds, zero or more; None where the header is absent or cannot be read.
    """
    try:
        seconds = float(header or "nan")
    except ValueError:
        seconds = _until(str(header), now)
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _until(date: str, now: datetime) -> float:
    try:
        moment = parsedate_to_datetime(date)
    except ValueError:
        return math.nan
    return (moment.replace(tzinfo=moment.tzinfo or UTC) - now).total_seconds()


def read_key(environment: Mapping[str, str], variable: str) -> str:
    """Return the key that an environment variable holds.

    Args:
        environment: `os.environ`.
        variable: its name.

    Returns:
        The key, without blanks around it.

    Raises:
        InputError: the variable is not set, or holds what no header can; the value is not shown.
    """
    key = environment.get(variable, "").strip()
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        reason = "holds no key that can be sent" if key else "is not set"
        raise InputError(f"the environment variable {variable} {reason}", remedy=f"export {variable}=...")
    return key
