"""A real PostgreSQL server for tests, in a folder of its own, gone when they end."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest

PASSWORD = "Manure-20kg"


@contextmanager
def running_postgres() -> Iterator[str]:
    """Start a server on this computer alone; yield the URL of its database; skip where none is installed."""
    programs = _programs()
    folder = Path(tempfile.mkdtemp(prefix="tilth-postgres-"))
    user = _user(folder)
    data, secret, port = folder / "data", folder / "password", _free_port()
    secret.write_text(PASSWORD)
    shutil.chown(secret, user)
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"

    def control(program: str, *arguments: str) -> None:
        command = [str(programs / program), "-D", str(data), *arguments]
        subprocess.run(command, user=user, check=True, cwd=folder, stdout=subprocess.DEVNULL)

    try:
        control(
            "initdb", "-U", "tilth", "-A", "scram-sha-256", f"--pwfile={secret}", "-E", "UTF8", "--no-sync"
        )
        control("pg_ctl", "-w", "-o", options, "-l", str(folder / "log"), "start")
        try:
            yield f"postgresql://tilth:{PASSWORD}@127.0.0.1:{port}/postgres"
        finally:
            control("pg_ctl", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder)


def new_schemas(url: str, prefix: str = "s") -> Callable[[], str]:
    """Return what makes a new, empty schema and returns the URL that leads into it."""
    import psycopg

    numbers = count(1)

    def make() -> str:
        name = f"{prefix}{next(numbers)}"
        with psycopg.connect(url) as connection:
            connection.execute(f"CREATE SCHEMA {name}")
        return f"{url}?options=-csearch_path%3D{name}"

    return make


def _programs() -> Path:
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    found = shutil.which("initdb") or (installed[-1] if installed else None)
    if found is None:
        pytest.skip("no PostgreSQL server is installed: apt-get install postgresql")
    return Path(found).parent


def _user(folder: Path) -> str:
    """Return who is to run the server, which refuses root, and give that user the folder."""
    user = pwd.getpwuid(os.getuid()).pw_name
    if os.getuid() == 0:
        try:
            user = pwd.getpwnam("postgres").pw_name
        except KeyError:
            shutil.rmtree(folder)
            pytest.skip("root cannot run PostgreSQL, and there is no user postgres")
        shutil.chown(folder, user)
    return user


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
