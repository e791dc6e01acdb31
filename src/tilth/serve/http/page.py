"""The people's page: files of the package, served as they are."""

from collections.abc import Sequence
from importlib.resources import files
from mimetypes import guess_type

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "frame-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {"Content-Security-Policy": _POLICY, "Cache-Control": "no-cache"}
_FOLDER = files("tilth.serve") / "web"


async def _page(_: Request) -> Response:
    return Response((_FOLDER / "index.html").read_bytes(), 200, _HEADERS, "text/html; charset=utf-8")


async def _asset(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in _names():
        raise HTTPException(404, f"There is no file {name[:80]!r}")
    kind = guess_type(name)[0] or "application/octet-stream"
    kind += "; charset=utf-8" if kind.startswith("text/") or kind.endswith("json") else ""
    return Response((_FOLDER / name).read_bytes(), 200, _HEADERS, kind)


def _names() -> set[str]:
    """Return the names of the files that are served: no path is made of a request."""
    return {entry.name for entry in _FOLDER.iterdir() if entry.is_file()}


def page_routes() -> Sequence[Route]:
    """Return the routes of the page and of its files."""
    return [
        Route("/", _page, methods=["GET"], name="page"),
        Route("/assets/{name:path}", _asset, methods=["GET"], name="assets"),
    ]
