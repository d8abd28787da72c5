"""A systemd scope for a daemon that is started by hand: a control group that is its own to divide.

The group of a terminal holds other programs, too, so boxes could not be limited in it as a whole.
"""

import getpass
import os
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Final

from alluvium_like.failpoint import step
from alluvium_like.sandbox.cgroup import can_be_made

_BOOTED: Final = Path("/run/systemd/system")
_LINGERING: Final = Path("/var/lib/systemd/linger")
_SECONDS: Final = 10.0


def scoped() -> list[str]:
    """Return the words in front of a command that run it in a scope; it keeps its process id.

    Empty where no scope is needed or to be had, and where it would end with the login: the manager
    of a user who may not linger goes with the last session. Blocks.
    """
    if can_be_made() or not _BOOTED.is_dir() or not shutil.which("systemd-run"):
        return []
    whose: list[str] = []
    if os.geteuid():
        with suppress(OSError, KeyError):  # a user without a name does not linger
            whose = ["--user"] if (_LINGERING / getpass.getuser()).exists() else []
        if not whose:
            return []
    words = ["systemd-run", *whose, "--scope", "--quiet", "--collect", "-p", "Delegate=yes", "--"]
    try:
        with step("scope.probe"):
            done = subprocess.run(
                [*words, "true"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_SECONDS,
                check=False,
            )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return words if done.returncode == 0 else []
