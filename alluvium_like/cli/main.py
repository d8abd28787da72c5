"""The program: global options, the groups of commands, and the one place that reports errors."""

import io
import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from alluvium_like import __version__
from alluvium_like.cli import daemon, queue, service, setup, tasks
from alluvium_like.cli.common import choose_workspace, no_loop
from alluvium_like.errors import AlluviumError

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
queue.register(app)


def main() -> NoReturn:
    """Run one command; every expected failure is one clear message and exit code 1 or 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # file names may be any bytes
    try:
        try:
            app(prog_name="alluvium-like")
        finally:
            sys.stdout.flush()  # here, where a pipe that was closed is no surprise
    except AlluviumError as error:
        print(f"alluvium-like: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        _drop_output()
        sys.exit(1)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"alluvium-like: {where}{error.strerror or error}", file=sys.stderr)
        _drop_output()
        sys.exit(1)
    sys.exit(0)


def _drop_output() -> None:
    """Let the interpreter's own last flush succeed, whatever has become of stdout."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
