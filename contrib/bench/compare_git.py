"""Measure the daemon against the same work done by plain git, and what it costs to have it around.

    python contrib/bench/compare_git.py [--runs N] [--tasks N] [--idle-seconds S] [--folder PATH]

The table goes to stderr, one JSON document to stdout. Everything is measured in one run, the two
sides of a ratio in turns, each time in a new folder. See README.md for what each figure means.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import median

import tomli_w

from alluvium_like.lifecycle import ENDED, State
from alluvium_like.lock import is_locked
from alluvium_like.store.reader import StoreReader
from alluvium_like.task import Task
from alluvium_like.workspace import Workspace

FILES = 100
SLOTS = 8
WARM_DROPS = 20
STATUS_CALLS = 9
PATIENCE_SECONDS = 300.0
LOOK_SECONDS = 0.2  # the ends are taken from the store, so looking rarely costs no precision
PROGRAM = [sys.executable, "-P", "-m", "alluvium_like"]

COMMITS = """\
printf '%s\\n' "$ALLUVIUM_TASK_ID" > "file-$ALLUVIUM_TASK_ID.txt"
git add -A
git commit -q -m "Add a file"
"""
TELLS_ITS_START = 'date +%s%N > "$ALLUVIUM_AGENT_DIR/started"'
PLAIN_GIT = """\
set -eu
cd repo
for number in $(seq "$1"); do
    tree="../trees/$number"
    git worktree add -q -b "task/$number" "$tree" main
    printf '%s\\n' "$number" > "$tree/file-$number.txt"
    git -C "$tree" add -A
    git -C "$tree" commit -q -m "Add a file"
    base=$(git rev-parse main)
    merged=$(git merge-tree --write-tree "$base" "task/$number")
    landed=$(git commit-tree "$merged" -p "$base" -m "Add a file")
    git update-ref refs/heads/main "$landed" "$base"
    git worktree remove --force "$tree"
    git branch -q -D "task/$number"
done
"""


class Bench:
    """One measurement's folder: an environment without the caller's configuration, and a repo."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.repo = root / "repo"
        home = root / "home"
        home.mkdir(parents=True)
        (home / ".gitconfig").write_text("[user]\n\tname = Bench\n\temail = bench@localhost\n")
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8"}
        self._make_repository()

    def run(self, *argv: str, cwd: Path | None = None) -> str:
        """Run a command to its end and return its output."""
        return subprocess.run(
            argv, cwd=cwd or self.root, env=self.environment, check=True, capture_output=True,
            text=True,
        ).stdout  # fmt: skip

    def landed(self) -> int:
        """Return how many commits main has beyond its first."""
        return int(self.run("git", "rev-list", "--count", "main", cwd=self.repo)) - 1

    def _make_repository(self) -> None:
        self.run("git", "init", "-q", "-b", "main", str(self.repo))
        for number in range(FILES):
            folder = self.repo / f"part{number % 10}"
            folder.mkdir(exist_ok=True)
            (folder / f"file{number}.txt").write_text(f"line of file {number}\n" * 40)
        self.run("git", "add", "-A", cwd=self.repo)
        self.run("git", "commit", "-q", "-m", "Start", cwd=self.repo)


class Daemon:
    """A daemon over the repository of a bench, with a shell script as its agent."""

    def __init__(self, bench: Bench, script: str) -> None:
        self.bench = bench
        self.space = Workspace.at(bench.root / "workspace")
        self.cli("init", str(self.space.root), "--repo", str(bench.repo), inside=False)
        settings = {
            "repo": {"path": str(bench.repo)},
            "agent": {"command": ["sh", "-ec", script]},
            "integration": {"base_branch": "main"},
            "safety": {"max_workers": SLOTS, "inbox_settle_seconds": 0},
        }
        self.space.config_file.write_text(tomli_w.dumps(settings))
        self.cli("start")

    def cli(self, *args: str, inside: bool = True) -> str:
        """Run one command of the program."""
        where = ["-C", str(self.space.root)] if inside else []
        return self.bench.run(*PROGRAM, *where, *args)

    @property
    def pid(self) -> int:
        """The daemon's process."""
        return int(self.space.pid_file.read_text())

    def drop(self, count: int) -> float:
        """Rename that many new files into the inbox; return when the first one was, UTC seconds."""
        ready = self.space.root / "ready"
        ready.mkdir(exist_ok=True)
        names = [f"{time.monotonic_ns()}-{number}.md" for number in range(count)]
        for name in names:
            (ready / name).write_text("please\n")
        first = time.time()
        for name in names:
            (ready / name).rename(self.space.inbox / name)
        return first

    def wait(self, count: int) -> list[Task]:
        """Wait until that many tasks have ended, all as done, and return them."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            with StoreReader(self.space.database) as store:
                tasks = store.tasks()
            ended = [task for task in tasks if task.state in ENDED]
            odd = [task for task in tasks if task.state in ENDED | {State.NEEDS_HUMAN}]
            for task in odd:
                expect(task.state is State.DONE, f"{task.name} is done ({task.reason})")
            expect(is_locked(self.space), "the daemon lives")
            expect(time.monotonic() < deadline, f"all is done within {PATIENCE_SECONDS:g} s")
            if len(ended) == count:
                return ended
            time.sleep(LOOK_SECONDS)


@contextmanager
def daemon(root: Path, script: str) -> Iterator[Daemon]:
    """Start a daemon in a new folder; stop it and delete the folder afterwards."""
    running = Daemon(Bench(root), script)
    try:
        yield running
    finally:
        running.cli("stop")
        shutil.rmtree(root)


@dataclass(frozen=True, slots=True)
class Cost:
    """What a batch took: seconds on the clock, and seconds of all processors together."""

    seconds: float
    cpu_seconds: float


def batch_by_daemon(root: Path, tasks: int) -> Cost:
    """Measure from the first drop until the last task was merged."""
    with daemon(root, COMMITS) as running:
        before = cpu_seconds(running.pid, children=True)
        first = running.drop(tasks)
        ended = running.wait(tasks)
        used = cpu_seconds(running.pid, children=True) - before
        expect(running.bench.landed() == tasks, "every task landed as one commit")
        return Cost(max(seconds_of(task.updated_at) for task in ended) - first, used)


def batch_by_shell(root: Path, tasks: int) -> Cost:
    """Measure the same work done by plain git, one task after the other."""
    bench = Bench(root)
    before, begun = os.times(), time.monotonic()
    bench.run("sh", "-c", PLAIN_GIT, "plain-git", str(tasks))
    seconds, after = time.monotonic() - begun, os.times()
    expect(bench.landed() == tasks, "every task landed as one commit")
    shutil.rmtree(root)
    used = after.children_user + after.children_system
    return Cost(seconds, used - before.children_user - before.children_system)


def drop_to_agent(running: Daemon) -> list[float]:
    """Return the milliseconds from a rename into the idle inbox to the agent's own first word."""
    found = []
    for number in range(WARM_DROPS):
        dropped = running.drop(1)
        newest = max(running.wait(number + 1), key=lambda task: task.seq)
        started = int((running.space.task(newest.id).agent / "started").read_text()) / 1e9
        found.append((started - dropped) * 1000)
        time.sleep(LOOK_SECONDS)  # what the daemon does after an end is not what is asked for
    return found


def cpu_seconds(pid: int, *, children: bool) -> float:
    """Return the processor time that a process has used, with or without its ended children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11 : 15 if children else 13])) / os.sysconf("SC_CLK_TCK")


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


def timed(work: Callable[[], object]) -> float:
    """Return how many seconds something takes."""
    begun = time.monotonic()
    work()
    return time.monotonic() - begun


def seconds_of(stored: str) -> float:
    """Return a stored time as UTC seconds."""
    return datetime.fromisoformat(stored).timestamp()


def expect(holds: bool, what: str) -> None:
    """Stop the bench when what it measures is not what happened."""
    if not holds:
        raise SystemExit(f"not so: {what}")


def measure(folder: Path, runs: int, tasks: int, idle_seconds: float) -> dict[str, object]:
    """Measure everything, and return it as one document."""
    # Single drops first: after the batches the disk is still writing back what they left.
    with daemon(folder / "warm", TELLS_ITS_START) as running:
        to_agent = drop_to_agent(running)
        status = status_times(running)
        idle_ms, resident_kib = idle_cost(running, idle_seconds)
    by_daemon, by_shell = [], []
    for run in range(runs):
        by_shell.append(batch_by_shell(folder / f"shell-{run}", tasks))
        by_daemon.append(batch_by_daemon(folder / f"daemon-{run}", tasks))
    return {
        "machine": machine(folder),
        "batch": compare(tasks, by_daemon, by_shell),
        "drop_to_agent_ms": {"median": round(median(to_agent), 1), "all": rounded(to_agent)},
        "status_ms": {"median": round(median(status), 1), "all": rounded(status)},
        "idle": {
            "seconds": idle_seconds,
            "cpu_ms": round(idle_ms, 1),
            "resident_mib": round(resident_kib / 1024, 1),
        },
    }


def compare(tasks: int, by_daemon: list[Cost], by_shell: list[Cost]) -> dict[str, object]:
    """Return both sides of the batch and the ratios of their medians."""
    found: dict[str, object] = {"tasks": tasks}
    for unit in ("seconds", "cpu_seconds"):
        ours, plain = ([getattr(cost, unit) for cost in side] for side in (by_daemon, by_shell))
        found[f"daemon_{unit}"], found[f"shell_{unit}"] = rounded(ours), rounded(plain)
        found[f"{unit}_ratio"] = round(median(ours) / median(plain), 3)
    return found


def rounded(values: list[float]) -> list[float]:
    """Return figures without digits that mean nothing."""
    return [round(value, 3) for value in values]


def machine(folder: Path) -> dict[str, object]:
    """Return what figures of different machines differ by."""
    git = subprocess.run(["git", "--version"], capture_output=True, text=True, check=True)
    kind = subprocess.run(
        ["stat", "-f", "-c", "%T", str(folder)], capture_output=True, text=True, check=True
    )
    return {
        "cores": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "git": git.stdout.split()[-1],
        "file_system": kind.stdout.strip(),
    }


def table(found: dict[str, object]) -> str:
    """Return the document as lines for people."""
    rows: list[tuple[str, str]] = []
    for part, values in found.items():
        assert isinstance(values, dict)
        for key, value in values.items():
            shown = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            rows.append((f"{part}.{key}", shown))
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {shown}" for name, shown in rows)


def main() -> None:
    """Read the options, measure in a scratch folder, print."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--runs", type=int, default=5, help="alternating runs of the batch")
    options.add_argument("--tasks", type=int, default=40, help="tasks in a batch")
    options.add_argument("--idle-seconds", type=float, default=60.0, help="how long to be idle")
    options.add_argument("--folder", type=Path, help="where to work; else the temporary folder")
    given = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="alluvium-bench-", dir=given.folder) as folder:
        found = measure(Path(folder), given.runs, given.tasks, given.idle_seconds)
    print(table(found), file=sys.stderr)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
