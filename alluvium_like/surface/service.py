"""Makes the daemon of a workspace a service of its owner.

The definition is published whole and never replaces a file that does not run this workspace;
enabling it is left to the person.
"""

import os
import re
import shlex
import sys
import unicodedata
from itertools import chain
from pathlib import Path
from typing import Final

from alluvium_like.config import load_config
from alluvium_like.durable import write_durable
from alluvium_like.errors import UsageError, WorkspaceError
from alluvium_like.lock import is_locked
from alluvium_like.surface.definition import Kind, Service, definition, runs_workspace
from alluvium_like.workspace import Workspace

_PLACES: Final = {
    Kind.SYSTEMD: (Path(".config/systemd/user"), ".service"),
    Kind.LAUNCHD: (Path("Library/LaunchAgents"), ".plist"),
}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_CANNOT_BE_WRITTEN: Final = ("Cc", "Cs")  # control characters, and bytes that are not UTF-8


def kind_of_this_system() -> Kind:
    """Return launchd on macOS, else systemd."""
    return Kind.LAUNCHD if sys.platform == "darwin" else Kind.SYSTEMD


def service_of(workspace: Workspace, name: str | None = None) -> Service:
    """Gather the facts: the workspace, its config.toml, this Python, this process's PATH.

    Raises UsageError for a bad name, ConfigError, and WorkspaceError for a path that no definition
    can hold.
    """
    if name is not None and not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} cannot be part of a service's name: use letters, digits, _ . -")
    for path in (str(workspace.root), sys.executable):
        if not _can_be_written(path):
            raise WorkspaceError(
                f"{path!r} holds control characters or is not UTF-8: no service can name it, "
                "so move it"
            )
    config = load_config(workspace.config_file)
    passed = (*(each.passed for each in config.profiles.values()), config.setup.passed)
    folders = os.environ.get("PATH", os.defpath).split(":")
    return Service(
        name=name or _name_for(workspace.root),
        workspace=str(workspace.root),
        program=(sys.executable, "-P", "-m", "alluvium_like"),
        search_path=":".join(f for f in folders if f.startswith("/") and _can_be_written(f)),
        grace_seconds=config.safety.shutdown_grace_seconds,
        variables=tuple(dict.fromkeys(chain.from_iterable(passed))),
    )


def install(service: Service, kind: Kind, home: Path) -> tuple[Path, bool]:
    """Write the definition below `home`; return where, and whether an older one was replaced.

    Raises WorkspaceError when a file of that name does not run the daemon of this workspace.
    """
    folder, suffix = _PLACES[kind]
    path = home / folder / f"{service.label}{suffix}"
    replaced = os.path.lexists(path)
    if replaced and not _is_ours(path, service, kind):
        raise WorkspaceError(
            f"{path} is there already and does not run the daemon of {service.workspace}: "
            "remove it, or choose another name with --name"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_durable(path, definition(service, kind).encode())
    return path, replaced


def next_steps(service: Service, kind: Kind, path: Path) -> list[str]:
    """Return the shell commands that start the service, now and at every login or boot."""
    stop = shlex.join(["alluvium-like", "-C", service.workspace, "stop"])
    first = [stop] if is_locked(Workspace(Path(service.workspace))) else []
    if kind is Kind.SYSTEMD:
        return [
            *first,
            "systemctl --user daemon-reload",
            f"systemctl --user enable --now {service.label}.service",
            "loginctl enable-linger    # lets it run while you are not logged in",
        ]
    return [
        *first,
        f"launchctl bootout gui/$(id -u)/{service.label}    # only if it was loaded before",
        f"launchctl bootstrap gui/$(id -u) {shlex.quote(str(path))}",
    ]


def where_variables_go(service: Service, kind: Kind) -> str:
    """Return a sentence about the variables that are passed on, empty where none are."""
    if not service.variables:
        return ""
    names = ", ".join(service.variables)
    where = (
        "write NAME=value into ~/.config/environment.d/alluvium-like.conf and log in again"
        if kind is Kind.SYSTEMD
        else "run 'launchctl setenv NAME value' before it starts"
    )
    return f"config.toml passes on {names}, and a service sees nothing of your shell's: {where}"


def _name_for(root: Path) -> str:
    plain = unicodedata.normalize("NFKD", root.name).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", plain).strip("-._")[:100] or "workspace"


def _can_be_written(path: str) -> bool:
    return not any(unicodedata.category(c) in _CANNOT_BE_WRITTEN for c in path)


def _is_ours(path: Path, service: Service, kind: Kind) -> bool:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    return runs_workspace(text, service, kind)
