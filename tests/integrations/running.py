"""A service that really listens, in a thread of this process."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tilth.serve.service import Service
from tilth.serve.settings import Settings
from tilth.serve.starting import make_server, open_service

_PATIENT = {"server": {"port": 0, "shutdown_seconds": 1}, "search": {"deadline_ms": 3_000.0}}


def settings_of(**sections: Any) -> Settings:
    """Settings for a test: any free port, and all the time that a search needs."""
    return Settings(**_PATIENT, **sections)


@contextmanager
def running(index: Path, settings: Settings) -> Iterator[str]:
    """Serve an index; gives the address."""
    with listening(open_service(index, settings)) as url:
        yield url


@contextmanager
def listening(service: Service) -> Iterator[str]:
    """Serve a service, which is closed at the end; gives the address."""
    server = make_server(service)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server has not started"
        time.sleep(0.005)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()
