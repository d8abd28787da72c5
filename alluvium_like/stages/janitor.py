"""The janitor: removes what was kept long enough, deletes what left by rename, and packs."""

import math

import anyio
import anyio.to_thread

from alluvium_like.clock import monotonic
from alluvium_like.config.tables import Retention
from alluvium_like.errors import AlluviumError
from alluvium_like.log import get_logger
from alluvium_like.stages.parts import SLOW_LOOK_SECONDS, Parts
from alluvium_like.stages.retention import Removal
from alluvium_like.stages.sweep import carry_out, survey
from alluvium_like.stages.trash import empty

log = get_logger(__name__)

_SWEEP_SECONDS = 6 * 3600.0


class Janitor:
    """The stage that keeps house; objects of the repository are packed and never pruned."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._sweeping = anyio.Lock()
        self._next_sweep = -math.inf
        self._limits: Retention | None = None

    async def run(self) -> None:
        """Keep house until the daemon stops; what could not be done is tried again later."""
        parts = self._parts
        while not parts.runs.stopping:
            if self._is_sweep_due():
                try:
                    await self.sweep()
                except (AlluviumError, OSError):
                    log.exception("housekeeping_failed")
            try:
                await anyio.to_thread.run_sync(empty, parts.workspace.trash, self._is_stopping)
            except OSError:
                log.exception("trash_not_emptied")
            try:
                await parts.integration.tidy()
            except AlluviumError:
                log.exception("repository_not_packed")
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

    def _is_sweep_due(self) -> bool:
        limits = self._parts.settings.current.retention
        return limits != self._limits or monotonic() >= self._next_sweep

    def _is_stopping(self) -> bool:
        return self._parts.runs.stopping
