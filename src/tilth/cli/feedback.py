"""`tilth feedback`: what was served and done, out of the log of a store, into it, and forgotten."""

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, TypeVar

import orjson
import typer
from rich.text import Text

from tilth.cli.indexing import Json, StoreUrl
from tilth.cli.terminal import ERR, OUT, Bars, print_json, progress_bars
from tilth.errors import InputError
from tilth.feedback_log import FeedbackLog
from tilth.files import read_rows, replacing
from tilth.retrieval.index import open_store
from tilth.ubi import interaction_from_ubi, interaction_to_ubi, served_from_ubi, served_to_ubi

app = typer.Typer(help="Keep what was served and what was done with it.", no_args_is_help=True)

Index = Annotated[Path, typer.Argument(help="The index folder, whose store keeps the feedback.")]

QUERIES, EVENTS = "ubi_queries.jsonl", "ubi_events.jsonl"
_PROGRESS = 1_000  # lines between two movements of the bar
_T = TypeVar("_T")


@app.command("export")
def export_feedback(
    index: Index,
    into: Annotated[Path, typer.Option(help=f"The folder for {QUERIES} and {EVENTS}.")],
    store: StoreUrl = None,
    as_json: Json = False,
) -> None:
    """Write the log as records of User Behavior Insights (UBI), one a line."""
    with open_store(index, store, create=False) as opened, progress_bars() as bars:
        log = FeedbackLog(opened)
        # The events first: what they happened to is then in the log, and so in the other file.
        events = _write(into / EVENTS, (interaction_to_ubi(each) for _, each in log.interactions()), bars)
        queries = _write(into / QUERIES, (served_to_ubi(each) for _, each in log.served()), bars)
    if as_json:
        print_json({"into": str(into), "impressions": queries, "interactions": events})
        return
    OUT.print(f"{into / QUERIES}: {queries:,} impressions", soft_wrap=True)
    OUT.print(f"{into / EVENTS}: {events:,} interactions", soft_wrap=True)


def _write(path: Path, records: Iterable[dict[str, object]], bars: Bars) -> int:
    count = 0
    with replacing(path) as file:
        for record in records:
            file.write(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))
            count += 1
            if count % _PROGRESS == 0:
                bars(path.name, count)
    return count


@app.command("import")
def import_feedback(
    index: Index,
    queries: Annotated[Path | None, typer.Option(help="UBI queries: JSON lines, also gzipped.")] = None,
    events: Annotated[Path | None, typer.Option(help="UBI events: likewise.")] = None,
    store: StoreUrl = None,
    as_json: Json = False,
) -> None:
    """Add UBI records to the log: all lines of the files or none, and each record once."""
    if queries is None and events is None:
        raise InputError("no file was given", remedy="Name one with --queries, --events, or both")
    with open_store(index, store, create=False) as opened, progress_bars() as bars:
        reading = _Reading(bars)
        added = FeedbackLog(opened).append(
            reading.records(queries, served_from_ubi),
            reading.ending(reading.records(events, interaction_from_ubi)),
        )
    known = reading.read - sum(added)
    if as_json:
        print_json({"read": reading.read, **added._asdict(), "known": known})
        return
    OUT.print(
        f"{added.impressions:,} impressions and {added.interactions:,} interactions added, "
        f"{known:,} were known",
        soft_wrap=True,
    )


class _Reading:
    """Lines of files: how many were read, and how many of them cannot be used, each of which is named."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self.read = self._wrong = 0

    def records(self, path: Path | None, parse: Callable[[object], _T]) -> Iterator[_T]:
        """Yield the records of a file, none more from the first line on that cannot be used."""
        for number, cells in read_rows(path) if path else ():
            self.read += 1
            if self.read % _PROGRESS == 0:
                self._bars("reading", self.read)
            try:
                record = parse(_json("\t".join(cells)))  # a tab stands between tokens or not at all in JSON
            except InputError as error:
                self._wrong += 1
                _tell(error, path, number)
            else:
                if not self._wrong:
                    yield record

    def ending(self, records: Iterator[_T]) -> Iterator[_T]:
        """Yield the last records of all as they are, and raise InputError if any line was wrong."""
        yield from records
        if self._wrong:
            raise InputError(
                f"{self._wrong:,} of {self.read:,} lines cannot be used, and nothing was written",
                remedy="Correct them or take them out",
            )


def _json(text: str) -> object:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InputError(f"invalid JSON: {error.msg}", remedy="Write one object a line") from error


def _tell(error: InputError, path: Path | None, line: int) -> None:
    named = InputError(
        error.reason, path=path, line=line, field=error.field, value=error.value, remedy=error.remedy
    )
    ERR.print(Text(f"  {named}"), soft_wrap=True)


@app.command("forget")
def forget_feedback(
    index: Index,
    before: Annotated[
        str, typer.Option(help="2026-01-31, or with a time of day; UTC where no zone is said.")
    ],
    store: StoreUrl = None,
    as_json: Json = False,
) -> None:
    """Delete what was served and done before a time; nothing is asked."""
    time = _time(before)
    with open_store(index, store, create=False) as opened:
        deleted = FeedbackLog(opened).forget(time)
    if as_json:
        print_json({"before": time.isoformat(), **deleted._asdict()})
        return
    OUT.print(
        f"{deleted.impressions:,} impressions and {deleted.interactions:,} interactions "
        f"before {time.isoformat()} deleted",
        soft_wrap=True,
    )


def _time(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise InputError(
            "is no date", field="--before", value=text, remedy="Write it like 2026-01-31"
        ) from error
