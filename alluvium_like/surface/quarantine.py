"""What lies in quarantine, and what a person does about it, with the daemon up or down.

An entry is a folder that holds an item and a note with the reason. Only whole renames change
anything: back into the inbox, where nothing is overwritten, or into the trash. Nothing is followed;
names may be any bytes.
"""

import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from alluvium_like.deletion import empty
from alluvium_like.durable import fsync_dir
from alluvium_like.errors import AlluviumError, DaemonRunning
from alluvium_like.failpoint import step
from alluvium_like.guarded import open_folder, read_regular
from alluvium_like.lock import workspace_lock
from alluvium_like.stages.trash import disk_size, throw_away
from alluvium_like.surface.submit import publish
from alluvium_like.task import display_name
from alluvium_like.workspace import Workspace

_NOTES: Final = ("reason.txt", "why-in-quarantine.txt")  # the second where the first is the item
_NOTE_BYTES = 10_000


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry: its path, what lies in it beside the note, and what the note says."""

    path: Path
    items: tuple[str, ...]
    note: str
    reason: str
    since: float  # seconds since the epoch

    @property
    def name(self) -> str:
        """How the entry is called, safe to print."""
        return _shown(self.path.name)

    @property
    def shown_items(self) -> list[str]:
        """The names of the items, safe to print."""
        return [_shown(item) for item in self.items]

    def document(self) -> dict[str, object]:
        """Return the shape that scripts rely on."""
        return {
            "name": self.name,
            "items": self.shown_items,
            "reason": self.reason or None,
            "bytes": disk_size(self.path),
            "age_seconds": round(max(time.time() - self.since, 0.0)),
            "path": _shown(str(self.path)),
        }


def entries(workspace: Workspace) -> list[Entry]:
    """Return what is in quarantine, the oldest first."""
    found = [_read(path) for path in _paths(workspace.quarantine)]
    return sorted(found, key=lambda entry: (entry.since, entry.name))


def find(workspace: Workspace, part: str) -> Entry:
    """Return the entry that `part` of its own or its item's name means. Raises AlluviumError."""
    all_of_them = entries(workspace)
    same = [entry for entry in all_of_them if entry.name == part]
    like = same or [e for e in all_of_them if any(part in n for n in (e.name, *e.shown_items))]
    if not like:
        raise AlluviumError(
            f"nothing in quarantine matches '{_shown(part)}'; 'quarantine list' shows it"
        )
    if len(like) > 1:
        some = ", ".join(entry.name for entry in like[:5])
        raise AlluviumError(f"'{_shown(part)}' matches several: {some}; give more of the name")
    return like[0]


def release(workspace: Workspace, entry: Entry) -> list[str]:
    """Move the items back into the inbox; return the names that they got there.

    Raises AlluviumError when there is nothing to move, OSError when it cannot be moved.
    """
    if not entry.items:
        raise AlluviumError(f"{entry.name} holds nothing but its reason; 'quarantine drop' ends it")
    is_item = entry.items == (entry.path.name,) and not entry.note
    folder = entry.path.parent if is_item else entry.path
    names = [publish(folder / item, workspace.inbox, item) for item in entry.items]
    with step("release.sync_folder"):
        fsync_dir(folder)
    if not is_item and not _beside(entry.path, entry.note):
        throw_away(workspace.quarantine, [entry.path.name], workspace.trash)
    return [_shown(name) for name in names]


def drop(workspace: Workspace, entry: Entry) -> None:
    """Delete an entry, item and all. Raises OSError when it cannot be moved away."""
    throw_away(workspace.quarantine, [entry.path.name], workspace.trash)
    try:
        with workspace_lock(workspace):
            empty(workspace.trash, lambda: False)
    except (DaemonRunning, OSError):
        return  # the janitor does it, or says why it cannot


def _paths(quarantine: Path) -> Iterator[Path]:
    try:
        yield from (path for path in quarantine.iterdir() if not path.name.startswith("."))
    except FileNotFoundError:
        return


def _read(path: Path) -> Entry:
    """Describe an entry; whatever is no folder with a note is an item that was put there."""
    itself = Entry(path, (path.name,), "", "", path.lstat().st_mtime)
    if not stat.S_ISDIR(path.lstat().st_mode):
        return itself
    try:
        with open_folder(path) as folder:
            notes = _notes(folder)
            since = {n: os.stat(n, dir_fd=folder, follow_symlinks=False).st_mtime for n in notes}
    except OSError:
        return itself
    if len(notes) != 1:
        return itself
    ((name, text),) = notes.items()
    reason = next(iter(_said(text, "reason")), "")
    return Entry(path, tuple(_beside(path, name)), name, reason, since[name])


def _notes(folder: int) -> dict[str, str]:
    """Return the files that may be the note: only one of two says that the other is the item."""
    names = os.listdir(folder)
    texts: dict[str, str] = {
        name: (read_regular(folder, name, _NOTE_BYTES) or b"").decode(errors="replace")
        for name in _NOTES
        if name in names
    }
    if len(texts) == 1:
        return texts
    others = {_NOTES[0]: _NOTES[1], _NOTES[1]: _NOTES[0]}
    return {name: text for name, text in texts.items() if others[name] in _said(text, "name")}


def _said(text: str, key: str) -> list[str]:
    return [
        display_name(line.removeprefix(f"{key}: ").encode())
        for line in text.splitlines()
        if line.startswith(f"{key}: ")
    ]


def _beside(folder: Path, note: str) -> list[str]:
    return sorted(name for name in os.listdir(folder) if name != note)  # noqa: PTH208 - names alone


def _shown(name: str) -> str:
    return display_name(os.fsencode(name))
