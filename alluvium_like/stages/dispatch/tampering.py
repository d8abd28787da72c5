"""Whether somebody else has had a hand in what a task is given; looked at before and after a run.

Agents that run unboxed may write into each other's folders. That cannot be prevented here; it is
found by the seal on `input/`, and by an `.agent/` that is there before any agent of the task was.
A change of the input that no agent of its own can have made is an escape, and holds the lane too.
What only the task's own agent can have done harms nobody else, and is taken as it is.
"""

import os
from dataclasses import dataclass

import anyio.to_thread

from alluvium_like import messages
from alluvium_like.clock import utc_now
from alluvium_like.guarded import open_folder, rename_aside
from alluvium_like.inbox.seal import Change, find_change, is_sealed, seal_of
from alluvium_like.lifecycle import TaskKind
from alluvium_like.log import get_logger
from alluvium_like.stages import escapes
from alluvium_like.stages.parts import Parts
from alluvium_like.stages.victims import Victim, ran_between
from alluvium_like.task import Task

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Given:
    """What a task is given: the seal of `input/` as it is, and what a person has to be told of it,
    empty where nothing.
    """

    seal: str
    alarm: str = ""


async def look_before(parts: Parts, task: Task) -> Given:
    """Look before an attempt starts. Raises OSError."""
    planted = await anyio.to_thread.run_sync(_planted, parts, task)
    return await _look(parts, task, planted, attempts=task.attempt - 1)


async def look_after(parts: Parts, task: Task) -> Given:
    """Look when nothing of the attempt's processes is left. Raises OSError."""
    return await _look(parts, task, None, attempts=task.attempt)


async def _look(parts: Parts, task: Task, change: Change | None, attempts: int) -> Given:
    """Compare with the seal; `attempts` is how many of the task's own may have done it."""
    folder = parts.workspace.task(task.id).input

    def compare() -> tuple[str, Change | None]:
        if not is_sealed(folder, task.input_seal):
            return seal_of(folder), None
        found = find_change(folder, task.input_seal)
        return (seal_of(folder), found) if found else (task.input_seal, None)

    seal, found = await anyio.to_thread.run_sync(compare)
    change = found or change
    if change is None:
        return Given(seal)
    others, numbers = await ran_between(parts, task.id, change)
    own = any(number <= attempts for number in numbers)
    log.warning("input_changed", what=change.what, first=change.first, last=change.last, ran=others)
    if own and not others:
        return Given(seal)
    if others and not own and found:
        await escapes.found_victim(parts, Victim(task.id, found, seal, tuple(others)))
    return Given(seal, messages.input_changed(change.what, change.first, change.last, others, own))


def _planted(parts: Parts, task: Task) -> Change | None:
    """Get what others wrote for the task's first agent out of its way."""
    folder = parts.workspace.task(task.id)
    if task.attempt > 1 or task.kind is not TaskKind.ITEM or not os.path.lexists(folder.agent):
        return None
    name = folder.agent.name
    with open_folder(folder.root) as root:
        rename_aside(root, name)
    return Change(f"{name} (renamed, it ends in .aside now)", task.created_at, utc_now())
