"""What commands share that need no parser: the workspace that is meant, and output."""

import json
import re
from pathlib import Path

from alluvium_like.errors import WorkspaceError
from alluvium_like.lock import is_locked
from alluvium_like.workspace import STATE_NAME, Workspace

_NOT_ASCII = re.compile(r"[^\n -~]")


def open_workspace(chosen: Path | None) -> Workspace:
    """Return the workspace at `chosen`, else the one we are in. Raises WorkspaceError.

    One whose daemon runs stays one, whatever was taken away from under it.
    """
    if chosen is None:
        here = Workspace.at(Path.cwd())
        return here if is_locked(here) else Workspace.find(here.root)
    found = Workspace.at(chosen)
    if not (found.state.is_dir() or is_locked(found)):
        raise WorkspaceError(
            f"{found.root} is not a workspace (no {STATE_NAME} in it): "
            f"run 'alluvium-like init {found.root}'"
        )
    return found


def print_json(document: object) -> None:
    """Print one document for scripts; what could steer a terminal is spelt as JSON's escapes."""
    text = json.dumps(document, indent=2, ensure_ascii=False, default=str)
    print(_NOT_ASCII.sub(_escape_unprintable, text))


def _escape_unprintable(character: re.Match[str]) -> str:
    found = character[0]
    return found if found.isprintable() else json.dumps(found)[1:-1]


def printable(text: str) -> str:
    """Return text from files or agents that cannot steer a terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else "�" for c in text)
