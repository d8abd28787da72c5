"""Being told that the inbox changed. Events are hints: any of them only wakes the stage.

The stage lists the whole folder after every wake and at a slow interval, so events that the kernel
dropped (queue overflow) cost nothing but time. Only the inbox itself is watched, and only for what
can make an item claimable: arrivals and closed writers, and its own removal or replacement. The
daemon's own looks and claims raise no events. Where there are no events to be had, its names are
listed every two seconds instead. What arrived by rename is believed on Linux alone, where the
kernel says so and an open writer can be seen.
"""

import asyncio
import contextlib
import errno
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
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
    FileSystemMovedEvent,
)
from watchdog.observers.api import BaseObserver

from alluvium_like.clock import monotonic
from alluvium_like.config.tables import InboxWatch
from alluvium_like.inbox.mounts import network_type
from alluvium_like.log import get_logger
from alluvium_like.wake import Wake

if sys.platform == "linux":
    from watchdog.observers.inotify import (
        InotifyFullEmitter,
        InotifyObserver,
        InotifyWatchGroup,
    )
    from watchdog.observers.inotify_c import (
        InotifyConstants,
        InotifyEvent,
        Mask,
        WatchDescriptor,
    )
    from watchdog.observers.inotify_move_event_grouper import (
        GroupedInotifyEvent,
        PathedInotifyEvent,
    )

    _DEPARTURES = InotifyConstants.IN_MOVED_FROM | InotifyConstants.IN_DELETE
    _OF_THE_WATCH = (
        InotifyConstants.IN_Q_OVERFLOW | InotifyConstants.IN_MOVE_SELF | InotifyConstants.IN_IGNORED
    )

    class _Group(InotifyWatchGroup):
        """Puts in line with the events what the library keeps to itself: that some were lost, and
        that there will be no more, because the folder is gone or its file system unmounted.
        """

        def on_queue_overflow(self) -> None:
            super().on_queue_overflow()
            self._tell(InotifyConstants.IN_Q_OVERFLOW)

        def on_watch_deleted(self, wd: WatchDescriptor) -> None:
            super().on_watch_deleted(wd)
            self._tell(InotifyConstants.IN_IGNORED)

        def _tell(self, mask: Mask) -> None:
            event = InotifyEvent(WatchDescriptor(-1), mask, 0, b"")
            self._move_event_grouper.put_event(PathedInotifyEvent(event, self.path))

    class _ArrivalEmitter(InotifyFullEmitter):
        """Never hears of departures.

        The emitter holds everything back for half a second after one, to find out where it went;
        so every claim would delay the next arrival, and every rename within the inbox itself.
        """

        def on_thread_start(self) -> None:
            folder = os.fsencode(self.watch.path)
            mask = self.get_event_mask_from_filter()
            self._inotify = _Group(self._inotify_fd, folder, event_mask=mask)

        def get_event_mask_from_filter(self) -> Mask:
            arrivals = super().get_event_mask_from_filter() & ~_DEPARTURES
            return Mask(arrivals | InotifyConstants.IN_MOVE_SELF)

        def build_and_queue_event(
            self, event: GroupedInotifyEvent, *, full_events: bool = True
        ) -> None:
            if not isinstance(event, PathedInotifyEvent) or not event.ev.mask & _OF_THE_WATCH:
                super().build_and_queue_event(event, full_events=full_events)
                return
            self.queue_event(DirDeletedEvent(self.watch.path))
            if event.ev.is_ignored:
                self.stop()

    class _NativeObserver(InotifyObserver):
        def __init__(self) -> None:
            super().__init__(generate_full_events=True)
            self._emitter_class = _ArrivalEmitter

        def is_alive(self) -> bool:
            return super().is_alive() and self._inotify_fd.is_alive()

else:
    from watchdog.observers import Observer as _NativeObserver

_EVENTS: list[type[FileSystemEvent]] = [
    FileCreatedEvent,
    DirCreatedEvent,
    FileMovedEvent,
    DirMovedEvent,
    FileClosedEvent,
    DirDeletedEvent,  # of the inbox itself: what is known of it may be wrong
]
_POLL_SECONDS: Final = 2.0
_MOST_NAMES = 10_000
_LIMITS: Final = {
    errno.ENOSPC: "fs.inotify.max_user_watches",
    errno.EMFILE: "fs.inotify.max_user_instances or the daemon's limit of open files",
}
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
    made elsewhere raise no events here. When the inbox cannot be watched it is polled, `trouble`
    says why, and `rewatch` tries again.
    """

    def __init__(self, inbox: Path, wake: Wake, how: InboxWatch = "auto") -> None:
        self.how = self._taken_up = how
        self.trouble: OSError | None = None
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
        before, self.trouble = self.trouble, None
        self._taken_up = self.how
        if self.how == "events" or (self.how == "auto" and not network_type(Path(folder))):
            try:
                self._observer = _observe(folder, self._arrivals)
                self._identity = identity
            except OSError as error:
                self.trouble = error
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


def try_events(folder: Path) -> None:
    """Watch a folder for a moment. Raises OSError where that is impossible."""
    observer = _observe(os.path.realpath(folder), FileSystemEventHandler())
    observer.stop()
    observer.join()


def _observe(folder: str, handler: FileSystemEventHandler) -> BaseObserver:
    if not os.access(folder, os.R_OK):  # watchdog takes a refusal for success
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), folder)
    observer: BaseObserver | None = None
    try:
        observer = _NativeObserver()
        observer.schedule(handler, folder, event_filter=_EVENTS)
        observer.start()
    except (OSError, RuntimeError) as error:  # the latter when no thread can be started
        if observer is not None:
            observer.stop()
        if isinstance(error, OSError) and (limit := _LIMITS.get(error.errno or 0)):
            raise OSError(error.errno, f"{error.strerror}; raise {limit}") from error
        raise
    return observer


def _name(path: bytes | str) -> bytes:
    return os.fsencode(path).rpartition(b"/")[2]


def _identity(folder: Path) -> _Identity | None:
    try:
        facts = folder.stat()
    except OSError:
        return None
    return facts.st_dev, facts.st_ino
