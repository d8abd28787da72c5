"""The daemon listens to its owner alone: on a socket that is a file, and on no port."""

import os
import socket
import stat
from pathlib import Path

import psutil
import pytest
from bed import Bed

NOBODY = 65534
CONNECTED, REFUSED, ODD = 10, 11, 12


def test_only_the_owner_reaches_the_socket_and_there_is_no_port(bed: Bed) -> None:
    bed.make()
    pid = bed.start()
    path = bed.root / ".alluvium" / "control.sock"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    assert [c for process in family for c in process.net_connections("inet")] == []


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to become somebody else")
def test_somebody_else_is_refused_even_in_an_open_folder(bed: Bed) -> None:
    bed.make()
    bed.start()
    path = bed.root / ".alluvium" / "control.sock"
    for folder in (path.parent, *path.parent.parents):
        if folder.stat().st_uid == os.getuid() and folder.is_relative_to(bed.root.parents[2]):
            folder.chmod(0o755)  # so that only the socket's own mode is in the way
    assert connect_as(os.getuid(), path) == CONNECTED
    assert connect_as(NOBODY, path) == REFUSED


def connect_as(user: int, path: Path) -> int:
    """Return what becomes of a connection that a process of `user` tries."""
    child = os.fork()
    if child == 0:
        code = ODD
        try:
            os.setuid(user)
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))
            code = CONNECTED
        except PermissionError:
            code = REFUSED
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
