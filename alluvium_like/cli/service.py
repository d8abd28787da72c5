"""Commands that make the daemon a service of its owner's systemd or launchd."""

from pathlib import Path
from typing import Annotated

import typer

from alluvium_like.cli.common import workspace
from alluvium_like.surface.definition import Kind, definition

KindOption = Annotated[
    Kind | None, typer.Option(help="What is to run it; else what this system has.")
]
NameOption = Annotated[
    str | None, typer.Option(help="It is called alluvium-like-NAME; else after the workspace.")
]


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    group = typer.Typer(
        help="Let systemd or launchd run the daemon, from login or boot on.",
        no_args_is_help=True,
        rich_markup_mode=None,
    )
    group.command("print")(print_definition)
    group.command()(install)
    app.add_typer(group, name="service")


def print_definition(kind: KindOption = None, name: NameOption = None) -> None:
    """Print the unit or property list that would be installed for this workspace."""
    from alluvium_like.surface.service import kind_of_this_system, service_of

    print(definition(service_of(workspace(), name), kind or kind_of_this_system()), end="")


def install(kind: KindOption = None, name: NameOption = None) -> None:
    """Write the unit or property list into your home and tell how to enable it."""
    from alluvium_like.surface.service import (
        install as write_into,
    )
    from alluvium_like.surface.service import (
        kind_of_this_system,
        next_steps,
        service_of,
        where_variables_go,
    )

    service = service_of(workspace(), name)
    chosen = kind or kind_of_this_system()
    path, replaced = write_into(service, chosen, Path.home())
    print(f"{'replaced' if replaced else 'written'}: {path}")
    if hint := where_variables_go(service, chosen):
        print(hint)
    print("Next:")
    for step in next_steps(service, chosen, path):
        print(f"  {step}")
