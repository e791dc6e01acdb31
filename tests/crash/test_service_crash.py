"""A service killed in the midst of writes: what was answered is there, nothing is half, the next one starts.

`TILTH_CRASHES=60 pytest tests/crash/test_service_crash.py` kills that often; without it, 3 times.
"""

import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import orjson
import pytest

from crash import service_writer
from live_service import build, eventually
from tilth.feedback_log import FeedbackLog
from tilth.store import Store

KILLS = int(os.environ.get("TILTH_CRASHES", "3"))
LONGEST = 1.5  # seconds of work before a kill
SETTINGS = {
    "TILTH_LOGGING__LEVEL": "error",
    "TILTH_LIMITS__BURST": "100000",
    "TILTH_LIMITS__REQUESTS_PER_MINUTE": "1000000",
}


class Shop:
    """An index folder, its service, and what its customer was told."""

    def __init__(self, folder: Path) -> None:
        self.index, self.log = build(folder), folder / "log.jsonl"
        self.process: subprocess.Popen[bytes] | None = None
        self.batches: dict[str, set[str | None]] = {}  # to what may be stored: the title, None for deleted
        self.events, self.impressions = set[str](), set[str]()
        self._read = 0

    def start(self) -> str:
        """Start the service; return its address."""
        with socket.create_server(("127.0.0.1", 0)) as listening:
            port = listening.getsockname()[1]
        command = [sys.executable, "-c", "from tilth.cli.main import main; main()", "serve", str(self.index)]
        self.process = subprocess.Popen(
            [*command, "--port", str(port)], stderr=subprocess.PIPE, env={**os.environ, **SETTINGS}
        )
        address = f"http://127.0.0.1:{port}"

        def ready() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, self.process.communicate()
            try:
                return httpx.get(f"{address}/health/ready").status_code == 200
            except httpx.TransportError:
                return False

        eventually(ready, 60)
        return address

    def kill(self) -> None:
        assert self.process is not None
        assert self.process.poll() is None, self.process.communicate()
        self.process.kill()
        self.process.communicate()

    def size(self) -> int:
        """Return how much was told so far, in bytes."""
        return self.log.stat().st_size if self.log.exists() else 0

    def read_log(self) -> int:
        """Read what was told since the last time; return how many requests were answered."""
        lines = [orjson.loads(line) for line in self.log.read_bytes().splitlines()[self._read :]]
        self._read += len(lines)
        asked: dict[str, str | None] = {}
        for line in lines:
            if "events" in line:
                self.events |= set(line["events"])
                self.impressions.add(line["impression"])
            elif "done" in line:
                self.batches[line["batch"]] = {asked.pop(line["batch"])}
            else:
                asked[line["batch"]] = line["title"]
        for batch, title in asked.items():  # not answered: it happened, or it did not
            self.batches[batch] = {title, *self.batches.get(batch, {None})}
        return sum("done" in line or "events" in line for line in lines)

    def check(self) -> None:
        """Check the store, as it was left, and what the next process makes of it."""
        stored = self.titles()
        for batch, may_be in self.batches.items():
            ids = [f"{batch}-{n}" for n in range(service_writer.BATCH)]
            titles = {stored.get(product_id) for product_id in ids}
            assert len(titles) == 1, f"{batch} is there in part"
            assert titles <= may_be
            self.batches[batch] = titles
        with Store.open(self.index / "store.sqlite") as store:
            events = {each.event_id for _, each in FeedbackLog(store).interactions()}
        assert self.events <= events

    def titles(self) -> dict[str, str]:
        with Store.open(self.index / "store.sqlite") as store, store.snapshot() as snapshot:
            return {name: orjson.loads(record)["title"] for name, record in snapshot.records()}

    def check_impressions(self) -> None:
        """Check that what was shown was kept, and written by the processes after the one that showed it."""
        with Store.open(self.index / "store.sqlite") as store:
            assert set(FeedbackLog(store).served_by_id(sorted(self.impressions))) == self.impressions


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    made = Shop(tmp_path)
    yield made
    if made.process is not None and made.process.poll() is None:
        made.process.kill()
        made.process.communicate()


def test_nothing_that_was_answered_is_lost(shop: Shop) -> None:
    rng, answered = random.Random(7), 0
    for run in range(KILLS):
        address = shop.start()
        customer = subprocess.Popen(
            [sys.executable, str(Path(service_writer.__file__)), address, str(shop.log), str(run), str(run)]
        )
        begun = shop.size() + 2_000
        eventually(lambda begun=begun: shop.size() > begun, 60)
        time.sleep(rng.random() * LONGEST)
        shop.kill()
        assert customer.wait(60) == 0
        answered += shop.read_log()
        shop.check()
    assert answered > 20 * KILLS
    address = shop.start()
    searched = httpx.get(f"{address}/health/ready").json()
    assert searched["products"] == len(shop.titles())
    shop.process.terminate()
    assert shop.process.wait(60) == 0
    shop.check()
    shop.check_impressions()
