"""Seals on what was dropped: whether anybody has touched it since, where and when.

A seal covers name, kind, rights, size and time of change (ctime, which no program can set) of all
that is in a task's `input/`; nothing is opened or followed. It counts in the `tasks/` where it was
made: in a copy of the workspace every time of change is another. All functions block and raise
OSError when the machine is in trouble, never because of what somebody has put into the folder.
"""

import errno
import os
import stat
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path

from alluvium_like.clock import utc_now, utc_text
from alluvium_like.task import display_name

_NANO = 1_000_000_000
_NOT_TO_BE_LISTED = (errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.ENAMETOOLONG)
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Change:
    """What was done to sealed input: where, and between which moments (UTC, as in the store)."""

    what: str
    first: str
    last: str


def seal_of(folder: Path) -> str:
    """Seal `tasks/<id>/input` as it is now."""
    walk = _Walk(folder)
    return f"{_place(folder)} {walk.newest} {walk.digest.hexdigest()}"


def is_sealed(folder: Path, seal: str) -> bool:
    """Tell whether `seal` can say anything about this folder; an empty one cannot."""
    return seal.partition(" ")[0] == str(_place(folder))


def find_change(folder: Path, seal: str) -> Change | None:
    """Compare a folder with its seal; None where nobody has touched it."""
    _, newest, digest = seal.split()
    walk = _Walk(folder, after=int(newest))
    if walk.digest.hexdigest() == digest:
        return None
    touched = walk.files or walk.folders
    if not touched:
        return Change("input", _moment(int(newest)), utc_now())
    times = [when for when, _ in (*walk.files, *walk.folders)]
    names = [display_name(_join(b"input", path)) for _, path in touched]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return Change(", ".join(names[:_SHOWN]) + more, _moment(min(times)), _moment(max(times)))


class _Walk:
    """One pass in a fixed order; `files` and `folders` are what was touched `after` a moment (ns).

    Whatever is added, taken away or renamed touches the folder that it is in.
    """

    def __init__(self, folder: Path, after: int = 0) -> None:
        self.digest = blake2b(digest_size=16)
        self.newest = 0
        self.files: list[tuple[int, bytes]] = []
        self.folders: list[tuple[int, bytes]] = []
        top = os.fsencode(folder)
        pending = [b""]
        while pending:
            path = pending.pop()
            try:
                facts = os.lstat(_join(top, path))
                is_folder = stat.S_ISDIR(facts.st_mode)
                names = sorted(_names(_join(top, path))) if is_folder else []
            except OSError as error:
                if error.errno not in _NOT_TO_BE_LISTED:
                    raise
                self.digest.update(repr((path, error.errno)).encode())
                continue
            seen = (path, facts.st_mode, facts.st_size, facts.st_ctime_ns)
            self.digest.update(repr(seen).encode())
            self.newest = max(self.newest, facts.st_ctime_ns)
            if facts.st_ctime_ns > after:
                (self.folders if is_folder else self.files).append((facts.st_ctime_ns, path))
            pending += [_join(path, name) for name in names]


def _names(folder: bytes) -> list[bytes]:
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries]


def _place(folder: Path) -> int:
    return folder.parents[1].stat().st_ino


def _join(folder: bytes, name: bytes) -> bytes:
    return b"/".join(part for part in (folder, name) if part)


def _moment(nanoseconds: int) -> str:
    return utc_text(datetime.fromtimestamp(nanoseconds / _NANO, UTC))
