"""A killed daemon's lock may live on in a child that was about to become another program."""

import fcntl
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from alluvium_like.errors import DaemonRunning
from alluvium_like.lock import workspace_lock
from alluvium_like.workspace import Workspace

HOLD = "import sys; sys.stdin.read()"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc/locks tells who waits")


def test_a_lock_whose_daemon_is_gone_is_waited_for(tmp_path: Path) -> None:
    space = Workspace(tmp_path)
    space.make_folders()
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    space.pid_file.write_text(f"{gone.pid}\n")
    taken: list[str] = []

    def take() -> None:
        try:
            with workspace_lock(space):
                taken.append("taken")
        except DaemonRunning as error:
            taken.append(str(error))

    with held(space) as holder:
        taker = threading.Thread(target=take)
        taker.start()
        while taker.is_alive() and not somebody_waits_for(space.lock_file):
            taker.join(0.01)
        holder.communicate()
        taker.join()
    assert taken == ["taken"]


def test_a_daemon_that_is_there_is_not_waited_for(tmp_path: Path) -> None:
    space = Workspace(tmp_path)
    space.make_folders()
    space.pid_file.write_text(f"{os.getpid()}\n")
    with held(space) as holder:
        with pytest.raises(DaemonRunning, match=f"pid {os.getpid()}"), workspace_lock(space):
            pass
        assert not somebody_waits_for(space.lock_file)
        holder.communicate()


def held(space: Workspace) -> "subprocess.Popen[bytes]":
    """Start a process that holds the lock by a descriptor it was given, as a child does."""
    fd = os.open(space.lock_file, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(fd, fcntl.LOCK_EX)
    argv = [sys.executable, "-c", HOLD]
    holder = subprocess.Popen(argv, stdin=subprocess.PIPE, pass_fds=(fd,))
    os.close(fd)
    return holder


def somebody_waits_for(lock: Path) -> bool:
    """Tell whether a process is blocked on the lock, by the kernel's table."""
    inode = f":{lock.stat().st_ino} "
    lines = Path("/proc/locks").read_text().splitlines()
    return any("->" in line and inode in line for line in lines)
