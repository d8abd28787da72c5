"""Building the parts: the store and the repositories, opened once and closed whatever happens.

What an earlier daemon left running is ended before a repository is looked at, and its locks go.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import anyio.to_thread

from alluvium_like.config import Config
from alluvium_like.gitrepo.integration import Integration
from alluvium_like.gitrepo.locate import locate_owner
from alluvium_like.gitrepo.locks import clear_locks
from alluvium_like.gitrepo.runner import Git
from alluvium_like.gitrepo.warm import WarmTrees
from alluvium_like.inbox.mounts import network_type
from alluvium_like.log import get_logger
from alluvium_like.place import Place
from alluvium_like.sandbox.cgroup import remove_left
from alluvium_like.stages.boxes import Boxes
from alluvium_like.stages.health import Health
from alluvium_like.stages.parts import Parts, Settings, Wakes, tell_unboxed
from alluvium_like.stages.recover import end_survivors
from alluvium_like.store.writer import Store
from alluvium_like.task import REPOSITORY
from alluvium_like.trouble import Board
from alluvium_like.workspace import Workspace

log = get_logger(__name__)


@asynccontextmanager
async def open_parts(workspace: Workspace, config: Config) -> AsyncIterator[Parts]:
    """Open the store and the repositories. Raises StoreError or RepositoryError."""
    async with AsyncExitStack() as opened:
        workspace.require_store()
        board = Board(workspace.board)  # first of all: what an earlier daemon showed is over
        opened.callback(board.close)
        store = await Store.open(workspace.database)
        opened.push_async_callback(store.close)
        workspace_id = await store.get_meta("workspace_id")
        await end_survivors(store, workspace_id)  # before a repository is looked at
        for lock in await anyio.to_thread.run_sync(clear_locks, workspace.integration):
            log.warning("lock_cleared", lock=str(lock))
        git = Git(workspace_id, state=workspace.state)
        known = await store.repository(REPOSITORY)
        wanted = config.integration.base_branch or (known.base_branch if known else "")
        path = config.repo.at(workspace.root)
        owner = await locate_owner(git, path, wanted)
        owner = replace(owner, network=network_type(owner.git_dir))
        integration = Integration(git, workspace.integration, owner.git_dir, owner.base_branch)
        opened.push_async_callback(integration.close)
        await integration.open()
        await store.write(
            "set_repository", name=REPOSITORY, path=str(path), base_branch=owner.base_branch
        )
        settings = Settings(config)
        warm = WarmTrees(git, workspace.warm, workspace.trash, lambda: settings.warm_limits)
        wakes = Wakes()
        boxes = await anyio.to_thread.run_sync(Boxes, workspace)
        boxes.require(config)
        await anyio.to_thread.run_sync(remove_left, workspace_id)
        parts = Parts(
            workspace,
            store,
            settings,
            git,
            integration,
            owner,
            workspace_id,
            warm,
            Health(board, wakes.keeper),
            boxes,
            await anyio.to_thread.run_sync(_own, workspace),
            REPOSITORY,
            wakes,
        )
        store.committed = parts.wakes.notify.set
        await tell_unboxed(parts)
        yield parts


def _own(workspace: Workspace) -> tuple[Place, ...]:
    """Return what nobody may take away while the daemon works, and it cannot make again."""
    integration = workspace.integration
    paths = (workspace.lock_file, workspace.database, workspace.tasks, integration)
    return tuple(Place.of(path) for path in (*paths, integration / "objects", integration / "refs"))
