"""A client of the service: contexts and searches over HTTP, for threads and for event loops."""

import asyncio
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Self
from weakref import WeakKeyDictionary

import orjson

from tilth.errors import InputError, MissingExtraError, SettingError, TilthError, shorten
from tilth.labelling.chat import retry_after

try:
    import httpx
except ImportError as error:
    raise MissingExtraError("a client of the service", "serve") from error

_BUSY = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)


class TilthHttpError(TilthError):
    """The service has not answered as wished; its text is what the service says.

    `status` is that of HTTP, None where no answer came at all; by `request_id` the request is found in the
    log of the service.
    """

    def __init__(self, detail: str, status: int | None = None, request_id: str = "") -> None:
        super().__init__(detail)
        self.status, self.request_id = status, request_id


class Client:
    """A connection to a service; threads and event loops share one."""

    def __init__(self, url: str, key: str = "", timeout: float = 10.0) -> None:
        """Prepare; connections are made as they are needed, and kept.

        Args:
            url: of the service, such as `http://localhost:8080`.
            key: with the scope search; empty where the service asks for none.
            timeout: seconds to connect, and between two pieces of an answer; above 0. A busy service is asked
                once more if it names a pause that is not longer.

        Raises:
            InputError: the URL is no address, or the key cannot be sent; neither is shown.
            SettingError: the timeout is not above 0.
        """
        if not timeout > 0:
            raise SettingError(f"timeout is {timeout}; it must be above 0")
        self._timeout = timeout
        self._url = _address(url)
        self._options: dict[str, Any] = {
            "base_url": self._url,
            "timeout": timeout,
            "headers": httpx.Headers({"Content-Type": "application/json", **_authorization(key)}),  # hides it
            "verify": httpx.create_ssl_context(),
        }
        self._client = httpx.Client(**self._options)
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, httpx.AsyncClient] = WeakKeyDictionary()

    def __repr__(self) -> str:
        return f"Client({str(self._url)!r})"

    # --- what can be asked ------------------------------------------------------------------------

    def context(
        self,
        query: str,
        *,
        k: int | None = None,
        budget_tokens: int | None = None,
        filters: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Return what a language model answers from, as `POST /v1/context` gives it.

        Args:
            query: what the customer typed.
            k: how many hits are looked at, from 1; None: as the service is set.
            budget_tokens: of the whole text, from 1; None: as the service is set.
            filters: conditions that every product satisfies; see docs/filters.md.

        Returns:
            `text`, `passages`, `variants`, `nearest`, `impression_id` and others.

        Raises:
            TilthHttpError: the service refuses, or cannot be reached.
            InputError: the filters cannot be written as JSON.
        """
        return self._post("v1/context", _asked(query, k, filters, budget_tokens=budget_tokens))

    def search(
        self, query: str, *, k: int | None = None, filters: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Return a page of hits, as `POST /v1/search` gives it.

        Args:
            query: what the customer typed.
            k: how many hits, from 0; None: as the service is set.
            filters: conditions that every product satisfies.

        Returns:
            `hits`, `totals`, `decision`, `impression_id` and others.

        Raises:
            TilthHttpError: the service refuses, or cannot be reached.
            InputError: the filters cannot be written as JSON.
        """
        return self._post("v1/search", _asked(query, k, filters))

    async def acontext(
        self,
        query: str,
        *,
        k: int | None = None,
        budget_tokens: int | None = None,
        filters: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Do what `context` does, for an event loop."""
        return await self._apost("v1/context", _asked(query, k, filters, budget_tokens=budget_tokens))

    async def asearch(
        self, query: str, *, k: int | None = None, filters: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Do what `search` does, for an event loop."""
        return await self._apost("v1/search", _asked(query, k, filters))

    # --- life -------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close the connections of threads."""
        self._client.close()

    async def aclose(self) -> None:
        """Close the connections of this event loop, and those of threads."""
        self.close()
        if (client := self._clients.pop(asyncio.get_running_loop(), None)) is not None:
            await client.aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    # --- requests ---------------------------------------------------------------------------------

    def _post(self, path: str, body: bytes) -> dict[str, Any]:
        with self._explained():
            response = self._client.post(path, content=body)
            if (pause := self._pause(response)) is not None:
                time.sleep(pause)
                response = self._client.post(path, content=body)
        return _content(response)

    async def _apost(self, path: str, body: bytes) -> dict[str, Any]:
        client = self._in_loop()
        with self._explained():
            response = await client.post(path, content=body)
            if (pause := self._pause(response)) is not None:
                await asyncio.sleep(pause)
                response = await client.post(path, content=body)
        return _content(response)

    def _in_loop(self) -> httpx.AsyncClient:
        """Return the client of the running event loop; connections cannot pass from one loop to another."""
        loop = asyncio.get_running_loop()
        if loop not in self._clients:
            self._clients[loop] = httpx.AsyncClient(**self._options)
        return self._clients[loop]

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except httpx.TimeoutException as error:
            raise TilthHttpError(
                f"{self._url}: no answer in {self._timeout:g} seconds. Set timeout higher, or look at the "
                "service"
            ) from error
        except httpx.HTTPError as error:
            raise TilthHttpError(
                f"{self._url} cannot be reached ({type(error).__name__}). Check the URL, and whether the "
                "service runs"
            ) from error

    def _pause(self, response: httpx.Response) -> float | None:
        """Return after how many seconds the service wants to be asked again, None where that is too long."""
        if response.status_code not in _BUSY:
            return None
        seconds = retry_after(response.headers.get("Retry-After"), datetime.now(UTC))
        return seconds if seconds is not None and seconds <= self._timeout else None


def _address(url: str) -> httpx.URL:
    try:
        address = httpx.URL(url.rstrip("/") + "/")
        usable = address.scheme in ("http", "https") and bool(address.host) and (address.port or 1) < 1 << 16
    except httpx.InvalidURL:
        usable = False
    if not usable or address.userinfo or address.query or address.fragment:
        raise InputError("the URL is no address of a service", remedy="Such as http://localhost:8080")
    return address


def _authorization(key: str) -> dict[str, str]:
    key = key.strip()
    if not key.isascii() or not key.isprintable() or " " in key:
        raise InputError(
            "the key cannot be sent", remedy="Give a token as `tilth key create` prints it: tilth_..."
        )
    return {"Authorization": f"Bearer {key}"} if key else {}


def _asked(query: str, k: int | None, filters: Mapping[str, Any] | None, **more: int | None) -> bytes:
    named = {"query": query, "k": k, "filters": None if filters is None else dict(filters), **more}
    try:
        return orjson.dumps({name: value for name, value in named.items() if value is not None})
    except TypeError as error:
        raise InputError(f"the query or the filters cannot be written as JSON ({error})") from error


def _content(response: httpx.Response) -> dict[str, Any]:
    """Return the answer of a service, or raise what it is instead."""
    try:
        content = orjson.loads(response.content)
    except ValueError:
        content = None
    if response.status_code == HTTPStatus.OK and isinstance(content, dict):
        return content
    problem = content if isinstance(content, dict) else {}
    detail = problem.get("detail") or f"what answers is no service of Tilth: {shorten(response.text)}"
    raise TilthHttpError(
        f"{response.url}: HTTP {response.status_code}: {detail}",
        response.status_code,
        str(problem.get("request_id", "")),
    )


# --- a context as documents -----------------------------------------------------------------------


def products_of(context: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return the products of a context, best first.

    Args:
        context: as `Client.context` returns it.

    Returns:
        Of each product the text, its passages on lines of their own; and metadata: `product_id`, `label`,
        `price`, `sale_price`, `availability`, `variants` (objects with the first and the last three of these,
        and `differences`), `rank` (from 1), `nearest` (nothing fits, it is merely the nearest) and
        `impression_id`.
    """
    passages: dict[str, list[dict[str, Any]]] = {}
    for passage in context["passages"]:
        passages.setdefault(passage["label"], []).append(passage)
    return [
        ("\n".join(each["text"] for each in of_one), _metadata(context, of_one[0], rank))
        for rank, of_one in enumerate(passages.values(), 1)
    ]


def _metadata(context: Mapping[str, Any], passage: Mapping[str, Any], rank: int) -> dict[str, Any]:
    facts = {name: passage[name] for name in ("product_id", "label", "price", "sale_price", "availability")}
    variants = [
        {name: value for name, value in variant.items() if name != "label"}
        for variant in context["variants"]
        if variant["label"] == passage["label"]
    ]
    said = {"nearest": context["nearest"], "impression_id": context["impression_id"]}
    return {**facts, "variants": variants, "rank": rank, **said}
