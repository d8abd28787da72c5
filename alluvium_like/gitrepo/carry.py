"""A small piece of work brought from a workshop into the daemon's repository by one git process.

A fetch starts six. What an agent commits mostly is a few loose objects: they are read as data, made
into a pack, and git's own `unpack-objects --strict` checks them (ids, format, links) as a fetch
does. What does not come with the pack must be there already and whole: blobs, and trees that the
known commits have in the same folders. Anything else is left to a fetch.
"""

import hashlib
import os
import stat
import struct
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from anyio import to_thread

from alluvium_like.errors import GitFailed
from alluvium_like.gitrepo.objects import known_kinds, parse_commit, read_objects
from alluvium_like.gitrepo.runner import Git
from alluvium_like.gitrepo.workshop import Workshop, is_object_id, is_real_folder

_KINDS = {"commit": 1, "tree": 2, "blob": 3}
_TREE_MODE = b"40000"
_GITLINK_MODE = b"160000"
_MOST_OBJECTS = 300
_MOST_BYTES = 8_000_000
_HEADER_BYTES = 32
_FAN_OUT = 2
_SHA1_LENGTH = 40


class _TooOdd(Exception):
    """The work is not a few plain loose objects."""


class _Load:
    """The loose objects that lead from a commit to what is known, and what else they need.

    `folders` are those whose trees are among the objects; `rest` is what is not, by kind.
    """

    def __init__(self, objects: Path) -> None:
        self._loose = _LooseObjects(objects)
        self.objects: dict[str, tuple[str, bytes]] = {}
        self.folders = {b""}
        self.rest: dict[str, set[str]] = {"blob": set(), "tree": set()}

    def add_commits(self, tip: str, known: Collection[str]) -> None:
        """Add a commit and all before it up to the known ones. Raises _TooOdd."""
        commits = [tip]
        while commits:
            commit = commits.pop()
            if commit in self.objects:
                continue
            header = parse_commit(self._add(commit, "commit"))
            if not all(map(is_object_id, (header.tree, *header.parents))):
                raise _TooOdd
            commits += [parent for parent in header.parents if parent not in known]
            self._add_trees(header.tree)

    def _add_trees(self, root: str) -> None:
        trees = [(root, b"")]
        while trees:
            tree, folder = trees.pop()
            if tree not in self._loose:
                self.rest["tree"].add(tree)
                continue
            self.folders.add(folder)
            for mode, name, entry in _entries(self._add(tree, "tree"), len(tree) // 2):
                if mode == _TREE_MODE:
                    trees.append((entry, folder + name + b"/"))
                elif mode == _GITLINK_MODE:
                    continue
                elif entry in self._loose:
                    self._add(entry, "blob")
                else:
                    self.rest["blob"].add(entry)

    def _add(self, name: str, kind: str) -> bytes:
        if name not in self.objects:
            self.objects[name] = self._loose.read(name)
        found, data = self.objects[name]
        if found != kind:
            raise _TooOdd
        return data


class _LooseObjects:
    """A folder of loose objects that others may have written; no link in it is followed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._left = _MOST_BYTES
        self._names: set[str] = set()
        for fan in folder.iterdir():
            if len(fan.name) == _FAN_OUT and is_real_folder(fan):
                self._names.update(fan.name + entry.name for entry in fan.iterdir())
            if len(self._names) > _MOST_OBJECTS:
                raise _TooOdd

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def read(self, name: str) -> tuple[str, bytes]:
        """Return kind and content. Raises _TooOdd."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with ExitStack() as opened:
            fan = os.open(self._folder / name[:_FAN_OUT], flags | os.O_DIRECTORY)
            opened.callback(os.close, fan)
            fd = os.open(name[_FAN_OUT:], flags, dir_fd=fan)
            opened.callback(os.close, fd)
            size = os.fstat(fd).st_size
            if not stat.S_ISREG(os.fstat(fd).st_mode) or size > self._left:
                raise _TooOdd
            packed = os.read(fd, size)
        unpacked = zlib.decompressobj().decompress(packed, self._left + _HEADER_BYTES)
        header, _, data = unpacked.partition(b"\0")
        if _digest(unpacked, len(name)).hex() != name:  # cut off here, or not what it is called
            raise _TooOdd
        kind = header.decode("ascii").partition(" ")[0]
        self._left -= len(data)
        return kind, data


async def carry(git: Git, store: Path, workshop: Workshop, tip: str, known: Sequence[str]) -> bool:
    """Bring `tip` and all that it needs beyond the `known` commits; false: it has to be fetched.

    Raises GitFailed where git refuses it.
    """

    def collect() -> _Load:
        load = _Load(workshop.git_dir / "objects")
        load.add_commits(tip, known)
        return load

    try:
        load = await to_thread.run_sync(collect)
        if not await _rest_is_there(git, store, load, known):
            return False
        pack = await to_thread.run_sync(_pack, load.objects, len(tip))
    except (_TooOdd, OSError, ValueError, zlib.error, GitFailed):
        return False
    # What it refuses it has written nevertheless: a fetch would find it there, and ask no more.
    await git.run("unpack-objects", "--strict", "-q", git_dir=store, stdin=pack)
    return True


async def _rest_is_there(git: Git, store: Path, load: _Load, known: Sequence[str]) -> bool:
    """Tell whether what was not loose is in the daemon's repository, with all that it needs."""
    paths = [os.fsdecode(folder) for folder in load.folders]
    if any("\n" in path for path in paths):
        return False
    names = [f"{commit}:{path}" for commit in known for path in paths]
    there: set[str] = set()
    for found in await read_objects(git, store, names):
        if found is not None and found.kind == "tree":
            there.add(found.id)
            there.update(entry for _, _, entry in _entries(found.data, len(found.id) // 2))
    if not load.rest["tree"] <= there:
        return False
    blobs = load.rest["blob"] - there
    kinds = await known_kinds(git, store, sorted(blobs))
    return all(kinds.get(blob) == "blob" for blob in blobs)


def _entries(tree: bytes, id_size: int) -> Iterator[tuple[bytes, bytes, str]]:
    """Yield mode, name and object id of a tree's entries. Raises ValueError."""
    position = 0
    while position < len(tree):
        end = tree.index(b"\0", position)
        mode, _, name = tree[position:end].partition(b" ")
        position = end + 1 + id_size
        yield mode, name, tree[end + 1 : position].hex()


def _pack(objects: Mapping[str, tuple[str, bytes]], id_length: int) -> bytes:
    """Return a pack of whole objects."""
    parts = [b"PACK", struct.pack(">II", 2, len(objects))]
    for kind, data in objects.values():
        parts += [_pack_header(_KINDS[kind], len(data)), zlib.compress(data, 1)]
    pack = b"".join(parts)
    return pack + _digest(pack, id_length)


def _digest(data: bytes, id_length: int) -> bytes:
    """Return the hash that a repository with ids of this length uses."""
    if id_length == _SHA1_LENGTH:
        return hashlib.sha1(data, usedforsecurity=False).digest()
    return hashlib.sha256(data).digest()


def _pack_header(kind: int, size: int) -> bytes:
    """Return kind and size as git's packs say them: 4 bits of the size, then 7 a byte."""
    header = bytearray()
    byte, size = kind << 4 | size & 0x0F, size >> 4
    while size:
        header.append(byte | 0x80)
        byte, size = size & 0x7F, size >> 7
    header.append(byte)
    return bytes(header)
