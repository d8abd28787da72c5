"""Tasks that no item is behind: a revert, or what others pushed.

A claim without an item goes before the folder, and ends with the task's row. What a crash leaves in
between is taken away at the next start: nobody was told of the task, and it holds only our text.
"""

from functools import partial

import anyio.to_thread

from alluvium_like.durable import fsync_dir, write_durable
from alluvium_like.failpoint import step
from alluvium_like.inbox.seal import seal_of
from alluvium_like.log import get_logger
from alluvium_like.stages.parts import Parts
from alluvium_like.stages.trash import throw_away
from alluvium_like.store.writer import Store
from alluvium_like.workspace import TaskFolder, Workspace

log = get_logger(__name__)


async def make_task_folder(
    workspace: Workspace, store: Store, task_id: str, name: str, text: str
) -> str:
    """Make the folder of such a task, with `text` as what was dropped, and return its seal.

    The transaction that makes its row has to `end_claim` too. Raises OSError.
    """
    await store.write("begin_making", task_id=task_id)
    return await anyio.to_thread.run_sync(_make, workspace.task(task_id), name, text)


def _make(folder: TaskFolder, name: str, text: str) -> str:
    folder.input.mkdir(parents=True)
    write_durable(folder.input / name, text.encode(errors="backslashreplace"))
    for path in (folder.root, folder.root.parent):
        with step("task.sync_folder"):
            fsync_dir(path)
    return seal_of(folder.input)


async def undo_half_made(parts: Parts) -> None:
    """Take away what a crash left of tasks that were being made; only while nobody makes one."""
    workspace, store = parts.workspace, parts.store
    for row in await store.rows("tasks_in_making"):
        task_id: str = row["task_id"]
        if await anyio.Path(workspace.task(task_id).root).exists():
            inside = workspace.task(task_id).root.relative_to(workspace.root).parts
            move = partial(throw_away, workspace.root, inside, workspace.trash)
            await anyio.to_thread.run_sync(move)
        await parts.integration.forget(task_id)
        await store.write("end_claim", task_id=task_id)
        log.info("half_made_task_taken_away", task_id=task_id)
