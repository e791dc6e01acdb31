"""A process that keeps impressions and records interactions in several threads until it is killed.

Called as `feedback_writer.py FOLDER LOG RUN`. It says `ready`, waits for a line, and opens the store and the
spool. Each impression that was kept, and each interaction that was acknowledged, gets a line in the log after
that: its id.
"""

import os
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

from tilth.feedback_log import FeedbackLog
from tilth.interactions import Interaction, Served
from tilth.serve.spool import Spool
from tilth.store import Store

NOON = datetime(2026, 5, 31, 12, tzinfo=UTC)
THREADS = 3  # of each kind


def served(impression_id: str) -> Served:
    return Served(impression_id=impression_id, query="лопата", product_ids=("p1", "p2"), time=NOON)


def interaction(event_id: str) -> Interaction:
    return Interaction(event_id=event_id, impression_id="i", action="click", time=NOON, product_id="p1")


class Writer:
    """Works on a folder with a store and a spool."""

    def __init__(self, folder: Path, log: Path, run: str) -> None:
        self.run, self.log = run, os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self.spool = Spool(folder / "feedback", FeedbackLog(Store.open(folder / "store.sqlite")), pause=0.005)

    def keep(self, name: str) -> None:
        assert self.spool.keep(served(name))
        self.say(name)
        time.sleep(0.001)

    def record(self, name: str) -> None:
        names = [f"{name}.{number}" for number in range(3)]
        assert self.spool.record(list(map(interaction, names))).result().interactions == len(names)
        self.say("\n".join(names))

    def say(self, text: str) -> None:
        """Write lines in one call."""
        os.write(self.log, f"{text}\n".encode())

    def work(self) -> list[threading.Thread]:
        return [
            threading.Thread(target=self.repeat, args=(do, f"{do.__name__}.{self.run}.{number}"), daemon=True)
            for do in (self.keep, self.record)
            for number in range(THREADS)
        ]

    def repeat(self, do: Callable[[str], None], name: str) -> None:
        for number in count():
            do(f"{name}.{number}")


if __name__ == "__main__":
    os.write(sys.stdout.fileno(), b"ready\n")
    sys.stdin.readline()
    for thread in Writer(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]).work():
        thread.start()
    sys.stdin.read()  # which ends when the parent has died
