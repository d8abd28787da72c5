"""Measure the daemon on a large store, and when thousands of files are dropped at once.

    python contrib/bench/scale.py [--tasks N] [--drops N] [--idle-seconds S] [--folder PATH]

The store is filled with done tasks by SQL, through the daemon's own triggers, so their histories
and counts are what a long life would have left. The table goes to stderr, one JSON document to
stdout. See README.md for what each figure means.
"""

import argparse
import json
import os
import sqlite3
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from beds import Bench, expect, machine, rounded, seconds_of, timed
from compare_git import idle_cost, table
from swarms import Daemon

from alluvium_like.store.reader import StoreReader
from alluvium_like.workspace import Workspace

TASKS = 100_000
DROPS = 10_000
IDLE_SECONDS = 60.0
CALLS = 15
STARTS = 5
REST_SECONDS = 5.0  # what the disk writes back after the filling is not the daemon's
LOOK_SECONDS = 0.05
PATIENCE_SECONDS = 300.0

AGENT = 'date +%s%N > "$ALLUVIUM_AGENT_DIR/started"; sleep 1'

# One row a task, as its triggers see it: dropped, run, integrated, landed in tens.
NUMBERS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :tasks)"
NAME = "printf('20260101T%06dZ-item-%d-%06x', i % 240000, i, i)"
WHEN = "strftime('%Y-%m-%dT%H:%M:%fZ', '2026-01-01', printf('+%d seconds', i * 60 + 30))"
FILLING = (
    f"{NUMBERS} INSERT INTO tasks (id, name, state, created_at, updated_at)"
    f" SELECT {NAME}, printf('item-%d.md', i), 'queued', {WHEN}, {WHEN} FROM n",
    "UPDATE tasks SET state = 'running', attempt = 1, start_from = 'same',"
    " start_commit = :commit, base_commit = :commit",
    f"{NUMBERS} INSERT INTO attempts (task_id, number, pid, started, boot_id, started_at, ended_at,"
    " ending, exit_code, verdict, reason, end_commit)"
    f" SELECT {NAME}, 1, 1000 + i % 30000, '12345678', :boot, {WHEN}, {WHEN}, 'exited', 0,"
    " 'to_integrator', '', :commit FROM n",
    f"{NUMBERS} INSERT INTO checkpoints (task_id, attempt, question, created_at, answer,"
    f" answered_at) SELECT {NAME}, 1, 'Keep the old name?', {WHEN}, 'Yes, and warn once.', {WHEN}"
    " FROM n WHERE i % 20 = 0",
    "UPDATE tasks SET state = 'worker_done', head_commit = :commit, summary = 'Did it'",
    "UPDATE tasks SET state = 'integrating'",
    f"{NUMBERS} INSERT INTO landings (repository, old_commit, new_commit, state, created_at,"
    f" updated_at) SELECT 'default', :commit, :commit, 'landed', {WHEN}, {WHEN}"
    " FROM n WHERE i % 10 = 0",
    "INSERT INTO landing_tasks SELECT 1 + (seq - 1) / 10, id, :commit FROM tasks",
    "UPDATE tasks SET state = 'done', merge_commit = :commit,"
    " outcome = CASE WHEN seq % 10 = 0 THEN 'noop' ELSE 'merged' END",
    # The files beside the store have been written as well, so nothing is to be caught up.
    "INSERT INTO meta SELECT 'projected_event', max(seq) FROM events WHERE true"
    " ON CONFLICT (key) DO UPDATE SET value = excluded.value",
)


def fill(space: Workspace, tasks: int, *, folders: bool = False) -> None:
    """Put that many done tasks into the store of a workspace whose daemon is down and has none."""
    values = {"tasks": tasks, "commit": "c" * 40, "boot": "0" * 36}
    db = sqlite3.connect(space.database, isolation_level=None)
    try:
        db.execute("BEGIN IMMEDIATE")
        for statement in FILLING:
            db.execute(statement, values)
        db.execute("COMMIT")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        db.close()
    if folders:
        with StoreReader(space.database) as store:
            for task in store.tasks():
                space.task(task.id).input.mkdir(parents=True)


def call_times(running: Daemon, *command: str) -> dict[str, object]:
    """Return the milliseconds of some calls of one command, after one that warms the caches."""
    running.cli(*command)
    return spread([timed(lambda: running.cli(*command)) * 1000 for _ in range(CALLS)])


def start_times(running: Daemon) -> dict[str, object]:
    """Return the milliseconds until `start` has returned, for the daemon is ready then."""
    found = []
    for _ in range(STARTS):
        running.cli("stop")
        found.append(timed(lambda: running.cli("start")) * 1000)
    return spread(found)


def spread(values: list[float]) -> dict[str, object]:
    """Return what a noisy machine's figures are judged by."""
    return {
        "median": round(median(values), 1),
        "min": round(min(values), 1),
        "all": rounded(values),
    }


def drop_all(running: Daemon, drops: int) -> dict[str, object]:
    """Drop that many files at once and return how they were taken in."""
    before = done_so_far(running)
    pid = running.pid
    first = running.drop(drops)
    dropped = time.time()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while os.listdir(running.space.inbox):  # noqa: PTH208 - names are all that is needed
        expect(time.monotonic() < deadline, f"all is claimed within {PATIENCE_SECONDS:g} s")
        time.sleep(LOOK_SECONDS)
    while done_so_far(running) < before + drops:
        expect(time.monotonic() < deadline, f"all is stored within {PATIENCE_SECONDS:g} s")
        time.sleep(LOOK_SECONDS)
    peak = peak_kib(pid)
    with StoreReader(running.space.database) as store:
        tasks = store.tasks()[-drops:]
    started = [
        path for task in tasks if (path := running.space.task(task.id).agent / "started").exists()
    ]
    expect(bool(started), "an agent has started")
    words = sorted(int(path.read_text() or 0) / 1e9 for path in started)
    claimed = max(seconds_of(task.created_at) for task in tasks)
    return {
        "count": drops,
        "dropping_seconds": round(dropped - first, 3),
        "all_claimed_seconds": round(claimed - first, 3),
        "first_agent_seconds": round(next(word for word in words if word) - first, 3),
        "agents_begun_meanwhile": sum(0 < word <= claimed for word in words),
        "peak_resident_mib": round(peak / 1024, 1),
    }


def done_so_far(running: Daemon) -> int:
    """Return how many tasks the store has, whatever their states."""
    with StoreReader(running.space.database) as store:
        return sum(store.counts().values())


def peak_kib(pid: int) -> int:
    """Return the most memory that a process has had resident."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM:")).split()[1])


def measure(
    folder: Path,
    *,
    tasks: int = TASKS,
    drops: int = DROPS,
    idle_seconds: float = IDLE_SECONDS,
    folders: bool = False,
) -> dict[str, object]:
    """Measure everything in a scratch folder, and return it as one document."""
    running = Daemon(Bench(folder / "scale"), AGENT)
    try:
        running.cli("stop")
        filling = timed(lambda: fill(running.space, tasks, folders=folders))
        time.sleep(REST_SECONDS)
        running.cli("start")
        found: dict[str, object] = {
            "machine": machine(folder),
            "store": {
                "tasks": done_so_far(running),
                "mib": round(running.space.database.stat().st_size / 2**20, 1),
                "filling_seconds": round(filling, 1),
            },
            "start_ms": start_times(running),
            "status_ms": call_times(running, "status"),
            "list_ms": call_times(running, "list"),
            "list_json_ms": call_times(running, "list", "--json"),
        }
        idle_ms, resident_kib = idle_cost(running, idle_seconds)
        found["idle"] = {
            "seconds": idle_seconds,
            "cpu_ms": round(idle_ms, 1),
            "resident_mib": round(resident_kib / 1024, 1),
        }
        found["drops"] = drop_all(running, drops)
        return found
    finally:
        running.cli("stop", "--force")


def main() -> None:
    """Read the options, measure in a scratch folder, print."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--tasks", type=int, default=TASKS, help="done tasks in the store")
    options.add_argument("--drops", type=int, default=DROPS, help="files dropped at once")
    options.add_argument("--idle-seconds", type=float, default=IDLE_SECONDS, help="time to idle")
    options.add_argument("--folders", action="store_true", help="make the tasks' folders as well")
    options.add_argument("--folder", type=Path, help="where to work; else the temporary folder")
    given = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="alluvium-bench-", dir=given.folder) as folder:
        found = measure(
            Path(folder),
            tasks=given.tasks,
            drops=given.drops,
            idle_seconds=given.idle_seconds,
            folders=given.folders,
        )
        print(table(found), file=sys.stderr)
        print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
