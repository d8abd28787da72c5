"""Looking at the inbox: what lies in it; is an item still, being written, or unclaimable.

One walk answers everything about an item. Symlinks are entries of their own and never followed;
nothing but regular files is opened, and those only to ask for open writers. Names are bytes
throughout. All functions block: call them in a thread.
"""

import errno
import os
import stat
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import NewType

from alluvium_like.clock import monotonic
from alluvium_like.inbox.lease import has_open_writer
from alluvium_like.task import display_name

Fingerprint = NewType("Fingerprint", bytes)
"""A digest over a whole item; equal only when nothing in it was touched in between."""

_UNCLAIMABLE = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


@dataclass(frozen=True, slots=True)
class Item:
    """An entry of the inbox; a replaced one is another item, even under the same name."""

    name: bytes
    device: int
    inode: int
    is_dir: bool


@dataclass(frozen=True, slots=True)
class Ignore:
    """Which names are none of the daemon's business: files in the making, mostly."""

    prefixes: tuple[str, ...]
    suffixes: tuple[str, ...]

    def matches(self, name: bytes) -> bool:
        """Tell whether `name` is to be left alone."""
        text = os.fsdecode(name)
        return text.startswith(self.prefixes) or text.endswith(self.suffixes)


@dataclass(frozen=True, slots=True)
class Examination:
    """What one walk over an item saw, between `began` and `ended` (monotonic seconds).

    `fingerprint` is None when the item went, was replaced, or lost entries during the walk.
    `obstacle` says for a person why the item can never be claimed, or is empty.
    `entries` and `size` (bytes, as the files claim it) count everything in the item.
    """

    fingerprint: Fingerprint | None
    obstacle: str
    has_writer: bool
    entries: int
    size: int
    began: float
    ended: float


def list_items(inbox: Path, ignore: Ignore) -> list[Item]:
    """List what lies in the inbox, the longest unchanged first.

    Raises OSError when the inbox itself cannot be listed.
    """
    found: list[tuple[int, bytes, Item]] = []
    with os.scandir(os.fsencode(inbox)) as entries:
        for entry in entries:
            if ignore.matches(entry.name):
                continue
            try:
                facts = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            item = Item(entry.name, facts.st_dev, facts.st_ino, stat.S_ISDIR(facts.st_mode))
            found.append((facts.st_mtime_ns, entry.name, item))
    found.sort(key=lambda row: row[:2])
    return [item for _, _, item in found]


def examine(inbox: Path, item: Item) -> Examination:
    """Walk over the whole item once.

    Raises OSError when the machine is in trouble (no descriptors left, an IO error), never because
    of what somebody has put into the item.
    """
    began = monotonic()
    walk = _Walk(inbox, item)
    walk.run()
    return Examination(
        fingerprint=Fingerprint(walk.digest.digest()) if walk.steady else None,
        obstacle=walk.obstacle,
        has_writer=walk.has_writer,
        entries=walk.entries,
        size=walk.size,
        began=began,
        ended=monotonic(),
    )


class _Walk:
    """One pass over an item in a fixed order, without recursion: folders may be nested deeply."""

    def __init__(self, inbox: Path, item: Item) -> None:
        self.item = item
        self.top = os.fsencode(inbox / os.fsdecode(item.name))
        self.device = inbox.stat().st_dev
        self.digest = blake2b(digest_size=16)
        self.steady = True
        self.obstacle = ""
        self.has_writer = False
        self.entries = 0
        self.size = 0

    def run(self) -> None:
        try:
            facts = os.lstat(self.top)
        except FileNotFoundError:
            self.steady = False
            return
        if (facts.st_dev, facts.st_ino) != (self.item.device, self.item.inode):
            self.steady = False
            return
        pending = [(b"", facts)]
        while pending:
            relative, facts = pending.pop()
            self._note(relative, facts)
            if stat.S_ISDIR(facts.st_mode):
                pending += self._entries_of(relative, facts)
            elif stat.S_ISREG(facts.st_mode):
                self.has_writer = self.has_writer or has_open_writer(self._path(relative))

    def _note(self, relative: bytes, facts: os.stat_result) -> None:
        kind = stat.S_IFMT(facts.st_mode)
        self.entries += 1
        if kind == stat.S_IFREG:
            self.size += facts.st_size
        if kind in _UNCLAIMABLE:
            self._object(relative, f"is {_UNCLAIMABLE[kind]}")
        seen = (
            relative,
            facts.st_ino,
            kind,
            facts.st_size,
            facts.st_mtime_ns,
            facts.st_ctime_ns,
        )
        self.digest.update(repr(seen).encode())

    def _entries_of(
        self, relative: bytes, facts: os.stat_result
    ) -> list[tuple[bytes, os.stat_result]]:
        found: list[tuple[bytes, os.stat_result]] = []
        if facts.st_dev != self.device:  # asked of folders only: overlays number files differently
            self._object(relative, "is on another file system")
            return found
        try:
            with os.scandir(self._path(relative)) as entries:
                for entry in sorted(entries, key=lambda entry: entry.name):
                    facts = entry.stat(follow_symlinks=False)
                    found.append((_join(relative, entry.name), facts))
        except (FileNotFoundError, NotADirectoryError):
            self.steady = False
        except PermissionError:
            self._object(relative, "is a folder that the daemon may not read")
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            self._object(relative, "is nested too deeply")
        return found

    def _object(self, relative: bytes, what: str) -> None:
        self.obstacle = self.obstacle or f"{display_name(_join(self.item.name, relative))} {what}"

    def _path(self, relative: bytes) -> bytes:
        return _join(self.top, relative)


def _join(folder: bytes, name: bytes) -> bytes:
    return b"/".join(part for part in (folder, name) if part)
