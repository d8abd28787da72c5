"""Acting while no daemon runs: the same actions, under the daemon's lock."""

from collections.abc import Mapping

import anyio

from alluvium_like.lock import workspace_lock
from alluvium_like.stages.parts import Runs, Wakes
from alluvium_like.store.writer import Store
from alluvium_like.surface.actions import Actions
from alluvium_like.workspace import Workspace


def act_offline(workspace: Workspace, method: str, params: Mapping[str, str]) -> None:
    """Carry out one action; the daemon takes it up at its next start. Raises AlluviumError."""
    with workspace_lock(workspace):
        anyio.run(_act, workspace, method, params)


async def _act(workspace: Workspace, method: str, params: Mapping[str, str]) -> None:
    workspace.require_store()
    store = await Store.open(workspace.database)
    try:
        await getattr(Actions(workspace, store, Wakes(), Runs()), method)(**params)
    finally:
        await store.close()
