"""What `gc` does: says what would go and why, and lets it go, with the daemon up or down.

With the daemon up its janitor does it; else this process does, under the daemon's lock.
"""

from collections.abc import Sequence

import anyio
import anyio.to_thread

from alluvium_like.config import load_config
from alluvium_like.config.tables import Retention
from alluvium_like.deletion import empty
from alluvium_like.gitrepo.runner import Git
from alluvium_like.gitrepo.tidy import tidy
from alluvium_like.lock import is_locked, workspace_lock
from alluvium_like.log import logging_to
from alluvium_like.stages.retention import Removal
from alluvium_like.stages.sweep import carry_out, survey
from alluvium_like.store.writer import Store
from alluvium_like.surface.client import call
from alluvium_like.workspace import Workspace

Document = dict[str, object]
_PATIENCE_SECONDS = 3600.0


def document(removals: Sequence[Removal]) -> Document:
    """Return the shape that scripts rely on."""
    return {
        "bytes": sum(removal.size for removal in removals),
        "removals": [
            {
                "kind": removal.kind,
                "path": removal.path,
                "bytes": removal.size,
                "task": removal.task_id or None,
                "reason": removal.reason,
            }
            for removal in removals
        ],
    }


def what_would_go(workspace: Workspace) -> Document:
    """Return what `collect` would remove now. Raises ConfigError, StoreError or GitFailed."""
    limits = load_config(workspace.config_file).retention
    return document(anyio.run(survey, workspace, Git(""), limits))


def collect(workspace: Workspace) -> Document:
    """Remove what was kept long enough and return it. Raises AlluviumError or OSError."""
    if is_locked(workspace):
        return call(workspace, "gc", timeout_seconds=_PATIENCE_SECONDS)
    with workspace_lock(workspace):
        workspace.make_folders()
        limits = load_config(workspace.config_file).retention
        with logging_to(workspace.log_file, console=False):  # what goes is told there too
            return document(anyio.run(_collect, workspace, limits))


async def _collect(workspace: Workspace, limits: Retention) -> list[Removal]:
    workspace.require_store()
    store = await Store.open(workspace.database)
    try:
        git = Git(await store.get_meta("workspace_id"))
        try:
            found = await survey(workspace, git, limits)
            gone = await carry_out(workspace, store, git, found)
            if await anyio.Path(workspace.integration / "HEAD").exists():
                await tidy(git, workspace.integration)
        finally:
            await git.close(workspace.integration)
    finally:
        await store.close()
    await anyio.to_thread.run_sync(empty, workspace.trash, lambda: False)
    return gone
