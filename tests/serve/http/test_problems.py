"""Errors as problem details: the status, the fields, the remedy, and nothing that is nobody's concern."""

from http import HTTPStatus
from typing import Any

import orjson
import pytest

from live_service import Live
from tilth.errors import (
    IndexFormatError,
    IndexLockedError,
    IndexWriteError,
    InputError,
    MissingExtraError,
    SettingError,
    StoreError,
    TilthError,
)
from tilth.key_log import Key
from tilth.serve.ask import AskFailedError, AskUnsetError
from tilth.serve.http.models import Problem
from tilth.serve.http.problems import FaultsError, PayloadError, problem, problem_of
from tilth.serve.keys import ANYBODY, ForbiddenError, UnauthenticatedError
from tilth.serve.limits import OverloadedError, TooManyRequestsError
from tilth.serve.service import NotFoundError
from tilth.serve.spool import SpoolFullError

KEY: Key = ANYBODY


def said(error: TilthError) -> tuple[int, dict[str, Any], dict[str, str]]:
    """Return the status, the content and the headers of an error's answer."""
    response = problem_of(error, "request-7")
    content = Problem.model_validate_json(bytes(response.body), strict=True)
    assert response.media_type == "application/problem+json"
    assert (content.status, content.request_id) == (response.status_code, "request-7")
    assert content.title == HTTPStatus(response.status_code).phrase
    return response.status_code, orjson.loads(response.body), dict(response.headers)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InputError("x"), 422), (SettingError("x"), 422), (NotFoundError("x"), 404),
        (AskUnsetError("x"), 409),
        (UnauthenticatedError("x"), 401), (ForbiddenError("write", KEY), 403), (FaultsError("x", []), 422),
        (AskFailedError("x"), 502), (OverloadedError(1), 429), (TooManyRequestsError(1), 429),
        (StoreError("x"), 503), (SpoolFullError("x"), 503), (IndexFormatError("x"), 503),
        (IndexWriteError("x"), 503), (IndexLockedError("x"), 409), (MissingExtraError("x", "serve"), 501),
        (TilthError("x"), 500), (PayloadError(HTTPStatus.REQUEST_TIMEOUT, "x"), 408),
    ],
)  # fmt: skip
def test_every_error_has_a_status(error: TilthError, status: int) -> None:
    assert said(error)[0] == status


def test_a_wrong_value_comes_with_field_reason_value_and_remedy() -> None:
    error = InputError("is no colour", field="filters", value="rede", remedy="The nearest is red")
    _, content, _ = said(error)
    assert content["detail"] == "field 'filters': is no colour (got 'rede'). The nearest is red"
    fault = {"field": "filters", "detail": "is no colour (got 'rede')", "remedy": "The nearest is red"}
    assert content["errors"] == [fault]


def test_what_is_not_known_is_absent() -> None:
    assert "errors" not in said(InputError("is wrong"))[1]
    assert said(InputError("is wrong", field="k"))[1]["errors"] == [{"field": "k", "detail": "is wrong"}]


def test_long_values_are_cut() -> None:
    _, content, _ = said(InputError("is wrong", field="x" * 10**6, value="y" * 10**6, remedy="z" * 10**6))
    assert len(orjson.dumps(content)) < 1_100_000
    assert len(content["errors"][0]["field"]) <= 2_000
    assert len(content["errors"][0]["detail"]) < 200
    assert len(content["detail"]) <= 2_000


def test_faults_of_many_values() -> None:
    faults = [{"field": f"{n}.price", "detail": "broken price"} for n in range(500)]
    _, content, _ = said(FaultsError("500 of 500 products cannot be used", faults))
    assert content["errors"] == faults[:100]


def test_who_is_too_early_is_told_when_to_come_again() -> None:
    assert said(OverloadedError(0.2))[2]["retry-after"] == "1"
    assert said(TooManyRequestsError(7.1))[2]["retry-after"] == "8"
    assert said(StoreError("x"))[2]["retry-after"] == "2"
    assert "retry-after" not in said(InputError("x"))[2]


def test_who_lacks_a_key_is_told_of_keys() -> None:
    assert said(UnauthenticatedError("x"))[2]["www-authenticate"] == 'Bearer realm="tilth"'
    assert "www-authenticate" not in said(ForbiddenError("write", KEY))[2]
    assert "this needs the scope 'write'" in said(ForbiddenError("write", KEY))[1]["detail"]


@pytest.mark.parametrize(
    "kind", [StoreError, SpoolFullError, IndexFormatError, IndexWriteError, IndexLockedError]
)
def test_files_of_the_machine_are_for_the_log(
    kind: type[TilthError], caplog: pytest.LogCaptureFixture
) -> None:
    _, content, _ = said(kind("/srv/shop/store.sqlite: the disk is full"))
    assert "/srv" not in orjson.dumps(content).decode()
    assert content["detail"].startswith("The store or the index cannot be used now")
    assert "/srv/shop/store.sqlite: the disk is full" in caplog.text


def test_any_status_has_its_title() -> None:
    response = problem(418, "short and stout", "r")
    assert orjson.loads(response.body)["title"] == "I'm a Teapot"


# --- as they come over HTTP -----------------------------------------------------------------------


def faults(live: Live, path: str, body: object) -> list[dict[str, str]]:
    response = live.client("admin").post(path, json=body)
    assert response.status_code == 422
    return list(Problem.model_validate_json(response.content, strict=True).errors)


WRONG = [
    ("/v1/search", {}, "query", "Field required", ""),
    ("/v1/search", {"query": 1}, "query", "Input should be a valid string (got 1)", ""),
    ("/v1/search", {"query": "x", "k": "1"}, "k", "Input should be a valid integer (got '1')", ""),
    ("/v1/search", {"query": "x", "n": 1}, "n", "Extra inputs are not permitted (got 1)", "Leave it out"),
    ("/v1/search", {"query": "x", "k": 101}, "k", "must be from 0 to 100 (got 101)", ""),
    ("/v1/search", {"query": "x", "release": "r9"}, "release", "there is no such release (got 'r9')", ""),
    ("/v1/search", {"query": "x", "cursor": "?"}, "cursor", "is no cursor (got '?')", "Send the cursor"),
    ("/v1/search", {"query": "x", "filters": {"brnd": 1}}, "brnd", "no field to filter by", ""),
    ("/v1/search", {"query": "x", "filters": {"price": "low"}}, "price", "", ""),
    ("/v1/context", {"query": "x", "template": "html"}, "template", "Input should be 'markdown'", ""),
    ("/v1/ask", {"query": "x", "history": [{"role": "a", "content": ""}]}, "history.0.role", "", ""),
    ("/v1/products/delete", {"ids": []}, "ids", "List should have at least 1 item", ""),
    ("/v1/products/delete", {"ids": ["a", 1]}, "ids.1", "Input should be a valid string (got 1)", ""),
    ("/v1/facets", {"fields": ["description"]}, "description", "has no values to count", ""),
]


@pytest.mark.parametrize(("path", "body", "field", "detail", "remedy"), WRONG)
def test_the_field_the_reason_and_the_remedy(
    live: Live, path: str, body: object, field: str, detail: str, remedy: str
) -> None:
    (fault,) = faults(live, path, body)
    assert fault["field"] == field
    assert fault["detail"].startswith(detail)
    assert fault.get("remedy", "").startswith(remedy)


def test_the_parts_of_an_address_are_named_like_fields(live: Live) -> None:
    client = live.client("admin")
    assert client.get("/v1/judgments/next").json()["errors"][0]["field"] == "judge"
    bad = client.get("/v1/judgments/next", params={"judge": "a", "highest": "x"})
    assert bad.json()["errors"][0]["field"] == "highest"
    assert client.get(f"/v1/products/{'x' * 1_001}").json()["errors"][0]["field"] == "product_id"


def test_several_faults_at_once(live: Live) -> None:
    found = faults(live, "/v1/search", {"query": 1, "k": "x", "facets": "brand", "arm": "a" * 300})
    assert [fault["field"] for fault in found] == ["query", "k", "facets", "arm"]


def test_what_is_not_there_is_named(live: Live) -> None:
    client = live.client("admin")
    assert client.get("/v1/products/m9").json()["errors"][0]["field"] == "product_id"
    assert client.get("/v1/reports/r9").json()["errors"][0]["field"] == "name"
    assert client.get("/v1/nothing").json()["detail"] == "Not Found"


def test_another_method_is_told_which_there_are(live: Live) -> None:
    response = live.client("admin").get("/v1/search")
    assert (response.status_code, response.headers["allow"]) == (405, "POST")
    assert response.headers["content-type"] == "application/problem+json"


def test_json_that_is_none_says_where(live: Live) -> None:
    kind = {"Content-Type": "application/json"}
    response = live.client("admin").post("/v1/search", content=b'{"query": "x",}', headers=kind)
    assert response.status_code == 400
    assert response.json()["errors"][0]["field"] == "body"
    response = live.client("admin").post("/v1/products", content=b'[{"id": }]', headers=kind)
    assert response.status_code == 422
    assert "is not JSON" in response.json()["detail"]
