"""The `tilth` command."""

import logging
from typing import Annotated

import typer

import tilth
from tilth.cli import encoders, feedback, judging, keys, releasing
from tilth.cli.backing_up import backup, restore
from tilth.cli.bootstrapping import bootstrap
from tilth.cli.choosing import choose
from tilth.cli.clicking import clicks
from tilth.cli.contexts import context
from tilth.cli.indexing import encode, index, sample
from tilth.cli.llm_judging import llm
from tilth.cli.mcp import mcp
from tilth.cli.measuring import compare, evaluate, split, tune
from tilth.cli.searching import fields, search
from tilth.cli.serving import serve
from tilth.cli.stats import stats
from tilth.cli.terminal import reporting_errors
from tilth.cli.training import experiment, train
from tilth.cli.updating import compact, delete, upsert

app = typer.Typer(
    help="Hybrid product retrieval: index a catalogue, search it, measure it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
_INDEXING = (sample, index, encode, upsert, delete, compact)
_SEARCHING = (search, fields, context)
_MEASURING = (evaluate, tune, split, compare)
_LEARNING = (train, experiment)
_SERVING = (serve, mcp, stats, backup, restore)
for command in (*_INDEXING, *_SEARCHING, *_MEASURING, *_LEARNING, *_SERVING):
    app.command()(command)
judging.app.command()(bootstrap)
judging.app.command()(llm)
judging.app.command()(clicks)
judging.app.command("next")(choose)
app.add_typer(encoders.app, name="encoder")
app.add_typer(judging.app, name="judge")
app.add_typer(releasing.app, name="release")
app.add_typer(feedback.app, name="feedback")
app.add_typer(keys.app, name="key")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tilth {tilth.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Hybrid product retrieval: index a catalogue, search it, measure it.

    Exit codes: 0 done, 1 refused with a reason, 2 wrong usage, 130 interrupted.
    """


def main() -> None:
    """Run the command line; the entry point of the package."""
    logging.basicConfig(level=logging.ERROR, format="%(levelname)s %(name)s: %(message)s")
    with reporting_errors():
        app()


if __name__ == "__main__":
    main()
