"""From an index folder to a running process, and to its end: what it says, and with which code it ends."""

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import orjson
import pytest

from live_service import PATIENCE, PRODUCTS, eventually
from tilth.errors import IndexFormatError, InputError, StoreError
from tilth.feedback_log import FeedbackLog
from tilth.key_log import KeyLog
from tilth.serve.settings import Settings
from tilth.serve.starting import make_server, open_service, run_server
from tilth.store import Store


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


class Process:
    """`tilth serve` as a process of its own."""

    def __init__(self, folder: Path, *options: str, **environment: str) -> None:
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        command = "from tilth.cli.main import main; main()"
        self.process = subprocess.Popen(
            [sys.executable, "-c", command, "serve", str(folder), "--port", str(self.port), *options],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment or None,
        )  # fmt: skip

    def wait(self) -> None:
        """Wait until it is ready."""

        def ready() -> bool:
            assert self.process.poll() is None, self.process.communicate()
            try:
                return httpx.get(f"{self.address}/health/ready").status_code == 200
            except httpx.TransportError:
                return False

        eventually(ready, 60)

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Send a signal, and return the exit code and the log."""
        self.process.send_signal(number)
        _, said = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, said


@pytest.fixture
def start(folder: Path) -> Iterator[Callable[..., Process]]:
    started: list[Process] = []

    def begin(*options: str) -> Process:
        started.append(Process(folder, *options))
        started[-1].wait()
        return started[-1]

    yield begin
    for each in started:
        each.process.kill()
        each.process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_requests_in_flight_are_answered_and_feedback_is_written(
    start: Callable[..., Process], folder: Path, number: int
) -> None:
    """The process ends in the midst of requests: each that was taken is answered, and its code is 0."""
    process, stop, shown = start(), threading.Event(), list[str]()

    def ask() -> None:
        with httpx.Client(base_url=process.address, timeout=PATIENCE) as client:
            while not stop.is_set():
                try:
                    response = client.post("/v1/search", json={"query": "garden hose", "deadline_ms": 3000})
                except (httpx.ConnectError, httpx.ReadError, httpx.RemoteProtocolError):
                    return  # it takes no more
                assert response.status_code in (200, 429)
                if response.status_code == 200:
                    shown.append(response.json()["impression_id"])

    with ThreadPoolExecutor(3) as pool:
        asking = [pool.submit(ask) for _ in range(3)]
        eventually(lambda: len(shown) > 50)
        code, log = process.end(number)
        stop.set()
        for each in asking:
            each.result()
    assert code == 0
    assert "Traceback" not in log
    with Store.open(folder / "store.sqlite") as store:
        assert set(FeedbackLog(store).served_by_id(shown)) == set(shown)
    assert not any(path.stat().st_size for path in (folder / "feedback").iterdir())


def test_a_search_that_takes_long_is_finished_first(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    service = open_service(folder, Settings())
    search, begun = service.search, threading.Event()

    def slow(request: object) -> object:
        begun.set()
        time.sleep(1)
        return search(request)  # type: ignore[arg-type]

    monkeypatch.setattr(service, "search", slow)
    server = make_server(service)
    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor(2) as pool:
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        running = pool.submit(server.run, sockets=[listening])
        eventually(lambda: server.started)
        answer = pool.submit(httpx.post, f"{address}/v1/search", json={"query": "garden hose"}, timeout=20)
        assert begun.wait(20)
        server.should_exit = True
        assert answer.result().json()["hits"]
        running.result()


def test_without_keys_a_process_listens_to_this_machine_alone_and_its_log_is_json(
    start: Callable[..., Process],
) -> None:
    process = start("--host", "0.0.0.0")
    httpx.get(f"{process.address}/health/live")
    _, log = process.end()
    (said,) = [line for line in log.splitlines() if not line.startswith("{")]
    assert said == f"{process.address}/"
    lines = [orjson.loads(line) for line in log.splitlines() if line != said]
    assert any("there are no API keys" in line["event"] for line in lines)
    assert any(line.get("route") == "/health/live" for line in lines)


def test_a_port_that_is_taken_is_said(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        service = open_service(folder, Settings(server={"port": port}))
        before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
        try:
            with pytest.raises(InputError, match=f"127.0.0.1:{port} cannot be listened on"):
                run_server(make_server(service))
        finally:
            signal.signal(signal.SIGTERM, before[0])
            signal.signal(signal.SIGINT, before[1])
            service.close()


def test_a_process_that_cannot_start_says_why(tmp_path: Path) -> None:
    process = Process(tmp_path / "none")
    _, said = process.process.communicate(timeout=60)
    assert process.process.returncode == 1
    assert "Traceback" not in said
    assert "none" in said


# --- opening --------------------------------------------------------------------------------------


def test_an_index_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(IndexFormatError):
        open_service(tmp_path, Settings())


def test_a_store_that_is_not_there(folder: Path) -> None:
    (folder / "store.sqlite").rename(folder / "elsewhere.sqlite")
    with pytest.raises((StoreError, IndexFormatError)):
        open_service(folder, Settings())
    service = open_service(folder, Settings(), store=f"sqlite:///{folder / 'elsewhere.sqlite'}")
    assert service.store.count() == len(PRODUCTS)
    service.close()


def test_feedback_that_a_killed_process_left_is_written(folder: Path) -> None:
    service = open_service(folder, Settings(feedback={"enabled": False}))
    assert service.spool is None
    assert not (folder / "feedback").exists()
    service.close()
    service = open_service(folder, Settings())
    assert (folder / "feedback").is_dir()
    service.close()


def test_a_server_is_made_as_the_settings_say(folder: Path) -> None:
    service = open_service(folder, Settings(server={"port": 0, "shutdown_seconds": 3, "host": "10.0.0.1"}))
    config = make_server(service).config
    assert (config.host, config.port, config.timeout_graceful_shutdown) == ("127.0.0.1", 0, 3)
    assert not config.proxy_headers
    KeyLog(service.store).create("first", {"search"})
    proxied = Settings(server={"host": "10.0.0.1", "trusted_proxies": ["10.0.0.0/8"]})
    service.settings = proxied
    config = make_server(service).config
    assert (config.host, config.proxy_headers) == ("10.0.0.1", True)
    assert config.forwarded_allow_ips == ["10.0.0.0/8"]
    service.close()
