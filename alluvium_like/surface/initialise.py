"""init: makes a workspace, or completes one; what is there already is kept and said to be kept.

Everything that can be wrong is looked at before anything is made. The folder of the daemon comes
first and config.toml last, so that a second try finds a workspace to complete after any failure.
"""

import os
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Final

from alluvium_like.agents.prompt import default_template
from alluvium_like.config import Config, load_config
from alluvium_like.config.agents import PRESETS
from alluvium_like.config.own_agents import CHAT, MCP
from alluvium_like.config.text import render_for_init
from alluvium_like.durable import write_durable
from alluvium_like.errors import UsageError, WorkspaceError
from alluvium_like.gitrepo.owner import (
    NEW_BRANCH,
    create_repository,
    git_version,
    inspect_repository,
)
from alluvium_like.workspace import CONFIG_NAME, STATE_NAME, Workspace

_BUILTIN: Final = "builtin"
AGENTS: Final = (_BUILTIN, *(name for name in PRESETS if name not in (CHAT, MCP)))
"""What `init` can write down."""


def initialise(path: Path, *, repo: Path | None, agent: str | None) -> list[str]:
    """Make the workspace at `path`, or complete it; return the lines that tell what was done.

    Raises UsageError, WorkspaceError, RepositoryError or ConfigError.
    """
    workspace = Workspace.at(path)
    _refuse_strange_folder(workspace.root)
    wanted = _wanted(agent, repo)
    if workspace.config_file.exists():
        lines = _keep_config(workspace, wanted)
    else:
        lines = _write_config(workspace, wanted)
    return [f"workspace: {workspace.root}", *lines, *_next_steps(workspace, agent)]


def _wanted(agent: str | None, repo: Path | None) -> dict[str, object]:
    wanted: dict[str, object] = {}
    if agent is not None:
        if agent not in AGENTS:
            close = get_close_matches(agent, AGENTS, n=1)
            hint = f"did you mean '{close[0]}'? " if close else ""
            raise UsageError(f"unknown agent '{agent}': {hint}known: {', '.join(AGENTS)}")
        wanted["agent.preset"] = "" if agent == _BUILTIN else agent
    if repo is not None:
        wanted["repo.path"] = str(repo.resolve())
    return wanted


def _refuse_strange_folder(root: Path) -> None:
    try:
        if (root / STATE_NAME).is_dir() or not os.path.lexists(root):
            return
        found = sorted(entry.name for entry in root.iterdir())
    except OSError as error:
        raise WorkspaceError(f"{root}: {error.strerror}; name a new or an empty folder") from error
    if found:
        some = ", ".join(repr(name) for name in found[:3]) + (", ..." if len(found) > 3 else "")
        raise WorkspaceError(
            f"{root}: is neither empty nor a workspace (it holds {some}); name a new folder"
        )


def _write_config(workspace: Workspace, wanted: dict[str, object]) -> list[str]:
    place = Path(str(wanted.get("repo.path", workspace.repo)))
    new = "repo.path" not in wanted and not _holds_something(place)
    if new:
        git_version()
        branch = NEW_BRANCH
    else:
        branch = inspect_repository(place, workspace).base_branch
    # The branch is written down so that what the owner checks out later changes nothing.
    text = _config_text(wanted | {"integration.base_branch": branch})
    lines = _make_folders(workspace)
    if new:
        defaults = Config().git
        create_repository(place, defaults.author_name, defaults.author_email)
    _write(workspace.config_file, text)
    said = "made, with a first commit" if new else "kept as it is"
    return [f"repository: {place} ({said}); base branch: {branch}", f"{CONFIG_NAME}: made", *lines]


def _keep_config(workspace: Workspace, wanted: Mapping[str, object]) -> list[str]:
    config = load_config(workspace.config_file)
    place = config.repo.at(workspace.root)
    if wanted.get("agent.preset", config.agent.preset) != config.agent.preset:
        raise _already_chosen(workspace, "[agent].preset")
    if wanted.get("repo.path", str(place.resolve())) != str(place.resolve()):
        raise _already_chosen(workspace, "[repo].path")
    found = inspect_repository(place, workspace, config.integration.base_branch)
    lines = _make_folders(workspace)
    return [
        f"repository: {found.path} (kept as it is); base branch: {found.base_branch}",
        f"{CONFIG_NAME}: kept",
        *lines,
    ]


def _already_chosen(workspace: Workspace, key: str) -> UsageError:
    return UsageError(f"{workspace.config_file} says otherwise and is kept: change {key} there")


def _holds_something(place: Path) -> bool:
    return os.path.lexists(place) and not (place.is_dir() and not any(place.iterdir()))


def _config_text(chosen: Mapping[str, object]) -> str:
    try:
        return render_for_init(chosen)
    except ValueError as error:
        raise UsageError(
            "the repository's path or branch is not UTF-8 and cannot be written in config.toml"
        ) from error


def _make_folders(workspace: Workspace) -> list[str]:
    try:
        workspace.state.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WorkspaceError(f"{workspace.root}: cannot be made: {error.strerror}") from error
    workspace.make_folders()
    template = workspace.prompt_template
    if os.path.lexists(template):
        return [f"{template.name}: kept"]
    _write(template, default_template())
    return [f"{template.name}: made"]


def _write(path: Path, text: str) -> None:
    try:
        write_durable(path, text.encode("utf-8"))
    except OSError as error:
        raise WorkspaceError(f"{path}: cannot be written: {error.strerror}") from error


def _next_steps(workspace: Workspace, agent: str | None) -> list[str]:
    steps = []
    if agent not in (None, "builtin"):
        steps.append(
            "If the agent takes its key from the environment, name the variable in [agent].env."
        )
    return [*steps, f"Next: start the daemon, then drop a file into {workspace.inbox}"]
