"""Claiming items: a row first, then a rename, then fsyncs, then the task's row.

Whatever stops it in between is finished or rolled back by `finish_half_done`, and the item is whole
in one place throughout. Where a sync failed nothing is known to have lasted, and a second one would
prove nothing: the item is renamed back into the inbox and claimed anew.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import anyio.to_thread

from alluvium_like import messages
from alluvium_like.config.task_settings import NOTHING_WANTED, Wanted, check_settings
from alluvium_like.errors import reason_of
from alluvium_like.inbox.claim import (
    ClaimFailed,
    Place,
    give_back,
    move_into_task,
    sync_claim,
    undo_empty,
    where_is,
)
from alluvium_like.inbox.look import Item
from alluvium_like.inbox.settings import settings_of
from alluvium_like.log import get_logger
from alluvium_like.stages.parts import Parts
from alluvium_like.store.transaction import Transaction
from alluvium_like.task import display_name, new_task_id
from alluvium_like.workspace import TaskFolder

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Claim:
    """An item and the task that it is to become."""

    task_id: str
    item: Item


@dataclass(frozen=True, slots=True)
class _Dropped:
    """What is known of an item that has become a task's input."""

    seal: str
    wanted: Wanted


class Claiming:
    """Takes items out of the inbox; one caller at a time."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._unsynced: set[str] = set()  # tasks whose items were moved, not known to last

    async def begin(self, items: Sequence[Item]) -> list[Claim]:
        """Store that these items are about to be claimed. Raises StoreError."""
        claims = [Claim(new_task_id(display_name(item.name)), item) for item in items]
        async with self._parts.store.transaction("claim_begun") as tx:
            for claim in claims:
                await tx.run(
                    "begin_claim",
                    task_id=claim.task_id,
                    source=claim.item.name,
                    device=claim.item.device,
                    inode=claim.item.inode,
                    is_dir=claim.item.is_dir,
                )
        return claims

    async def carry_out(
        self, claims: Sequence[Claim]
    ) -> tuple[list[Item], list[tuple[Item, ClaimFailed]]]:
        """Move the items into tasks of their own; return those that are, and what was refused.

        Raises OSError or StoreError when the machine is in trouble: see `finish_half_done`.
        """
        parts = self._parts
        moved, refused = await anyio.to_thread.run_sync(self._move_all, claims)
        async with parts.store.transaction("claimed") as tx:
            for claim, dropped in moved.items():
                await _create_task(tx, claim.task_id, claim.item.name, dropped)
            for claim in claims:
                await tx.run("end_claim", task_id=claim.task_id)
        parts.wakes.dispatch.set()
        for claim in moved:
            log.info("item_claimed", task_id=claim.task_id, name=display_name(claim.item.name))
        return [claim.item for claim in moved], refused

    async def finish_half_done(self) -> None:
        """Finish or roll back the claims that a crash or a failing disk left half done."""
        parts, workspace = self._parts, self._parts.workspace
        for row in await parts.store.claims():
            folder = workspace.task(row["task_id"])
            place = await anyio.to_thread.run_sync(
                where_is, workspace.inbox, folder, row["inode"], row["source"]
            )
            is_dir, dropped = bool(row["is_dir"]), None
            if place is Place.IN_TASK and row["task_id"] not in self._unsynced:
                self._unsynced.add(row["task_id"])
                (dropped,) = await anyio.to_thread.run_sync(self._sync, [(folder, is_dir)])
                self._unsynced.discard(row["task_id"])
            else:
                undo = partial(self._roll_back, folder, row["source"], is_dir=is_dir)
                await anyio.to_thread.run_sync(undo)
            async with parts.store.transaction("half_claim_ended") as tx:
                if dropped is not None:
                    await _create_task(tx, row["task_id"], row["source"], dropped)
                await tx.run("end_claim", task_id=row["task_id"])
            self._unsynced.discard(row["task_id"])
            log.info("half_claim_ended", task_id=row["task_id"], place=place)
            parts.wakes.dispatch.set()

    def _move_all(
        self, claims: Sequence[Claim]
    ) -> tuple[dict[Claim, _Dropped], list[tuple[Item, ClaimFailed]]]:
        """Return the claims that went well with what they brought, and what was refused."""
        workspace = self._parts.workspace
        moved: list[Claim] = []
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
        items = [(workspace.task(claim.task_id), claim.item.is_dir) for claim in moved]
        dropped = self._sync(items)
        self._unsynced.clear()
        return dict(zip(moved, dropped, strict=True)), refused

    def _sync(self, items: Sequence[tuple[TaskFolder, bool]]) -> list[_Dropped]:
        """Make items last that were moved, and read what they say of themselves."""
        workspace = self._parts.workspace
        seals = sync_claim([folder for folder, _ in items], workspace.tasks, workspace.inbox)
        wanted = [self._wanted(folder, is_dir=is_dir) for folder, is_dir in items]
        return [_Dropped(*both) for both in zip(seals, wanted, strict=True)]

    def _wanted(self, folder: TaskFolder, *, is_dir: bool) -> Wanted:
        """Read what an item says of itself; whatever it holds, others are claimed. OSError."""
        try:
            given = settings_of(folder.input, is_dir=is_dir)
            return check_settings(given, self._parts.settings.current)
        except OSError:
            raise
        except Exception as error:
            log.exception("settings_not_read", task_id=folder.root.name)
            return Wanted(problems=(f"its settings cannot be read: {reason_of(error)}",))

    def _roll_back(self, folder: TaskFolder, name: bytes, *, is_dir: bool) -> None:
        give_back(self._parts.workspace.inbox, folder, name, is_dir=is_dir)
        undo_empty(folder)


async def _create_task(tx: Transaction, task_id: str, source: bytes, dropped: _Dropped) -> None:
    name, wanted = display_name(source), dropped.wanted
    await tx.run(
        "create_task", id=task_id, name=name, priority=wanted.priority, input_seal=dropped.seal
    )
    if wanted == NOTHING_WANTED:
        return
    task = await tx.change_settings(
        await tx.get(task_id), wanted.agent, wanted.priority, wanted.settings
    )
    if wanted.problems:
        reason = f"its settings are wrong: {'; '.join(wanted.problems)}"
        await tx.ask_human(task, messages.wrong_settings(task_id, wanted.problems), reason=reason)
