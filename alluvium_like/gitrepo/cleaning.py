"""Cleaning a used worktree, exactly: what is not as git checked it out goes, whoever hid it.

The witness is the index that was written with the checkout and was never shown to anybody: it holds
each file's inode and times to the nanosecond, though git itself compares seconds. Where a clock is
too coarse to tell a change from the checkout, the marker written after it does. Nothing is followed
or opened; folders leave by rename. Afterwards files may be missing, but none is wrong.
"""

import os
import secrets
import stat
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from alluvium_like.deletion import to_trash
from alluvium_like.errors import AlluviumError

_HEADER = struct.Struct(">4sII")
_STAMP = struct.Struct(">10I")
_ID_BYTES = {"sha1": 20, "sha256": 32}
_LONG_NAME = 0xFFF
_NOT_PLAIN = 0xF000  # assumed valid, extended, or a side of a conflict: none is in a clean index
_LOW = 0xFFFFFFFF
_BILLION = 1_000_000_000
_GITLINK = 0o160000
_ATTRIBUTES = b".gitattributes"

Stamp = tuple[int, ...]
Attributes = frozenset[tuple[bytes, bytes]]


class UnusableTree(AlluviumError):
    """A tree cannot be cleaned, or its index not be read: it is thrown away, nothing is lost."""


class Interrupted(AlluviumError):
    """Cleaning was told to stop half-way; it begins anew the next time."""


@dataclass(frozen=True, slots=True)
class Index:
    """What an index says of a clean tree: the stamp of each file, and the folders around them.

    `submodules` are folders that hold nothing; `attributes` are the files that decide how all
    others are written, with their ids; `size` is in bytes.
    """

    files: dict[bytes, Stamp]
    folders: frozenset[bytes]
    submodules: frozenset[bytes]
    attributes: Attributes
    size: int


@dataclass(frozen=True, slots=True)
class Fresh:
    """How files and folders look that we make here: permissions, owner, extended attributes."""

    plain: int
    executable: int
    folder: int
    owner: tuple[int, int]
    extended: frozenset[str]
    device: int


def read_index(path: Path, object_format: str) -> Index:
    """Read an index of version 2 that git wrote for us. Raises UnusableTree or OSError."""
    try:
        return _parse(path.read_bytes(), _ID_BYTES[object_format])
    except (struct.error, ValueError, LookupError) as error:
        raise UnusableTree(f"{path}: not an index that can be relied on: {error}") from error


def read_attributes(path: Path, object_format: str) -> Attributes:
    """Return the names and ids of the files of attributes; fast where there are none.

    Raises UnusableTree or OSError.
    """
    if _ATTRIBUTES not in path.read_bytes():
        return frozenset()
    return read_index(path, object_format).attributes


def look_of_fresh(folder: Path) -> Fresh:
    """Learn what is made here by making it: umask, set-group-id and access lists all count.

    Raises OSError.
    """
    probe = folder / f".{secrets.token_hex(4)}"
    probe.mkdir()
    try:
        held = probe.lstat()
        extended = _extended(os.fsencode(probe))
        inside = probe / "file"
        inside.touch(0o777, exist_ok=False)
        executable = stat.S_IMODE(inside.lstat().st_mode)
        inside.unlink()
    finally:
        probe.rmdir()
    owner = (held.st_uid, held.st_gid)
    mode = stat.S_IMODE(held.st_mode)
    return Fresh(executable & ~0o111, executable, mode, owner, extended, held.st_dev)


def clean(
    tree: Path,
    index: Index,
    marked_ns: int,
    fresh: Fresh,
    trash: Path,
    interrupted: Callable[[], bool] = lambda: False,
) -> bool:
    """Take away all that is not as it was given out; return whether nothing else is missing.

    Raises UnusableTree or OSError where a person would be needed, Interrupted when told to stop.
    """
    root = os.fsencode(tree)
    if not _make_usable(root, os.lstat(root), fresh):
        raise UnusableTree(f"{tree}: its own folder was replaced or marked")
    found = 0
    left = [b""]
    while left:
        if interrupted():
            raise Interrupted(f"{tree}: half cleaned")
        inside = left.pop()
        with os.scandir(root + b"/" + inside) as listing:
            entries = list(listing)
        for entry in entries:
            name = inside + entry.name
            held = entry.stat(follow_symlinks=False)
            if stat.S_ISDIR(held.st_mode):
                if name in index.folders and _make_usable(entry.path, held, fresh):
                    left.append(name + b"/")
                    found += name in index.submodules
                else:
                    to_trash(Path(os.fsdecode(entry.path)), trash)
            elif _as_given(held, index.files.get(name), marked_ns, fresh):
                found += 1
            else:
                os.unlink(entry.path)  # noqa: PTH108
    return found == len(index.files) + len(index.submodules)


def _as_given(held: os.stat_result, stamp: Stamp | None, marked_ns: int, fresh: Fresh) -> bool:
    """Tell whether nothing was done to a file since: not even its time of change can be put back.

    That time moves with contents, permissions, links and attributes; the inode tells a file that
    came in with a folder.
    """
    if stamp is None or held.st_ctime_ns >= marked_ns:
        return False
    changed, changed_ns = divmod(held.st_ctime_ns, _BILLION)
    modified, modified_ns = divmod(held.st_mtime_ns, _BILLION)
    mode = held.st_mode
    if stat.S_ISREG(mode):
        wanted = fresh.executable if stamp[6] & 0o100 else fresh.plain
        if stat.S_IMODE(mode) != wanted:
            return False
        mode = stat.S_IFREG | (0o755 if mode & 0o100 else 0o644)
    elif stat.S_ISLNK(mode):
        mode = stat.S_IFLNK
    return stamp == (
        changed & _LOW,
        changed_ns,
        modified & _LOW,
        modified_ns,
        held.st_dev & _LOW,
        held.st_ino & _LOW,
        mode,
        held.st_uid & _LOW,
        held.st_gid & _LOW,
        held.st_size & _LOW,
    )


def _make_usable(path: bytes, held: os.stat_result, fresh: Fresh) -> bool:
    """Give a folder the permissions of a fresh one; false where it is not one of ours at all."""
    if not stat.S_ISDIR(held.st_mode) or (held.st_uid, held.st_gid) != fresh.owner:
        return False
    if held.st_dev != fresh.device:
        raise UnusableTree(f"{os.fsdecode(path)}: something is mounted there")
    if stat.S_IMODE(held.st_mode) != fresh.folder:
        os.chmod(path, fresh.folder)  # noqa: PTH101 - names are bytes
    return _extended(path) == fresh.extended


def _extended(path: bytes) -> frozenset[str]:
    if not hasattr(os, "listxattr"):
        return frozenset()
    try:
        return frozenset(os.listxattr(path, follow_symlinks=False))
    except NotImplementedError:
        return frozenset()


def _parse(data: bytes, id_bytes: int) -> Index:
    signature, version, count = _HEADER.unpack_from(data)
    if signature != b"DIRC" or version != 2:
        raise ValueError(f"version {version} of {signature!r}")
    files: dict[bytes, Stamp] = {}
    parents: set[bytes] = set()
    submodules: set[bytes] = set()
    attributes: set[tuple[bytes, bytes]] = set()
    size, at, to_name = 0, _HEADER.size, _STAMP.size + id_bytes + 2
    for _ in range(count):
        stamp = _STAMP.unpack_from(data, at)
        flags = data[at + to_name - 2] << 8 | data[at + to_name - 1]
        if flags & _NOT_PLAIN:
            raise ValueError(f"flags {flags:#x}")
        begin = at + to_name
        length = flags & _LONG_NAME
        end = begin + length if length < _LONG_NAME else data.index(b"\0", begin)
        name = data[begin:end]
        if name.rpartition(b"/")[2] == _ATTRIBUTES:
            attributes.add((name, data[at + _STAMP.size : begin - 2]))
        if stamp[6] == _GITLINK:
            submodules.add(name)
        else:
            files[name] = stamp
            size += stamp[9]
        parents.add(name.rpartition(b"/")[0])
        at += (end - at + 8) & ~7
    if at > len(data) - id_bytes:
        raise ValueError("cut short")
    folders = _with_parents(parents | submodules)
    return Index(files, folders, frozenset(submodules), frozenset(attributes), size)


def _with_parents(folders: set[bytes]) -> frozenset[bytes]:
    found: set[bytes] = set()
    for folder in folders:
        while folder and folder not in found:
            found.add(folder)
            folder = folder.rpartition(b"/")[0]
    return frozenset(found)
