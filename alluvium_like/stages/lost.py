"""Attempts of which nothing is held on to: ended in the store; they count against nobody."""

from alluvium_like.errors import StaleTransition
from alluvium_like.lifecycle import AttemptVerdict, Ending, State
from alluvium_like.log import get_logger
from alluvium_like.store.writer import Store
from alluvium_like.task import Task

log = get_logger(__name__)


async def queue_again(store: Store, task: Task, ending: Ending, reason: str) -> None:
    """End the attempt of a running task, and queue it again. Raises StoreError."""
    lost = lost_end(task.id, task.attempt, ending, AttemptVerdict.AGAIN_UNCOUNTED, reason)
    try:
        async with store.transaction("attempt_lost") as tx:
            await tx.run("end_attempt", **lost)
            await tx.transition(
                task.id,
                expect=State.RUNNING,
                to=State.QUEUED,
                reason=reason,
                in_attempt=task.attempt,
            )
    except StaleTransition:  # cancelled meanwhile: what is open is never cleared away
        await store.write("end_attempt", **lost)
        return
    log.info("task_queued_again", task_id=task.id)


def lost_end(
    task_id: str, number: int, ending: Ending, verdict: AttemptVerdict, reason: str
) -> dict[str, str | int | None]:
    """Return what the store is told of the end of an attempt that nobody saw."""
    return {
        "task_id": task_id,
        "number": number,
        "ending": ending,
        "exit_code": None,
        "verdict": verdict,
        "reason": reason,
        "end_commit": "",
        "outcome": "",
    }
