"""The archive of a backup: a gzipped tar whose last member lists every other one with its hash.

Names keep their bytes. What is a link is saved as a link and never followed; a file is saved as
large as it was when it was opened, whatever happens to it meanwhile. All functions block.
"""

import gzip
import hashlib
import io
import json
import os
import stat
import tarfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, Final, Self

MAGIC: Final = b"\x1f\x8b"
"""How every archive begins, for it is gzipped."""
MANIFEST: Final = "manifest.json"
CHECKSUMS: Final = "checksums.json"
DEEPEST: Final = 200
"""How many folders may lie in each other; each of them takes a descriptor."""
_LEVEL: Final = 3
_BLOCK_BYTES: Final = 512
_LARGEST_HOLES: Final = 10_000_000_000
"""Holes are saved as zeros, which a file of next to nothing may claim to have without end."""
_MODE: Final = 0o777
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Writer:
    """Writes an archive into an open file; `skipped` tells what was not saved, and why."""

    def __init__(self, stream: BinaryIO) -> None:
        self._zip = gzip.GzipFile(fileobj=stream, mode="wb", compresslevel=_LEVEL, filename="")
        self._tar = tarfile.open(  # noqa: SIM115 - closed by `finish`
            fileobj=self._zip,
            mode="w",
            format=tarfile.PAX_FORMAT,
            encoding="utf-8",
            errors="surrogateescape",
        )
        self._digests: dict[str, str] = {}
        self.skipped: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # where it was not finished, it is thrown away
            self._zip.close()

    def add_bytes(self, name: str, data: bytes) -> None:
        """Add a file with this content."""
        self._add(_member(name, tarfile.REGTYPE, 0o600), io.BytesIO(data), len(data))

    def add_file(self, name: str, path: Path) -> None:
        """Add a file of ours. Raises OSError."""
        with path.open("rb") as stream:
            facts = os.fstat(stream.fileno())
            self._add(_member(name, tarfile.REGTYPE, 0o600), stream, facts.st_size)

    def add_folder(self, name: str) -> None:
        """Add a folder of ours, empty."""
        self._add(_member(name, tarfile.DIRTYPE, 0o755))

    def add_entry(self, folder: int, entry: str, name: str, depth: int = 0) -> bool:
        """Add what `entry` of an open folder is, whole; return false when it is not there.

        What cannot be saved is `skipped`. Raises OSError where the archive cannot be written.
        """
        with ExitStack() as opened:
            try:
                found = _open(folder, entry, opened)
            except FileNotFoundError:
                return False
            except OSError as error:
                self.skipped.append(f"{name}: {error.strerror}")
                return True
            facts = found.facts
            if found.target is not None:
                self._add(_member(name, tarfile.SYMTYPE, facts.st_mode, facts, found.target))
            elif facts.st_size - facts.st_blocks * _BLOCK_BYTES > _LARGEST_HOLES:
                self.skipped.append(f"{name}: almost all of its {facts.st_size:_} bytes are holes")
            elif found.stream is not None:
                member = _member(name, tarfile.REGTYPE, facts.st_mode, facts)
                self._add(member, found.stream, facts.st_size)
            elif found.folder is None:
                self.skipped.append(f"{name}: neither a file, a folder nor a link")
            elif depth == DEEPEST:
                self.skipped.append(f"{name}: more than {DEEPEST} folders in each other")
            else:
                self._add(_member(name, tarfile.DIRTYPE, facts.st_mode, facts))
                for below in found.entries:
                    self.add_entry(found.folder, below, f"{name}/{below}", depth + 1)
        return True

    def finish(self, superseded: list[str]) -> None:
        """Write the list of what is in it and of what is not to be restored, and close."""
        document = {"members": self._digests, "superseded": superseded}
        self.add_bytes(CHECKSUMS, json.dumps(document).encode("ascii"))
        self._tar.close()
        self._zip.close()

    def _add(self, member: tarfile.TarInfo, stream: IO[bytes] | None = None, size: int = 0) -> None:
        member.size = size
        content = Content(stream, size) if stream is not None else None
        self._tar.addfile(member, content)
        self._tar.members.clear()  # type: ignore[attr-defined] # it would remember them all
        digest = digest_of(member.linkname) if content is None else content.digest()
        self._digests[member.name] = digest


@dataclass(frozen=True, slots=True)
class _Found:
    """What lies under a name, opened: a file, a folder, a link, or none of them."""

    facts: os.stat_result
    stream: IO[bytes] | None = None
    folder: int | None = None
    entries: Sequence[str] = ()
    target: str | None = None


def _open(folder: int, entry: str, opened: ExitStack) -> _Found:
    """Open what `entry` of a folder is, following nothing. Raises OSError."""
    facts = os.stat(entry, dir_fd=folder, follow_symlinks=False)
    if stat.S_ISDIR(facts.st_mode):
        descriptor = os.open(entry, _FOLDER, dir_fd=folder)
        opened.callback(os.close, descriptor)
        return _Found(facts, folder=descriptor, entries=names_in(descriptor))
    if stat.S_ISLNK(facts.st_mode):
        return _Found(facts, target=os.readlink(entry, dir_fd=folder))
    if not stat.S_ISREG(facts.st_mode):  # so that not even a device's open has an effect
        return _Found(facts)
    stream = opened.enter_context(os.fdopen(os.open(entry, _FILE, dir_fd=folder), "rb"))
    facts = os.fstat(stream.fileno())
    return _Found(facts, stream=stream if stat.S_ISREG(facts.st_mode) else None)


def names_in(folder: int) -> list[str]:
    """Return the names in an open folder, sorted. Raises OSError."""
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries)


class Content(io.RawIOBase):
    """As many bytes as were announced, zeros where a file lost them, and their hash."""

    def __init__(self, stream: IO[bytes], size: int) -> None:
        super().__init__()
        self._stream = stream
        self._left = size
        self._hash = hashlib.sha256()

    def read(self, size: int = -1, /) -> bytes:
        """Return the next bytes, none at the end."""
        wanted = self._left if size < 0 else min(size, self._left)
        data = self._stream.read(wanted).ljust(wanted, b"\0")
        self._left -= wanted
        self._hash.update(data)
        return data

    def digest(self) -> str:
        """Return the hash of what was read."""
        return self._hash.hexdigest()


def digest_of(text: str) -> str:
    """Return the hash of a link's target; of nothing for a folder."""
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def _member(
    name: str, kind: bytes, mode: int, facts: os.stat_result | None = None, target: str = ""
) -> tarfile.TarInfo:
    """Describe a member: nothing of its owner, no special bits."""
    member = tarfile.TarInfo(name)
    member.type, member.mode, member.linkname = kind, mode & _MODE, target
    member.mtime = max(int(facts.st_mtime), 0) if facts is not None else int(time.time())
    return member
