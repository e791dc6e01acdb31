"""What is said about running the service, in deploy/, agrees with the service itself."""

import re
import shlex
import shutil
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import orjson
import pytest
import typer

from tilth.cli.serving import serve
from tilth.serve.settings import Settings, read_settings

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
SPOOL_SECONDS = 5  # that the queue of feedback has at the end


def read_by_serve(arguments: list[str]) -> dict[str, Any]:
    """What `tilth serve` makes of arguments; it exits where it does not know one."""
    app = typer.Typer()
    app.command()(serve)
    return typer.main.get_command(app).make_context("tilth serve", arguments).params


# --- the image ------------------------------------------------------------------------------------


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile as pairs of a word and its arguments, comments left out and lines joined."""
    lines = (DEPLOY / "Dockerfile").read_text("utf-8").splitlines()
    text = "\n".join(line for line in lines if not line.startswith("#"))
    joined = re.sub(r"\\\n\s*", "", text)
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in joined.splitlines()) if word]


def arguments_of(word: str) -> list[str]:
    return [rest for name, rest in instructions() if name == word]


def test_the_image_is_made_of_files_that_are_here_and_not_ignored() -> None:
    ignored, *allowed = [
        line for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if not line.startswith("#")
    ]
    assert ignored == "*"
    copied = [rest.split() for rest in arguments_of("COPY") if "--from" not in rest]
    sources = {source for *names, _ in copied for source in names}
    assert all((ROOT / source).exists() for source in sources)
    assert sources == {line.removeprefix("!") for line in allowed if line.startswith("!")}
    assert PROJECT["readme"] in sources
    assert set(PROJECT["license-files"]) <= sources


def test_the_image_has_the_extra_that_serves_and_no_torch() -> None:
    (extras,) = [rest.partition("=")[2].split(",") for rest in arguments_of("ARG") if "EXTRAS" in rest]
    assert extras == ["serve"]
    wanted = " ".join([*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["serve"]])
    assert "uvicorn" in wanted
    assert not re.search("torch|sentence-transformers|model2vec", wanted)
    (shown,) = re.findall(r"EXTRAS=(serve,\w+)", (DEPLOY / "Dockerfile").read_text("utf-8"))
    assert set(shown.split(",")) <= PROJECT["optional-dependencies"].keys()


def test_the_image_does_not_run_as_root_and_keeps_its_data() -> None:
    words = [word for word, _ in instructions()]
    (user,) = arguments_of("USER")
    number, _, group = user.partition(":")
    assert int(number) == int(group) > 0
    assert any(f"--uid {number} " in rest for rest in arguments_of("RUN"))
    assert words.index("USER") > max(place for place, word in enumerate(words) if word in ("RUN", "COPY"))
    assert arguments_of("VOLUME") == ["/data"]


def test_what_the_image_runs_is_understood() -> None:
    (entry,), (command,) = arguments_of("ENTRYPOINT"), arguments_of("CMD")
    assert orjson.loads(entry) == ["tilth"]
    assert entry[2:-2] in PROJECT["scripts"]
    name, *arguments = orjson.loads(command)
    assert name == "serve"
    read = read_by_serve(arguments)
    assert (str(read["index"]), read["host"]) == ("/data/index", "0.0.0.0")
    assert arguments_of("EXPOSE") == [str(Settings().server.port)]


@contextmanager
def answering(status: int) -> Iterator[str]:
    """Answer every request on a port of this machine with a status; give the address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/health/ready" else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False)])
def test_the_health_check_tells_ready_from_not_ready(status: int, healthy: bool) -> None:
    (check,) = (rest.partition("CMD ")[2] for rest in arguments_of("HEALTHCHECK"))
    program, option, code = orjson.loads(check)
    assert (program, option) == ("python", "-c")
    with answering(status) as address:
        there = code.replace(f"http://127.0.0.1:{Settings().server.port}", address)
        assert there != code
        done = subprocess.run(
            [sys.executable, "-c", there], capture_output=True, env={"http_proxy": "http://127.0.0.1:9"}
        )
    assert (done.returncode == 0) is healthy


# --- the unit of systemd --------------------------------------------------------------------------


def unit() -> dict[str, list[str]]:
    """The values of each key of the unit."""
    values: dict[str, list[str]] = {}
    for line in (DEPLOY / "tilth.service").read_text("utf-8").splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            values.setdefault(key, []).append(value)
    return values


def test_the_unit_gives_the_service_time_to_end() -> None:
    assert unit()["KillSignal"] == ["SIGTERM"]
    assert int(unit()["TimeoutStopSec"][0]) > Settings().server.shutdown_seconds + SPOOL_SECONDS


def test_the_unit_runs_a_command_that_is_understood_as_a_user_of_its_own() -> None:
    program, name, *arguments = shlex.split(unit()["ExecStart"][0])
    assert Path(program).name in PROJECT["scripts"]
    assert name == "serve"
    read = read_by_serve(arguments)
    assert str(read["index"]).startswith(f"/var/lib/{unit()['StateDirectory'][0]}/")
    assert read["config"] == Path("/etc/tilth/tilth.toml")
    assert unit()["User"] == ["tilth"]


def test_every_variable_of_the_example_is_one_that_is_read() -> None:
    text = (DEPLOY / "tilth.env").read_text("utf-8")
    variables = dict(re.findall(r"^#?([A-Z_]+)=(.*)$", text, re.MULTILINE))
    settings = {name: value for name, value in variables.items() if "__" in name}
    assert read_settings(None, settings).server.port == 8080
    assert variables.keys() - settings.keys() == {"TILTH_STORE", Settings().ask.key_env}


def test_systemd_finds_no_fault_with_the_unit(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd is not installed: apt-get install systemd")
    text = (DEPLOY / "tilth.service").read_text("utf-8")
    file = tmp_path / "tilth.service"
    file.write_text(text.replace("/opt/tilth/bin/tilth", "/bin/true"))
    verified = subprocess.run(["systemd-analyze", "verify", file], capture_output=True, text=True)
    assert (verified.returncode, verified.stderr) == (0, "")
    exposure = ["systemd-analyze", "security", "--offline=true", "--threshold=20", file]
    rated = subprocess.run(exposure, capture_output=True, text=True)
    assert rated.returncode == 0, rated.stdout
