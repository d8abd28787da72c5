"""Waiting for the end of a child without reaping it, so that its pid stays its own until we say."""

import os
import subprocess

import anyio
from anyio import to_thread

from alluvium_like.execution.identity import open_pidfd


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
