"""Commands that set a workspace up and look after it."""

from pathlib import Path
from typing import Annotated

import typer

from alluvium_like.cli.common import JsonOption, chosen_path, no_loop, workspace
from alluvium_like.cli.plain import print_json


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    for command in (init, doctor, demo):
        app.command()(command)


def init(
    path: Annotated[
        Path | None,
        typer.Argument(callback=no_loop, help="A new or empty folder; else the current one."),
    ] = None,
    repo: Annotated[
        Path | None,
        typer.Option(callback=no_loop, help="Use this repository as it is instead of a new one."),
    ] = None,
    agent: Annotated[str | None, typer.Option(help="Which agent's command to write down.")] = None,
) -> None:
    """Make a workspace: folders, a repository with a first commit, a commented config.toml."""
    from alluvium_like.surface.initialise import initialise

    for line in initialise(path or chosen_path() or Path.cwd(), repo=repo, agent=agent):
        print(line)


def doctor(as_json: JsonOption = False) -> None:
    """Check everything that the daemon needs, and say how to mend what is missing."""
    from alluvium_like.surface.doctor import run_doctor

    checks = run_doctor(workspace())
    if as_json:
        print_json(
            [
                {"name": c.name, "status": c.status, "message": c.message, "fix": c.fix}
                for c in checks
            ]
        )
    else:
        for check in checks:
            print(f"{check.status:<5} {check.name}: {check.message}")
            if check.fix:
                print(f"      {check.fix}")
    if any(check.status == "fail" for check in checks):
        raise typer.Exit(1)


def demo(
    path: Annotated[
        Path | None,
        typer.Argument(callback=no_loop, help="A new folder for it; else a temporary one."),
    ] = None,
) -> None:
    """Watch four dropped items become a commit, a noop and two questions."""
    from alluvium_like.cli.demo import run_demo

    run_demo(path)
