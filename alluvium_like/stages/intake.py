"""Intake: from the inbox into stable task folders, or into quarantine with the reason.

Hints wake it, a listing of the whole inbox is the truth. A claim is a row first, then a rename,
then fsyncs, then the task's row; whatever stops it in between is finished or rolled back by
`finish_half_claims`, and the item is whole in one place throughout. Where a sync failed nothing is
known to have lasted, and a second one would prove nothing: the item is renamed back into the inbox
and claimed anew.
"""

import errno
import json
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread

from alluvium_like.clock import monotonic
from alluvium_like.inbox.claim import (
    ClaimFailed,
    Place,
    drop_half_quarantines,
    give_back,
    move_into_task,
    quarantine,
    sync_claim,
    undo_empty,
    where_is,
)
from alluvium_like.inbox.look import Examination, Ignore, Item, Limits, examine, list_items
from alluvium_like.inbox.settle import Settling
from alluvium_like.inbox.watch import Watcher
from alluvium_like.lifecycle import Condition
from alluvium_like.log import get_logger
from alluvium_like.stages.health import require_room
from alluvium_like.stages.parts import SLOW_LOOK_SECONDS, Parts, tell_condition
from alluvium_like.store.transaction import Transaction
from alluvium_like.task import display_name, new_task_id
from alluvium_like.trouble import Trouble, explain
from alluvium_like.workspace import TaskFolder

log = get_logger(__name__)

_FIRST_BATCH = 8
"""Small, so that the first agents start while thousands of items still wait."""
_LARGEST_BATCH = 256
_BACK_OFF_SECONDS = 5.0
_EFFECTIVE = os.access in os.supports_effective_ids
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
        self._unsynced: set[str] = set()  # tasks whose items were moved, not known to last
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
        if watcher.trouble is None:
            self._parts.health.take_back(Trouble.WATCH)
        else:
            self._parts.health.say(Trouble.WATCH, explain(Trouble.WATCH, watcher.trouble))

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
        parts = self._parts
        claims = [_Claim(new_task_id(display_name(item.name)), item) for item in items]
        async with parts.store.transaction("claim_begun") as tx:
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
        async with parts.store.transaction("claimed") as tx:
            for claim, seal in moved.items():
                await _create_task(tx, claim.task_id, claim.item.name, seal)
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
    ) -> tuple[dict[_Claim, str], list[tuple[Item, ClaimFailed]]]:
        """Return the claims that went well with their seals, and what was refused."""
        workspace = self._parts.workspace
        moved: list[_Claim] = []
        refused: list[tuple[Item, ClaimFailed]] = []
        for claim in claims:
            folder = workspace.task(claim.task_id)
            try:
                move_into_task(workspace.inbox, claim.item, folder)
                moved.append(claim)
                self._unsynced.add(claim.task_id)
            except ClaimFailed as failed:
                self._roll_back(folder, claim.item.name, is_dir=claim.item.is_dir)
                refused.append((claim.item, failed))
        folders = [workspace.task(claim.task_id) for claim in moved]
        seals = sync_claim(folders, workspace.tasks, workspace.inbox)
        self._unsynced.clear()
        return dict(zip(moved, seals, strict=True)), refused

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
            seals: list[str] = []
            if place is Place.IN_TASK and row["task_id"] not in self._unsynced:
                self._unsynced.add(row["task_id"])
                seals = await anyio.to_thread.run_sync(
                    sync_claim, [folder], workspace.tasks, workspace.inbox
                )
                self._unsynced.discard(row["task_id"])
            else:
                is_dir = bool(row["is_dir"])
                undo = partial(self._roll_back, folder, row["source"], is_dir=is_dir)
                await anyio.to_thread.run_sync(undo)
            async with parts.store.transaction("half_claim_ended") as tx:
                for seal in seals:
                    await _create_task(tx, row["task_id"], row["source"], seal)
                await tx.run("end_claim", task_id=row["task_id"])
            self._unsynced.discard(row["task_id"])
            log.info("half_claim_ended", task_id=row["task_id"], place=place)
            parts.wakes.dispatch.set()
        await anyio.to_thread.run_sync(drop_half_quarantines, workspace.quarantine)

    def _roll_back(self, folder: TaskFolder, name: bytes, *, is_dir: bool) -> None:
        give_back(self._parts.workspace.inbox, folder, name, is_dir=is_dir)
        undo_empty(folder)


async def _create_task(tx: Transaction, task_id: str, source: bytes, seal: str) -> None:
    name = display_name(source)
    await tx.run("create_task", id=task_id, name=name, priority=0, input_seal=seal)


def _list(inbox: Path, tasks: Path, ignore: Ignore) -> list[Item]:
    """List the inbox. Raises OSError where no item could be taken: none of them is to blame."""
    items = list_items(inbox, ignore)
    tasks.stat()
    if items and not os.access(inbox, os.W_OK | os.X_OK, effective_ids=_EFFECTIVE):
        raise PermissionError(errno.EACCES, "items cannot be taken out of it", str(inbox))
    return items
