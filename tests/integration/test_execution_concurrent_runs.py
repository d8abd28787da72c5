"""Runs side by side: each ends its own processes, none harms another's, and none is forgotten."""

import os
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from anyio import to_thread
from test_execution_runs import Reports, lives, make_spec, run, script, until
from test_execution_runs import _daemon_like as _daemon_like

from alluvium_like.execution.adopt import adopted_children
from alluvium_like.execution.identity import ProcessIdentity
from alluvium_like.execution.process import RunSpec, StopRequest
from alluvium_like.execution.quick import run_quick
from alluvium_like.lifecycle import Ending

DETACHED = {"marked": "detached(linger)\n", "unmarked": "detached(bare)\n"}


class Actor:
    """A run with one detached process, which holds its main process until it is let go."""

    def __init__(self, folder: Path, number: int, detached: str) -> None:
        self.reports = Reports(folder)
        self.gate = folder / f"gate-{number}"
        os.mkfifo(self.gate)
        text = DETACHED.get(detached, "report()\n") + f"open({str(self.gate)!r}).read()"
        self.spec: RunSpec = make_spec(folder, script(text, self.reports), number=number)
        self.stop = StopRequest()
        self.ended = anyio.Event()
        self.survivors = -1
        self.seen: list[ProcessIdentity] = []

    async def play(self) -> None:
        end = await run(self.spec, stop=self.stop)
        self.survivors = end.survivors
        self.ended.set()

    async def stand(self) -> None:
        await until(self.reports, 1, self.seen)

    async def let_go(self) -> None:
        await anyio.Path(self.gate).write_text("go")
        await self.ended.wait()


@pytest.fixture
def _all_reaped() -> Iterator[None]:
    yield
    assert adopted_children() == []


pytestmark = pytest.mark.usefixtures("_all_reaped")


async def test_each_run_ends_its_own_marked_processes(tmp_path: Path) -> None:
    one, two = Actor(tmp_path, 1, "marked"), Actor(tmp_path, 11, "marked")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one.play)
        tasks.start_soon(two.play)
        await one.stand()
        await two.stand()
        await one.let_go()
        assert await lives(one.seen + two.seen) == [False, True]
        await two.let_go()
    assert await lives(two.seen) == [False]
    assert (one.survivors, two.survivors) == (1, 1)


async def test_what_two_runs_can_have_started_goes_with_the_last(tmp_path: Path) -> None:
    one, two = Actor(tmp_path, 1, "unmarked"), Actor(tmp_path, 2, "none")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(two.play)
        await two.stand()
        tasks.start_soon(one.play)
        await one.stand()
        await one.let_go()
        assert await lives(one.seen) == [True]
        await two.let_go()
    assert await lives(one.seen) == [False]
    assert (one.survivors, two.survivors) == (0, 1)


async def test_a_later_run_cannot_have_started_it(tmp_path: Path) -> None:
    one, later = Actor(tmp_path, 1, "unmarked"), Actor(tmp_path, 2, "none")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one.play)
        await one.stand()
        await anyio.sleep(0.02)  # starts are told apart by the tick of the clock
        tasks.start_soon(later.play)
        await later.stand()
        await one.let_go()
        assert await lives(one.seen + later.seen) == [False, True]
        await later.let_go()
    assert (one.survivors, later.survivors) == (1, 0)


async def test_runs_that_end_together_leave_nothing_between_them(tmp_path: Path) -> None:
    actors = [Actor(tmp_path, number, "unmarked") for number in range(3)]
    async with anyio.create_task_group() as tasks:
        for actor in actors:
            tasks.start_soon(actor.play)
        for actor in actors:
            await actor.stand()
        for actor in actors:
            actor.stop.stop(Ending.SHUTDOWN)
    seen = [identity for actor in actors for identity in actor.seen]
    assert await lives(seen) == [False] * 3


async def test_short_commands_are_not_harmed_by_runs_that_end(tmp_path: Path) -> None:
    codes: list[int] = []

    async def commands() -> None:
        for _ in range(5):
            argv = ["sh", "-c", "sh -c 'env -i true'; true"]
            done = await run_quick(argv, cwd=None, environment={}, timeout_seconds=30, marker=None)
            codes.append(done.code)

    async with anyio.create_task_group() as tasks:
        for number in range(4):
            actor = Actor(tmp_path, number, "unmarked")
            tasks.start_soon(actor.play)
            tasks.start_soon(commands)
            await actor.stand()
            tasks.start_soon(actor.let_go)
    assert codes == [0] * 20
    assert await to_thread.run_sync(adopted_children) == []
