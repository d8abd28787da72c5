"""The children of this process: those that it started and waits for, and those that it inherited.

As a sub-reaper the daemon inherits every process below it whose parent died, so all survivors of a
dead process hang below an inherited child, and "none inherited" proves that nothing survived.
Own children are registered in the same breath as they are started and are never reaped here;
a child in the daemon's own session is not ours either: all that we start has a session of its own.
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Collection, Iterator
from pathlib import Path

import anyio
from anyio import to_thread

from alluvium_like.execution.table import Row, all_rows, read_row
from alluvium_like.trouble import trouble_of

_PR_SET_CHILD_SUBREAPER = 36
_PR_GET_CHILD_SUBREAPER = 37
_REST_SECONDS = 0.25

registry_lock = threading.RLock()
"""Held while a child is started and registered, so that nobody sees the one without the other."""
_known: set[int] = set()


def become_subreaper() -> bool:
    """Inherit orphaned descendants from now on; return false where the system cannot."""
    if sys.platform != "linux":
        return False
    return bool(ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)


def is_subreaper() -> bool:
    """Tell whether this process inherits orphaned descendants."""
    if sys.platform != "linux":
        return False
    answer = ctypes.c_int()
    failed = ctypes.CDLL(None).prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(answer), 0, 0, 0)
    return not failed and bool(answer.value)


def start_child(
    argv: list[str],
    *,
    cwd: Path | None,
    environment: dict[str, str],
    stdin: int,
    stdout: int,
    stderr: int,
    inherit: Collection[int] = (),
) -> subprocess.Popen[bytes]:
    """Start and register a child in a session of its own. Raises what Popen raises.

    `inherit`: further descriptors that it has open, by their numbers here.
    """
    with registry_lock:
        child = subprocess.Popen(
            argv,
            cwd=cwd,
            env=environment,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
            pass_fds=inherit,
        )
        _known.add(child.pid)
    return child


def bury_child(child: subprocess.Popen[bytes]) -> int:
    """Reap a child that has ended, and return its code, negative for a signal."""
    with registry_lock:
        code = child.wait()
        _known.discard(child.pid)
    return code


def adopted_children() -> list[Row]:
    """Return the inherited children that live, and reap those that do not. Well under 1 ms."""
    with registry_lock:
        inherited = [row for row in _children() if is_adopted(row)]
        for row in inherited:
            if row.dead:
                os.waitpid(row.pid, os.WNOHANG)
    return [row for row in inherited if not row.dead]


async def reap_orphans() -> None:
    """Reap inherited children as they end, until cancelled; one such task serves the process."""
    with anyio.open_signal_receiver(signal.SIGCHLD) as ends:
        async for _ in ends:
            while not await to_thread.run_sync(_reap):  # noqa: ASYNC110 - nobody tells of room
                await anyio.sleep(_REST_SECONDS)
            await anyio.sleep(_REST_SECONDS)  # every git that ends sends a signal too


def _reap() -> bool:
    """Reap inherited children; false where the system does not let us look, for want of room."""
    try:
        adopted_children()
    except OSError as error:
        if trouble_of(error):
            return False
        raise
    return True


def own_children() -> set[int]:
    """Return the pids of the children that were started here and are not yet reaped."""
    with registry_lock:
        return set(_known)


def is_adopted(row: Row) -> bool:
    """Tell whether the process of `row` was inherited; the caller holds the registry's lock."""
    return row.parent == os.getpid() and row.pid not in _known and row.session != os.getsid(0)


def _children() -> Iterator[Row]:
    tasks = Path(f"/proc/{os.getpid()}/task")
    if not (tasks / str(os.getpid()) / "children").exists():  # not Linux, or a lean kernel
        yield from all_rows().values()
        return
    for thread in tasks.iterdir():
        try:
            pids = (thread / "children").read_text(encoding="ascii").split()
        except (FileNotFoundError, ProcessLookupError):
            continue  # the thread has ended; its children went to another one
        for pid in pids:
            if int(pid) not in _known and (row := read_row(int(pid))) is not None:
                yield row
