"""Killed at any moment, a process loses no feedback that it has kept or acknowledged."""

import logging
import random
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

from crash.feedback_writer import interaction, served
from tilth.feedback_log import FeedbackLog
from tilth.serve.spool import Spool
from tilth.store import Store

KILLS = 15
_log = logging.getLogger(__name__)


def writer(folder: Path, run: int) -> subprocess.Popen[bytes]:
    """Start one, which waits for a line when it has loaded."""
    script = Path(__file__).with_name("feedback_writer.py")
    return subprocess.Popen(
        [sys.executable, str(script), str(folder), str(folder / "log"), str(run)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


def let_work(process: subprocess.Popen[bytes], seconds: float) -> None:
    """Kill a process some time after it has begun."""
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.stdin.write(b"go\n")
    process.stdin.flush()
    time.sleep(seconds)
    assert process.poll() is None, "it ended by itself"


def test_no_kill_loses_feedback(tmp_path: Path) -> None:
    rng, waiting = random.Random(27), Counter[bool]()
    process = following = writer(tmp_path, 0)
    try:
        for run in range(1, KILLS + 1):
            following = writer(tmp_path, run)  # loads meanwhile
            let_work(process, rng.uniform(0.01, 0.4))
            process.kill()
            process.communicate()
            process = following
            waiting[any(path.stat().st_size for path in (tmp_path / "feedback").glob("segment-*"))] += 1
    finally:
        for each in (process, following):
            each.kill()
            each.communicate()
    assert_complete(tmp_path, (tmp_path / "log").read_text().split())
    _log.info("killed with records that waited, or none: %s", dict(waiting))
    assert waiting[True]


def assert_complete(folder: Path, told: list[str]) -> None:
    """Check that all that was acknowledged is in the store, once and as it was."""
    with Store.open(folder / "store.sqlite", create=False) as store:
        log = FeedbackLog(store)
        with closing(Spool(folder / "feedback", log)) as spool:
            spool.close(60)
        kept = [one for _, one in log.served()]
        recorded = [one for _, one in log.interactions()]
    assert list((folder / "feedback").iterdir()) == []
    assert spool.counts()["rejected"] == 0
    told_kept = {name for name in told if name.startswith("keep")}
    told_recorded = {name for name in told if name.startswith("record")}
    _log.info("%d kept and %d recorded were acknowledged", len(told_kept), len(told_recorded))
    assert told_kept
    assert told_recorded
    assert len(kept) == len({one.impression_id for one in kept})
    assert len(recorded) == len({one.event_id for one in recorded})
    assert told_kept <= {one.impression_id for one in kept}
    assert told_recorded <= {one.event_id for one in recorded}
    assert all(one == served(one.impression_id) for one in kept)
    assert all(one == interaction(one.event_id) for one in recorded)
