"""The keeper: finds out when a machine in trouble is well again, and lets work begin.

While all is well it looks now and then whether what is the daemon's own is in its place. Else it
tries for real what work needs (room, a synced file, descriptors, a commit of the store, a
process) and believes nothing less. While the same trouble stays or comes back it asks ever more
seldom.
"""

import math
import os
from contextlib import ExitStack
from pathlib import Path

import anyio
import anyio.to_thread

from alluvium_like.clock import monotonic, utc_now
from alluvium_like.durable import fsync_dir
from alluvium_like.failpoint import step
from alluvium_like.log import get_logger
from alluvium_like.stages.health import require_room
from alluvium_like.stages.parts import SLOW_LOOK_SECONDS, Parts
from alluvium_like.trouble import Trouble

log = get_logger(__name__)

_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 30.0
_ENOUGH_BYTES = 1 << 20
_ENOUGH_DESCRIPTORS = 32  # more than the start of an attempt and a git beside it need


class Keeper:
    """The stage that tries the machine while it is in trouble."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._pause = _FIRST_PAUSE_SECONDS
        self._well_since = -math.inf
        self._reasons: frozenset[str] = frozenset()

    async def run(self) -> None:
        """Look after the machine until the daemon stops."""
        parts = self._parts
        while not parts.runs.stopping:
            if parts.health.is_well:
                await parts.wakes.keeper.wait(SLOW_LOOK_SECONDS)
                await self._look_after_own()
                self._choose_pause()
                continue
            await parts.wakes.keeper.wait(self._pause)
            self._pause = min(self._pause * 2, _LONGEST_PAUSE_SECONDS)
            if not parts.runs.stopping:
                await self._try()

    def _choose_pause(self) -> None:
        reasons = frozenset(told.reason for told in self._parts.health.told)
        if not reasons:
            return
        rested = monotonic() - self._well_since > SLOW_LOOK_SECONDS
        if rested or reasons != self._reasons:
            self._pause = _FIRST_PAUSE_SECONDS
        self._reasons = reasons

    async def _look_after_own(self) -> None:
        try:
            await self._parts.mend()
        except Exception as error:
            if not self._parts.health.tell(error):
                log.exception("own_folders_not_mended")

    async def _try(self) -> None:
        parts, health = self._parts, self._parts.health
        try:
            await self._do_a_little()
            await health.write_owed()
        except Exception as error:
            if not await parts.tell(error):
                log.exception("machine_not_tried")
            return
        health.take_back(*(set(Trouble) - {Trouble.INBOX}))
        self._well_since = monotonic()
        parts.wakes.set_all()

    async def _do_a_little(self) -> None:
        parts = self._parts
        await parts.mend()  # first: what lies in their place may be another's
        floor = parts.settings.current.retention.min_free_bytes
        await anyio.to_thread.run_sync(require_room, parts.workspace.inbox, floor)
        await anyio.to_thread.run_sync(_write_and_open, parts.workspace.state)
        await parts.store.set_meta("machine_tried", utc_now())
        await parts.git.run("version")


def _write_and_open(folder: Path) -> None:
    probe = folder / ".probe.tmp"
    try:
        with ExitStack() as opened:
            stream = opened.enter_context(probe.open("wb"))
            stream.write(bytes(_ENOUGH_BYTES))
            stream.flush()
            with step("keeper.sync"):
                os.fsync(stream.fileno())
            for _ in range(_ENOUGH_DESCRIPTORS):
                opened.callback(os.close, os.dup(stream.fileno()))
    finally:
        probe.unlink(missing_ok=True)
        with step("keeper.sync_folder"):
            fsync_dir(folder)
