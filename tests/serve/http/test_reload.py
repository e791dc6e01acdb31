"""Everything that changes while customers search: products, generations, releases. No search ever fails."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx
import pytest

from live_service import PRODUCTS, Live, eventually
from shop import quiet
from tilth.promotions import promote, rollback
from tilth.releases import propose
from tilth.retrieval.build_settings import Resources
from tilth.retrieval.builder import compact_index
from tilth.retrieval.fusion import Fusion

SEARCHERS = 3


@dataclass
class Traffic:
    """Searches that never stop, and what was wrong with them."""

    answered: int = 0
    faults: list[str] = field(default_factory=list)
    generations: set[int] = field(default_factory=set)
    releases: set[str | None] = field(default_factory=set)


@contextmanager
def searching(live: Live) -> Iterator[Traffic]:
    """Search over and over while a block runs, from several threads, each in several ways."""
    traffic, stop = Traffic(), threading.Event()

    def search(number: int) -> None:
        bodies = [
            ("/v1/search", {"query": "garden hose", "k": 20, "facets": ["brand"], "deadline_ms": 3000}),
            ("/v1/search", {"query": "лопата", "filters": {"brand": ["Terra"]}, "deadline_ms": 3000}),
            ("/v1/context", {"query": "garden hose", "budget_tokens": 300, "deadline_ms": 3000}),
            ("/v1/search", {"query": "spade steel", "collapse": True, "deadline_ms": 3000}),
        ]
        headers = {"Authorization": f"Bearer {live.tokens['search']}"}
        with httpx.Client(base_url=live.address, headers=headers, timeout=30) as client:
            for path, body in (each for _ in iter(stop.is_set, True) for each in bodies[number % 2 :]):
                try:
                    response = client.post(path, json=body)
                except httpx.HTTPError as error:
                    traffic.faults.append(repr(error))
                    continue
                if response.status_code != 200:
                    traffic.faults.append(response.text)
                elif path == "/v1/search":
                    traffic.releases.add(response.json()["release"])
                traffic.answered += 1

    threads = [threading.Thread(target=search, args=(number,)) for number in range(SEARCHERS)]
    for thread in threads:
        thread.start()
    try:
        yield traffic
        enough = traffic.answered + 20
        eventually(lambda: traffic.answered > enough or traffic.faults)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert traffic.faults == []


@pytest.fixture
def live(serve: Callable[..., Live]) -> Live:
    limits = {"requests_per_minute": 1_000_000, "burst": 100_000, "waiting": 100}
    return serve(limits=limits)


def first(live: Live, query: str) -> str:
    """Return the best product for a query, if there is one."""
    body = {"query": query, "k": 1, "deadline_ms": 3000}
    hits = live.client("search").post("/v1/search", json=body).json()["hits"]
    return str(hits[0]["product_id"]) if hits else ""


def put(live: Live, *products: dict[str, object]) -> None:
    assert live.client("write").post("/v1/products", json=list(products)).status_code == 200


def test_products_come_and_go_while_others_search(live: Live) -> None:
    with searching(live):
        seconds = []
        for turn in range(8):
            cheap = {"id": "price", "title": "Spade", "price": turn}
            put(live, {"id": f"n{turn}", "title": f"Novelty wort{turn}x"}, cheap)
            start = time.monotonic()
            eventually(lambda turn=turn: first(live, f"wort{turn}x") == f"n{turn}", 20)
            seconds.append(time.monotonic() - start)
            live.client("write").request("DELETE", f"/v1/products/n{turn}")
            eventually(lambda turn=turn: first(live, f"wort{turn}x") != f"n{turn}", 20)
    assert sorted(seconds)[len(seconds) // 2] < 10  # it is about a second; machines differ
    live.settled()
    assert live.client("").get("/health/ready").json()["products"] == len(PRODUCTS) + 1


def test_generations_change_while_others_search(live: Live) -> None:
    path, store = live.service.pipeline.live.path, live.service.store
    with searching(live):
        for turn in range(3):
            new = {"title": f"Batch {turn}", "brand": "Terra"}
            put(live, *({"id": f"g{turn}-{n}", **new} for n in range(50)))
            compact_index(path, store, Resources(), quiet)
            eventually(lambda turn=turn: health(live)["generation"] == turn + 2, 20)
        live.settled()
        assert health(live)["products"] == len(PRODUCTS) + 150
    found = live.client("search").post("/v1/facets", json={"fields": ["brand"]}).json()
    assert found["facets"]["brand"]["Terra"] == 7 + 150
    eventually(lambda: [folder.name for folder in (path / "generations").iterdir()] == ["4"])


def health(live: Live) -> dict[str, object]:
    return dict(live.client("").get("/health/ready").json())


EVIDENCE = {
    "candidate": "better", "measure": "nDCG@10", "part": "test", "queries": 50,
    "systems": {"better": {"nDCG@10": 0.7}, "hybrid": {"nDCG@10": 0.6}, "r1": {"nDCG@10": 0.6}}, "slices": {},
    "differences": [
        {"system": "better", "baseline": baseline, "measure": "nDCG@10", "difference": 0.1, "low": 0.05,
         "high": 0.15, "p": 0.001, "won": 30, "lost": 5}
        for baseline in ("hybrid", "r1")
    ],
    "latency": {"p50_ms": 1.0, "p99_ms": 2.0},
}  # fmt: skip


def test_releases_change_while_others_search(live: Live) -> None:
    path, client = live.service.pipeline.live.path, live.client("admin")
    for weight in (0.2, 0.9):
        propose(path, fusion=Fusion("minmax", (1.0, weight)), evidence=EVIDENCE)
    with searching(live) as traffic:
        for name in ("r1", "r2"):
            assert client.post(f"/v1/releases/{name}/promote", json={"why": "x"}).json()["in_force"] == name
            assert shown(live) == name
        for name in ("r1", None):
            assert client.post("/v1/releases/rollback", json={"why": "x"}).json()["in_force"] == name
            assert shown(live) == name
    assert traffic.releases <= {None, "r1", "r2"}


def shown(live: Live) -> str | None:
    body = {"query": "garden hose", "deadline_ms": 3000}
    release = live.client("search").post("/v1/search", json=body).json()["release"]
    assert release == health(live)["release"]
    return str(release) if release else None


def test_another_process_promotes_a_release(live: Live) -> None:
    """What the command line does in the folder is seen by the running service."""
    path = live.service.pipeline.live.path
    propose(path, fusion=Fusion("zscore"), evidence={})
    with searching(live):
        promote(path, "r1", {"passed": True, "refusals": [], "in_force": "hybrid"})
        eventually(lambda: health(live)["release"] == "r1", 20)
        assert shown(live) == "r1"
        rollback(path)
        eventually(lambda: health(live)["release"] is None, 20)


def test_everything_at_once(live: Live) -> None:
    """Writers, a builder and releases together; in the end searches see what the store has."""
    path, store = live.service.pipeline.live.path, live.service.store
    propose(path, fusion=Fusion("minmax", (1.0, 0.3)), evidence=EVIDENCE)
    stop = threading.Event()

    def write(number: int) -> None:
        with httpx.Client(base_url=live.address, headers=live.client("write").headers, timeout=60) as client:
            turn = 0
            while not stop.is_set():
                batch = [{"id": f"e{number}-{n}", "title": f"Turn {turn}", "price": turn} for n in range(10)]
                assert client.post("/v1/products", json=batch).status_code in (200, 429)
                turn += 1
            last = [{"id": f"e{number}-{n}", "title": "Last turn zzlast", "price": 1} for n in range(10)]
            assert client.post("/v1/products", json=last).status_code == 200

    writers = [threading.Thread(target=write, args=(number,)) for number in range(2)]
    with searching(live):
        for writer in writers:
            writer.start()
        client = live.client("admin")
        for _ in range(2):
            compact_index(path, store, Resources(), quiet)
            client.post("/v1/releases/r1/promote", json={})
            client.post("/v1/releases/rollback", json={})
        stop.set()
        for writer in writers:
            writer.join()
        live.settled()
        body = {"query": "zzlast", "k": 50, "filters": {"price": 1}, "deadline_ms": 3000}
        found = live.client("search").post("/v1/search", json=body).json()
        assert {hit["title"] for hit in found["hits"]} == {"Last turn zzlast"}
        assert len(found["hits"]) == 20
