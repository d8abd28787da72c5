"""Tasks whose `input/` somebody else has changed, found by its seal before their agents read it."""

from dataclasses import dataclass

import anyio.to_thread

from alluvium_like import messages
from alluvium_like.errors import StaleTransition
from alluvium_like.inbox.seal import Change, find_change, is_sealed, seal_of
from alluvium_like.lifecycle import State
from alluvium_like.log import get_logger
from alluvium_like.stages.parts import Parts

log = get_logger(__name__)

_TO_BE_GIVEN = frozenset({State.QUEUED, State.NEEDS_REVISION})
"""States in which the next agent is given the input without anybody being asked."""


@dataclass(frozen=True, slots=True)
class Victim:
    """A task that others have changed the input of: how it is sealed now, and who ran then."""

    task_id: str
    change: Change
    seal: str
    suspects: tuple[str, ...]


async def ran_between(parts: Parts, task_id: str, change: Change) -> tuple[list[str], list[int]]:
    """Return whose attempts ran without a box while something changed: other tasks', and the
    numbers of its own.
    """
    rows = await parts.store.rows("attempts_between", first=change.first, last=change.last)
    ran = [row for row in rows if (row["task_id"], row["number"]) not in parts.watch.boxed]
    others = sorted({row["task_id"] for row in ran} - {task_id})
    return others, [row["number"] for row in ran if row["task_id"] == task_id]


async def find_victims(parts: Parts) -> list[Victim]:
    """Return the tasks whose input has changed while agents of others ran, and none of their own.

    What was told once is not returned. Raises StoreError or OSError.
    """
    rows = await parts.store.rows("not_ended")
    sealed = [(row["id"], row["input_seal"]) for row in rows]

    def look() -> list[tuple[str, Change, str]]:
        found = []
        for task_id, seal in sealed:
            folder = parts.workspace.task(task_id).input
            change = find_change(folder, seal) if is_sealed(folder, seal) else None
            if change is not None:
                found.append((task_id, change, seal_of(folder)))
        return found

    victims = []
    for task_id, change, seal in await anyio.to_thread.run_sync(look):
        others, own = await ran_between(parts, task_id, change)
        if others and not own and seal not in parts.watch.told:
            victims.append(Victim(task_id, change, seal, tuple(others)))
    return victims


async def hold(parts: Parts, victim: Victim) -> None:
    """Put a task to a person before its input is given to an agent; what is told is sealed.

    One that runs is held by the look at its own input.
    """
    change = victim.change
    why = messages.input_changed(change.what, change.first, change.last, victim.suspects, own=False)
    try:
        async with parts.store.transaction("victim_held") as tx:
            task = await tx.get(victim.task_id)
            if task.state is State.RUNNING:
                return
            await tx.run("seal_input", id=task.id, input_seal=victim.seal)
            if task.state in _TO_BE_GIVEN:
                await tx.ask_human(task, why, reason=why)
    except StaleTransition:
        return
    log.warning("input_changed", task_id=victim.task_id, what=change.what, ran=victim.suspects)
