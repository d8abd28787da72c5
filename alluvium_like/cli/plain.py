"""What commands share that need no parser: the workspace that is meant, and output."""

import json
from pathlib import Path

from alluvium_like.errors import WorkspaceError
from alluvium_like.workspace import STATE_NAME, Workspace


def open_workspace(chosen: Path | None) -> Workspace:
    """Return the workspace at `chosen`, else the one we are in. Raises WorkspaceError."""
    if chosen is None:
        return Workspace.find(Path.cwd())
    found = Workspace.at(chosen)
    if not found.state.is_dir():
        raise WorkspaceError(
            f"{found.root} is not a workspace (no {STATE_NAME} in it): "
            f"run 'alluvium-like init {found.root}'"
        )
    return found


def print_json(document: object) -> None:
    """Print one document for scripts."""
    print(json.dumps(document, indent=2, ensure_ascii=False, default=str))


def printable(text: str) -> str:
    """Return text from files or agents that cannot steer a terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else "�" for c in text)
