"""Recovery at the start, before any stage runs: after it nothing of an earlier daemon is alive.

Survivors are ended by identity, never by number alone; their tasks are queued again and the
attempt is not counted. Worktrees and slots are thrown away: what counts is in integration.git.
Warm worktrees stay, and are cleaned before anybody gets them. Half claims are intake's, landings
that were begun the lane's: its first look finishes or redoes them. RECOVERY.md has the whole table.
"""

import anyio.to_thread

from alluvium_like.execution.identity import ProcessIdentity
from alluvium_like.execution.ladder import end_processes
from alluvium_like.execution.recover import survivors_of
from alluvium_like.gitrepo.workshop import set_aside_all
from alluvium_like.lifecycle import AttemptVerdict, Ending, State
from alluvium_like.log import get_logger
from alluvium_like.stages.lost import lost_end, queue_again
from alluvium_like.stages.making import undo_half_made
from alluvium_like.stages.parts import Parts
from alluvium_like.stages.setups import drop_halves
from alluvium_like.store.writer import Store

log = get_logger(__name__)

_GRACE_SECONDS = 2.0
_REASON = "the daemon died; the attempt does not count"


async def recover(parts: Parts) -> None:
    """Bring the workspace into a state from which the stages can go on; may be repeated."""
    for task in await parts.store.in_state(State.RUNNING):
        await queue_again(parts.store, task, Ending.LOST, _REASON)
    await _end_withdrawn(parts)
    await undo_half_made(parts)
    workspace = parts.workspace
    for folder in (workspace.worktrees, workspace.workshops, workspace.slots):
        await anyio.to_thread.run_sync(set_aside_all, folder, workspace.trash)
    await anyio.to_thread.run_sync(drop_halves, workspace)
    await parts.warm.reopen()
    parts.wakes.janitor.set()


async def end_survivors(store: Store, workspace_id: str) -> None:
    """End what an earlier daemon left running: its agents, and its gits, which may still write."""
    identities = [
        ProcessIdentity(attempt.pid, attempt.started, attempt.boot_id)
        for attempt in await store.open_attempts()
        if attempt.pid is not None
    ]
    ended = await end_processes(lambda: survivors_of(workspace_id, identities), _GRACE_SECONDS)
    if ended:
        log.warning("survivors_ended", processes=ended)


async def _end_withdrawn(parts: Parts) -> None:
    """End the attempts whose tasks had left them: what is open is never cleared away."""
    for attempt in await parts.store.open_attempts():
        number, cancelled = attempt.number, AttemptVerdict.CANCELLED
        async with parts.store.transaction("withdrawn_attempt_lost") as tx:
            lost = lost_end(attempt.task_id, number, Ending.LOST, cancelled, _REASON)
            await tx.run("end_attempt", **lost)
