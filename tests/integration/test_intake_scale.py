"""Thousands of items at once: batches, stops, rests, and what one claim of many costs."""

import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from alluvium_like.config import Config
from alluvium_like.durable import sync_file_system
from alluvium_like.inbox import claim
from alluvium_like.inbox.look import Ignore, Item, list_items
from alluvium_like.inbox.watch import Watcher
from alluvium_like.stages import intake
from alluvium_like.stages.health import Health
from alluvium_like.stages.intake import Intake
from alluvium_like.stages.notify import Notify
from alluvium_like.stages.parts import Parts, Settings
from alluvium_like.store.writer import Store
from alluvium_like.trouble import Board
from alluvium_like.wake import Wake
from alluvium_like.workspace import Workspace

SOON = 10.0


@asynccontextmanager
async def opened(root: Path) -> AsyncIterator[Parts]:
    """Open the parts that intake and notify use; there is no repository."""
    space = Workspace.at(root / "ws")
    space.root.mkdir()
    space.make_folders()
    store = await Store.open(space.database)
    try:
        given: dict[str, Any] = dict.fromkeys(
            field.name for field in fields(Parts) if field.default_factory is MISSING
        )
        given |= {
            "workspace": space,
            "store": store,
            "settings": Settings(Config()),
            "workspace_id": "id",
            "health": Health(Board(space.board), Wake()),
        }
        yield Parts(**given)
    finally:
        await store.close()


def drop(inbox: Path, count: int) -> None:
    for number in range(count):
        (inbox / f"{number}.md").write_text("please\n")


async def test_the_first_of_many_items_become_tasks_while_the_others_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count, batches = 300, []
    async with opened(tmp_path) as parts:
        drop(parts.workspace.inbox, count)
        real = Intake._claim

        async def claim_some(self: Intake, items: list[Item]) -> None:
            await real(self, items)
            batches.append(sum((await parts.store.counts()).values()))

        monkeypatch.setattr(Intake, "_claim", claim_some)
        await Intake(parts, ignore_settle=True).look(set())
        assert batches[0] <= 16, "the first agents start with these"
        assert batches[-1] == count
        assert len(batches) < count / 16, "later ones are taken many at a time"
        assert not await parts.store.claims()


async def test_a_stop_waits_for_one_batch_and_the_rest_stays_in_the_inbox(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 100
    async with opened(tmp_path) as parts:
        drop(parts.workspace.inbox, count)
        real = Intake._claim

        async def claim_and_stop(self: Intake, items: list[Item]) -> None:
            await real(self, items)
            parts.runs.stop_all(now=False)

        monkeypatch.setattr(Intake, "_claim", claim_and_stop)
        await Intake(parts, ignore_settle=True).look(set())
        claimed = sum((await parts.store.counts()).values())
        assert 0 < claimed <= 16
        assert len(os.listdir(parts.workspace.inbox)) == count - claimed


async def test_events_do_not_have_a_full_inbox_listed_for_each_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0

    def slow_listing(inbox: Path, ignore: Ignore) -> list[Item]:
        nonlocal looks
        looks += 1
        time.sleep(0.02)  # as ten thousand entries take
        return list_items(inbox, ignore)

    monkeypatch.setattr(intake, "list_items", slow_listing)
    async with opened(tmp_path) as parts, anyio.create_task_group() as group:
        drop(parts.workspace.inbox, 3)  # which have to settle
        group.start_soon(Intake(parts).run)
        for _ in range(100):
            await anyio.sleep(0.005)
            parts.wakes.intake.set()
        assert 2 <= looks <= 6
        parts.runs.stop_asked.set()
        parts.wakes.intake.set()


async def test_where_nothing_pends_an_event_is_followed_at_once(tmp_path: Path) -> None:
    async with opened(tmp_path) as parts:
        stage = Intake(parts, ignore_settle=True)
        drop(parts.workspace.inbox, 3)
        await stage.look(set())
        assert stage._rest() == 0.0


async def test_a_burst_of_events_costs_the_loop_one_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wake, turns = Wake(), 0
    async with Watcher(tmp_path, wake) as watcher:
        real = watcher._loop.call_soon_threadsafe

        def count(*args: object) -> object:
            nonlocal turns
            turns += 1
            return real(*args)  # type: ignore[arg-type]

        monkeypatch.setattr(watcher._loop, "call_soon_threadsafe", count)
        for burst in (1, 2):
            for _ in range(1000):
                watcher._wake_loop()  # the loop does not come to hear them in between
            assert turns == burst
            assert await wake.wait(SOON)


@pytest.mark.parametrize("can_sync_all", [True, False])
def test_many_claims_are_made_durable_by_one_sync_where_the_system_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, can_sync_all: bool
) -> None:
    space = Workspace.at(tmp_path)
    synced: list[Path] = []
    monkeypatch.setattr(claim, "fsync_dir", synced.append)
    whole: list[Path] = []

    def sync_all(folder: Path) -> bool:
        whole.append(folder)
        return can_sync_all

    monkeypatch.setattr(claim, "sync_file_system", sync_all)
    folders = [space.task(str(number)) for number in range(100)]
    for folder in folders:
        folder.input.mkdir(parents=True)
    claim.sync_claim(folders, space.tasks, space.inbox)
    assert whole == [space.tasks]
    assert len(synced) == (0 if can_sync_all else 2 * len(folders) + 2)
    claim.sync_claim(folders[:1], space.tasks, space.inbox)
    assert whole == [space.tasks], "a single claim does not wait for what others write"


def test_the_sync_of_a_file_system_works_and_its_failure_is_told(tmp_path: Path) -> None:
    assert sync_file_system(tmp_path) in (True, False)
    with pytest.raises(FileNotFoundError):
        sync_file_system(tmp_path / "gone")


async def test_how_far_the_histories_are_written_is_stored_within_a_long_catching_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count, saved = 2500, []
    async with opened(tmp_path) as parts:
        async with parts.store.transaction("tested") as tx:
            for number in range(count):
                parts.workspace.task(f"t{number}").root.mkdir()
                await tx.run("create_task", id=f"t{number}", name="", priority=0, input_seal="")
        real = parts.store.set_meta

        async def save(key: str, value: str) -> None:
            saved.append(int(value))
            await real(key, value)

        monkeypatch.setattr(parts.store, "set_meta", save)
        follower = Notify(parts)
        await follower.finish()
        assert saved == [1000, 2000, count]
        await follower.catch_up()
        assert saved == [1000, 2000, count], "there was nothing to catch up with"
        for number in (0, count - 1):
            assert parts.workspace.task(f"t{number}").events.read_text().count("\n") == 1


async def test_after_a_crash_many_histories_are_whole_again(tmp_path: Path) -> None:
    async with opened(tmp_path) as parts:
        await Notify(parts).catch_up()
        async with parts.store.transaction("tested") as tx:
            for number in range(250):
                parts.workspace.task(f"t{number}").root.mkdir()
                await tx.run("create_task", id=f"t{number}", name="", priority=0, input_seal="")
        await Notify(parts)._follow()  # written, and not stored how far
        await Notify(parts).catch_up()
        for number in range(250):
            assert parts.workspace.task(f"t{number}").events.read_text().count("\n") == 1
