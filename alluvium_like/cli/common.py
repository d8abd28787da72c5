"""What the commands share: the chosen workspace, output, and acting with or without daemon."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from alluvium_like.cli.plain import open_workspace
from alluvium_like.workspace import Workspace

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def _storable(text: str) -> str:
    """Return an argument as text that can be stored: bytes that are not UTF-8 are spelt out."""
    if not text.strip():
        raise typer.BadParameter("is empty")
    return text.encode("utf-8", "backslashreplace").decode()


TaskArgument = Annotated[
    str,
    typer.Argument(
        metavar="TASK", callback=_storable, help="A task's id or any unique part of it."
    ),
]
AnswerArgument = Annotated[
    str, typer.Argument(metavar="TEXT", callback=_storable, help="What the agent is told.")
]

_chosen: Path | None = None


def no_loop(path: Path | None) -> Path | None:
    """Refuse a path that leads nowhere, as the value of an argument."""
    if path is not None:
        try:
            path.resolve()
        except RuntimeError:
            raise typer.BadParameter(f"{path} is a link that leads to itself") from None
    return path


def choose_workspace(path: Path | None) -> None:
    """Remember what -C said; it is only looked at by commands that need a workspace."""
    global _chosen
    _chosen = path


def chosen_path() -> Path | None:
    """Return what -C said."""
    return _chosen


def workspace() -> Workspace:
    """Return the workspace to work on. Raises WorkspaceError."""
    return open_workspace(_chosen)


def find_task_id(space: Workspace, part: str) -> str:
    """Return the full id of the task that `part` names. Raises AlluviumError.

    The action itself brings a store that an older version made up to date.
    """
    from alluvium_like.store.reader import StoreReader

    with StoreReader(space.database, older=True) as store:
        return store.find_id(part)


def act(method: str, params: Mapping[str, str]) -> None:
    """Do one action through the daemon, or under its lock when it is down."""
    from alluvium_like.lock import is_locked

    space = workspace()
    if is_locked(space):
        from alluvium_like.surface.client import call

        call(space, method, params)
        return
    from alluvium_like.surface.offline import act_offline

    act_offline(space, method, params)


def act_on_task(method: str, part: str, **params: str) -> None:
    """Do one action on the task that `part` names. Raises AlluviumError."""
    act(method, {"task_id": find_task_id(workspace(), part), **params})
