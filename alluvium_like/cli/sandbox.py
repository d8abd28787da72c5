"""Commands about the box of a task: what its agent can do, and a shell where that works."""

from typing import Annotated

import typer

from alluvium_like.cli.common import JsonOption, TaskArgument, workspace
from alluvium_like.cli.plain import print_json, printable


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    group = typer.Typer(
        help="The box in which a task's agent works: what it can do there, and a shell in it.",
        no_args_is_help=True,
        rich_markup_mode=None,
    )
    group.command()(explain)
    group.command(context_settings={"allow_interspersed_args": False})(shell)
    app.add_typer(group, name="sandbox")


def explain(task: TaskArgument, as_json: JsonOption = False) -> None:
    """Say what the agent of a task can read, write, reach and use."""
    from alluvium_like.surface.sandbox import explain as explained

    found = explained(workspace(), task)
    if as_json:
        print_json(found.document())
        return
    print(f"task     {found.task}, agent {found.agent}")
    if found.why:
        print(printable(f"it has NO BOX: {found.why}"))
        print("it can read, write and reach all that the daemon can")
        return
    for title, places in (
        ("writes", found.writes),
        ("reads", found.reads),
        ("has empty", found.empty),
        ("is kept to", found.limits),
    ):
        print(f"{title}:")
        for place in places:
            print(printable(f"  {place}"))
    print(f"reaches: {found.reaches}")
    for host in found.hosts:
        print(printable(f"  {host}"))
    print("anything else is not there")


def shell(
    task: TaskArgument,
    command: Annotated[
        list[str] | None,
        typer.Argument(metavar="COMMAND", help="What is run in place of a shell."),
    ] = None,
) -> None:
    """Open a shell in the box of a task, on its worktree or a copy of its branch."""
    from alluvium_like.surface.sandbox import open_shell

    words = command or []
    if words[:1] == ["--"]:
        del words[0]
    raise typer.Exit(open_shell(workspace(), task, words))
