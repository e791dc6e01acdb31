"""A process that keeps changing an index folder and logs what was acknowledged, until it is killed.

Called as `shopkeeper.py INDEX LOG PHASE_FILE`; it begins when its standard input says `PHASE SEED`, and
writes a byte to its standard output whenever it enters that phase. The log has a line before each change,
its intent, and one after it, its acknowledgement. The phase file holds the phase at any moment.
"""

import os
import random
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import orjson
from sqlalchemy import event

from fakes import kept_encoder
from shop import DEFAULTS
from tilth.catalog import Price, Product, product_from_json, product_to_json
from tilth.pipeline import Pipeline, open_index
from tilth.retrieval import generations, live
from tilth.retrieval.build_settings import Resources
from tilth.retrieval.builder import build_index, compact_index
from tilth.retrieval.lexical import LexicalWriter

WORDS = ["spade", "hose", "steel", "basket", "лопата", "сад"]
BRANDS = ["", "Terra", "Humus"]
PRODUCTS = 60
PHASES = (
    "ingest", "update", "delete", "commit", "rows", "dense", "sync", "switch", "removal", "refresh", "search",
)  # fmt: skip
OPERATIONS = {"upsert": 4, "reprice": 3, "delete": 2, "compact": 3, "build": 2, "search": 2}  # how often


def word_of(version: int) -> str:
    """A word of its own for each operation, which no analyzer takes apart."""
    return "q" + oct(version)[2:].translate(str.maketrans("01234567", "bkmpvxzw"))


def made(rng: random.Random, version: int, number: int) -> Product:
    """A product whose title and price tell in which operation it was written."""
    return Product(
        id=f"p{number}",
        title=" ".join([*rng.sample(WORDS, rng.randint(1, 3)), word_of(version)]),
        brand=rng.choice(BRANDS),
        price=Price(float(version + 1), "EUR"),
    )


def stock(rng: random.Random, version: int) -> list[Product]:
    """A whole catalogue."""
    return [made(rng, version, number) for number in range(PRODUCTS) if rng.random() < 0.9]


class Shopkeeper:
    """Works on an index folder."""

    def __init__(self, index: Path, log: Path, phase_file: Path, wanted: str, seed: int) -> None:
        self.index, self.wanted, self.rng = index, wanted, random.Random(seed)
        self.version = len(log.read_bytes().splitlines())
        self.log = os.open(log, os.O_WRONLY | os.O_APPEND)
        self.phase = os.open(phase_file, os.O_WRONLY)
        self.pipeline = self.opened()

    def opened(self) -> Pipeline:
        self.enter("refresh")
        self.announce(generations, "_switch", "sync")
        self.announce(generations, "replacing", "switch")
        self.announce(generations, "remove_unread", "removal")
        self.announce(LexicalWriter, "__enter__", "rows")
        self.announce(live._Changes, "apply", "refresh")
        pipeline = open_index(self.index)
        event.listen(pipeline.live.store._engine, "commit", lambda _: self.enter("commit"))
        return pipeline

    def announce(self, where: ModuleType | type, name: str, phase: str) -> None:
        """Enter a phase whenever a function is called."""
        function: Callable[..., Any] = getattr(where, name)

        def announced(*args: Any, **kwargs: Any) -> Any:
            self.enter(phase)
            return function(*args, **kwargs)

        setattr(where, name, announced)

    def enter(self, phase: str) -> None:
        os.pwrite(self.phase, phase.ljust(10).encode(), 0)
        if phase == self.wanted:
            os.write(sys.stdout.fileno(), b"!")

    def progress(self, stage: str, done: int, total: int | None = None, /) -> None:
        if stage == "building the dense index":
            self.enter("dense")

    def entering(self, phase: str, items: Iterable[Any]) -> Iterator[Any]:
        """Enter a phase when the first item is asked for."""
        self.enter(phase)
        yield from items

    def write(self, line: dict[str, Any]) -> None:
        os.write(self.log, orjson.dumps(line) + b"\n")
        os.fsync(self.log)

    def work(self) -> None:
        """Do operations as long as the parent lives."""
        parent = os.getppid()
        while os.getppid() == parent:
            self.version += 1
            name = self.rng.choices(list(OPERATIONS), list(OPERATIONS.values()))[0]
            getattr(self, name)()

    def upsert(self, products: list[Product] | None = None) -> None:
        if products is None:
            numbers = self.rng.sample(range(PRODUCTS), self.rng.randint(1, 6))
            products = [made(self.rng, self.version, number) for number in numbers]
        self.write({"puts": [product_to_json(product) for product in products]})
        written = self.pipeline.upsert(self.entering("update", products))
        self.write({"done": written.sequence})
        self.pipeline.refresh()

    def reprice(self) -> None:
        with self.pipeline.live.store.snapshot() as snapshot:
            products = [product_from_json(orjson.loads(record)) for _, record in snapshot.records()]
        chosen = self.rng.sample(products, min(5, len(products)))
        self.upsert([replace(p, price=Price(float(self.version + 1), "EUR")) for p in chosen])

    def delete(self) -> None:
        ids = [f"p{number}" for number in self.rng.sample(range(PRODUCTS), 4)]
        self.write({"deletes": ids})
        written = self.pipeline.delete(self.entering("delete", ids))
        self.write({"done": written.sequence})
        self.pipeline.refresh()

    def compact(self) -> None:
        manifest = compact_index(self.index, self.pipeline.live.store, Resources(), self.progress)
        assert manifest["store"]["sequence"] == self.pipeline.live.store.last_sequence()

    def build(self) -> None:
        products = stock(self.rng, self.version)
        self.write({"replaces": [product_to_json(product) for product in products]})
        manifest = build_index(
            self.index,
            self.pipeline.live.store,
            kept_encoder(WORDS),
            DEFAULTS,
            self.progress,
            products=self.entering("ingest", products),
        )
        self.write({"done": manifest["store"]["sequence"]})

    def search(self) -> None:
        self.pipeline.refresh()
        self.enter("search")
        answer = self.pipeline.answer(self.rng.choice(WORDS), 10, {"price": {"gte": 1}}, facets=["brand"])
        assert answer.totals.allowed == self.pipeline.live.store.count()


if __name__ == "__main__":
    kept_encoder(WORDS)
    wanted, seed = sys.stdin.readline().split()
    Shopkeeper(*map(Path, sys.argv[1:4]), wanted, int(seed)).work()
