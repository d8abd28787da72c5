"""What a program may see, use and reach: a pure description, which a backend makes real.

`bubblewrap.py` is the one backend there is. A box starts from nothing: what no mount names is not
there. Of two mounts the deeper one counts, whatever the order in which they were added.
"""

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Final

from alluvium_like.config.sandbox import Network


class Access(StrEnum):
    """What is at a place of the box."""

    READ = "read"
    WRITE = "write"
    EMPTY = "empty"  # a private folder in memory, thrown away with the box
    HIDDEN = "hidden"  # nothing: an empty folder or file that cannot be written
    LINK = "link"  # a symbolic link, whose text is the source


@dataclass(frozen=True, slots=True)
class Mount:
    """One place in a box, and what of the machine is there."""

    place: Path
    access: Access
    source: Path

    @classmethod
    def of(cls, path: Path, access: Access = Access.READ) -> "Mount":
        """Return the mount of something at its own place."""
        return cls(path, access, path)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a box may use; 0 is no limit. Bytes, seconds, processes."""

    processes: int = 0
    memory_bytes: int = 0
    cpu_seconds: int = 0
    file_bytes: int = 0
    scratch_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Box:
    """One box. `hosts` count with the network `allow`; `environment` is put over the program's."""

    mounts: tuple[Mount, ...] = ()
    network: Network = "none"
    hosts: tuple[str, ...] = ()
    limits: Limits = Limits()
    environment: Mapping[str, str] = field(default_factory=dict)

    def with_mounts(self, mounts: Iterable[Mount]) -> "Box":
        """Return it with further mounts; of two at one place the later one counts."""
        return replace(self, mounts=(*self.mounts, *mounts))

    def with_needed(self, mounts: Iterable[Mount]) -> "Box":
        """Return it with what was found out to be needed, where it does not show that already.

        What somebody said of a place counts for more: what may be written stays so.
        """
        said = {mount.place: mount for mount in self.mounts}
        return self.with_mounts(each for each in mounts if not _is_shown(each, said))

    @property
    def written(self) -> tuple[Path, ...]:
        """What of the machine may be written from inside."""
        return tuple(each.source for each in self.mounts if each.access is Access.WRITE)

    @property
    def ordered(self) -> list[Mount]:
        """The mounts from the outer to the inner ones, without those that change nothing."""
        last = {mount.place: mount for mount in self.mounts}
        kept: dict[Path, Mount] = {}
        for place in sorted(last, key=lambda path: path.parts):
            around = next((kept[above] for above in place.parents if above in kept), None)
            if around is None or not _says_the_same(last[place], around):
                kept[place] = last[place]
        return list(kept.values())


def _is_shown(needed: Mount, said: Mapping[Path, Mount]) -> bool:
    """Tell whether a place is settled: named itself, or shown by what is said of a folder above."""
    place = needed.place
    around = next((said[above] for above in (place, *place.parents) if above in said), None)
    if around is None or around.place == place:
        return around is not None
    may_be_read = around.access in (Access.READ, Access.WRITE)
    return may_be_read and around.source / place.relative_to(around.place) == (
        place if needed.access is Access.LINK else needed.source
    )


def _says_the_same(inner: Mount, outer: Mount) -> bool:
    """Tell whether the outer of two mounts shows the same at the place of the inner one."""
    shown = outer.source / inner.place.relative_to(outer.place)
    if inner.access is Access.LINK:  # a link of the machine, which is there as it is
        return outer.access in (Access.READ, Access.WRITE) and shown == inner.place
    if inner.access is not outer.access or inner.access not in (Access.READ, Access.WRITE):
        return False
    return shown == inner.source


SYSTEM: Final = tuple(
    Path(text)
    for text in (
        *("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/opt"),
        *("/nix/store", "/gnu/store", "/snap", "/sys/devices/system/cpu"),
    )
)
"""Where an operating system keeps programs and what they need; read-only in every box."""


_SEARCHED: Final = {Path("/etc"): 8, Path("/opt"): 2, Path("/usr/local/etc"): 8}
"""Where secrets of the system may lie, and how deep they are looked for."""


def system_mounts() -> list[Mount]:
    """Return what of the machine every box shows. Blocks.

    What in it not everybody may read stays hidden: a daemon that runs as root could read it.
    """
    found = []
    for path in SYSTEM:
        if path.is_symlink():
            found.append(Mount(path, Access.LINK, path.readlink()))
        elif path.exists():
            found.append(Mount.of(path))
    secret = (path for folder, depth in _SEARCHED.items() for path in _secret_in(folder, depth))
    return [*found, *(Mount.of(path, Access.HIDDEN) for path in secret)]


def _secret_in(folder: Path, depth: int) -> Iterator[Path]:
    """Yield what in a folder only its owner or group may read; no link is followed."""
    try:
        with os.scandir(folder) as listing:
            entries = [entry for entry in listing if not entry.is_symlink()]
    except OSError:
        return
    for entry in entries:
        try:
            mode = entry.stat(follow_symlinks=False).st_mode
        except (FileNotFoundError, PermissionError):  # gone again, or not to be looked at
            continue
        if not mode & stat.S_IROTH:
            yield Path(entry.path)
        elif depth > 1 and stat.S_ISDIR(mode):
            yield from _secret_in(Path(entry.path), depth - 1)
