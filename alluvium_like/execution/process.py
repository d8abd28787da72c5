"""One supervised run from spawn to burial: its main process and whatever that leaves behind.

Theory of operation: the identity is handed out first, so that it can be stored before anything else
happens. Then one of five things ends the run: the main process exits, the deadline (monotonic)
passes, nothing of it gets on any more, somebody asks for a stop, or the caller is cancelled.
Whichever it is, the same ladder ends every process of the run and the main one is reaped, shielded,
before the caller goes on.
"""

import asyncio
import os
import signal
import subprocess
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import anyio
from anyio import to_thread

from alluvium_like.clock import monotonic
from alluvium_like.execution.adopt import adopted_children, is_subreaper
from alluvium_like.execution.disk import until_too_large
from alluvium_like.execution.exits import ends_within, until_exit
from alluvium_like.execution.identity import ProcessIdentity
from alluvium_like.execution.ladder import end_processes
from alluvium_like.execution.marker import RunMarker
from alluvium_like.execution.output import OnLine, OutputPump
from alluvium_like.execution.run import Run, bury_run, processes_of, start_run
from alluvium_like.execution.scratch import scratch_file
from alluvium_like.execution.stall import until_stalled
from alluvium_like.failpoint import step
from alluvium_like.lifecycle import Ending
from alluvium_like.trouble import trouble_of

_SIGNALLED = 128
_spawner = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spawner")
_SIGNAL_NAMES = {number.value: number.name for number in signal.Signals}


@dataclass(frozen=True, slots=True)
class RunSpec:
    """What to run. `environment` is complete but for the mark; output is appended to its files.

    Each file holds at most `output_limit_bytes`, what is there already counted; one path for both
    merges the two.
    With `stall_seconds` a run ends that neither prints nor works for so long; 0 lets it be.
    `on_line` and `on_error_line` are called for each line, from another thread.
    `inherit`: further descriptors that it has open. `enclosing`: the main process only holds the
    others in a box and ends with them; it is not asked to end, since that would kill them at once.
    A run ends whose files in `disk_folders` take up more than `disk_limit_bytes`; 0 lets it be.
    """

    argv: list[str]
    cwd: Path
    environment: dict[str, str]
    marker: RunMarker
    stdout_path: Path
    stderr_path: Path
    output_limit_bytes: int
    timeout_seconds: float
    grace_seconds: float
    stdin: bytes | None = None
    stall_seconds: float = 0.0
    on_line: OnLine | None = None
    on_error_line: OnLine | None = None
    inherit: tuple[int, ...] = ()
    enclosing: bool = False
    disk_folders: tuple[Path, ...] = ()
    disk_limit_bytes: int = 0


@dataclass(frozen=True, slots=True)
class RunEnd:
    """How a run ended. `exit_code` is negative for a signal, None when nothing was started.

    `survivors`: how many processes a main process that exited by itself left behind; they are gone.
    None can be left of one that encloses the others: they end with it.
    """

    ending: Ending
    exit_code: int | None
    reason: str
    duration_seconds: float
    survivors: int


class StopRequest:
    """The handle by which a run is ended early, from the event loop; the first reason counts."""

    def __init__(self) -> None:
        self.ending: Ending | None = None
        self.requested = anyio.Event()
        self.hurried = anyio.Event()

    def stop(self, ending: Ending, *, now: bool = False) -> None:
        """Ask for the end; with `now`, in a second call too, without any (further) grace."""
        self.ending = self.ending or ending
        self.requested.set()
        if now:
            self.hurried.set()


async def run_supervised(
    spec: RunSpec,
    *,
    on_started: Callable[[ProcessIdentity], Awaitable[None]],
    stop: StopRequest,
) -> RunEnd:
    """Run to the end of every process, and say how it ended.

    `on_started` is awaited right after the spawn; what it raises ends the run and propagates.
    What the system refuses to start is an ending, not an error; OSError is raised where the machine
    is in trouble.
    """
    begun = monotonic()
    if stop.ending is not None:
        return RunEnd(stop.ending, None, "stopped before it was started", 0.0, 0)
    try:
        run, output = await _in_spawner(partial(_start, spec))
    except OSError as error:
        if trouble_of(error):
            raise
        return RunEnd(Ending.NOT_STARTED, None, _refusal(spec, error), monotonic() - begun, 0)
    ending: Ending | None = None
    try:
        await on_started(run.main)
        left = spec.timeout_seconds - (monotonic() - begun)
        ending = await _first_end(run, output, stop, left, spec)
    finally:
        with anyio.CancelScope(shield=True):
            exited = ending is Ending.EXITED
            ended = await _end_all(run, spec, stop.hurried, exited=exited)
            await until_exit(run.child)
            await to_thread.run_sync(output.finish)
            code = bury_run(run)
            if spec.enclosing and code - _SIGNALLED in _SIGNAL_NAMES:  # told as shells do
                code = _SIGNALLED - code
    left_behind = ended if exited and not spec.enclosing else 0
    return RunEnd(ending, code, _reason(ending, code, spec), monotonic() - begun, left_behind)


async def _in_spawner(start: Callable[[], tuple[Run, OutputPump]]) -> tuple[Run, OutputPump]:
    """Start a run in the one thread that lasts as long as we do.

    A box ends when the thread that started it does; those of a pool come and go.
    """
    begun = asyncio.get_running_loop().run_in_executor(_spawner, start)
    with anyio.CancelScope(shield=True):  # what was started must be waited for
        await asyncio.wait([begun])
    return begun.result()


def _start(spec: RunSpec) -> tuple[Run, OutputPump]:
    output = OutputPump(
        spec.stdout_path,
        spec.stderr_path,
        spec.output_limit_bytes,
        on_line=spec.on_line,
        on_error_line=spec.on_error_line,
    )
    with ExitStack() as stack:
        abandon = stack.enter_context(ExitStack())
        abandon.callback(output.finish)
        stack.callback(output.hand_over)
        stdin = subprocess.DEVNULL
        if spec.stdin is not None:
            stdin = stack.enter_context(scratch_file(spec.stdin))
        with step(f"{spec.marker.kind}.spawn"):
            run = start_run(
                spec.argv,
                marker=spec.marker,
                cwd=spec.cwd,
                environment=spec.environment,
                stdin=stdin,
                stdout=output.stdout,
                stderr=output.stderr,
                inherit=spec.inherit,
            )
        abandon.pop_all()
    return run, output


async def _first_end(
    run: Run, output: OutputPump, stop: StopRequest, seconds: float, spec: RunSpec
) -> Ending:
    ending = Ending.TIMED_OUT
    async with anyio.create_task_group() as tasks:

        async def watch(until: Callable[[], Awaitable[object]], then: Ending) -> None:
            nonlocal ending
            await until()
            ending = stop.ending or then
            tasks.cancel_scope.cancel()

        tasks.start_soon(watch, stop.requested.wait, ending)
        if spec.stall_seconds:
            stalled = partial(until_stalled, run, output, spec.stall_seconds)
            tasks.start_soon(watch, stalled, Ending.STALLED)
        if spec.disk_limit_bytes:
            too_large = partial(
                until_too_large,
                spec.disk_folders,
                spec.disk_limit_bytes,
                partial(processes_of, run),
            )
            tasks.start_soon(watch, too_large, Ending.BUDGET)
        if await ends_within(run.child, seconds):
            ending = Ending.EXITED
        tasks.cancel_scope.cancel()
    return ending


async def _end_all(run: Run, spec: RunSpec, hurry: anyio.Event, *, exited: bool) -> int:
    run.ending = True
    if exited and is_subreaper() and not await to_thread.run_sync(adopted_children):
        return 0
    spared = {run.main} if spec.enclosing else frozenset[ProcessIdentity]()
    ended = await end_processes(
        partial(processes_of, run), spec.grace_seconds, hurry=hurry, spared=spared
    )
    await to_thread.run_sync(adopted_children)  # reaps those of them that we had inherited
    return ended


def _reason(ending: Ending, code: int, spec: RunSpec) -> str:
    if ending is Ending.TIMED_OUT:
        return f"ran longer than {spec.timeout_seconds:g} s"
    if ending is Ending.STALLED:
        return f"neither printed nor worked for {spec.stall_seconds:g} s"
    if ending is Ending.BUDGET and spec.disk_limit_bytes:
        return f"its files take up more than {spec.disk_limit_bytes:_} bytes"
    if ending is not Ending.EXITED:
        return f"stopped: {ending}"
    if code < 0:
        return f"ended by {_SIGNAL_NAMES.get(-code, f'signal {-code}')}"
    return f"exited with {code}"


def _refusal(spec: RunSpec, error: OSError) -> str:
    command = spec.argv[0] if spec.argv else "nothing"
    about = error.filename
    where = "" if about in (None, command) else f" ({os.fsdecode(about)})"
    return f"cannot start {command}: {error.strerror or error}{where}"
