"""Runs side by side: each ends its own processes, none harms another's, and none is forgotten."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
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
        end = await run(self.spec, self.keep_main, self.stop)
        self.survivors = end.survivors
        self.ended.set()

    async def keep_main(self, main: ProcessIdentity) -> None:
        self.main = main

    async def main_gone(self) -> None:
        pidfd = os.pidfd_open(self.main.pid)
        await anyio.wait_readable(pidfd)
        os.close(pidfd)

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


async def test_the_grace_of_one_run_is_not_cut_short_by_another(tmp_path: Path) -> None:
    one, two = Actor(tmp_path, 1, "marked"), Actor(tmp_path, 2, "marked")
    one.spec = replace(one.spec, grace_seconds=60.0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one.play)
        tasks.start_soon(two.play)
        await one.stand()
        await two.stand()
        one.stop.stop(Ending.SHUTDOWN)
        await one.main_gone()
        two.stop.stop(Ending.SHUTDOWN, now=True)
        await two.ended.wait()
        assert await lives(one.seen + two.seen) == [True, False]
        one.stop.stop(Ending.SHUTDOWN, now=True)
    assert await lives(one.seen) == [False]


async def test_short_commands_are_not_harmed_by_a_run_that_ends(tmp_path: Path) -> None:
    codes: list[int] = []
    ready, gate = tmp_path / "ready", tmp_path / "gate"
    os.mkfifo(ready)
    os.mkfifo(gate)

    async def command() -> None:
        argv = ["/bin/sh", "-c", f"echo ready >{ready}; read line <{gate}; sh -c 'exit 5'"]
        environment = {"PATH": os.defpath}
        done = await run_quick(
            argv, cwd=None, environment=environment, timeout_seconds=30, marker=None
        )
        codes.append(done.code)

    actor = Actor(tmp_path, 1, "unmarked")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(actor.play)
        await actor.stand()
        tasks.start_soon(command)
        await anyio.Path(ready).read_text()
        await actor.let_go()
        await anyio.Path(gate).write_text("go\n")
    assert codes == [5]
    assert actor.survivors == 1
