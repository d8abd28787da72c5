"""The output of a task's last attempt and tests, as it is or as it grows.

Following waits for the file system's events on the task's own folder and on that of the tests;
every transition appends to events.jsonl there, so the end of the task wakes it too.
"""

import codecs
import logging
import queue
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TextIO

from watchdog.events import (
    DirCreatedEvent,
    FileCreatedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer

from alluvium_like.lifecycle import ACTIVE
from alluvium_like.store.reader import StoreReader
from alluvium_like.task import Task
from alluvium_like.workspace import Workspace

_SLOW_LOOK_SECONDS = 10.0
_CHUNK_BYTES = 1 << 16
# Not all events: reading the files raises some, which would keep the reader reading.
_GROWTH: Final[list[type[FileSystemEvent]]] = [
    *(DirCreatedEvent, FileCreatedEvent, FileModifiedEvent, FileMovedEvent)
]
# Its threads complain of being stopped; a terminal is no place for that.
logging.getLogger("watchdog").addHandler(logging.NullHandler())
_new_decoder: Final = codecs.getincrementaldecoder("utf-8")


def print_log(workspace: Workspace, task_id: str, out: TextIO) -> None:
    """Print what there is."""
    _Tail(workspace, task_id, out).pump()


def follow_log(workspace: Workspace, task_id: str, out: TextIO) -> None:
    """Print what there is and what comes, until nothing more happens to the task by itself."""
    changes: queue.SimpleQueue[None] = queue.SimpleQueue()

    class _Any(FileSystemEventHandler):
        def on_any_event(self, event: FileSystemEvent) -> None:
            changes.put(None)

    system = workspace.task(task_id).system
    observer = Observer()
    for folder in (system, workspace.trial_logs):
        folder.mkdir(parents=True, exist_ok=True)
        observer.schedule(_Any(), str(folder), event_filter=_GROWTH)
    observer.start()
    watched = {system}
    try:
        tail = _Tail(workspace, task_id, out)
        while (task := tail.pump()).state in ACTIVE:
            attempt = workspace.task(task_id).attempt(task.attempt)
            if attempt not in watched and attempt.is_dir():
                watched.add(attempt)
                observer.schedule(_Any(), str(attempt), event_filter=_GROWTH)
                continue  # what came before the watch is printed now
            try:
                changes.get(timeout=_SLOW_LOOK_SECONDS)
            except queue.Empty:
                continue
        tail.pump()
    finally:
        observer.stop()
        observer.join()


@dataclass(slots=True)
class _File:
    """How much was read; a character whose bytes are not all there yet waits in the decoder."""

    read: int = 0
    decoder: codecs.IncrementalDecoder = field(default_factory=lambda: _new_decoder("replace"))


@dataclass(slots=True)
class _Tail:
    workspace: Workspace
    task_id: str
    out: TextIO
    begun: dict[Path, _File] = field(default_factory=dict)

    def pump(self) -> Task:
        """Print what is new and return the task as it was before that."""
        with StoreReader(self.workspace.database) as store:
            task = store.find(self.task_id)
            trials = store.trials(task.id)
        attempt = self.workspace.task(self.task_id).attempt(task.attempt)
        tests = [self.workspace.trial_log(trial["id"]) for trial in trials[-1:]]
        for path in dict.fromkeys((attempt / "stdout.log", attempt / "stderr.log", *self.begun)):
            self._print_new(path)
        for path in tests:
            self._print_new(path)
        self.out.flush()
        return task

    def _print_new(self, path: Path) -> None:
        while data := _read_at(path, self.begun[path].read if path in self.begun else 0):
            if path not in self.begun:
                self.begun[path] = _File()
                self.out.write(f"==> {path.relative_to(self.workspace.root)} <==\n")
            file = self.begun[path]
            file.read += len(data)
            text = file.decoder.decode(data)
            self.out.write("".join(c if c.isprintable() or c in "\n\t\r" else "�" for c in text))


def _read_at(path: Path, offset: int) -> bytes:
    """Return the next piece of a file, nothing where there is none: logs may be large."""
    try:
        with path.open("rb") as stream:
            stream.seek(offset)
            return stream.read(_CHUNK_BYTES)
    except OSError:
        return b""
