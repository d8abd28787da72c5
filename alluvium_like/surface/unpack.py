"""Reading an archive back: nothing in it is believed before it was checked.

Names stay inside, parents are real folders, devices and hard links do not pass, a link is made but
never written through, and every content has the hash that the list at the end gives it. The whole
archive is read once before anything is written. All functions block.
"""

import gzip
import json
import os
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from alluvium_like.errors import AlluviumError
from alluvium_like.surface.archive import CHECKSUMS, DEEPEST, MANIFEST, Content, digest_of

FORMAT: Final = 1
_OURS: Final = ("inbox", "quarantine", "tasks")
_FILES: Final = frozenset(
    {"config.toml", "prompt.md", "alluvium.db", "integration.bundle", "shallow", "repo.bundle"}
)
_BLOCK: Final = 1 << 20
_MANIFEST_BYTES: Final = 1 << 20
_CHECKSUMS_BYTES: Final = 1 << 30
_LATEST: Final = 1 << 33
_UNREADABLE: Final = (
    *(tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, ValueError, RecursionError),
)
_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class BadArchive(AlluviumError):
    """A file is no backup, not whole, or not to be trusted."""


@dataclass(frozen=True, slots=True)
class Member:
    """One thing in an archive; `content` where it is a file, `target` where it is a link."""

    parts: tuple[str, ...]
    mode: int
    mtime: int
    content: Content | None
    target: str


@dataclass(frozen=True, slots=True)
class Contents:
    """What an archive says of itself, and which of its members are not to be restored."""

    manifest: dict[str, object]
    superseded: frozenset[tuple[str, ...]]


def read_archive(path: Path, visit: Callable[[Member], None] = lambda _: None) -> Contents:
    """Read an archive from its beginning to its end and let `visit` see every member.

    Raises BadArchive; what was visited before is not known to be whole then.
    """
    try:
        with (
            gzip.open(path, "rb") as unzipped,
            tarfile.open(
                fileobj=unzipped, mode="r|", encoding="utf-8", errors="surrogateescape"
            ) as tar,
        ):
            contents = _read(tar, visit)
            while unzipped.read(_BLOCK):  # the checksum of it all stands at its end
                pass
            return contents
    except _UNREADABLE as error:
        raise BadArchive(f"{path}: is no whole backup of a workspace: {error}") from error


def _read(tar: tarfile.TarFile, visit: Callable[[Member], None]) -> Contents:
    first = tar.next()
    if first is None or first.name != MANIFEST:
        raise ValueError(f"it does not begin with {MANIFEST}")
    found: dict[str, str] = {}
    manifest = _document(tar, first, _MANIFEST_BYTES, found)
    _check_format(manifest)
    folders: set[tuple[str, ...]] = {()}
    while (info := tar.next()) is not None and info.name != CHECKSUMS:
        tar.members.clear()  # type: ignore[attr-defined] # it would remember them all
        member = _member(tar, info, folders)
        if info.name in found:
            raise ValueError(f"{info.name!r} is in it twice")
        visit(member)
        found[info.name] = _digest(member)
    if info is None:
        raise ValueError("its end is missing")
    listed = _document(tar, info, _CHECKSUMS_BYTES, {})
    if tar.next() is not None:
        raise ValueError("something follows its end")
    members, superseded = listed.get("members"), listed.get("superseded")
    if not isinstance(members, dict) or not isinstance(superseded, list):
        raise ValueError("its list of members cannot be read")
    wrong = [name for name in found.keys() | members.keys() if found.get(name) != members.get(name)]
    if wrong:
        raise ValueError(f"{min(wrong)!r} is not as it was saved")
    return Contents(manifest, frozenset(tuple(str(name).split("/")) for name in superseded))


def _check_format(manifest: dict[str, object]) -> None:
    """Refuse what another program wrote, or a newer version of this one. Raises BadArchive."""
    number = manifest.get("format")
    if not isinstance(number, int) or number < 1:
        raise ValueError("its format is unknown")
    if number > FORMAT:
        raise BadArchive(
            f"made by a newer version (format {number} of alluvium-like {manifest.get('program')}, "
            f"this one knows {FORMAT}); upgrade alluvium-like"
        )


def _document(
    tar: tarfile.TarFile, info: tarfile.TarInfo, most: int, found: dict[str, str]
) -> dict[str, object]:
    """Read a member that tells of the others. Raises ValueError."""
    stream = tar.extractfile(info) if info.isreg() and info.size <= most else None
    if stream is None:
        raise ValueError(f"its {info.name} cannot be read")
    content = Content(stream, info.size)
    document = json.loads(content.read())
    found[info.name] = content.digest()
    if not isinstance(document, dict):
        raise ValueError(f"its {info.name} cannot be read")
    return document


def _member(tar: tarfile.TarFile, info: tarfile.TarInfo, folders: set[tuple[str, ...]]) -> Member:
    """Check one member. Raises ValueError."""
    parts = tuple(info.name.split("/"))
    if any(part in ("", ".", "..") for part in parts) or len(parts) > DEEPEST + 3:
        raise ValueError(f"{info.name!r} leads out of it")
    if parts[:-1] not in folders:
        raise ValueError(f"{info.name!r} lies in no folder of it")
    known = parts[0] in _OURS if len(parts) > 1 or info.isdir() else parts[0] in _FILES
    if not known or not (info.isreg() or info.isdir() or info.issym()) or info.issparse():
        raise ValueError(f"{info.name!r} does not belong into it")
    if info.issym() and (not info.linkname or len(parts) < _shallowest_link(parts[0])):
        raise ValueError(f"{info.name!r} is a link")
    if info.isdir():
        folders.add(parts)
    stream = tar.extractfile(info) if info.isreg() else None
    content = None if stream is None else Content(stream, info.size)
    mtime = min(max(int(info.mtime), 0), _LATEST)
    return Member(parts, info.mode & 0o777, mtime, content, info.linkname if info.issym() else "")


def _shallowest_link(top: str) -> int:
    """Return from which depth on links are people's and agents', and not in the daemon's way."""
    return 2 if top == "inbox" else 3


def _digest(member: Member) -> str:
    if member.content is None:
        return digest_of(member.target)
    while member.content.read(_BLOCK):
        pass
    return member.content.digest()


class Extractor:
    """Writes members below a new folder of ours, which nobody else writes."""

    def __init__(self, root: Path, superseded: frozenset[tuple[str, ...]]) -> None:
        self._superseded = superseded
        # The open folders on the way to the last member: name, descriptor, final mode.
        self._way = [("", os.open(root, _FOLDER), 0o700)]

    def __enter__(self) -> "Extractor":
        return self

    def __exit__(self, *_: object) -> None:
        while self._way:
            self._leave()

    def take(self, member: Member) -> None:
        """Write one member; its folder was written before. Raises OSError."""
        if any(member.parts[: n + 1] in self._superseded for n in range(len(member.parts))):
            return
        folder, name = self._enter(member.parts[:-1]), member.parts[-1]
        if member.target:
            os.symlink(member.target, name, dir_fd=folder)
        elif member.content is None:
            os.mkdir(name, 0o700, dir_fd=folder)
            descriptor = os.open(name, _FOLDER, dir_fd=folder)
            self._way.append((name, descriptor, member.mode))
        else:
            with os.fdopen(os.open(name, _NEW_FILE, 0o600, dir_fd=folder), "wb") as stream:
                while data := member.content.read(_BLOCK):
                    stream.write(data)
                stream.flush()
                os.utime(stream.fileno(), (member.mtime, member.mtime))
                os.fchmod(stream.fileno(), member.mode)

    def _enter(self, parts: tuple[str, ...]) -> int:
        names = ("", *parts)
        while tuple(name for name, _, _ in self._way) != names[: len(self._way)]:
            self._leave()
        for name in names[len(self._way) :]:
            descriptor = os.open(name, _FOLDER, dir_fd=self._way[-1][1])
            mode = os.fstat(descriptor).st_mode & 0o777
            self._way.append((name, descriptor, mode))
        return self._way[-1][1]

    def _leave(self) -> None:
        _, descriptor, mode = self._way.pop()
        os.fchmod(descriptor, mode)
        os.close(descriptor)
