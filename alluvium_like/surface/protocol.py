"""The control protocol: one JSON object a line each way over a unix socket in the workspace.

Request: {"method": NAME, "params": {…}}; reply: {"result": …} or {"error": TEXT, "exit_code": N}.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alluvium_like.errors import WorkspaceError

_LONGEST_PATH = 100  # bytes; sun_path holds 108 on Linux, 104 on macOS


@contextmanager
def reachable(socket_path: Path) -> Iterator[str]:
    """Give a form of the path that fits a socket address. Raises WorkspaceError."""
    plain = os.fsencode(socket_path)
    if len(plain) <= _LONGEST_PATH:
        yield str(socket_path)
        return
    if sys.platform != "linux":
        raise WorkspaceError(f"{socket_path}: too long for a unix socket; use a shorter path")
    fd = os.open(socket_path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{socket_path.name}"
    finally:
        os.close(fd)
