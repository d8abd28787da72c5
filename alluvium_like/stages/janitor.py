"""The janitor: removes what was kept long enough, deletes what left by rename, and packs."""

import json
import math
import os
from dataclasses import asdict

import anyio
import anyio.to_thread

from alluvium_like import messages
from alluvium_like.clock import monotonic, seconds_since_boot, time_of_day
from alluvium_like.config.tables import Retention
from alluvium_like.deletion import empty
from alluvium_like.execution.identity import boot_id
from alluvium_like.lifecycle import Condition
from alluvium_like.log import get_logger
from alluvium_like.stages.parts import SLOW_LOOK_SECONDS, Parts
from alluvium_like.stages.pending import somebody_waits
from alluvium_like.stages.retention import Removal
from alluvium_like.stages.steadiness import Reading, follow
from alluvium_like.stages.sweep import carry_out, survey

log = get_logger(__name__)

_SWEEP_SECONDS = 6 * 3600.0
_CLOCK = "clock"
_MUCH_TRASH = 500
_PATIENCE_SECONDS = 600.0


class Janitor:
    """The stage that keeps house; objects of the repository are packed and never pruned."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._sweeping = anyio.Lock()
        self._next_sweep = -math.inf
        self._limits: Retention | None = None
        self._emptied = -math.inf
        self._stuck: frozenset[str] = frozenset()

    async def run(self) -> None:
        """Keep house until the daemon stops; what could not be done is tried again later."""
        parts = self._parts
        while not parts.runs.stopping:
            for chore in (self._sweep_if_due, self._empty_trash, self._tidy):
                try:
                    await chore()
                except Exception as error:  # no chore holds up another, nor ends the daemon
                    if not parts.health.tell(error):
                        log.exception("housekeeping_failed")
            await parts.wakes.janitor.wait(SLOW_LOOK_SECONDS)

    async def sweep(self) -> list[Removal]:
        """Remove what was kept long enough, now; return what went.

        Raises StoreError, GitFailed or OSError; what went until then is gone.
        """
        parts = self._parts
        async with self._sweeping:
            self._limits = parts.settings.current.retention
            self._next_sweep = monotonic() + _SWEEP_SECONDS
            found = await survey(parts.workspace, parts.git, self._limits, self._is_stopping)
            gone = await carry_out(
                parts.workspace, parts.store, parts.git, found, self._is_stopping
            )
        if gone:
            parts.wakes.janitor.set()
        return gone

    async def _sweep_if_due(self) -> None:
        limits = self._parts.settings.current.retention
        due = limits != self._limits or monotonic() >= self._next_sweep
        if due and await self._believes_clock():
            await self.sweep()

    async def _believes_clock(self) -> bool:
        """Tell, in `status` too, whether ages may be counted; a person's `gc` does not ask."""
        store = self._parts.store
        known = await store.get_meta(_CLOCK)
        before = Reading(**json.loads(known)) if known else None
        boot = await anyio.to_thread.run_sync(boot_id)
        now, moved = follow(before, Reading(boot, time_of_day(), seconds_since_boot()))
        if moved:
            await store.set_condition(Condition.CLOCK, messages.clock_moved(moved))
        if now.is_believed:
            await store.clear_condition(Condition.CLOCK)
        if moved or now.is_believed:
            await store.set_meta(_CLOCK, json.dumps(asdict(now)))
        return now.is_believed

    async def _empty_trash(self) -> None:
        """Delete while there is nothing better to do: in a burst the processors are the agents'.

        It is not put off when much has gathered, nor for long, nor while the machine lacks what may
        be in there. What could not be deleted is tried again with what comes next, or then.
        """
        parts, trash, now = self._parts, self._parts.workspace.trash, monotonic()
        found = frozenset(await anyio.to_thread.run_sync(os.listdir, trash))
        late = now >= self._emptied + _PATIENCE_SECONDS
        if not found:
            self._emptied = now
        if not found or (found <= self._stuck and not late):
            return
        urgent = late or not parts.health.is_well or len(found - self._stuck) > _MUCH_TRASH
        if not urgent and (self._is_busy() or await somebody_waits(parts)):
            return
        interrupted = self._is_stopping if urgent else self._is_busy
        self._stuck = frozenset()
        try:
            await anyio.to_thread.run_sync(empty, trash, interrupted)
        except OSError:
            log.exception("trash_not_emptied")
            self._stuck = found.intersection(await anyio.to_thread.run_sync(os.listdir, trash))
        if not interrupted():
            self._emptied = now

    async def _tidy(self) -> None:
        await self._parts.integration.tidy()

    def _is_busy(self) -> bool:
        return self._is_stopping() or not self._parts.runs.none_live

    def _is_stopping(self) -> bool:
        return self._parts.runs.stopping
