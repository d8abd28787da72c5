"""The bounded pool: starts what is due while there is a slot, woken by rows.

A slot is held from the start of an attempt until nothing of its processes is left; what follows in
Git overlaps with the next attempt's start. `max_workers` is read at every look, so a reload counts
at once.
"""

from datetime import UTC, datetime

import anyio
import anyio.abc

from alluvium_like.clock import utc_after, utc_now
from alluvium_like.errors import AlluviumError, StaleTransition
from alluvium_like.lifecycle import Condition, State
from alluvium_like.log import get_logger
from alluvium_like.stages.dispatch.attempt import run_attempt
from alluvium_like.stages.dispatch.verdict import LONGEST_BACK_OFF
from alluvium_like.stages.parts import SLOW_LOOK_SECONDS, Parts
from alluvium_like.task import Task

log = get_logger(__name__)

_BACK_OFF_SECONDS = 5.0


class Dispatch:
    """The stage that runs attempts."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._slots_used = 0
        self._open = 0

    @property
    def idle(self) -> bool:
        """Tell whether no attempt is under way, its work in Git included."""
        return self._open == 0

    async def run(self) -> None:
        """Start attempts until the daemon stops, then return when the last one has ended."""
        async with anyio.create_task_group() as attempts:
            while not self._parts.runs.stopping:
                try:
                    await self._fill(attempts)
                    at_most = await self._next_look()
                except Exception:
                    log.exception("dispatch_failed")
                    at_most = _BACK_OFF_SECONDS
                await self._parts.wakes.dispatch.wait(at_most)

    async def _fill(self, attempts: anyio.abc.TaskGroup) -> None:
        parts = self._parts
        while (
            self._slots_used < parts.settings.current.safety.max_workers
            and not parts.runs.stopping
            and not await parts.store.conditions(Condition.PAUSED)
        ):
            task = await self._take_next()
            if task is None:
                return
            self._slots_used += 1
            self._open += 1
            attempts.start_soon(self._attempt, task)

    async def _take_next(self) -> Task | None:
        store = self._parts.store
        task = await store.next_runnable(utc_now(), utc_after(LONGEST_BACK_OFF))
        if task is None:
            return None
        try:
            async with store.transaction() as tx:
                return await tx.start_attempt(task)
        except StaleTransition:
            return await self._take_next()

    async def _attempt(self, task: Task) -> None:
        released = False

        def release_slot() -> None:
            nonlocal released
            if not released:
                released = True
                self._slots_used -= 1
                self._parts.wakes.dispatch.set()

        try:
            await run_attempt(self._parts, task, release_slot)
        except Exception as error:
            log.exception("attempt_broke", task_id=task.id, attempt=task.attempt)
            await self._put_to_person(task, error)
        finally:
            release_slot()
            self._open -= 1
            self._parts.wakes.dispatch.set()  # its task may be due again
            self._parts.wakes.idle.set()

    async def _put_to_person(self, task: Task, error: Exception) -> None:
        """Hold a task that the daemon itself stumbled over; else it would again at every start."""
        reason = f"the daemon stumbled over this attempt: {error!r}; see logs/daemon.jsonl"
        try:
            async with self._parts.store.transaction() as tx:
                held = await tx.get(task.id)
                if held.state is State.RUNNING and held.attempt == task.attempt:
                    await tx.ask_human(held, reason, reason=reason)
        except AlluviumError:
            log.exception("attempt_not_held", task_id=task.id)

    async def _next_look(self) -> float:
        due = await self._parts.store.next_due(utc_now())
        if due is None:
            return SLOW_LOOK_SECONDS
        left = (datetime.fromisoformat(due) - datetime.now(UTC)).total_seconds()
        return min(max(left, 0.0), SLOW_LOOK_SECONDS)
