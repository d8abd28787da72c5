"""The mark that every process of ours carries in its environment, inherited by what it starts.

It finds the processes of a run whose identity was never stored. It is a help, not a proof: programs
may clear or overwrite their environment, so membership rests on sessions and parents as well.
"""

import sys
import time
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from alluvium_like.execution.identity import ProcessIdentity, identity_of_row
from alluvium_like.execution.table import all_rows

MARKER_VARIABLE = "ALLUVIUM_RUN"
_EXEC_SECONDS = 0.01
_PREFIX = f"{MARKER_VARIABLE}=".encode("ascii")


class RunKind(StrEnum):
    """What a run is for."""

    ATTEMPT = "attempt"
    TEST = "test"
    SETUP = "setup"
    GIT = "git"


@dataclass(frozen=True, slots=True)
class RunMarker:
    """One run: the workspace's id, the kind, whose run it is, and which one of them."""

    workspace_id: str
    kind: RunKind
    subject: str
    number: int

    def __str__(self) -> str:
        return f"{self.workspace_id}/{self.kind}/{self.subject}/{self.number}"


def marker_of(pid: int) -> str | None:
    """Return the mark in the environment that `pid` was started with, None where none is seen."""
    return _look(pid) or None


def marked_processes(prefix: str) -> list[ProcessIdentity]:
    """Return the living processes whose mark is `prefix` or continues it after a slash. Blocks."""
    rows = [row for row in all_rows().values() if not row.dead]
    marks = {row: _look(row.pid) for row in rows}
    blank = [row for row in rows if marks[row] is None]
    if blank:
        time.sleep(_EXEC_SECONDS)
        marks.update((row, _look(row.pid)) for row in blank)
    return [identity_of_row(row) for row in rows if f"{marks[row] or ''}/".startswith(f"{prefix}/")]


def _look(pid: int) -> str | None:
    """Return the mark, "" for a process without one, None where the environment is blank.

    It is blank for a moment in the middle of every exec, so a second look may find the mark.
    """
    if sys.platform != "linux":
        return _portable_marker(pid)
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return ""
    for entry in environment.split(b"\0"):
        if entry.startswith(_PREFIX):
            return entry[len(_PREFIX) :].decode("utf-8", "replace")
    return "" if environment else None


def _portable_marker(pid: int) -> str:
    import psutil

    try:
        return psutil.Process(pid).environ().get(MARKER_VARIABLE, "")
    except (psutil.Error, OSError):
        return ""
