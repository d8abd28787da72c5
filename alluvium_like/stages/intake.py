"""Intake: from the inbox into stable task folders, or into quarantine with the reason.

Hints wake it, a listing of the whole inbox is the truth. A claim is a row first, then a rename,
then fsyncs, then the task's row; whatever stops it in between is finished or rolled back by
`finish_half_claims`, and the item is whole in one place throughout.
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
    Place,
    move_into_task,
    quarantine,
    sync_claim,
    undo_empty,
    where_is,
)
from alluvium_like.inbox.look import Examination, Ignore, Item, examine, list_items
from alluvium_like.inbox.settle import Settling
from alluvium_like.inbox.watch import Watcher
from alluvium_like.lifecycle import Condition
from alluvium_like.log import get_logger
from alluvium_like.stages.parts import SLOW_LOOK_SECONDS, Parts, tell_condition
from alluvium_like.task import display_name, new_task_id

log = get_logger(__name__)

_FIRST_BATCH = 8
"""Small, so that the first agents start while thousands of items still wait."""
_LARGEST_BATCH = 256
_BACK_OFF_SECONDS = 5.0
_LISTING_SHARE = 0.1
_LONGEST_REST_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class _Claim:
    task_id: str
    item: Item


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
        self._stuck: dict[Item, _Stuck] = {}
        self._told: Ignore | None = None
        self._interrupted = False
        self._lacks_space = False
        self.idle = False
        self._last_look = monotonic()
        self._listing_seconds = 0.0

    def seconds_since_look(self) -> float:
        """Return how long ago the inbox was listed last."""
        return monotonic() - self._last_look

    async def run(self) -> None:
        """Claim what has settled until the daemon stops."""
        wake = self._parts.wakes.intake
        async with Watcher(self._parts.workspace.inbox, wake) as watcher:
            while not self._parts.runs.stopping:
                at_most = await self._look_or_log(watcher)
                self._parts.wakes.idle.set()
                rest = min(self._rest(), at_most)
                await anyio.sleep(rest)
                await wake.wait(at_most - rest)

    async def _look_or_log(self, watcher: Watcher) -> float:
        parts = self._parts
        try:
            await watcher.rewatch()
            if self._interrupted:
                await self.finish_half_claims()
            self._interrupted = True
            await self.look(watcher.take_renamed())
            self._interrupted = False
            await self._tell_stuck()
        except Exception as error:
            log.exception("intake_failed")
            reason = f"the inbox is not being emptied: {error}"
            await tell_condition(parts, Condition.INTAKE, reason)
            return _BACK_OFF_SECONDS
        self._last_look = monotonic()
        due = self._settling.next_look()
        self.idle = due is None or self._lacks_space  # then there is nothing that it could do
        if due is None:
            return SLOW_LOOK_SECONDS
        if self._lacks_space:
            return _BACK_OFF_SECONDS
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
        items = await anyio.to_thread.run_sync(list_items, inbox, ignore)
        now = monotonic()
        self._stuck = {item: self._stuck[item] for item in items if item in self._stuck}
        held_back = {item for item, stuck in self._stuck.items() if now < stuck.not_before}
        self._settling.update([i for i in items if i not in held_back], renamed, now)
        due = self._settling.due(monotonic())
        self._listing_seconds = monotonic() - began
        if await self._is_disk_full():
            return
        taken, size = 0, _FIRST_BATCH
        while taken < len(due) and not self._parts.runs.stopping:
            await self._take_batch(due[taken : taken + size])
            taken, size = taken + size, min(size * 2, _LARGEST_BATCH)

    async def _is_disk_full(self) -> bool:
        """Tell, in `status` too, whether less than the floor is free: then nothing is taken."""
        store, floor = self._parts.store, self._parts.settings.current.retention.min_free_bytes
        free = await anyio.to_thread.run_sync(_free_bytes, self._parts.workspace.inbox)
        self._lacks_space = free < floor
        if self._lacks_space:
            reason = (
                f"less than {floor:_} bytes of the disk are free, as retention.min_free_bytes "
                "wants: nothing is taken from the inbox until there is room"
            )
            await store.set_condition(Condition.DISK, reason)
        else:
            await store.clear_condition(Condition.DISK)
        return self._lacks_space

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

    async def _tell(self, ignore: Ignore) -> None:
        """Store what is ignored, so that `status` counts the inbox without the configuration."""
        if ignore != self._told:
            text = json.dumps([ignore.prefixes, ignore.suffixes])
            await self._parts.store.set_meta("ignored_names", text)
            self._told = ignore

    async def _take_batch(self, items: list[Item]) -> None:
        inbox = self._parts.workspace.inbox

        def examine_all() -> list[tuple[Item, Examination]]:
            return [(item, examine(inbox, item)) for item in items]

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
        parts = self._parts
        claims = [_Claim(new_task_id(display_name(item.name)), item) for item in items]
        async with parts.store.transaction() as tx:
            for claim in claims:
                await tx.run(
                    "begin_claim",
                    task_id=claim.task_id,
                    source=claim.item.name,
                    device=claim.item.device,
                    inode=claim.item.inode,
                    is_dir=claim.item.is_dir,
                )
        for item in items:
            self._settling.forget(item)
        moved, refused = await anyio.to_thread.run_sync(self._move_all, claims)
        async with parts.store.transaction() as tx:
            for claim in moved:
                name = display_name(claim.item.name)
                await tx.run("create_task", id=claim.task_id, name=name, priority=0)
            for claim in claims:
                await tx.run("end_claim", task_id=claim.task_id)
        parts.wakes.dispatch.set()
        for claim in moved:
            self._stuck.pop(claim.item, None)
            log.info("item_claimed", task_id=claim.task_id, name=display_name(claim.item.name))
        for item, failed in refused:
            if failed.code != errno.ENOENT:  # else its owner took it back
                await self._quarantine(item, failed.reason)

    def _move_all(
        self, claims: list[_Claim]
    ) -> tuple[list[_Claim], list[tuple[Item, ClaimFailed]]]:
        workspace = self._parts.workspace
        moved: list[_Claim] = []
        refused: list[tuple[Item, ClaimFailed]] = []
        for claim in claims:
            try:
                move_into_task(workspace.inbox, claim.item, workspace.task(claim.task_id))
                moved.append(claim)
            except ClaimFailed as failed:
                refused.append((claim.item, failed))
        folders = [workspace.task(claim.task_id) for claim in moved]
        sync_claim(folders, workspace.tasks, workspace.inbox)
        return moved, refused

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
        """Finish or roll back the claims that a crash or a failing disk left half done."""
        parts, workspace = self._parts, self._parts.workspace
        for row in await parts.store.claims():
            folder = workspace.task(row["task_id"])
            place = await anyio.to_thread.run_sync(
                where_is, workspace.inbox, folder, row["inode"], row["source"]
            )
            if place is Place.IN_TASK:
                await anyio.to_thread.run_sync(
                    sync_claim, [folder], workspace.tasks, workspace.inbox
                )
            else:
                await anyio.to_thread.run_sync(undo_empty, folder)
            async with parts.store.transaction() as tx:
                if place is Place.IN_TASK:
                    name = display_name(row["source"])
                    await tx.run("create_task", id=row["task_id"], name=name, priority=0)
                await tx.run("end_claim", task_id=row["task_id"])
            log.info("half_claim_ended", task_id=row["task_id"], place=place)


def _free_bytes(folder: Path) -> int:
    """Return how much of the disk we may still fill."""
    facts = os.statvfs(folder)
    return facts.f_bavail * facts.f_frsize
