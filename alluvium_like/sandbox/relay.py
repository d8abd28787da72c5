"""Two connections made one: bytes go both ways until both sides have ended.

Nothing is kept but the chunk that is on its way: who reads slowly is waited for. Either side may
end first and still be answered; what breaks off ends both, and is nobody's error.
"""

import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import anyio
from anyio.abc import SocketAttribute, SocketStream

GONE: Final = (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream)
"""What a connection raises that the other side has ended."""
_NEXT_ADDRESS_SECONDS: Final = 0.3


async def relay(
    client: SocketStream, server: SocketStream, opening: bytes, early: bytes, linger: float
) -> None:
    """Carry bytes between two connections, first those that were read or made up already.

    `opening` is for the server, `early` for the client. Once a side has ended, the other may be
    silent for `linger` seconds.
    """
    ended = False

    async def carry(source: SocketStream, sink: SocketStream, first: bytes) -> None:
        nonlocal ended
        try:
            if first:
                await sink.send(first)
            async for chunk in source:
                await sink.send(chunk)
                if ended:
                    both.cancel_scope.deadline = anyio.current_time() + linger
            await sink.send_eof()
        except GONE:
            both.cancel_scope.cancel()
        ended = True
        both.cancel_scope.deadline = anyio.current_time() + linger

    async with anyio.create_task_group() as both:
        both.start_soon(carry, client, server, opening)
        both.start_soon(carry, server, client, early)


async def connect_first(addresses: Sequence[str], port: int) -> SocketStream:
    """Connect to the first of several addresses that answers; nothing is looked up. OSError.

    The next one is tried when one fails, or is silent for a moment.
    """
    won: list[SocketStream] = []
    failures: list[OSError] = []

    async def attempt(address: str, over: anyio.Event) -> None:
        try:
            stream = await anyio.connect_tcp(address, port)
        except OSError as error:
            failures.append(_plain(error))
        else:
            won.append(stream)
            race.cancel_scope.cancel()
        finally:
            over.set()

    try:
        async with anyio.create_task_group() as race:
            for address in addresses:
                over = anyio.Event()
                race.start_soon(attempt, address, over)
                with anyio.move_on_after(_NEXT_ADDRESS_SECONDS):
                    await over.wait()
    except BaseException:
        await close_all(won)
        raise
    await close_all(won[1:])
    if not won:
        raise failures[0] if failures else OSError("no address")
    raw: socket.socket = won[0].extra_attributes[SocketAttribute.raw_socket]()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return won[0]


def _plain(error: OSError) -> OSError:
    """Return an error in the system's own words."""
    cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
    return OSError(cause.errno, os.strerror(cause.errno)) if cause.errno else cause


async def close_all(streams: Sequence[SocketStream]) -> None:
    """Close connections, also where the caller is cancelled."""
    with anyio.CancelScope(shield=True):
        for stream in streams:
            with suppress(OSError):
                await stream.aclose()
