"""From an index folder and settings to a running service."""

import ipaddress
import logging
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from tilth.errors import InputError, MissingExtraError
from tilth.feedback_log import FeedbackLog
from tilth.key_log import KeyLog
from tilth.pipeline import open_index
from tilth.serve.keys import Doorkeeper
from tilth.serve.service import Service
from tilth.serve.settings import Settings
from tilth.serve.spool import Spool

if TYPE_CHECKING:
    import uvicorn

FEEDBACK = "feedback"  # the folder of the spool, in that of the index
LOOPBACK = "127.0.0.1"
_CONNECTIONS = 1_000  # at once; further ones are refused
_KEEP_ALIVE = 15  # seconds

_log = logging.getLogger(__name__)


def open_service(index: Path, settings: Settings, *, store: str | None = None) -> Service:
    """Open an index as a service, not yet started.

    Args:
        index: the folder.
        settings: limits and defaults.
        store: URL of the store; None: the SQLite file in the folder.

    Returns:
        The service.

    Raises:
        IndexFormatError: no index is there, or it is damaged.
        StoreError: the store is not there or cannot be read.
    """
    pipeline = open_index(index, store=store)
    spool = None
    if settings.feedback.enabled:
        log = FeedbackLog(pipeline.live.store)
        spool = Spool(index / FEEDBACK, log, most_bytes=settings.feedback.spool_bytes)
    return Service(pipeline, settings, spool)


def host_for(settings: Settings, doorkeeper: Doorkeeper) -> str:
    """Return where to listen: on this machine alone while no key was ever created.

    Args:
        settings: `server.host`.
        doorkeeper: knows the keys.

    Returns:
        The host of the settings, or the loopback address, which is logged.
    """
    host = settings.server.host
    if not doorkeeper.open or _is_loopback(host):
        return host
    _log.warning(
        "there are no API keys: listening on %s alone, not on %s. Make a key: "
        "tilth key create INDEX --name NAME --scopes search",
        LOOPBACK,
        host,
    )
    return LOOPBACK


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def make_server(service: Service) -> "uvicorn.Server":
    """Make the HTTP server of a service; `run` starts it, SIGTERM ends it.

    Args:
        service: is started and closed with the server.

    Returns:
        The server.

    Raises:
        MissingExtraError: the extra `serve` is not installed.
        InputError: the port cannot be had.
    """
    try:
        import uvicorn

        from tilth.serve.http.app import http_app
        from tilth.serve.http.protocol import BoundedProtocol
    except ImportError as error:
        raise MissingExtraError("the service", "serve") from error
    settings = service.settings.server
    doorkeeper = Doorkeeper(KeyLog(service.store))
    config = uvicorn.Config(
        http_app(service, doorkeeper),
        http=BoundedProtocol,
        ws="none",
        host=host_for(service.settings, doorkeeper),
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=settings.trusted_proxies,
        limit_concurrency=_CONNECTIONS,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=settings.shutdown_seconds,
        lifespan="on",
    )
    return uvicorn.Server(config)


def run_server(server: "uvicorn.Server") -> None:
    """Serve until SIGTERM or SIGINT, and return then; InputError where the port cannot be had."""
    config = server.config
    for number in (signal.SIGINT, signal.SIGTERM):  # the server raises it again at the end, for these
        signal.signal(number, lambda *_: setattr(server, "should_exit", True))
    try:
        socket = config.bind_socket()
    except SystemExit as error:  # uvicorn has logged why
        raise InputError(
            f"{config.host}:{config.port} cannot be listened on",
            remedy="Another program may have the port: set server.port",
        ) from error
    with socket:
        server.run(sockets=[socket])
