"""What the commands share: the consoles, progress bars, errors and exit codes."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import orjson
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from tilth.errors import TilthError

OUT = Console(highlight=False, soft_wrap=False)
ERR = Console(stderr=True, highlight=False)

EXIT_ERROR = 1
EXIT_INTERRUPTED = 128 + signal.SIGINT


@contextmanager
def reporting_errors() -> Iterator[None]:
    """Turn Tilth's own errors into one message and exit code 1, and Ctrl-C into 130.

    Yields:
        Nothing.
    """
    try:
        yield
    except TilthError as error:
        ERR.print(Text.assemble(("error: ", "bold red"), str(error)), soft_wrap=True)
        raise SystemExit(EXIT_ERROR) from error
    except SystemExit as end:  # typer has made one of Ctrl-C
        if end.code == EXIT_INTERRUPTED:
            ERR.print("interrupted; nothing was left half-written")
        raise
    except BrokenPipeError as error:  # the reader, `head` for one, has seen enough
        sys.stderr.close()
        raise SystemExit(0) from error


def print_json(data: object, *, indent: bool = True) -> None:
    """Write data to the standard output as JSON, UTF-8, one object a line if not indented."""
    option = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE | (orjson.OPT_INDENT_2 if indent else 0)
    sys.stdout.write(orjson.dumps(data, option=option).decode())
    sys.stdout.flush()


class RateColumn(ProgressColumn):
    """Items a second."""

    def render(self, task: Task) -> Text:
        """Return the rate, or nothing before there is one."""
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f}/s" if speed else "", style="cyan")


class Bars:
    """A progress bar a stage, with counts, rate and time left."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, stage: str, done: int, total: int | None = None) -> None:
        """Show that `done` of `total` items of a stage are done; None: the total is not known yet."""
        self._progress.start()
        if stage not in self._tasks:
            self._tasks[stage] = self._progress.add_task(stage, total=total)
        self._progress.update(self._tasks[stage], completed=done, total=total)


@contextmanager
def progress_bars() -> Iterator[Bars]:
    """Show progress on the standard error while the block runs.

    Yields:
        What is told of the progress.
    """
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        RateColumn(),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
    )
    progress = Progress(*columns, console=ERR)
    try:
        yield Bars(progress)
    finally:
        if progress.tasks:  # an error before any progress is printed without an empty line above it
            progress.stop()
