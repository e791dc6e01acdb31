"""Logs of the service: one line an event, JSON or text, with the id of the request and no personal text."""

import json
import logging
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import IO, Any

import orjson

REQUEST_ID: ContextVar[str] = ContextVar("tilth_request_id", default="")

_PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


class JsonFormatter(logging.Formatter):
    """A line of JSON: time, level, logger, event, request_id, and whatever the event has besides."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        facts = _facts(record, self)
        try:
            return orjson.dumps(facts, default=str).decode()
        except TypeError:  # half a character, or a whole number beyond 64 bits: no line is lost for it
            return json.dumps(facts, default=str, skipkeys=True)


class TextFormatter(logging.Formatter):
    """The same for people."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, and below it what went wrong, if anything."""
        facts = _facts(record, self)
        head = " ".join(_shown(facts.pop(name)) for name in ("time", "level", "logger", "event"))
        trace = facts.pop("trace", "")
        rest = " ".join(f"{name}={_shown(value)}" for name, value in facts.items() if value != "")
        return "\n".join(filter(None, [f"{head} {rest}".rstrip(), trace]))


def _shown(value: object) -> str:
    """Return a value on one line, so that no text can look like another event."""
    text = str(value)
    return text if text.isprintable() else repr(text)[1:-1]


def _facts(record: logging.LogRecord, formatter: logging.Formatter) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
        "level": record.levelname.lower(),
        "logger": record.name,
        "event": record.getMessage(),
    }
    if request_id := REQUEST_ID.get():
        facts["request_id"] = request_id
    facts |= {name: value for name, value in vars(record).items() if name not in _PLAIN}
    if record.exc_info:
        facts["trace"] = formatter.formatException(record.exc_info)
    return facts


def set_up_logging(form: str, level: str, stream: IO[str] | None = None) -> None:
    """Send all logs of the process to one stream.

    Args:
        form: json or text.
        level: debug, info, warning or error.
        stream: where to; None: the standard error.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = name != "uvicorn.access"  # the envelope tells of requests
    for name in ("httpx", "httpcore", "mcp"):
        logging.getLogger(name).setLevel(logging.WARNING)
