"""The system's events about one folder: watchdog, made to suit the inbox.

Only the folder itself is watched, and only for what can make an item claimable: arrivals and closed
writers, and its own removal or replacement. The daemon's own looks and claims raise no events.
"""

import errno
import os
import sys
from pathlib import Path
from typing import Final

from watchdog.events import (
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers.api import BaseObserver

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
_LIMITS: Final = {
    errno.ENOSPC: "fs.inotify.max_user_watches",
    errno.EMFILE: "fs.inotify.max_user_instances or the daemon's limit of open files",
}


def observe(folder: str, handler: FileSystemEventHandler) -> BaseObserver:
    """Hand the events of a folder to `handler`, from now on.

    Raises OSError where that is impossible, RuntimeError where no thread can be started.
    """
    if not os.access(folder, os.R_OK):  # watchdog takes a refusal for success
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), folder)
    observer: BaseObserver | None = None
    try:
        observer = _NativeObserver()
        observer.schedule(handler, folder, event_filter=_EVENTS)
        observer.start()
    except (OSError, RuntimeError) as error:
        if observer is not None:
            observer.stop()
        if isinstance(error, OSError) and (limit := _LIMITS.get(error.errno or 0)):
            raise OSError(error.errno, f"{error.strerror}; raise {limit}") from error
        raise
    return observer


def try_events(folder: Path) -> None:
    """Watch a folder for a moment. Raises OSError where that is impossible."""
    observer = observe(os.path.realpath(folder), FileSystemEventHandler())
    observer.stop()
    observer.join()
