"""`tilth serve`: the service with HTTP, MCP and the page."""

from pathlib import Path
from typing import Annotated

import typer

from tilth.cli.indexing import StoreUrl
from tilth.cli.terminal import ERR

Config = Annotated[
    Path | None,
    typer.Option(help="TOML; TILTH_SECTION__KEY of the environment over it.", dir_okay=False),
]


def serve(
    index: Annotated[Path, typer.Argument(help="The index folder.")],
    config: Config = None,
    host: Annotated[str | None, typer.Option(help="Instead of server.host.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Instead of server.port.")] = None,
    store: StoreUrl = None,
) -> None:
    """Serve an index over HTTP and MCP, with its page, until it is stopped by Ctrl-C or SIGTERM."""
    from tilth.serve.logs import set_up_logging
    from tilth.serve.settings import read_settings
    from tilth.serve.starting import make_server, open_service, run_server

    settings = read_settings(config)
    given = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    settings = settings.model_copy(update={"server": settings.server.model_copy(update=given)})
    set_up_logging(settings.logging.format, settings.logging.level)
    service = open_service(index, settings, store=store)
    server = make_server(service)
    if settings.server.port:
        ERR.print(f"http://{server.config.host}:{server.config.port}/", style="bold")
    run_server(server)
