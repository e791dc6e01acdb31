"""Services of the shop of `live_service`: one a module to read from, and others to be changed."""

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from live_service import GENEROUS, Live, build, running
from tilth.serve.service import Service
from tilth.serve.settings import Settings
from tilth.serve.starting import open_service

Serve = Callable[..., Live]


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The index folder of the shop, which nobody changes."""
    return build(tmp_path_factory.mktemp("built"))


@pytest.fixture
def folder(built: Path, tmp_path: Path) -> Path:
    """An index folder of the test's own."""
    return Path(shutil.copytree(built, tmp_path / "index"))


@pytest.fixture(scope="module")
def live(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A service with a key of every scope; what a test changes there, the next one sees."""
    into = shutil.copytree(built, tmp_path_factory.mktemp("live") / "index")
    with running(into) as shop:
        yield shop


@pytest.fixture
def serve(folder: Path) -> Iterator[Serve]:
    """Serve the test's own index: `serve(keys=False, limits={...})`."""
    with contextlib.ExitStack() as stack:

        def start(*, keys: bool = True, **sections: object) -> Live:
            settings = Settings(**{"limits": GENEROUS, **sections})
            return stack.enter_context(running(folder, settings, keys=keys))

        yield start


@pytest.fixture
def service(folder: Path) -> Iterator[Service]:
    """The service itself, without a server, over the test's own index."""
    opened = open_service(folder, Settings())
    opened.start()
    yield opened
    opened.close()
