"""The part of doctor that looks at the machine: programs, disk and file system.

What is tried is tried for real (a rename, an fsync) and leaves nothing behind.
"""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from alluvium_like.durable import fsync_dir, rename_noreplace
from alluvium_like.errors import RepositoryError
from alluvium_like.failpoint import step
from alluvium_like.gitrepo.owner import git_version
from alluvium_like.inbox.mounts import is_network, type_of
from alluvium_like.inbox.observer import try_events
from alluvium_like.workspace import Workspace

LOW_DISK_BYTES: Final = 1 << 30
NO_DISK_BYTES: Final = 100_000_000
# The kernel's own smallest defaults: below them somebody has turned them down.
_FEW_WATCHES: Final = 8192
_FEW_INSTANCES: Final = 128


class Status(StrEnum):
    """How a check came out; the daemon can work with a warning."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at; `fix` says how to mend it and is empty when it is well."""

    name: str
    status: Status
    message: str
    fix: str = ""


def python() -> Iterator[Check]:
    """Look at the interpreter, which runs the built-in agent too."""
    version = ".".join(map(str, sys.version_info[:3]))
    if os.access(sys.executable, os.X_OK):
        yield Check("python", Status.OK, f"{version} ({sys.executable})")
    else:
        fix = "install alluvium-like anew"
        yield Check("python", Status.FAIL, f"{sys.executable or 'python'} cannot be run", fix)


def git() -> Iterator[Check]:
    """Look for a git that is new enough."""
    try:
        yield Check("git", Status.OK, git_version())
    except RepositoryError as error:
        yield Check(
            "git", Status.FAIL, str(error), "install a newer git and see that it is on PATH"
        )


def rename(workspace: Workspace) -> Iterator[Check]:
    """Rename a file from inbox to tasks as a claim does it."""
    name = f".doctor-{os.getpid()}.tmp"  # hidden, and an unfinished download: intake leaves it
    source, target = workspace.inbox / name, workspace.tasks / name
    fix = "inbox/, tasks/ and quarantine/ must lie on one file system that can rename between them"
    devices = {
        folder.stat().st_dev for folder in (workspace.inbox, workspace.tasks, workspace.quarantine)
    }
    try:
        source.touch()
        with step("doctor.rename"):
            rename_noreplace(source, target)
    except OSError as error:
        yield Check("rename", Status.FAIL, f"inbox to tasks: {error.strerror}", fix)
    else:
        if len(devices) == 1:
            yield Check("rename", Status.OK, "works from inbox to tasks")
        else:
            yield Check("rename", Status.FAIL, "the folders are on several file systems", fix)
    finally:
        for left in (source, target):
            with suppress(OSError):
                left.unlink(missing_ok=True)


def sync(workspace: Workspace) -> Iterator[Check]:
    """Sync a file and a folder as every durable step does it."""
    probe = workspace.state / f".doctor-{os.getpid()}.tmp"
    try:
        with probe.open("wb") as stream:
            stream.write(b"x")
            stream.flush()
            with step("doctor.sync_file"):
                os.fsync(stream.fileno())
        with step("doctor.sync_folder"):
            fsync_dir(workspace.state)
        yield Check("fsync", Status.OK, "works for files and folders")
    except OSError as error:
        fix = "put the workspace on a disk that is well; what cannot be synced cannot be promised"
        yield Check("fsync", Status.FAIL, f"{workspace.state}: {error.strerror}", fix)
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)


def file_system(workspace: Workspace) -> Iterator[Check]:
    """Tell a network file system from a local one."""
    kind = type_of(workspace.inbox)
    if is_network(kind):
        fix = "put the workspace on a local disk: drops are seen late here, and locks may not hold"
        yield Check("file system", Status.WARN, f"{kind} is a network file system", fix)
    else:
        yield Check("file system", Status.OK, kind or "type unknown")


def disk(workspace: Workspace) -> Iterator[Check]:
    """Look at the room on the disk of the workspace."""
    yield judge_disk(shutil.disk_usage(workspace.root).free)


def judge_disk(free_bytes: int) -> Check:
    """Judge how much room is left on the disk of the workspace."""
    message = f"{free_bytes / 1e9:.1f} GB free"
    fix = "make room on the disk of the workspace"
    if free_bytes < NO_DISK_BYTES:
        return Check("disk", Status.FAIL, message, fix)
    if free_bytes < LOW_DISK_BYTES:
        return Check("disk", Status.WARN, message, fix)
    return Check("disk", Status.OK, message)


def inotify(workspace: Workspace) -> Iterator[Check]:
    """Watch the inbox, and look at the kernel's limits where it has any, as Linux does."""
    try:
        try_events(workspace.inbox)
    except OSError as error:
        fix = "until then what is dropped is noticed within seconds, not at once"
        yield Check("inotify", Status.WARN, f"the inbox cannot be watched: {error.strerror}", fix)
        return
    limits = Path("/proc/sys/fs/inotify")
    if limits.is_dir():
        watches, instances = (
            int((limits / f"max_user_{what}").read_text()) for what in ("watches", "instances")
        )
        yield judge_inotify(watches, instances)


def judge_inotify(watches: int, instances: int) -> Check:
    """Judge the limits of one user: how many folders, and how many programs that watch."""
    message = f"{watches} watches, {instances} instances for each user"
    if watches >= _FEW_WATCHES and instances >= _FEW_INSTANCES:
        return Check("inotify", Status.OK, message)
    fix = (
        f"sysctl fs.inotify.max_user_watches={_FEW_WATCHES} "
        f"fs.inotify.max_user_instances={_FEW_INSTANCES}; until then drops may be seen late"
    )
    return Check("inotify", Status.WARN, message, fix)
