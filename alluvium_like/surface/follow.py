"""The output of a task's last attempt and tests, as it is or as it grows.

Following waits for the file system's events on the task's own folder; every transition appends to
events.jsonl there, so the end of the task wakes it too.
"""

import queue
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

from alluvium_like.lifecycle import ACTIVE
from alluvium_like.store.reader import StoreReader
from alluvium_like.task import Task
from alluvium_like.workspace import Workspace

_SLOW_LOOK_SECONDS = 10.0


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
    system.mkdir(parents=True, exist_ok=True)
    observer = Observer()
    observer.schedule(_Any(), str(system), recursive=True)
    observer.start()
    try:
        tail = _Tail(workspace, task_id, out)
        while tail.pump().state in ACTIVE:
            try:
                changes.get(timeout=_SLOW_LOOK_SECONDS)
            except queue.Empty:
                continue
        tail.pump()
    finally:
        observer.stop()
        observer.join()


@dataclass(slots=True)
class _Tail:
    workspace: Workspace
    task_id: str
    out: TextIO
    read: dict[Path, int] = field(default_factory=dict)

    def pump(self) -> Task:
        """Print what is new and return the task as it was before that."""
        with StoreReader(self.workspace.database) as store:
            task = store.find(self.task_id)
        folder = self.workspace.task(self.task_id)
        attempt = folder.attempt(task.attempt)
        for path in (attempt / "stdout.log", attempt / "stderr.log", folder.tests_log):
            self._print_new(path)
        self.out.flush()
        return task

    def _print_new(self, path: Path) -> None:
        try:
            with path.open("rb") as stream:
                stream.seek(self.read.get(path, 0))
                data = stream.read()
        except OSError:
            return
        if not data:
            return
        if path not in self.read:
            self.out.write(f"==> {path.relative_to(self.workspace.root)} <==\n")
        self.read[path] = self.read.get(path, 0) + len(data)
        text = data.decode(errors="replace")
        self.out.write("".join(c if c.isprintable() or c in "\n\t\r" else "�" for c in text))
