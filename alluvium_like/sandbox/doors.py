"""The way out of one box: what its helper tells, and the sockets that it opened inside.

The helper sends one message when it is there, with a listening socket for the proxy and for each
endpoint of the machine that may be reached; a second one says why the program could not be run.
"""

import socket
from contextlib import suppress
from dataclasses import replace
from itertools import count
from typing import Final

import anyio

from alluvium_like.config.hosts import parse_host
from alluvium_like.execution.process import RunEnd
from alluvium_like.lifecycle import Ending
from alluvium_like.sandbox import inside
from alluvium_like.sandbox.box import Box
from alluvium_like.sandbox.egress import Egress, OnRefused

_MESSAGE_BYTES: Final = 4096
_MOST_DOORS: Final = 253  # the kernel lets no more be handed out at once
_PROXY_PORT: Final = 3128
_NOT_OPENED: Final = "a port below 1024 cannot be opened in a box: let it listen on another one"


class Doors:
    """What of the machine's network a box reaches, and what its helper told."""

    def __init__(self, box: Box, report: socket.socket, on_refused: OnRefused) -> None:
        hosts = [parse_host(text) for text in box.hosts] if box.network == "allow" else []
        self._egress = Egress(hosts, on_refused)
        self._on_refused = on_refused
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
            going_on = True
            while going_on:
                await anyio.wait_readable(self._report)
                going_on, doors = self._take()
                for port in set(self._forwarded) - doors.keys() if doors else ():
                    self._on_refused(self._forwarded[port].name, port, _NOT_OPENED)
                if proxy := doors.pop(self.proxy_port, None):
                    forwards = {self._forwarded[port]: door for port, door in doors.items()}
                    group.start_soon(self._egress.serve, proxy, forwards)

    def _take(self) -> tuple[bool, dict[int, socket.socket]]:
        """Take in one message; return whether another may come, and the sockets by their ports."""
        data, found, _, _ = socket.recv_fds(self._report, _MESSAGE_BYTES, _MOST_DOORS)
        sockets = [socket.socket(fileno=each) for each in found]
        if data.startswith(inside.READY):
            self._ready = True
            opened = map(int, data.removeprefix(inside.READY).split())
            return True, dict(zip(opened, sockets, strict=True))
        self._refusal = data.decode(errors="replace") or self._refusal
        return bool(data), {}  # with nothing in it: the program runs, or there is none

    def judged(self, end: RunEnd, said: str) -> RunEnd:
        """Return the end of a run as it would be told without a box; `said` last on its stderr."""
        with suppress(BlockingIOError):  # a program that ends at once may be over before we look
            going_on = not self._refusal
            while going_on:
                going_on, left = self._take()
                for door in left.values():
                    door.close()
        if end.ending is not Ending.EXITED or (self._ready and not self._refusal):
            return end
        reason = self._refusal or f"its box could not be made: {said or 'it does not say why'}"
        return replace(end, ending=Ending.NOT_STARTED, exit_code=None, reason=reason)
