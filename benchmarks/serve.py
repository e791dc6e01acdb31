"""How much the service takes, and what its door costs: HTTP on loopback, one process, all cores.

    python benchmarks/serve.py --products 100000 [--folder DIR] [--seconds 20] [--soak 600]

The index is that of `scale.py --products N --only build`, in the same folder; the service is `tilth serve` as
it starts by default, its feedback written, but for the rate of one caller, which is lifted. The load comes
from another process on the same cores (serve_load.py). Searches ask for ten hits; the queries of the shop
come in turn.

- `pipeline`: the same searches by a call in Python, one thread, nothing else running.
- `N connections`: closed loop. `door` is what a request takes beyond the stages of its own answer, the load
  generator's reading and writing included; a pipeline that is called without a pause, as above, is faster
  than one that waits for the next request.
- `twice`: open loop at twice the throughput of 8 connections: everything that is not 200 or 429 is an error.
- `soak`: the same for ten minutes; resident memory after the first minute and at the end.

Writes benchmarks/results/serve.jsonl, one size a run, and prints a table.
"""

import argparse
import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np

from record import Figure, record
from scale_workload import Values, Workload, in_process
from serve_load import closed_loop, open_loop, search_request
from tilth.pipeline import open_index

HITS = 10
CONNECTIONS = (1, 8, 64)
WARM_UP = 3.0  # seconds
UNITS = {"throughput": "requests/s", "refused": "", "errors": "requests", "resident": "MB", "cpu": "cores"}


def main() -> None:
    """Measure, record and print."""
    arguments = parse_arguments()
    workload = Workload(arguments.folder, arguments.products)
    values = {f"pipeline, {name}": value for name, value in in_process(pipeline_times, workload).items()}
    requests = [search_request(query, HITS) for query in workload.queries]
    with serving(workload.index) as (port, pid):
        asyncio.run(closed_loop(port, requests, 2, WARM_UP))
        for connections in CONNECTIONS:
            values |= _named(
                f"{connections} connections", closed(port, requests, connections, arguments.seconds)
            )
        rate = 2 * values["8 connections, throughput"]
        values |= _named("twice", opened(port, pid, requests, rate, arguments.seconds))
        if arguments.soak:
            values |= _named("soak", opened(port, pid, requests, rate, arguments.soak))
    figures = [figure(name, value, workload.products) for name, value in values.items()]
    record("serve", figures, keep=partial(is_other, workload.products))
    for each in figures:
        print(f"{each['metric']:32} {each['value']:10.2f} {each['unit']}")


def parse_arguments() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    folder = Path(tempfile.gettempdir()) / "tilth-scale"
    parser.add_argument("--products", type=int, required=True, help="the size of the shop")
    parser.add_argument("--folder", type=Path, default=folder, help="of shops and indexes")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each load")
    parser.add_argument("--soak", type=float, default=600.0, help="seconds of the soak; 0: none")
    return parser.parse_args()


def is_other(products: int, each: Figure) -> bool:
    """Tell whether a figure is of another size."""
    return each["products"] != products


def figure(metric: str, value: float, products: int) -> Figure:
    """Return one figure."""
    unit = next((unit for word, unit in UNITS.items() if word in metric), "ms")
    about = {"dataset": "sample shop", "system": "Tilth", "products": products}
    return {**about, "metric": metric, "value": value, "unit": unit}


def _named(prefix: str, values: Values) -> Values:
    return {f"{prefix}, {name}": value for name, value in values.items()}


# --- the three kinds of measurement ---------------------------------------------------------------


def pipeline_times(workload: Workload) -> Values:
    """Return percentiles of a search by a call, every query twice, the second time counted."""
    pipeline, times = open_index(workload.index), []
    for query in workload.queries * 2:
        start = time.perf_counter()
        pipeline.answer(query, HITS, explain=False)
        times.append((time.perf_counter() - start) * 1000)
    p50, p99 = np.percentile(times[len(times) // 2 :], [50, 99])
    return {"p50": float(p50), "p99": float(p99)}


def closed(port: int, requests: list[bytes], connections: int, seconds: float) -> Values:
    """Return what comes of a closed loop."""
    return asyncio.run(closed_loop(port, requests, connections, seconds)).values()


def opened(port: int, pid: int, requests: list[bytes], rate: float, seconds: float) -> Values:
    """Return what comes of an open loop, with the server's memory and processor time."""
    resident: list[float] = []

    async def look(_: float) -> None:
        resident.append(_resident(pid))

    before = _cpu_seconds(pid)
    load = asyncio.run(open_loop(port, requests, rate, seconds, look))
    cpu = (_cpu_seconds(pid) - before) / load.seconds
    minute = resident[min(60, len(resident) - 1)]
    memory = {"resident after a minute": minute, "resident at the end": resident[-1]}
    return load.values() | memory | {"cpu": cpu, "offered throughput": rate}


def _resident(pid: int) -> float:
    """Return resident memory in MB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _cpu_seconds(pid: int) -> float:
    times = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK")


# --- the service ----------------------------------------------------------------------------------


@contextmanager
def serving(index: Path) -> Iterator[tuple[int, int]]:
    """Serve an index while the block runs.

    Args:
        index: the folder; its feedback is removed afterwards.

    Yields:
        The port and the process.
    """
    port = _free_port()
    command = [sys.executable, "-m", "tilth.cli.main", "serve", str(index), "--port", str(port)]
    lifted = {"TILTH_LIMITS__REQUESTS_PER_MINUTE": "10000000", "TILTH_LIMITS__BURST": "1000000"}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, env=os.environ | lifted, stderr=log)
        try:
            _await_ready(port, process)
            yield port, process.pid
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
            shutil.rmtree(index / "feedback", ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await_ready(port: int, process: "subprocess.Popen[bytes]") -> None:
    for _ in range(600):
        if process.poll() is not None:
            raise SystemExit(f"the service ended with {process.returncode}")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=1):
                return
        except OSError:
            time.sleep(0.1)
    raise SystemExit("the service did not become ready")


if __name__ == "__main__":
    main()
