"""Errors as problem details (RFC 9457): what is wrong, where, and the remedy. Nothing else leaks."""

import logging
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from tilth.errors import (
    IndexFormatError,
    IndexLockedError,
    IndexWriteError,
    InputError,
    MissingExtraError,
    SettingError,
    StoreError,
    TilthError,
    shorten,
)
from tilth.serve.ask import AskFailedError, AskUnsetError
from tilth.serve.keys import ForbiddenError, UnauthenticatedError
from tilth.serve.limits import BusyError
from tilth.serve.service import NotFoundError

MEDIA_TYPE = "application/problem+json"
RETRY_SECONDS = 2  # after a fault of the database or of a disk
_SHOWN = 100  # faults of one request
_LONGEST = 2_000  # characters of what is quoted
_STATUS: tuple[tuple[type[TilthError], HTTPStatus], ...] = (  # the first that fits
    (NotFoundError, HTTPStatus.NOT_FOUND),
    (InputError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (SettingError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (UnauthenticatedError, HTTPStatus.UNAUTHORIZED),
    (ForbiddenError, HTTPStatus.FORBIDDEN),
    (BusyError, HTTPStatus.TOO_MANY_REQUESTS),
    (AskUnsetError, HTTPStatus.CONFLICT),
    (AskFailedError, HTTPStatus.BAD_GATEWAY),
    (IndexLockedError, HTTPStatus.CONFLICT),
    (MissingExtraError, HTTPStatus.NOT_IMPLEMENTED),
    (StoreError, HTTPStatus.SERVICE_UNAVAILABLE),
    (IndexFormatError, HTTPStatus.SERVICE_UNAVAILABLE),
    (IndexWriteError, HTTPStatus.SERVICE_UNAVAILABLE),
)
_PRIVATE = (StoreError, IndexFormatError, IndexWriteError, IndexLockedError)  # they name files
_UNAVAILABLE = (
    "The store or the index cannot be used now. Try again later; the log has the reason under this request id"
)

Fault = Mapping[str, str]

_log = logging.getLogger(__name__)


class PayloadError(TilthError):
    """A body that is not read: too large, in another encoding or of another type."""

    def __init__(self, status: HTTPStatus, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class FaultsError(TilthError):
    """Several values of one request are wrong; nothing of it was done."""

    def __init__(self, detail: str, faults: Iterable[Fault]) -> None:
        super().__init__(detail)
        self.faults = list(faults)[:_SHOWN]


def problem(
    status: int, detail: str, request_id: str, faults: Iterable[Fault] = (), headers: Mapping[str, str] = {}
) -> Response:
    """Return problem details.

    Args:
        status: of HTTP.
        detail: a sentence for a person.
        request_id: of the request, as logs have it.
        faults: objects with `field`, `detail` and `remedy`, as far as they are known.
        headers: of the response.

    Returns:
        The response.
    """
    content: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "request_id": request_id,
    }
    if errors := list(faults):
        content["errors"] = errors
    return Response(orjson.dumps(content), status, dict(headers), MEDIA_TYPE)


def status_of(error: TilthError) -> HTTPStatus:
    """Return the status of an error of ours."""
    if isinstance(error, PayloadError):
        return error.status
    if isinstance(error, FaultsError):
        return HTTPStatus.UNPROCESSABLE_ENTITY
    return next((s for kind, s in _STATUS if isinstance(error, kind)), HTTPStatus.INTERNAL_SERVER_ERROR)


def problem_of(error: TilthError, request_id: str) -> Response:
    """Return the problem details of an error of ours."""
    status, private = status_of(error), isinstance(error, _PRIVATE)
    if private or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        _log.error("%s", error)
    detail = _UNAVAILABLE if private else str(error)[:_LONGEST]
    return problem(status, detail, request_id, _faults(error), _headers(error, status))


def _faults(error: TilthError) -> list[Fault]:
    if isinstance(error, FaultsError):
        return list(error.faults)
    if not isinstance(error, InputError) or error.field is None:
        return []
    value = "" if error.value is None else f" (got {shorten(error.value)})"
    fault = {"field": error.field[:_LONGEST], "detail": error.reason + value}
    return [fault | {"remedy": error.remedy} if error.remedy else fault]


def _headers(error: TilthError, status: HTTPStatus) -> dict[str, str]:
    if isinstance(error, BusyError):
        return {"Retry-After": str(error.retry_after)}
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        return {"Retry-After": str(RETRY_SECONDS)}
    return {"WWW-Authenticate": 'Bearer realm="tilth"'} if status == HTTPStatus.UNAUTHORIZED else {}


# --- handlers -------------------------------------------------------------------------------------


def request_id_of(request: Request) -> str:
    """Return the id of a request, which the outermost layer gave it."""
    return str(request.scope.get("tilth.request_id", ""))


async def _on_tilth_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, TilthError)
    return problem_of(error, request_id_of(request))


async def _on_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    faults = [_fault_of(each) for each in error.errors()[:_SHOWN]]
    unreadable = any(each["type"] == "json_invalid" for each in error.errors())
    status = HTTPStatus.BAD_REQUEST if unreadable else HTTPStatus.UNPROCESSABLE_ENTITY
    detail = "; ".join(f"{fault['field']}: {fault['detail']}" if fault["field"] else fault["detail"]
                       for fault in faults[:5])  # fmt: skip
    return problem(status, detail, request_id_of(request), faults)


def _fault_of(error: Mapping[str, Any]) -> dict[str, str]:
    """Return one fault of a request; values are shortened, since they may be anything."""
    if error["type"] == "json_invalid":
        return {"field": "body", "detail": f"is not JSON: {error.get('ctx', {}).get('error', '')}"}
    source, *place = error["loc"] or ("body",)  # body, query or path; a field may be called the same
    field = ".".join(map(str, place)) or str(source)
    value = error.get("input")
    shown = "" if isinstance(value, dict | list) or value is None else f" (got {shorten(value)})"
    fault = {"field": field[:200], "detail": f"{error['msg']}{shown}"}
    if error["type"] == "extra_forbidden":
        fault["remedy"] = "Leave it out, or check its name: /openapi.json lists the fields"
    return fault


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return problem(error.status_code, str(error.detail), request_id_of(request), (), error.headers or {})


async def _on_fault_of_ours(request: Request, error: Exception) -> Response:
    _log.error("a fault of the service", exc_info=error)
    detail = "This is a fault of the service. Its log has the reason under this request id"
    return problem(HTTPStatus.INTERNAL_SERVER_ERROR, detail, request_id_of(request))


def install_handlers(app: FastAPI) -> None:
    """Let an application answer every error with problem details."""
    app.add_exception_handler(TilthError, _on_tilth_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(Exception, _on_fault_of_ours)
