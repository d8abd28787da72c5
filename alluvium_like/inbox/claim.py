"""Taking an item out of the inbox: one rename that never overwrites, and the way back.

Nothing is ever deleted: after every failure the item is whole in the inbox, in its task or in
quarantine. Names are raw bytes; on their way through paths surrogates stand for what is not UTF-8.
All functions block: call them in a thread.
"""

import contextlib
import errno
import os
import re
from collections.abc import Iterable, Sequence
from enum import StrEnum
from pathlib import Path

from alluvium_like.clock import utc_now
from alluvium_like.durable import fsync_dir, rename_noreplace, sync_file_system
from alluvium_like.errors import AlluviumError
from alluvium_like.failpoint import step
from alluvium_like.inbox.look import Item
from alluvium_like.inbox.seal import seal_of
from alluvium_like.task import display_name, new_task_id
from alluvium_like.trouble import trouble_of
from alluvium_like.workspace import TaskFolder

_REASON_NAME = "reason.txt"
_OTHER_REASON_NAME = "why-in-quarantine.txt"  # for an item that is itself called reason.txt
_NOTES = (_REASON_NAME, _OTHER_REASON_NAME)
_NOTE_HEAD = b"reason: "
_OUR_NAME = re.compile(r"\d{8}T\d{6}Z-.+-[0-9a-f]{6}")  # of `new_task_id`
_HINTS = {
    errno.ENOENT: "it is gone from the inbox",
    errno.EXDEV: "the inbox and the workspace are on different file systems",
    errno.EBUSY: "it is in use as a mount point",
    errno.EACCES: "the daemon may not move it",
    errno.EPERM: "the daemon may not move it",
}
_MANY = 16
"""From here on one sync of the whole file system costs less than two for every claim."""


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
        with step("claim.rename"):
            _move_item(inbox, item, _place_in_task(folder, item.name, is_dir=item.is_dir))
    except (OSError, ClaimFailed):
        _remove_empty(made)
        raise


def sync_claim(folders: Sequence[TaskFolder], tasks: Path, inbox: Path) -> list[str]:
    """Make the claims of a batch durable and return the seals of what was dropped.

    Raises OSError; then nothing is known to have lasted.
    """
    seals = [seal_of(folder.input) for folder in folders]
    if len(folders) >= _MANY:
        with step("claim.sync_file_system"):
            if sync_file_system(tasks):
                return seals
    for folder in folders:
        with step("claim.sync_input"):
            fsync_dir(folder.input)
        with step("claim.sync_folder"):
            fsync_dir(folder.root)
    with step("claim.sync_tasks"):
        fsync_dir(tasks)
    with step("claim.sync_inbox"):
        fsync_dir(inbox)
    return seals


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


def give_back(inbox: Path, folder: TaskFolder, name: bytes, *, is_dir: bool) -> None:
    """Return to the inbox what took the place of a claimed item and was moved in its stead.

    Where its name is taken again it is called as the task would have been. Raises OSError.
    """
    stray = _place_in_task(folder, name, is_dir=is_dir)
    for place in (_place_in_inbox(inbox, name), inbox / folder.root.name):
        if os.path.lexists(stray) and not os.path.lexists(place):
            with step("claim.give_back"):
                rename_noreplace(stray, place)
            with step("claim.sync_given_back"):
                fsync_dir(inbox)


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
        with step("quarantine.rename"):
            _move_item(inbox, item, target)
    except (OSError, ClaimFailed):
        if not os.path.lexists(target):
            note.unlink(missing_ok=True)
            _remove_empty((folder,))
        raise
    for changed in (folder, quarantine_dir, inbox):
        with step("quarantine.sync_folder"):
            fsync_dir(changed)
    return folder


def drop_half_quarantines(quarantine_dir: Path) -> None:
    """Remove folders of ours in which no item came to lie beside the note: a crash left it behind.

    Raises OSError when quarantine itself cannot be listed.
    """
    for folder in quarantine_dir.iterdir():
        with contextlib.suppress(OSError):  # what cannot be looked at is nothing half-made
            if folder.is_symlink() or not _OUR_NAME.fullmatch(folder.name):
                continue
            inside = list(folder.iterdir())
            if len(inside) == 1 and inside[0].name in _NOTES and _is_note(inside[0]):
                inside[0].unlink()
            folder.rmdir()  # which refuses where anything is left


def _move_item(inbox: Path, item: Item, target: Path) -> None:
    source = _place_in_inbox(inbox, item.name)
    try:
        rename_noreplace(source, target)
    except OSError as error:
        code = error.errno or 0
        if trouble_of(error):
            raise
        hint = _HINTS.get(code, os.strerror(code))
        if code == errno.EACCES and item.is_dir and not os.access(source, os.W_OK):
            hint = "it is a folder without the right to write, which moving it asks for (chmod u+w)"
        raise ClaimFailed(item, hint, code) from error
    facts = target.lstat()
    if (facts.st_dev, facts.st_ino) == (item.device, item.inode):
        return
    try:
        with step("claim.put_back"):
            rename_noreplace(target, source)
    except OSError as error:
        text = f"it was replaced meanwhile; what took its place went to {target.parent}"
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
        with step("quarantine.sync_note"):
            os.fsync(stream.fileno())


def _explain(item: Item, reason: str) -> bytes:
    lines = (f"reason: {reason}", f"name: {display_name(item.name)}", f"time: {utc_now()}")
    return ("\n".join(lines) + "\n").encode("utf-8", "backslashreplace")


def _is_note(path: Path) -> bool:
    """Tell whether a file is a reason that we wrote, or began to."""
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(len(_NOTE_HEAD)) in (_NOTE_HEAD, b"")


def _place_in_inbox(inbox: Path, name: bytes) -> Path:
    return inbox / os.fsdecode(name)


def _place_in_task(folder: TaskFolder, name: bytes, *, is_dir: bool) -> Path:
    return folder.input if is_dir else folder.input / os.fsdecode(name)


def _inode(path: Path) -> int | None:
    try:
        return path.lstat().st_ino
    except (FileNotFoundError, NotADirectoryError):
        return None
