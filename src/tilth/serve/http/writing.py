"""Routes that write: products, feedback, judgments, releases."""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from io import BytesIO
from itertools import islice
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Path, Query, Request, Response

from tilth.catalog import Product
from tilth.errors import InputError
from tilth.interactions import Interaction
from tilth.readers.products import products_of
from tilth.readers.rejections import Rejection
from tilth.serve.http.doors import JsonRoute, doors_of, json_response, needs, read_json
from tilth.serve.http.models import (
    AddedAnswer,
    DecisionAnswer,
    DeleteBody,
    FeedbackAnswer,
    FeedbackBody,
    JudgmentsBody,
    PairAnswer,
    PromoteBody,
    ReleasesAnswer,
    RollbackBody,
    SkipBody,
    UndoBody,
    WrittenAnswer,
)
from tilth.serve.http.problems import FaultsError
from tilth.serve.http.schemas import LINES, PRODUCTS
from tilth.serve.judging import Judging
from tilth.serve.releasing import list_releases, promote_release, roll_back_release
from tilth.ubi import interaction_from_ubi

router = APIRouter(route_class=JsonRoute)
_WRITE, _FEEDBACK, _JUDGE, _ADMIN = ([needs(name)] for name in ("write", "feedback", "judge", "admin"))

# --- products -------------------------------------------------------------------------------------


@router.post(
    "/v1/products", dependencies=_WRITE, responses={200: {"model": WrittenAnswer}}, tags=["catalogue"],
    openapi_extra=PRODUCTS,
)  # fmt: skip
async def upsert(request: Request) -> Response:
    """Store new and changed products, whole records, all or none: durable when answered."""
    doors = doors_of(request)
    body, lines = await request.body(), _is_lines(request)
    most = doors.settings.limits.batch
    written = await doors.write(lambda: doors.service.upsert(_products(body, lines, most)))
    return json_response(asdict(written))


def _is_lines(request: Request) -> bool:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in ("application/json", LINES):
        raise InputError(
            "is neither JSON nor JSON lines", field="content-type", value=kind,
            remedy=f"Send an array as application/json, or lines as {LINES}",
        )  # fmt: skip
    return kind == LINES


def _products(body: bytes, lines: bool, most: int) -> list[Product]:
    records = _records(body, lines, most)
    if not records or len(records) > most:
        raise InputError(f"must hold from 1 to {most:,} products", field="body", value=len(records))
    products, rejected = products_of(records, "body")
    if rejected:
        raise FaultsError(
            f"{len(rejected)} of {len(records)} products cannot be used; none was stored",
            map(_fault, rejected),
        )
    return products


def _records(body: bytes, lines: bool, most: int) -> Sequence[object]:
    """Return the records of a body; of lines, one more than `most` at the most."""
    try:
        if lines:
            given = (read_json(line, most) for line in BytesIO(body) if line.strip())
            return list(islice(given, most + 1))
        records = read_json(body, most)
    except orjson.JSONDecodeError as error:
        raise InputError(f"is not JSON: {error}", field="body") from error
    if not isinstance(records, list):
        raise InputError("is not an array of products", field="body")
    return records


def _fault(rejection: Rejection) -> dict[str, str]:
    place = f"{rejection.line - 1}.{rejection.field}" if rejection.field else str(rejection.line - 1)
    shown = f" (got {rejection.value!r})" if rejection.value else ""
    return {"field": place, "detail": f"{rejection.reason}{shown}"}


@router.post(
    "/v1/products/delete", dependencies=_WRITE, responses={200: {"model": WrittenAnswer}}, tags=["catalogue"]
)
async def delete_many(body: DeleteBody, request: Request) -> Response:
    """Remove products; unknown ids count as unchanged."""
    return await _deleted(request, body.ids)


@router.delete(
    "/v1/products/{product_id:path}",
    dependencies=_WRITE,
    responses={200: {"model": WrittenAnswer}},
    tags=["catalogue"],
)
async def delete(product_id: Annotated[str, Path(max_length=1000)], request: Request) -> Response:
    """Remove a product; an unknown one counts as unchanged."""
    return await _deleted(request, [product_id])


async def _deleted(request: Request, ids: Sequence[str]) -> Response:
    doors = doors_of(request)
    most = doors.settings.limits.batch
    if len(ids) > most:
        raise InputError(f"holds more than {most:,} ids", field="ids", value=len(ids))
    return json_response(asdict(await doors.write(lambda: doors.service.delete(ids))))


# --- feedback -------------------------------------------------------------------------------------


@router.post(
    "/v1/feedback", dependencies=_FEEDBACK, responses={200: {"model": FeedbackAnswer}}, tags=["feedback"]
)
async def feedback(body: FeedbackBody, request: Request) -> Response:
    """Record what was done with impressions, all events or none: durable when answered, each once."""
    doors = doors_of(request)
    most = doors.settings.limits.batch
    if len(body.events) > most:
        raise InputError(f"holds more than {most:,} events", field="events", value=len(body.events))
    interactions = [_interaction(number, event) for number, event in enumerate(body.events)]
    recorded = await asyncio.wrap_future(doors.service.record(interactions))
    return json_response(
        {"recorded": recorded.interactions, "known": len(interactions) - recorded.interactions}
    )


def _interaction(number: int, event: dict[str, Any]) -> Interaction:
    try:
        return interaction_from_ubi(event)
    except InputError as error:
        raise InputError(
            error.reason, field=f"events.{number}.{error.field}", value=error.value, remedy=error.remedy
        ) from error


# --- judgments ------------------------------------------------------------------------------------


def _judging(request: Request) -> Judging:
    judging = request.app.state.judging
    assert isinstance(judging, Judging)
    return judging


@router.post(
    "/v1/judgments", dependencies=_JUDGE, responses={200: {"model": AddedAnswer}}, tags=["judgments"]
)
async def judge(body: JudgmentsBody, request: Request) -> Response:
    """Keep grades of a person: durable when answered."""
    judging = _judging(request)
    added = await doors_of(request).write(lambda: judging.judge(body.judgments))
    return json_response({"added": added})


@router.get(
    "/v1/judgments/next", dependencies=_JUDGE, responses={200: {"model": PairAnswer}}, tags=["judgments"]
)
async def next_pair(
    request: Request,
    judge: Annotated[str, Query(min_length=1, max_length=100)],
    highest: Annotated[int | None, Query(description="Top of the scale: 1, 3 or 5.")] = None,
) -> Response:
    """Say which pair a judge should grade next, and how far the judging is."""
    judging, settings = _judging(request), doors_of(request).settings
    scale = settings.judging.highest if highest is None else highest
    return json_response(await doors_of(request).aside(lambda: judging.next(judge, scale)))


@router.post("/v1/judgments/skip", dependencies=_JUDGE, status_code=204, tags=["judgments"])
async def skip(body: SkipBody, request: Request) -> Response:
    """Leave a pair to others."""
    judging = _judging(request)
    await doors_of(request).aside(lambda: judging.skip(body.judge, body.query_id, body.product_id))
    return Response(status_code=204)


@router.post(
    "/v1/judgments/undo", dependencies=_JUDGE, responses={200: {"model": PairAnswer}}, tags=["judgments"]
)
async def undo(body: UndoBody, request: Request) -> Response:
    """Take a judge's last grade back, and show its pair again."""
    judging = _judging(request)
    return json_response(await doors_of(request).write(lambda: judging.undo(body.judge)))


# --- releases -------------------------------------------------------------------------------------


@router.get(
    "/v1/releases",
    dependencies=[needs("judge")],
    responses={200: {"model": ReleasesAnswer}},
    tags=["releases"],
)
async def releases(request: Request) -> Response:
    """List releases with what was measured of them, and what happened to them."""
    path = doors_of(request).service.pipeline.live.path
    return json_response(await doors_of(request).aside(lambda: list_releases(path)))


@router.post(
    "/v1/releases/{name}/promote",
    dependencies=_ADMIN,
    responses={200: {"model": DecisionAnswer}},
    tags=["releases"],
)
async def promote(
    name: Annotated[str, Path(max_length=200)], body: PromoteBody, request: Request
) -> Response:
    """Search with a release from now on, if the gate lets it in or it is forced with a reason."""
    doors, by = doors_of(request), request.scope["tilth.key"].name
    decision = await doors.write(
        lambda: promote_release(doors.service, name, why=body.why, force=body.force, by=by)
    )
    return json_response(decision)


@router.post(
    "/v1/releases/rollback",
    dependencies=_ADMIN,
    responses={200: {"model": DecisionAnswer}},
    tags=["releases"],
)
async def rollback(body: RollbackBody, request: Request) -> Response:
    """Search with the release before, or, before the first one, with the plain hybrid."""
    doors, by = doors_of(request), request.scope["tilth.key"].name
    return json_response(await doors.write(lambda: roll_back_release(doors.service, why=body.why, by=by)))
