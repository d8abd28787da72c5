"""One run in a box, from outside: the box is made, its doors are served, and how it ended is told.

Where there is no box it is run as it is: the one way for both. The helper in the box sends its
listening sockets and then becomes the program; what keeps the box or the program from starting is
an ending as everywhere, and never a run without the box.
"""

import signal
import socket
import subprocess
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread

from alluvium_like.config.hosts import parse_host
from alluvium_like.execution.identity import ProcessIdentity
from alluvium_like.execution.process import RunEnd, RunSpec, StopRequest, run_supervised
from alluvium_like.lifecycle import Ending
from alluvium_like.sandbox import inside
from alluvium_like.sandbox.box import Box
from alluvium_like.sandbox.bubblewrap import enclosed
from alluvium_like.sandbox.cgroup import Group
from alluvium_like.sandbox.egress import Egress, OnRefused

OnStarted = Callable[[ProcessIdentity], Awaitable[None]]
_MESSAGE_BYTES: Final = 4096
_MOST_DOORS: Final = 64
_PROXY_PORT: Final = 3128


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
    with ExitStack() as opened:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        opened.callback(ours.close)
        opened.callback(theirs.close)
        doors = _Doors(box, ours, on_refused)
        group = await anyio.to_thread.run_sync(Group.make, box.limits, str(spec.marker))
        try:
            argv = await anyio.to_thread.run_sync(
                enclosed, box, spec.argv, spec.cwd, theirs.fileno(), doors.ports
            )
            spec = replace(
                spec,
                argv=group.entered(argv),
                environment={**spec.environment, **box.environment, **doors.environment},
                inherit=(theirs.fileno(),),
                enclosing=True,
            )
            end = await _run(spec, doors, theirs, on_started, stop)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(group.remove)
        return doors.judged(end)


async def run_attached(
    box: Box | None,
    argv: Sequence[str],
    cwd: Path,
    environment: Mapping[str, str],
    on_refused: OnRefused,
) -> int:
    """Run a program of a person's in a box, on their terminal; return its exit code.

    Its session is theirs, so that the keys of the terminal reach it. Raises OSError.
    """
    if box is None:
        child = subprocess.Popen(argv, cwd=cwd, env=environment)  # noqa: ASYNC220 - see below
        return await _attended(child)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    with ours, theirs:
        doors = _Doors(box, ours, on_refused)
        child = subprocess.Popen(  # noqa: ASYNC220 - of this thread, which lasts, and has no other work
            enclosed(box, argv, cwd, theirs.fileno(), doors.ports),
            env={**environment, **box.environment, **doors.environment},
            pass_fds=[theirs.fileno()],
        )
        theirs.close()
        async with anyio.create_task_group() as serving:
            serving.start_soon(doors.serve)
            code = await _attended(child)
            serving.cancel_scope.cancel()
    return code


async def _attended(child: subprocess.Popen[bytes]) -> int:
    """Wait for a program that has the terminal; its interrupts are not for us."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        code = await anyio.to_thread.run_sync(child.wait)
    finally:
        signal.signal(signal.SIGINT, before)
    return 128 - code if code < 0 else code


async def _run(
    spec: RunSpec,
    doors: "_Doors",
    theirs: socket.socket,
    on_started: OnStarted,
    stop: StopRequest,
) -> RunEnd:
    error: Exception | None = None

    async def started(identity: ProcessIdentity) -> None:
        theirs.close()  # now only the box has it: its end is told
        await on_started(identity)

    async with anyio.create_task_group() as serving:
        serving.start_soon(doors.serve)
        try:
            end = await run_supervised(spec, on_started=started, stop=stop)
        except Exception as found:  # noqa: BLE001  raised below: a task group would wrap it
            error = found
        serving.cancel_scope.cancel()
    if error is not None:
        raise error
    return end


class _Doors:
    """What of the machine's network a box reaches, and what its helper told."""

    def __init__(self, box: Box, report: socket.socket, on_refused: OnRefused) -> None:
        hosts = [parse_host(text) for text in box.hosts] if box.network == "allow" else []
        self._egress = Egress(hosts, on_refused)
        self._report = report
        self._allow = box.network == "allow"
        self._forwarded = {host.port: host for host in hosts if host.is_loopback and host.port}
        self.proxy_port = next(port for port in count(_PROXY_PORT) if port not in self._forwarded)
        self._ready = False
        self._refusal = ""

    @property
    def ports(self) -> tuple[int, ...]:
        """The ports of the box's own loopback that are served."""
        return (self.proxy_port, *self._forwarded) if self._allow else ()

    @property
    def environment(self) -> dict[str, str]:
        """What tells programs of the proxy."""
        if not self._allow:
            return {}
        proxy = f"http://127.0.0.1:{self.proxy_port}"
        names = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
        told = dict.fromkeys((*names, *map(str.lower, names)), proxy)
        return told | dict.fromkeys(("NO_PROXY", "no_proxy"), "localhost,127.0.0.1,::1")

    async def serve(self) -> None:
        """Wait for the helper, and serve its sockets until cancelled."""
        async with anyio.create_task_group() as group:
            while True:
                await anyio.wait_readable(self._report)
                data, found, _, _ = socket.recv_fds(self._report, _MESSAGE_BYTES, _MOST_DOORS)
                sockets = [socket.socket(fileno=each) for each in found]
                if data.startswith(inside.READY):
                    self._ready = True
                    opened = map(int, data.removeprefix(inside.READY).split())
                    doors = dict(zip(opened, sockets, strict=True))
                    if proxy := doors.pop(self.proxy_port, None):
                        forwards = {self._forwarded[port]: door for port, door in doors.items()}
                        group.start_soon(self._egress.serve, proxy, forwards)
                elif data:
                    self._refusal = data.decode(errors="replace")
                else:  # the program runs, or there is none
                    return

    def judged(self, end: RunEnd) -> RunEnd:
        """Return the end of a run as it would be told without a box."""
        if end.ending is not Ending.EXITED or (self._ready and not self._refusal):
            return end
        reason = self._refusal or "its box could not be made; stderr says why"
        return replace(end, ending=Ending.NOT_STARTED, exit_code=None, reason=reason)
