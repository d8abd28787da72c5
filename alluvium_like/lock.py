"""One daemon a workspace: an exclusive flock on its folder, and on a file that is never unlinked.

The kernel drops both with their holder, however that ends, so nothing stale can be left; the pid
file only informs people and nobody is ever signalled because of it alone. The folder stays locked
when the file is taken away; the file serves where a file system locks no folders.
"""

import fcntl
import os
import stat
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from alluvium_like.errors import DaemonRunning, WorkspaceError
from alluvium_like.workspace import Workspace

_MOMENT_SECONDS = 5.0


@contextmanager
def workspace_lock(workspace: Workspace) -> Iterator[None]:
    """Hold the workspace. Raises DaemonRunning when somebody else does, else WorkspaceError.

    Where no daemon is seen it may be held for a moment all the same, and that is waited for: by a
    child of a killed daemon on the way to its own program, or by somebody who only looks.
    """
    with ExitStack() as held:
        if not _takes(workspace, held):
            if not _daemon_is_seen(workspace):
                wait_until_free(workspace, _MOMENT_SECONDS)
            if not _takes(workspace, held):
                raise daemon_running(workspace)
        yield


def _takes(workspace: Workspace, held: ExitStack) -> bool:
    """Lock folder and file, in this order: while somebody holds the folder no file is made."""
    with ExitStack() as opened:
        for path in (workspace.root, workspace.lock_file):
            try:
                fd = _open(path, os.O_CREAT)
            except OSError as error:
                raise WorkspaceError(
                    f"{path}: {error.strerror}; the workspace must be a folder that you may "
                    "write to"
                ) from error
            opened.callback(os.close, fd)
            if not _flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB):
                return False
        held.push(opened.pop_all())
    return True


def _open(path: Path, more: int = 0) -> int:
    if path.is_dir():
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    return os.open(path, os.O_RDWR | os.O_CLOEXEC | more, 0o600)


def _flock(fd: int, how: int) -> bool:
    """Return false when somebody else holds it; a folder is free where folders are not locked."""
    try:
        fcntl.flock(fd, how)
    except BlockingIOError:
        return False
    except OSError:
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            raise
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
    for path in (workspace.root, workspace.lock_file):
        try:
            fd = _open(path)
        except OSError:
            continue
        try:
            if not _flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB):
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


def shown_pid(workspace: Workspace) -> int | None:
    """Return the daemon's pid for people: its own word, else the kernel's."""
    return read_pid(workspace) or lock_holder(workspace)


def running_pid(workspace: Workspace) -> int | None:
    """Return the pid of the daemon, None while there is none."""
    return shown_pid(workspace) if is_locked(workspace) else None


def daemon_running(workspace: Workspace) -> DaemonRunning:
    """Return the refusal to start another one."""
    pid = shown_pid(workspace)
    text = f" (pid {pid})" if pid else ""
    return DaemonRunning(
        f"a daemon already runs in {workspace.root}{text}; 'alluvium-like stop' ends it"
    )


def lock_holder(workspace: Workspace) -> int | None:
    """Return the pid that the kernel says holds the lock; Linux only, else None."""
    try:
        table = Path("/proc/locks").read_text()
    except OSError:
        return None
    for path in (workspace.root, workspace.lock_file):
        try:
            facts = path.stat()
        except OSError:
            continue
        place = f"{os.major(facts.st_dev):02x}:{os.minor(facts.st_dev):02x}:{facts.st_ino}"
        for line in table.splitlines():
            fields = line.split()
            if "FLOCK" in fields and "WRITE" in fields and "->" not in fields and place in fields:
                return int(fields[fields.index("WRITE") + 1]) or None
    return None


def wait_until_free(workspace: Workspace, seconds: float) -> bool:
    """Wait until nobody holds the workspace; returns false when `seconds` were not enough."""
    waiter = threading.Thread(target=_take_and_drop, args=(workspace,), daemon=True)
    waiter.start()
    waiter.join(seconds)
    return not waiter.is_alive()


def _take_and_drop(workspace: Workspace) -> None:
    for path in (workspace.root, workspace.lock_file):
        try:
            fd = _open(path)
        except OSError:
            continue
        try:
            _flock(fd, fcntl.LOCK_SH)
        finally:
            os.close(fd)
