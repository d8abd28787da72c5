"""Control groups: how much memory and how many processes a whole box may use.

Version 2 where the daemon's own group was delegated to it and holds nobody else, as its service or
a scope has it; the older hierarchies of version 1 where root may write them. Where neither is, the
limits of single processes have to do. A box enters its groups before anything of it runs.
"""

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from time import sleep
from typing import Final

from alluvium_like.clock import monotonic
from alluvium_like.execution.table import read_row
from alluvium_like.sandbox.box import Limits

_PREFIX: Final = "alluvium-"
_DAEMON: Final = f"{_PREFIX}daemon"
_PROC: Final = Path("/proc")
_ENTER: Final = (
    'for group; do shift; [ "$group" != -- ] || break; echo $$ > "$group" || exit 126; done; '
    'exec "$@"'
)
_DYING_SECONDS: Final = 2.0
_LOOK_SECONDS: Final = 0.01
_WANTED: Final = ("memory", "pids")


@dataclass(frozen=True, slots=True)
class _Controller:
    """Where groups with one limit are made, and the files that say it."""

    folder: Path
    memory: str = ""
    processes: str = ""

    @property
    def is_version_2(self) -> bool:
        """Tell whether it is one of version 2, which keeps both limits in one place."""
        return bool(self.memory and self.processes)


@dataclass(frozen=True, slots=True)
class Group:
    """The groups of one box; none where none can be made."""

    folders: tuple[Path, ...] = ()

    @classmethod
    def make(cls, limits: Limits, name: str) -> "Group":
        """Make the groups of a box. Blocks; raises OSError where one cannot be made after all."""
        folders: list[Path] = []
        try:
            for controller in controllers():
                folder = controller.folder / (_PREFIX + re.sub(r"[^A-Za-z0-9.-]", "-", name))
                _remove(folder)
                folder.mkdir(exist_ok=True)
                folders.append(folder)
                _limit(controller, folder, limits)
        except OSError:
            cls(tuple(folders)).remove()
            raise
        return cls(tuple(folders))

    def entered(self, argv: Sequence[str]) -> list[str]:
        """Return the command line that enters the groups and then runs `argv`."""
        if not self.folders:
            return list(argv)
        files = [os.fspath(folder / "cgroup.procs") for folder in self.folders]
        return ["/bin/sh", "-c", _ENTER, "sh", *files, "--", *argv]

    def remove(self) -> None:
        """Remove the groups, in which nothing is left but what is just dying. Blocks."""
        for folder in self.folders:
            until = monotonic() + _DYING_SECONDS
            while not _remove(folder) and monotonic() < until:
                sleep(_LOOK_SECONDS)  # there is nothing to wait on in groups of version 1


def _limit(controller: _Controller, folder: Path, limits: Limits) -> None:
    if controller.is_version_2 and not _is_ready(controller.folder):
        _divide(controller.folder)  # a reload of systemd took it back, of a unit without Delegate=
    for file, value in (
        (controller.memory, limits.memory_bytes),
        (controller.processes, limits.processes),
    ):
        if file and value:
            (folder / file).write_text(str(value), encoding="ascii")
    if controller.memory and limits.memory_bytes:
        with suppress(OSError):  # only where swapping can be limited at all
            (folder / "memory.swap.max").write_text("0", encoding="ascii")


@cache
def controllers() -> tuple[_Controller, ...]:
    """Return where groups with limits are made, made ready for that once. Blocks."""
    own = _groups_of(os.getpid())
    ready = tuple(each for each in _of_version_2(own) if _make_ready(each.folder))
    return ready or tuple(_of_version_1(own))


def enforced(daemon: int | None) -> dict[str, str]:
    """Return by limit what keeps it: the group of the box, or each process by itself.

    It is that of the process `daemon`, or, with None, of one that would be started from here. It
    only looks, since it is asked by commands that people run in a session of their own.
    """
    found = _seen(daemon)
    groups = "the whole box, by its control group"
    alone = "each process, by its resource limit"
    root = os.geteuid() == 0
    return {
        "memory": groups if any(each.memory for each in found) else alone,
        "processes": (
            groups
            if any(each.processes for each in found)
            else "nothing: a resource limit does not count for root"
            if root
            else "the whole box, by a resource limit"
        ),
    }


def can_be_made() -> bool:
    """Tell whether a program that is started from here could make groups. It only looks."""
    return bool(_seen(None))


def _seen(daemon: int | None) -> list[_Controller]:
    own = _groups_of(daemon or os.getpid())
    ready = (
        each
        for each in _of_version_2(own)
        if _is_ready(each.folder) or (daemon is None and _holds_only_us(each.folder))
    )
    return list(ready) or _of_version_1(own)


def _of_version_2(own: Sequence[str]) -> list[_Controller]:
    root, group = _mount_of("cgroup2"), _group(own, "0::")
    if root is None or group is None:
        return []
    folder = root / group.lstrip("/")
    if folder.name == _DAEMON:  # where a daemon put itself, and us, who were started beside it
        folder = folder.parent
    there = {word for line in _lines(folder / "cgroup.controllers") for word in line.split()}
    if not there.issuperset(_WANTED) or not os.access(folder, os.W_OK):
        return []
    return [_Controller(folder, "memory.max", "pids.max")]


def _is_ready(folder: Path) -> bool:
    words = {word for line in _lines(folder / "cgroup.subtree_control") for word in line.split()}
    return words.issuperset(_WANTED)


def _make_ready(folder: Path) -> bool:
    """Let a group of version 2 have groups with limits below it; tell whether it can."""
    if _is_ready(folder):
        return True
    if not _holds_only_us(folder):  # a terminal's, say: its programs are not ours to move
        return False
    try:
        _step_aside(folder)
        _divide(folder)
    except OSError:
        return False
    return True


def _divide(folder: Path) -> None:
    (folder / "cgroup.subtree_control").write_text("+memory +pids", encoding="ascii")


def _holds_only_us(folder: Path) -> bool:
    return all(_is_of_us(int(line)) for line in _lines(folder / "cgroup.procs"))


def _is_of_us(pid: int) -> bool:
    """Tell whether a process is this one or was started by it; one that is gone is nobody's."""
    while pid != os.getpid():
        row = read_row(pid) if pid else None
        if row is None:
            return bool(pid)
        pid = row.parent
    return True


def _step_aside(folder: Path) -> None:
    """Move what is in our own group into one below it: groups with limits hold no processes."""
    pids = _lines(folder / "cgroup.procs")
    below = folder / _DAEMON
    if pids:
        below.mkdir(exist_ok=True)
    for pid in pids:
        with suppress(ProcessLookupError):
            (below / "cgroup.procs").write_text(pid, encoding="ascii")


def _of_version_1(own: Sequence[str]) -> list[_Controller]:
    found = []
    for kind, memory, processes in (
        ("memory", "memory.limit_in_bytes", ""),
        ("pids", "", "pids.max"),
    ):
        root, group = _mount_of("cgroup", kind), _group(own, f":{kind}:")
        if root is None or group is None or not os.access(root / group.lstrip("/"), os.W_OK):
            continue
        found.append(_Controller(root / group.lstrip("/"), memory, processes))
    return found


def _mount_of(kind: str, option: str = "") -> Path | None:
    for line in _lines(_PROC / "self" / "mountinfo"):
        before, _, after = line.partition(" - ")
        words = after.split()
        if words and words[0] == kind and (not option or option in words[-1].split(",")):
            return Path(before.split()[4])
    return None


def _groups_of(pid: int) -> list[str]:
    return _lines(_PROC / str(pid) / "cgroup")


def _group(groups: Sequence[str], mark: str) -> str | None:
    return next((line.split(":", 2)[2] for line in groups if mark in f":{line}"), None)


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _remove(folder: Path) -> bool:
    """Remove a group; tell whether it is gone."""
    with suppress(OSError):
        folder.rmdir()
    return not folder.exists()


def remove_left(workspace_id: str) -> None:
    """Remove the groups that a killed daemon of this workspace left. Blocks."""
    for controller in controllers():
        for folder in controller.folder.glob(f"{_PREFIX}{workspace_id}-*"):
            _remove(folder)
