"""Measure the daemon against the same work done by plain git, and what it costs to have it around.

    python contrib/bench/compare_git.py [--runs N] [--tasks N] [--idle-seconds S] [--folder PATH]

The short bench: two minutes, and no bars. The table goes to stderr, one JSON document to stdout.
See README.md for what each figure means, and run.py for everything else.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from statistics import median

import first_word
from batches import SMALL, against_git
from beds import (
    FILES,
    cpu_seconds,
    machine,
    rounded,
    scratch,
    timed,
)
from swarms import COMMITS, Daemon, daemon

WARM_DROPS = 20
STATUS_CALLS = 9


def idle_cost(running: Daemon, seconds: float) -> tuple[float, int]:
    """Return the milliseconds of processor time that the idle daemon uses, and its KiB resident."""
    pid = running.pid
    before = cpu_seconds(pid, children=False)
    time.sleep(seconds)
    status = Path(f"/proc/{pid}/status").read_text()
    resident = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    return (cpu_seconds(pid, children=False) - before) * 1000, int(resident.split()[1])


def status_times(running: Daemon) -> list[float]:
    """Return the milliseconds of some calls of `status`, after one that warms the caches."""
    running.cli("status")
    return [timed(lambda: running.cli("status")) * 1000 for _ in range(STATUS_CALLS)]


def measure(folder: Path, runs: int, tasks: int, idle_seconds: float) -> dict[str, object]:
    """Measure everything, and return it as one document."""
    # Single drops first: after the batches the disk is still writing back what they left.
    first = first_word.measure(folder, FILES, WARM_DROPS)
    with daemon(folder / "warm", COMMITS) as running:
        running.settle()
        status = status_times(running)
        idle_ms, resident_kib = idle_cost(running, idle_seconds)
    return {
        "machine": machine(folder),
        "batch": against_git(folder, replace(SMALL, tasks=tasks), runs),
        "drop_to_agent": first,
        "status_ms": {"median": round(median(status), 1), "all": rounded(status)},
        "idle": {
            "seconds": idle_seconds,
            "cpu_ms": round(idle_ms, 1),
            "resident_mib": round(resident_kib / 1024, 1),
        },
    }


def table(found: Mapping[str, object]) -> str:
    """Return the document as lines for people."""
    rows = list(_rows(found, ""))
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {shown}" for name, shown in rows)


def _rows(values: Mapping[str, object], prefix: str) -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            rows += _rows(value, f"{prefix}{key}.")
        else:
            shown = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            rows.append((f"{prefix}{key}", shown))
    return rows


def main() -> None:
    """Read the options, measure in a scratch folder, print."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--runs", type=int, default=5, help="alternating runs of the batch")
    options.add_argument("--tasks", type=int, default=40, help="tasks in a batch")
    options.add_argument("--idle-seconds", type=float, default=60.0, help="how long to be idle")
    options.add_argument("--folder", type=Path, help="where to work; else the temporary folder")
    given = options.parse_args()
    with scratch(given.folder) as folder:
        found = measure(folder, given.runs, given.tasks, given.idle_seconds)
    print(table(found), file=sys.stderr)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
