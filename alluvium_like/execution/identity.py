"""Who a process is: pid, start and boot together, so that a pid used again is never mistaken.

The start is counted in ticks since the boot, so a jump of the clock does not change it. A signal
goes through a descriptor of the process where there is one; the start is compared after it was
opened, hence the signal can only reach the process that was meant.
"""

import os
import signal
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from alluvium_like.execution.table import Row, read_row


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """One process, for ever; `started` is the text that the system's table gives for its start."""

    pid: int
    started: str
    boot_id: str


def identity_of(pid: int) -> ProcessIdentity | None:
    """Return who `pid` is now, a dead one that nobody waited for included; None when nobody is."""
    row = read_row(pid)
    return None if row is None else identity_of_row(row)


def identity_of_row(row: Row) -> ProcessIdentity:
    """Return who the process of a row is."""
    return ProcessIdentity(row.pid, row.started, boot_id())


def is_alive(identity: ProcessIdentity) -> bool:
    """Tell whether exactly this process still runs; one that ended and was not reaped does not."""
    row = read_row(identity.pid)
    return row is not None and not row.dead and identity_of_row(row) == identity


def send_signal(identity: ProcessIdentity, number: signal.Signals) -> bool:
    """Signal exactly this process; return false when it is gone or belongs to another user."""
    try:
        pidfd = open_pidfd(identity.pid)
        try:
            if not is_alive(identity):
                return False
            if sys.platform == "linux" and pidfd is not None:
                signal.pidfd_send_signal(pidfd, number)
            else:
                os.kill(identity.pid, number)
        finally:
            if pidfd is not None:
                os.close(pidfd)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def open_pidfd(pid: int) -> int | None:
    """Return a descriptor that becomes readable when `pid` ends, None where there is none to get.

    Raises ProcessLookupError. None also when descriptors ran out: callers have a slower way.
    """
    if sys.platform == "linux" and hasattr(os, "pidfd_open"):
        try:
            return os.pidfd_open(pid)
        except ProcessLookupError:
            raise
        except OSError:
            return None
    return None


@cache
def boot_id() -> str:
    """Return what tells this boot from every other."""
    if sys.platform != "linux":
        import psutil

        return str(round(psutil.boot_time()))
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
