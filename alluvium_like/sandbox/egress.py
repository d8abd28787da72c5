"""The way out of a box: a small HTTP proxy that knows which hosts may be reached, and forwards.

It listens on sockets that were opened inside the box and handed out. A name is looked up only when
it is listed, its addresses are judged, and what is connected to is the address that was judged.
A box has so many connections and no more; whoever comes then waits in the queue of its socket.
Nothing that a program inside or a server outside does ends `serve`, or costs others anything.
"""

import errno
import os
import socket
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

import anyio
import anyio.abc
from anyio.abc import SocketStream

from alluvium_like import messages
from alluvium_like.config.hosts import Host, plain_name
from alluvium_like.errors import reason_of
from alluvium_like.sandbox.addresses import Bar, bar_of, own_addresses
from alluvium_like.sandbox.head import Answer, Asked, HeadReader
from alluvium_like.sandbox.relay import GONE, connect_first, relay
from alluvium_like.sandbox.upstream import tunnel, upstream_of

OnRefused = Callable[[str, int, str], None]
"""Told of a refusal: the host as it was named, the port, the reason as a program is told it."""
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Returns the addresses of a name. OSError."""
Connect = Callable[[Sequence[str], int], Awaitable[SocketStream]]
"""Connects to one of several addresses. OSError."""
_ESTABLISHED: Final = b"HTTP/1.1 200 Connection established\r\n\r\n"
_NO_SOCKET: Final = (errno.EBADF, errno.EINVAL, errno.ENOTSOCK)
_PAUSE_SECONDS: Final = 0.1
_LAST_WORD_SECONDS: Final = 2
_LAST_WORD_BYTES: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one box may use. Times are in seconds."""

    connections: int = 256
    head_bytes: int = 64 * 1024
    head_seconds: float = 30
    connect_seconds: float = 30
    half_closed_seconds: float = 900
    addresses: int = 8
    refusals: int = 1000
    """How many refusals are told of, each of another host or port."""


async def resolve(name: str, port: int) -> list[str]:
    """Return the addresses of a name as the system knows them. OSError."""
    found = await anyio.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class Egress:
    """What the programs of one box may reach, for one run."""

    def __init__(
        self,
        hosts: Iterable[Host],
        on_refused: OnRefused,
        *,
        resolve: Resolve = resolve,
        connect: Connect = connect_first,
        own: Callable[[], Collection[str]] = own_addresses,
        environment: Mapping[str, str] = os.environ,
        bounds: Bounds = Bounds(),
    ) -> None:
        self._hosts = tuple(hosts)
        self._on_refused = on_refused
        self._resolve = resolve
        self._connect_to = connect
        self._own = own
        self._environment = environment
        self._bounds = bounds
        self._refused: set[tuple[str, int]] = set()

    async def serve(
        self, proxy: socket.socket, forwards: Mapping[Host, socket.socket] | None = None
    ) -> None:
        """Serve listening sockets until cancelled, and close them: the proxy's, and the forwards'.

        What comes to a forward goes as it is to its host, an endpoint of this machine.
        """
        listeners = {proxy: self._answer}
        for host, listener in (forwards or {}).items():
            listeners[listener] = partial(self._forward, host)
        slots = anyio.Semaphore(self._bounds.connections)
        with ExitStack() as opened:
            for listener in listeners:
                opened.enter_context(listener)
                listener.setblocking(False)
            async with anyio.create_task_group() as group:
                for listener, attend in listeners.items():
                    group.start_soon(_accept, listener, attend, slots, group)
                await anyio.sleep_forever()

    async def _forward(self, host: Host, link: SocketStream) -> None:
        """Carry one connection to an endpoint of this machine."""
        with suppress(OSError):
            with anyio.fail_after(self._bounds.connect_seconds):
                server = await self._connect_to(host.addresses, host.ports[0])
            async with server:
                await relay(link, server, b"", b"", self._bounds.half_closed_seconds)

    async def _answer(self, link: SocketStream) -> None:
        """Do what one client of the proxy asks, or say why not."""
        asked = await self._read_head(link)
        if isinstance(asked, Answer):
            await _say(link, asked)
            return
        found = await self._reach(asked)
        if isinstance(found, Answer):
            await _say(link, found)
            return
        server, early = found
        async with server:
            if asked.head is None:
                early = _ESTABLISHED + early
            opening = (asked.head or b"") + asked.rest
            await relay(link, server, opening, early, self._bounds.half_closed_seconds)

    async def _read_head(self, link: SocketStream) -> Asked | Answer:
        reader = HeadReader(self._bounds.head_bytes)
        with anyio.move_on_after(self._bounds.head_seconds):
            while True:
                found = reader.feed(await link.receive())
                if found is not None:
                    return found
        return Answer(408, f"no request came within {self._bounds.head_seconds:g} s")

    async def _reach(self, asked: Asked) -> tuple[SocketStream, bytes] | Answer:
        """Return a connection to what is asked for, with what it said already, or why not."""
        try:
            name = plain_name(asked.host)
        except ValueError as error:
            return self._refuse(asked, messages.odd_name(asked.where, str(error)))
        allowing = [host for host in self._hosts if host.allows(name, asked.port)]
        if not allowing:
            return self._refuse(asked, messages.not_listed(asked.where))
        try:
            with anyio.fail_after(self._bounds.connect_seconds):
                return await self._connect(asked, name, allowing)
        except TimeoutError:
            reason = f"nobody answered within {self._bounds.connect_seconds:g} s"
        except OSError as error:
            reason = reason_of(error)
        return Answer(502, messages.not_reached(asked.where, reason))

    async def _connect(
        self, asked: Asked, name: str, allowing: Sequence[Host]
    ) -> tuple[SocketStream, bytes] | Answer:
        """Connect to a name that is listed. OSError."""
        host = Host(name, asked.port)
        if not host.is_loopback:
            proxy = upstream_of(self._environment, name, asked.port, web=asked.head is not None)
            if proxy:
                return await tunnel(proxy, name, asked.port)
        addresses = host.addresses or await self._judged(asked, name, allowing)
        if isinstance(addresses, Answer):
            return addresses
        return await self._connect_to(addresses[: self._bounds.addresses], asked.port), b""

    async def _judged(
        self, asked: Asked, name: str, allowing: Sequence[Host]
    ) -> Sequence[str] | Answer:
        """Return the addresses of a name that may be connected to, or why none may. OSError."""
        found = await self._resolve(name, asked.port)
        own = self._own()
        bars = {address: bar_of(address, own) for address in found}
        by_pattern = all(host.wildcard for host in allowing)
        good = [
            address
            for address, bar in bars.items()
            if bar is None or (bar is Bar.PRIVATE and not by_pattern)
        ]
        if good or not found:
            return good
        address, bar = next(iter(bars.items()))
        if bar is Bar.PRIVATE:
            return self._refuse(asked, messages.leads_inside(asked.where, name, address))
        return self._refuse(asked, messages.leads_here(asked.where, address))

    def _refuse(self, asked: Asked, text: str) -> Answer:
        """Tell of a refusal once, however often a program tries; of so many and no more."""
        key = (asked.shown.lower(), asked.port)
        if key not in self._refused and len(self._refused) < self._bounds.refusals:
            self._refused.add(key)
            self._on_refused(*key, text)
        return Answer(403, text)


async def _accept(
    listener: socket.socket,
    attend: Callable[[SocketStream], Awaitable[None]],
    slots: anyio.Semaphore,
    group: anyio.abc.TaskGroup,
) -> None:
    """Attend to all that comes to a listening socket, as long as it is one."""
    while True:
        await anyio.wait_readable(listener)
        await slots.acquire()
        try:
            connection, _ = listener.accept()
        except OSError as error:
            slots.release()
            if error.errno in _NO_SOCKET:  # a program inside has shut it down
                return
            if not isinstance(error, BlockingIOError | ConnectionError):
                await anyio.sleep(_PAUSE_SECONDS)  # no descriptor is free: who comes waits
        else:
            group.start_soon(_attend, connection, attend, slots)


async def _attend(
    connection: socket.socket,
    attend: Callable[[SocketStream], Awaitable[None]],
    slots: anyio.Semaphore,
) -> None:
    """Attend to one connection, and close it."""
    try:
        with connection, suppress(*GONE):
            try:
                link = await SocketStream.from_socket(connection)
            except (OSError, ValueError):  # it is gone again
                return
            async with link:
                await attend(link)
    finally:
        slots.release()


async def _say(link: SocketStream, answer: Answer) -> None:
    """Answer, and wait a little for the end: what is unread would take the answer away again."""
    await link.send(answer.encoded())
    await link.send_eof()
    left = _LAST_WORD_BYTES
    with anyio.move_on_after(_LAST_WORD_SECONDS), suppress(anyio.EndOfStream):
        while left > 0:
            left -= len(await link.receive())
