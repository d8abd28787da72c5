"""doctor's look at [setup]: what is missing, and what the repository tracks although it must not.

The owner's repository is only read.
"""

import os
from collections.abc import Iterator

import anyio

from alluvium_like import messages
from alluvium_like.config import Config
from alluvium_like.errors import RepositoryError
from alluvium_like.gitrepo.owner import inspect_repository
from alluvium_like.gitrepo.runner import Git, full_ref, null_split
from alluvium_like.stages.copied import missing_of
from alluvium_like.surface.machine import Check, Status
from alluvium_like.workspace import Workspace


def look_at_setup(workspace: Workspace, config: Config) -> Iterator[Check]:
    """Yield what is to be said of [setup]; nothing where it is empty. Raises GitFailed."""
    setup, place = config.setup, config.repo.at(workspace.root)
    if not setup.private and not setup.run:
        return
    troubles = 0
    if missing := missing_of(setup, place):
        troubles += 1
        fix = f"put them into {place}, or take them out of [setup].copy"
        yield Check("setup files", Status.WARN, f"not there: {', '.join(missing)}", fix)
    if tracked := _tracked(workspace, config):
        troubles += 1
        message = messages.private_tracked(tracked[0])
        yield Check("setup paths", Status.FAIL, message, messages.TAKE_OUT)
    if absent := [name for name in setup.passed if name not in os.environ]:
        troubles += 1
        fix = "set them where the daemon is started"
        yield Check("setup variables", Status.WARN, f"not set here: {', '.join(absent)}", fix)
    if not troubles:
        message = f"{len(setup.copy_)} paths are copied, {len(setup.run)} commands run"
        yield Check("setup", Status.OK, message)


def _tracked(workspace: Workspace, config: Config) -> list[str]:
    """Return what the base branch has of the paths that must not land."""
    if not config.setup.private:
        return []
    place = config.repo.at(workspace.root)
    try:
        found = inspect_repository(place, workspace, config.integration.base_branch)
    except RepositoryError:
        return []  # told already
    git = Git("doctor")

    async def look() -> list[str]:
        done = await git.run(
            *("ls-tree", "-r", "-z", "--name-only", full_ref(found.base_branch), "--"),
            *config.setup.private,
            git_dir=found.git_dir,
            accept=frozenset({0, 128}),  # a base branch that is not there is told already
        )
        return null_split(done.stdout)

    return anyio.run(look)
