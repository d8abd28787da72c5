"""The runs that are under way, and which processes belong to which of them.

A process belongs to a run by its session or group, by its parents, by its mark, or because it was
seen there before. An inherited process that shows none of these belongs to the only run that can
have started it; while several can have, it is left alone: the last of them to end takes it along.
The main process is not reaped before its run is over: until then its pid names its session.
"""

import os
import subprocess
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from alluvium_like.execution.adopt import (
    bury_child,
    is_adopted,
    is_subreaper,
    registry_lock,
    start_child,
)
from alluvium_like.execution.identity import ProcessIdentity, identity_of, identity_of_row
from alluvium_like.execution.marker import MARKER_VARIABLE, RunMarker, marker_of
from alluvium_like.execution.table import Row, all_rows, with_descendants


@dataclass(eq=False, slots=True)
class Run:
    """One supervised process and all that it started. `ending`: its processes are being ended."""

    child: subprocess.Popen[bytes]
    main: ProcessIdentity
    marker: str
    seen: set[ProcessIdentity]
    ending: bool = False

    def can_have_started(self, row: Row) -> bool:
        """Tell whether this run was there before the process of `row`."""
        return float(self.main.started) <= float(row.started)


_under_way: list[Run] = []


def start_run(
    argv: list[str],
    *,
    marker: RunMarker,
    cwd: Path,
    environment: dict[str, str],
    stdin: int,
    stdout: int,
    stderr: int,
    inherit: Collection[int] = (),
) -> Run:
    """Start and register the main process of a run. Blocks shortly. Raises OSError."""
    marked = {**environment, MARKER_VARIABLE: str(marker)}
    with registry_lock:
        child = start_child(
            argv,
            cwd=cwd,
            environment=marked,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            inherit=inherit,
        )
        main = identity_of(child.pid)
        if main is None:
            raise ProcessLookupError(f"process {child.pid} vanished before anybody waited for it")
        run = Run(child, main, str(marker), seen={main})
        _under_way.append(run)
    return run


def bury_run(run: Run) -> int:
    """Reap the main process, which has ended, and forget the run; return the exit code."""
    with registry_lock:
        _under_way.remove(run)
        return bury_child(run.child)


def processes_of(run: Run) -> list[ProcessIdentity]:
    """Return the living processes of `run`, and remember them. Blocks for some milliseconds."""
    rows = all_rows()
    with registry_lock:
        others = [other for other in _under_way if other is not run]
        adopted = {pid for pid, row in rows.items() if is_adopted(row)}
    mine = with_descendants(rows, {pid for pid, row in rows.items() if _evidently(run, row)})
    below_us = with_descendants(rows, {os.getpid()})
    searched = below_us if is_subreaper() else set(rows)
    not_ours = {os.getpid(), *(other.main.pid for other in others)}
    for pid in searched - mine - not_ours:
        orphan = pid in adopted and _only_possible(run, others, rows[pid])
        if orphan or marker_of(pid) == run.marker:
            mine.add(pid)
    found = [
        identity_of_row(rows[pid])
        for pid in with_descendants(rows, mine) - not_ours
        if not rows[pid].dead
    ]
    run.seen.update(found)
    return found


def _evidently(run: Run, row: Row) -> bool:
    return run.main.pid in (row.session, row.group) or identity_of_row(row) in run.seen


def _only_possible(run: Run, others: list[Run], row: Row) -> bool:
    return run.can_have_started(row) and not any(
        _evidently(other, row) or (other.can_have_started(row) and not other.ending)
        for other in others
    )
