"""One supervised run from spawn to burial: its main process and whatever that leaves behind.

Theory of operation: the identity is handed out first, so that it can be stored before anything else
happens. Then one of five things ends the run: the main process exits, the deadline (monotonic)
passes, nothing of it gets on any more, somebody asks for a stop, or the caller is cancelled.
Whichever it is, the same ladder ends every process of the run and the main one is reaped, shielded,
before the caller goes on.
"""

import os
import signal
import subprocess
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import anyio
from anyio import to_thread

from alluvium_like.clock import monotonic
from alluvium_like.execution.adopt import adopted_children, is_subreaper
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

_SIGNAL_NAMES = {number.value: number.name for number in signal.Signals}


@dataclass(frozen=True, slots=True)
class RunSpec:
    """What to run. `environment` is complete but for the mark; output is appended to its files.

    Each file holds at most `output_limit_bytes`, what is there already counted; one path for both
    merges the two.
    With `stall_seconds` a run ends that neither prints nor works for so long; 0 lets it be.
    `on_line` and `on_error_line` are called for each line, from another thread.
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


@dataclass(frozen=True, slots=True)
class RunEnd:
    """How a run ended. `exit_code` is negative for a signal, None when nothing was started.

    `survivors`: how many processes a main process that exited by itself left behind; they are gone.
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
        run, output = await to_thread.run_sync(_start, spec)
    except OSError as error:
        if trouble_of(error):
            raise
        return RunEnd(Ending.NOT_STARTED, None, _refusal(spec, error), monotonic() - begun, 0)
    ending: Ending | None = None
    try:
        await on_started(run.main)
        left = spec.timeout_seconds - (monotonic() - begun)
        ending = await _first_end(run, output, stop, left, spec.stall_seconds)
    finally:
        with anyio.CancelScope(shield=True):
            exited = ending is Ending.EXITED
            ended = await _end_all(run, spec.grace_seconds, stop.hurried, exited=exited)
            await until_exit(run.child)
            await to_thread.run_sync(output.finish)
            code = bury_run(run)
    return RunEnd(
        ending, code, _reason(ending, code, spec), monotonic() - begun, ended if exited else 0
    )


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
            )
        abandon.pop_all()
    return run, output


async def _first_end(
    run: Run, output: OutputPump, stop: StopRequest, seconds: float, stall_seconds: float
) -> Ending:
    ending = Ending.TIMED_OUT
    async with anyio.create_task_group() as tasks:

        async def watch() -> None:
            nonlocal ending
            await stop.requested.wait()
            ending = stop.ending or ending
            tasks.cancel_scope.cancel()

        async def watch_progress() -> None:
            nonlocal ending
            await until_stalled(run, output, stall_seconds)
            ending = Ending.STALLED
            tasks.cancel_scope.cancel()

        tasks.start_soon(watch)
        if stall_seconds:
            tasks.start_soon(watch_progress)
        if await ends_within(run.child, seconds):
            ending = Ending.EXITED
        tasks.cancel_scope.cancel()
    return ending


async def _end_all(run: Run, grace_seconds: float, hurry: anyio.Event, *, exited: bool) -> int:
    run.ending = True
    if exited and is_subreaper() and not await to_thread.run_sync(adopted_children):
        return 0
    ended = await end_processes(partial(processes_of, run), grace_seconds, hurry=hurry)
    await to_thread.run_sync(adopted_children)  # reaps those of them that we had inherited
    return ended


def _reason(ending: Ending, code: int, spec: RunSpec) -> str:
    if ending is Ending.TIMED_OUT:
        return f"ran longer than {spec.timeout_seconds:g} s"
    if ending is Ending.STALLED:
        return f"neither printed nor worked for {spec.stall_seconds:g} s"
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
