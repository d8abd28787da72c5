"""Intake: from the inbox into stable task folders, or into quarantine with the reason.

Hints wake it, a listing of the whole inbox is the truth. What has settled is claimed (`claiming`);
what can never be claimed is set aside; what can be neither is told, and stays where it is.
"""

import errno
import json
import os
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.to_thread

from alluvium_like.clock import monotonic
from alluvium_like.inbox.claim import (
    ClaimFailed,
    drop_half_quarantines,
    quarantine,
)
from alluvium_like.inbox.look import Examination, Ignore, Item, Limits, examine, list_items
from alluvium_like.inbox.settle import Settling
from alluvium_like.inbox.watch import Watcher
from alluvium_like.lifecycle import Condition
from alluvium_like.log import get_logger
from alluvium_like.stages.claiming import Claiming
from alluvium_like.stages.health import require_room
from alluvium_like.stages.parts import SLOW_LOOK_SECONDS, Parts, tell_condition
from alluvium_like.task import display_name
from alluvium_like.trouble import Trouble, explain

log = get_logger(__name__)

_FIRST_BATCH = 8
"""Small, so that the first agents start while thousands of items still wait."""
_LARGEST_BATCH = 256
_BACK_OFF_SECONDS = 5.0
_EFFECTIVE = os.access in os.supports_effective_ids
_LISTING_SHARE = 0.1
_LONGEST_REST_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class _Stuck:
    """An item that can be taken neither into a task nor into quarantine."""

    reason: str
    not_before: float  # monotonic; only a look that happens anyway tries it again


class Intake:
    """The stage that empties the inbox."""

    def __init__(self, parts: Parts, *, ignore_settle: bool = False) -> None:
        self._parts = parts
        self._ignore_settle = ignore_settle
        self._settling = Settling(0.0)
        self._claiming = Claiming(parts)
        self._stuck: dict[Item, _Stuck] = {}
        self._told: Ignore | None = None
        self._interrupted = False
        self.idle = False
        self._last_look = monotonic()
        self._listing_seconds = 0.0

    def seconds_since_look(self) -> float:
        """Return how long ago the inbox was listed last."""
        return monotonic() - self._last_look

    async def run(self) -> None:
        """Claim what has settled until the daemon stops."""
        safety = self._parts.settings.current.safety
        inbox, wake = self._parts.workspace.inbox, self._parts.wakes.intake
        async with Watcher(inbox, wake, safety.inbox_watch) as watcher:
            while not self._parts.runs.stopping:
                at_most = await self._look_or_log(watcher)
                self._parts.wakes.idle.set()
                rest = min(self._rest(), at_most)
                await anyio.sleep(rest)
                await watcher.wait(at_most - rest)

    async def _look_or_log(self, watcher: Watcher) -> float:
        parts, health = self._parts, self._parts.health
        self._last_look = monotonic()
        if not health.is_well:  # the keeper wakes all when it is again
            self.idle = True
            return SLOW_LOOK_SECONDS
        watcher.how = parts.settings.current.safety.inbox_watch
        try:
            await watcher.rewatch()
            if self._interrupted:
                await self.finish_half_claims()
            self._interrupted = True
            await self.look(watcher.take_renamed())
            self._interrupted = False
            await self._tell_stuck()
            self._tell_watch(watcher)
        except Exception as error:
            self.idle = True  # there is nothing that it could do
            if health.tell(error):
                return _BACK_OFF_SECONDS
            if isinstance(error, OSError):
                reason = f"{explain(Trouble.INBOX, error)}; the daemon goes on by itself"
                health.say(Trouble.INBOX, reason)
                return _BACK_OFF_SECONDS
            log.exception("intake_failed")
            reason = f"the inbox is not being emptied: {error}"
            await tell_condition(parts, Condition.INTAKE, reason)
            return _BACK_OFF_SECONDS
        health.take_back(Trouble.INBOX)
        due = self._settling.next_look()
        self.idle = due is None
        if due is None:
            return SLOW_LOOK_SECONDS
        return min(max(due - monotonic(), 0.0), SLOW_LOOK_SECONDS)

    def _rest(self) -> float:
        """Return how long events may wait, lest each of them has a full inbox listed again.

        Where nothing pends, whatever was listed has been taken, and there is nothing to spare.
        """
        if self._settling.next_look() is None:
            return 0.0
        return min(self._listing_seconds / _LISTING_SHARE, _LONGEST_REST_SECONDS)

    async def look(self, renamed: set[bytes]) -> None:
        """List the inbox, examine what is due, and claim or quarantine what is ready.

        Raises OSError or StoreError when the machine is in trouble; nothing is lost then.
        """
        safety = self._parts.settings.current.safety
        self._settling.settle_seconds = 0.0 if self._ignore_settle else safety.inbox_settle_seconds
        ignore = Ignore(tuple(safety.ignore_name_prefixes), tuple(safety.ignore_name_suffixes))
        await self._tell(ignore)
        inbox = self._parts.workspace.inbox
        began = monotonic()
        items = await anyio.to_thread.run_sync(_list, inbox, self._parts.workspace.tasks, ignore)
        now = monotonic()
        self._stuck = {item: self._stuck[item] for item in items if item in self._stuck}
        held_back = {item for item, stuck in self._stuck.items() if now < stuck.not_before}
        self._settling.update([i for i in items if i not in held_back], renamed, now)
        due = self._settling.due(monotonic())
        self._listing_seconds = monotonic() - began
        floor = self._parts.settings.current.retention.min_free_bytes
        await anyio.to_thread.run_sync(require_room, inbox, floor)
        taken, size = 0, _FIRST_BATCH
        while taken < len(due) and not self._parts.runs.stopping:
            await self._take_batch(due[taken : taken + size])
            taken, size = taken + size, min(size * 2, _LARGEST_BATCH)

    async def _tell_stuck(self) -> None:
        """Show in `status` what cannot be taken out of the inbox."""
        store = self._parts.store
        if self._stuck:
            item, stuck = next(iter(self._stuck.items()))
            others = f" (and {len(self._stuck) - 1} more)" if len(self._stuck) > 1 else ""
            name = display_name(item.name)
            await store.set_condition(Condition.INTAKE, f"{name}{others} is stuck: {stuck.reason}")
        else:
            await store.clear_condition(Condition.INTAKE)

    def _tell_watch(self, watcher: Watcher) -> None:
        """Show in `status` why arrivals are noticed late, where that was not asked for."""
        if watcher.failure is None:
            self._parts.health.take_back(Trouble.WATCH)
        else:
            self._parts.health.say(Trouble.WATCH, explain(Trouble.WATCH, watcher.failure))

    async def _tell(self, ignore: Ignore) -> None:
        """Store what is ignored, so that `status` counts the inbox without the configuration."""
        if ignore != self._told:
            text = json.dumps([ignore.prefixes, ignore.suffixes])
            await self._parts.store.set_meta("ignored_names", text)
            self._told = ignore

    async def _take_batch(self, items: list[Item]) -> None:
        inbox, safety = self._parts.workspace.inbox, self._parts.settings.current.safety
        limits = Limits(safety.max_item_files, safety.max_item_bytes)

        def examine_all() -> list[tuple[Item, Examination]]:
            return [(item, examine(inbox, item, limits)) for item in items]

        ready: list[Item] = []
        for item, seen in await anyio.to_thread.run_sync(examine_all):
            if not self._settling.observe(item, seen):
                continue
            if seen.obstacle:
                await self._quarantine(item, seen.obstacle)
            else:
                ready.append(item)
        if ready:
            await self._claim(ready)

    async def _claim(self, items: list[Item]) -> None:
        claims = await self._claiming.begin(items)
        for item in items:
            self._settling.forget(item)
        moved, refused = await self._claiming.carry_out(claims)
        for item in moved:
            self._stuck.pop(item, None)
        for item, failed in refused:
            if failed.code != errno.ENOENT:  # else its owner took it back
                await self._quarantine(item, failed.reason)

    async def _quarantine(self, item: Item, reason: str) -> None:
        workspace = self._parts.workspace
        self._settling.forget(item)
        name = display_name(item.name)
        try:
            folder = await anyio.to_thread.run_sync(
                quarantine, workspace.inbox, item, workspace.quarantine, reason
            )
        except ClaimFailed as failed:
            if item not in self._stuck:
                log.warning("item_stuck", name=name, reason=reason, why_not_moved=failed.reason)
            self._stuck[item] = _Stuck(failed.reason, monotonic() + _BACK_OFF_SECONDS)
            return
        self._stuck.pop(item, None)
        log.warning("item_quarantined", name=name, reason=reason, folder=folder.name)

    async def finish_half_claims(self) -> None:
        """Finish or roll back what a crash or a failing disk left half done."""
        await self._claiming.finish_half_done()
        await anyio.to_thread.run_sync(drop_half_quarantines, self._parts.workspace.quarantine)


def _list(inbox: Path, tasks: Path, ignore: Ignore) -> list[Item]:
    """List the inbox. Raises OSError where no item could be taken: none of them is to blame."""
    items = list_items(inbox, ignore)
    tasks.stat()
    places = {inbox: "items cannot be taken out of it", tasks: "items cannot be moved into it"}
    for place, problem in places.items():
        if items and not os.access(place, os.W_OK | os.X_OK, effective_ids=_EFFECTIVE):
            raise PermissionError(errno.EACCES, problem, str(place))
    return items
