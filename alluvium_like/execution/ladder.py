"""The one way in which processes are ended: TERM, a time of grace, KILL, until none is found.

Asked again after every step, because processes fork meanwhile. Cancelling the caller does not cut
it short; an event may. Ends are awaited on process descriptors; where those exist, nothing polls.
"""

import os
import signal
from collections.abc import Callable, Collection, Iterable

import anyio
from anyio import to_thread

from alluvium_like.clock import monotonic
from alluvium_like.execution.identity import (
    ProcessIdentity,
    is_alive,
    open_pidfd,
    send_signal,
)
from alluvium_like.log import get_logger

_KILL_SECONDS = 10.0
_ROUND_SECONDS = 1.0
_WATCHED_AT_ONCE = 64
_FALLBACK_SECONDS = 0.02

log = get_logger(__name__)

Find = Callable[[], list[ProcessIdentity]]


async def end_processes(
    find: Find,
    grace_seconds: float,
    *,
    hurry: anyio.Event | None = None,
    spared: Collection[ProcessIdentity] = (),
) -> int:
    """End all that `find` returns, called in a thread until it returns none; return how many.

    No grace: KILL at once; `hurry` cuts the grace short. The `spared` are not asked to end, only
    killed when the grace is over. Processes that outlive KILL for ten seconds (held by the kernel,
    or another user's) are logged and left.
    """
    signalled = set(spared)
    hurry = hurry or anyio.Event()
    with anyio.CancelScope(shield=True):
        if grace_seconds > 0 and not hurry.is_set():
            await _terminate(find, grace_seconds, hurry, signalled)
        await _kill(find, signalled)
    return len(signalled.difference(spared))


async def _terminate(
    find: Find, grace_seconds: float, hurry: anyio.Event, signalled: set[ProcessIdentity]
) -> None:
    with anyio.move_on_after(grace_seconds):
        async with anyio.create_task_group() as tasks:

            async def watch() -> None:
                await hurry.wait()
                tasks.cancel_scope.cancel()

            tasks.start_soon(watch)
            while found := await to_thread.run_sync(find):
                await _signal_all(set(found) - signalled, signal.SIGTERM)
                signalled.update(found)
                await _until_gone(found)
            tasks.cancel_scope.cancel()


async def _kill(find: Find, signalled: set[ProcessIdentity]) -> None:
    deadline = monotonic() + _KILL_SECONDS
    while found := await to_thread.run_sync(find):
        await _signal_all(found, signal.SIGKILL)
        signalled.update(found)
        if monotonic() > deadline:
            log.error("processes_outlived_kill", pids=[identity.pid for identity in found])
            return
        with anyio.move_on_after(_ROUND_SECONDS):
            await _until_gone(found)


async def _signal_all(identities: Iterable[ProcessIdentity], number: signal.Signals) -> None:
    def signal_each() -> None:
        for identity in identities:
            send_signal(identity, number)

    await to_thread.run_sync(signal_each)


async def _until_gone(identities: list[ProcessIdentity]) -> None:
    """Wait for the end of these; of many only for some, the caller looks again anyway."""
    watches = await to_thread.run_sync(_watch_all, identities[:_WATCHED_AT_ONCE])
    try:
        async with anyio.create_task_group() as tasks:
            for identity, pidfd in watches:
                tasks.start_soon(_gone, identity, pidfd)
    finally:
        for _, pidfd in watches:
            if pidfd is not None:
                os.close(pidfd)


def _watch_all(identities: list[ProcessIdentity]) -> list[tuple[ProcessIdentity, int | None]]:
    watches: list[tuple[ProcessIdentity, int | None]] = []
    for identity in identities:
        try:
            pidfd = open_pidfd(identity.pid)
        except ProcessLookupError:
            continue
        if is_alive(identity):
            watches.append((identity, pidfd))
        elif pidfd is not None:
            os.close(pidfd)
    return watches


async def _gone(identity: ProcessIdentity, pidfd: int | None) -> None:
    if pidfd is not None:
        await anyio.wait_readable(pidfd)
        return
    while await to_thread.run_sync(is_alive, identity):  # noqa: ASYNC110 - no event to be had
        await anyio.sleep(_FALLBACK_SECONDS)
