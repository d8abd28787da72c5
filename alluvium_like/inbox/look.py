"""Looking at the inbox: what lies in it; is an item still, being written, or unclaimable.

One walk answers everything about an item. Symlinks are entries of their own and never followed;
nothing but folders and regular files is opened, the files only to ask for open writers. Items are
known by their bytes; in paths surrogates stand for what is not UTF-8. All functions block: call
them in a thread.
"""

import errno
import os
import stat
from dataclasses import dataclass
from hashlib import blake2b
from operator import itemgetter
from pathlib import Path
from typing import NewType

from alluvium_like.clock import monotonic
from alluvium_like.guarded import open_folder
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
# What stands where a folder was: nothing, a file, a link.
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
_LONGEST_SHOWN = 400


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
class Limits:
    """How much one item may hold: entries below its name, and bytes as a copy would have them."""

    entries: int
    size: int


@dataclass(frozen=True, slots=True)
class Examination:
    """What one walk over an item saw, between `began` and `ended` (monotonic seconds).

    `fingerprint` is None when the item went, was replaced, or lost entries during the walk.
    `obstacle` says for a person why the item can never be claimed, or is empty.
    """

    fingerprint: Fingerprint | None
    obstacle: str
    has_writer: bool
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


def examine(inbox: Path, item: Item, limits: Limits) -> Examination:
    """Walk over the whole item once, or until it is known to exceed the limits.

    Raises OSError when the machine is in trouble (no descriptors left, an IO error), never because
    of what somebody has put into the item.
    """
    began = monotonic()
    walk = _Walk(inbox, item, limits)
    walk.run()
    return Examination(
        fingerprint=Fingerprint(walk.digest.digest()) if walk.steady else None,
        obstacle=walk.obstacle,
        has_writer=walk.has_writer,
        began=began,
        ended=monotonic(),
    )


class _Walk:
    """One pass over an item in a fixed order, without recursion: folders may be nested deeply.

    Every folder is listed through its own descriptor, after a look that it is the one that was
    found: nobody can put a link in its place that leads the walk outside.
    """

    def __init__(self, inbox: Path, item: Item, limits: Limits) -> None:
        self.item = item
        self.top = inbox / os.fsdecode(item.name)
        self.limits = limits
        self.device = inbox.stat().st_dev
        self.digest = blake2b(digest_size=16)
        self.steady = True
        self.obstacle = ""
        self.has_writer = False
        self.entries = 0
        self.size = 0
        self.over = False

    def run(self) -> None:
        try:
            facts = self.top.lstat()
        except FileNotFoundError:
            self.steady = False
            return
        if (facts.st_dev, facts.st_ino) != (self.item.device, self.item.inode):
            self.steady = False
            return
        self._note("", facts)
        if stat.S_ISREG(facts.st_mode):
            self.has_writer = has_open_writer(self.top)
        pending = [("", facts)] if stat.S_ISDIR(facts.st_mode) else []
        while pending and not self.over:
            pending += self._look_into(*pending.pop())

    def _look_into(self, relative: str, facts: os.stat_result) -> list[tuple[str, os.stat_result]]:
        """Take note of what a folder holds, and return the folders in it."""
        inner: list[tuple[str, os.stat_result]] = []
        if facts.st_dev != self.device:  # asked of folders only: overlays number files differently
            self._object(relative, "is on another file system")
            return inner
        try:
            with open_folder(self.top / relative) as folder:
                if not os.path.samestat(os.fstat(folder), facts):
                    self.steady = False
                    return inner
                for name, below in self._list(folder):
                    path = _join(relative, name)
                    self._note(path, below)
                    if stat.S_ISDIR(below.st_mode):
                        inner.append((path, below))
                    elif stat.S_ISREG(below.st_mode):
                        self.has_writer = self.has_writer or has_open_writer(name, folder)
        except PermissionError:
            self._object(relative, "is a folder that the daemon may not read")
        except OSError as error:
            if error.errno in _GONE:
                self.steady = False
            elif error.errno == errno.ENAMETOOLONG:
                self._object(relative, "is nested too deeply")
            else:
                raise
        return inner

    def _list(self, folder: int) -> list[tuple[str, os.stat_result]]:
        found: list[tuple[str, os.stat_result]] = []
        with os.scandir(folder) as entries:
            for entry in entries:
                if self.entries + len(found) > self.limits.entries:
                    self._exceed(f"{self.limits.entries:_} files and folders", "max_item_files")
                    return []  # which of them were found is a matter of chance, the folder is known
                found.append((entry.name, entry.stat(follow_symlinks=False)))
        return sorted(found, key=itemgetter(0))

    def _note(self, relative: str, facts: os.stat_result) -> None:
        kind = stat.S_IFMT(facts.st_mode)
        self.entries += 1
        if kind == stat.S_IFREG:
            self.size += facts.st_size
            if self.size > self.limits.size:
                self._exceed(f"{self.limits.size:_} bytes", "max_item_bytes")
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

    def _exceed(self, limit: str, setting: str) -> None:
        self.over = True
        self._object("", f"holds more than the {limit} that safety.{setting} in config.toml allows")

    def _object(self, relative: str, what: str) -> None:
        where = _join(os.fsdecode(self.item.name), relative)
        self.obstacle = self.obstacle or f"{_shown(where)} {what}"


def _join(folder: str, name: str) -> str:
    return "/".join(part for part in (folder, name) if part)


def _shown(path: str) -> str:
    text = display_name(os.fsencode(path))
    if len(text) <= _LONGEST_SHOWN:
        return text
    return f"{text[: _LONGEST_SHOWN // 2]}…{text[-_LONGEST_SHOWN // 2 :]}"
