"""`tilth mcp`: the tools for a language model, over standard streams."""

from pathlib import Path
from typing import Annotated

import typer

from tilth.cli.indexing import StoreUrl
from tilth.cli.serving import Config


def mcp(
    index: Annotated[Path, typer.Argument(help="The index folder.")],
    config: Config = None,
    store: StoreUrl = None,
) -> None:
    """Serve tools for a language model (MCP) to the program that starts this one, over standard streams."""
    from tilth.serve.logs import set_up_logging
    from tilth.serve.mcp import run_stdio
    from tilth.serve.settings import read_settings
    from tilth.serve.starting import open_service

    settings = read_settings(config)
    set_up_logging(settings.logging.format, settings.logging.level)  # to the standard error
    service = open_service(index, settings, store=store)
    service.start()
    try:
        run_stdio(service)
    finally:
        service.close()
