"""Files of a model: facts as JSON beside content whose size and checksum the facts tell."""

from pathlib import Path
from typing import Any

import orjson
import xxhash

from tilth.errors import IndexFormatError
from tilth.files import replacing


def write_facts(path: Path, facts: dict[str, Any]) -> None:
    """Write facts in one step; InputError where the folder cannot be written to."""
    with replacing(path) as file:
        file.write(orjson.dumps(facts, option=orjson.OPT_INDENT_2))


def file_facts(path: Path) -> dict[str, object]:
    """Return the name, size and checksum of a file, for its facts."""
    content = path.read_bytes()
    return {"file": path.name, "bytes": len(content), "xxh3": _checksum(content)}


def read_facts(path: Path, form: str, version: int) -> dict[str, Any]:
    """Read facts.

    Args:
        path: a JSON file.
        form: what its `format` must be.
        version: what its `format_version` must be.

    Returns:
        All of it.

    Raises:
        IndexFormatError: it is not there, damaged, of another format, or of another version.
    """
    try:
        facts = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise IndexFormatError(f"{path}: holds no model that can be read ({error}). Train one") from error
    if not isinstance(facts, dict) or facts.get("format") != form:
        raise IndexFormatError(f"{path}: not of the format {form}")
    if (found := facts.get("format_version")) != version:
        raise IndexFormatError(
            f"{path}: format version {found}, not this program's {version}. "
            "Upgrade Tilth, or train the model again"
        )
    return facts


def read_checked(folder: Path, facts: dict[str, Any]) -> bytes:
    """Return the content of a file that `file_facts` described; IndexFormatError if it is not the same."""
    path = folder / str(facts["file"])
    try:
        content = path.read_bytes()
    except OSError as error:
        raise IndexFormatError(f"{path}: cannot be read: {error.strerror}. Train the model again") from error
    if len(content) != facts["bytes"] or _checksum(content) != facts["xxh3"]:
        raise IndexFormatError(f"{path}: the file is damaged. Train the model again")
    return content


def _checksum(content: bytes) -> str:
    return xxhash.xxh3_128(content).hexdigest()
