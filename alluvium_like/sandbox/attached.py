"""A program of a person's in a box, on their terminal: for `sandbox shell`, not for the daemon."""

import os
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import anyio.to_thread

from alluvium_like.alongside import alongside
from alluvium_like.sandbox.box import Box
from alluvium_like.sandbox.bubblewrap import enclosed
from alluvium_like.sandbox.calls import opened_filter
from alluvium_like.sandbox.cgroup import Group
from alluvium_like.sandbox.doors import Doors
from alluvium_like.sandbox.egress import OnRefused


async def run_attached(
    box: Box | None,
    argv: Sequence[str],
    cwd: Path,
    environment: Mapping[str, str],
    on_refused: OnRefused,
) -> int:
    """Run a program of a person's in a box, on their terminal; return its exit code.

    Its session is theirs, so that the keys of the terminal reach it. What its files take up on the
    disk is not looked at. Raises OSError.
    """
    if box is None:
        child = subprocess.Popen(argv, cwd=cwd, env=environment)  # noqa: ASYNC220 - see below
        return await _attended(child)
    group = await anyio.to_thread.run_sync(Group.make, box.limits, f"shell-{os.getpid()}")
    try:
        return await _run(box, group, argv, cwd, environment, on_refused)
    finally:
        group.remove()


async def _run(
    box: Box,
    group: Group,
    argv: Sequence[str],
    cwd: Path,
    environment: Mapping[str, str],
    on_refused: OnRefused,
) -> int:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    with ours, theirs, opened_filter() as calls:
        doors = Doors(box, ours, on_refused)
        child = subprocess.Popen(  # noqa: ASYNC220 - of this thread, which lasts, and has no other work
            group.entered(enclosed(box, argv, cwd, theirs.fileno(), doors.ports, calls)),
            cwd=os.sep,
            env={**environment, **box.environment, **doors.environment},
            pass_fds=[each for each in (theirs.fileno(), calls) if each >= 0],
        )
        theirs.close()
        return await alongside(doors.serve, partial(_attended, child))


async def _attended(child: subprocess.Popen[bytes]) -> int:
    """Wait for a program that has the terminal; its interrupts are not for us, our end is its."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        code = await anyio.to_thread.run_sync(child.wait, abandon_on_cancel=True)
    finally:
        child.kill()  # which does nothing to one that has ended
        child.wait()
        signal.signal(signal.SIGINT, before)
    return 128 - code if code < 0 else code
