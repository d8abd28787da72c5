"""Intake on a disk that fills up: it stops, says so, and goes on by itself."""

from pathlib import Path

import anyio
import pytest
from test_intake_scale import SOON, drop, opened

from alluvium_like.lifecycle import Condition
from alluvium_like.stages import intake
from alluvium_like.stages.intake import Intake


async def test_a_full_disk_stops_the_intake_until_there_is_room_without_a_hint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = 0
    looks = 0

    def measure(folder: Path) -> int:
        nonlocal looks
        looks += 1
        return free

    monkeypatch.setattr(intake, "_free_bytes", measure)
    monkeypatch.setattr(intake, "_BACK_OFF_SECONDS", 0.5)
    async with opened(tmp_path) as parts, anyio.create_task_group() as group:
        drop(parts.workspace.inbox, 3)
        stage = Intake(parts, ignore_settle=True)
        group.start_soon(stage.run)
        with anyio.fail_after(SOON):
            while not await parts.store.conditions(Condition.DISK):
                await parts.wakes.idle.wait(0.1)
            await anyio.sleep(0.7)
            assert stage.idle
            assert not await parts.store.counts()
            assert looks <= 3, "it looks no faster than the back-off"
            free = 10**15
            while sum((await parts.store.counts()).values()) < 3:
                await parts.wakes.idle.wait(0.1)
            while await parts.store.conditions(Condition.DISK):
                await parts.wakes.idle.wait(0.1)
        parts.runs.stopping = True
        parts.wakes.intake.set()
