"""Intake on a disk that fills up: it stops, says so, and goes on by itself."""

from pathlib import Path

import anyio
import pytest
from test_intake_scale import SOON, drop, opened

from alluvium_like.stages import intake
from alluvium_like.stages.health import require_room
from alluvium_like.stages.intake import Intake
from alluvium_like.trouble import Trouble


async def test_below_the_floor_nothing_is_taken_until_the_machine_is_well_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    floor = 10**18
    looks = 0

    def measure(folder: Path, _: int) -> None:
        nonlocal looks
        looks += 1
        require_room(folder, floor)

    monkeypatch.setattr(intake, "require_room", measure)
    async with opened(tmp_path) as parts, anyio.create_task_group() as group:
        drop(parts.workspace.inbox, 3)
        stage = Intake(parts, ignore_settle=True)
        group.start_soon(stage.run)
        with anyio.fail_after(SOON):
            while parts.health.is_well:
                await parts.wakes.idle.wait(0.1)
            (told,) = parts.health.told
            assert told.name is Trouble.DISK
            assert "retention.min_free_bytes" in told.reason
            parts.wakes.intake.set()
            await parts.wakes.idle.wait(SOON)
            assert stage.idle
            assert not await parts.store.counts()
            assert looks == 1, "it does not even look while the machine is not well"
            floor = 0
            parts.health.take_back(Trouble.DISK)
            parts.wakes.set_all()
            while sum((await parts.store.counts()).values()) < 3:
                await parts.wakes.idle.wait(0.1)
        parts.runs.stop_asked.set()
        parts.wakes.intake.set()
