"""Commands that run and steer the daemon."""

import sys
from typing import Annotated

import typer

from alluvium_like.cli.common import JsonOption, act, workspace
from alluvium_like.cli.look import print_status
from alluvium_like.cli.plain import print_json


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    for command in (serve, start, stop, reload, status, pause, resume):
        app.command()(command)
    app.command("run-once")(run_once)
    app.command("integrate-once")(integrate_once)


def serve() -> None:
    """Run the daemon in the foreground until Ctrl-C or SIGTERM."""
    from alluvium_like.supervisor import serve as run

    run(workspace(), console=sys.stderr.isatty())


def start() -> None:
    """Start the daemon in the background and wait until it is ready."""
    from alluvium_like.surface.launch import start_in_background

    space = workspace()
    pid = start_in_background(space)
    print(f"started (pid {pid}); log: {space.log_file}")


def stop(
    force: Annotated[bool, typer.Option(help="End agents at once, and a hung daemon too.")] = False,
    timeout: Annotated[
        float | None, typer.Option(metavar="S", help="Wait at most S seconds.", min=0.0)
    ] = None,
) -> None:
    """Stop the daemon: agents are ended within the grace, their tasks run again later."""
    from alluvium_like.surface.launch import stop_daemon

    print(stop_daemon(workspace(), force=force, timeout_seconds=timeout))


def reload(as_json: JsonOption = False) -> None:
    """Let the daemon take up config.toml, or say why it does not."""
    from alluvium_like.surface.client import call

    result = call(workspace(), "reload")
    if as_json:
        print_json(result)
        return
    for key in _names(result["changed"]):
        print(f"changed: {key}")
    for key in _names(result["needs_restart"]):
        print(f"changed, needs a restart: {key}")
    if not (result["changed"] or result["needs_restart"]):
        print("nothing changed")


def _names(value: object) -> list[str]:
    return [str(name) for name in value] if isinstance(value, list) else []


def status(as_json: JsonOption = False) -> None:
    """Show the daemon, the queue, and what holds them up."""
    print_status(workspace(), as_json=as_json)


def pause() -> None:
    """Start no more attempts; those that run go on."""
    act("pause", {})
    print("paused: no attempt is started until 'alluvium-like resume'")


def resume() -> None:
    """Start attempts again, and let the integrator try again on a red base."""
    act("resume", {})
    print("resumed")


def run_once(
    ignore_settle: Annotated[
        bool, typer.Option("--ignore-settle", help="Claim at once, settled or not.")
    ] = False,
) -> None:
    """Take in what is in the inbox and work until nothing is left to do."""
    from alluvium_like.supervisor import run_once as run

    space = workspace()
    run(space, ignore_settle=ignore_settle)
    status()


def integrate_once() -> None:
    """Integrate what is ready, once."""
    from alluvium_like.supervisor import integrate_once as run

    run(workspace())
    status()
