"""One run in a box, from outside: the box is made, its doors are served, and how it ended is told.

Where there is no box it is run as it is: the one way for both. The helper in the box sends its
listening sockets and then becomes the program; what keeps the box or the program from starting is
an ending as everywhere, and never a run without the box.
"""

import os
import socket
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread

from alluvium_like.alongside import alongside
from alluvium_like.errors import reason_of
from alluvium_like.execution.identity import ProcessIdentity
from alluvium_like.execution.output import last_line
from alluvium_like.execution.process import RunEnd, RunSpec, StopRequest, run_supervised
from alluvium_like.lifecycle import Ending
from alluvium_like.sandbox.box import Box
from alluvium_like.sandbox.bubblewrap import enclosed
from alluvium_like.sandbox.calls import opened_filter
from alluvium_like.sandbox.cgroup import Group
from alluvium_like.sandbox.doors import Doors
from alluvium_like.sandbox.egress import OnRefused

OnStarted = Callable[[ProcessIdentity], Awaitable[None]]


async def run_in_box(
    spec: RunSpec,
    box: Box | None,
    *,
    on_started: OnStarted,
    stop: StopRequest,
    on_refused: OnRefused,
) -> RunEnd:
    """Run to the end of every process, in `box` where there is one; see `run_supervised`.

    `on_refused` is told of each host and port that was refused, once.
    """
    if box is None:
        return await run_supervised(spec, on_started=on_started, stop=stop)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    with ours, theirs, opened_filter() as calls:
        doors = Doors(box, ours, on_refused)
        try:
            group = await anyio.to_thread.run_sync(Group.make, box.limits, str(spec.marker))
        except OSError as error:
            reason = f"its box could not be made: {reason_of(error)}"
            return RunEnd(Ending.NOT_STARTED, None, reason, 0.0, 0)
        try:
            argv = await anyio.to_thread.run_sync(
                enclosed, box, spec.argv, spec.cwd, theirs.fileno(), doors.ports, calls
            )
            spec = replace(
                spec,
                argv=group.entered(argv),
                cwd=Path(os.sep),  # not where what makes the box could find what an agent wrote
                environment={**spec.environment, **box.environment, **doors.environment},
                inherit=tuple(each for each in (theirs.fileno(), calls) if each >= 0),
                enclosing=True,
            )
            end = await _run(spec, doors, theirs, on_started, stop)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(group.remove)
        if end.ending is not Ending.EXITED or not end.exit_code:
            return doors.judged(end, "")
        return doors.judged(end, await anyio.to_thread.run_sync(last_line, spec.stderr_path))


async def _run(
    spec: RunSpec,
    doors: Doors,
    theirs: socket.socket,
    on_started: OnStarted,
    stop: StopRequest,
) -> RunEnd:
    async def started(identity: ProcessIdentity) -> None:
        theirs.close()  # now only the box has it: its end is told
        await on_started(identity)

    return await alongside(
        doors.serve, partial(run_supervised, spec, on_started=started, stop=stop)
    )
