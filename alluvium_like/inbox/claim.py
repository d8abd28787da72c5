"""Taking an item out of the inbox: one rename that never overwrites, and the way back.

Nothing is ever deleted: after every failure the item is whole in the inbox, in its task or in
quarantine. Names are raw bytes; on their way through paths surrogates stand for what is not UTF-8.
All functions block: call them in a thread.
"""

import contextlib
import errno
import os
from collections.abc import Iterable, Sequence
from enum import StrEnum
from pathlib import Path

from alluvium_like.clock import utc_now
from alluvium_like.durable import (
    fsync_dir,
    rename_noreplace,
    sync_file_system,
    write_durable,
)
from alluvium_like.errors import AlluviumError
from alluvium_like.inbox.look import Item
from alluvium_like.task import display_name, new_task_id
from alluvium_like.workspace import TaskFolder

_REASON_NAME = "reason.txt"
_OTHER_REASON_NAME = "why-in-quarantine.txt"  # for an item that is itself called reason.txt
_HINTS = {
    errno.ENOENT: "it is gone from the inbox",
    errno.EXDEV: "the inbox and the workspace are on different file systems",
    errno.EBUSY: "it is in use as a mount point",
    errno.EACCES: "the daemon may not move it",
    errno.EPERM: "the daemon may not move it",
}
_MANY = 16
"""From here on one sync of the whole file system costs less than two for every claim."""
_MACHINE_TROUBLE = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ENOMEM, errno.EROFS)


class ClaimFailed(AlluviumError):
    """An item could not be moved; `reason` is for people, `code` the errno or 0."""

    def __init__(self, item: Item, reason: str, code: int = 0) -> None:
        super().__init__(f"{display_name(item.name)} was not claimed: {reason}")
        self.reason = reason
        self.code = code


class Place(StrEnum):
    """Where an item of a half-done claim turned out to be."""

    IN_INBOX = "in_inbox"
    IN_TASK = "in_task"
    NOWHERE = "nowhere"


def move_into_task(inbox: Path, item: Item, folder: TaskFolder) -> None:
    """Make the task's folder and move the item in: a folder becomes `input/`, a file lies in it.

    Raises ClaimFailed when the item cannot be moved or is not the one that was looked at, OSError
    when the machine is in trouble (disk full, IO error). Not durable before `sync_claim`.
    """
    made: list[Path] = []
    try:
        for part in (folder.root,) if item.is_dir else (folder.root, folder.input):
            part.mkdir()
            made.insert(0, part)
        _move(inbox, item, _place_in_task(folder, item.name, is_dir=item.is_dir))
    except (OSError, ClaimFailed):
        _remove_empty(made)
        raise


def make_task_folder(folder: TaskFolder, name: str, text: str) -> None:
    """Make the folder of a task that did not come from the inbox, durably. Raises OSError."""
    folder.input.mkdir(parents=True)
    write_durable(folder.input / name, text.encode(errors="backslashreplace"))
    for path in (folder.root, folder.root.parent):
        fsync_dir(path)


def sync_claim(folders: Sequence[TaskFolder], tasks: Path, inbox: Path) -> None:
    """Make the claims of a batch durable. Raises OSError; then nothing is known to have lasted."""
    if len(folders) >= _MANY and sync_file_system(tasks):
        return
    for folder in folders:
        fsync_dir(folder.input)
        fsync_dir(folder.root)
    fsync_dir(tasks)
    fsync_dir(inbox)


def where_is(inbox: Path, folder: TaskFolder, inode: int, name: bytes) -> Place:
    """Find out after a crash whether the rename of a claim happened.

    The device is not asked for: its number may change with a reboot, and both places are on one
    file system. Raises OSError when a place cannot be looked at.
    """
    for is_dir in (True, False):
        if _inode(_place_in_task(folder, name, is_dir=is_dir)) == inode:
            return Place.IN_TASK
    if _inode(_place_in_inbox(inbox, name)) == inode:
        return Place.IN_INBOX
    return Place.NOWHERE


def undo_empty(folder: TaskFolder) -> None:
    """Remove the half-made folder of a claim that did not happen; whatever holds content stays.

    An empty folder that was dropped looks the same once it is `input/`: ask `where_is` first.
    """
    _remove_empty((folder.input, folder.root))


def quarantine(inbox: Path, item: Item, quarantine_dir: Path, reason: str) -> Path:
    """Set the item aside with its reason in a folder of its own, durably, and return that folder.

    Raises ClaimFailed when the item cannot be moved, OSError when the machine is in trouble; then
    the item is in the inbox and nothing else is left behind, unless only the last sync failed.
    """
    folder = quarantine_dir / new_task_id(display_name(item.name))
    taken = os.fsdecode(item.name).lower() == _REASON_NAME
    note = folder / (_OTHER_REASON_NAME if taken else _REASON_NAME)
    target = folder / os.fsdecode(item.name)
    folder.mkdir()
    try:
        _write_synced(note, _explain(item, reason))
        _move(inbox, item, target)
    except (OSError, ClaimFailed):
        if not os.path.lexists(target):
            note.unlink(missing_ok=True)
            _remove_empty((folder,))
        raise
    for changed in (folder, quarantine_dir, inbox):
        fsync_dir(changed)
    return folder


def _move(inbox: Path, item: Item, target: Path) -> None:
    source = _place_in_inbox(inbox, item.name)
    try:
        rename_noreplace(source, target)
    except OSError as error:
        code = error.errno or 0
        if code in _MACHINE_TROUBLE:
            raise
        raise ClaimFailed(item, _HINTS.get(code, os.strerror(code)), code) from error
    facts = target.lstat()
    if (facts.st_dev, facts.st_ino) == (item.device, item.inode):
        return
    try:
        rename_noreplace(target, source)
    except OSError as error:
        text = f"it was replaced meanwhile; what took its place is now in {target.parent}"
        raise ClaimFailed(item, text, error.errno or 0) from error
    raise ClaimFailed(item, "it was replaced by another one of the same name")


def _remove_empty(folders: Iterable[Path]) -> None:
    for folder in folders:
        with contextlib.suppress(OSError):  # what holds content stays, and its parent with it
            folder.rmdir()


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("xb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def _explain(item: Item, reason: str) -> bytes:
    lines = (f"reason: {reason}", f"name: {display_name(item.name)}", f"time: {utc_now()}")
    return ("\n".join(lines) + "\n").encode("utf-8", "backslashreplace")


def _place_in_inbox(inbox: Path, name: bytes) -> Path:
    return inbox / os.fsdecode(name)


def _place_in_task(folder: TaskFolder, name: bytes, *, is_dir: bool) -> Path:
    return folder.input if is_dir else folder.input / os.fsdecode(name)


def _inode(path: Path) -> int | None:
    try:
        return path.lstat().st_ino
    except (FileNotFoundError, NotADirectoryError):
        return None
