"""Killed at any moment, a process loses nothing that was acknowledged, and the next one needs no person.

`TILTH_CRASHES=200 pytest tests/crash --log-cli-level=INFO` kills that often, and says in which phase.
phase; without it, 22 times.
"""

import logging
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from crash.shopkeeper import PHASES, WORDS, stock, word_of
from fakes import kept_encoder
from shop import DEFAULTS, index, quiet
from tilth.catalog import product_to_json
from tilth.pipeline import Pipeline, open_index
from tilth.retrieval.builder import build_index
from tilth.retrieval.generations import open_generation

KILLS = int(os.environ.get("TILTH_CRASHES", "22"))
AIMS = (*PHASES[:-1], "any")
# About as long as each phase lasts, in seconds: a kill comes at any moment of it, or a little later.
LASTS = {
    "ingest": 0.003, "update": 0.002, "delete": 0.001, "commit": 0.004, "rows": 0.1, "dense": 0.03,
    "sync": 0.02, "switch": 0.003, "removal": 0.005, "refresh": 0.02,
}  # fmt: skip
EVERYTHING = 200  # more hits than there ever are products
State = dict[str, dict[str, Any]]

_log = logging.getLogger(__name__)


class Shop:
    """An index folder, the log of what was done to it, and what its store must hold."""

    def __init__(self, folder: Path) -> None:
        self.index, self.log, self.phase = folder / "idx", folder / "log.jsonl", folder / "phase"
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        products = stock(random.Random(0), 0)
        index(products, self.index, kept_encoder(WORDS))
        self.log.touch()
        self.phase.touch()
        self.state: State = _by_id(map(product_to_json, products))
        self.sequence = 0  # of the last change that was acknowledged
        self._read = 0  # lines of the log

    def shopkeeper(self) -> subprocess.Popen[bytes]:
        """Start one, who waits for what to do."""
        return subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("shopkeeper.py")),
             str(self.index), str(self.log), str(self.phase)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "TMPDIR": str(self.temporary), "PYTHONPATH": str(Path(__file__).parents[1])},
        )  # fmt: skip

    def states(self) -> list[State]:
        """Return what the store may hold now: one state, or two where an operation was not acknowledged."""
        log = self.log.read_bytes()
        os.truncate(self.log, log.rfind(b"\n") + 1)  # a line that is cut off is of nothing that has begun
        lines = list(map(orjson.loads, self.log.read_bytes().splitlines()))[self._read :]
        self._read += len(lines)
        after = self.state
        for line in lines:
            if "done" in line:
                self.state, self.sequence = after, line["done"]
            else:
                after = _applied(self.state, line)
        return [self.state] if after is self.state else [self.state, after]

    def check(self, witness: Pipeline) -> None:
        """Check everything that a person could see, before and after the next build."""
        open_generation(self.index)  # verifies every file
        with closing(open_index(self.index)) as pipeline:
            stored = stored_in(pipeline)
            assert stored in self.states()
            assert pipeline.live.store.last_sequence() >= self.sequence
            self.state = stored
            witness.refresh()
            assert_shows(pipeline, stored)
            assert_shows(witness, stored)
            build_index(self.index, pipeline.live.store, kept_encoder(WORDS), DEFAULTS, quiet)
            assert not left_overs(self.index)
            witness.refresh()
        assert_shows(witness, stored)


def stored_in(pipeline: Pipeline) -> State:
    with pipeline.live.store.snapshot() as snapshot:
        return _by_id(orjson.loads(record) for _, record in snapshot.records())


def left_overs(folder: Path) -> list[str]:
    """What only a build in progress may have."""
    names = [path.name for path in [*folder.iterdir(), *(folder / "generations").iterdir()]]
    return [name for name in names if name.startswith(".building-") or name.endswith(".part")]


def assert_shows(pipeline: Pipeline, stored: State) -> None:
    """Check that lexical search, dense search and filters find exactly these products, as they are."""
    view = pipeline.live.view
    assert len(pipeline) == len(stored)
    newest = int(max(map(amount, stored.values())))
    for word in [*WORDS, *map(word_of, range(max(0, newest - 30), newest))]:  # of what is gone, too
        expected = {name for name, product in stored.items() if word in product["title"].split()}
        assert set(view.ids(view.lexical.search_rows(word, EVERYTHING).rows)) == expected
    for word in WORDS[:2]:
        for hit in pipeline.answer(word, EVERYTHING).hits:
            assert product_to_json(hit.product) == stored[hit.product.id]
    middle = float(np.median(list(map(amount, stored.values()))))
    assert_allows(pipeline, {"price": {"gte": middle}}, stored, lambda p: amount(p) >= middle)
    assert_allows(pipeline, {"brand": "Terra"}, stored, lambda p: p.get("brand") == "Terra")


def amount(product: dict[str, Any]) -> float:
    return float(product["price"].split()[0])


def assert_allows(
    pipeline: Pipeline, filters: dict[str, Any], stored: State, meant: Callable[[dict[str, Any]], bool]
) -> None:
    view = pipeline.live.view
    allowed = view.allowed(filters)
    assert allowed is not None
    expected = {name for name, product in stored.items() if meant(product)}
    assert set(view.ids(np.flatnonzero(allowed))) == expected
    vector = view.index.legs["dense"].encoder.encode_queries(["spade"])[0]
    assert set(view.ids(view.legs["dense"].search_rows(vector, EVERYTHING, allowed).rows)) == expected


def _by_id(products: Iterable[dict[str, Any]]) -> State:
    return {product["id"]: product for product in products}


def _applied(state: State, line: dict[str, Any]) -> State:
    if "replaces" in line:
        return _by_id(line["replaces"])
    if "deletes" in line:
        return {name: product for name, product in state.items() if name not in line["deletes"]}
    return state | _by_id(line["puts"])


def test_nothing_acknowledged_is_ever_lost(tmp_path: Path) -> None:
    rng, shop, deaths = random.Random(20), Shop(tmp_path), Counter[str]()
    witness = open_index(shop.index)  # open throughout
    victim = shop.shopkeeper()
    try:
        for kill in range(KILLS):
            let_work(victim, AIMS[kill % len(AIMS)], rng)
            victim.kill()
            victim.communicate()
            deaths[shop.phase.read_text().strip()] += 1
            victim = shop.shopkeeper()  # loads while the index is checked
            shop.check(witness)
    finally:
        victim.kill()
        victim.communicate()
        witness.close()
    _log.info("killed in %s", dict(deaths))


def let_work(victim: subprocess.Popen[bytes], aim: str, rng: random.Random) -> None:
    """Wait until a process is in the phase that is aimed at, or has worked for a while."""
    assert victim.stdin is not None
    assert victim.stdout is not None
    assert victim.stderr is not None
    victim.stdin.write(f"{aim} {rng.randrange(1 << 30)}\n".encode())
    victim.stdin.flush()
    if aim == "any":
        time.sleep(rng.uniform(0.02, 1.5))
    else:
        times = rng.randint(1, 2)
        if len(victim.stdout.read(times)) < times:
            pytest.fail(f"it ended by itself: {victim.stderr.read().decode()}")
        time.sleep(rng.uniform(0, LASTS[aim]))
    assert victim.poll() is None, victim.stderr.read().decode()
