"""Every error that Tilth raises on purpose.

TilthError
├── InputError          a file or a value that a person gave is wrong: names value, place and remedy
├── SettingError        a setting or argument is out of its range
├── MissingExtraError   a part that is not installed: names the pip command
├── IndexFormatError    the index folder is damaged, foreign, of another version, or not there
├── IndexLockedError    another process is building into the same folder
├── IndexWriteError     the index folder cannot be written to: a full disk, permissions
└── StoreError          the store of products is damaged, of a newer version, full, locked or out of reach
"""


class TilthError(Exception):
    """The root of all errors that Tilth raises on purpose; its text is written for the user."""


class InputError(TilthError):
    """A file or value that a person gave cannot be used."""

    def __init__(
        self,
        reason: str,
        *,
        path: object = None,
        line: int | None = None,
        field: str | None = None,
        value: object = None,
        remedy: str | None = None,
    ) -> None:
        self.reason, self.path, self.line = reason, path, line
        self.field, self.value, self.remedy = field, value, remedy
        super().__init__(self._text())

    def _text(self) -> str:
        place = "" if self.path is None else str(self.path)
        if self.line is not None:
            place += f":{self.line}" if place else f"line {self.line}"
        if self.field is not None:
            place += f"{', ' if place else ''}field {self.field!r}"
        text = f"{place}: {self.reason}" if place else self.reason
        if self.value is not None:
            text += f" (got {shorten(self.value)})"
        return f"{text}. {self.remedy}" if self.remedy else text


class SettingError(TilthError):
    """A setting or argument is outside its range."""


class MissingExtraError(TilthError):
    """An optional part of Tilth is needed and not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs the extra '{extra}'. Install it: pip install 'tilth[{extra}]'")


class IndexFormatError(TilthError):
    """An index folder cannot be opened as it is."""


class IndexLockedError(TilthError):
    """Another process builds into the same index folder."""


class IndexWriteError(TilthError):
    """An index folder cannot be written to; what it held before is as it was."""


class StoreError(TilthError):
    """The store of products cannot be opened, read or written."""


def shorten(value: object, limit: int = 80) -> str:
    """Return `repr(value)`, cut to `limit` characters, for use in messages."""
    text = repr(value[:limit] if isinstance(value, str) else value)
    return text if len(text) <= limit else text[: limit - 1] + "…"
