"""The full parser: global options and the groups of commands; slow to start, so imported late."""

from pathlib import Path
from typing import Annotated

import typer

from alluvium_like import __version__
from alluvium_like.cli import (
    agents,
    backup,
    daemon,
    housekeeping,
    queue,
    sandbox,
    service,
    setup,
    tasks,
)
from alluvium_like.cli.common import choose_workspace, no_loop

app = typer.Typer(
    name="alluvium-like",
    help="Drop a file or a folder into inbox/; get a tested commit on main, or a question.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def _global_options(
    workspace: Annotated[
        Path | None,
        typer.Option(
            "-C",
            metavar="WORKSPACE",
            callback=no_loop,
            help="The workspace; else it is looked for from the current folder upwards.",
        ),
    ] = None,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    choose_workspace(workspace)


setup.register(app)
daemon.register(app)
service.register(app)
tasks.register(app)
agents.register(app)
queue.register(app)
sandbox.register(app)
housekeeping.register(app)
backup.register(app)
