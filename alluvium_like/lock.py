"""One daemon a workspace: an exclusive flock on a file that is never unlinked.

The kernel drops the lock with its holder, however that ends, so nothing stale can be left; the pid
file only informs people and nobody is ever signalled because of it.
"""

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alluvium_like.errors import DaemonRunning
from alluvium_like.workspace import Workspace

_MOMENT_SECONDS = 5.0


@contextmanager
def workspace_lock(workspace: Workspace) -> Iterator[None]:
    """Hold the workspace. Raises DaemonRunning when somebody else does.

    Where no daemon is seen it may be held for a moment all the same, and that is waited for: by a
    child of a killed daemon on the way to its own program, or by somebody who only looks.
    """
    fd = os.open(workspace.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if not _takes(fd):
            if not _daemon_is_seen(workspace):
                wait_until_free(workspace, _MOMENT_SECONDS)
            if not _takes(fd):
                raise DaemonRunning(
                    f"a daemon already runs in {workspace.root}{_pid_text(workspace)}; "
                    "'alluvium-like stop' ends it"
                )
        yield
    finally:
        os.close(fd)


def _takes(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _daemon_is_seen(workspace: Workspace) -> bool:
    pid = read_pid(workspace)
    if pid is None:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def is_locked(workspace: Workspace) -> bool:
    """Tell whether a daemon, or a command that acts in its place, holds the workspace."""
    try:
        fd = os.open(workspace.lock_file, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def read_pid(workspace: Workspace) -> int | None:
    """Return the pid that the running daemon wrote for people."""
    try:
        return int(workspace.pid_file.read_text())
    except (OSError, ValueError):
        return None


def _pid_text(workspace: Workspace) -> str:
    pid = read_pid(workspace)
    return f" (pid {pid})" if pid else ""


def lock_holder(workspace: Workspace) -> int | None:
    """Return the pid that the kernel says holds the lock; Linux only, else None."""
    try:
        facts = workspace.lock_file.stat()
        table = Path("/proc/locks").read_text()
    except OSError:
        return None
    place = f"{os.major(facts.st_dev):02x}:{os.minor(facts.st_dev):02x}:{facts.st_ino}"
    for line in table.splitlines():
        fields = line.split()
        if "FLOCK" in fields and "WRITE" in fields and place in fields:
            return int(fields[fields.index("WRITE") + 1])
    return None


def wait_until_free(workspace: Workspace, seconds: float) -> bool:
    """Wait until nobody holds the workspace; returns false when `seconds` were not enough."""
    fd = os.open(workspace.lock_file, os.O_RDWR | os.O_CLOEXEC)
    waiter = threading.Thread(target=_take_and_drop, args=(fd,), daemon=True)
    waiter.start()
    waiter.join(seconds)
    return not waiter.is_alive()


def _take_and_drop(fd: int) -> None:
    fcntl.flock(fd, fcntl.LOCK_SH)
    os.close(fd)
