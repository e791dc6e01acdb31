"""Where every benchmark writes its figures: benchmarks/results/NAME.jsonl, one object a figure."""

import os
import platform
import subprocess
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path

import orjson

from tilth.files import replacing

Figure = dict[str, object]
KEYS = ("dataset", "system", "metric", "value", "unit")  # of every figure; others say what else it is of
RESULTS = Path(__file__).parent / "results"


def record(benchmark: str, figures: Iterable[Figure], keep: Callable[[Figure], bool] | None = None) -> None:
    """Replace the results of a benchmark; each figure gets the commit, the date and the machine.

    Args:
        benchmark: the name of the file.
        figures: the keys of `KEYS`, and whatever else identifies a figure (`split`, `passages`).
        keep: which of the figures that are there stay, as they are; for a benchmark that is run in parts.

    Raises:
        KeyError: a figure lacks one of `KEYS`.
    """
    about = {"commit": _commit(), "date": datetime.now(UTC).date().isoformat(), "machine": machine()}
    kept = [figure for figure in recorded(benchmark) if keep(figure)] if keep else []
    new = ({"benchmark": benchmark, **{key: each[key] for key in KEYS}, **about, **each} for each in figures)
    with replacing(RESULTS / f"{benchmark}.jsonl") as file:
        for line in [*kept, *new]:
            file.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY))


def recorded(benchmark: str) -> list[Figure]:
    """Return the figures of a benchmark as they were written; none if it never was."""
    path = RESULTS / f"{benchmark}.jsonl"
    return [orjson.loads(line) for line in path.read_bytes().splitlines()] if path.is_file() else []


def machine() -> str:
    """Return the processor, its cores and the memory in a few words."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{_processor()}, {os.cpu_count()} cores, {memory:.0f} GiB"


def _processor() -> str:
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text("utf-8").splitlines() if facts.is_file() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _commit() -> str:
    """Return the short hash, with `-dirty` where any tracked file but the results differs from it."""
    commit = _git("rev-parse", "--short", "HEAD")
    changes = _git("status", "--porcelain", "--untracked-files=no", "--", ":/", f":(exclude){RESULTS}")
    return (commit or "unknown") + ("-dirty" if changes else "")


def _git(*arguments: str) -> str:
    """Return what git prints; nothing where this is no checkout."""
    try:
        done = subprocess.run(
            ["git", *arguments], capture_output=True, text=True, cwd=RESULTS.parent, check=False
        )
    except FileNotFoundError:
        return ""
    return done.stdout.strip()
