"""Routes about the service itself: health, measures, figures, reports."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response

from tilth.online.figures import figures, read_moment
from tilth.serve.http.doors import JsonRoute, doors_of, json_response, needs
from tilth.serve.http.models import LiveAnswer, ReadyAnswer, ReportsAnswer, StatsAnswer
from tilth.serve.reports import read_report, reports
from tilth.serve.service import NOT_SERVING, NotFoundError

router = APIRouter(route_class=JsonRoute)
_JUDGE = [needs("judge")]
_DAYS = 30  # that the figures are of, where nothing else is said: all of the log may be long
_SINCE = f"A day (UTC) or a time with its zone, ISO 8601; without it, {_DAYS} days before the end."
_REPORT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'; sandbox"
)


@router.get("/health/live", responses={200: {"model": LiveAnswer}}, tags=["operations"])
async def live() -> Response:
    """Say that the process answers."""
    return json_response({"live": True})


@router.get(
    "/health/ready", responses={200: {"model": ReadyAnswer}, 503: {"model": ReadyAnswer}}, tags=["operations"]
)
async def ready(request: Request) -> Response:
    """Say whether searches can be answered, and how far behind the store they are."""
    health = await doors_of(request).quick(doors_of(request).service.health)
    if health["fault"] not in (None, *NOT_SERVING):
        health["fault"] = "the log says what"  # it may name files of this machine, and anybody may ask
    return json_response(health, 200 if health["ready"] else 503)


@router.get(
    "/metrics",
    dependencies=[needs("admin")],
    responses={200: {"content": {"text/plain": {}}, "description": "Prometheus' text form"}},
    tags=["operations"],
)
async def metrics(request: Request) -> Response:
    """Return what is measured, in Prometheus' text form."""
    text = await doors_of(request).quick(request.app.state.telemetry.text)
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/v1/stats", dependencies=_JUDGE, responses={200: {"model": StatsAnswer}}, tags=["feedback"])
async def stats(
    request: Request,
    by: Annotated[str, Query(description="Of arm, release, day and kind, separated by commas.")] = "day",
    since: Annotated[str | None, Query(description=_SINCE, examples=["2026-01-31"])] = None,
    until: Annotated[str | None, Query(description="The same; not included.")] = None,
) -> Response:
    """Return click-through, conversion, satisfaction, what found nothing, and latencies, with intervals."""
    store = doors_of(request).service.store
    names = [name.strip() for name in by.split(",") if name.strip()]
    end = read_moment(until, "until") if until else None
    start = read_moment(since, "since") if since else (end or datetime.now(UTC)) - timedelta(days=_DAYS)
    found = await doors_of(request).aside(lambda: figures(store, names, start, end))
    return json_response(found.to_json())


@router.get("/v1/reports", dependencies=_JUDGE, responses={200: {"model": ReportsAnswer}}, tags=["releases"])
async def list_reports(request: Request) -> Response:
    """List the pages about trainings and experiments."""
    doors = doors_of(request)
    path, folders = doors.service.pipeline.live.path, doors.settings.reports.folders
    found = await doors.aside(lambda: reports(path, folders))
    return json_response({"reports": [report.to_json() for report in found]})


@router.get(
    "/v1/reports/{name}",
    dependencies=_JUDGE,
    responses={200: {"content": {"text/html": {}}, "description": "The page"}},
    tags=["releases"],
)
async def report(name: Annotated[str, Path(max_length=200)], request: Request) -> Response:
    """Return a page about a training or an experiment."""
    doors = doors_of(request)
    path, folders = doors.service.pipeline.live.path, doors.settings.reports.folders
    page = await doors.aside(lambda: read_report(path, folders, name))
    if page is None:
        raise NotFoundError("there is no such report", field="name", value=name)
    return Response(page, headers={"Content-Security-Policy": _REPORT_POLICY}, media_type="text/html")
