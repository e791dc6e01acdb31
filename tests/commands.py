"""Commands as a person or a program calls them: what they print, and their exit codes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson
import pytest
import typer

from tilth.cli.terminal import reporting_errors


@dataclass
class Outcome:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return orjson.loads(self.out)


Command = Callable[..., Outcome]


def runner(app: typer.Typer, name: str, capfd: pytest.CaptureFixture[str]) -> Command:
    """What runs an app with some arguments, as the command of that name."""

    def run(*arguments: object) -> Outcome:
        code = 0
        try:
            with reporting_errors():
                app([*map(str, arguments)], prog_name=name)
        except SystemExit as end:
            code = int(end.code or 0)
        return Outcome(code, *capfd.readouterr())

    return run
