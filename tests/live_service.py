"""A small shop behind a real server: its products, its keys, and a client for each of them."""

import contextlib
import resource
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from fakes import kept_encoder
from shop import index
from tilth.catalog import Price, Product
from tilth.key_log import SCOPES, KeyLog
from tilth.serve import starting
from tilth.serve.keys import Doorkeeper
from tilth.serve.service import Service
from tilth.serve.settings import Settings

WORDS = [
    "garden",
    "hose",
    "green",
    "red",
    "blue",
    "cow",
    "manure",
    "spade",
    "steel",
    "лопата",
    "секатор",
    "роз",
]
SECONDS = 0.2  # that the doorkeeper remembers a key
GENEROUS = {"requests_per_minute": 1_000_000, "burst": 100_000}
PATIENCE = 30.0  # seconds that a test waits for what must come
COLOURS = {"green": "Rill", "red": "Terra", "blue": "Rill"}


def _products() -> list[Product]:
    hoses = [
        Product(
            id=f"hose-{length}-{colour}", title=f"Garden hose {length} m {colour}", brand=brand,
            product_type="Garden > Watering > Hoses", price=Price(length + 4.5, "EUR"),
            sale_price=Price(length + 1.0, "EUR") if colour == "red" else None,
            availability="in_stock" if colour != "blue" else "out_of_stock", item_group_id=f"hose-{length}",
            description="Kink-free hose for the garden.", mpn=f"GH-{length}-{colour[0]}", rating=4.5,
            rating_count=12, popularity=float(length), clicks=length, gtin="2006189781080",
            link="https://shop.example/hose", image_link="https://shop.example/hose.jpg",
            attributes={"length": f"{length} m", "colour": colour, "frost proof": colour == "green"},
        )
        for length in (10, 15, 20, 25, 30, 50) for colour, brand in COLOURS.items()
    ]  # fmt: skip
    return [
        *hoses,
        Product(id="m1", title="Cow manure 20 kg", brand="Humus", product_type="Garden > Manures"),
        Product(id="s1", title="Spade steel", brand="Terra", price=Price(30.0, "EUR")),
        Product(id="t1", title="Секатор садовый", description="Для роз.", brand="Грядка"),
        Product(id="t2", title="Лопата штыковая", attributes={"материал": "сталь"}),
        Product(id="odd/id", title="Slashed spade"),
        Product(id="odd%2Fid", title="Percent spade"),
        Product(id="../up", title="Dotted spade"),
    ]


PRODUCTS = _products()


def build(folder: Path) -> Path:
    """Build the index of the shop into a folder, quickly: its encoder knows `WORDS` alone."""
    index(PRODUCTS, folder / "index", kept_encoder(WORDS))
    return folder / "index"


@dataclass
class Live:
    """A running service; `tokens` has one for each scope, and is empty where no key was created."""

    address: str
    service: Service
    app: Any  # as uvicorn has it
    server: Any
    tokens: dict[str, str] = field(default_factory=dict)
    clients: dict[str, httpx.Client] = field(default_factory=dict)

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    def client(self, scope: str = "admin") -> httpx.Client:
        """Return a client with the key of a scope; an empty one has none."""
        if scope not in self.clients:
            token = self.tokens.get(scope)
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            self.clients[scope] = httpx.Client(base_url=self.address, headers=headers, timeout=PATIENCE)
        return self.clients[scope]

    def ready(self) -> bool:
        """Tell whether searches are answered."""
        return self.client("").get("/health/ready").status_code == 200

    def settled(self) -> None:
        """Wait until searches see everything that the store has."""
        eventually(lambda: self.client("").get("/health/ready").json()["behind"] == 0)


def eventually(holds: Any, seconds: float = PATIENCE) -> None:
    """Wait until something holds; fail where it never does."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it never came about"
        time.sleep(0.02)


@contextlib.contextmanager
def running(into: Path, settings: Settings | None = None, *, keys: bool = True) -> Iterator[Live]:
    """Serve an index as `tilth serve` does, on a free port, while a block runs."""
    service = starting.open_service(into, settings or Settings(limits=GENEROUS))
    tokens: dict[str, str] = {}
    if keys:
        log = KeyLog(service.store)
        tokens = {scope: log.create(scope, {scope})[1] for scope in SCOPES}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(starting, "Doorkeeper", partial(Doorkeeper, seconds=SECONDS))
        server = starting.make_server(service)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        eventually(lambda: server.started or not thread.is_alive())
        assert server.started
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        live = Live(address, service, server.config.app, server, tokens)
        try:
            yield live
        finally:
            for client in live.clients.values():
                client.close()
            server.should_exit = True
            thread.join()


def spoken(live: Live, *parts: bytes, timeout: float = PATIENCE) -> bytes:
    """Send bytes over a connection of their own, and return all that comes until it is closed."""
    with socket.create_connection(("127.0.0.1", live.port), timeout=timeout) as connection:
        with contextlib.suppress(OSError):  # it may be closed before everything was sent
            for part in parts:
                connection.sendall(part)
        said = b""
        with contextlib.suppress(ConnectionError):
            while part := connection.recv(65_536):
                said += part
        return said


def head(live: Live, route: str, **headers: object) -> bytes:
    """Return the beginning of a request of somebody with all scopes; the connection ends with it."""
    lines = {"Host": "localhost", "Authorization": f"Bearer {live.tokens['admin']}", "Connection": "close"}
    lines |= {"Content-Type": "application/json"} | {
        name.replace("_", "-"): str(value) for name, value in headers.items()
    }
    fields = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"{route} HTTP/1.1\r\n{fields}\r\n".encode()


def status(said: bytes) -> int:
    """Return the status of what a server said; 0 where it said nothing."""
    return int(said.split(maxsplit=2)[1]) if said else 0


def memory() -> float:
    """Return the memory that this process has, in MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6
