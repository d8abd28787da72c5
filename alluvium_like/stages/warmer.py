"""The warmer: makes worktrees ready for tasks to come, while there is nothing better to do.

It looks when a worktree came back or the base moved, and holds off while a task waits for a slot:
in a burst the processors belong to the agents. It never delays a stop: a tree that was half done
counts as used, and is begun anew.
"""

import math

import anyio
import anyio.abc

from alluvium_like.gitrepo.cleaning import Interrupted
from alluvium_like.log import get_logger
from alluvium_like.stages.parts import Parts
from alluvium_like.stages.pending import somebody_waits

log = get_logger(__name__)


class Warmer:
    """The stage that tends the warm worktrees."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def run(self) -> None:
        """Tend until the daemon stops."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._end_at_stop, tasks.cancel_scope)
            while not self._parts.runs.stopping:
                try:
                    await self._look()
                except Interrupted:
                    break
                except Exception as error:
                    if not self._parts.health.tell(error):
                        log.exception("warmer_failed")
                await self._parts.wakes.warmer.wait(math.inf)
            tasks.cancel_scope.cancel()

    async def _end_at_stop(self, scope: anyio.CancelScope) -> None:
        await self._parts.runs.stop_asked.wait()
        scope.cancel()

    async def _look(self) -> None:
        parts = self._parts
        while self._is_due() and not await somebody_waits(parts):
            done = await parts.warm.tend(
                parts.integration.source(), self._wanted(), lambda: parts.runs.stopping
            )
            parts.wakes.janitor.set()
            if not done:
                return

    def _is_due(self) -> bool:
        return self._parts.warm.due(self._parts.integration.seen, self._wanted())

    def _wanted(self) -> int:
        """Return how many trees there shall be: one for each agent that may run."""
        safety = self._parts.settings.current.safety
        return min(safety.max_workers, safety.warm_worktrees)
