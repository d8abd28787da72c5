"""One supervised run against real processes: how it ends, what it leaves, what it prints."""

import os
import resource
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from anyio import to_thread
from blockbuster import blockbuster_ctx

from alluvium_like.execution.adopt import adopted_children, become_subreaper, reap_orphans
from alluvium_like.execution.identity import ProcessIdentity, identity_of, is_alive
from alluvium_like.execution.marker import MARKER_VARIABLE, RunKind, RunMarker
from alluvium_like.execution.process import RunEnd, RunSpec, StopRequest, run_supervised
from alluvium_like.execution.table import read_row
from alluvium_like.lifecycle import Ending

OnStarted = Callable[[ProcessIdentity], Awaitable[None]]

PRELUDE = """
import os, signal, sys, time
def report():
    with open(sys.argv[1], "w") as fifo:
        print(os.getpid(), file=fifo)
def linger():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    report()
    while True:
        time.sleep(60)
def detached(act):
    for _ in range(2):
        if os.fork():
            os._exit(0) if os.getpid() != MAIN else os.wait()
            return
        os.setsid()
    act()
MAIN = os.getpid()
def bare():
    os.execve(sys.executable, [sys.executable, "-S", "-c", SELF + "linger()", sys.argv[1]], {})
"""


@pytest.fixture(autouse=True)
def _daemon_like() -> Iterator[None]:
    become_subreaper()
    with blockbuster_ctx("alluvium_like"):
        yield


class Reports:
    """Pids that processes of a run tell through a FIFO, as soon as they stand."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / f"reports-{time.monotonic_ns()}"
        os.mkfifo(self.path)
        self._fd = os.open(self.path, os.O_RDWR | os.O_NONBLOCK)
        self._text = b""

    async def pid(self) -> int:
        while b"\n" not in self._text:
            await anyio.wait_readable(self._fd)
            self._text += os.read(self._fd, 4096)
        line, _, self._text = self._text.partition(b"\n")
        return int(line)

    async def next(self) -> ProcessIdentity:
        found = await to_thread.run_sync(identity_of, await self.pid())
        assert found is not None
        return found


async def nothing(_: ProcessIdentity) -> None:
    pass


async def lives(identities: list[ProcessIdentity]) -> list[bool]:
    return await to_thread.run_sync(lambda: [is_alive(identity) for identity in identities])


def script(text: str, reports: Reports | None = None) -> list[str]:
    source = f"SELF = {PRELUDE!r}\n{PRELUDE}\n{text}"
    return [sys.executable, "-S", "-c", source, str(reports.path if reports else "")]


def make_spec(folder: Path, argv: list[str], *, number: int = 1, **changes: object) -> RunSpec:
    spec = RunSpec(
        argv=argv,
        cwd=folder,
        environment={"PATH": os.defpath},
        marker=RunMarker(uuid.uuid4().hex, RunKind.ATTEMPT, folder.name, number),
        stdout_path=folder / f"stdout-{number}.log",
        stderr_path=folder / f"stderr-{number}.log",
        output_limit_bytes=1_000_000,
        timeout_seconds=30.0,
        grace_seconds=0.2,
    )
    return replace(spec, **changes)  # type: ignore[arg-type]


async def run(
    spec: RunSpec, on_started: OnStarted = nothing, stop: StopRequest | None = None
) -> RunEnd:
    return await run_supervised(spec, on_started=on_started, stop=stop or StopRequest())


async def test_environment_is_complete_and_carries_the_mark(tmp_path: Path) -> None:
    spec = make_spec(tmp_path, ["/usr/bin/env"], environment={"ONLY": "this"})
    end = await run(spec)
    assert (end.ending, end.exit_code, end.survivors) == (Ending.EXITED, 0, 0)
    lines = spec.stdout_path.read_text().splitlines()
    assert sorted(lines) == [f"{MARKER_VARIABLE}={spec.marker}", "ONLY=this"]


async def test_a_signal_is_a_negative_code(tmp_path: Path) -> None:
    end = await run(make_spec(tmp_path, ["sh", "-c", "kill -ABRT $$"]))
    assert (end.ending, end.exit_code, end.reason) == (Ending.EXITED, -6, "ended by SIGABRT")


async def test_the_deadline_lets_a_process_say_goodbye(tmp_path: Path) -> None:
    reports = Reports(tmp_path)
    spec = make_spec(
        tmp_path,
        script(
            "signal.signal(15, lambda *_: (print('bye'), sys.exit(0)))\nreport()\ntime.sleep(60)",
            reports,
        ),
        timeout_seconds=0.01,
        grace_seconds=20.0,
    )
    end = await run(spec, on_started=lambda _: until(reports))
    assert (end.ending, end.exit_code) == (Ending.TIMED_OUT, 0)
    assert end.reason == "ran longer than 0.01 s"
    assert end.duration_seconds < 10
    assert spec.stdout_path.read_text() == "bye\n"


async def until(
    reports: Reports, count: int = 1, into: list[ProcessIdentity] | None = None
) -> None:
    for _ in range(count):
        found = await reports.next()
        if into is not None:
            into.append(found)


STUBBORN = {
    "ignores TERM": ("linger()", 1),
    "setsid twice": ("detached(linger)\ntime.sleep(60)", 1),
    "cleared environment": ("detached(bare)\ntime.sleep(60)", 1),
    "tree": ("for _ in range(3): os.fork()\nlinger()", 8),
    "main thread gone": (
        "import ctypes, threading\nthreading.Thread(target=report).start()\n"
        "threading.Thread(target=time.sleep, args=(60,)).start()\n"
        "signal.signal(15, signal.SIG_IGN)\nctypes.CDLL(None).pthread_exit(None)",
        1,
    ),
}


@pytest.mark.parametrize("kind", STUBBORN)
async def test_the_deadline_ends_every_process(tmp_path: Path, kind: str) -> None:
    text, count = STUBBORN[kind]
    reports, seen = Reports(tmp_path), list[ProcessIdentity]()
    spec = make_spec(tmp_path, script(text, reports), timeout_seconds=0.01)
    end = await run(spec, on_started=lambda _: until(reports, count, seen))
    assert end.ending is Ending.TIMED_OUT
    assert len(seen) == count
    assert await lives(seen) == [False] * count
    assert await to_thread.run_sync(adopted_children) == []


SURVIVING = {
    "child in the group": "os.fork() or linger()\n",
    "setsid twice": "detached(linger)\n",
    "cleared environment": "detached(bare)\n",
}


@pytest.mark.parametrize("kind", SURVIVING)
async def test_what_outlives_a_normal_exit_is_ended(tmp_path: Path, kind: str) -> None:
    """The survivor holds standard output open, which must not delay the end either."""
    reports, gate = Reports(tmp_path), tmp_path / "gate"
    os.mkfifo(gate)
    spec = make_spec(tmp_path, script(SURVIVING[kind] + f"open({str(gate)!r}).read()", reports))
    seen: list[ProcessIdentity] = []

    async def let_go(_: ProcessIdentity) -> None:
        await until(reports, 1, seen)
        await anyio.Path(gate).write_text("go")

    end = await run(spec, on_started=let_go)
    assert (end.ending, end.exit_code, end.survivors) == (Ending.EXITED, 0, 1)
    assert end.duration_seconds < 10
    assert await lives(seen) == [False]
    assert await to_thread.run_sync(adopted_children) == []


@pytest.mark.parametrize("ending", [Ending.SHUTDOWN, Ending.CANCELLED])
async def test_a_stop_ends_the_run_for_the_given_reason(tmp_path: Path, ending: Ending) -> None:
    reports, stop, seen = Reports(tmp_path), StopRequest(), list[ProcessIdentity]()

    async def stop_it(_: ProcessIdentity) -> None:
        await until(reports, 1, seen)
        stop.stop(ending)
        stop.stop(Ending.SHUTDOWN)

    end = await run(make_spec(tmp_path, script("linger()", reports)), stop_it, stop)
    assert (end.ending, end.exit_code) == (ending, -9)
    assert await lives(seen) == [False]


@pytest.mark.parametrize("in_grace", [False, True])
async def test_a_hurried_stop_waits_for_no_grace(tmp_path: Path, in_grace: bool) -> None:
    reports, stop = Reports(tmp_path), StopRequest()
    text = "signal.signal(15, lambda *_: report())\nreport()\nwhile True: time.sleep(60)"
    spec = make_spec(tmp_path, script(text, reports), grace_seconds=60.0)

    async def stopper() -> None:
        await until(reports)
        stop.stop(Ending.SHUTDOWN, now=not in_grace)
        if in_grace:
            await until(reports)  # TERM has arrived
            stop.stop(Ending.SHUTDOWN, now=True)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stopper)
        end = await run(spec, stop=stop)
    assert (end.ending, end.exit_code) == (Ending.SHUTDOWN, -9)
    assert end.duration_seconds < 10


async def test_a_stop_before_the_start_starts_nothing(tmp_path: Path) -> None:
    stop = StopRequest()
    stop.stop(Ending.SHUTDOWN)
    spec = make_spec(tmp_path, ["touch", "started"])
    end = await run(spec, stop=stop)
    assert (end.ending, end.exit_code) == (Ending.SHUTDOWN, None)
    assert not (tmp_path / "started").exists()


async def test_cancellation_ends_and_reaps(tmp_path: Path) -> None:
    reports, seen = Reports(tmp_path), list[ProcessIdentity]()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run, make_spec(tmp_path, script("os.fork()\nlinger()", reports)))
        await until(reports, 2, seen)
        tasks.cancel_scope.cancel()
    assert [await to_thread.run_sync(read_row, identity.pid) for identity in seen] == [None, None]


async def test_what_on_started_raises_propagates_after_the_process_ended(tmp_path: Path) -> None:
    started: list[ProcessIdentity] = []

    async def refuse(identity: ProcessIdentity) -> None:
        started.append(identity)
        raise LookupError("the store is gone")

    with pytest.raises(LookupError, match="the store is gone"):
        await run(make_spec(tmp_path, ["sleep", "60"]), on_started=refuse)
    assert await to_thread.run_sync(read_row, started[0].pid) is None


async def test_what_cannot_be_started_says_why(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("not a program")
    plain.chmod(0o644)
    missing = tmp_path / "gone"
    spec = make_spec(tmp_path, ["no-such-command-at-all"])
    cases = {
        "cannot start no-such-command-at-all: No such file or directory": spec,
        f"cannot start {plain}: Permission denied": replace(spec, argv=[str(plain)]),
        f"cannot start true: No such file or directory ({missing})": replace(
            spec, argv=["true"], cwd=missing
        ),
        "cannot start true: Argument list too long": replace(spec, argv=["true", "x" * 5_000_000]),
    }
    for reason, case in cases.items():
        end = await run(case)
        assert (end.ending, end.exit_code) == (Ending.NOT_STARTED, None)
        assert end.reason == reason


async def test_running_out_of_descriptors_is_the_machines_trouble_and_no_ending(
    tmp_path: Path,
) -> None:
    spec = make_spec(tmp_path, ["true"])
    await run(spec)  # the worker threads stand now
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    os.close(first_free := os.dup(0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (first_free, hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            await run(spec)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_runs_leave_no_descriptor_behind(tmp_path: Path) -> None:
    descriptors = Path("/proc/self/fd")
    await run(make_spec(tmp_path, ["true"]))
    before = len([*descriptors.iterdir()])
    for argv in (["true"], ["no-such-command-at-all"], ["sh", "-c", "sleep 60 &"]):
        await run(make_spec(tmp_path, argv, stdin=b"x"))
    assert len([*descriptors.iterdir()]) == before


async def test_inherited_children_are_reaped_while_the_run_goes_on(tmp_path: Path) -> None:
    reports, stop = Reports(tmp_path), StopRequest()
    text = "detached(lambda: (report(), os._exit(0)))\ntime.sleep(60)"
    spec = make_spec(tmp_path, script(text, reports))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(reap_orphans)
        tasks.start_soon(run, spec, nothing, stop)
        orphan = await reports.pid()
        with anyio.fail_after(10):
            while await to_thread.run_sync(read_row, orphan):  # noqa: ASYNC110 - nothing tells it
                await anyio.sleep(0.005)
        stop.stop(Ending.CANCELLED)
        tasks.cancel_scope.cancel()
