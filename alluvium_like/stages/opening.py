"""Building the parts: the store and the repositories, opened once and closed whatever happens."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from alluvium_like.config import Config
from alluvium_like.gitrepo.integration import Integration
from alluvium_like.gitrepo.locate import locate_owner
from alluvium_like.gitrepo.runner import Git
from alluvium_like.gitrepo.warm import WarmTrees
from alluvium_like.stages.parts import Parts, Settings
from alluvium_like.store.writer import Store
from alluvium_like.workspace import Workspace

_REPOSITORY = "default"


@asynccontextmanager
async def open_parts(workspace: Workspace, config: Config) -> AsyncIterator[Parts]:
    """Open the store and the repositories. Raises StoreError or RepositoryError."""
    store = await Store.open(workspace.database)
    async with AsyncExitStack() as opened:
        opened.push_async_callback(store.close)
        workspace_id = await store.get_meta("workspace_id")
        git = Git(workspace_id)
        known = await store.repository(_REPOSITORY)
        wanted = config.integration.base_branch or (known.base_branch if known else "")
        path = config.repo.at(workspace.root)
        owner = await locate_owner(git, path, wanted)
        integration = Integration(git, workspace.integration, owner.git_dir, owner.base_branch)
        opened.push_async_callback(integration.close)
        await integration.open()
        await store.write(
            "set_repository", name=_REPOSITORY, path=str(path), base_branch=owner.base_branch
        )
        settings = Settings(config)
        warm = WarmTrees(git, workspace.warm, workspace.trash, lambda: settings.warm_limits)
        parts = Parts(
            workspace, store, settings, git, integration, owner, workspace_id, warm, _REPOSITORY
        )
        store.committed = parts.wakes.notify.set
        yield parts
