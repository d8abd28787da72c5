"""Recovery at the start, before any stage runs: after it nothing of an earlier daemon is alive.

Survivors are ended by identity, never by number alone; their tasks are queued again and the
attempt is not counted. Worktrees and slots are thrown away: what counts is in integration.git.
Warm worktrees stay, and are cleaned before anybody gets them.
Landings that were begun are the lane's: its first look finishes or redoes them.
"""

import anyio.to_thread

from alluvium_like.execution.identity import ProcessIdentity
from alluvium_like.execution.ladder import end_processes
from alluvium_like.execution.recover import survivors_of
from alluvium_like.gitrepo.workshop import set_aside_all
from alluvium_like.lifecycle import AttemptVerdict, Ending, State
from alluvium_like.log import get_logger
from alluvium_like.stages.parts import Parts

log = get_logger(__name__)

_GRACE_SECONDS = 2.0
_REASON = "the daemon died; the attempt does not count"


async def recover(parts: Parts) -> None:
    """Bring the workspace into a state from which the stages can go on; may be repeated."""
    await _end_survivors(parts)
    await _queue_again(parts)
    workspace = parts.workspace
    for folder in (workspace.worktrees, workspace.workshops, workspace.slots):
        await anyio.to_thread.run_sync(set_aside_all, folder, workspace.trash)
    await parts.warm.reopen()
    parts.wakes.janitor.set()


async def _end_survivors(parts: Parts) -> None:
    identities = [
        ProcessIdentity(attempt.pid, attempt.started, attempt.boot_id)
        for attempt in await parts.store.open_attempts()
        if attempt.pid is not None
    ]
    ended = await end_processes(
        lambda: survivors_of(parts.workspace_id, identities), _GRACE_SECONDS
    )
    if ended:
        log.warning("survivors_ended", processes=ended)


async def _queue_again(parts: Parts) -> None:
    for task in await parts.store.in_state(State.RUNNING):
        async with parts.store.transaction() as tx:
            await tx.run(
                "end_attempt",
                task_id=task.id,
                number=task.attempt,
                ending=Ending.LOST,
                exit_code=None,
                verdict=AttemptVerdict.AGAIN_UNCOUNTED,
                reason=_REASON,
                end_commit="",
            )
            await tx.transition(task.id, expect=State.RUNNING, to=State.QUEUED, reason=_REASON)
        log.info("task_queued_again", task_id=task.id)
