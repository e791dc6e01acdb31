"""A customer of a service who writes to it from several threads until it is no more.

Called as `service_writer.py ADDRESS LOG RUN SEED`. Each batch of products, each deletion and each post of
feedback gets a line in the log once it was answered with 200. Products and deletions get one before as
well: what was not answered may have happened all the same, but as a whole.
"""

import os
import random
import sys
import threading
from itertools import count

import httpx
import orjson

BATCH = 6  # products of one request
PRODUCTS = 5  # batches of each thread, written again and again
WRITERS, READERS = 3, 2


class Customer:
    """Writes products of its own, and tells what it has seen."""

    def __init__(self, address: str, log: int, run: str, seed: int) -> None:
        self.client = httpx.Client(base_url=address, timeout=30)
        self.log, self.run, self.rng = log, run, random.Random(seed)

    def say(self, **line: object) -> None:
        os.write(self.log, orjson.dumps(line) + b"\n")

    def write(self, name: str) -> None:
        """Change, or remove, one of the batches of this thread: all its products or none."""
        for turn in count():
            batch = f"{name}-{self.rng.randrange(PRODUCTS)}"
            ids, title = [f"{batch}-{n}" for n in range(BATCH)], f"{self.run}.{turn}"
            if self.rng.random() < 0.2:
                self.say(batch=batch, title=None)
                answer = self.client.post("/v1/products/delete", json={"ids": ids})
            else:
                self.say(batch=batch, title=title)
                answer = self.client.post("/v1/products", json=[{"id": each, "title": title} for each in ids])
            if answer.status_code == 200:
                self.say(batch=batch, done=True)

    def read(self, name: str) -> None:
        """Search, and tell what was done with what was found."""
        for turn in count():
            found = self.client.post("/v1/search", json={"query": "spade", "k": 3})
            if found.status_code != 200:
                continue
            impression = found.json()["impression_id"]
            events = [
                {"action_name": "view", "query_id": impression, "timestamp": "2026-05-31T12:00:00Z",
                 "event_id": f"{name}.{self.run}.{turn}.{n}"}
                for n in range(3)
            ]  # fmt: skip
            if self.client.post("/v1/feedback", json={"events": events}).status_code == 200:
                self.say(impression=impression, events=[event["event_id"] for event in events])


def work(address: str, path: str, run: str, seed: int) -> list[threading.Thread]:
    """Begin to write; each thread ends when the service does."""
    log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    threads = []
    for number in range(WRITERS + READERS):
        customer = Customer(address, log, run, seed * 100 + number)
        name, does = f"c{number}", customer.write if number < WRITERS else customer.read

        def until_the_end(name: str = name, does: object = does) -> None:
            try:
                does(name)  # type: ignore[operator]
            except httpx.TransportError:
                return

        threads.append(threading.Thread(target=until_the_end, daemon=True))
    for thread in threads:
        thread.start()
    return threads


if __name__ == "__main__":
    for thread in work(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])):
        thread.join()
