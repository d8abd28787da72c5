"""The janitor deletes when nobody needs the processors, and nothing that it meets ends it."""

import math
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from test_warm_pool import Stage
from warm_bed import Place, nest

from alluvium_like.stages import janitor as module
from alluvium_like.stages.janitor import Janitor


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    made = Stage(Place(tmp_path))
    made.parts.workspace.make_folders()
    return made


def trash_of(stage: Stage) -> Path:
    return stage.parts.workspace.trash


@asynccontextmanager
async def at_work(stage: Stage) -> AsyncIterator[None]:
    """Let the janitor run; it has looked once, and does not sweep: that would wake it again."""
    janitor = Janitor(stage.parts)
    janitor._limits, janitor._next_sweep = stage.parts.settings.current.retention, math.inf
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(janitor.run)
        await stage.janitor.waiting.wait()
        yield
        stage.runs.stop_all(now=False)
        stage.janitor.set()


async def look_after(stage: Stage) -> list[str]:
    stage.wakes.idle.set()
    await stage.janitor.waiting.wait()
    return sorted(os.listdir(trash_of(stage)))


async def test_it_holds_off_while_something_runs_or_waits(stage: Stage) -> None:
    async with at_work(stage):
        stage.runs.begin("t")
        stage.waits = object()
        (trash_of(stage) / "x").mkdir()
        assert await look_after(stage) == ["x"]
        stage.runs.end("t")
        assert await look_after(stage) == ["x"], "the next attempt is about to start"
        stage.waits = None
        assert await look_after(stage) == []


async def test_it_does_not_hold_off_when_much_has_gathered(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MUCH_TRASH", 3)
    async with at_work(stage):
        stage.runs.begin("t")
        for number in range(3):
            (trash_of(stage) / str(number)).mkdir()
        assert len(await look_after(stage)) == 3
        (trash_of(stage) / "3").mkdir()
        assert await look_after(stage) == []


async def test_it_does_not_hold_off_for_long(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(module, "monotonic", lambda: now)
    async with at_work(stage):
        stage.runs.begin("t")
        (trash_of(stage) / "x").mkdir()
        now += module._PATIENCE_SECONDS - 1
        assert await look_after(stage) == ["x"]
        now += 1
        assert await look_after(stage) == []


async def test_it_makes_way_for_an_attempt_that_starts(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with at_work(stage):
        tree = trash_of(stage) / "x"
        tree.mkdir()
        for number in range(10):
            (tree / str(number)).touch()
        real = os.unlink

        def begin_then(name: str, *, dir_fd: int) -> None:
            if not stage.runs.is_live("t"):
                stage.runs.begin("t")
            real(name, dir_fd=dir_fd)

        monkeypatch.setattr(os, "unlink", begin_then)
        assert await look_after(stage) == ["x"]
        assert len(os.listdir(tree)) == 9
        monkeypatch.undo()
        stage.runs.end("t")
        assert await look_after(stage) == []


async def test_what_cannot_be_deleted_is_not_tried_at_every_wake(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, tried = os.unlink, 0

    def refuse(name: str, *, dir_fd: int) -> None:
        nonlocal tried
        if name == "stubborn":
            tried += 1
            raise PermissionError(1, "Operation not permitted", name)
        real(name, dir_fd=dir_fd)

    async with at_work(stage):
        monkeypatch.setattr(os, "unlink", refuse)
        (trash_of(stage) / "stubborn").touch()
        for _ in range(3):
            assert await look_after(stage) == ["stubborn"]
        assert tried == 1
        (trash_of(stage) / "other").touch()
        assert await look_after(stage) == ["stubborn"]
        assert tried == 2


async def test_no_chore_that_fails_ends_the_daemon_or_another_chore(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = []

    def break_down(*_: object) -> None:
        raise RecursionError("maximum recursion depth exceeded")

    async def tidy() -> None:
        done.append("tidied")

    monkeypatch.setattr(module, "empty", break_down)
    monkeypatch.setattr(stage.parts.integration, "tidy", tidy)
    async with at_work(stage):
        (trash_of(stage) / "x").mkdir()
        assert await look_after(stage) == ["x"]
    assert done


async def test_three_thousand_nested_folders_are_deleted(stage: Stage) -> None:
    async with at_work(stage):
        (trash_of(stage) / "x").mkdir()
        nest(trash_of(stage) / "x", 3000)
        assert await look_after(stage) == []
