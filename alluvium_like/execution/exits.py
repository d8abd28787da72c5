"""Waiting for the end of a child without reaping it, so that its pid stays its own until we say."""

import os
import subprocess
from typing import Final

import anyio
from anyio import to_thread

from alluvium_like.execution.identity import open_pidfd

_SLICE_SECONDS: Final = 1.0


async def until_exit(child: subprocess.Popen[bytes]) -> None:
    """Return once `child` has ended; it is reaped only where there are no process descriptors."""
    if child.returncode is not None:
        return
    pidfd = open_pidfd(child.pid)
    if pidfd is None:
        await to_thread.run_sync(child.wait, abandon_on_cancel=True)
        return
    try:
        await anyio.wait_readable(pidfd)
    finally:
        os.close(pidfd)


async def ends_within(child: subprocess.Popen[bytes], seconds: float) -> bool:
    """Tell whether `child` ends in time, not counting time in which we could not see it.

    It was stopped then too, or got more time than it may; the other way it would be killed for a
    suspended machine or a paused container.
    """
    ended = False
    async with anyio.create_task_group() as tasks:

        async def give_up() -> None:
            await sleep_awake(seconds)
            tasks.cancel_scope.cancel()

        tasks.start_soon(give_up)
        await until_exit(child)
        ended = True
        tasks.cancel_scope.cancel()
    return ended


async def sleep_awake(seconds: float) -> None:
    """Sleep for so long, not counting time in which this process did not run, but for a second.

    Even monotonic time may run on while we do not (a stopped process, a frozen container).
    """
    left = seconds
    while left > 0:
        part = min(left, _SLICE_SECONDS)
        await anyio.sleep(part)
        left -= part
