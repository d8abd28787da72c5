"""The system's table of processes, as far as it is needed to tell whose process is whose.

From /proc on Linux; through psutil elsewhere. Reading it blocks. A row is a fact about the past:
before a signal is sent, the start time is compared again (see `identity`).
"""

import os
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_READ_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Row:
    """One process; `started` never repeats for a pid within a boot, and the dead run nothing."""

    pid: int
    parent: int
    group: int
    session: int
    started: str
    dead: bool


def read_row(pid: int) -> Row | None:
    """Return the row of one process, None when there is none."""
    if sys.platform != "linux":
        return _portable_row(pid)
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError):
        return None
    try:
        text = os.read(fd, _READ_BYTES)
    except ProcessLookupError:
        return None
    finally:
        os.close(fd)
    # The name of the program stands in parentheses and may itself hold spaces and parentheses.
    fields = text.rpartition(b")")[2].split()
    # A main thread that ended alone looks like a zombie while its other threads run on.
    dead = fields[0] in (b"Z", b"X") and int(fields[17]) <= 1
    started = str(int(fields[19]) - _shift())
    return Row(pid, int(fields[1]), int(fields[2]), int(fields[3]), started, dead)


def all_rows() -> dict[int, Row]:
    """Return every process that this user can see, by pid."""
    if sys.platform == "linux":
        with os.scandir("/proc") as entries:
            pids = [int(entry.name) for entry in entries if entry.name.isdecimal()]
    else:
        import psutil

        pids = psutil.pids()
    return {pid: row for pid in pids if (row := read_row(pid)) is not None}


def processor_seconds(pid: int) -> float:
    """Return what a process and its children that have ended have used of the processors."""
    import psutil

    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return 0.0
    children = getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
    return float(times.user + times.system + children)


def with_descendants(rows: dict[int, Row], roots: set[int]) -> set[int]:
    """Return `roots` and all that hangs below them in `rows`."""
    children: dict[int, list[int]] = {}
    for row in rows.values():
        children.setdefault(row.parent, []).append(row.pid)
    found: set[int] = set()
    pending = list(roots)
    while pending:
        pid = pending.pop()
        if pid not in found:
            found.add(pid)
            pending.extend(children.get(pid, ()))
    return found


@cache
def _shift() -> int:
    """Return how many ticks the kernel adds to the starts that it shows us.

    It does in a time namespace; a daemon in another one would not know its processes again.
    """
    try:
        offsets = Path("/proc/self/timens_offsets").read_text(encoding="ascii")
    except OSError:  # an older kernel
        return 0
    for line in offsets.splitlines():
        clock, seconds, nanoseconds = line.split()
        if clock == "boottime":
            since_boot = int(seconds) * 10**9 + int(nanoseconds)
            return since_boot * os.sysconf("SC_CLK_TCK") // 10**9
    return 0


def _portable_row(pid: int) -> Row | None:
    import psutil

    try:
        process = psutil.Process(pid)
        return Row(
            pid,
            process.ppid(),
            os.getpgid(pid),
            os.getsid(pid),
            repr(process.create_time()),
            process.status() == psutil.STATUS_ZOMBIE,
        )
    except (psutil.Error, ProcessLookupError, PermissionError):
        return None
