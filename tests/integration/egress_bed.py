"""A way out of a box that stands, with servers of one's own behind names of one's own.

All of it is on loopback: names lead to addresses of documentation, and a connection to one of these
is one to the server that a test has put there. What was looked up and connected to is noted.
"""

import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import anyio
import anyio.abc
import h11
import httpx
from anyio.abc import SocketStream

from alluvium_like.config.hosts import Host, parse_host
from alluvium_like.sandbox.egress import Bounds, Egress
from alluvium_like.sandbox.relay import connect_first

PUBLIC: Final = "198.51.100.7"
OK: Final = "ok.example"
ESTABLISHED: Final = b"HTTP/1.1 200 Connection established\r\n\r\n"
Handler = Callable[[SocketStream], Awaitable[None]]


@dataclass
class World:
    """Names, what stands at which address, and what was done about both."""

    names: dict[str, Sequence[str]] = field(default_factory=dict)
    ports: dict[tuple[str, int], int] = field(default_factory=dict)
    own: Sequence[str] = ()
    looked_up: list[str] = field(default_factory=list)
    connected: list[str] = field(default_factory=list)
    refused: list[tuple[str, int, str]] = field(default_factory=list)

    async def resolve(self, name: str, port: int) -> Sequence[str]:
        self.looked_up.append(name)
        if name not in self.names:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return self.names[name]

    async def connect(self, addresses: Sequence[str], port: int) -> SocketStream:
        for address in addresses:
            self.connected.append(address)
            if (address, port) in self.ports:
                return await connect_first(["127.0.0.1"], self.ports[address, port])
        raise ConnectionRefusedError(111, "Connection refused")

    @asynccontextmanager
    async def server(self, handler: Handler, *names: str, port: int) -> AsyncIterator[int]:
        """Let a server answer at names; return the port at which it really is."""
        address = f"198.51.100.{10 + len(self.ports)}"
        async with served(handler) as real:
            self.ports[address, port] = real
            self.names |= {name: [address] for name in names}
            yield real

    @asynccontextmanager
    async def egress(
        self,
        *hosts: str,
        bounds: Bounds | None = None,
        environment: Mapping[str, str] | None = None,
        forwards: Mapping[Host, socket.socket] | None = None,
    ) -> AsyncIterator[int]:
        """Serve a proxy; return its port."""
        egress = Egress(
            [parse_host(each) for each in hosts],
            lambda *told: self.refused.append(told),
            resolve=self.resolve,
            connect=self.connect,
            own=lambda: self.own,
            environment=environment or {},
            bounds=bounds or Bounds(),
        )
        listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        port = listener.getsockname()[1]
        async with anyio.create_task_group() as group:
            group.start_soon(egress.serve, listener, forwards)
            yield port
            group.cancel_scope.cancel()
        assert listener.fileno() == -1


@asynccontextmanager
async def served(handler: Handler) -> AsyncIterator[int]:
    """Serve on loopback; return the port."""
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1", backlog=512)
    async with listener, anyio.create_task_group() as group:

        async def attend(link: SocketStream) -> None:
            async with link:
                await handler(link)

        group.start_soon(partial(listener.serve, attend))
        yield listener.extra(anyio.abc.SocketAttribute.local_port)
        group.cancel_scope.cancel()


async def head_of(link: SocketStream) -> bytes:
    """Read up to the end of a head."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += await link.receive()
    return data


async def all_of(link: SocketStream) -> bytes:
    """Read up to the end."""
    data = b""
    async for chunk in link:
        data += chunk
    return data


async def request_of(link: anyio.abc.ByteStream) -> tuple[h11.Request, bytes]:
    """Read one whole request."""
    http, body = h11.Connection(h11.SERVER), b""
    request: h11.Request | None = None
    while True:
        match http.next_event():
            case h11.NEED_DATA:
                http.receive_data(await link.receive())
            case h11.Request() as request:
                pass
            case h11.Data(data=data):
                body += bytes(data)
            case h11.EndOfMessage():
                assert request is not None
                return request, body
            case event:
                raise AssertionError(event)


def answer(body: bytes) -> bytes:
    """Return a response."""
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


def connect(where: str) -> bytes:
    """Return a request for a tunnel."""
    return f"CONNECT {where} HTTP/1.1\r\nHost: {where}\r\n\r\n".encode()


def get(url: str) -> bytes:
    """Return a plain request."""
    return f"GET {url} HTTP/1.1\r\nHost: {OK}\r\n\r\n".encode()


async def echo(link: SocketStream) -> None:
    """Send back what comes."""
    async for chunk in link:
        await link.send(chunk)


async def tunnel(port: int, where: str) -> SocketStream:
    """Open a tunnel through a proxy."""
    link = await anyio.connect_tcp("127.0.0.1", port)
    await link.send(connect(where))
    assert await head_of(link) == ESTABLISHED
    return link


async def said(port: int, request: bytes) -> bytes:
    """Send bytes to a proxy and return all that it answers."""
    async with await anyio.connect_tcp("127.0.0.1", port) as link:
        await link.send(request)
        return await all_of(link)


def client(port: int, **more: object) -> httpx.AsyncClient:
    """Return a client that goes through a proxy."""
    return httpx.AsyncClient(proxy=f"http://127.0.0.1:{port}", trust_env=False, timeout=30, **more)  # type: ignore[arg-type]
