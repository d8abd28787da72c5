"""The way out of a box: what it takes at most, and who misbehaves harms nobody else."""

import errno
import resource
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, ClassVar

import anyio
import pytest
from anyio import wait_all_tasks_blocked
from anyio.abc import SocketAttribute, SocketStream
from blockbuster import blockbuster_ctx
from egress_bed import (
    ESTABLISHED,
    OK,
    PUBLIC,
    World,
    all_of,
    connect,
    echo,
    get,
    said,
    served,
    tunnel,
)

from alluvium_like.config.hosts import parse_host
from alluvium_like.sandbox.egress import Bounds


@pytest.fixture(autouse=True)
def _never_blocks() -> Iterator[None]:
    with blockbuster_ctx("alluvium_like"):
        yield


@pytest.fixture
def world() -> World:
    """Where one host is well and answers nothing."""
    return World(names={OK: [PUBLIC]})


async def test_nothing_is_waited_for_beyond_its_deadline(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: object) -> SocketStream:
        await anyio.sleep_forever()
        raise AssertionError

    monkeypatch.setattr(world, "connect", never)
    bounds = Bounds(head_seconds=0.05, connect_seconds=0.05)
    async with world.egress(OK, bounds=bounds) as port:
        assert b" 502 " in await said(port, connect(f"{OK}:443"))
        assert (await said(port, b"CONNECT ")).startswith(b"HTTP/1.1 408 ")


async def test_a_head_has_an_end(world: World) -> None:
    async with (
        world.egress(OK) as port,
        await anyio.connect_tcp("127.0.0.1", port) as link,
    ):
        await link.send(f"GET http://{OK}/ HTTP/1.1\r\nHost: {OK}\r\n".encode())
        for number in range(70):
            await link.send(b"X-%d: %b\r\n" % (number, b"x" * 1000))
        assert (await all_of(link)).startswith(b"HTTP/1.1 431 ")
    assert world.looked_up == []


async def test_a_head_that_comes_at_once_may_be_no_longer(world: World) -> None:
    async with world.egress(OK, bounds=Bounds(head_bytes=len(get(f"http://{OK}/")))) as port:
        assert b" 502 " in await said(port, get(f"http://{OK}/"))
        assert b" 502 " in await said(port, get(f"http://{OK}/") + b"a body does not count")
        assert b" 431 " in await said(port, get(f"http://{OK}/x"))


async def test_a_silent_half_of_a_connection_has_an_end(world: World) -> None:
    async def deaf(link: SocketStream) -> None:
        await anyio.sleep_forever()

    async with served(deaf) as real, world.egress(OK, bounds=Bounds(half_closed_seconds=0.05)) as p:
        world.ports[PUBLIC, 443] = real
        async with await tunnel(p, f"{OK}:443") as link:
            await link.send_eof()
            assert await all_of(link) == b""


async def test_so_many_connections_and_no_more(world: World) -> None:
    """300 come at once; 256 are served, each of the others when one of these is through."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4096)), hard))
    now = most = served_in_all = 0
    full = anyio.Event()

    async def count(link: SocketStream) -> None:
        nonlocal now, most, served_in_all
        now, served_in_all = now + 1, served_in_all + 1
        most = max(most, now)
        if now == 256:
            full.set()
        await all_of(link)
        now -= 1

    async def come(port: int) -> None:
        async with await tunnel(port, f"{OK}:443"):
            await full.wait()

    async with served(count) as real, world.egress(OK) as port:
        world.ports[PUBLIC, 443] = real
        async with anyio.create_task_group() as group:
            for _ in range(300):
                group.start_soon(come, port)
        async with await tunnel(port, f"{OK}:443"):
            pass
    assert (most, served_in_all) == (256, 301)


async def test_a_client_that_vanishes_harms_nothing(world: World) -> None:
    def reset(link: SocketStream) -> None:
        raw = link.extra(SocketAttribute.raw_socket)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    gone = anyio.Event()

    async def until_gone(link: SocketStream) -> None:
        await all_of(link)
        gone.set()

    async with served(until_gone) as real, world.egress(OK, bounds=Bounds(connections=1)) as port:
        world.ports[PUBLIC, 443] = real
        for beginning in (b"", b"CONN", connect("no.example:443"), connect(f"{OK}:443")):
            async with await anyio.connect_tcp("127.0.0.1", port) as link:
                await link.send(beginning or b"\r")
                reset(link)
        async with await tunnel(port, f"{OK}:443") as link:
            reset(link)
        await gone.wait()
        async with await tunnel(port, f"{OK}:443"):
            pass


async def test_who_does_not_read_is_waited_for(world: World) -> None:
    """A server that would send for ever is held up: nothing piles up in between."""
    sent = 0

    async def torrent(link: SocketStream) -> None:
        nonlocal sent
        with suppress(anyio.BrokenResourceError):
            while sent < 1 << 30:
                await link.send(b"x" * (1 << 16))
                sent += 1 << 16

    async with served(torrent) as real, world.egress(OK) as port:
        world.ports[PUBLIC, 443] = real
        async with await anyio.connect_tcp("127.0.0.1", port) as link:
            await link.send(connect(f"{OK}:443"))
            assert (await link.receive()).startswith(ESTABLISHED)
            await wait_all_tasks_blocked()
            assert sent < 1 << 26


async def test_a_socket_that_is_shut_down_inside_ends_alone(world: World) -> None:
    inside = socket.create_server(("127.0.0.1", 0))
    kept = inside.dup()
    async with served(echo) as real:
        world.ports["127.0.0.1", real] = real
        host = parse_host(f"127.0.0.1:{real}")
        async with world.egress(str(host), forwards={host: inside}) as port:
            with kept:
                kept.shutdown(socket.SHUT_RDWR)
            await wait_all_tasks_blocked()
            async with await tunnel(port, str(host)):
                pass


class Exhausted(socket.socket):
    """A listening socket of a process that has no descriptor left, a few times."""

    errors: ClassVar = [errno.EMFILE, errno.ENFILE, errno.ECONNABORTED, errno.EAGAIN]

    def accept(self) -> tuple[socket.socket, Any]:
        if self.errors:
            raise OSError(self.errors.pop(), "no")
        return super().accept()


async def test_who_comes_waits_while_no_descriptor_is_left(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener = Exhausted()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    monkeypatch.setattr(socket, "create_server", lambda *_, **__: listener)
    async with world.egress(bounds=Bounds(connections=1)) as port:
        assert b" 403 " in await said(port, connect(f"{OK}:443"))
    assert Exhausted.errors == []
