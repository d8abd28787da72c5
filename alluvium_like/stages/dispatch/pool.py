"""The bounded pool: starts what is due while there is a slot, woken by rows.

A slot is held from the start of an attempt until nothing of its processes is left; what follows in
Git overlaps with the next attempt's start. `max_workers` is read at every look, so a reload counts
at once.
"""

from datetime import UTC, datetime

import anyio
import anyio.abc

from alluvium_like import messages
from alluvium_like.clock import utc_after, utc_now
from alluvium_like.config import Config
from alluvium_like.errors import AlluviumError, ConfigError, StaleTransition, reason_of
from alluvium_like.lifecycle import Condition, Ending, State
from alluvium_like.log import get_logger
from alluvium_like.masking import mask
from alluvium_like.stages.dispatch.attempt import run_attempt
from alluvium_like.stages.dispatch.spending import day_used_up
from alluvium_like.stages.dispatch.verdict import longest_pause
from alluvium_like.stages.lost import queue_again
from alluvium_like.stages.parts import SLOW_LOOK_SECONDS, Parts
from alluvium_like.stages.profiles import Chosen, park_for_today, profiles_now
from alluvium_like.task import Task

log = get_logger(__name__)

_BACK_OFF_SECONDS = 5.0
_NOBODY_HOLDS_IT = "the machine was in trouble; the attempt does not count: it was cut off"


class Dispatch:
    """The stage that runs attempts."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._slots_used = 0
        self._held: set[str] = set()
        self._config: Config | None = None
        self._in_doubt = False  # whether the store may call running what nobody holds

    @property
    def idle(self) -> bool:
        """Tell whether no attempt is under way, its work in Git included."""
        return not self._held

    async def run(self) -> None:
        """Start attempts until the daemon stops, then return when the last one has ended."""
        async with anyio.create_task_group() as attempts:
            while not self._parts.runs.stopping:
                try:
                    await self._fill(attempts)
                    at_most = await self._next_look()
                except Exception as error:
                    self._in_doubt = True
                    if not self._parts.health.tell(error):
                        log.exception("dispatch_failed")
                    at_most = _BACK_OFF_SECONDS
                await self._parts.wakes.dispatch.wait(at_most)

    async def _fill(self, attempts: anyio.abc.TaskGroup) -> None:
        parts = self._parts
        if self._in_doubt and parts.health.is_well:
            await self._queue_lost()
        if self._config is not parts.settings.current:  # there may be other budgets now
            await parts.store.write("unpark_outcome", outcome=Ending.BUDGET)
            self._config = parts.settings.current
        while (
            parts.health.is_well
            and self._slots_used < parts.settings.current.safety.max_workers
            and not parts.runs.stopping
            and not await parts.store.conditions(Condition.PAUSED)
        ):
            taken = await self._take_next()
            if taken is None:
                return
            task, agent = taken
            self._slots_used += 1
            self._held.add(task.id)
            attempts.start_soon(self._attempt, task, agent)

    async def _queue_lost(self) -> None:
        """Queue again, uncounted, what the store calls running and nobody holds.

        So it is where a commit lasted that was told to have failed, and where trouble of the
        machine cut an attempt off before its end could be stored.
        """
        for task in await self._parts.store.in_state(State.RUNNING):
            if task.id not in self._held:
                await self._parts.warm.throw_away(self._parts.workshop(task.id))
                await queue_again(self._parts.store, task, Ending.MACHINE, _NOBODY_HOLDS_IT)
        self._in_doubt = False

    async def _take_next(self) -> tuple[Task, Chosen] | None:
        """Begin the attempt that is due first, of a task whose agent can work now."""
        store, config = self._parts.store, self._parts.settings.current
        far = utc_after(longest_pause(config.profiles.values()))
        while True:
            profiles = await profiles_now(self._parts)
            task = await store.next_runnable(utc_now(), far, profiles.held)
            if task is None:
                return None
            try:
                agent = profiles.for_task(task)
            except ConfigError as error:
                await self._hold(task, reason_of(error))
                continue
            if agent is None:
                return None
            if over := await day_used_up(self._parts, agent.name):
                await park_for_today(self._parts, agent.name, over)
                continue
            try:
                async with store.transaction("attempt_begun") as tx:
                    now = await tx.get(task.id)
                    if (now.agent, now.settings) == (task.agent, task.settings):
                        return await tx.start_attempt(task, agent.name), agent
            except StaleTransition:
                continue

    async def _hold(self, task: Task, reason: str) -> None:
        """Put a task to a person before it begins."""
        question = messages.cannot_begin(task.id, reason)
        try:
            async with self._parts.store.transaction("attempt_held") as tx:
                await tx.ask_human(task, question, reason=reason)
        except StaleTransition:
            return
        log.warning("attempt_held", task_id=task.id, reason=reason)

    async def _attempt(self, task: Task, agent: Chosen) -> None:
        released = False

        def release_slot() -> None:
            nonlocal released
            if not released:
                released = True
                self._slots_used -= 1
                self._parts.wakes.dispatch.set()

        try:
            await run_attempt(self._parts, task, agent, release_slot)
        except Exception as error:
            if await self._parts.tell(error):
                self._in_doubt = True
            else:
                log.exception("attempt_broke", task_id=task.id, attempt=task.attempt)
                await self._put_to_person(task, error)
        finally:
            release_slot()
            self._held.discard(task.id)
            self._parts.wakes.dispatch.set()  # its task may be due again
            self._parts.wakes.idle.set()

    async def _put_to_person(self, task: Task, error: Exception) -> None:
        """Hold a task that the daemon itself stumbled over; else it would again at every start."""
        why = mask(reason_of(error))
        reason = f"the daemon stumbled over this attempt: {why}; see logs/daemon.jsonl"
        try:
            async with self._parts.store.transaction("attempt_broke") as tx:
                held = await tx.get(task.id)
                if held.state is State.RUNNING and held.attempt == task.attempt:
                    await tx.ask_human(held, reason, reason=reason)
        except AlluviumError:
            log.exception("attempt_not_held", task_id=task.id)

    async def _next_look(self) -> float:
        back_off = await self._parts.store.next_due(utc_now())
        parked = (await profiles_now(self._parts)).next_change
        due = min((at for at in (back_off, parked) if at is not None), default=None)
        if due is None:
            return SLOW_LOOK_SECONDS
        left = (datetime.fromisoformat(due) - datetime.now(UTC)).total_seconds()
        return min(max(left, 0.0), SLOW_LOOK_SECONDS)
