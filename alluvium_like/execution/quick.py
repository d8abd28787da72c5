"""Short commands of our own (git): run, collected, and ended as a group when they take too long.

Output goes through nameless files in memory: only the end of the process has to be awaited, and
whoever inherited its output cannot delay that. The spawn happens in a thread. Measured against
asyncio's own subprocesses: one command takes as long, twenty at once a quarter less, for two thirds
of our processor time, and the loop is held up for 0.2 ms instead of 0.6 to 2.
"""

import math
import os
import signal
import subprocess
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import anyio
from anyio import to_thread

from alluvium_like.errors import AlluviumError
from alluvium_like.execution.adopt import bury_child, start_child
from alluvium_like.execution.exits import ends_within, until_exit
from alluvium_like.execution.marker import MARKER_VARIABLE, RunMarker
from alluvium_like.execution.scratch import content_of, scratch_file
from alluvium_like.failpoint import step

_LEAVE_SECONDS = 2.0


class CommandTimedOut(AlluviumError, TimeoutError):
    """A short command took longer than it may, and was killed."""

    def __init__(self, argv: list[str], seconds: float) -> None:
        super().__init__(f"{' '.join(argv)} took longer than {seconds:g} s and was killed")
        self.argv = argv


@dataclass(frozen=True, slots=True)
class Completed:
    """A command that ended; `code` is negative for a signal."""

    code: int
    stdout: bytes
    stderr: bytes


async def run_quick(
    argv: list[str],
    *,
    cwd: Path | None,
    environment: dict[str, str],
    stdin: bytes | None = None,
    timeout_seconds: float,
    marker: RunMarker | None,
) -> Completed:
    """Run a command with nothing but `environment` (and the mark) and return what it printed.

    Raises CommandTimedOut, and OSError when it cannot be started. Cancelling kills its group.
    """
    if marker is not None:
        environment = {**environment, MARKER_VARIABLE: str(marker)}
    with ExitStack() as files:
        stdout, stderr = files.enter_context(scratch_file()), files.enter_context(scratch_file())
        source = subprocess.DEVNULL
        if stdin is not None:
            source = files.enter_context(scratch_file(stdin))
        with step("command.spawn"):
            start = partial(start_child, argv, cwd=cwd, environment=environment, stdin=source)
            child = await to_thread.run_sync(partial(start, stdout=stdout, stderr=stderr))
        code = await _until_buried(child, timeout_seconds)
        if code is None:
            raise CommandTimedOut(argv, timeout_seconds)
        return Completed(code, content_of(stdout), content_of(stderr))


async def _until_buried(child: subprocess.Popen[bytes], seconds: float) -> int | None:
    """Return the exit code, None after the deadline; the child is reaped in any case."""
    in_time = False
    try:
        in_time = await ends_within(child, seconds)
    finally:
        if not in_time:
            with anyio.CancelScope(shield=True):
                await _end(child)
        code = bury_child(child)
    return code if in_time else None


async def _end(child: subprocess.Popen[bytes]) -> None:
    """End the group of a child; a git that is asked to takes its lock files away."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, number)
        with anyio.move_on_after(_LEAVE_SECONDS if number is signal.SIGTERM else math.inf):
            await until_exit(child)
