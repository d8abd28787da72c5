"""What a task changes, from the daemon's own repository."""

import anyio

from alluvium_like.errors import AlluviumError, GitFailed
from alluvium_like.gitrepo.runner import Git
from alluvium_like.store.reader import StoreReader
from alluvium_like.workspace import Workspace


def task_diff(workspace: Workspace, task_id: str) -> bytes:
    """Return the patch of a task. Raises AlluviumError when it has none (yet)."""
    with StoreReader(workspace.database) as store:
        task = store.find(task_id)
        attempts = store.attempts(task.id)
    ended = [attempt.end_commit for attempt in attempts if attempt.end_commit]
    tip = task.head_commit or (ended[-1] if ended else "")
    if task.merge_commit:
        span = f"{task.merge_commit}^1..{task.merge_commit}"
    elif tip:
        span = f"refs/alluvium/base...{tip}"
    else:
        raise AlluviumError(f"{task.id} is {task.state} and has changed nothing so far")

    async def run() -> bytes:
        git = Git("")
        done = await git.run(
            "diff", "--no-ext-diff", "--no-textconv", span, git_dir=workspace.integration
        )
        return done.stdout

    try:
        return anyio.run(run)
    except GitFailed as error:
        raise AlluviumError(f"{task.id}: its commits are no longer kept ({error})") from error
