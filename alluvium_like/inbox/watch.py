"""Being told that the inbox changed. Events are hints: any of them only wakes the stage.

The stage lists the whole folder after every wake and at a slow interval, so events that the kernel
dropped (queue overflow) cost nothing but time. Only the inbox itself is watched, and only for what
can make an item claimable: arrivals and closed writers. The daemon's own looks and claims raise no
events. What arrived by rename is believed on Linux alone, where the kernel says so and an open
writer can be seen.
"""

import asyncio
import contextlib
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import anyio
import anyio.to_thread
from watchdog.events import (
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
    FileSystemMovedEvent,
)
from watchdog.observers.api import BaseObserver
from watchdog.observers.polling import PollingObserver

from alluvium_like.log import get_logger
from alluvium_like.wake import Wake

if sys.platform == "linux":
    from watchdog.observers.inotify import InotifyFullEmitter, InotifyObserver
    from watchdog.observers.inotify_c import InotifyConstants, Mask

    class _ArrivalEmitter(InotifyFullEmitter):
        """Never hears of departures.

        The emitter holds everything back for half a second after one, to find out where it went;
        so every claim would delay the next arrival, and every rename within the inbox itself.
        """

        def get_event_mask_from_filter(self) -> Mask:
            departures = InotifyConstants.IN_MOVED_FROM | InotifyConstants.IN_DELETE
            return Mask(super().get_event_mask_from_filter() & ~departures)

    class _NativeObserver(InotifyObserver):
        def __init__(self) -> None:
            super().__init__(generate_full_events=True)
            self._emitter_class = _ArrivalEmitter

else:
    from watchdog.observers import Observer as _NativeObserver

_EVENTS: list[type[FileSystemEvent]] = [
    FileCreatedEvent,
    DirCreatedEvent,
    FileMovedEvent,
    DirMovedEvent,
    FileClosedEvent,
    DirDeletedEvent,  # of the inbox itself
]
_MOST_NAMES = 10_000
_Identity = tuple[int, int]

log = get_logger(__name__)


class _Arrivals(FileSystemEventHandler):
    """Runs in the observer's thread, which would die of an exception."""

    def __init__(self, wake: Callable[[], None], *, believe_renames: bool) -> None:
        self._wake = wake
        self._believe_renames = believe_renames
        self._lock = threading.Lock()
        self._renamed: set[bytes] = set()

    def dispatch(self, event: FileSystemEvent) -> None:
        with self._lock:
            if isinstance(event, FileSystemMovedEvent):
                if self._believe_renames and len(self._renamed) < _MOST_NAMES:
                    self._renamed.add(_name(event.dest_path))
            elif isinstance(event, FileCreatedEvent | DirCreatedEvent):
                self._renamed.discard(_name(event.src_path))
        self._wake()

    def take(self) -> set[bytes]:
        with self._lock:
            taken, self._renamed = self._renamed, set()
        return taken


class Watcher:
    """Sets `wake` whenever something in `inbox` may have become claimable; an async context.

    `polling` serves network mounts, whose changes made elsewhere raise no events here. When the
    inbox cannot be watched this is logged, and `rewatch` tries again.
    """

    def __init__(self, inbox: Path, wake: Wake, *, polling: bool = False) -> None:
        self._inbox = inbox
        self._wake = wake
        self._polling = polling
        believe = sys.platform == "linux" and not polling
        self._arrivals = _Arrivals(self._wake_loop, believe_renames=believe)
        self._observer: BaseObserver | None = None
        self._identity: _Identity | None = None
        self._trouble = ""
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

    def take_renamed(self) -> set[bytes]:
        """Return the names whose last arrival was a rename into place, each of them once.

        A bounded set: what does not fit settles the ordinary way.
        """
        return self._arrivals.take()

    def alive(self) -> bool:
        """Tell whether the folder that is the inbox now is being watched."""
        observer = self._observer
        return (
            observer is not None
            and observer.is_alive()
            and all(emitter.is_alive() for emitter in observer.emitters)
            and self._identity == _identity(self._inbox)
        )

    async def rewatch(self) -> bool:
        """Watch anew if the inbox was removed or replaced or the watching died.

        Returns true, and wakes, when that was needed and worked.
        """
        return await anyio.to_thread.run_sync(self._rewatch)

    def _rewatch(self) -> bool:
        if self.alive():
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
        try:
            observer = self._watch(os.path.realpath(self._inbox))
        except OSError as error:
            if str(error) != self._trouble:
                self._trouble = str(error)
                log.warning("inbox_not_watched", inbox=str(self._inbox), reason=self._trouble)
            return
        self._trouble = ""
        self._identity = identity
        self._observer = observer

    def _watch(self, folder: str) -> BaseObserver:
        observer = PollingObserver() if self._polling else _NativeObserver()
        try:
            observer.schedule(self._arrivals, folder, event_filter=_EVENTS)
            observer.start()
        except OSError:
            observer.stop()
            raise
        return observer

    def _stop(self) -> None:
        observer, self._observer = self._observer, None
        if observer is not None:
            observer.stop()
            observer.join()

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
