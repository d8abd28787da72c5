"""Being told that the inbox changed. Events are hints: any of them only wakes the stage.

The stage lists the whole folder after every wake and at a slow interval, so events that the kernel
dropped (queue overflow) cost nothing but time. Where there are no events to be had, its names are
listed every two seconds instead. What arrived by rename is believed on Linux alone, where the
kernel says so and an open writer can be seen.
"""

import asyncio
import contextlib
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import anyio
import anyio.to_thread
from watchdog.events import (
    DirCreatedEvent,
    DirDeletedEvent,
    FileCreatedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
    FileSystemMovedEvent,
)
from watchdog.observers.api import BaseObserver

from alluvium_like.clock import monotonic
from alluvium_like.config.tables import InboxWatch
from alluvium_like.inbox.mounts import network_type
from alluvium_like.inbox.observer import observe
from alluvium_like.log import get_logger
from alluvium_like.wake import Wake

_POLL_SECONDS: Final = 2.0
_MOST_NAMES = 10_000
_Identity = tuple[int, int]

log = get_logger(__name__)


class _Arrivals(FileSystemEventHandler):
    """Runs in the observer's thread, which would die of an exception."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._lock = threading.Lock()
        self._renamed: set[bytes] = set()

    def dispatch(self, event: FileSystemEvent) -> None:
        with self._lock:
            if isinstance(event, FileSystemMovedEvent):
                if sys.platform == "linux" and len(self._renamed) < _MOST_NAMES:
                    self._renamed.add(_name(event.dest_path))
            elif isinstance(event, FileCreatedEvent | DirCreatedEvent):
                self._renamed.discard(_name(event.src_path))
            elif isinstance(event, DirDeletedEvent):
                self._renamed.clear()
        self._wake()

    def take(self) -> set[bytes]:
        with self._lock:
            taken, self._renamed = self._renamed, set()
        return taken


class Watcher:
    """Tells whenever something in `inbox` may have become claimable; an async context.

    `how` may change any time; `rewatch` takes it up. "auto" polls network mounts, whose changes
    made elsewhere raise no events here. When the inbox cannot be watched it is polled, `failure`
    says why, and `rewatch` tries again.
    """

    def __init__(self, inbox: Path, wake: Wake, how: InboxWatch = "auto") -> None:
        self.how = self._taken_up = how
        self.failure: OSError | None = None
        self._inbox = inbox
        self._wake = wake
        self._arrivals = _Arrivals(self._wake_loop)
        self._observer: BaseObserver | None = None
        self._identity: _Identity | None = None
        self._names: frozenset[tuple[bytes, int]] | None = None
        self._waking = False
        self._loop: asyncio.AbstractEventLoop

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        await anyio.to_thread.run_sync(self._start)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self._stop)

    async def wait(self, at_most: float) -> None:
        """Return when something may have become claimable, or when `at_most` seconds are over."""
        until = monotonic() + at_most
        while True:
            left = max(until - monotonic(), 0.0)
            polls = self._observer is None and left > _POLL_SECONDS
            if await self._wake.wait(_POLL_SECONDS if polls else left) or not polls:
                return
            if await anyio.to_thread.run_sync(self._has_changed):
                return

    def take_renamed(self) -> set[bytes]:
        """Return the names whose last arrival was a rename into place, each of them once.

        A bounded set: what does not fit settles the ordinary way, and so does what arrived before
        events were lost.
        """
        return self._arrivals.take()

    def alive(self) -> bool:
        """Tell whether events of the folder that is the inbox now are heard."""
        observer = self._observer
        return (
            observer is not None
            and observer.is_alive()
            and all(emitter.is_alive() for emitter in observer.emitters)
            and self._identity == _identity(self._inbox)
        )

    async def rewatch(self) -> bool:
        """Watch anew if the inbox was removed or replaced, the watching died, or `how` changed.

        Returns true, and wakes, when events are heard since.
        """
        return await anyio.to_thread.run_sync(self._rewatch)

    def _rewatch(self) -> bool:
        if self.alive() and self.how == self._taken_up:
            return False
        self._stop()
        self._start()
        if self._observer is None:
            return False
        self._wake_loop()
        return True

    def _start(self) -> None:
        # The identity first: a folder replaced in between is then found to be another one.
        identity = _identity(self._inbox)
        folder = os.path.realpath(self._inbox)
        before, self.failure = self.failure, None
        self._taken_up = self.how
        if self.how == "events" or (self.how == "auto" and not network_type(Path(folder))):
            try:
                self._observer = observe(folder, self._arrivals)
                self._identity = identity
            except OSError as error:
                self.failure = error
                if str(error) != str(before):
                    log.warning("inbox_not_watched", inbox=str(self._inbox), reason=str(error))

    def _stop(self) -> None:
        observer, self._observer = self._observer, None
        if observer is not None:
            observer.stop()
            observer.join()

    def _has_changed(self) -> bool:
        """Tell whether other items lie in the inbox than when this was asked last.

        Their content does not matter: whoever has seen an item looks at it again by himself.
        """
        names: frozenset[tuple[bytes, int]] | None = None
        with contextlib.suppress(OSError), os.scandir(os.fsencode(self._inbox)) as entries:
            names = frozenset((entry.name, entry.inode()) for entry in entries)
        before, self._names = self._names, names
        return names != before

    def _wake_loop(self) -> None:
        """Wake the stage from any thread; a burst of events costs the loop one turn, not thousands.

        Whoever finds the wake under way has noted its event before it is heard.
        """
        if self._waking:
            return
        self._waking = True
        # A closed loop is a daemon that has ended: nobody is left to be woken.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._heard)

    def _heard(self) -> None:
        self._waking = False
        self._wake.set()


def _name(path: bytes | str) -> bytes:
    return os.fsencode(path).rpartition(b"/")[2]


def _identity(folder: Path) -> _Identity | None:
    try:
        facts = folder.stat()
    except OSError:
        return None
    return facts.st_dev, facts.st_ino
