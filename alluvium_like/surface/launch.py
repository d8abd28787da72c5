"""Starting the daemon in the background, and stopping it: waiting for facts, never for time.

`start` is told READY=1 over the notify protocol, as systemd would be; a daemon that dies first
closes a pipe. `stop` returns when the daemon hung up and its lock is free; one that says nothing
is ended by `--force` alone.
"""

import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from alluvium_like.errors import AlluviumError, DaemonSilent, DaemonUnreachable
from alluvium_like.execution.identity import identity_of, send_signal
from alluvium_like.lock import (
    daemon_running,
    is_locked,
    lock_holder,
    read_pid,
    wait_until_free,
)
from alluvium_like.surface.client import call
from alluvium_like.surface.scope import scoped
from alluvium_like.workspace import Workspace

_READY_SECONDS = 120.0
_STOP_SECONDS = 120.0
_ANSWER_SECONDS = 5.0


def start_in_background(workspace: Workspace) -> int:
    """Start `serve`; return its pid when it is ready. Raises AlluviumError with its last words."""
    if is_locked(workspace):
        raise daemon_running(workspace)
    workspace.make_folders()
    words = workspace.logs / "daemon.err"
    daemon = [sys.executable, "-P", "-m", "alluvium_like"]
    with tempfile.TemporaryDirectory(prefix="alluvium-") as folder:
        address = str(Path(folder) / "ready")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
            ready.bind(address)
            alive, held = os.pipe()
            with words.open("wb") as err:
                child = subprocess.Popen(
                    [*scoped(), *daemon, "-C", workspace.root, "serve"],
                    stdin=subprocess.DEVNULL,
                    stdout=err,
                    stderr=err,
                    start_new_session=True,
                    pass_fds=(held,),
                    env={**os.environ, "NOTIFY_SOCKET": address},
                    cwd=workspace.root,
                )
            os.close(held)
            try:
                is_ready = _is_ready(ready, alive)
            except TimeoutError:
                child.returncode = 0
                raise DaemonUnreachable(
                    f"not ready after {_READY_SECONDS:g} s; see {workspace.log_file}"
                ) from None
            finally:
                os.close(alive)
    if is_ready:
        child.returncode = 0  # it lives on; nobody waits for it here
        return child.pid
    child.wait()  # its end of the pipe closes a moment before it is gone
    text = words.read_text(errors="replace").strip().removeprefix("alluvium-like: ")
    raise AlluviumError(text or f"the daemon ended at once; see {workspace.log_file}")


def _is_ready(ready: socket.socket, alive: int) -> bool:
    """Return true when the daemon says so, false when it is dying. Raises TimeoutError."""
    while True:
        found, _, _ = select.select([ready.fileno(), alive], [], [], _READY_SECONDS)
        if not found:
            raise TimeoutError
        if ready.fileno() in found and b"READY=1" in ready.recv(4096):
            return True
        if alive in found:
            return False


def stop_daemon(workspace: Workspace, *, force: bool, timeout_seconds: float | None) -> str:
    """Stop the daemon and return a line for people; when this returns the workspace is free.

    One without a socket is asked by TERM. Raises DaemonUnreachable when it goes on running.
    """
    if not is_locked(workspace):
        return "no daemon runs"
    seconds = _STOP_SECONDS if timeout_seconds is None else timeout_seconds
    try:
        call(workspace, "ping", timeout_seconds=min(seconds, _ANSWER_SECONDS))
        call(workspace, "stop", {"force": force}, until_closed=True, timeout_seconds=seconds)
        if wait_until_free(workspace, seconds):
            return "stopped"
    except DaemonSilent:
        if not force:
            raise
        if _signal_and_wait(workspace, signal.SIGTERM, min(seconds, _ANSWER_SECONDS)):
            return "stopped"
    except DaemonUnreachable:
        if wait_until_free(workspace, min(seconds, _ANSWER_SECONDS)):  # it was about to end
            return "stopped"
        if not force and lock_holder(workspace) != read_pid(workspace):
            raise  # who holds the workspace may be no daemon
        if _signal_and_wait(workspace, signal.SIGTERM, seconds):
            return "stopped"
    if not force:
        raise DaemonUnreachable(f"the daemon did not stop within {seconds:g} s; use --force")
    pid = lock_holder(workspace)
    if _signal_and_wait(workspace, signal.SIGKILL, _STOP_SECONDS):
        return f"killed (pid {pid}); its agents are ended at the next start"
    raise DaemonUnreachable(f"process {pid} was killed but still holds the workspace")


def _signal_and_wait(workspace: Workspace, number: signal.Signals, seconds: float) -> bool:
    """Signal the process that holds the lock: the kernel names it, no file is believed."""
    pid = lock_holder(workspace)
    identity = identity_of(pid) if pid else None
    if identity is None:
        raise DaemonUnreachable(
            "the daemon cannot be reached and its process cannot be told; end it by hand"
        )
    send_signal(identity, number)
    return wait_until_free(workspace, seconds)
