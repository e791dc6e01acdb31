"""The application: routes, their order, the page, MCP, and what starts and ends with it."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from typing import Any

import anyio
from fastapi import FastAPI
from starlette.routing import Route
from starlette.types import ASGIApp

import tilth
from tilth.judgment_log import JudgmentLog
from tilth.serve.ask import Asking
from tilth.serve.http import searching, watching, writing
from tilth.serve.http.doors import Doors, McpDoor
from tilth.serve.http.envelope import Envelope
from tilth.serve.http.models import Problem
from tilth.serve.http.page import page_routes
from tilth.serve.http.problems import MEDIA_TYPE, install_handlers
from tilth.serve.judging import Judging
from tilth.serve.keys import Doorkeeper
from tilth.serve.mcp import McpApp
from tilth.serve.service import Service
from tilth.serve.telemetry import Telemetry
from tilth.serve.tracing import tracing_to

OPEN = ("/health/live", "/health/ready", "/openapi.json", "/", "/assets/{name:path}")  # need no key
_TAGS = [
    {"name": "search", "description": "Find products, and the text that a language model answers from."},
    {"name": "catalogue", "description": "Read and change products."},
    {"name": "feedback", "description": "What was shown, and what was done with it."},
    {"name": "judgments", "description": "Grades by people."},
    {"name": "releases", "description": "What the index is searched with."},
    {"name": "operations", "description": "Health and measures."},
]
_PROBLEM = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {
        "description": text,
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    for status, text in (
        (400, "The body is not what its headers say"),
        (401, "A key is needed"),
        (403, "The key lacks the scope"),
        (404, "There is no such thing"),
        (405, "Not with this method"),
        (408, "The body took too long"),
        (409, "Not in the present state: the answer says which"),
        (413, "The body is too large"),
        (415, "The body is of another type"),
        (421, "Without keys only localhost is served"),
        (422, "A value cannot be used"),
        (429, "Too much at once: try again after Retry-After seconds"),
        (501, "This part is not installed"),
        (503, "The store or the index cannot be used now"),
    )
}


def http_app(service: Service, doorkeeper: Doorkeeper) -> ASGIApp:
    """Make the application of a service.

    Args:
        service: is started and closed with the application.
        doorkeeper: knows the keys.

    Returns:
        An ASGI application.
    """
    telemetry, doors = Telemetry(), Doors(service, doorkeeper)
    settings = service.settings
    app = FastAPI(
        title="Tilth",
        version=tilth.__version__,
        summary="Product retrieval for shop assistants.",
        openapi_tags=_TAGS,
        responses=_PROBLEMS,
        docs_url=None,  # their pages load scripts from elsewhere
        redoc_url=None,
        lifespan=lambda app: _life(app, service, doors),
    )
    app.state.doors, app.state.telemetry = doors, telemetry
    app.state.asking = Asking(settings.ask, os.environ.get(settings.ask.key_env, ""))
    app.state.judging = _judging(service)
    telemetry.watch(service, doors.searches, doors.writes)
    install_handlers(app)
    for router in (searching.router, writing.router, watching.router):
        app.include_router(router)
    if settings.mcp.enabled:
        app.state.mcp = McpApp(service, doors.work)
        app.router.routes.append(Route("/mcp", McpDoor(doors, app.state.mcp)))
    if settings.web.enabled:
        app.router.routes.extend(page_routes())
    _describe_problems(app)
    app.state.tracing = tracing_to(settings.tracing.endpoint)
    return Envelope(app, settings, telemetry, lambda: doorkeeper.open, doors.identify, app.state.tracing)


def _judging(service: Service) -> Judging:
    chosen = service.settings.judging
    return Judging(
        service.pipeline,
        JudgmentLog(service.store),
        queries=chosen.queries,
        between=chosen.between,
        highest=chosen.highest,
    )


@asynccontextmanager
async def _life(app: FastAPI, service: Service, doors: Doors) -> AsyncIterator[None]:
    service.start()
    try:
        async with app.state.mcp.running() if hasattr(app.state, "mcp") else nullcontext():
            yield
    finally:
        await app.state.asking.close()
        doors.close()
        if app.state.tracing is not None:
            await anyio.to_thread.run_sync(app.state.tracing.close)
        await anyio.to_thread.run_sync(service.close)


def _describe_problems(app: FastAPI) -> None:
    """Add the schema of problem details, and what needs a key, to the OpenAPI document."""
    make = app.openapi

    def described() -> dict[str, Any]:
        document = make()
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        schemas["Problem"] = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        for path, operations in document["paths"].items():
            for operation in operations.values():
                operation["security"] = [] if path in OPEN else [{"key": []}]
        return document

    app.openapi = described  # type: ignore[method-assign]
